//! `cargo sim run`: a campaign over many seeds, or the story of one.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use super::aftermath::{self, Case, Task};
use super::parse::{self, Seeds, Shard};
use super::{Error, JOBS_MAX, Status, try_file};
use crate::campaign::determinism::{self, Conditions, Difference};
use crate::campaign::{Found, Grade, Limits, Outcome, Source, Stop, attempt, campaign, failure};
use crate::plan::{NODES_MAX, Options, Plan};
use crate::report::progress::{Goal, Progress, Show};
use crate::report::recording::{Lines, Recording};
use crate::report::rules;
use crate::report::story::{self, Detail};
use crate::report::style::{Ink, Style, grouped, lasting};
use crate::report::summary::{FORMAT, Summary};
use crate::rig::Rig;
use crate::scenario::{self, Scenario, scenarios};
use crate::world::Report;

/// Which plans seeds stand for.
#[derive(Args, Clone, Debug, Default)]
pub struct SourceArgs {
    /// A scenario's name, or a family of them; all if not given
    #[arg(long, value_name = "NAME")]
    pub scenario: Option<String>,
    /// How many nodes, instead of what the scenario draws
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    pub nodes: Option<u16>,
}

/// Runs seeds: each makes a plan, each plan a run, each run a history that is judged.
///
/// Without `--seeds` and `--time`: ten seconds from seed 0. Runs are functions of their seeds: the
/// same seeds come to the same trace hash on every machine, with any number of jobs.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:
  cargo sim run --seeds 0..100000                     these seeds
  cargo sim run --scenario erase --time 5m            five minutes of one scenario
  cargo sim run --seed 7                              the plan and the story of one seed
  cargo sim run --seed 7 -v                           the same with every message
  cargo sim run --seeds 0..1000000 --json state.json --keep-going
  cargo sim run --resume state.json                   go on with it
  cargo sim run --seeds 0..1000000 --shard 1/4        a quarter of it; see `cargo sim merge`
  cargo sim run --seeds 0..2000 --verify-determinism  each seed again in other processes
  cargo sim run --rig stack --seeds 0..2000           whole hosts rather than engines alone")]
pub struct RunArgs {
    /// From A up to and not including B
    #[arg(long, value_name = "A..B", allow_hyphen_values = true)]
    seeds: Option<Seeds>,
    /// One seed: print its plan and tell its story
    #[arg(long, value_name = "N", conflicts_with_all = [
        "seeds", "time", "jobs", "keep_going", "json", "resume", "shard", "verify_determinism", "out",
        "shrink_runs",
    ])]
    seed: Option<u64>,
    #[command(flatten)]
    source: SourceArgs,
    /// What to run plans on
    #[arg(long, value_name = "RIG", value_enum)]
    pub(super) rig: Option<Rig>,
    /// For how long, at most: 500ms, 10s, 5m, 2h
    #[arg(long, value_name = "DUR", allow_hyphen_values = true, value_parser = parse::duration)]
    time: Option<Duration>,
    /// How many threads; all cores if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=JOBS_MAX))]
    jobs: Option<u16>,
    /// Go on after a failure; failures of one signature are counted together
    #[arg(long)]
    keep_going: bool,
    /// Write the result to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Go on with the campaign in this file, written by `--json`, and write it back
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "scenario", "nodes", "shard"])]
    resume: Option<PathBuf>,
    /// The k-th of n shares of the seeds
    #[arg(long, value_name = "k/n")]
    shard: Option<Shard>,
    /// Run each seed again in other processes, in the opposite order, with 1 job and with 2, and
    /// compare trace hashes
    #[arg(long, conflicts_with_all = ["resume", "time", "keep_going"])]
    verify_determinism: bool,
    /// Another build of this program to run the seeds again with
    #[arg(long, value_name = "BINARY", requires = "verify_determinism")]
    against: Option<PathBuf>,
    /// Where to write what is found
    #[arg(long, value_name = "DIR", default_value = "target/sim/failures")]
    out: PathBuf,
    /// How many runs shrinking may take; 0 not to shrink
    #[arg(long, value_name = "N", default_value_t = SHRINK_RUNS)]
    shrink_runs: u64,
    /// When to show progress
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Show::Auto)]
    progress: Show,
    /// Tell every message
    #[arg(long, short, requires = "seed", conflicts_with = "seeds")]
    verbose: bool,
    /// Real time after which a run counts as one that never ends
    #[arg(long, value_name = "DUR", value_parser = parse::duration, default_value = "60s", hide = true)]
    hang: Duration,
}

