//! `cargo sim real`: real processes, sockets and signals.
//!
//! It reads options, shows how it goes, and keeps what is needed to understand a failure.

use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Error, Status, parse, try_file};
use crate::real::schedule::Course;
use crate::real::{self, Options, Progress, Store, Verdict, Watcher, room};
use crate::report::progress::Show;
use crate::report::style::{Ink, Style, bar, grouped, lasting};

/// Starts real servers, asks them things, kills, stops, cuts and fills them, and judges what they
/// answered.
///
/// The seed says what is asked and what goes wrong; when exactly things meet is up to the machine.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo sim real                          half a minute of everything
  cargo sim real --time 10m --nodes 5     ten minutes with five nodes
  cargo sim real --crash 400              kill -9 four hundred times, find every write
  cargo sim real --failovers 100          kill -9 the primary of a table a hundred times
  cargo sim real --measure                what users wait for when something dies

kill -9 loses a process, not what it has written and not synced: that a sync is waited for is shown
by `cargo sim run` and by the tests of storage.")]
pub struct RealArgs {
    /// For how long things go wrong, at most: 10s, 5m [default: 30s]
    #[arg(long, value_name = "DUR", allow_hyphen_values = true, value_parser = parse::duration)]
    time: Option<Duration>,
    /// What is asked and what goes wrong; drawn if not given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// How many clients, besides owners of sessions, of whom there is one for each four, and
    /// clients of the primary table, one for each two
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    clients: u32,
    /// Where nodes keep their state
    #[arg(long, value_name = "STORE", value_enum, default_value_t = Store::Log)]
    store: Store,
    /// How long a node may be silent before it counts as gone, such as 500ms; heartbeats come eight
    /// times as often [default: the server's own, 2s]
    #[arg(long, value_name = "DUR", allow_hyphen_values = true, value_parser = parse::duration)]
    down: Option<Duration>,
    /// Put each node into a network namespace of its own, where that is permitted
    #[arg(long)]
    netns: bool,
    /// Only kill -9, at random moments, until so many processes have been
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["time", "measure"])]
    crash: Option<u64>,
    /// Only kill -9 whoever is primary of the primary table, until so many have been, and measure
    /// how long it is until a write is acknowledged again; only that table is asked
    #[arg(
        long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
        conflicts_with_all = ["time", "measure", "crash"]
    )]
    failovers: Option<u64>,
    /// Only kill -9 now and then, and measure what it costs
    #[arg(long)]
    measure: bool,
    /// Run this server instead of the one that is built from these sources
    #[arg(long, value_name = "BINARY")]
    server: Option<PathBuf>,
    /// Keep logs, history and state in this folder, whatever comes of it
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write the result to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// When to show progress
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Show::Auto)]
    progress: Show,
}

const TIME: Duration = Duration::from_secs(30);
/// Long enough for a dozen kills with quiet between them.
const TIME_TO_MEASURE: Duration = Duration::from_secs(90);

impl RealArgs {
    fn course(&self) -> Course {
        match (self.crash, self.failovers, self.measure) {
            (Some(_), ..) => Course::Crash,
            (None, Some(_), _) => Course::Failover,
            (None, None, true) => Course::Measure,
            (None, None, false) => Course::Mixed,
        }
    }

    fn options(&self, folder: PathBuf, inside: room::Inside) -> Options {
        let default = if self.measure { TIME_TO_MEASURE } else { TIME };
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Options {
            seed: self
                .seed
                .unwrap_or_else(|| clock.unwrap_or_default().as_millis() as u64 % 1_000_000),
            nodes: self.nodes,
            clients: self.clients,
            store: self.store,
            down: self.down,
            course: self.course(),
            time: self.time.unwrap_or(default),
            kills: self.crash.or(self.failovers),
            inside,
            spaces: self.netns,
            folder,
        }
    }
}

