//! `cargo sim zoo`: break the engine on purpose, and see that it is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};
use synod::fnv1a;

use super::{Error, JOBS_MAX, Status, parse, try_file};
use crate::report::style::{Ink, Style, grouped};
use crate::rig::Rig;
use crate::zoo::{self, Entry, Limits, Tree, Trial, Verdict};

/// Breaks one rule of the engine after another, in a copy, and hunts until it is noticed.
///
/// Each entry of the zoo is a small change of the engine's source with the check that should notice
/// it. Entries marked harmless must *not* be noticed. Exit status: 0 if all went as it should, 1 if
/// an entry was missed or a harmless one was not.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo sim zoo --list                     what there is
  cargo sim zoo accept-ignores-promise     one entry
  cargo sim zoo Z1 Z2                      entries by their row in the list of known bugs
  cargo sim zoo --time 10s --json zoo.json all of them, ten seconds each at most
  cargo sim zoo --resume                   go on where an earlier call was stopped")]
pub struct ZooArgs {
    /// Names, rows, or parts of names; all entries if none is given
    names: Vec<String>,
    /// List the entries and stop
    #[arg(long)]
    list: bool,
    /// Only see that each entry applies and compiles
    #[arg(long)]
    check: bool,
    /// The most seeds for an entry that must be caught
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Seeds for an entry that must not
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    harmless_seeds: u64,
    /// The most wall-clock time to hunt for one entry
    #[arg(long, value_name = "DUR", default_value = "2m", allow_hyphen_values = true, value_parser = parse::duration)]
    time: Duration,
    /// Threads of a hunt; all cores if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=JOBS_MAX))]
    jobs: Option<u16>,
    /// Write the trials to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Skip entries that an earlier call has tried, unless they or the source have changed since
    #[arg(long)]
    resume: bool,
    /// Where to keep the copy, its build, and what is found
    #[arg(long, value_name = "DIR", default_value = "target/zoo")]
    work: PathBuf,
}

/// Trials by what was tried, so that a later call can tell what need not be tried again.
#[derive(Default, Serialize, Deserialize)]
struct Ledger(BTreeMap<String, Trial>);

impl Ledger {
    fn load(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn save(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).map_err(Error::usage)?;
        fs::write(path, text).map_err(|error| Error::file(path, &error))
    }
}

/// Runs the command.
///
/// # Errors
/// An entry that is not there, or a file that cannot be read or written.
pub fn run(args: &ZooArgs, out: &mut dyn Write) -> Result<Status, Error> {
    let style = Style::of_stdout();
    let root = zoo::find_root().map_err(Error::usage)?;
    let entries = select(zoo::load(&root).map_err(Error::usage)?, &args.names)?;
    if args.list {
        list(&entries, style, out)?;
        return Ok(Status::Fine);
    }
    if let Some(path) = &args.json {
        try_file(path)?;
    }
    let work = root.join(&args.work);
    let tree = Tree::new(&root, &work.join("tree")).map_err(|error| Error::file(&work, &error))?;
    if args.check {
        return check(&tree, &entries, style, out);
    }
    let keys: Vec<String> = entries.iter().map(|entry| key(&tree, entry, args)).collect();
    let ledger_path = work.join("ledger.json");
    let mut ledger = Ledger::load(&ledger_path);
    let limits = Limits {
        seeds: args.seeds,
        harmless_seeds: args.harmless_seeds,
        time: args.time,
        jobs: args.jobs.map_or_else(super::cores, usize::from),
        unbroken: BTreeMap::new(),
        plans: BTreeMap::new(),
    };
    let table = Table::new(&entries, style);
    table.head(out)?;
    let mut limits = limits;
    for rig in [Rig::World, Rig::Stack] {
        let of_rig: Vec<&Entry> = entries.iter().filter(|entry| entry.rig == rig).collect();
        if !of_rig.is_empty() {
            unbroken(&tree, rig, &of_rig, &work, &mut limits, &table, out)?;
        }
    }
    let known = |key: &String| ledger.0.get(key).filter(|_| args.resume).cloned();
    let plan: Vec<_> = entries.iter().zip(&keys).map(|(e, key)| (e, known(key))).collect();
    let mut trials = Vec::new();
    thread::scope(|scope| -> Result<(), Error> {
        // One thread builds the next entry while this one hunts with the last.
        let (sender, programs) = mpsc::sync_channel(1);
        let plan = &plan;
        let (tree, work) = (&tree, &work);
        scope.spawn(move || {
            for (entry, _) in plan.iter().filter(|(_, known)| known.is_none()) {
                let start = Instant::now();
                let program = zoo::build(tree, entry, &work.join("programs"));
                if sender.send((program, start.elapsed())).is_err() {
                    break;
                }
            }
        });
        for ((entry, known), key) in plan.iter().zip(&keys) {
            let trial = match known {
                Some(trial) => trial.clone(),
                None => {
                    let (program, took) =
                        programs.recv().map_err(|_| Error::usage("the builder stopped"))?;
                    let folder = work.join("found").join(&entry.name);
                    let mut trial = match program {
                        Ok(program) => {
                            let trial = zoo::hunt(entry, &program, &folder, &limits);
                            let _ = fs::remove_file(program);
                            trial
                        }
                        Err(verdict) => Trial::without_hunt(entry, verdict),
                    };
                    trial.build_seconds = took.as_secs_f64();
                    ledger.0.insert(key.clone(), trial.clone());
                    ledger.save(&ledger_path)?;
                    trial
                }
            };
            table.row(entry, &trial, out)?;
            trials.push(trial);
        }
        Ok(())
    })?;
    table.foot(&trials, out)?;
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&trials).map_err(Error::usage)?;
        fs::write(path, text).map_err(|error| Error::file(path, &error))?;
    }
    let good = trials.iter().all(Trial::is_good);
    Ok(if good { Status::Fine } else { Status::Violation })
}

