//! A recording: what the kernel answered about one host of a lab at one moment, as text that git can show. CONTRIBUTING
//! says how to make one.

use crate::{
    diagnose::{Around, Look, Memory, Scene},
    event::TcpState,
    flow::{Capabilities, Ledger},
    sight::{Sight, Taken},
    source::{
        details::{Options, Part, Queue, Request, SocketDetail, Stall},
        netns::Limits,
        sockdiag::recorded,
    },
};
use hashbrown::HashMap;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc};

/// When recordings are played: late enough for everything before it.
pub const NOW_NS: u64 = 1_000_000 * 1_000_000_000;
/// Bytes in a line of a datagram.
const LINE: usize = 48;

/// What was recorded.
#[derive(Debug)]
pub struct Recording {
    /// Version, for people.
    pub kernel: String,
    /// What the lab showed.
    pub about: String,
    /// Files below /proc/sys/net, with what they said.
    pub settings: Vec<(String, String)>,
    /// Times in these are relative to the look, and made absolute at [`NOW_NS`].
    pub details: Vec<SocketDetail>,
    /// As the kernel filled them.
    pub datagrams: Vec<Vec<u8>>,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(format!("{name}.txt"))
}

impl Recording {
    /// One of the recordings of the repository.
    pub fn read(name: &str) -> Self {
        let path = path(name);
        Self::parse(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    pub fn write(&self, name: &str) {
        std::fs::write(path(name), self.text()).unwrap();
    }

    pub fn text(&self) -> String {
        let mut text = format!("kernel {}\nabout {}\n", self.kernel, self.about);
        for (file, says) in &self.settings {
            text += &format!("setting {file} {says}\n");
        }
        for detail in &self.details {
            text += &format!("detail {}\n", detail_text(detail));
        }
        for datagram in &self.datagrams {
            text += &format!("datagram {}\n", datagram.len());
            for line in datagram.chunks(LINE) {
                text.extend(line.iter().map(|byte| format!("{byte:02x}")));
                text.push('\n');
            }
        }
        text
    }

    pub fn parse(text: &str) -> Self {
        let mut recording = Self {
            kernel: String::new(),
            about: String::new(),
            settings: Vec::new(),
            details: Vec::new(),
            datagrams: Vec::new(),
        };
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("kernel", rest)) => recording.kernel = rest.to_owned(),
                Some(("about", rest)) => recording.about = rest.to_owned(),
                Some(("setting", rest)) => {
                    let (file, says) = rest.split_once(' ').unwrap();
                    recording.settings.push((file.to_owned(), says.to_owned()));
                }
                Some(("detail", rest)) => {
                    recording.details.push(detail(&serde_json::from_str(rest).unwrap()))
                }
                Some(("datagram", _)) => recording.datagrams.push(Vec::new()),
                Some(_) => panic!("{line}"),
                None => recording.datagrams.last_mut().unwrap().extend(
                    line.as_bytes()
                        .chunks(2)
                        .map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap()),
                ),
            }
        }
        recording
    }

    /// The namespace's settings.
    pub fn limits(&self) -> Limits {
        Limits::from_files(|name| {
            self.settings.iter().find(|(file, _)| file == name).map(|(_, says)| says.clone())
        })
    }

    /// The sockets, in namespace `netns`.
    pub fn sights(&self, netns: u32) -> Vec<Sight> {
        recorded::replay(netns, &self.datagrams)
    }
}

/// Hosts that are looked at together; each recording is a namespace: 1, 2, and so on.
pub struct Hosts {
    pub settings: HashMap<u32, Arc<Limits>>,
    pub sights: Vec<Sight>,
    pub details: HashMap<u64, SocketDetail>,
}

impl Hosts {
    pub fn of(names: &[&str]) -> Self {
        Self::from(&names.iter().map(|name| Recording::read(name)).collect::<Vec<_>>())
    }

    pub fn from(recordings: &[Recording]) -> Self {
        let numbered = || (1..).zip(recordings);
        let settings = numbered().map(|(netns, each)| (netns, Arc::new(each.limits()))).collect();
        let sights = numbered().flat_map(|(netns, each)| each.sights(netns)).collect();
        let details = recordings.iter().flat_map(|each| &each.details);
        let details = details.map(|detail| (detail.cookie, *detail)).collect();
        Self { settings, sights, details }
    }