/// How many runs shrinking may take.
pub(super) const SHRINK_RUNS: u64 = 20_000;
/// How long a campaign lasts that nobody said anything about.
const TIME: Duration = Duration::from_secs(10);
/// How many seeds are compared when nobody said anything about it.
const VERIFIED_SEEDS: u64 = 1_000;

impl RunArgs {
    /// What `cargo sim` alone does.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self {
            out: PathBuf::from("target/sim/failures"),
            shrink_runs: SHRINK_RUNS,
            hang: Duration::from_secs(60),
            ..Self::default()
        }
    }

    fn jobs(&self) -> usize {
        self.jobs.map_or_else(super::cores, usize::from)
    }
}

impl SourceArgs {
    /// The scenarios and options meant.
    pub(super) fn source(&self) -> Result<Source, Error> {
        let scenarios = choose(self.scenario.as_deref())?;
        let options = Options { nodes: self.nodes, ..Options::default() };
        Ok(Source { scenarios, options })
    }

    /// The same as words of a command line.
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(scenario) = &self.scenario {
            words.extend([String::from("--scenario"), scenario.clone()]);
        }
        if let Some(nodes) = self.nodes {
            words.extend([String::from("--nodes"), nodes.to_string()]);
        }
        words
    }
}

/// The scenario of this name, or those of this family, or all.
fn choose(name: Option<&str>) -> Result<Vec<&'static Scenario>, Error> {
    let Some(name) = name else {
        return Ok(scenarios().iter().collect());
    };
    let chosen: Vec<_> = match scenario::find(name) {
        Some(scenario) => vec![scenario],
        None => scenarios().iter().filter(|scenario| scenario.family == name).collect(),
    };
    if chosen.is_empty() {
        return Err(Error::usage(format!(
            "--scenario: there is no scenario and no family named {name:?}; `cargo sim scenarios` \
             lists them"
        )));
    }
    Ok(chosen)
}

/// Runs the command.
///
/// # Errors
/// If it cannot be done as asked.
pub fn run(args: &RunArgs, out: &mut dyn Write) -> Result<Status, Error> {
    match (args.seed, args.verify_determinism) {
        (Some(seed), _) => tell_seed(args, seed, out),
        (None, true) => verify(args, out),
        (None, false) => run_campaign(args, out),
    }
}

fn tell_seed(args: &RunArgs, seed: u64, out: &mut dyn Write) -> Result<Status, Error> {
    let plan = args.source.source()?.plan(seed);
    plan.check().map_err(|error| Error::usage(format!("seed {seed}: {}", error.message)))?;
    write!(out, "{plan}")?;
    writeln!(out)?;
    tell_plan(&plan, args.verbose, out)
}

/// Tells the story of a plan and how it ended.
pub(super) fn tell_plan(plan: &Plan, verbose: bool, out: &mut dyn Write) -> Result<Status, Error> {
    let style = Style::of_stdout();
    let mut recording = Recording::default();
    let report = attempt(plan, &mut recording);
    let detail = if verbose { Detail::Every } else { Detail::Outline };
    story::tell(&recording.moments, recording.forgotten, detail, style, out)?;
    show_end(&report, style, out)
}

/// The verdict of one run, its figures, and its hash.
pub(super) fn show_end(
    report: &Report,
    style: Style,
    out: &mut dyn Write,
) -> Result<Status, Error> {
    writeln!(
        out,
        "\n{} operations, {} messages delivered, {} events, {} simulated, trace hash {:032x}",
        grouped(report.operations),
        grouped(report.deliveries),
        grouped(report.events),
        lasting(Duration::from_nanos(report.simulated)),
        report.trace_hash
    )?;
    let Some(failure) = failure(report) else {
        writeln!(out, "{}", style.paint(Ink::Good, "passed: every rule held"))?;
        return Ok(Status::Fine);
    };
    writeln!(out, "{} {failure}", style.paint(Ink::Bad, "FAILED:"))?;
    if let Some(words) = rules::in_words(failure.rule) {
        writeln!(out, "  rule {}: {words}", failure.rule)?;
    }
    writeln!(out, "  signature: {}", failure.signature)?;
    Ok(Grade::from(failure.kind).into())
}

