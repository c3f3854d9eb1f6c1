//! `tcptrace kill`: ends chosen sockets; shows them first, and looks at each again before it is ended.

mod audit;
mod choose;
mod output;

use super::{
    filter_args::{FilterArgs, named},
    trace::Format,
};
use crate::{
    cli,
    event::TcpState,
    kill::{Kernel, Killer, Outcome, Tally},
    sight::Sight,
    source::{
        load::typed,
        netns::Namespace,
        privileges::{Capability, Privileges, setcap},
        sockdiag::{Destroyed, SockDiag},
    },
    tell,
    view::{ColorChoice, kill::sockets},
};
use anyhow::{Context, bail};
use audit::Audit;
use choose::{Choice, Wanted, Where};
use hashbrown::HashMap;
use output::Output;
use std::{path::PathBuf, time::Duration};

/// Arguments of `kill`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Without --yes nothing is done: the sockets are shown, oldest first. With it each is looked at again by its cookie just \
before; if it is in another state by then, or not as old as asked for, it is left alone. Ages are lower bounds: what \
nothing proves to be old is not. Listeners are only killed with --state listen.

What the peer sees: RST, if the socket was in ESTABLISHED, CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2 or (both ends connected) \
SYN_RECV; connections that a killed listener had not handed out are reset too. Otherwise nothing: SYN_SENT, LAST_ACK, \
CLOSING, half-open requests and minisockets (TIME_WAIT, most orphans in FIN_WAIT2) just vanish. A program that still has the socket gets \
ECONNABORTED.

Every result goes to syslog (authpriv); with --audit also to a file, which must have recorded the intention before the \
first socket is touched. docs/kill.md has the details.

Exit codes: 0 shown, or done as asked (a socket that was gone already or had changed is no failure); \
2 a socket that should have been killed was not, or nothing could be done.

Examples:
  tcptrace kill --state fin-wait-1 --older-than 5m --port 10000
  sudo tcptrace kill --state fin-wait-1 --older-than 5m --port 10000 --yes
  sudo tcptrace kill --flow 4711 --yes
  sudo tcptrace kill --state close-wait --uid www-data --audit /var/log/killed --yes")]
pub struct Args {
    /// Kill them; without it they are only shown
    #[arg(long)]
    yes: bool,
    /// Only sockets that are proved to be in their state for so long: 5m, 90s, 1h 30m
    #[arg(long, value_parser = cli::duration, value_name = "TIME", allow_hyphen_values = true, help_heading = "Filter")]
    older_than: Option<Duration>,
    /// Cookie of a socket: a number, or hexadecimal as in `ss -e`: sk:1a2b, 0x1a2b
    #[arg(long, value_parser = cli::cookie, value_name = "COOKIE", value_delimiter = ',', help_heading = "Filter")]
    flow: Vec<u64>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Network namespace, instead of this one: a name of `ip netns`, a pid, a file, or net:[number]
    #[arg(long, value_name = "NETNS", help_heading = "Filter")]
    netns: Vec<String>,
    /// Every network namespace that can be found
    #[arg(long, conflicts_with = "netns", help_heading = "Filter")]
    all_netns: bool,
    /// Kill none if there are more than this
    #[arg(long, default_value_t = 1000, value_parser = |text: &str| cli::some::<usize>(text, "sockets"), value_name = "N", allow_hyphen_values = true)]
    max: usize,
    /// Append what is done to this file, too: who, when, which socket, what came of it
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    audit: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    format: Format,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    color: ColorChoice,
}

