//! What was to be reached, beside what was.

use anyhow::Result;

use super::{
    figures::{Spread, number, size},
    kernel::Subject,
    markdown::{Reached, Row},
    modes::Mode,
    overhead::Measured,
};

/// Nanoseconds of the state program.
const KERNEL_NS: f64 = 250.0;
/// The same in runs of a program that does nothing.
const TIMES_EMPTY: f64 = 3.5;
/// Share of the throughput,
pub const KEPT: f64 = 0.98;
/// set beside a load of which `tcpstates` kept this share.
pub const KEPT_BY_TCPSTATES: f64 = 0.46;
/// Seconds of user CPU time per million events.
const USER_SECONDS: f64 = 0.5;
/// Milliseconds.
const START_UP_MS: f64 = 150.0;
/// Share of a core.
const IDLE: f64 = 0.001;

/// All rows.
pub fn rows(measured: &Measured) -> Result<Vec<Row>> {
    let (kernel, throughput) = (&measured.kernel, &measured.throughput);
    let state = Spread::of(kernel.of(Subject::Everything).map(|cost| cost.state_ns))?;
    let times_empty = Spread::of(kernel.of(Subject::Everything).map(|cost| cost.times_empty))?;
    let runs = measured.larger.iter().chain([throughput]).flat_map(|throughput| &throughput.runs);
    let ours = runs.filter(|run| !matches!(run.mode, Mode::Rival(_)));
    let lost: u64 = ours.filter_map(|run| run.taken.as_ref()).map(|taken| taken.lost).sum();
    let user = Spread::of(throughput.taken(Mode::Nowhere).map(|taken| taken.cpu))?;
    let start_up = Spread::of(throughput.of(Mode::Json).map(|run| run.start_up.as_secs_f64() * 1e3))?;
    let idle = measured.idle;
    let mut rows = vec![
        Row {
            what: "kernel: one transition, all details".to_owned(),
            measured: state.show(0, "ns"),
            target: format!("≤ {KERNEL_NS} ns"),
            reached: (state.median <= KERNEL_NS).into(),
        },
        Row {
            what: "kernel: as a multiple of a program that does nothing".to_owned(),
            measured: times_empty.show(2, "×"),
            target: format!("≤ {TIMES_EMPTY} ×"),
            reached: (times_empty.median <= TIMES_EMPTY).into(),
        },
        Row {
            what: "events lost, ring of the default size".to_owned(),
            measured: number(lost as f64, 0),
            target: "0".to_owned(),
            reached: (lost == 0).into(),
        },
        Row {
            what: "user CPU time per million events, as JSON".to_owned(),
            measured: user.show(2, "s"),
            target: format!("≤ {USER_SECONDS} s"),
            reached: (user.median <= USER_SECONDS).into(),
        },
        Row {
            what: "from its start to its first line".to_owned(),
            measured: start_up.show(0, "ms"),
            target: format!("≤ {START_UP_MS} ms"),
            reached: (start_up.median <= START_UP_MS).into(),
        },
        Row {
            what: "CPU of a tracer that sees nothing".to_owned(),
            measured: format!("{:.2} %", idle * 100.0),
            target: format!("≤ {} %", IDLE * 100.0),
            reached: (idle <= IDLE).into(),
        },
    ];
    for throughput in [throughput].into_iter().chain(&measured.larger) {
        let kept = Spread::of(throughput.of(Mode::Json).map(|run| run.kept * 100.0))?;
        rows.push(Row {
            what: format!(
                "throughput kept beside `watch --format json`, responses of {}",
                size(throughput.response)
            ),
            measured: kept.show(1, "%"),
            target: format!("≥ {} %", KEPT * 100.0),
            reached: kept_enough(&kept),
        });
    }
    Ok(rows)
}

/// Two percent are to be judged: rounds that differ by more than twice that, on both sides of the target and not far from
/// it, do not tell.
fn kept_enough(percent: &Spread) -> Reached {
    let target = KEPT * 100.0;
    let range = percent.max - percent.min;
    let near = (percent.median - target).abs() < range / 2.0;
    if near && range > 2.0 * (100.0 - target) && percent.straddles(target) {
        Reached::Unclear
    } else {
        (percent.median >= target).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_no_verdict() {
        let spread = |min, median, max| Spread { median, min, max };
        assert!(matches!(kept_enough(&spread(86.4, 101.0, 110.7)), Reached::Unclear));
        assert!(matches!(kept_enough(&spread(97.5, 98.1, 99.0)), Reached::Yes));
        assert!(matches!(kept_enough(&spread(92.0, 93.7, 95.1)), Reached::No));
        assert!(matches!(kept_enough(&spread(90.0, 92.0, 98.1)), Reached::No));
        assert!(matches!(kept_enough(&spread(99.0, 101.0, 108.0)), Reached::Yes));
    }
}
