//! Loads the object with sizes, filter and offsets, and attaches the hook table, each hook in the best way this
//! kernel allows.

use super::{
    attach::{LOCKED, attach, attach_calls, attach_probes, chain, explain, program},
    btf::{Btf, KERNEL_BTF},
    filter::FilterSpec,
    filter_maps::fill_filter,
    hooks::{Hook, Outcome, TRACEPOINTS, Way},
    layout, memlock,
    object::{self, OBJECT},
    privileges::{Privileges, kernel_version, setcap, tracing},
    ring::Sizes,
    tracefs,
};
use crate::error::StartError;
use aya::{Ebpf, EbpfError, EbpfLoader, programs::BtfTracePoint};
use std::path::PathBuf;
use tcptrace_common::{
    config::{CALLS_ALL, CALLS_FAILED, CALLS_OFF, Config},
    layout::{ABSENT, Offsets, Record},
};

/// Default size of the ring buffer in bytes.
pub const DEFAULT_RING_BYTES: u32 = 8 << 20;
/// The smallest ring there is: one page, as the kernel's.
pub const MIN_RING_BYTES: u32 = 4096;

/// Which ways of attaching may be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum HookChoice {
    /// The best that works, hook by hook.
    #[default]
    Auto,
    /// Only tp_btf.
    Btf,
    /// Only raw tracepoints.
    Raw,
    /// Only classic tracepoints.
    Classic,
}

impl HookChoice {
    /// The ways that may be tried, best first.
    const fn ways(self) -> &'static [Way] {
        match self {
            Self::Auto => &[Way::Btf, Way::Raw, Way::Classic],
            Self::Btf => &[Way::Btf],
            Self::Raw => &[Way::Raw],
            Self::Classic => &[Way::Classic],
        }
    }
}

/// What retransmissions are learnt from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum RetransmitChoice {
    /// The tracepoint, and the function probe beside it where the kernel has kprobes.
    #[default]
    Auto,
    /// Only the function probe: attempts, without tail loss probes.
    Kprobe,
    /// Only the tracepoint.
    Tracepoint,
}

/// What to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Ways of attaching.
    pub hooks: HookChoice,
    /// Source of retransmissions.
    pub retransmit: RetransmitChoice,
    /// Size of the ring in bytes: a power of two, at least [`MIN_RING_BYTES`].
    pub ring_bytes: u32,
    /// The kernel's type information; `None`: pretend that there is none.
    pub btf: Option<PathBuf>,
    /// What to let through.
    pub filter: FilterSpec,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            hooks: HookChoice::Auto,
            retransmit: RetransmitChoice::Auto,
            ring_bytes: DEFAULT_RING_BYTES,
            btf: Some(PathBuf::from(KERNEL_BTF)),
            filter: FilterSpec::default(),
        }
    }
}

/// Programs in the kernel, and what is known about them. Dropping it detaches them all.
pub struct Loaded {
    /// Programs, links and maps.
    pub ebpf: Ebpf,
    /// What became of each hook.
    pub outcomes: Vec<Outcome>,
    /// The state programs make a cookie at a socket's first event, so it identifies the flow.
    pub cookies: bool,
    /// Records go into our own ring.
    pub(super) own_ring: bool,
    /// `enum sk_rst_reason` of this kernel; empty where it has none.
    pub reset_reasons: Vec<(u32, String)>,
}

/// Loads and attaches.
///
/// # Errors
/// Says what is missing, why, and what to type.
pub fn load(options: &LoadOptions) -> Result<Loaded, StartError> {
    check_machine()?;
    if let Some(path) = options.btf.as_ref().filter(|path| path.as_os_str() != KERNEL_BTF)
        && let Err(error) = Btf::read(path)
    {
        return Err(StartError::Types(format!("--btf {}: {error}", path.display())));
    }
    let machine = Machine::read(options);
    check_filter(&options.filter, &machine)?;
    let by_btf = machine.offsets.is_ok() && matches!(options.hooks, HookChoice::Auto | HookChoice::Btf);
    match attach_all(options, &machine, by_btf) {
        // 5.9 to 5.11 have tp_btf but not the cookie helper: there is no way to ask but to try.
        result if by_btf && !result.as_ref().is_ok_and(|loaded| loaded.cookies) => {
            drop(result);
            attach_all(options, &machine, false)
        }
        result => result,
    }
}