/// What makes a trial worth repeating: the source, the entry, how far it goes.
fn key(tree: &Tree, entry: &Entry, args: &ZooArgs) -> String {
    let seeds = if entry.harmless { args.harmless_seeds } else { args.seeds };
    let what = format!("{:?}", (&entry.edits, &entry.scenario, &entry.plan, entry.rig));
    let entry_hash = fnv1a(what.as_bytes());
    format!("{}/{entry_hash:016x}/{seeds}/{:016x}", entry.name, tree.fingerprint())
}

fn select(entries: Vec<Entry>, names: &[String]) -> Result<Vec<Entry>, Error> {
    if names.is_empty() {
        return Ok(entries);
    }
    let fits =
        |entry: &Entry, name: &String| entry.name == *name || entry.row.as_ref() == Some(name);
    let exact = |name: &String| entries.iter().any(|entry| fits(entry, name));
    let chosen = |entry: &Entry, name: &String| {
        fits(entry, name) || (!exact(name) && entry.name.contains(name.as_str()))
    };
    let lost = names.iter().find(|name| !entries.iter().any(|entry| chosen(entry, name)));
    if let Some(name) = lost {
        return Err(Error::usage(format!(
            "there is no zoo entry named {name:?}; `cargo sim zoo --list` shows what there is"
        )));
    }
    let wanted: Vec<bool> =
        entries.iter().map(|entry| names.iter().any(|name| chosen(entry, name))).collect();
    let kept = entries.into_iter().zip(wanted).filter(|(_, wanted)| *wanted);
    Ok(kept.map(|(entry, _)| entry).collect())
}

/// Hunts with the engine as it is, and replays the plans of `entries`: what fails there cannot be
/// told from what an entry breaks.
fn unbroken(
    tree: &Tree,
    rig: Rig,
    entries: &[&Entry],
    work: &Path,
    limits: &mut Limits,
    table: &Table,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let entry = Entry::unbroken(rig);
    let start = Instant::now();
    let program = match zoo::build(tree, &entry, &work.join("programs")) {
        Ok(program) => program,
        Err(verdict) => {
            table.row(&entry, &Trial::without_hunt(&entry, verdict), out)?;
            return Err(Error::usage("the engine as it is does not build; mend that first"));
        }
    };
    let took = start.elapsed();
    let folder = work.join("found").join(&entry.name);
    let plans = entries.iter().filter_map(|entry| entry.plan.as_ref());
    let plans: BTreeSet<&String> = plans.collect();
    for plan in plans {
        if let Some(capture) = zoo::replay(&program, plan, &folder).map_err(Error::usage)? {
            limits.plans.insert((rig, plan.clone()), capture.signature.clone());
            let trial = Trial::without_hunt(&entry, Verdict::FalseAlarm(capture));
            table.row(&entry, &trial, out)?;
        }
    }
    let mut trial = zoo::hunt(&entry, &program, &folder, limits);
    trial.build_seconds = took.as_secs_f64();
    table.row(&entry, &trial, out)?;
    if let Verdict::FalseAlarm(capture) = trial.verdict {
        limits.unbroken.insert(rig, (capture.signature, capture.seed));
    }
    Ok(())
}

fn check(
    tree: &Tree,
    entries: &[Entry],
    style: Style,
    out: &mut dyn Write,
) -> Result<Status, Error> {
    let table = Table::new(entries, style);
    let mut wrong = 0;
    for entry in entries {
        if let Err(verdict) = zoo::check(tree, entry) {
            wrong += 1;
            table.row(entry, &Trial::without_hunt(entry, verdict), out)?;
        }
    }
    writeln!(out, "{} of {} entries apply and compile", entries.len() - wrong, entries.len())?;
    Ok(if wrong == 0 { Status::Fine } else { Status::Violation })
}

