//! One entry's trial: build the broken engine, hunt until it is caught, say by what.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::tree::{Tree, find_root};
use crate::rig::Rig;

/// How far to go.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Seeds for an entry that must be caught.
    pub seeds: u64,
    /// Seeds for a harmless entry.
    pub harmless_seeds: u64,
    /// Wall-clock time for one entry, shrinking not counted.
    pub time: Duration,
    /// Threads of a hunt.
    pub jobs: usize,
    /// How the engine fails as it is, and at which seed, on the rigs where it does.
    pub unbroken: BTreeMap<Rig, (String, u64)>,
    /// How it fails as it is on stored plans, by rig and path, where it does.
    pub plans: BTreeMap<(Rig, String), String>,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The broken engine does not compile: the entry proves nothing.
    BuildFailed(String),
    /// The simulator noticed.
    Caught(Capture),
    /// A harmless change, and the simulator stayed quiet.
    Clean,
    /// The simulator did not end with a report.
    Died(String),
    /// A harmless change, and the simulator complained.
    FalseAlarm(Capture),
    /// An edit fits in no place, or in several.
    Inapplicable(String),
    /// The simulator found nothing.
    Missed,
    /// It failed as the unbroken engine does.
    Unclear(Capture),
}

/// What the simulator said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The rule violated, as a signature.
    pub signature: String,
    /// The failing seed.
    pub seed: u64,
    /// Items of the shrunk plan: operations, faults, message choices.
    pub items: Option<u64>,
    /// Messages delivered in the shrunk plan's run.
    pub deliveries: Option<u64>,
    /// The shrunk plan.
    pub plan: Option<PathBuf>,
}

/// The record of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The entry's name.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Seeds run.
    pub seeds: u64,
    /// Processor seconds of the hunt, shrinking not counted.
    pub cpu_seconds: f64,
    /// Wall-clock seconds to build.
    pub build_seconds: f64,
}

impl Trial {
    /// The record of an entry that could not be hunted for.
    #[must_use]
    pub fn without_hunt(entry: &Entry, verdict: Verdict) -> Self {
        Self { name: entry.name.clone(), verdict, seeds: 0, cpu_seconds: 0.0, build_seconds: 0.0 }
    }

    /// Whether the simulator did what it should.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        matches!(self.verdict, Verdict::Caught(_) | Verdict::Clean)
    }
}

/// Applies `entry` to `tree` and builds the simulator on top of it; the program is copied to
/// `programs`, so that the tree is free for the next entry.
///
/// # Errors
/// How the trial ended already.
pub fn build(tree: &Tree, entry: &Entry, programs: &Path) -> Result<PathBuf, Verdict> {
    let files = tree.edited(entry).map_err(Verdict::Inapplicable)?;
    compile(tree, entry.rig, &files, &programs.join(&entry.name))
}

/// Whether the engine with `entry` in it compiles; much faster than building the simulator.
///
/// # Errors
/// That it does not apply, or not compile.
pub fn check(tree: &Tree, entry: &Entry) -> Result<(), Verdict> {
    let failed = |error: io::Error| Verdict::BuildFailed(error.to_string());
    tree.set(&tree.edited(entry).map_err(Verdict::Inapplicable)?).map_err(failed)?;
    let mut cargo = cargo(tree, entry.rig);
    cargo.args(["check", "--quiet", "--package", "synod", "--no-default-features"]);
    if entry.rig == Rig::Stack {
        cargo.args(["--features", "host"]);
    }
    finish(&mut cargo)
}

/// Where builds for a rig go: each its own, for each compiles everything in its own way.
fn target(tree: &Tree, rig: Rig) -> PathBuf {
    tree.root().with_file_name(match rig {
        Rig::World => "build",
        Rig::Stack => "build-stack",
    })
}

fn cargo(tree: &Tree, rig: Rig) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(tree.root());
    cargo.env("CARGO_TARGET_DIR", target(tree, rig));
    cargo.env(
        "RUSTFLAGS",
        match rig {
            Rig::World => "-Awarnings",
            Rig::Stack => "-Awarnings --cfg madsim",
        },
    );
    cargo
}

fn finish(cargo: &mut Command) -> Result<(), Verdict> {
    let failed = |error: io::Error| Verdict::BuildFailed(error.to_string());
    let output = cargo.stdin(Stdio::null()).output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = errors.lines().find(|line| line.starts_with("error"));
    Err(Verdict::BuildFailed(line.unwrap_or("unknown error").into()))
}

fn compile(
    tree: &Tree,
    rig: Rig,
    files: &BTreeMap<PathBuf, String>,
    program: &Path,
) -> Result<PathBuf, Verdict> {
    let failed = |error: io::Error| Verdict::BuildFailed(error.to_string());
    tree.set(files).map_err(failed)?;
    // Its own profile: quick to build again after one changed line, still fast to run.
    let inherits = match rig {
        Rig::World => r#"profile.zoo.inherits="release""#,
        Rig::Stack => r#"profile.zoo.inherits="stack""#,
    };
    let settings = [
        inherits,
        r#"profile.zoo.lto="off""#,
        "profile.zoo.codegen-units=16",
        "profile.zoo.incremental=true",
        "profile.zoo.debug=false",
    ];
    let mut cargo = cargo(tree, rig);
    cargo.args(["build", "--quiet", "--profile", "zoo", "--package", "synod-sim"]);
    cargo.args(["--bin", "synod-sim"]);
    cargo.args(settings.iter().flat_map(|setting| ["--config", setting]));
    finish(&mut cargo)?;
    let target = target(tree, rig);
    if let Some(folder) = program.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::copy(target.join("zoo/synod-sim"), program).map_err(failed)?;
    Ok(program.into())
}

