//! What the kernel added up, as the snapshots that the [`Collector`](super::Collector) makes of events: the same families where they
//! mean the same, and none where the kernel's sums cannot tell.

use super::{Looks, OTHER, Own, Shown, snapshot};
use crate::{
    event::{Reason, Segment},
    export::model::*,
    run::report::Resync,
    source::{aggregate::Tells, live::wall_offset_ns, privileges::kernel_version},
};
use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tcptrace_common::{
    aggregate::{Cell, RESENT_DATA, RESENT_FIN, RESENT_SYN, RESENT_SYN_ACK, RESENT_UNKNOWN},
    state::{STATES, TcpState},
};
use tokio::sync::watch;

/// The label of port classes.
const PORT: &str = "port";

/// What the kernel added up until a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sums<'a> {
    /// On the boot-time clock, in nanoseconds.
    pub now_ns: u64,
    /// Of all other ports, then of each of `ports`.
    pub cells: &'a [Cell],
    /// Ports that are kept apart, each with the time since when.
    pub ports: &'a [(u16, u64)],
    /// Times that the kernel skipped a program.
    pub missed: u64,
    /// Sockets by class, as the cells are, and state; `None`: they were not counted.
    pub sockets: Option<&'a [[u64; STATES]]>,
}

/// Publishes sums.
pub struct KernelCollector {
    /// Ports may be kept apart.
    classed: bool,
    /// Where beginnings are kept.
    beginnings: &'static str,
    tells: Tells,
    own: Own,
    looks: Looks,
    dropped: Option<Arc<AtomicU64>>,
    began_ns: u64,
    began_offset_ns: i64,
    out: watch::Sender<Arc<Snapshot>>,
}

impl KernelCollector {
    /// Sums begin at `began_ns` on the boot-time clock. `classed`: ports may be kept apart. The receiver has an
    /// empty snapshot at first.
    pub fn new(
        classed: bool,
        beginnings: &'static str,
        tells: Tells,
        own: Own,
        dropped: Option<Arc<AtomicU64>>,
        began_ns: u64,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (out, snapshots) = watch::channel(Arc::default());
        let began_offset_ns = wall_offset_ns();
        let looks = Looks::default();
        (Self { classed, beginnings, tells, own, looks, dropped, began_ns, began_offset_ns, out }, snapshots)
    }

    /// The kernel was asked for all its sockets.
    pub fn looked(&mut self, now_ns: u64, resync: &Resync) {
        self.looks.looked(now_ns, resync);
    }

    /// Publishes.
    pub fn publish(&self, sums: &Sums<'_>) {
        let snapshot =
            snapshot(self.began_ns, self.began_offset_ns, sums.now_ns, |shown| self.show(sums, shown));
        self.out.send_replace(Arc::new(snapshot));
    }

    fn show(&self, sums: &Sums<'_>, shown: &mut Shown<'_>) {
        shown.add(&BUILD, [env!("CARGO_PKG_VERSION").into(), kernel_version().0.into()], Value::Info);
        shown.add(&AGGREGATION, ["kernel".into(), self.beginnings.into()], Value::Info);
        let names = sums.ports.iter().map(|(port, since_ns)| (Cow::from(port.to_string()), Some(*since_ns)));
        let names = std::iter::once((Cow::from(OTHER), None)).chain(names);
        for (class, ((name, since_ns), cell)) in names.zip(sums.cells).enumerate() {
            let later = since_ns.filter(|since_ns| *since_ns > self.began_ns);
            shown.group(if self.classed { vec![(PORT, name)] } else { Vec::new() }, later);
            self.cell(cell, shown);
            self.sockets(sums.sockets.and_then(|sockets| sockets.get(class)), shown);
        }
        shown.group(Vec::new(), None);
        shown.add(&UNTIMED, [], Value::Count(sums.cells.iter().map(|cell| cell.unkept).sum()));
        self.looks.show(shown);
        shown.add(&LOST, ["missed".into()], Value::Count(sums.missed));
        if let Some(dropped) = &self.dropped {
            shown.add(&PUSHES_DROPPED, [], Value::Count(dropped.load(Ordering::Relaxed)));
        }
        self.own.show(shown);
    }

