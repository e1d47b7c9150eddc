//! Commands about single plans: print one, replay one, shrink one; and the list of scenarios.

use std::fs;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::aftermath;
use super::run::{SHRINK_RUNS, SourceArgs, load, tell_plan, write_json};
use super::{Error, Status};
use crate::campaign::{attempt, failure, reduce};
use crate::plan::{Plan, PlanError};
use crate::report::style::{Ink, Style};
use crate::report::summary::Summary;
use crate::rig::Rig;
use crate::scenario::scenarios;
use crate::world::Blind;

/// Prints the plan of a seed: everything that makes the run, editable and replayable.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo sim plan --seed 7 --scenario erase > my.plan
  cargo sim replay my.plan")]
pub struct PlanArgs {
    /// Which seed
    #[arg(long, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs a plan from a file and tells its story.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 if the run passes, else that of its failure.

Examples:
  cargo sim replay tests/plans/example.plan
  cargo sim plan --seed 7 | cargo sim replay - -v")]
pub struct ReplayArgs {
    /// The plan; `-` reads it from standard input
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    /// What to run the plan on
    #[arg(long, value_name = "RIG", value_enum)]
    pub(super) rig: Option<Rig>,
    /// Tell every message
    #[arg(long, short)]
    verbose: bool,
}

/// Makes a failing plan as small as it can be while it still fails in the same way.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  cargo sim shrink failing.plan -o small.plan")]
pub struct ShrinkArgs {
    /// The plan; `-` reads it from standard input
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    /// What to run the plan on
    #[arg(long, value_name = "RIG", value_enum)]
    pub(super) rig: Option<Rig>,
    /// Where to write the smaller plan; to standard output if not given
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
    /// How many runs it may take
    #[arg(long, value_name = "N", default_value_t = SHRINK_RUNS, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
}

/// Adds up the results of shares of a campaign.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  cargo sim run --seeds 0..1000000 --shard 1/2 --json one.json    on one machine
  cargo sim run --seeds 0..1000000 --shard 2/2 --json two.json    on another
  cargo sim merge one.json two.json --json whole.json")]
pub struct MergeArgs {
    /// Files written by `cargo sim run --json`
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write the sum to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs `plan`.
///
/// # Errors
/// If there is no such scenario.
pub fn print(args: &PlanArgs, out: &mut dyn Write) -> Result<Status, Error> {
    write!(out, "{}", args.source.source()?.plan(args.seed))?;
    Ok(Status::Fine)
}

/// Runs `replay`.
///
/// # Errors
/// If the plan cannot be read.
pub fn replay(args: &ReplayArgs, out: &mut dyn Write) -> Result<Status, Error> {
    tell_plan(&read(&args.plan)?, args.verbose, out)
}

/// Runs `shrink`.
///
/// # Errors
/// If the plan cannot be read, or passes.
pub fn shrink(args: &ShrinkArgs, out: &mut dyn Write) -> Result<Status, Error> {
    let plan = read(&args.plan)?;
    let report = attempt(&plan, &mut Blind);
    let Some(found) = failure(&report) else {
        return Err(Error::usage(format!(
            "{}: this plan passes; only a failing one can be shrunk",
            args.plan.display()
        )));
    };
    let shrunk = reduce(&plan, &found.signature, args.runs);
    let report = attempt(&shrunk.plan, &mut Blind);
    let last = failure(&report).unwrap_or(found);
    let text = aftermath::annotated(&shrunk.plan, last);
    let Some(path) = &args.output else {
        write!(out, "{text}")?;
        return Ok(Status::Fine);
    };
    fs::write(path, text).map_err(|error| Error::file(path, &error))?;
    writeln!(out, "{}", last.signature)?;
    writeln!(out, "{}", aftermath::outcome_of(&shrunk, args.runs))?;
    writeln!(out, "next: cargo sim replay{} {}", Rig::HERE.option(), path.display())?;
    Ok(Status::Fine)
}

/// Runs `scenarios`.
///
/// # Errors
/// If nobody reads the output.
pub fn list(out: &mut dyn Write) -> Result<Status, Error> {
    let style = Style::of_stdout();
    for scenario in scenarios() {
        let name = style.paint(Ink::Strong, format!("{:<12}", scenario.name));
        writeln!(out, "{name} {:<10}  {}", scenario.family, scenario.summary)?;
        let stresses = format!("{:>23}  stresses {}", "", scenario.stresses);
        writeln!(out, "{}", style.paint(Ink::Dim, stresses))?;
    }
    writeln!(out, "\ncargo sim run --scenario NAME takes a name or a family; without it, all")?;
    Ok(Status::Fine)
}

/// Runs `merge`.
///
/// # Errors
/// If a file is not a result, or they are not of one campaign.
pub fn merge(args: &MergeArgs, out: &mut dyn Write) -> Result<Status, Error> {
    let summaries: Vec<_> =
        args.files.iter().map(|path| load(path)).collect::<Result<_, Error>>()?;
    let (mut whole, rest) = match summaries.split_first() {
        Some((first, rest)) => (first.clone(), rest),
        None => return Err(Error::usage("merge: give the files to add up")),
    };
    for (place, (summary, path)) in rest.iter().zip(&args.files[1..]).enumerate() {
        let done = summary.seeds_done();
        let before = summaries.iter().zip(&args.files).take(place + 1);
        let twice = before
            .map(|(other, path)| (other.seeds_done(), path))
            .find(|(other, _)| done.start.max(other.start) < done.end.min(other.end));
        if let Some((other, first)) = twice {
            return Err(Error::usage(format!(
                "{}: its seeds {}..{} are among the {}..{} of {}; each may count once",
                path.display(),
                done.start,
                done.end,
                other.start,
                other.end,
                first.display()
            )));
        }
        let of = |summary: &Summary| (summary.rig, summary.scenario.clone(), summary.nodes);
        if of(summary) != of(&whole) {
            return Err(Error::usage(format!(
                "{}: another `--rig`, `--scenario` or `--nodes` than {}; these are not shares of one \
                 campaign",
                path.display(),
                args.files[0].display()
            )));
        }
        let wall = std::time::Duration::from_secs_f64(summary.wall_seconds);
        whole.add(&summary.totals, &summary.found, wall, summary.cpu_seconds);
        whole.seeds_from = whole.seeds_from.min(summary.seeds_from);
        whole.seeds_to = whole.seeds_to.max(summary.seeds_to);
        whole.done += summary.done;
    }
    whole.shard = String::from("1/1");
    if let Some(path) = &args.json {
        write_json(path, &whole)?;
    }
    whole.show(Style::of_stdout(), out)?;
    Ok(whole.worst().map_or(Status::Fine, Status::from))
}

/// Reads a plan; mistakes are named with their line.
fn read(path: &Path) -> Result<Plan, Error> {
    let mut text = String::new();
    let (name, result) = if path == Path::new("-") {
        (String::from("standard input"), std::io::stdin().read_to_string(&mut text).map(drop))
    } else {
        let read = fs::read_to_string(path).map(|content| text = content);
        (path.display().to_string(), read)
    };
    result.map_err(|error| Error::file(Path::new(&name), &error))?;
    text.parse().map_err(|error: PlanError| Error::usage(error.in_file(&name)))
}