/// Replays the entry's plan, if it names one, then runs `program` over seeds until it fails or a
/// limit is reached.
#[must_use]
pub fn hunt(entry: &Entry, program: &Path, folder: &Path, limits: &Limits) -> Trial {
    let mut trial = Trial::without_hunt(entry, Verdict::Missed);
    let json = folder.join("result.json");
    let _ = fs::remove_file(&json);
    if let Err(error) = fs::create_dir_all(folder) {
        trial.verdict = Verdict::Died(error.to_string());
        return trial;
    }
    if let Some(plan) = &entry.plan {
        match replay(program, plan, folder) {
            Ok(None) => {}
            Ok(Some(capture)) => {
                trial.seeds = 1;
                let unbroken = limits.plans.get(&(entry.rig, plan.clone()));
                trial.verdict = if unbroken == Some(&capture.signature) {
                    Verdict::Unclear(capture)
                } else if entry.harmless {
                    Verdict::FalseAlarm(capture)
                } else {
                    Verdict::Caught(capture)
                };
                return trial;
            }
            Err(why) => {
                trial.verdict = Verdict::Died(why);
                return trial;
            }
        }
    }
    let seeds = if entry.harmless { limits.harmless_seeds } else { limits.seeds };
    let mut command = Command::new(program);
    command.args(["run", "--seeds", &format!("0..{seeds}")]);
    command.args(["--time", &format!("{}ms", limits.time.as_millis())]);
    command.args(["--jobs", &limits.jobs.to_string(), "--progress", "never"]);
    command.arg("--json").arg(&json).arg("--out").arg(folder);
    if let Some(scenario) = &entry.scenario {
        command.args(["--scenario", scenario]);
    }
    match watch(&mut command, &folder.join("report.txt"), limits.time + GRACE) {
        Ok(said) => {
            read(&json, entry, &said, &mut trial);
            if let (Verdict::Caught(capture), Some((signature, seed))) =
                (&trial.verdict, limits.unbroken.get(&entry.rig))
                && (&capture.signature, &capture.seed) == (signature, seed)
            {
                trial.verdict = Verdict::Unclear(capture.clone());
            }
        }
        Err(why) => trial.verdict = Verdict::Died(why),
    }
    trial
}

/// Replays a stored plan; what it fails by, if it does. The report goes to `folder`.
///
/// # Errors
/// If it did not end with a verdict.
pub fn replay(program: &Path, plan: &str, folder: &Path) -> Result<Option<Capture>, String> {
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let report = folder.join("replay.txt");
    let plan = find_root()?.join(plan);
    let said = watch(Command::new(program).arg("replay").arg(&plan), &report, GRACE)?;
    let text = fs::read_to_string(&report).map_err(|error| error.to_string())?;
    let lines = || text.lines().map(str::trim);
    let after = |label: &str| lines().find_map(|line| line.strip_prefix(label));
    match after("signature: ") {
        Some(signature) => Ok(Some(Capture {
            signature: signature.into(),
            plan: Some(plan),
            ..Capture::default()
        })),
        None if after("passed: ").is_some() => Ok(None),
        None => Err(format!("{}: {said}", plan.display())),
    }
}

/// What shrinking and writing may take beyond the hunt's own limit.
const GRACE: Duration = Duration::from_secs(300);

/// Runs to the end, or ends it at the limit, its report in a file; the last line of what it said on
/// standard error.
fn watch(command: &mut Command, report: &Path, limit: Duration) -> Result<String, String> {
    let report = File::create(report).map_err(|error| error.to_string())?;
    command.stdin(Stdio::null()).stdout(report).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut stderr = child.stderr.take();
    let reader = thread::spawn(move || {
        let text = stderr.take().map(io::read_to_string);
        text.and_then(Result::ok).unwrap_or_default()
    });
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if start.elapsed() < limit => thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not end within {} s", limit.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    let said = reader.join().unwrap_or_default();
    Ok(said.lines().last().unwrap_or_default().to_owned())
}

/// The part of a campaign's JSON that a trial is about.
#[derive(Deserialize)]
struct Outcome {
    seeds: u64,
    cpu_seconds: f64,
    #[serde(default)]
    found: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    seed: u64,
    signature: String,
    items: Option<u64>,
    deliveries: Option<u64>,
    plan: Option<PathBuf>,
}

fn read(json: &Path, entry: &Entry, said: &str, trial: &mut Trial) {
    let text = fs::read_to_string(json).map_err(|_| said.to_owned());
    let outcome = text.and_then(|text| {
        serde_json::from_str::<Outcome>(&text).map_err(|error| format!("its JSON: {error}"))
    });
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(why) => {
            trial.verdict = Verdict::Died(why);
            return;
        }
    };
    trial.seeds = outcome.seeds;
    trial.cpu_seconds = outcome.cpu_seconds;
    let capture = outcome.found.into_iter().next().map(|found| Capture {
        signature: found.signature,
        seed: found.seed,
        items: found.items,
        deliveries: found.deliveries,
        plan: found.plan,
    });
    trial.verdict = match (capture, entry.harmless) {
        (Some(capture), false) => Verdict::Caught(capture),
        (Some(capture), true) => Verdict::FalseAlarm(capture),
        (None, false) => Verdict::Missed,
        (None, true) => Verdict::Clean,
    };
}