    fn cell(&self, cell: &Cell, shown: &mut Shown<'_>) {
        // In classes what has not happened is left out, as it is in the groups of events.
        let whole = !self.classed;
        shown.matrix(&TRANSITIONS, &cell.matrix, true);
        for state in TcpState::ALL {
            let number = usize::from(state.number());
            let (Some(counts), Some(sum_ns)) = (cell.dwell.get(number), cell.sum_ns.get(number)) else {
                continue;
            };
            let mut times = Classic { sum_ns: *sum_ns, ..Classic::default() };
            times.counts.copy_from_slice(&counts[..BUCKETS_NS.len() + 1]);
            if times.count() > 0 {
                shown.add(&DWELL, [state.name().into()], Value::Classic(Box::new(times)));
            }
        }
        for segment in Segment::ALL {
            let index = match segment {
                Segment::Syn => RESENT_SYN,
                Segment::SynAck => RESENT_SYN_ACK,
                Segment::Fin => RESENT_FIN,
                Segment::Data => RESENT_DATA,
                Segment::Unknown => RESENT_UNKNOWN,
            };
            let count = cell.resent[index];
            let told = if segment == Segment::SynAck { self.tells.synacks } else { self.tells.resent };
            if told && (whole || count > 0) {
                let labels = [segment.name().into(), Reason::Unknown.name().into()];
                shown.add(&RETRANSMITS, labels, Value::Count(count));
            }
        }
        if self.tells.failed && (whole || cell.failed > 0) {
            shown.add(&FAILED_SENDS, [], Value::Count(cell.failed));
        }
    }

