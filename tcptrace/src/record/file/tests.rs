mod damage;
mod disk;
mod support;
mod whole;
