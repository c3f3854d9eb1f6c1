//! Stages at which the script waits for a diagnosis, and whether that is the one the stage is about.

use crate::{
    cmd::observer::Show,
    diagnose::{Diagnosis, Finding, Scene},
    source::live::boot_time_ns,
};
use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tcptrace_lab::Side;

/// How long the script waits: the condition stays as it is for three seconds.
const PATIENCE: Duration = Duration::from_millis(2800);
/// A look that does not show it yet is not the last.
const LAST_LOOK_NS: u64 = 2_200_000_000;

/// Names of findings, each with its host.
type Findings = &'static [(Side, &'static str)];

/// What the script waits for.
struct Stage {
    text: &'static str,
    findings: Findings,
    since_ns: u64,
}

/// Shared between the script and the trace.
#[derive(Clone, Default)]
pub struct Judging(Arc<(Mutex<Option<Stage>>, Condvar)>);

impl Judging {
    fn stage(&self) -> MutexGuard<'_, Option<Stage>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the script: waits until the stage has been judged, or nobody judges any more.
    pub fn wait(&self, text: &'static str, findings: Findings) {
        let mut stage = self.stage();
        *stage = Some(Stage { text, findings, since_ns: boot_time_ns() });
        let waited = self.0.1.wait_timeout_while(stage, PATIENCE, |stage| stage.is_some());
        *waited.unwrap_or_else(PoisonError::into_inner).0 = None;
    }

    /// For the trace: judges what a look found. `None`: nothing waits, or a later look may show it; else what differs.
    pub fn judge(&self, taken_ns: u64, findings: &[Finding], hosts: [u32; 2]) -> Option<Option<String>> {
        let stage = self.stage();
        let stage = stage.as_ref().filter(|stage| taken_ns > stage.since_ns)?;
        let host = |side| if side == Side::Client { hosts[0] } else { hosts[1] };
        let mut expected: Vec<_> = stage.findings.iter().map(|(side, name)| (host(*side), *name)).collect();
        let mut found: Vec<_> =
            findings.iter().map(|finding| (finding.subject.netns, finding.name)).collect();
        expected.sort_unstable();
        found.sort_unstable();
        found.dedup();
        if found == expected {
            return Some(None);
        }
        let late = taken_ns.saturating_sub(stage.since_ns) > LAST_LOOK_NS;
        let names = |findings: &[(u32, &str)]| match findings {
            [] => "nothing".to_owned(),
            _ => findings.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", "),
        };
        late.then(|| {
            Some(format!("{:?}: expected {}, found {}", stage.text, names(&expected), names(&found)))
        })
    }

    /// Lets the script go on.
    pub fn go_on(&self) {
        *self.stage() = None;
        self.0.1.notify_all();
    }
}

/// The last look, until somebody takes it.
#[derive(Default)]
pub struct Latest(Option<(u64, Vec<Finding>)>);

impl Latest {
    /// When the look began, and what it found.
    pub fn take(&mut self) -> Option<(u64, Vec<Finding>)> {
        self.0.take()
    }
}

impl Show for Latest {
    fn show(&mut self, scene: &Scene, diagnosis: Diagnosis, _notes: &[String]) -> io::Result<()> {
        // A look at nothing was taken when it ended.
        let taken_ns = if scene.sockets == 0 { scene.now_ns } else { scene.taken.from_ns };
        self.0 = Some((taken_ns, diagnosis.findings));
        Ok(())
    }
}
