//! The source that tells no events: kernel programs that add up, and what they have added up.

use super::{
    attach::{chain, explain, program, take_map},
    filter_maps::fill_filter,
    hooks::{Hook, Outcome, TRACEPOINTS, Way},
    live::missed,
    load::{LoadOptions, typed_config},
    memlock, object,
    privileges::kernel_version,
};
use crate::error::StartError;
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray},
    programs::{BtfTracePoint, ProgramError},
};
use tcptrace_common::{
    aggregate::{Cell, MOST_CLASSES, OTHER_CLASS},
    config::Config,
};

/// Port classes there can be beside the one of all other ports.
pub const MOST_PORTS: usize = MOST_CLASSES - 1;

/// Sockets whose beginnings are kept where the kernel has no storage in sockets: some 25 MB, allocated at once.
pub(super) const TABLE_ENTRIES: u32 = 262_144;

/// The programs, and the stem of the hook that each hangs on. State changes come last, as everywhere.
const PROGRAMS: [(&str, &str); 3] =
    [("aggregate_synack", "synack"), ("aggregate_resent", "retransmit"), ("aggregate_btf", "state")];

/// Where the beginning of a socket's state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginnings {
    /// In the socket itself: as many as there are sockets.
    Socket,
    /// In a table beside them, and why.
    Table(String),
}

impl Beginnings {
    /// The words users see.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Socket => "socket storage",
            Self::Table(_) => "table",
        }
    }
}

/// Why the kernel lets programs use the storage in sockets, and never makes any: since 6.19 (f484f4a3e058) it allocates it by
/// kmalloc_nolock, which fails where the processor has no `cmpxchg16b`. Those that lack it are emulated ones.
fn storage_never_has_room() -> Option<String> {
    #[cfg(target_arch = "x86_64")]
    if kernel_version().1.is_some_and(|version| version >= (6, 19))
        && !std::arch::is_x86_feature_detected!("cmpxchg16b")
    {
        return Some(
            "this processor has no cmpxchg16b, which Linux 6.19 needs for socket storage".to_owned(),
        );
    }
    None
}

/// Programs that add up. Dropping it detaches them.
pub struct Aggregate {
    ebpf: Ebpf,
    cells: PerCpuArray<MapData, Cell>,
    /// `None`: there are no classes.
    classes: Option<Array<MapData, u8>>,
    ports: Vec<u16>,
    most: usize,
    /// Where beginnings are kept.
    pub beginnings: Beginnings,
    /// What became of each hook.
    pub outcomes: Vec<Outcome>,
    /// The retransmission hook tells whether a segment could leave.
    failures: bool,
}

/// What the attached programs tell of segments; of the rest there are no numbers, not even 0.
#[derive(Clone, Copy, Debug)]
pub struct Tells {
    /// Segments that were sent again.
    pub resent: bool,
    /// SYN-ACKs of half-open requests that were.
    pub synacks: bool,
    /// Segments that could not leave.
    pub failed: bool,
}

impl Aggregate {
    /// Loads and attaches. At most `most` ports get a class of their own; `None`: none will.
    ///
    /// # Errors
    /// Says what is missing, why, and what to type.
    pub fn start(options: &LoadOptions, most: Option<usize>) -> Result<Self, StartError> {
        let mut aggregate = Self::load(options, most)?;
        aggregate.attach()?;
        Ok(aggregate)
    }

    /// The same as on kernels that have no storage in sockets.
    ///
    /// # Errors
    /// As [`Aggregate::start`].
    pub fn start_with_table(options: &LoadOptions, most: Option<usize>) -> Result<Self, StartError> {
        let beginnings = Beginnings::Table("not asked for".to_owned());
        let mut aggregate = Self::load_with(typed_config(options)?, options, most, beginnings)?;
        aggregate.attach()?;
        Ok(aggregate)
    }

    /// As [`Aggregate::start`] without attaching: whether this kernel takes the programs.
    ///
    /// # Errors
    /// As [`Aggregate::start`].
    pub fn load(options: &LoadOptions, most: Option<usize>) -> Result<Self, StartError> {
        let config = typed_config(options)?;
        let most = most.map(|most| most.min(MOST_PORTS));
        let in_table = |why| {
            Self::load_with(Config { socket_storage: 0, ..config }, options, most, Beginnings::Table(why))
        };
        if let Some(why) = storage_never_has_room() {
            return in_table(why);
        }
        // There is no way to ask whether tracing programs may use the storage but to try.
        let in_sockets =
            Self::load_with(Config { socket_storage: 1, ..config }, options, most, Beginnings::Socket);
        match in_sockets {
            Err(StartError::Aggregate(why)) => in_table(why),
            result => result,
        }
    }

