//! What is predicted happens: each condition is made, looked at until the kernel ends it, and every look must have named
//! that moment. All of a group run at once, each in a lab of its own: the time is spent waiting.

mod closing;
mod kept;
mod opening;

use crate::{
    looks::{Look, Looks},
    support::{PATIENCE, command, netns, patiently},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs, process,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tcptrace::source::live::boot_time_ns;
use tcptrace_lab::{Family, Lab, Side};

/// The kernel shows times in ticks (4 ms at 250 Hz), rounded either way, and a look takes some milliseconds during which
/// a timer may run: so much earlier than said it may end.
const EARLY: Duration = Duration::from_millis(30);
/// What a timer of a busy machine may be late beyond the kernel's own slack, and how long we take to see it. All last
/// steps here are longer, so a prediction that is one step off does not pass.
const LATE: Duration = Duration::from_millis(150);
/// A prediction is worth something only if it is narrow: the wheel rounds up by an eighth of each step, and so much.
const WIDTH: Duration = Duration::from_millis(150);
/// How often the kernel's table is read.
const POLL: Duration = Duration::from_millis(10);
/// No condition lasts longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Sockets that must stay open meanwhile.
type Kept = Vec<socket2::Socket>;

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// The kernel ends it, as predicted.
    Predicted,
    /// It is not over when all others are, and for so long at least.
    Never(Duration),
}

/// Whose it must be, where the trace saw everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Nobody has it: who closed it is named.
    ClosedBy(&'static str),
    /// It has it, or has ended its direction only.
    Owner(&'static str),
    /// Nothing is claimed.
    Nobody,
}

/// A condition, and what must be said of it.
struct Condition {
    name: &'static str,
    family: Family,
    side: Side,
    /// State as the finding names it, and the kernel's number of it.
    state: (&'static str, &'static str),
    finding: &'static str,
    governs: &'static [&'static str],
    whose: Whose,
    ends: Ends,
    make: fn(&Lab) -> Kept,
}

/// What was said of it so far, and what became of it.
struct Course<'a> {
    condition: &'a Condition,
    lab: &'a Lab,
    said: Vec<Value>,
    names: BTreeSet<String>,
    gone_ns: Option<u64>,
}

impl Course<'_> {
    fn netns(&self) -> u64 {
        self.lab.netns(self.condition.side).into()
    }

    /// Whether the kernel's own table has a socket in that state.
    fn is_there(&self) -> bool {
        let thread = self.lab.thread_id(self.condition.side);
        let table = if self.condition.family == Family::V4 { "tcp" } else { "tcp6" };
        let table = fs::read_to_string(format!("/proc/self/task/{thread}/net/{table}")).expect("readable");
        table.lines().skip(1).any(|line| line.split_whitespace().nth(3) == Some(self.condition.state.1))
    }

    fn take(&mut self, look: &Look) {
        let netns = self.netns();
        for finding in look.findings.iter().filter(|finding| finding["netns"] == netns) {
            self.names.insert(finding["name"].as_str().expect("a name").to_owned());
            if finding["name"] == self.condition.finding {
                // What it does not know it says: such a look predicts nothing.
                let missing = finding["missing"].as_array().into_iter().flatten().filter_map(Value::as_str);
                if missing.into_iter().all(|it| !it.contains("only the BPF iterator shows")) {
                    self.said.push(finding.clone());
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.gone_ns.is_some() || self.condition.ends != Ends::Predicted
    }

    /// What is wrong.
    fn judge(&self, began_ns: u64) -> Result<String, String> {
        let Condition { finding, state, governs, ends, .. } = self.condition;
        let Some(first) = self.said.first() else {
            return Err(format!("no {finding}, but {:?}", self.names));
        };
        if self.names.len() != 1 {
            return Err(format!("several findings: {:?}", self.names));
        }
        for said in &self.said {
            self.judge_facts(said)?;
        }
        let governing: BTreeSet<_> =
            first["sysctl"].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str()).collect();
        if !governs.iter().all(|name| governing.contains(name)) {
            return Err(format!("{governing:?} governs, not {governs:?}"));
        }
        if first["state"] != state.0 {
            return Err(format!("state {}, not {}", first["state"], state.0));
        }
        let seconds = |ns: u64| (ns.saturating_sub(began_ns)) as f64 / 1e9;
        if let Ends::Never(least) = ends {
            let lasted = Duration::from_nanos(boot_time_ns() - began_ns);
            if !self.is_there() || lasted < *least {
                return Err(format!("over after {lasted:?}"));
            }
            return match self.said.iter().find(|said| said["deadline"] != "never") {
                Some(said) => Err(format!("not never: {said}")),
                None => Ok(format!("never; still there after {:.1} s", lasted.as_secs_f64())),
            };
        }
        let gone_ns = self.gone_ns.ok_or("it did not end")?;
        let mut range = (u64::MAX, 0);
        for said in &self.said {
            let (from_ns, to_ns) = predicted(said).ok_or_else(|| format!("no deadline: {said}"))?;
            range = (range.0.min(from_ns), range.1.max(to_ns));
            let at = seconds(said["mono_ns"].as_u64().unwrap_or(0));
            let claim = format!(
                "at {at:.3} s: from {:.3} to {:.3} s, but it ended at {:.3} s\n{said}",
                seconds(from_ns),
                seconds(to_ns),
                seconds(gone_ns)
            );
            if gone_ns + nanos(EARLY) < from_ns || gone_ns > to_ns + nanos(LATE) {
                return Err(claim);
            }
            let left_ns = from_ns - said["mono_ns"].as_u64().unwrap_or(0);
            // Of the time-out that runs a part may be over already: its rounding is an eighth of the whole.
            if to_ns - from_ns > left_ns / 4 + nanos(WIDTH) && left_ns > nanos(Duration::from_secs(1)) {
                return Err(format!("too wide {claim}"));
            }
        }
        Ok(format!(
            "{} looks said {:.2} to {:.2} s, it was {:.2} s",
            self.said.len(),
            seconds(range.0),
            seconds(range.1),
            seconds(gone_ns)
        ))
    }

    fn judge_facts(&self, said: &Value) -> Result<(), String> {
        let comm = |key: &str| said[key]["comm"].as_str().map(str::to_owned);
        let right = match self.condition.whose {
            Whose::ClosedBy(name) => comm("closed_by").as_deref() == Some(name) && said["owner_fd"].is_null(),
            Whose::Owner(name) => {
                comm("owner").as_deref() == Some(name)
                    && said["owner_fd"].is_number()
                    && (said["closed_by"].is_null() || said["closed_by"]["source"] == "shutdown")
            }
            Whose::Nobody => said["closed_by"].is_null(),
        };
        if right { Ok(()) } else { Err(format!("not {:?}: {said}", self.condition.whose)) }
    }
}

/// From when until when it is to end, on the boot-time clock.
fn predicted(said: &Value) -> Option<(u64, u64)> {
    let taken_ns = said["mono_ns"].as_u64()?;
    Some((taken_ns + said["deadline_ns"].as_u64()?, taken_ns + said["deadline_latest_ns"].as_u64()?))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("short")
}

/// One look of a program that starts now, when everything is stuck already.
fn look_once(arguments: &[String]) -> Vec<Value> {
    let output = command(&["stuck", "--format", "json"]).args(arguments).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = String::from_utf8(output.stdout).expect("text");
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["type"] == "finding").collect()
}

