//! The command line: what is typed, what it runs, and the exit status that says how it went.
//!
//! Must never know: how a run is made or judged. It reads options, calls, and prints.

mod aftermath;
pub mod check;
pub mod generate;
pub mod parse;
pub mod plans;
pub mod real;
mod rigs;
pub mod run;
pub mod zoo;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::rig::Rig;

/// How a command went, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 0: all is well.
    Fine,
    /// 1: a rule was violated.
    Violation,
    /// 2: it could not be done as asked: an option, a file, a plan.
    Usage,
    /// 3: what had to make progress did not.
    NoProgress,
    /// 4: a run's history could not be judged within its budget.
    Unknown,
    /// 101: the engine panicked.
    Crash,
    /// 130: stopped by Ctrl-C, and nothing wrong until then.
    Interrupted,
}

impl Status {
    /// The exit status.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Violation => 1,
            Self::Usage => 2,
            Self::NoProgress => 3,
            Self::Unknown => 4,
            Self::Crash => 101,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command could not be carried out.
#[derive(Debug)]
pub enum Error {
    /// Nobody reads the output any more, or it cannot be written.
    Output(io::Error),
    /// What was asked cannot be done: one line that names the place and what to do.
    Usage(String),
}

impl Error {
    /// What was asked cannot be done.
    pub fn usage(why: impl fmt::Display) -> Self {
        Self::Usage(why.to_string())
    }

    /// A file that cannot be read or written.
    #[must_use]
    pub fn file(path: &Path, error: &io::Error) -> Self {
        let place = path.display();
        let plain = [
            (io::ErrorKind::InvalidData, "this is not text; is it the file you mean?"),
            (io::ErrorKind::IsADirectory, "this is a folder; give a file"),
            (io::ErrorKind::NotFound, "there is no such file or folder"),
        ];
        match plain.iter().find(|(kind, _)| *kind == error.kind()) {
            Some((_, why)) => Self::Usage(format!("{place}: {why}")),
            None => Self::Usage(format!("{place}: {error}")),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Checks synod: simulates clusters under every fault that can be thought of, and judges what
/// clients saw.
///
/// Without a command: about ten seconds of seeded netsplits, crashes and dying owners.
#[derive(Debug, Parser)]
#[command(
    name = "synod-sim",
    bin_name = "cargo sim",
    version,
    after_help = "Exit status:
    0  all is well
    1  a rule was violated
    2  bad usage: an option, a file or a plan
    3  no progress where there had to be
    4  a run whose history could not be judged (unknown)
  101  the engine crashed
  130  stopped by Ctrl-C, nothing wrong until then

Examples:
  cargo sim                                ten seconds of seeds
  cargo sim run --seeds 0..100000          these seeds
  cargo sim run --seed 7                   the story of one seed
  cargo sim run --rig stack                the host as well: links, disks, handshakes
  cargo sim scenarios                      what there is to run
  cargo sim check HISTORY                  judge a recorded history"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Judges recorded histories
    Check(check::CheckArgs),
    /// Makes histories to judge, legal or with a planted violation
    Generate(generate::GenerateArgs),
    #[command(hide = true)]
    Hashes(run::HashesArgs),
    /// Adds up the results of shares of a campaign
    Merge(plans::MergeArgs),
    /// Prints the plan of a seed
    Plan(plans::PlanArgs),
    /// Starts real servers, does them harm, and judges what they answered
    Real(real::RealArgs),
    /// Runs a plan from a file and tells its story
    Replay(plans::ReplayArgs),
    /// Runs seeds
    Run(run::RunArgs),
    /// Lists the scenarios and what each stresses
    Scenarios,
    /// Makes a failing plan smaller
    Shrink(plans::ShrinkArgs),
    #[command(hide = true)]
    Trace(run::TraceArgs),
    /// Breaks the engine on purpose, and sees that it is noticed
    Zoo(zoo::ZooArgs),
}

impl Cli {
    /// The rig that was asked for, if the command runs plans.
    fn rig(&self) -> Option<Rig> {
        match self.command.as_ref()? {
            Sub::Replay(args) => args.rig,
            Sub::Run(args) => args.rig,
            Sub::Shrink(args) => args.rig,
            Sub::Check(_)
            | Sub::Generate(_)
            | Sub::Hashes(_)
            | Sub::Merge(_)
            | Sub::Plan(_)
            | Sub::Real(_)
            | Sub::Scenarios
            | Sub::Trace(_)
            | Sub::Zoo(_) => None,
        }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    // A number below zero is a bad value of its option, not an unknown option.
    let command = Cli::command().mut_subcommands(|sub| sub.allow_negative_numbers(true));
    let parsed = command.try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(explain(&error).code()),
    };
    let mut out = io::stdout().lock();
    let result = dispatch(&cli, &mut out).and_then(|status| {
        out.flush()?;
        Ok(status)
    });
    let status = match result {
        Ok(status) => status,
        // Whoever read the output, `head` say, has seen enough.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Status::Fine,
        Err(Error::Output(error)) => complain(&format!("standard output: {error}")),
        Err(Error::Usage(why)) => complain(&why),
    };
    ExitCode::from(status.code())
}

fn dispatch(cli: &Cli, out: &mut dyn Write) -> Result<Status, Error> {
    if let Some(rig) = cli.rig().filter(|rig| *rig != Rig::HERE) {
        return rigs::hand_over(rig);
    }
    match &cli.command {
        None => run::run(&run::RunArgs::of_nothing(), out),
        Some(Sub::Check(args)) => check::run(args, out),
        Some(Sub::Generate(args)) => generate::run(args, out),
        Some(Sub::Hashes(args)) => run::hashes(args, out),
        Some(Sub::Merge(args)) => plans::merge(args, out),
        Some(Sub::Plan(args)) => plans::print(args, out),
        Some(Sub::Real(args)) => real::run(args, out),
        Some(Sub::Replay(args)) => plans::replay(args, out),
        Some(Sub::Run(args)) => run::run(args, out),
        Some(Sub::Scenarios) => plans::list(out),
        Some(Sub::Shrink(args)) => plans::shrink(args, out),
        Some(Sub::Trace(args)) => run::trace(args, out),
        Some(Sub::Zoo(args)) => zoo::run(args, out),
    }
}

/// The most threads that anybody may ask for.
pub const JOBS_MAX: i64 = 1_024;

/// How many threads can run at once here.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whether a result can be written to this file later: a campaign of hours is not to find out at its
/// end. What is in the file stays.
///
/// # Errors
/// That it cannot.
pub fn try_file(path: &Path) -> Result<(), Error> {
    let known = path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| Error::file(path, &error))?;
    if known { Ok(()) } else { fs::remove_file(path).map_err(|error| Error::file(path, &error)) }
}

fn complain(why: &str) -> Status {
    let _ = writeln!(io::stderr(), "error: {why}");
    Status::Usage
}

/// Help as it is; mistakes in one line.
fn explain(error: &clap::Error) -> Status {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return Status::Fine;
    }
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim);
    let mistake = lines.take_while(|line| !line.starts_with("Usage:"));
    let mistake: Vec<&str> = mistake.filter(|line| !line.is_empty()).collect();
    let hint = "for more information, try '--help'";
    let mistake: Vec<&str> = mistake
        .into_iter()
        .filter(|line| !line.eq_ignore_ascii_case(&format!("{hint}.")))
        .collect();
    let _ = writeln!(io::stderr(), "{}; {hint}", mistake.join("; ").replace(":;", ":"));
    Status::Usage
}