    fn load_with(
        config: Config,
        options: &LoadOptions,
        most: Option<usize>,
        beginnings: Beginnings,
    ) -> Result<Self, StartError> {
        let table = if beginnings == Beginnings::Socket { 1 } else { TABLE_ENTRIES };
        let unexpected = |what: &str, why: String| StartError::Unexpected { what: what.into(), why };
        let object = object::with(&config).map_err(|why| unexpected("reading the kernel programs", why))?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("CALLS", 1)
            .map_max_entries("PORTS", if config.filter.ports == 0 { 1 } else { 1 << 16 })
            .map_max_entries("PORT_CLASSES", if most.is_none() { 1 } else { 1 << 16 })
            .map_max_entries("CELLS", most.map_or(1, |most| most as u32 + 1))
            .map_max_entries("BEGINNINGS", table)
            .load(&object)
            .map_err(|error| StartError::Maps { why: chain(&error), advice: memlock::advice(None) })?;
        fill_filter(&mut ebpf, &options.filter)?;
        let types = aya::Btf::from_sys_fs().map_err(|error| StartError::Aggregate(chain(&error)))?;
        let mut outcomes = Vec::new();
        for (name, stem) in PROGRAMS {
            let Some(hook) = TRACEPOINTS.iter().find(|hook| hook.stem == stem) else { continue };
            let loaded = load_program(&mut ebpf, name, hook, &types);
            if let (true, Err(why)) = (hook.required, &loaded) {
                return Err(StartError::Aggregate(why.clone()));
            }
            let refused = loaded.err().map(|why| (Way::Btf, why));
            let way = refused.is_none().then_some(Way::Btf);
            outcomes.push(Outcome { hook, way, refused: refused.into_iter().collect() });
        }
        Ok(Self {
            cells: take_map(&mut ebpf, "CELLS")?,
            classes: most.map(|_| take_map(&mut ebpf, "PORT_CLASSES")).transpose()?,
            ports: Vec::new(),
            most: most.unwrap_or(0),
            beginnings,
            outcomes,
            failures: config.retransmit_err != 0,
            ebpf,
        })
    }

    fn attach(&mut self) -> Result<(), StartError> {
        for ((name, _), outcome) in
            PROGRAMS.iter().zip(&mut self.outcomes).filter(|(_, outcome)| outcome.way.is_some())
        {
            let attached = program(&mut self.ebpf, name)
                .and_then(|program: &mut BtfTracePoint| program.attach().map_err(|error| explain(&error)));
            if let Err(why) = attached {
                if outcome.hook.required {
                    return Err(StartError::Aggregate(why));
                }
                outcome.way = None;
                outcome.refused.push((Way::Btf, why));
            }
        }
        Ok(())
    }

    /// What they tell of segments.
    pub fn tells(&self) -> Tells {
        let attached = |stem: &str| self.outcomes.iter().any(|it| it.hook.stem == stem && it.way.is_some());
        let resent = attached("retransmit");
        Tells { resent, synacks: attached("synack"), failed: resent && self.failures }
    }

    /// The programs.
    pub fn ebpf(&self) -> &Ebpf {
        &self.ebpf
    }

    /// Gives a port a class of its own from now on, if it has none and there is room.
    pub fn keep_apart(&mut self, port: u16) {
        let Some(classes) = &mut self.classes else { return };
        if port == 0 || self.ports.len() >= self.most || self.ports.contains(&port) {
            return;
        }
        let Ok(class) = u8::try_from(self.ports.len() + 1) else { return };
        match classes.set(u32::from(port), class, 0) {
            Ok(()) => self.ports.push(port),
            Err(error) => log::warn!("port {port} cannot be counted apart: {}", chain(&error)),
        }
    }

    /// Ports that have a class, in the order of their classes: the first has class 1.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// What was added up of each class, all CPUs together: of [`OTHER_CLASS`], then of each of [`Aggregate::ports`].
    pub fn read(&self) -> Vec<Cell> {
        let classes = u32::from(OTHER_CLASS)..=self.ports.len() as u32;
        classes.map(|class| self.cell(class)).collect()
    }

    fn cell(&self, class: u32) -> Cell {
        let mut sum = Cell::ZERO;
        match self.cells.get(&class, 0) {
            Ok(each) => each.iter().for_each(|cpu| sum.add(cpu)),
            Err(error) => log::warn!("the kernel's sums cannot be read: {}", chain(&error)),
        }
        sum
    }

    /// As [`Live::missed`](super::live::Live::missed).
    pub fn missed(&self) -> u64 {
        missed(&self.ebpf)
    }
}

fn load_program(ebpf: &mut Ebpf, name: &str, hook: &Hook, types: &aya::Btf) -> Result<(), String> {
    let program: &mut BtfTracePoint = program(ebpf, name)?;
    program.load(hook.target, types).map_err(|error: ProgramError| explain(&error))
}