/// One group at a time: looks that come late on a busy machine see nothing of what is short.
static ALONE: Mutex<()> = Mutex::new(());

/// Makes all of them, looks at all until all are over, and judges. A machine that stands still for a fraction of a second
/// makes a timer or a look late; what is wrong of ours is wrong each time.
fn run(conditions: &[Condition]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    patiently(|| make_and_judge(conditions));
}

fn make_and_judge(conditions: &[Condition]) {
    let only = std::env::var("CONDITION").ok();
    let wanted: Vec<_> =
        conditions.iter().filter(|it| only.as_deref().is_none_or(|only| it.name.contains(only))).collect();
    let labs: Vec<_> = wanted.iter().map(|it| Lab::new(it.family).expect("a lab")).collect();
    let spaces = labs.iter().zip(&wanted).map(|(lab, it)| netns(lab.netns(it.side)));
    let arguments: Vec<_> = spaces.flat_map(|space| ["--netns".to_owned(), space]).collect();
    let mut looks = Looks::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut courses, mut kept) = (Vec::new(), Vec::new());
    let began_ns = boot_time_ns();
    for (condition, lab) in wanted.iter().zip(&labs) {
        kept.push((condition.make)(lab));
        courses.push(Course { condition, lab, said: Vec::new(), names: BTreeSet::new(), gone_ns: None });
    }
    let started = Instant::now();
    // A state that is to come, comes: only then its end can be waited for.
    for course in &courses {
        while !course.is_there() {
            assert!(started.elapsed() < PATIENCE, "{}: never there", course.condition.name);
            thread::sleep(POLL);
        }
    }
    let least = wanted.iter().filter_map(|it| match it.ends {
        Ends::Never(least) => Some(least),
        Ends::Predicted => None,
    });
    let least = least.max().unwrap_or_default();
    thread::scope(|scope| {
        let later = scope.spawn(|| {
            thread::sleep(Duration::from_millis(1500));
            look_once(&arguments)
        });
        while started.elapsed() < LONGEST {
            for course in courses.iter_mut().filter(|course| course.gone_ns.is_none()) {
                if !course.is_there() {
                    course.gone_ns = Some(boot_time_ns());
                }
            }
            while let Some(look) = looks.next_if_any() {
                courses.iter_mut().for_each(|course| course.take(&look));
            }
            if courses.iter().all(Course::is_over) && started.elapsed() >= least && later.is_finished() {
                break;
            }
            thread::sleep(POLL);
        }
        judge(&courses, began_ns, &later.join().expect("it looked once"));
    });
    drop(kept);
}

fn judge(courses: &[Course], began_ns: u64, once: &[Value]) {
    let mut failed = Vec::new();
    for course in courses {
        let mut verdict = course.judge(began_ns);
        for said in once.iter().filter(|said| said["netns"] == course.netns()) {
            let late = judge_late(course, said);
            verdict = verdict.and_then(|text| late.map(|late| format!("{text}; {late}")));
        }
        println!("{}: {}", course.condition.name, verdict.as_deref().unwrap_or("FAILED"));
        if let Err(why) = verdict {
            failed.push(format!("{} (pid {}): {why}", course.condition.name, process::id()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Who came late says the same, and does not know who closed it.
fn judge_late(course: &Course, said: &Value) -> Result<String, String> {
    if said["name"] != course.condition.finding || !said["closed_by"].is_null() {
        return Err(format!("one look later: {said}"));
    }
    match (predicted(said), course.gone_ns) {
        (Some((from_ns, to_ns)), Some(gone_ns))
            if gone_ns + nanos(EARLY) >= from_ns && gone_ns <= to_ns + nanos(LATE) =>
        {
            Ok("who came late said the same".to_owned())
        }
        (None, None) if said["deadline"] == "never" => Ok("who came late said the same".to_owned()),
        (claim, gone_ns) => Err(format!("one look later: {claim:?}, ended {gone_ns:?}: {said}")),
    }
}
