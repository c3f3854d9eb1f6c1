//! What function probes tell, where the kernel has them: minisockets and half-open requests as the kernel makes and
//! removes them, and who accepts.

use super::{Entry, HOLD_NS, Known, Ledger, Role, What, minisocket::Begun, owner::Source, who};
use crate::event::{Accept, Object, Step, TcpState};
use std::rc::Rc;

impl Ledger {
    pub(super) fn object(&mut self, event: &Object, out: &mut Vec<Entry>) {
        // Without a cookie nothing leads from the object to its flow.
        if event.head.cookie == 0 || !self.capabilities.cookies {
            return;
        }
        if event.state == TcpState::NewSynRecv {
            self.request(event, out)
        } else {
            self.minisocket(event, out)
        }
    }

    fn minisocket(&mut self, event: &Object, out: &mut Vec<Entry>) {
        let head = &event.head;
        let begun =
            Begun { state: event.state, time_ns: head.time_ns, timeout_jiffies: event.timeout_jiffies };
        // It begins right before its socket's change to CLOSE, which says whose it is.
        if event.step == Step::Begins {
            return self.minisockets.begin(head.cookie, begun);
        }
        let known = self.minisockets.of_cookie(&head.ends, head.cookie);
        if event.step == Step::Ends {
            self.minisockets.take_begun(head.cookie);
            if let Some((number, _)) = known {
                self.end_minisocket(number, head.time_ns, Known::Probe, out);
            }
            return;
        }
        let Some((number, state)) = known else { return };
        let ends_ns = self.minisockets.expiry(&begun, self.minisockets.limits(head.netns));
        if state == TcpState::FinWait2 && event.state == TcpState::TimeWait {
            self.become_time_wait(number, head.time_ns, ends_ns, Known::Probe, out);
        } else {
            self.minisockets.restart(number, ends_ns);
        }
    }

    fn request(&mut self, event: &Object, out: &mut Vec<Entry>) {
        let (head, key) = (&event.head, event.head.cookie);
        let known = self.flows.get(&key).map(|flow| flow.state);
        match (event.step, known) {
            (Step::Ends, Some(TcpState::NewSynRecv)) => {
                // Up to 6.12 the child of a complete handshake is recognised by its next event only.
                self.unpromoted.push_back((head.time_ns, key));
            }
            (Step::Begins, None) => {
                self.insert(key, head, TcpState::NewSynRecv, Role::Passive, head.time_ns);
                let Some(flow) = self.flows.get_mut(&key) else { return };
                flow.since_ns = head.time_ns;
                let (old, new) = (TcpState::Listen, TcpState::NewSynRecv);
                let what = What::Transition { old, new, in_state: None, by: None, known: Known::Probe };
                out.push(Entry { time_ns: head.time_ns, who: who(flow), what });
                self.totals.inferred(old, new);
                if !self.capabilities.requests {
                    self.watch_half_open(key, head.time_ns);
                }
            }
            _ => {}
        }
    }

    /// Requests that ended and have not become sockets.
    pub(super) fn settle_requests(&mut self, now_ns: u64, out: &mut Vec<Entry>) {
        while let Some(&(time_ns, key)) = self.unpromoted.front()
            && time_ns.saturating_add(HOLD_NS) <= now_ns
        {
            self.unpromoted.pop_front();
            if self.flows.get(&key).is_some_and(|flow| flow.state == TcpState::NewSynRecv) {
                self.vanish(key, time_ns, Known::Probe, out);
            }
        }
    }

    /// Takes who accepted for the owner: better than a guess, no better than who connected.
    pub(super) fn accept(&mut self, event: &Accept) {
        let process = self.process(&event.task);
        let key = self.key(&event.head);
        if let Some(flow) = self.flows.get_mut(&key)
            && (flow.opened.is_none() || flow.opened_source == Source::Listener)
        {
            (flow.opened, flow.opened_source) = (Some(Rc::clone(&process)), Source::Accept);
        }
    }
}