impl From<Grade> for Status {
    fn from(grade: Grade) -> Self {
        match grade {
            Grade::Crash => Self::Crash,
            Grade::NoProgress => Self::NoProgress,
            Grade::Unknown => Self::Unknown,
            Grade::Violation => Self::Violation,
        }
    }
}

/// A campaign of nothing yet, as the arguments have it.
fn begin(args: &RunArgs) -> Result<Summary, Error> {
    if let Some(path) = &args.resume {
        let summary = load(path)?;
        if summary.rig != Rig::HERE {
            let (path, rig) = (path.display(), summary.rig);
            return Err(Error::usage(format!("{path}: of the {rig} rig; add `--rig {rig}`")));
        }
        return Ok(summary);
    }
    let seeds = seeds_of(args, u64::MAX)?;
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    Ok(Summary {
        format: FORMAT,
        rig: Rig::HERE,
        scenario: args.source.scenario.clone(),
        nodes: args.source.nodes,
        seeds_from: seeds.start,
        seeds_to: seeds.end,
        shard: shard.to_string(),
        done: 0,
        totals: crate::campaign::Totals::new(),
        wall_seconds: 0.0,
        cpu_seconds: 0.0,
        seeds_per_second: 0.0,
        deliveries_per_second: 0.0,
        deliveries_per_second_per_core: 0.0,
        marks_missed: Vec::new(),
        found: Vec::new(),
    })
}

/// The seeds asked for, or that many from 0; of these, the share asked for.
fn seeds_of(args: &RunArgs, otherwise: u64) -> Result<Range<u64>, Error> {
    let seeds = args.seeds.clone().map_or(0..otherwise, |seeds| seeds.0);
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    let seeds = share(&seeds, shard);
    if seeds.is_empty() {
        return Err(Error::usage(format!("--shard: there are too few seeds for share {shard}")));
    }
    Ok(seeds)
}

/// The seeds of a share: neighbours, so that each share has every scenario equally often.
fn share(seeds: &Range<u64>, shard: Shard) -> Range<u64> {
    let count = u128::from(seeds.end - seeds.start);
    let (number, shards) = (u128::from(shard.number), u128::from(shard.count));
    let edge = |number: u128| seeds.start + (count * number / shards) as u64;
    edge(number - 1)..edge(number)
}

/// Reads a campaign's state.
pub(super) fn load(path: &Path) -> Result<Summary, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::file(path, &error))?;
    let summary: Summary = serde_json::from_str(&text).map_err(|error| {
        Error::usage(format!("{}: not the JSON that `--json` writes: {error}", path.display()))
    })?;
    summary.check().map_err(|why| Error::usage(format!("{}: {why}", path.display())))?;
    Ok(summary)
}

fn run_campaign(args: &RunArgs, out: &mut dyn Write) -> Result<Status, Error> {
    let style = Style::of_stdout();
    let mut summary = begin(args)?;
    let source_args = SourceArgs { scenario: summary.scenario.clone(), nodes: summary.nodes };
    let source = source_args.source()?;
    let from = summary.seeds_from.saturating_add(summary.done);
    let bounded = args.seeds.is_some() || summary.seeds_to < u64::MAX;
    let time = args.time.or_else(|| (!bounded).then_some(TIME));
    if from >= summary.seeds_to {
        writeln!(out, "nothing is left to do: all its seeds have been run\n")?;
        summary.show(style, out)?;
        return Ok(summary.worst().map_or(Status::Fine, Status::from));
    }
    let seeds = from..summary.seeds_to;
    check_first(&source, seeds.start)?;
    let limits = Limits {
        seeds: seeds.clone(),
        time,
        jobs: args.jobs(),
        keep_going: args.keep_going,
        reverse: false,
        hang: args.hang,
    };
    check_out(&args.out)?;
    if let Some(path) = result_file(args) {
        try_file(path)?;
    }
    let goal = time.map_or_else(|| Goal::Seeds(seeds.end - seeds.start), Goal::Time);
    let mut progress = Progress::new(args.progress, goal);
    let interrupted = on_interrupt()?;
    let outcome = campaign(&source, &limits, &interrupted, &mut progress);
    let _ = progress.finish();
    summary.done += outcome.done;
    summary.add(&outcome.totals, &outcome.found, outcome.wall, outcome.cpu_seconds);
    let new: Vec<Found> = outcome.found.clone();
    // Written before shrinking, which may take long or be interrupted, and again after it.
    save(args, &summary)?;
    for (place, found) in new.iter().enumerate() {
        // One story is enough to read at once; each has its own in the folder.
        let told = place == 0;
        let case = examine(args, &source_args, &source, found, told, style, out)?;
        if let (Some(case), Some(known)) =
            (case, summary.found.iter_mut().find(|known| known.signature == found.signature))
        {
            known.items = Some(case.items);
            known.deliveries = Some(case.deliveries);
            known.plan = Some(case.plan.display().to_string());
        }
    }
    save(args, &summary)?;
    if !new.is_empty() {
        writeln!(out)?;
    }
    summary.show(style, out)?;
    show_next(args, &summary, &outcome, style, out)?;
    let grade = summary.worst();
    Ok(match (grade, outcome.stop) {
        (Some(grade), _) => grade.into(),
        (None, Stop::Interrupted) => Status::Interrupted,
        (None, Stop::Done | Stop::Failure | Stop::Hung | Stop::Time) => Status::Fine,
    })
}

