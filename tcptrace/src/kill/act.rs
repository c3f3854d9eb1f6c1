//! One socket at a time: looked at again, ended, looked for.

use super::{Outcome, Target, age};
use crate::{sight::Sight, source::sockdiag::Destroyed};

/// Whom to ask. Every question is about the one socket with this one's ends and cookie.
pub trait Kernel {
    /// The socket as it is now; `None`: it is gone.
    ///
    /// # Errors
    /// Why there is no answer.
    fn look(&mut self, sight: &Sight) -> Result<Option<Sight>, String>;

    /// Ends it.
    ///
    /// # Errors
    /// Why there is no answer.
    fn destroy(&mut self, sight: &Sight) -> Result<Destroyed, String>;
}

/// Ends sockets, if they still are what they were chosen for.
pub struct Killer<K> {
    kernel: K,
    older_than_ns: Option<u64>,
    /// This kernel does not end orphans (before 6.11): it takes their timer away. One is enough to know.
    leaves_orphans: bool,
}

impl<K: Kernel> Killer<K> {
    /// `older_than_ns`: what their age must prove again.
    pub fn new(kernel: K, older_than_ns: Option<u64>) -> Self {
        Self { kernel, older_than_ns, leaves_orphans: false }
    }

    /// Looks at it again, ends it, and looks whether it is gone.
    ///
    /// Between the first look and the end are some microseconds, in which only the cookie is safe: the kernel compares it,
    /// but not the state.
    pub fn kill(&mut self, target: &Target) -> Outcome {
        self.attempt(target).unwrap_or_else(Outcome::Failed)
    }

    fn attempt(&mut self, target: &Target) -> Result<Outcome, String> {
        let chosen = &target.seen.sight;
        if self.leaves_orphans && chosen.is_orphan() {
            return Ok(Outcome::Spared);
        }
        let Some(now) = self.kernel.look(chosen)? else { return Ok(Outcome::Gone) };
        if (now.state, now.kind) != (chosen.state, chosen.kind) {
            return Ok(Outcome::Changed(now.state, now.kind));
        }
        if let Some(least) = self.older_than_ns {
            let proved = age(&now).0.map(|span| span.ns);
            if proved.is_none_or(|ns| ns < least) {
                return Ok(Outcome::Younger(proved));
            }
        }
        match self.kernel.destroy(&now)? {
            Destroyed::Gone => return Ok(Outcome::Gone),
            Destroyed::Refused(errno) => return Ok(Outcome::Refused(errno)),
            Destroyed::Done => {}
        }
        match self.kernel.look(&now) {
            Ok(None) => Ok(Outcome::Killed),
            Ok(Some(left)) => {
                self.leaves_orphans |= now.is_orphan();
                Ok(Outcome::Stayed(left.state))
            }
            Err(why) => Err(format!("the kernel said it is done, but cannot be asked whether it is: {why}")),
        }
    }
}

#[cfg(test)]
mod tests;
