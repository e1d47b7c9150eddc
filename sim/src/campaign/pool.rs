//! The threads of a campaign, and the fold of what they bring.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::failure::{Found, Grade, attempt};
use super::{Source, Totals};
use crate::history::{History, Model};
use crate::world::{Blind, Report, Verdict};

/// How far a campaign goes, and how.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The seeds.
    pub seeds: Range<u64>,
    /// For how long, at most.
    pub time: Option<Duration>,
    /// How many threads.
    pub jobs: usize,
    /// Whether to go on after a failure.
    pub keep_going: bool,
    /// From the last seed to the first.
    pub reverse: bool,
    /// A run that takes longer than this will never end.
    pub hang: Duration,
}

/// Why a campaign ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All seeds have been run.
    Done,
    /// There was a failure.
    Failure,
    /// A run did not end.
    Hung,
    /// Ctrl-C.
    Interrupted,
    /// Time was up.
    Time,
}

/// What a campaign came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The sums.
    pub totals: Totals,
    /// The failures, one for each signature, by their lowest seed.
    pub found: Vec<Found>,
    /// How many seeds from the start have been run.
    pub done: u64,
    /// Why it ended.
    pub stop: Stop,
    /// How long it took.
    pub wall: Duration,
    /// Processor time it took.
    pub cpu_seconds: f64,
}

/// Looks at a campaign while it runs.
pub trait Watcher {
    /// Called some ten times a second.
    fn tick(&mut self, totals: &Totals, found: &[Found], elapsed: Duration);

    /// Called for every run in the order of the seeds.
    fn run(&mut self, seed: u64, report: &Report) {
        let _ = (seed, report);
    }
}

/// Processor seconds that this process has used, where the system tells.
#[must_use]
pub fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold anything; the fields behind it may not.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).take(2);
    let mut next = || times.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / 100.0)
}

/// What threads and fold share.
struct Shared {
    source: Source,
    limits: Limits,
    start: Instant,
    stop: AtomicBool,
    /// The place of the next seed to take.
    next: AtomicU64,
    /// How many runs have been folded.
    folded: AtomicU64,
    /// For each thread, the seed it is at and since when, in milliseconds from 1; 0 when idle.
    at: Vec<(AtomicU64, AtomicU64)>,
}

