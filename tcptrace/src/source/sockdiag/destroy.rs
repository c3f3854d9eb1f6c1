//! SOCK_DESTROY (4.5): has the kernel end one socket, named by its ends and its cookie.

use super::{DiagError, End, Reply, Request, SockDiag, States};
use crate::{event::Ends, sight::Sight};

/// Listeners that share a port (SO_REUSEPORT) are told apart by whom the kernel would give a connection from which port
/// to; so many ports are tried. One listener of ten is missed by all of them once in 10^46 times.
const LISTENER_TRIES: u16 = 1000;

/// What the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroyed {
    /// It has ended the socket.
    Done,
    /// There is none with these ends and this cookie any more.
    Gone,
    /// It did not: an errno. EPERM: CAP_NET_ADMIN is missing in the user namespace that owns the network namespace;
    /// EOPNOTSUPP: built without CONFIG_INET_DIAG_DESTROY, or (before 6.0) a minisocket; EINVAL: before 4.5.
    Refused(i32),
}

impl SockDiag {
    /// Ends the socket. The kernel finds it by its ends and compares the cookie, both in one step; it does not compare the
    /// state. Nothing is ever ended by its ends alone.
    ///
    /// What the kernel does (run on 6.18; `tcp_abort`): a full socket is closed with ECONNABORTED, and RST is sent in
    /// ESTABLISHED, CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2 and a full SYN_RECV, in other states nothing; a listener takes its
    /// accept queue with it; a half-open request and a minisocket are dropped in silence. Before 6.11 an orphan is only
    /// robbed of its send queue, and stays, without a timer, for ever (bac76cf89816): look again.
    ///
    /// # Errors
    /// If nothing could be asked.
    pub fn destroy(&mut self, sight: &Sight) -> Result<Destroyed, DiagError> {
        let (ends, cookie) = (&sight.ends, sight.cookie);
        let mut said = self.destroy_on(ends, 0, cookie)?;
        // The interface is part of the kernel's comparison, as for a look.
        let mut next = 0;
        while said == Destroyed::Gone
            && let Some(interface) = self.interfaces.get(next).copied()
        {
            said = self.destroy_on(ends, interface, cookie)?;
            next += 1;
        }
        if said == Destroyed::Gone && ends.rport == 0 {
            return self.destroy_of_group(ends, cookie);
        }
        Ok(said)
    }

    /// Of several listeners on a port the kernel picks one by the hash of both ends; another cookie is refused.
    fn destroy_of_group(&mut self, ends: &Ends, cookie: u64) -> Result<Destroyed, DiagError> {
        for rport in 1..=LISTENER_TRIES {
            let said = self.destroy_on(&Ends { rport, ..*ends }, 0, cookie)?;
            if said != Destroyed::Gone {
                return Ok(said);
            }
        }
        Ok(Destroyed::Gone)
    }

    fn destroy_on(&mut self, ends: &Ends, interface: u32, cookie: u64) -> Result<Destroyed, DiagError> {
        self.send(|sequence| Request::destroy(ends, interface, cookie, sequence))?;
        self.busy = false; // one datagram, which was there before the send returned
        match self.receive(States::NONE, &mut Vec::new()) {
            Ok(Reply { end: Some(End::Complete), .. }) => Ok(Destroyed::Done),
            Ok(Reply { end: Some(End::Failed(libc::ENOENT | libc::ESTALE)), .. }) => Ok(Destroyed::Gone),
            Ok(Reply { end: Some(End::Failed(errno)), .. }) => Ok(Destroyed::Refused(errno)),
            // Not asked again: it may have been done, and only its answer have been lost.
            Ok(_) => {
                self.busy = true;
                Ok(Destroyed::Refused(libc::EIO))
            }
            Err(errno) => {
                self.busy = true;
                Ok(Destroyed::Refused(errno))
            }
        }
    }
}
