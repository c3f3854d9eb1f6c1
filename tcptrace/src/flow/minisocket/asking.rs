//! What is to be asked of the kernel, and what an answer, or none, means.

use super::{Minisocket, Minisockets, Question, Subject, TIMER_SLACK_NS, due::After};
use crate::{
    event::TcpState,
    flow::{Capabilities, Entry, FlowId, Known, Ledger},
    sight::{Kind, Sight, Taken},
};

/// A state that usually passes within a few round trips is doubted after this time: the event that ended it may be missing
/// without anybody knowing (docs/kernel.md).
const PASSING_NS: u64 = 1_000_000_000;
/// And again after one part in this many of its age.
const PASSING_LOOKS: u64 = 4;

/// A state that waits for the other end's kernel only, or for its program to close.
fn is_passing(state: TcpState) -> bool {
    matches!(state, TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck)
}

impl Minisockets {
    /// A flow has entered a state that should pass.
    pub(in crate::flow) fn doubt_later(
        &mut self,
        key: u64,
        state: TcpState,
        now_ns: u64,
        capabilities: Capabilities,
    ) {
        if is_passing(state) && capabilities.cookies && capabilities.all_states {
            self.due.push(After::Passing, now_ns.saturating_add(PASSING_NS), Subject::Flow(key));
        }
    }
}

impl Ledger {
    /// Nobody will be asked any more.
    pub(in crate::flow) fn tell_beginnings(&mut self, out: &mut Vec<Entry>) {
        for subject in std::mem::take(&mut self.minisockets.questions) {
            if let Subject::Minisocket(number) = subject {
                self.believe_beginning(number, out);
            }
        }
    }

    /// What to ask the kernel now, at most so many. Every question wants [`Ledger::answer`] or [`Ledger::unanswered`].
    pub fn questions(&mut self, now_ns: u64, most: usize, out: &mut Vec<Question>) {
        while out.len() < most
            && let Some(subject) = self.minisockets.questions.pop_front()
        {
            out.extend(self.question(subject));
        }
        while out.len() < most
            && let Some((due_ns, subject)) = self.minisockets.due.pop_by(now_ns)
        {
            if self.is_due(subject, due_ns) {
                out.extend(self.question(subject));
            }
        }
    }

    /// Believes rule and timer where the time to ask is over.
    pub fn overdue(&mut self, now_ns: u64, out: &mut Vec<Entry>) {
        let Some(late_ns) = now_ns.checked_sub(TIMER_SLACK_NS) else { return };
        while let Some((due_ns, subject)) = self.minisockets.due.pop_by(late_ns) {
            if self.is_due(subject, due_ns)
                && let Some(question) = self.question(subject)
            {
                self.unanswered(&question, now_ns, out);
            }
        }
    }

    /// When the next question is due, on the events' clock; `None`: there is none.
    pub fn next_due_ns(&self) -> Option<u64> {
        if !self.minisockets.questions.is_empty() {
            return Some(0);
        }
        self.minisockets.due.first_ns()
    }

    /// Not superseded by another plan; it is none any more.
    fn is_due(&mut self, subject: Subject, due_ns: u64) -> bool {
        match subject {
            Subject::Minisocket(number) => {
                let planned = self.minisockets.known.get_mut(&number).filter(|m| m.ask_ns == due_ns);
                planned.map(|minisocket| minisocket.ask_ns = 0).is_some()
            }
            Subject::Flow(key) => self.flows.get(&key).is_some_and(|flow| {
                let since_ns = flow.since_ns.max(flow.met_ns);
                let lasts = is_passing(flow.state) && since_ns.saturating_add(PASSING_NS) <= due_ns;
                lasts || flow.state == TcpState::NewSynRecv
            }),
        }
    }

    pub(super) fn question(&self, subject: Subject) -> Option<Question> {
        let (netns, ends, id) = match subject {
            Subject::Minisocket(number) => {
                let named = |m: &Minisocket| if m.nameless { FlowId::None } else { m.id };
                self.minisockets.known.get(&number).map(|m| (m.netns, m.ends, named(m)))?
            }
            // Without its port nobody would find it.
            Subject::Flow(key) => self
                .flows
                .get(&key)
                .filter(|flow| flow.ends.lport != 0)
                .map(|flow| (flow.netns, flow.ends, flow.id))?,
        };
        let cookie = if let FlowId::Cookie(cookie) = id { cookie } else { 0 };
        Some(Question { subject, netns, ends, cookie })
    }

    /// The kernel's answer; `None`: there is no such socket.
    pub fn answer(&mut self, question: &Question, sight: Option<&Sight>, taken: Taken, out: &mut Vec<Entry>) {
        match (question.subject, sight) {
            (Subject::Minisocket(number), Some(sight)) if sight.kind == Kind::Minisocket => {
                self.see_minisocket(number, sight, taken, out);
            }
            (Subject::Minisocket(number), _) => {
                let Some(minisocket) = self.minisockets.known.get_mut(&number) else { return };
                if minisocket.untold.take().is_some() {
                    // It never was (the table was full, memory short), or its ends were used again at once.
                    self.totals.unmade += 1;
                    self.minisockets.remove(number);
                } else {
                    self.end_minisocket(number, taken.from_ns, Known::Seen, out);
                }
            }
            (Subject::Flow(key), Some(sight)) => {
                self.sight(sight, taken, None, out);
                self.doubt_again(key, taken.to_ns);
            }
            (Subject::Flow(key), None) => self.absent(key, taken, out),
        }
    }

    /// It is in that state indeed: the longer, the rarer we ask.
    fn doubt_again(&mut self, key: u64, now_ns: u64) {
        let Some(flow) = self.flows.get(&key).filter(|flow| is_passing(flow.state)) else { return };
        let age_ns = now_ns.saturating_sub(flow.since_ns.max(flow.met_ns));
        let again_ns = now_ns.saturating_add(PASSING_NS.max(age_ns / PASSING_LOOKS));
        self.minisockets.look_at(again_ns, Subject::Flow(key));
    }

    /// Nobody could ask: the rule and the timer are believed.
    pub fn unanswered(&mut self, question: &Question, now_ns: u64, out: &mut Vec<Entry>) {
        match question.subject {
            Subject::Minisocket(number) => {
                if !self.believe_beginning(number, out) {
                    return;
                }
                let Some(minisocket) = self.minisockets.known.get(&number) else { return };
                let ends_ns = minisocket.ends_ns;
                if ends_ns <= now_ns {
                    self.end_minisocket(number, ends_ns, Known::Timer, out);
                } else {
                    self.minisockets.plan_end(number);
                }
            }
            Subject::Flow(key) => self.unasked_half_open(key, now_ns, out),
        }
    }
}
