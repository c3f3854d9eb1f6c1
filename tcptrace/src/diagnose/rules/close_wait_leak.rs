//! `close-wait-leak`: the peer has closed, our program has not.

use super::{Case, Deadline, Finding, From, Judge, Rule, Scene, close_wait_busy, words};
use crate::{
    diagnose::{Confidence, limits, memory::holding},
    event::TcpState,
    units::Duration,
};

pub(super) const RULE: Rule = Rule {
    name: "close-wait-leak",
    states: &["CLOSE_WAIT"],
    says: "the peer has closed, and the program here does not: no timer ends it",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    if case.sight.state != TcpState::CloseWait {
        return None;
    }
    if case.is_unaccepted() {
        return Some(unaccepted(case));
    }
    if close_wait_busy::gets_through(case) {
        return None;
    }
    let whose = case.holder.as_ref().map(|holder| format!("{}/{}", holder.process.comm, holder.process.pid));
    let unread = case.unread();
    let verdict = match (&whose, unread > 0) {
        (Some(whose), true) => {
            format!(
                "the peer has closed, and {whose} neither reads what came ({} unread) nor closes",
                words::bytes(unread)
            )
        }
        (Some(whose), false) => format!("the peer has closed, and {whose} does not close its end"),
        (None, _) => "the peer has closed, and the program here does not close its end".to_owned(),
    };
    let mut finding = case.finding(RULE.name, verdict);
    finding.evidence.push(words::shown(format!(
        "{} unread, {} unsent",
        words::bytes(unread),
        words::bytes(case.sight.send_queue)
    )));
    finding.evidence.extend(words::heard(case));
    if let Some(info) = case.sight.info {
        // Its time means nothing then: it runs from the connection's beginning.
        finding.evidence.push(words::shown(match info.bytes_sent {
            0 => "the program has never sent data here".to_owned(),
            _ => format!("data was last sent {} ago", words::ms(info.last_data_sent_ms)),
        }));
    }
    if limits::is_pooled(case) {
        finding.confidence = Confidence::Likely;
        finding.missing.push(
            "whether a pool keeps it: some notice only at the next use that the server has closed".to_owned(),
        );
    }
    growth(case, scene, &mut finding);
    if scene.other_end(case).is_some_and(|other| other.sight.state == TcpState::FinWait2) {
        finding.evidence.push(words::shown("the other end is on this host, in FIN_WAIT2"));
    }
    finding.deadline =
        Deadline::Never("no setting and no timer of the kernel ends CLOSE_WAIT: only close() by the program");
    finding.next_step = match (&whose, &case.holder) {
        (Some(whose), Some(holder)) => format!(
            "{whose} must close what read() says is at its end; what it does now: ls -l /proc/{pid}/fd/{fd}; gdb -p {pid} -batch -ex 'thread apply all bt'",
            pid = holder.process.pid,
            fd = holder.fd
        ),
        _ => "run as root to see whose it is".to_owned(),
    };
    Some(finding)
}

/// Not the program's leak: it has never had the connection.
fn unaccepted(case: &Case) -> Finding {
    let verdict = "the peer has come and gone, and no program has accepted the connection yet".to_owned();
    let mut finding = case.finding(RULE.name, verdict);
    finding.confidence = Confidence::Likely;
    finding.missing.retain(|missing| !missing.starts_with("whose"));
    finding.evidence.push(words::shown("no descriptor: it waits in the accept queue"));
    finding.deadline =
        Deadline::Never("no timer of the kernel ends it: only accept() and close() by the listening program");
    finding.next_step = "find out why the listening program does not call accept()".to_owned();
    finding
}

/// How the number of such sockets of this holder went since the first look.
fn growth(case: &Case, scene: &Scene, finding: &mut Finding) {
    let Some(holding) = holding(case) else { return };
    let now = scene.holdings.get(&holding).copied().unwrap_or(1);
    let Some(earlier) = scene.remembered.close_wait(&holding).filter(|earlier| earlier.at_ns < scene.now_ns)
    else {
        finding.missing.push("how fast they grow: that takes two looks (--watch)".to_owned());
        return;
    };
    let in_ns = scene.now_ns - earlier.at_ns;
    let fact = match now.cmp(&earlier.count) {
        std::cmp::Ordering::Greater => format!(
            "{now} of this process on this port, {} more than {} ago",
            now - earlier.count,
            Duration(in_ns)
        ),
        std::cmp::Ordering::Equal => {
            format!("{now} of this process on this port, as many as {} ago", Duration(in_ns))
        }
        std::cmp::Ordering::Less => format!(
            "{now} of this process on this port, {} fewer than {} ago",
            earlier.count - now,
            Duration(in_ns)
        ),
    };
    finding.evidence.push(words::fact(From::Inferred, fact));
}
