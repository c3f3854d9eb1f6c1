//! The page: verdict first, then the figures, then how they came about and what they do not say.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    accuracy,
    cores::Apart,
    figures::{Spread, mebibytes, number, size},
    kernel::{SUBJECTS, Subject},
    load::{ENDS, LEAST_RESPONSE, REQUEST, TRANSITIONS},
    markdown::{row, table, verdict},
    modes::Mode,
    overhead::Measured,
    rivals,
    targets::{self, KEPT, KEPT_BY_TCPSTATES},
    throughput::MODES,
};

/// The whole page.
pub fn write(measured: &Measured) -> Result<String> {
    let mut page = head(measured);
    verdict(&mut page, &targets::rows(measured)?);
    throughput(&mut page, measured)?;
    larger(&mut page, measured)?;
    rivals(&mut page, measured)?;
    kernel(&mut page, measured)?;
    tracer(&mut page, measured)?;
    accuracy::page::section(&mut page, &measured.accuracy)?;
    method(&mut page, measured)?;
    Ok(page)
}

fn head(measured: &Measured) -> String {
    let cores = measured.cores;
    let apart = match cores.apart {
        Apart::Cores => "two cores",
        Apart::Threads => "two threads of one core, which slow each other down",
        Apart::Same => "the only one, so that the tracer takes its time from the load",
    };
    let on = if cores.apart == Apart::Same {
        format!("load and tracer on processor {}: {apart}", cores.load)
    } else {
        format!("load on processor {}, tracer on processor {}: {apart}", cores.load, cores.tracer)
    };
    format!(
        "# What tcptrace costs\n\n\
         Written by `{}`. Run it again instead of editing this page.\n\n\
         - measured: {}, {}, on {}\n\
         - machine: {}\n\
         - {on}\n\n\
         Every figure is the median of {} rounds, with the smallest and the largest behind it.\n",
        measured.command, measured.version, measured.commit, measured.date, measured.machine, measured.rounds,
    )
}

fn throughput(page: &mut String, measured: &Measured) -> Result<()> {
    let figures = &measured.throughput;
    let header = ["beside the load", "connections/s", "kept", "kept by the clock", "longer by, a transition"];
    table(page, "Throughput, where connections do nothing but open and close", &header);
    let alone = Spread::of(figures.untraced.iter().copied())?;
    row(page, &["nothing", &alone.show(0, ""), "", "", ""]);
    for mode in MODES.into_iter().chain(figures.rivals()) {
        let rate = Spread::of(figures.of(mode).map(|run| run.rate))?.show(0, "");
        let kept = Spread::of(figures.of(mode).map(|run| run.kept * 100.0))?.show(1, "%");
        let clock = Spread::of(figures.of(mode).map(|run| run.kept_by_the_clock * 100.0))?.show(1, "%");
        let added = Spread::of(figures.of(mode).map(|run| run.added_ns))?.show(0, "ns");
        row(page, &[mode.name(), &rate, &kept, &clock, &added]);
    }
    let waited = Spread::of(figures.waited.iter().map(|share| share * 100.0))?.show(1, "%");
    let waits = match measured.cores.apart {
        // Whoever is driven from the tracer's processor goes to the load's: left in, that would count as tcptrace's.
        Apart::Cores | Apart::Threads => {
            "One or two percent is the kernel cleaning up after the load, the rest other processes' and the host's doing: \
             only the figures by the clock have it in."
        }
        Apart::Same => "They are mostly the tracer's doing, so every figure has them in.",
    };
    let connection_ns = 1e9 / alone.median;
    let budget_ns = connection_ns * (1.0 / KEPT - 1.0) / TRANSITIONS as f64;
    let _ = write!(
        page,
        "\nThis is the worst case. A connection takes {} µs here, with {TRANSITIONS} transitions, so {} % of the \
         throughput allows {} ns for each of them, all told: no tracer that takes a clock and writes a record can \
         reach it.\n\n\
         How quiet the machine was: of its time, the load waited {waited} for its processor. {waits}\n",
        number(connection_ns / 1e3, 1),
        number(KEPT * 100.0, 0),
        number(budget_ns, 0),
    );
    Ok(())
}

