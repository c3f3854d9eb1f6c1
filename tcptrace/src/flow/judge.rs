//! Resets and closes: what is held back until the evidence is complete.

use super::{
    Closed, Entry, HOLD_NS, Ledger, What,
    cause::{Cause, Evidence, SentReset, Verdict, judge},
    connection::Closing,
    minisocket::Beginning,
    owner::{Owner, Source},
    stranger, who,
};
use crate::event::{Carrier, Direction, LastNumbers, Reset, TcpState, Transition};
use tcptrace_common::event::{ERROR_KNOWN, NUMBERS_KNOWN, STALL_KNOWN};

impl Ledger {
    pub(super) fn reset(&mut self, event: &Reset, out: &mut Vec<Entry>) {
        let head = &event.head;
        let key = self.key(head);
        let own = matches!(event.carrier, Carrier::Full) && head.sock != 0;
        if own {
            self.confirm(key, head, out);
            if !matches!(event.state, Some(TcpState::Close) | None) {
                self.ensure(key, head, event.state.unwrap_or(TcpState::Established));
            }
        }
        let boxed = self.spare.resets.boxed(event.clone());
        // A minisocket's RST is no evidence of why the socket before it ended, though they share the cookie.
        if matches!(event.carrier, Carrier::TimeWait) {
            self.doubt_minisocket(head.netns, &head.ends, head.time_ns);
            return self.say_reset(boxed, Some(key), out);
        }
        if event.direction == Direction::Sent {
            let mut ends = head.ends;
            if let Some(flow) = self.flows.get(&key).filter(|_| own) {
                ends.complete(&flow.ends); // a socket that disconnects has lost its own by now
            }
            self.doubt_peer(head.netns, &ends, head.time_ns);
        }
        // A request's reset is its flow's too, if we know it.
        let Some(flow) = self.flows.get_mut(&key).filter(|_| own || head.cookie != 0) else {
            return self.say_reset(boxed, None, out);
        };
        flow.ends.complete(&head.ends);
        let orphan = event.dead == Some(true);
        let doubtful = event.direction == Direction::Received
            && orphan
            && matches!(event.state, Some(TcpState::FinWait1 | TcpState::FinWait2));
        match event.direction {
            Direction::Received => flow.rare(&mut self.spare).received_ns = Some(head.time_ns),
            Direction::Sent => {
                let reset = SentReset { reason: event.reason.clone() };
                match flow.closing() {
                    Some(closing) => closing.sent_after = Some(reset),
                    None => flow.rare(&mut self.spare).sent = Some((head.time_ns, reset)),
                }
                // What looked like a received RST was data for a closed socket: this is the answer to it.
                flow.rare(&mut self.spare).doubtful_reset = None;
            }
        }
        if doubtful {
            flow.rare(&mut self.spare).doubtful_reset = Some(boxed);
        } else {
            self.say_reset(boxed, Some(key), out);
        }
    }

    fn say_reset(&mut self, event: Box<Reset>, key: Option<u64>, out: &mut Vec<Entry>) {
        self.totals.reset(event.direction, event.reason.as_deref());
        let flow = key.and_then(|key| self.flows.get(&key));
        let who = flow.map_or_else(|| stranger(&event.head), who);
        let time_ns = event.head.time_ns;
        out.push(Entry { time_ns, who, what: What::Reset(event) });
    }

    /// Keeps a close until what explains it must have come.
    pub(super) fn hold(&mut self, key: u64, event: &Transition, out: &mut Vec<Entry>) {
        // The idle task closes nothing.
        let task = event.task.as_ref().filter(|task| task.pid != 0).map(|task| self.process(task));
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let numbers = event.numbers.unwrap_or_default();
        flow.rare(&mut self.spare).closing = Some(Closing {
            time_ns: event.head.time_ns,
            old: event.old,
            bits: event.bits,
            shutdown: event.shutdown,
            numbers,
            sent_after: None,
            task,
            nameless: false,
        });
        // A minisocket is all the evidence there can be: the socket's RST would have come before it.
        if event.old == TcpState::Listen || self.minisockets.has_begun(key) {
            self.end(key, None, out);
        } else {
            self.held.push_back((event.head.time_ns.saturating_add(HOLD_NS), key));
        }
    }

    /// Judges the closes whose time has come.
    pub(super) fn settle(&mut self, now_ns: u64, out: &mut Vec<Entry>) {
        self.settle_requests(now_ns, out);
        while let Some(&(due, key)) = self.held.front() {
            if due > now_ns {
                return;
            }
            self.held.pop_front();
            // The key may name a younger flow by now, whose close has its own place in the queue.
            let mine = |time_ns: u64| time_ns.saturating_add(HOLD_NS) == due;
            if self.flows.get_mut(&key).and_then(|flow| flow.closing()).is_some_and(|c| mine(c.time_ns)) {
                self.end(key, None, out);
            }
        }
    }