    fn sockets(&self, sockets: Option<&[u64; STATES]>, shown: &mut Shown<'_>) {
        let Some(sockets) = sockets else { return };
        let count = |state: TcpState| sockets.get(usize::from(state.number())).copied().unwrap_or(0);
        for state in TcpState::ALL {
            let count = match state {
                TcpState::Close | TcpState::NewSynRecv => continue,
                // To people both kinds of it are one.
                TcpState::SynRecv => count(state) + count(TcpState::NewSynRecv),
                _ => count(state),
            };
            if count > 0 || !self.classed {
                shown.add(&SOCKETS, [state.name().into()], Value::Number(count as f64));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{openmetrics, strict};

    const BEGAN_NS: u64 = 1_000;
    const ALL: Tells = Tells { resent: true, synacks: true, failed: true };

    fn at(state: TcpState) -> usize {
        usize::from(state.number())
    }

    fn snapshot(classed: bool, tells: Tells, sums: &Sums<'_>) -> Arc<Snapshot> {
        let (collector, snapshots) =
            KernelCollector::new(classed, "table", tells, Own::default(), None, BEGAN_NS);
        collector.publish(sums);
        let snapshot = Arc::clone(&snapshots.borrow());
        strict::read(&openmetrics::text(&snapshot).unwrap()).unwrap();
        snapshot
    }

    fn samples<'a>(snapshot: &'a Snapshot, family: &'static Family) -> &'a [Sample] {
        let found = snapshot.families.iter().find(|(of, _)| std::ptr::eq(*of, family));
        found.map(|(_, samples)| samples.as_slice()).unwrap_or_default()
    }

    fn cell() -> Cell {
        let mut cell = Cell::ZERO;
        cell.matrix[at(TcpState::Established)][at(TcpState::FinWait1)] = 7;
        cell.dwell[at(TcpState::Established)][2] = 5;
        cell.sum_ns[at(TcpState::Established)] = 9_000_000;
        cell.resent[RESENT_FIN] = 3;
        (cell.failed, cell.unkept) = (4, 2);
        cell
    }

    #[test]
    fn without_classes_what_has_not_happened_is_zero() {
        let sockets = [{
            let mut sockets = [0; STATES];
            (sockets[at(TcpState::SynRecv)], sockets[at(TcpState::NewSynRecv)]) = (1, 2);
            sockets
        }];
        let sums = Sums { now_ns: 5_000, cells: &[cell()], ports: &[], missed: 6, sockets: Some(&sockets) };
        let shown = snapshot(false, ALL, &sums);
        assert_eq!(samples(&shown, &RETRANSMITS).len(), Segment::ALL.len());
        let synrecv =
            samples(&shown, &SOCKETS).iter().find(|sample| sample.labels[0].1 == "SYN_RECV").unwrap();
        assert!(matches!(synrecv.value, Value::Number(3.0)), "{synrecv:?}");
        assert_eq!(samples(&shown, &SOCKETS).len(), 10);
        assert!(matches!(samples(&shown, &FAILED_SENDS)[0].value, Value::Count(4)));
        assert!(matches!(samples(&shown, &UNTIMED)[0].value, Value::Count(2)));
        assert!(matches!(samples(&shown, &LOST)[0].value, Value::Count(6)));
        let [transition] = samples(&shown, &TRANSITIONS) else { panic!("one pair") };
        assert_eq!(transition.labels, [("from", "ESTABLISHED".into()), ("to", "FIN_WAIT1".into())]);
        let [dwell] = samples(&shown, &DWELL) else { panic!("one state") };
        let Value::Classic(times) = &dwell.value else { panic!("{dwell:?}") };
        assert_eq!((times.counts[2], times.count(), times.sum_ns), (5, 5, 9_000_000));
    }

    #[test]
    fn what_the_sums_cannot_tell_is_missing() {
        let sums = Sums { now_ns: 5_000, cells: &[Cell::ZERO], ports: &[], missed: 0, sockets: None };
        let shown = snapshot(false, Tells { resent: false, synacks: false, failed: false }, &sums);
        for family in [
            &RETRANSMITS,
            &INFERRED,
            &SOCKETS,
            &FAILED_SENDS,
            &RESETS,
            &CLOSES,
            &STUCK,
            &UNEXPLAINED,
            &EVICTED,
            &FLOWS,
            &GROUPS_OTHER,
        ] {
            assert!(samples(&shown, family).is_empty(), "{}", family.name);
        }
        assert!(samples(&shown, &DWELL).is_empty());
        let shown = snapshot(false, Tells { resent: false, ..ALL }, &sums);
        let [synacks] = samples(&shown, &RETRANSMITS) else { panic!("of requests alone: {shown:?}") };
        assert_eq!(synacks.labels[0], ("segment", "syn-ack".into()));
    }

    #[test]
    fn every_class_has_its_port_and_its_beginning() {
        let cells = [Cell::ZERO, cell(), cell()];
        let ports = [(443, BEGAN_NS), (80, 4_000)];
        let sums = Sums { now_ns: 5_000, cells: &cells, ports: &ports, missed: 0, sockets: None };
        let shown = snapshot(true, ALL, &sums);
        for family in [&TRANSITIONS, &DWELL, &RETRANSMITS, &FAILED_SENDS] {
            let series: Vec<_> = samples(&shown, family)
                .iter()
                .map(|sample| (sample.labels.last().unwrap().clone(), sample.began_unix_ns.is_some()))
                .collect();
            let expected = [((PORT, "443".into()), false), ((PORT, "80".into()), true)];
            assert_eq!(series, expected, "{}: nothing happened in the others", family.name);
        }
        let [untimed] = samples(&shown, &UNTIMED) else { panic!("one") };
        assert!(matches!(untimed.value, Value::Count(4)) && untimed.labels.is_empty());
    }
}