/// Other tools in the same rounds.
fn rivals(page: &mut String, measured: &Measured) -> Result<()> {
    let header = [
        "beside the load",
        "kept",
        "longer by, a transition",
        "in its programs, a transition",
        "CPU time, 1M connections",
        "lines printed, of those owed",
        "says it lost",
    ];
    table(page, "Beside other tools", &header);
    let figures = &measured.throughput;
    let ours = [Mode::Json, Mode::Text, Mode::Summary, Mode::Export, Mode::Sums];
    for mode in ours.into_iter().chain(figures.rivals()) {
        let kept = Spread::of(figures.of(mode).map(|run| run.kept * 100.0))?.show(1, "%");
        let added = Spread::of(figures.of(mode).map(|run| run.added_ns))?.show(0, "ns");
        let kernel = Spread::of(measured.kernel.of(Subject::of(mode)).map(|cost| cost.all_ns))?.show(0, "ns");
        let cpu = Spread::of(figures.taken(mode).map(|taken| taken.cpu_connections))?.show(1, "s");
        let printed = Spread::of(figures.taken(mode).filter_map(|taken| taken.printed));
        let printed = printed.map_or_else(|_| "prints none".to_owned(), share_of);
        let lost = Spread::of(figures.taken(mode).map(|taken| taken.lost as f64))?.show(0, "");
        row(page, &[mode.name(), &kept, &added, &kernel, &cpu, &printed, &lost]);
    }
    let _ = write!(
        page,
        "\nIn the same rounds, all of them. Others' tools print into a file, too; they see the whole machine, and only \
         lines about the load are counted: {TRANSITIONS} for a connection, or {ENDS} of `tcplife`. What they lost stands in \
         their own words beside what is missing. *In its programs* is what the kernel counts (`kernel.bpf_stats_enabled`): \
         for a classic tracepoint, which is what others use, the kernel does more around the program, and to wake a reader \
         for every event costs the load, too: *longer by* has all of it.\n\n"
    );
    for mode in figures.rivals() {
        if let Mode::Rival(rival) = mode {
            let words = rival.arguments().iter().map(|word| shell(word)).collect::<Vec<_>>().join(" ");
            let name = rival.name().split(' ').next().unwrap_or_default().trim_matches('`');
            let _ = writeln!(page, "- {}: `{}`", rival.name(), format!("{name} {words}").trim());
        }
    }
    if !measured.versions.is_empty() {
        let _ = writeln!(
            page,
            "- from Debian's packages, with the libraries they need: {}",
            measured.versions.join(", ")
        );
    }
    rivals::missing(page, &measured.skipped);
    Ok(())
}

/// As a shell wants it.
fn shell(word: &str) -> String {
    if word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
}

/// A share, in percent.
fn share_of(share: Spread) -> String {
    Spread { median: share.median * 100.0, min: share.min * 100.0, max: share.max * 100.0 }.show(2, "%")
}

/// The same beside connections that carry something, as most do.
fn larger(page: &mut String, measured: &Measured) -> Result<()> {
    let header = ["response", "untraced, connections/s", "beside", "kept", "kept by the clock"];
    table(page, "Throughput, where connections carry something", &header);
    for figures in &measured.larger {
        let alone = Spread::of(figures.untraced.iter().copied())?.show(0, "");
        for mode in figures.modes().iter().copied() {
            let kept = Spread::of(figures.of(mode).map(|run| run.kept * 100.0))?.show(1, "%");
            let clock = Spread::of(figures.of(mode).map(|run| run.kept_by_the_clock * 100.0))?.show(1, "%");
            row(page, &[&size(figures.response), &alone, mode.name(), &kept, &clock]);
        }
    }
    let _ = write!(
        page,
        "\nThe same load with a larger response; the {TRANSITIONS} transitions of a connection are the same, so what \
         they cost is spread over more work. A real network, TLS, or a program that thinks before it answers spreads \
         it further.\n"
    );
    if measured.larger.iter().any(|figures| figures.rivals().next().is_some()) {
        let _ = write!(
            page,
            "\nThe target, {} %, was set beside a load of which `tcpstates` kept {} %: look for the response where it does.\n",
            number(KEPT * 100.0, 0),
            number(KEPT_BY_TCPSTATES * 100.0, 0),
        );
    }
    Ok(())
}