/// Runs a campaign; `interrupted` ends it early.
pub fn campaign(
    source: &Source,
    limits: &Limits,
    interrupted: &AtomicBool,
    watcher: &mut dyn Watcher,
) -> Outcome {
    let cpu = cpu_seconds();
    let count = limits.seeds.end - limits.seeds.start;
    let jobs = limits.jobs.min(usize::try_from(count).unwrap_or(usize::MAX));
    let shared = Arc::new(Shared {
        source: source.clone(),
        limits: limits.clone(),
        start: Instant::now(),
        stop: AtomicBool::new(false),
        next: AtomicU64::new(0),
        folded: AtomicU64::new(0),
        at: (0..jobs).map(|_| (AtomicU64::new(0), AtomicU64::new(0))).collect(),
    });
    let (sender, results) = mpsc::channel();
    // Not scoped: a thread whose run never ends must not be waited for.
    for place in 0..jobs {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        thread::spawn(move || shared.work(place, &sender));
    }
    drop(sender);
    let mut fold = Fold {
        shared: &shared,
        totals: Totals::new(),
        found: Vec::new(),
        waiting: BTreeMap::new(),
        done: 0,
        stop: None,
    };
    let stop = loop {
        match results.recv_timeout(Duration::from_millis(50)) {
            Ok((place, report)) => {
                fold.take(place, report, watcher);
                // Whatever else is there already.
                while let Ok((place, report)) = results.try_recv() {
                    fold.take(place, report, watcher);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break fold.stop,
        }
        if interrupted.load(Ordering::Relaxed) {
            fold.end(Stop::Interrupted);
        }
        if fold.find_hung() {
            break fold.stop;
        }
        watcher.tick(&fold.totals, &fold.found, shared.start.elapsed());
    };
    let wall = shared.start.elapsed();
    let all = fold.done == count;
    let otherwise = if all { Stop::Done } else { Stop::Time };
    let cpu = cpu.zip(cpu_seconds()).map(|(before, after)| after - before);
    Outcome {
        totals: fold.totals,
        found: fold.found,
        done: fold.done,
        stop: stop.unwrap_or(otherwise),
        wall,
        cpu_seconds: cpu.unwrap_or(wall.as_secs_f64() * limits.jobs as f64),
    }
}

/// How far threads may run ahead of the fold.
const AHEAD_MAX: u64 = 10_000;

impl Shared {
    fn seed(&self, place: u64) -> u64 {
        let seeds = &self.limits.seeds;
        if self.limits.reverse { seeds.end - 1 - place } else { seeds.start + place }
    }

    fn is_over(&self) -> bool {
        let late = self.limits.time.is_some_and(|time| self.start.elapsed() >= time);
        late || self.stop.load(Ordering::Relaxed)
    }

    fn work(&self, thread: usize, sender: &mpsc::Sender<(u64, Report)>) {
        let (seed_at, since) = &self.at[thread];
        let count = self.limits.seeds.end - self.limits.seeds.start;
        while !self.is_over() {
            if self.next.load(Ordering::Relaxed) > self.folded.load(Ordering::Relaxed) + AHEAD_MAX {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            // Whoever takes a place runs it: the places run are always a prefix.
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            if place >= count {
                break;
            }
            let seed = self.seed(place);
            seed_at.store(seed, Ordering::Relaxed);
            since.store(self.start.elapsed().as_millis() as u64 + 1, Ordering::Release);
            let plan = self.source.plan(seed);
            let mut report = attempt(&plan, &mut Blind);
            since.store(0, Ordering::Release);
            report.history = History::new(Model::Kv);
            if sender.send((place, report)).is_err() {
                break;
            }
        }
    }
}

/// The results so far, in the order of the seeds.
struct Fold<'a> {
    shared: &'a Shared,
    totals: Totals,
    found: Vec<Found>,
    waiting: BTreeMap<u64, Report>,
    done: u64,
    stop: Option<Stop>,
}

impl Fold<'_> {
    fn end(&mut self, why: Stop) {
        self.stop.get_or_insert(why);
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    fn take(&mut self, place: u64, report: Report, watcher: &mut dyn Watcher) {
        self.waiting.insert(place, report);
        while let Some(report) = self.waiting.remove(&self.done) {
            if self.stop == Some(Stop::Failure) {
                break;
            }
            let seed = self.shared.seed(self.done);
            self.done += 1;
            self.fold(seed, &report);
            watcher.run(seed, &report);
        }
        self.shared.folded.store(self.done, Ordering::Relaxed);
    }

    fn fold(&mut self, seed: u64, report: &Report) {
        let scenario = self.shared.source.scenario(seed).name;
        self.totals.count(seed, scenario, report);
        let Verdict::Fail(failure) = &report.verdict else {
            return;
        };
        let known = self.found.iter_mut().find(|found| found.signature == failure.signature);
        match known {
            Some(found) => found.count += 1,
            None => self.found.push(Found::new(seed, scenario, failure)),
        }
        if !self.shared.limits.keep_going {
            self.end(Stop::Failure);
        }
    }

    /// Whether a run goes on for so long that it will never end.
    fn find_hung(&mut self) -> bool {
        let now = self.shared.start.elapsed().as_millis() as u64 + 1;
        let limit = self.shared.limits.hang.as_millis() as u64;
        let hung = self.shared.at.iter().find(|(_, since)| {
            let since = since.load(Ordering::Acquire);
            since > 0 && now.saturating_sub(since) > limit
        });
        let Some((seed, _)) = hung else {
            return false;
        };
        let seed = seed.load(Ordering::Relaxed);
        self.totals.seeds += 1;
        self.totals.failures += 1;
        self.totals.no_progress += 1;
        self.found.push(Found {
            seed,
            scenario: self.shared.source.scenario(seed).name.to_owned(),
            kind: Grade::NoProgress,
            rule: "hang".to_owned(),
            signature: "hang".to_owned(),
            message: format!(
                "the run did not end within {} s of real time: an endless loop",
                limit / 1_000
            ),
            count: 1,
            items: None,
            deliveries: None,
            plan: None,
        });
        self.end(Stop::Hung);
        true
    }
}