/// Whether the first plan can be run: options that no plan of theirs fits are said before the
/// campaign rather than by it.
fn check_first(source: &Source, seed: u64) -> Result<(), Error> {
    let wrong = |error: crate::plan::PlanError| {
        Error::usage(format!("the plan of seed {seed} cannot be run: {}", error.message))
    };
    source.plan(seed).check().map_err(wrong)
}

/// Whether a folder of this name is there, or could be made.
fn check_out(folder: &Path) -> Result<(), Error> {
    match folder.ancestors().find(|path| path.exists()) {
        Some(path) if !path.is_dir() => Err(Error::usage(format!(
            "--out: {} is a file; name a folder for what is found",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Where the result goes.
fn result_file(args: &RunArgs) -> Option<&PathBuf> {
    args.json.as_ref().or(args.resume.as_ref())
}

fn save(args: &RunArgs, summary: &Summary) -> Result<(), Error> {
    let Some(path) = result_file(args) else {
        return Ok(());
    };
    write_json(path, summary)
}

/// Writes a campaign's state.
pub(super) fn write_json(path: &Path, summary: &Summary) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(summary).map_err(Error::usage)?;
    fs::write(path, text + "\n").map_err(|error| Error::file(path, &error))
}

/// Becomes true at the first Ctrl-C; the second ends the process at once.
pub(super) fn on_interrupt() -> Result<Arc<AtomicBool>, Error> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(Status::Interrupted.code()));
        }
    })
    .map_err(|error| Error::usage(format!("Ctrl-C cannot be listened to: {error}")))?;
    Ok(interrupted)
}

fn examine(
    args: &RunArgs,
    source_args: &SourceArgs,
    source: &Source,
    found: &Found,
    told: bool,
    style: Style,
    out: &mut dyn Write,
) -> Result<Option<Case>, Error> {
    let mut words = source_args.words();
    if source_args.scenario.is_none() {
        words.extend([String::from("--scenario"), found.scenario.clone()]);
    }
    let rig = Rig::HERE.option();
    let origin = format!("`cargo sim run{rig} --seed {} {}`", found.seed, words.join(" "));
    let plan = source.plan(found.seed);
    if found.rule == "hang" {
        fs::create_dir_all(&args.out).map_err(|error| Error::file(&args.out, &error))?;
        let path = args.out.join(format!("hang-{}.plan", found.seed));
        fs::write(&path, plan.to_string()).map_err(|error| Error::file(&path, &error))?;
        writeln!(out, "\n{}  {}", style.paint(Ink::Bad, "NO PROGRESS"), found.message)?;
        writeln!(out, "  found by {origin}; the plan is {}", path.display())?;
        return Ok(None);
    }
    let report = attempt(&plan, &mut crate::world::Blind);
    match failure(&report) {
        Some(failure) if failure.signature == found.signature => {
            let task = Task {
                plan: &plan,
                failure,
                origin: &origin,
                folder: &args.out,
                budget: args.shrink_runs,
                told,
            };
            aftermath::examine(&task, style, out).map(Some)
        }
        _ => Err(Error::usage(format!(
            "{origin} failed ({}) and does not when run again: runs are not deterministic; try \
             `--verify-determinism`",
            found.signature
        ))),
    }
}

