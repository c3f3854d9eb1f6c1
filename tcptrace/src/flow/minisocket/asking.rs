//! What is to be asked of the kernel, and what an answer, or none, means.

use super::{Minisocket, Question, Subject, TIMER_SLACK_NS};
use crate::{
    event::TcpState,
    flow::{Entry, FlowId, Known, Ledger},
    sight::{Kind, Sight, Taken},
};
use std::cmp::Reverse;

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
            && let Some(&Reverse((due_ns, subject))) = self.minisockets.due.peek()
            && due_ns <= now_ns
        {
            self.minisockets.due.pop();
            if self.is_due(subject, due_ns) {
                out.extend(self.question(subject));
            }
        }
    }

    /// Believes rule and timer where the time to ask is over.
    pub fn overdue(&mut self, now_ns: u64, out: &mut Vec<Entry>) {
        while let Some(&Reverse((due_ns, subject))) = self.minisockets.due.peek()
            && due_ns.saturating_add(TIMER_SLACK_NS) <= now_ns
        {
            self.minisockets.due.pop();
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
        self.minisockets.due.peek().map(|Reverse((due_ns, _))| *due_ns)
    }

    /// Not superseded by another plan.
    fn is_due(&self, subject: Subject, due_ns: u64) -> bool {
        match subject {
            Subject::Minisocket(number) => {
                self.minisockets.known.get(&number).is_some_and(|m| m.ask_ns == due_ns)
            }
            Subject::Flow(key) => self.flows.get(&key).is_some_and(|flow| flow.state == TcpState::NewSynRecv),
        }
    }

    pub(super) fn question(&self, subject: Subject) -> Option<Question> {
        let (netns, ends, id) = match subject {
            Subject::Minisocket(number) => {
                let named = |m: &Minisocket| if m.nameless { FlowId::None } else { m.id };
                self.minisockets.known.get(&number).map(|m| (m.netns, m.ends, named(m)))?
            }
            Subject::Flow(key) => self.flows.get(&key).map(|flow| (flow.netns, flow.ends, flow.id))?,
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
            (Subject::Flow(_), Some(sight)) => self.sight(sight, taken, None, out),
            (Subject::Flow(key), None) => self.absent(key, taken, out),
        }
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