fn list(entries: &[Entry], style: Style, out: &mut dyn Write) -> Result<(), Error> {
    let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    for entry in entries {
        let name = style.paint(Ink::Strong, format!("{:width$}", entry.name));
        let row = entry.row.as_deref().unwrap_or("");
        writeln!(out, "{name}  {row:4}  {}", entry.about)?;
        let kind = if entry.harmless { "harmless" } else { "expect" };
        let rig = match entry.rig {
            Rig::World => "",
            Rig::Stack => "on whole hosts; ",
        };
        let detail = format!("{rig}needs {}; {kind}: {}", entry.needs, entry.expect);
        writeln!(out, "{:width$}        {}", "", style.paint(Ink::Dim, detail))?;
    }
    let entries =
        if entries.len() == 1 { "1 entry".into() } else { format!("{} entries", entries.len()) };
    writeln!(out, "{entries}")?;
    Ok(())
}

/// One aligned line an entry, as soon as it is known.
struct Table {
    width: usize,
    style: Style,
}

impl Table {
    fn new(entries: &[Entry], style: Style) -> Self {
        let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
        Self { width: width.max(4), style }
    }

    fn head(&self, out: &mut dyn Write) -> Result<(), Error> {
        let head = format!(
            "{:width$}  {:>9}  {:>7}  {:>5}  {:>5}  caught by",
            "name",
            "seeds",
            "cpu s",
            "items",
            "msgs",
            width = self.width
        );
        writeln!(out, "{}", self.style.paint(Ink::Dim, head))?;
        Ok(())
    }

    fn row(&self, entry: &Entry, trial: &Trial, out: &mut dyn Write) -> Result<(), Error> {
        let (ink, what) = match &trial.verdict {
            Verdict::BuildFailed(why) => (Ink::Bad, format!("DOES NOT COMPILE: {why}")),
            Verdict::Caught(capture) => (Ink::Good, capture.signature.clone()),
            Verdict::Clean => (Ink::Good, String::from("nothing, as it should be")),
            Verdict::Died(why) => (Ink::Bad, format!("NO REPORT: {why}")),
            Verdict::FalseAlarm(capture) => {
                (Ink::Bad, format!("FALSE ALARM: {}", capture.signature))
            }
            Verdict::Inapplicable(why) => (Ink::Bad, format!("DOES NOT APPLY: {why}")),
            Verdict::Unclear(capture) => {
                (Ink::Bad, format!("UNCLEAR: fails so unbroken, too: {}", capture.signature))
            }
            Verdict::Missed => (Ink::Bad, format!("MISSED; expected {}", entry.expect)),
        };
        let capture = match &trial.verdict {
            Verdict::Caught(capture) | Verdict::FalseAlarm(capture) | Verdict::Unclear(capture) => {
                Some(capture)
            }
            Verdict::BuildFailed(_)
            | Verdict::Clean
            | Verdict::Died(_)
            | Verdict::Inapplicable(_)
            | Verdict::Missed => None,
        };
        let number = |number: Option<u64>| number.map_or_else(|| String::from("-"), grouped);
        writeln!(
            out,
            "{:width$}  {:>9}  {:>7.1}  {:>5}  {:>5}  {}",
            entry.name,
            grouped(trial.seeds),
            trial.cpu_seconds,
            number(capture.and_then(|capture| capture.items)),
            number(capture.and_then(|capture| capture.deliveries)),
            self.style.paint(ink, what),
            width = self.width
        )?;
        out.flush()?;
        Ok(())
    }

    fn foot(&self, trials: &[Trial], out: &mut dyn Write) -> Result<(), Error> {
        let good = trials.iter().filter(|trial| trial.is_good()).count();
        let mut seeds: Vec<u64> = trials
            .iter()
            .filter(|trial| matches!(trial.verdict, Verdict::Caught(_)))
            .map(|trial| trial.seeds)
            .collect();
        seeds.sort_unstable();
        let median = seeds.get(seeds.len() / 2).copied().unwrap_or(0);
        let cpu: f64 = trials.iter().map(|trial| trial.cpu_seconds).sum();
        let ink = if good == trials.len() { Ink::Good } else { Ink::Bad };
        let verdict = format!("{good} of {} as they should be", trials.len());
        writeln!(
            out,
            "\n{}; {} caught, after {} seeds at the median; {cpu:.0} processor seconds of hunting",
            self.style.paint(ink, verdict),
            seeds.len(),
            grouped(median),
        )?;
        Ok(())
    }
}