/// Runs it.
///
/// # Errors
/// When it cannot be begun, or nobody reads the output.
pub fn run(args: &RealArgs, out: &mut dyn Write) -> Result<Status, Error> {
    if let Some(path) = &args.json {
        try_file(path)?;
    }
    if args.failovers.is_some() && (args.store == Store::Memory || args.nodes < 3) {
        return Err(Error::usage(
            "--failovers needs three nodes at least, whose state outlives them: not --store memory",
        ));
    }
    // Starts this program again, if it can: what is above is done twice.
    let server = || match &args.server {
        None => real::program(args.store),
        Some(server) => fs::canonicalize(server)
            .map_err(|error| format!("--server: {}: {error}", server.display())),
    };
    let (inside, program) = room::enter(args.netns, server).map_err(Error::usage)?;
    let folder = match &args.keep {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir().join(format!("synod-real-{}", std::process::id())),
    };
    let occupied = fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(Error::usage(format!(
            "{}: there is something in it; name a folder that is new or empty",
            folder.display()
        )));
    }
    fs::create_dir_all(&folder).map_err(|error| Error::file(&folder, &error))?;
    let stopped = super::run::on_interrupt()?;
    let options = args.options(folder.clone(), inside);
    let mut watching = Watching::new(args.progress);
    watching.say(&format!("seed {}; logs and history in {}", options.seed, folder.display()));
    let begin = Instant::now();
    let result = real::run(&options, &program, &stopped, &mut watching);
    watching.finish();
    let kept = real::keep(&folder);
    let mut report = match result {
        Ok(report) => report,
        Err(why) => {
            let _ = fs::remove_dir_all(&folder);
            return Err(Error::usage(why));
        }
    };
    report.seconds = begin.elapsed().as_secs_f64();
    report.show(Style::of_stdout(), out)?;
    let verdict = report.verdict();
    let well = matches!(verdict, Verdict::Linearizable | Verdict::Interrupted);
    if well && args.keep.is_none() {
        let _ = fs::remove_dir_all(&folder);
    } else {
        writeln!(out, "  logs, history and state are kept in {}", folder.display())?;
        kept.map_err(|error| Error::file(&folder, &error))?;
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report).map_err(Error::usage)?;
        fs::write(path, text + "\n").map_err(|error| Error::file(path, &error))?;
    }
    Ok(match verdict {
        Verdict::Interrupted => Status::Interrupted,
        Verdict::Linearizable => Status::Fine,
        Verdict::NoProgress => Status::NoProgress,
        Verdict::Unknown => Status::Unknown,
        Verdict::Violation => Status::Violation,
    })
}

/// Shows how a run goes, on standard error.
struct Watching {
    bar: Option<ProgressBar>,
    lines: bool,
    next: Duration,
}

impl Watching {
    fn new(show: Show) -> Self {
        let live = show == Show::Auto && io::stderr().is_terminal();
        let bar = live.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        Self { bar, lines: !live && show != Show::Never, next: Duration::ZERO }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn words(state: &Progress) -> String {
    let counts = &state.counts;
    format!(
        "{}   {} operations, {} unknown   killed {}, stopped {}, cut {}, full {}",
        lasting(state.elapsed),
        grouped(state.operations),
        grouped(state.unknown),
        counts.kills,
        counts.pauses,
        counts.cuts + counts.resets,
        counts.fulls,
    )
}

impl Watcher for Watching {
    fn say(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if self.lines => {
                let _ = writeln!(io::stderr(), "{text}");
            }
            None => {}
        }
    }

    fn tick(&mut self, state: &Progress) {
        if state.elapsed < self.next {
            return;
        }
        if let Some(live) = &self.bar {
            let style = Style::of_stdout();
            let picture = bar(state.thousandths, 1_000, 40);
            live.set_message(format!(
                "{}  {}\n  {}",
                style.paint(Ink::Good, format!("▕{picture:<40}▏")),
                words(state),
                style.paint(Ink::Warn, state.troubles.join("   ")),
            ));
            live.tick();
            self.next = state.elapsed + Duration::from_millis(100);
        } else if self.lines {
            if !state.elapsed.is_zero() && self.next > Duration::ZERO {
                let _ = writeln!(io::stderr(), "{}", words(state));
            }
            self.next = state.elapsed + Duration::from_secs(10);
        }
    }
}
