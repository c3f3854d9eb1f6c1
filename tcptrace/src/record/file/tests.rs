mod damage;
mod disk;
mod layout;
mod support;
mod whole;