/// Shows them, or ends them.
///
/// # Errors
/// What is wrong, why, and what to type; also if a socket that should have been ended was not.
pub fn run(args: Args) -> anyhow::Result<()> {
    let wanted = wanted(&args)?;
    // A file that cannot be written is known before anything is looked for.
    let audit = if args.yes { Some(Audit::open(args.audit.as_deref())?) } else { None };
    let mut choice = wanted.choose(places(&args)?, args.max)?;
    let mut output = Output::new(args.format, args.color, args.yes, &choice.targets);
    let Some(mut audit) = audit else { return show(&args, &choice, &mut output) };
    if choice.matched > args.max as u64 {
        bail!(
            "{} match, more than --max {}: nothing was killed\n  choose fewer by --older-than, --port, --addr; or \
             type the same with --max {}",
            sockets(choice.matched),
            args.max,
            choice.matched
        );
    }
    audit.intend(output.wall(), &choice.targets).context("nothing was killed")?;
    output.begin()?;
    let diags = Diags(std::mem::take(&mut choice.diags));
    let mut killer = Killer::new(diags, wanted.older_than_ns);
    let mut tally = Tally::default();
    for target in &choice.targets {
        let outcome = killer.kill(target);
        tally.add(&outcome);
        let audited = audit.result(output.wall(), target, &outcome);
        let written = output.socket(target, &outcome);
        // What was done and cannot be told must not go on.
        audited.and(written).with_context(|| stopped(&tally, &choice))?;
    }
    audit.finish().with_context(|| stopped(&tally, &choice))?;
    output.end(&choice, &tally)?;
    if let Some(why) = audit.without_syslog().filter(|_| !choice.targets.is_empty()) {
        let instead = if args.audit.is_some() { "" } else { "; --audit FILE keeps a record" };
        tell!("not recorded in syslog: {why}{instead}");
    }
    if tally.failed > 0 {
        let sudo = if Privileges::read().destroys_sockets() {
            String::new()
        } else {
            format!(
                "\n  it needs CAP_NET_ADMIN, which this process does not have; type: sudo {}\n  (or give the file that capability: {})",
                typed(),
                setcap(&[Capability::NetAdmin])
            )
        };
        bail!("{} of {} were not killed{sudo}", tally.failed, sockets(choice.targets.len() as u64));
    }
    Ok(())
}

/// The dry run.
fn show(args: &Args, choice: &Choice, output: &mut Output) -> anyhow::Result<()> {
    output.begin()?;
    for target in &choice.targets {
        output.socket(target, &Outcome::Would)?;
    }
    let sudo = if Privileges::read().destroys_sockets() { "" } else { "sudo " };
    let next = if choice.matched == 0 {
        None
    } else if choice.matched > args.max as u64 {
        Some(format!(
            "{} match, more than --max {}: to kill all of them add --yes --max {}",
            sockets(choice.matched),
            args.max,
            choice.matched
        ))
    } else {
        Some(format!("nothing was killed; to kill {} type: {sudo}{} --yes", sockets(choice.matched), typed()))
    };
    output.end_of_show(choice, next)
}

fn stopped(tally: &Tally, choice: &Choice) -> String {
    let done = tally.killed + tally.gone + tally.changed + tally.failed;
    format!("stopped after {done} of {}, of which {} were killed", sockets(choice.matched), tally.killed)
}

fn wanted(args: &Args) -> anyhow::Result<Wanted> {
    let filter = args.filter.spec()?;
    if filter.states.contains(&TcpState::Close) {
        bail!("--state CLOSE: a socket in CLOSE has no connection that could be ended");
    }
    let older_than_ns = args.older_than.map(|least| u64::try_from(least.as_nanos()).unwrap_or(u64::MAX));
    let wanted = Wanted { filter, flows: args.flow.iter().copied().collect(), older_than_ns };
    if !wanted.is_selection() {
        bail!(
            "which sockets? choose them by --state, --port, --lport, --rport, --addr, --uid, --cgroup or --flow\n  for \
             example: tcptrace kill --state fin-wait-1 --older-than 5m --port 10000"
        );
    }
    Ok(wanted)
}

fn places(args: &Args) -> anyhow::Result<Where> {
    if args.all_netns {
        let all = Namespace::all()?;
        let hidden = (all.hidden > 0).then(|| {
            format!("the namespaces of {} processes could not be seen; there may be more", all.hidden)
        });
        return Ok(Where { namespaces: all.found, leave_out: true, notes: hidden.into_iter().collect() });
    }
    let mut namespaces = named(&args.netns)?;
    if namespaces.is_empty() {
        namespaces.push(Namespace::own()?);
    }
    Ok(Where { namespaces, leave_out: false, notes: Vec::new() })
}

/// The kernel's list, by namespace.
struct Diags(HashMap<u32, SockDiag>);

impl Diags {
    fn of(&mut self, sight: &Sight) -> Result<&mut SockDiag, String> {
        self.0.get_mut(&sight.netns).ok_or_else(|| "its network namespace is not open".to_owned())
    }
}

impl Kernel for Diags {
    fn look(&mut self, sight: &Sight) -> Result<Option<Sight>, String> {
        self.of(sight)?.look(&sight.ends, sight.cookie).map_err(|error| error.to_string())
    }

    fn destroy(&mut self, sight: &Sight) -> Result<Destroyed, String> {
        self.of(sight)?.destroy(sight).map_err(|error| error.to_string())
    }
}
