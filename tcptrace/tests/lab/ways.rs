//! A scenario played once while a tracer of each way of attaching looks on. They are started once and stay: on an emulated
//! machine that takes longer than most scenarios.

use crate::{
    agree, check_both, check_untyped, role, shown_at,
    support::{Tracer, of_type, text},
    traced,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    env,
    net::TcpListener,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};
use tcptrace_lab::{Family, Lab, PORT, Scenario, Side};

/// The way without the kernel's type information. The others are words of `--hooks`.
const UNTYPED: &str = "untyped";
/// As often is a scenario played for a way that has not told it right: see `patiently`.
const ATTEMPTS: u32 = 3;

/// The ways that `TCPTRACE_TEST_WAYS` names, by commas; `cargo xtask vm` sets it.
pub fn asked() -> Option<Vec<String>> {
    let words = env::var("TCPTRACE_TEST_WAYS").ok().filter(|words| !words.is_empty())?;
    Some(words.split(',').map(str::to_owned).collect())
}

static STANDING: Mutex<BTreeMap<String, Standing>> = Mutex::new(BTreeMap::new());

/// A tracer that stays from scenario to scenario.
struct Standing {
    tracer: Tracer,
    /// Flows of earlier scenarios, of which more may be told.
    old: HashSet<String>,
}

impl Standing {
    fn start(way: &str) -> Self {
        // Nobody else is on the machine. What is filtered by is known without type information, too.
        let port = ["--port", "10000"];
        let tracer = match way {
            UNTYPED => Tracer::start_untyped(&port),
            way => Tracer::start(&[&["--hooks", way], &port[..]].concat()),
        };
        Self { tracer, old: HashSet::new() }
    }

    /// Waits until the lines of this scenario, with the start line, have something.
    fn wait_until<T>(&mut self, what: &str, found: impl Fn(&[Value]) -> Option<T>) -> T {
        let old = &self.old;
        self.tracer.wait_until(what, |lines| found(&without(lines, old)))
    }

    /// Forgets the lines of a scenario.
    fn forget(&mut self) {
        self.old.extend(self.tracer.lines.iter().filter_map(flow));
        self.tracer.lines.truncate(1);
    }
}

/// A tracer that stays is not told which namespaces to look into, and may not know those of a new lab yet when it wants to
/// ask: what no event tells, of minisockets and half-open requests, it may not know.
fn nearly_agree(traced: Option<&str>, shown: Option<&str>) -> bool {
    let untold =
        [("FIN_WAIT2", Some("TIME_WAIT")), ("FIN_WAIT2", None), ("TIME_WAIT", None), ("SYN_RECV", None)];
    agree(traced, shown) || traced.is_some_and(|traced| untold.contains(&(traced, shown)))
}

fn flow(line: &Value) -> Option<String> {
    line["flow"].as_str().map(str::to_owned)
}

fn without(lines: &[Value], old: &HashSet<String>) -> Vec<Value> {
    lines.iter().filter(|line| flow(line).is_none_or(|flow| !old.contains(&flow))).cloned().collect()
}

/// Plays it in both families, and prints of each way whether it told it right.
pub fn play(scenario: &Scenario, ways: &[String]) {
    let mut wrong = Vec::new();
    for family in Family::ALL {
        let mut left = ways.to_vec();
        for attempt in 1..=ATTEMPTS {
            left = play_once(scenario, family, &left);
            if left.is_empty() {
                break;
            }
            println!("attempt {attempt} of {family:?}: not told right by {}", left.join(", "));
        }
        wrong.extend(left);
    }
    for way in ways {
        println!("way {way}: {}", if wrong.contains(way) { "wrong" } else { "right" });
    }
    assert!(wrong.is_empty(), "{}: not told right by {}", scenario.name, wrong.join(", "));
}

/// The ways that did not tell it right.
fn play_once(scenario: &Scenario, family: Family, ways: &[String]) -> Vec<String> {
    let mut standing = STANDING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut wrong: Vec<String> = Vec::new();
    for way in ways.iter().filter(|way| !standing.contains_key(*way)).cloned().collect::<Vec<_>>() {
        match catch_unwind(|| Standing::start(&way)) {
            Ok(new) => drop(standing.insert(way, new)),
            Err(_) => wrong.push(way),
        }
    }
    let lab = Lab::new(family).expect("a lab");
    let played = {
        let mut observer = |stage: &tcptrace_lab::Stage| {
            for (side, shown, what) in shown_at(&lab, scenario, stage) {
                // Without type information nothing tells this lab's namespaces.
                for way in ways.iter().filter(|way| *way != UNTYPED) {
                    try_with(&mut standing, way, &mut wrong, |standing| {
                        standing.wait_until(&what, |lines| {
                            let traced = traced(lines, lab.netns(side), side);
                            nearly_agree(traced.as_deref(), shown.as_deref()).then_some(())
                        });
                    });
                }
            }
        };
        scenario.run(&lab, &mut observer)
    };
    if let Err(error) = played {
        println!("{}: {error}", scenario.name);
        wrong = ways.to_vec();
    }
    mark(&lab);
    for way in ways {
        try_with(&mut standing, way, &mut wrong, |standing| judge(scenario, &lab, standing, way));
        // One that told something wrong may be out of step for good.
        if wrong.contains(way) {
            standing.remove(way);
        }
    }
    wrong
}

fn try_with(
    all: &mut BTreeMap<String, Standing>,
    way: &String,
    wrong: &mut Vec<String>,
    job: impl FnOnce(&mut Standing),
) {
    let Some(standing) = all.get_mut(way).filter(|_| !wrong.contains(way)) else { return };
    if catch_unwind(AssertUnwindSafe(|| job(standing))).is_err() {
        println!("that was {way}");
        wrong.push(way.clone());
    }
}

/// Makes the client listen for a moment, which no scenario does: what happened before it has been told when this is.
fn mark(lab: &Lab) {
    let address = lab.address(Side::Client);
    lab.run_in(Side::Client, move || drop(TcpListener::bind((address, PORT)).expect("a free port")))
        .expect("the host runs it");
}

fn is_marked(lines: &[Value], lab: &Lab) -> bool {
    let address = lab.address(Side::Client).to_string();
    lines.iter().any(|line| {
        line["old"] == "LISTEN" && line["new"] == "CLOSE" && line["local"]["addr"] == address.as_str()
    })
}

/// After the last stage: what happened is told, and so is why both ends closed, which takes a moment longer.
fn judge(scenario: &Scenario, lab: &Lab, standing: &mut Standing, way: &str) {
    let closed = |lines: &[Value], side: Side| {
        let own = |line: &&Value| {
            let here = way == UNTYPED || line["netns"] == lab.netns(side);
            here && line["type"] == "transition" && line["role"] == role(side)
        };
        let first = lines.iter().find(own).map(|line| &line["flow"]);
        first.is_some_and(|flow| of_type(lines, "close").iter().any(|line| line["flow"] == *flow))
    };
    let ends = [(Side::Client, &scenario.client), (Side::Server, &scenario.server)];
    let lines = standing.wait_until("the close of either end", |lines| {
        let all = ends.iter().all(|(side, end)| end.path.is_empty() || closed(lines, *side));
        (all && is_marked(lines, lab)).then(|| lines.to_vec())
    });
    assert!(of_type(&lines, "lost").is_empty(), "{}", text(&lines));
    if way == UNTYPED {
        check_untyped(scenario, &lines);
    } else {
        check_both(scenario, &lines, lab);
    }
    standing.forget();
}