/// What to do next.
fn show_next(
    args: &RunArgs,
    summary: &Summary,
    outcome: &Outcome,
    style: Style,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let (file, rig) = (result_file(args), Rig::HERE.option());
    let next = match (&outcome.stop, summary.found.first(), file) {
        (_, Some(found), _) => match &found.plan {
            Some(plan) => {
                format!("cargo sim replay{rig} {plan} -v    every message of the failure")
            }
            None => {
                format!("cargo sim run{rig} --seed {} --scenario {}", found.seed, found.scenario)
            }
        },
        (Stop::Interrupted | Stop::Time, None, Some(file)) if summary.done > 0 => {
            format!("cargo sim run{rig} --resume {}    go on where this ended", file.display())
        }
        (Stop::Interrupted | Stop::Time, None, _) if args.seeds.is_some() => {
            let words = args.source.words();
            let options: String = words.iter().map(|word| format!(" {word}")).collect();
            let (from, to) = (summary.seeds_from + summary.done, summary.seeds_to);
            format!("cargo sim run{rig} --seeds {from}..{to}{options}    go on where this ended")
        }
        _ => String::from("cargo sim zoo    break the engine on purpose, and see it caught"),
    };
    let also = "cargo sim run --seed 7    watch one run    cargo sim --help    everything else";
    writeln!(out, "\nnext: {}", style.paint(Ink::Strong, next))?;
    if summary.found.is_empty() {
        writeln!(out, "      {}", style.paint(Ink::Dim, also))?;
    }
    Ok(())
}

/// The arguments of the hidden command `hashes`.
#[derive(Args, Clone, Debug)]
pub struct HashesArgs {
    /// Which seeds
    #[arg(long)]
    seeds: Seeds,
    #[command(flatten)]
    source: SourceArgs,
    /// How many threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=JOBS_MAX))]
    jobs: u16,
    /// From the last seed to the first
    #[arg(long)]
    reverse: bool,
}

/// Prints the trace hash of each seed: what determinism is checked against.
///
/// # Errors
/// If there is no such scenario.
pub fn hashes(args: &HashesArgs, out: &mut dyn Write) -> Result<Status, Error> {
    let source = args.source.source()?;
    let (_, hashes) = all_hashes(&source, &args.seeds.0, usize::from(args.jobs), args.reverse);
    for (seed, hash) in hashes {
        writeln!(out, "{seed} {hash:032x}")?;
    }
    Ok(Status::Fine)
}

/// The arguments of the hidden command `trace`.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// Which seed
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    source: SourceArgs,
}

/// Prints every event of a seed: what two runs must agree on to the letter.
///
/// # Errors
/// If there is no such scenario.
pub fn trace(args: &TraceArgs, out: &mut dyn Write) -> Result<Status, Error> {
    let mut lines = Lines::default();
    let _ = attempt(&args.source.source()?.plan(args.seed), &mut lines);
    for line in lines.lines {
        writeln!(out, "{line}")?;
    }
    Ok(Status::Fine)
}

fn all_hashes(
    source: &Source,
    seeds: &Range<u64>,
    jobs: usize,
    reverse: bool,
) -> (Outcome, Vec<(u64, u128)>) {
    let limits = Limits {
        seeds: seeds.clone(),
        time: None,
        jobs,
        keep_going: true,
        reverse,
        hang: Duration::from_secs(600),
    };
    let goal = Goal::Seeds(seeds.end - seeds.start);
    let mut notes = Progress::new(Show::Never, goal).noting_hashes();
    let outcome = campaign(source, &limits, &AtomicBool::new(false), &mut notes);
    (outcome, notes.finish())
}