    /// As `tcptrace stuck --no-trace` sees them at its first look.
    pub fn scene(&self, around: Around, older_than_ns: Option<u64>, memory: &mut Memory) -> Scene {
        let taken = Taken { from_ns: NOW_NS, to_ns: NOW_NS };
        let capabilities = Capabilities { cookies: true, all_states: true, ..Capabilities::default() };
        let mut ledger = Ledger::new(capabilities, 1000, NOW_NS);
        let (mut entries, mut look) = (Vec::new(), Look::new(self.settings.clone(), false));
        ledger.begin_round();
        for sight in &self.sights {
            ledger.sight(sight, taken, None, &mut entries);
            look.add(sight, taken, None, || ledger.told(sight, taken));
        }
        ledger.end_round();
        for netns in look.doubtful(older_than_ns) {
            look.add_details(netns, &self.details);
        }
        look.finish(NOW_NS, around, older_than_ns, memory)
    }
}

fn detail_text(detail: &SocketDetail) -> Value {
    let Options {
        user_timeout_ms,
        syn_retries,
        linger2: _,
        keepalive,
        keepalive_time_ns: _,
        keepalive_interval_ns,
        keepalive_probes,
        rto_max_us,
    } = detail.options;
    let part = match detail.part {
        Part::Connection(stall) => json!({"connection": {
            "began_ns": stall.began_ns,
            "probes_began_ns": stall.probes_began_ns,
            "peer_window": stall.peer_window,
        }}),
        Part::Listener(queue) => json!({"listener": {"half_open": queue.half_open, "young": queue.young}}),
        Part::Request(request) => json!({"request": {"timeouts": request.timeouts, "acked": request.acked}}),
    };
    json!({
        "cookie": detail.cookie,
        "state": detail.state.number(),
        "orphan": detail.orphan,
        "soft_error": detail.soft_error,
        "user_timeout_ms": user_timeout_ms,
        "syn_retries": syn_retries,
        "keepalive": keepalive,
        "keepalive_interval_ns": keepalive_interval_ns,
        "keepalive_probes": keepalive_probes,
        "rto_max_us": rto_max_us,
        "part": part,
    })
}

fn detail(from: &Value) -> SocketDetail {
    let number = |value: &Value| value.as_u64();
    let small = |value: &Value| value.as_u64().map(|number| u8::try_from(number).unwrap());
    let word = |value: &Value| value.as_u64().map(|number| u32::try_from(number).unwrap());
    let part = &from["part"];
    SocketDetail {
        cookie: number(&from["cookie"]).unwrap(),
        netns: 0,
        state: TcpState::from_number(small(&from["state"]).unwrap()).unwrap(),
        orphan: from["orphan"].as_bool().unwrap(),
        fin_received: false,
        error: 0,
        soft_error: word(&from["soft_error"]).unwrap(),
        options: Options {
            user_timeout_ms: word(&from["user_timeout_ms"]),
            syn_retries: small(&from["syn_retries"]),
            keepalive: from["keepalive"].as_bool(),
            keepalive_interval_ns: number(&from["keepalive_interval_ns"]),
            keepalive_probes: small(&from["keepalive_probes"]),
            rto_max_us: number(&from["rto_max_us"]),
            ..Options::default()
        },
        part: if let Some(stall) = part.get("connection") {
            Part::Connection(Stall {
                began_ns: number(&stall["began_ns"]),
                probes_began_ns: number(&stall["probes_began_ns"]),
                peer_window: word(&stall["peer_window"]),
                ..Stall::default()
            })
        } else if let Some(queue) = part.get("listener") {
            let (half_open, young) = (word(&queue["half_open"]), word(&queue["young"]));
            Part::Listener(Queue { half_open, young, ..Queue::default() })
        } else {
            let request = &part["request"];
            let (timeouts, acked) = (small(&request["timeouts"]), request["acked"].as_bool());
            Part::Request(Request { timeouts, acked, ..Request::default() })
        },
    }
}
