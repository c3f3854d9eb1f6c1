//! A change of a socket's state, as the tracepoint tells it: what the programs that send records and the one that adds up
//! both read of it.

use crate::{
    ends,
    read::{Access, Direct},
    required,
    sock::{self, RecordView},
};
use core::{marker::PhantomData, mem::MaybeUninit};
use tcptrace_common::{event::Tuple, state::TcpState};

/// What the tracepoint was called with.
pub struct Change<'a, A> {
    /// The socket.
    pub sk: *const u8,
    /// The members that every kind of socket has.
    pub common: Direct,
    /// The state that is left.
    pub from: u8,
    /// The state that is entered.
    pub to: u8,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The record of a classic tracepoint.
    pub record: Option<&'a RecordView>,
    access: PhantomData<A>,
}

impl<'a, A: Access> Change<'a, A> {
    /// What is known at once; the rest is read where it matters.
    #[inline(always)]
    pub fn new(sk: *const u8, common: Direct, (from, to): (u8, u8), record: Option<&'a RecordView>) -> Self {
        let netns = sock::netns::<A>(required!(A, common, skc_net, *const u8));
        Self { sk, common, from, to, netns, record, access: PhantomData }
    }

    /// The program has called connect().
    #[inline(always)]
    pub fn connects(&self) -> bool {
        self.from == TcpState::Close.number() && self.to == TcpState::SynSent.number()
    }

    /// A half-open request has become a socket.
    #[inline(always)]
    pub fn is_newborn(&self) -> bool {
        self.from == TcpState::Listen.number() && self.to == TcpState::SynRecv.number()
    }

    /// Both ends for the filter, and whether they are incomplete.
    #[inline(always)]
    pub fn ends(&self) -> (Tuple, bool) {
        let mut tuple = MaybeUninit::uninit();
        // SAFETY: room for one; every field is written.
        let (borrowed, tuple) = unsafe { (self.write_ends(tuple.as_mut_ptr()), tuple.assume_init()) };
        (tuple, borrowed || tuple.lport == 0)
    }

    /// Writes both ends. Up to 6.12 a child still carries the listener's addresses and cookie here; remote port 0 tells,
    /// and so does this.
    ///
    /// # Safety
    /// There is room for a tuple.
    #[inline(always)]
    pub unsafe fn write_ends(&self, tuple: *mut Tuple) -> bool {
        // SAFETY: the caller's.
        unsafe {
            sock::write_tuple::<A>(tuple, self.common, self.sk, true);
            if let Some(record) = self.record {
                sock::take_record(&mut *tuple, record, &ends!(set_state));
            }
            if self.connects() {
                (*tuple).lport = sock::bound_port::<A>(self.sk);
            }
            self.is_newborn() && (*tuple).rport == 0
        }
    }
}