fn verify(args: &RunArgs, out: &mut dyn Write) -> Result<Status, Error> {
    let source = args.source.source()?;
    let seeds = seeds_of(args, VERIFIED_SEEDS)?;
    check_first(&source, seeds.start)?;
    if let Some(path) = &args.json {
        try_file(path)?;
    }
    let me = std::env::current_exe()
        .map_err(|error| Error::usage(format!("this program's own file: {error}")))?;
    let words = args.source.words();
    if let Some(program) = &args.against {
        check_against(program, &words, seeds.start)?;
    }
    writeln!(out, "{} seeds here, with {} jobs …", grouped(seeds.end - seeds.start), args.jobs())?;
    out.flush()?;
    let (outcome, here) = all_hashes(&source, &seeds, args.jobs(), false);
    let mut conditions = vec![
        ("another process, 1 job, the same order", &me, 1, false),
        ("another process, 2 jobs, the opposite order", &me, 2, true),
    ];
    if let Some(other) = &args.against {
        conditions.push(("another build, 1 job, the opposite order", other, 1, true));
    }
    let mut mismatches = 0_u64;
    for (name, program, jobs, reverse) in conditions {
        let conditions = Conditions { program, source: &words, jobs, reverse };
        mismatches += compare(name, &conditions, &source, &seeds, &here, out)?;
    }
    writeln!(out, "trace hash {:032x}", outcome.totals.trace_hash)?;
    if let Some(path) = &args.json {
        let mut summary = begin(args)?;
        summary.seeds_from = seeds.start;
        summary.seeds_to = seeds.end;
        summary.done = outcome.done;
        summary.add(&outcome.totals, &outcome.found, outcome.wall, outcome.cpu_seconds);
        write_json(path, &summary)?;
    }
    let worst = outcome.found.iter().map(|found| found.kind).min();
    Ok(match worst {
        _ if mismatches > 0 => Status::Violation,
        Some(grade) => {
            writeln!(out, "{} of the seeds failed; run them without this", outcome.found.len())?;
            grade.into()
        }
        None => Status::Fine,
    })
}

/// That it is another build of this program at all shows with one seed.
fn check_against(program: &Path, words: &[String], seed: u64) -> Result<(), Error> {
    let conditions = Conditions { program, source: words, jobs: 1, reverse: true };
    let hashes = determinism::hashes_elsewhere(&conditions, &(seed..seed + 1));
    let why = match hashes {
        Ok(hashes) if hashes.len() == 1 => return Ok(()),
        Ok(_) => format!("{}: it says nothing of seed {seed}", program.display()),
        Err(why) => why,
    };
    Err(Error::usage(format!("--against: not another build of this program: {why}")))
}

/// Runs the seeds under these conditions, and counts those whose hash is another one than `here`.
fn compare(
    name: &str,
    conditions: &Conditions<'_>,
    source: &Source,
    seeds: &Range<u64>,
    here: &[(u64, u128)],
    out: &mut dyn Write,
) -> Result<u64, Error> {
    let style = Style::of_stdout();
    let mut there = determinism::hashes_elsewhere(conditions, seeds).map_err(Error::usage)?;
    there.sort_unstable_by_key(|(seed, _)| *seed);
    if here.len() != there.len() {
        return Err(Error::usage(format!(
            "{name}: it ran {} seeds rather than {}",
            there.len(),
            here.len()
        )));
    }
    let pairs = here.iter().zip(&there).filter(|(one, other)| one != other);
    let differing: Vec<u64> = pairs.map(|(one, _)| one.0).collect();
    let count = differing.len() as u64;
    let verdict = if differing.is_empty() {
        style.paint(Ink::Good, "equal")
    } else {
        style.paint(Ink::Bad, format!("{} DIFFER", grouped(count)))
    };
    writeln!(out, "{name:<46} {verdict}")?;
    if let Some(&seed) = differing.first() {
        let plan = source.plan(seed);
        let difference =
            determinism::first_difference(conditions, seed, &plan).map_err(Error::usage)?;
        show_difference(seed, source.scenario(seed), difference.as_ref(), out)?;
    }
    Ok(count)
}

fn show_difference(
    seed: u64,
    scenario: &Scenario,
    difference: Option<&Difference>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    writeln!(out, "  seed {seed} of {}:", scenario.name)?;
    let Some(difference) = difference else {
        writeln!(
            out,
            "  run alone, both read the same: something is carried over from one run to the next, \
             or an event's text does not show what differs"
        )?;
        return Ok(());
    };
    let text = |event: &Option<String>| {
        event.clone().unwrap_or_else(|| String::from("(the run was over)"))
    };
    writeln!(out, "  the first difference is event {}", difference.line)?;
    writeln!(out, "    here   {}", text(&difference.here))?;
    writeln!(out, "    there  {}", text(&difference.there))?;
    Ok(())
}