fn kernel(page: &mut String, measured: &Measured) -> Result<()> {
    let header = ["attached", "state program, a run", "× empty", "all programs, a transition"];
    table(page, "In the kernel", &header);
    let figures = &measured.kernel;
    for subject in SUBJECTS {
        let state = Spread::of(figures.of(subject).map(|cost| cost.state_ns))?.show(0, "ns");
        let times = Spread::of(figures.of(subject).map(|cost| cost.times_empty))?;
        let times = if subject == Subject::Empty { "1".to_owned() } else { times.show(2, "") };
        let all = Spread::of(figures.of(subject).map(|cost| cost.all_ns))?.show(0, "ns");
        row(page, &[subject.name(), &state, &times, &all]);
    }
    let _ = write!(
        page,
        "\nBy the kernel's own count (`kernel.bpf_stats_enabled`). Most of what it says of a program that does nothing \
         is the cost of measuring it. *All programs* adds the end of each socket to its transitions. The \
         kernel's sums (`--aggregate kernel`) have no such end; what the kernel does to free what they keep in a socket is \
         outside of the program: *longer by* has it.\n"
    );
    Ok(())
}

fn tracer(page: &mut String, measured: &Measured) -> Result<()> {
    let header = ["mode", "CPU time, 1M events", "bytes an event", "memory"];
    table(page, "The tracer itself", &header);
    let figures = &measured.throughput;
    for mode in MODES.into_iter().filter(|mode| *mode != Mode::Empty) {
        let cpu = Spread::of(figures.taken(mode).map(|taken| taken.cpu))?.show(2, "s");
        let bytes = Spread::of(figures.taken(mode).map(|taken| taken.bytes))?;
        let memory = Spread::of(figures.taken(mode).map(|taken| mebibytes(taken.memory.now)))?;
        let peak = Spread::of(figures.taken(mode).map(|taken| mebibytes(taken.memory.peak)))?;
        let memory = format!("{} MiB, peak {} MiB", number(memory.median, 1), number(peak.max, 1));
        row(page, &[mode.name(), &cpu, &number(bytes.median, 0), &memory]);
    }
    let _ = write!(
        page,
        "\nAn event is a transition or the judged end of a socket: {} of them for a connection. With the output thrown \
         away, nearly all CPU time is user time: that is how the verdict knows it. Memory is what is resident; the ring \
         buffer, which is mapped, is part of it. `--aggregate kernel` has no ring, and reads the kernel's sums once a second, \
         however many events they are of: the fewer those, the more each costs it.\n",
        super::load::EVENTS
    );
    Ok(())
}

fn method(page: &mut String, measured: &Measured) -> Result<()> {
    let seconds = measured.seconds;
    let loads = measured.larger.iter().chain([&measured.throughput]);
    let connections = number(loads.map(|load| load.connections).sum::<u64>() as f64, 0);
    let _ = write!(
        page,
        "\n## How it is measured\n\n\
         The load is one thread on one processor, in a network namespace of its own: connect, accept, {REQUEST} bytes \
         there, {LEAST_RESPONSE} bytes back or as many as the table says, the client closes, the server closes, again. The kernel's part of it runs on the \
         same processor. There is no TIME_WAIT (`tcp_max_tw_buckets` is 0 there), so that the last connection costs \
         what the first did.\n\n\
         In each round every mode has a stretch of {seconds} s, with an untraced one before and after it; *kept* compares \
         it with these two alone: connections by the time in which the load had its processor, and *by the clock* on the \
         wall. tcptrace traces the load's namespace only (`--netns`), so \
         that its counts can be compared with the load's: {TRANSITIONS} transitions and two ends for each connection, \
         none lost. If one differs, there is no page. {connections} connections were made for this one.\n\n\
         The kernel's measurement makes programs dearer, so it has rounds of its own, and is off in all others.\n\n\
         CPU time is the process's own clock, from its first line to when it has caught up with the ring. The \
         kernel's division into user and system time is not used: it is sampled at ticks, and wrong by tens of percent \
         for a program that works in short bursts.\n\n\
         ## What is not measured\n\n\
         - IPv6, networks other than loopback, retransmissions, resets\n\
         - more than one processor making events at once ([loss.md](loss.md) has that); many open connections at once\n\
         - kernels other than this one, raw and classic tracepoints (`--hooks raw`, `--hooks classic`)\n\
         - output into a pipe or on a terminal, whose reader takes time as well ([latency.md](latency.md))\n"
    );
    Ok(())
}