/// What programs are told that need typed arguments and are loaded without the others; the cookie helper is not among it.
///
/// # Errors
/// As [`load`]; or this kernel's types do not show what the programs read.
pub(super) fn typed_config(options: &LoadOptions) -> Result<Config, StartError> {
    check_machine()?;
    let machine = Machine::read(&LoadOptions { hooks: HookChoice::Btf, ..options.clone() });
    if let Err(why) = &machine.offsets {
        return Err(StartError::Aggregate(why.clone()));
    }
    check_filter(&options.filter, &machine)?;
    Ok(machine.config(options, false, CALLS_OFF))
}

/// Some conditions look at members that only type information leads to: without it they would match nothing.
fn check_filter(filter: &FilterSpec, machine: &Machine) -> Result<(), StartError> {
    let needed = |flag: &'static str, used: bool, there: bool, why: &str| {
        if used && !there { Err(StartError::Filter { flag, why: why.to_owned() }) } else { Ok(()) }
    };
    let none = Offsets::NONE;
    let offsets = machine.offsets.as_ref().unwrap_or(&none);
    let why = match &machine.offsets {
        Ok(_) => "this kernel's types do not show the member it looks at",
        Err(why) => why,
    };
    needed("--netns", !filter.netns.is_empty(), offsets.net_inum != ABSENT, why)?;
    needed("--uid", !filter.uids.is_empty(), offsets.sk_uid != ABSENT, why)?;
    needed(
        "--cgroup",
        !filter.cgroups.is_empty(),
        offsets.kn_id != ABSENT && offsets.sk_cgroup != ABSENT,
        why,
    )?;
    needed("--cgroup", !filter.cgroups.is_empty(), machine.probe_read, LOCKED)
}

impl Loaded {
    /// How the hook with this stem is attached.
    pub fn way_of(&self, stem: &str) -> Option<Way> {
        self.outcomes.iter().find(|outcome| outcome.hook.stem == stem)?.way
    }
}

/// The empty program on the state tracepoint, for comparing costs. Dropping it detaches it.
///
/// # Errors
/// As [`load`].
pub fn load_empty() -> Result<Ebpf, StartError> {
    check_machine()?;
    let unexpected = |why: String| StartError::Unexpected { what: "attaching the empty program".into(), why };
    let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(|error| unexpected(chain(&error)))?;
    let btf = aya::Btf::from_sys_fs().map_err(|error| unexpected(chain(&error)))?;
    let program: Result<&mut BtfTracePoint, String> = program(&mut ebpf, "empty_btf");
    let program = program.map_err(unexpected)?;
    let attached = program.load("inet_sock_set_state", &btf).and_then(|()| program.attach());
    attached.map_err(|error| unexpected(explain(&error)))?;
    Ok(ebpf)
}

pub(super) fn check_machine() -> Result<(), StartError> {
    if OBJECT.is_empty() {
        return Err(StartError::NoPrograms);
    }
    let (release, version) = kernel_version();
    if version.is_some_and(|version| version < (5, 8)) {
        return Err(StartError::OldKernel(release));
    }
    let missing = Privileges::read().missing();
    if !missing.is_empty() {
        return Err(StartError::Capability { missing, command: typed(), setcap: setcap(&tracing()) });
    }
    memlock::raise();
    Ok(())
}