    /// Ends a flow and says why. `gone_ns`: it is known to be gone, but its close was not seen.
    pub(super) fn end(&mut self, key: u64, gone_ns: Option<u64>, out: &mut Vec<Entry>) {
        self.end_flow(key, gone_ns, Verdict { cause: Cause::Unseen, continues_as: None }, out);
    }

    /// Ends a flow whose close was not seen, as something else tells.
    pub(super) fn end_as(&mut self, key: u64, gone_ns: u64, verdict: Verdict, out: &mut Vec<Entry>) {
        self.end_flow(key, Some(gone_ns), verdict, out);
    }

    /// `otherwise`: the verdict if no close waits to be judged.
    fn end_flow(&mut self, key: u64, gone_ns: Option<u64>, otherwise: Verdict, out: &mut Vec<Entry>) {
        let Some(mut flow) = self.flows.remove(&key) else { return };
        self.depart(key);
        let begun = self.minisockets.take_begun(key);
        let mut boxed = flow.rare.take().unwrap_or_else(|| self.spare.rare());
        let rare = &mut *boxed;
        if rare.first.is_some() {
            return self.spare.take_rare(boxed); // It never passed the filter.
        }
        if let Some(reset) = rare.doubtful_reset.take() {
            self.totals.reset(reset.direction, reset.reason.as_deref());
            let time_ns = reset.head.time_ns;
            out.push(Entry { time_ns, who: who(&flow), what: What::Reset(reset) });
        }
        let unseen = gone_ns.map(|time_ns| Closing {
            time_ns,
            old: flow.state,
            bits: None,
            shutdown: 0,
            numbers: LastNumbers::default(),
            sent_after: None,
            task: None,
            nameless: false,
        });
        let seen = rare.closing.is_some();
        let Some(closing) = rare.closing.take().or(unseen) else { return };
        let shortly = |time_ns: u64| closing.time_ns.saturating_sub(time_ns) <= HOLD_NS;
        let age_ns = (flow.born_ns != 0).then(|| closing.time_ns.saturating_sub(flow.born_ns));
        let numbers = (closing.numbers.known & NUMBERS_KNOWN != 0).then_some(closing.numbers);
        let err = (closing.numbers.known & ERROR_KNOWN != 0).then_some(closing.numbers.sk_err);
        let evidence = Evidence {
            old: closing.old,
            err,
            soft: closing.numbers.sk_err_soft,
            dead: closing.bits.map(|bits| bits.dead),
            done: closing.bits.map(|bits| bits.done),
            has_socket: closing.bits.map(|bits| bits.has_socket),
            packets_out: numbers.map(|numbers| numbers.packets_out),
            unread: numbers.filter(|numbers| numbers.known & STALL_KNOWN != 0).map(|numbers| numbers.unread),
            linger2_negative: closing.numbers.linger2 < 0,
            local_port: flow.ends.lport != 0,
            shutdown: closing.shutdown,
            retransmits: closing.numbers.retransmits,
            age_ns,
            sent_before: rare.sent.take().filter(|(time_ns, _)| shortly(*time_ns)).map(|(_, reset)| reset),
            sent_after: closing.sent_after,
            received: rare.received_ns.is_some_and(shortly),
            resets_visible: self.capabilities.resets,
            minisocket: begun.map(|begun| begun.state),
        };
        let verdict = if seen { judge(&evidence) } else { otherwise };
        // These run in the closer's context; at every other close the current task is noise (docs/kernel.md).
        let closer_acts = matches!(
            verdict.cause,
            Cause::UnreadData | Cause::Aborted | Cause::NeverAccepted | Cause::Destroyed | Cause::Abandoned
        );
        let acting =
            closing.task.filter(|_| closer_acts).map(|process| Owner { process, source: Source::Close });
        let closed_by = acting.or_else(|| flow.closer());
        *self.totals.causes.entry(verdict.cause).or_default() += 1;
        if !seen {
            flow.enter(TcpState::Close, closing.time_ns);
        }
        let peer_told = closing.old == TcpState::LastAck && verdict.cause == Cause::Orderly;
        let beginning = verdict.continues_as.map(|state| Beginning {
            who: who(&flow),
            closed: closed_by.clone(),
            old: closing.old,
            state,
            time_ns: closing.time_ns,
            nameless: closing.nameless,
            begun,
        });
        let closed = Closed {
            verdict,
            old: closing.old,
            err,
            duration_ns: age_ns,
            dwell_ns: flow.dwell_ns,
            numbers,
            retransmits: rare.retransmits,
            closed_by,
        };
        self.spare.take_rare(boxed);
        let closed = self.spare.closed.boxed(closed);
        out.push(Entry { time_ns: closing.time_ns, who: who(&flow), what: What::Close(closed) });
        if peer_told {
            self.peer_closed(flow.netns, &flow.ends, closing.time_ns, out);
        }
        if let Some(beginning) = beginning {
            self.begin_minisocket(beginning, out);
        }
    }
}