/// What the user typed, as a shell takes it.
pub(crate) fn typed() -> String {
    let words: Vec<_> = std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect();
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// What this kernel offers, read once.
struct Machine {
    offsets: Result<Offsets, String>,
    retransmit_arguments: usize,
    reset_arguments: usize,
    accept_arguments: usize,
    reset_reasons: Vec<(u32, String)>,
    probe_read: bool,
    /// Records of the classic tracepoints in [`TRACEPOINTS`]' order.
    records: Vec<Result<Record, String>>,
}

impl Machine {
    fn read(options: &LoadOptions) -> Self {
        let btf = match &options.btf {
            Some(path) => Btf::read(path).map_err(|error| error.to_string()),
            None => Err("type information is switched off (--btf none)".to_owned()),
        };
        let arguments = |name| btf.as_ref().ok().and_then(|btf| btf.tracepoint_arguments(name)).unwrap_or(2);
        // `inet_csk_accept` takes this structure since 6.10; before, its three members.
        let accept_struct = btf.as_ref().is_ok_and(|btf| btf.member("proto_accept_arg", "flags").is_some());
        let offsets = btf.as_ref().map_err(String::clone).and_then(layout::resolve);
        let wants_classic = options.hooks == HookChoice::Classic
            || (options.hooks == HookChoice::Auto && (offsets.is_err() || tracefs::find().is_some()));
        let tracefs = match tracefs::find() {
            Some(place) => Ok(place),
            None if wants_classic => tracefs::mount_privately(),
            None => Err("tracefs is not mounted".to_owned()),
        };
        let record = |hook: &Hook| match &tracefs {
            Ok(place) => tracefs::record(place, hook.category, hook.target),
            Err(why) => Err(why.clone()),
        };
        Self {
            retransmit_arguments: arguments("tcp_retransmit_skb"),
            reset_arguments: arguments("tcp_send_reset"),
            accept_arguments: if accept_struct { 2 } else { 4 },
            reset_reasons: reset_reasons(btf.as_ref().ok()),
            probe_read: Privileges::read().probe_read(),
            records: TRACEPOINTS.iter().map(record).collect(),
            offsets,
        }
    }

    fn config(&self, options: &LoadOptions, cookie_helper: bool, calls: u8) -> Config {
        let mut config = Config::EMPTY;
        config.offsets = *self.offsets.as_ref().unwrap_or(&Offsets::NONE);
        config.filter = options.filter.switches();
        config.cookie_helper = u8::from(cookie_helper);
        config.tcp_sock_helper = 1;
        config.probe_read = u8::from(self.probe_read);
        config.retransmit_err = u8::from(self.retransmit_arguments > 2);
        config.reset_reason = u8::from(self.reset_arguments > 2);
        config.calls = calls;
        let records = &mut config.records;
        for (hook, record) in TRACEPOINTS.iter().zip(&self.records) {
            let slot = match hook.stem {
                "destroy" => &mut records.destroy_sock,
                "receive_reset" => &mut records.receive_reset,
                "send_reset" => &mut records.send_reset,
                "retransmit" => &mut records.retransmit_skb,
                "synack" => &mut records.retransmit_synack,
                _ => &mut records.set_state,
            };
            *slot = *record.as_ref().unwrap_or(&Record::NONE);
        }
        config
    }
}

/// The kernel's names without their common prefix, in lower case: `tcp-abort-on-close`.
fn reset_reasons(btf: Option<&Btf>) -> Vec<(u32, String)> {
    let names = btf.map(|btf| btf.enum_names("sk_rst_reason")).unwrap_or_default();
    let short =
        |name: String| name.trim_start_matches("SK_RST_REASON_").to_ascii_lowercase().replace('_', "-");
    names.into_iter().map(|(number, name)| (number, short(name))).collect()
}

fn attach_all(options: &LoadOptions, machine: &Machine, cookie_helper: bool) -> Result<Loaded, StartError> {
    let tracepoint = options.retransmit != RetransmitChoice::Kprobe;
    let calls = match (options.retransmit, machine.retransmit_arguments) {
        (RetransmitChoice::Kprobe, _) => CALLS_ALL,
        (RetransmitChoice::Auto, ..=2) => CALLS_FAILED,
        _ => CALLS_OFF,
    };
    let mut config = machine.config(options, cookie_helper, calls);
    // The helper came with the instructions that our own ring needs.
    let ring = Sizes::new(cookie_helper, options.ring_bytes, &mut config);
    let object = object::with(&config)
        .map_err(|why| StartError::Unexpected { what: "reading the kernel programs".into(), why })?;
    let mut ebpf = EbpfLoader::new()
        .map_max_entries("EVENTS", ring.kernel_bytes)
        .map_max_entries("SEGMENTS", ring.segments)
        .map_max_entries("PORTS", if config.filter.ports == 0 { 1 } else { 1 << 16 })
        .load(&object)
        .map_err(|error| maps_error(&error, options.ring_bytes))?;
    fill_filter(&mut ebpf, &options.filter)?;
    start_log(&mut ebpf);

    let types = aya::Btf::from_sys_fs().map_err(|error| chain(&error));
    let mut outcomes = Vec::new();
    for (hook, record) in TRACEPOINTS.iter().zip(&machine.records) {
        let mut outcome = Outcome { hook, way: None, refused: Vec::new() };
        if hook.stem != "retransmit" || tracepoint {
            for &way in options.hooks.ways() {
                let types = types.as_ref();
                match attach(&mut ebpf, hook, way, &machine.offsets, record, types, machine.probe_read) {
                    Ok(()) => {
                        outcome.way = Some(way);
                        break;
                    }
                    Err(why) => outcome.refused.push((way, why)),
                }
            }
        }
        if hook.required && outcome.way.is_none() {
            return Err(no_state_hook(options.hooks, &outcome));
        }
        outcomes.push(outcome);
    }
    if options.retransmit != RetransmitChoice::Tracepoint {
        let calls = attach_calls(&mut ebpf, &machine.offsets, machine.probe_read);
        if options.retransmit == RetransmitChoice::Kprobe
            && let Some((_, why)) = calls.refused.first()
        {
            return Err(StartError::Forced {
                flag: "--retransmit-hook",
                way: "kprobe".into(),
                why: why.clone(),
            });
        }
        outcomes.push(calls);
    }
    if matches!(options.hooks, HookChoice::Auto | HookChoice::Btf) {
        // What they tell is joined with the rest by cookie.
        let usable = match (&types, &machine.offsets, cookie_helper) {
            (Ok(types), Ok(_), true) => Ok(types),
            (Err(why), ..) | (_, Err(why), _) => Err(why.as_str()),
            (.., false) => Err("needs socket cookies (Linux 5.12)"),
        };
        // After the state hook: a request whose child it had missed would look as if it had come to nothing.
        outcomes.extend(attach_probes(&mut ebpf, usable, machine.accept_arguments));
    }
    let by_btf = outcomes.iter().any(|outcome| outcome.hook.stem == "state" && outcome.way == Some(Way::Btf));
    Ok(Loaded {
        ebpf,
        outcomes,
        cookies: by_btf && cookie_helper,
        own_ring: config.own_ring != 0,
        reset_reasons: machine.reset_reasons.clone(),
    })
}

fn no_state_hook(choice: HookChoice, outcome: &Outcome) -> StartError {
    match (choice, outcome.refused.as_slice()) {
        (HookChoice::Btf | HookChoice::Raw | HookChoice::Classic, [(way, why)]) => {
            let way = match way {
                Way::Btf => "btf",
                Way::Raw => "raw",
                _ => "classic",
            };
            StartError::Forced { flag: "--hooks", way: way.into(), why: why.clone() }
        }
        (_, refused) => {
            let reasons = refused.iter().map(|(way, why)| format!("  {way}: {why}"));
            StartError::NoStateHook { reasons: reasons.collect() }
        }
    }
}

/// Debug messages of the programs, where they are compiled in.
fn start_log(_ebpf: &mut Ebpf) {
    #[cfg(feature = "ebpf-log")]
    if let Err(error) = aya_log::EbpfLogger::init(_ebpf) {
        log::warn!("the programs' messages cannot be read: {error}");
    }
}

fn maps_error(error: &EbpfError, ring_bytes: u32) -> StartError {
    match error {
        EbpfError::MapError(_) => {
            StartError::Maps { why: chain(error), advice: memlock::advice(Some(ring_bytes)) }
        }
        _ => StartError::Unexpected { what: "loading the kernel programs".into(), why: chain(error) },
    }
}
