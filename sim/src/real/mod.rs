//! The real rig: server processes, sockets, disks and signals, judged by the judge of simulations.
//!
//! A run starts a cluster, has clients ask it what a seed says, does to it what the seed says,
//! heals it, reads everything from every node, and judges the history that was recorded. What is
//! asked and what goes wrong come from the seed; when exactly things meet is up to the machine, so
//! a run cannot be repeated, only made again.
//!
//! `kill -9` loses a process, not the page cache: what was written and not synced is still there
//! after it. That a sync is waited for is shown by the simulator and by the faulty store, not here.
//!
//! Must never know: the engine. It knows the server's command line and its protocol.

pub mod answers;
pub mod client;
pub mod cluster;
mod director;
mod ledger;
pub mod links;
pub mod measure;
pub mod merged;
pub mod network;
pub mod primary;
pub mod record;
mod report;
pub mod room;
pub mod schedule;
pub mod workload;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use cluster::{Store, program};
pub use report::{Report, Verdict};

use self::cluster::Cluster;
use self::director::Director;
use self::network::Network;
use self::record::{Book, Ruling};
use self::schedule::{Course, Means, Schedule};
use self::workload::{Client, Notes, Shared};
use crate::history::jsonl::write_history;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What clients ask and what goes wrong.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u16,
    /// How many clients besides owners of sessions.
    pub clients: u32,
    /// Where state is kept.
    pub store: Store,
    /// How long nodes may be silent before they count as gone, if not what servers come with.
    pub down: Option<Duration>,
    /// What goes wrong.
    pub course: Course,
    /// For how long.
    pub time: Duration,
    /// Or until so many processes were killed.
    pub kills: Option<u64>,
    /// Which namespaces this process has.
    pub inside: room::Inside,
    /// Whether nodes are to be in network namespaces.
    pub spaces: bool,
    /// Where everything is written.
    pub folder: PathBuf,
}

/// What a run tells while it goes on.
pub trait Watcher {
    /// Something worth a line.
    fn say(&mut self, text: &str);
    /// How it stands.
    fn tick(&mut self, state: &Progress);
}

/// How a run stands.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// How far it is, in thousandths.
    pub thousandths: u64,
    /// Since its beginning.
    pub elapsed: Duration,
    /// Questions answered.
    pub operations: u64,
    /// Of them, without anybody knowing the outcome.
    pub unknown: u64,
    /// What was done so far.
    pub counts: Counts,
    /// What is being done now.
    pub troubles: Vec<String>,
}

/// How often each thing was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Processes killed -9.
    pub kills: u64,
    /// Processes stopped and let go on.
    pub pauses: u64,
    /// Times that ways were cut.
    pub cuts: u64,
    /// Times that connections were reset.
    pub resets: u64,
    /// Times that ways were made slow.
    pub delays: u64,
    /// Times that a disk was filled.
    pub fulls: u64,
    /// Nodes that stopped because of it.
    pub full_stops: u64,
}

/// How long a healthy cluster may take to be ready.
const SETTLE: Duration = Duration::from_secs(60);

/// Runs it.
///
/// # Errors
/// Why it could not be begun, in one line.
pub fn run(
    options: &Options,
    program: &Path,
    stopped: &AtomicBool,
    watcher: &mut dyn Watcher,
) -> Result<Report, String> {
    let mut report = Report::new(options);
    let network = network(options, watcher)?;
    let means = means(options, &network, watcher)?;
    report.network = if network.is_relayed() { "relays" } else { "namespaces" };
    let cluster =
        Cluster::new(program.to_owned(), options.store, &options.folder, network, options.down);
    let mut cluster = cluster.map_err(|error| format!("{}: {error}", options.folder.display()))?;
    let over = || stopped.load(Ordering::Relaxed);
    let mut round = 0;
    loop {
        let began = report.counts.kills;
        let seed = options.seed.wrapping_add(round << 32);
        round_of(options, seed, &means, &mut cluster, &mut report, stopped, watcher);
        round += 1;
        // A cluster in memory that was killed is no more: another one, from nothing.
        let wanted = options.kills.is_some_and(|kills| report.counts.kills < kills);
        let again = options.store == Store::Memory && wanted && report.is_fine() && !over();
        if !again || report.counts.kills == began {
            break;
        }
        cluster.forget().map_err(|error| format!("{}: {error}", options.folder.display()))?;
    }
    report.rounds = round;
    report.interrupted = over();
    Ok(report)
}

fn network(options: &Options, watcher: &mut dyn Watcher) -> Result<Network, String> {
    if options.spaces {
        if options.inside.networks {
            match Network::spaces(options.nodes) {
                Ok(network) => {
                    watcher.say(
                        "network namespaces: links are cut by routes; SKIPPED: delays and resets",
                    );
                    return Ok(network);
                }
                Err(error) => watcher.say(&format!("SKIPPED: network namespaces: {error}")),
            }
        } else {
            watcher.say("SKIPPED: network namespaces: not permitted here; relays on loopback do");
        }
    }
    Network::relays(options.nodes)
        .map_err(|error| format!("loopback addresses of its own: {error}; this rig needs Linux"))
}

/// What can be done to this cluster. A majority of the disks can be filled, if any.
fn means(options: &Options, network: &Network, watcher: &mut dyn Watcher) -> Result<Means, String> {
    let relayed = network.is_relayed();
    let singly = options.store == Store::Memory;
    let mut means = Means { nodes: options.nodes, fillable: Vec::new(), singly, relayed };
    if options.store == Store::Memory || options.course != Course::Mixed {
        return Ok(means);
    }
    if !options.inside.mounts {
        watcher.say("SKIPPED: full disks: no mount namespace is permitted here (try as root)");
        return Ok(means);
    }
    for node in options.nodes / 2..options.nodes {
        let place = options.folder.join(format!("data-{}", node + 1));
        fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        if let Err(error) = room::mount(&place, room::SIZE) {
            watcher.say(&format!("SKIPPED: full disks: {error}"));
            break;
        }
        means.fillable.push(node + 1);
    }
    Ok(means)
}

/// One cluster from its first start to its end.
fn round_of(
    options: &Options,
    seed: u64,
    means: &Means,
    cluster: &mut Cluster,
    report: &mut Report,
    stopped: &AtomicBool,
    watcher: &mut dyn Watcher,
) {
    let over = || stopped.load(Ordering::Relaxed);
    for number in cluster.numbers() {
        if let Err(error) = cluster.start(number) {
            return report.crashed(format!("node {number} cannot be started: {error}"));
        }
    }
    if let Err(why) = cluster.wait_ready(SETTLE, &over) {
        if !over() {
            report.stuck(why);
        }
        return;
    }
    let addresses = cluster.numbers().map(|node| (node, cluster.clients_address(node))).collect();
    // What was in memory only may be lost.
    let merges = options.store != Store::Memory;
    let shared = Shared::new(seed, addresses, options.course == Course::Crash, merges);
    let crowd = Crowd::of(options);
    let mut director = Director::new(&shared, options, report.counts);
    let schedule = Schedule::new(seed, options.course, means.clone());
    let mut notes = crowd.drive(&shared, || {
        if options.course == Course::Failover {
            let gone_on = director.fail_over(cluster, seed, &over, watcher);
            gone_on.unwrap_or_else(|why| report.stuck(why));
            report.failovers = Some(director.taken_over());
        } else {
            director.direct(cluster, schedule, &over, watcher);
        }
    });
    if notes.len() != crowd.size() {
        report.crashed("a client of the rig has panicked; see above".to_owned());
    }
    director.heal(cluster);
    let mut copies = None;
    report.failures.extend(director.failures.iter().cloned());
    report.counts = director.counts;
    report.searches += director.searches;
    report.sessions += shared.sessions.load(Ordering::Relaxed);
    if options.store == Store::Memory && !director.killed().is_empty() {
        if let Err(why) = ledger::memory_refuses(cluster, director.killed()) {
            report.failures.push(why);
        }
    } else {
        match settle(options, cluster, &shared, &mut notes, report, &over, watcher) {
            Ok(settled) => copies = settled,
            Err(_) if over() => {}
            Err(why) => report.stuck(why),
        }
    }
    report.interrupted = over();
    judge_copies(&shared, &notes, copies.as_ref(), report);
    judge_orders(&shared, &notes, &director, report);
    conclude(options, cluster, &shared, &director, &mut notes, report, watcher);
    if let Err(why) = cluster.stop()
        && !over()
    {
        report.crashed(why);
    }
}

/// How many clients do what.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    /// They ask of registers and of the merged table.
    asking: u32,
    /// They own sessions.
    owning: u32,
    /// They ask of the primary table, which has them wait while it has no primary.
    ordering: u32,
    /// How many milliseconds those pause between two questions.
    pause: (u64, u64),
}

impl Crowd {
    fn of(options: &Options) -> Self {
        let clients = options.clients;
        let owning = (clients / 4).max(1);
        // What was in memory only may be lost.
        let ordering = if options.store == Store::Memory { 0 } else { (clients / 2).max(1) };
        match options.course {
            Course::Crash | Course::Mixed => {
                Self { asking: clients, owning, ordering, pause: (0, 4) }
            }
            // A run of many hours is to be judged at its end, from memory.
            Course::Failover => Self { asking: 0, owning: 0, ordering: clients, pause: (4, 20) },
            Course::Measure => Self { asking: clients, owning, ordering: 0, pause: (0, 0) },
        }
    }

    const fn size(self) -> usize {
        (self.asking + self.owning + self.ordering) as usize
    }

    /// Has clients ask for as long as `direct` takes; what they noted.
    fn drive(self, shared: &Shared, direct: impl FnOnce()) -> Vec<Notes> {
        let Self { asking, owning, ordering, pause } = self;
        thread::scope(|scope| {
            let clients = (0..asking + owning + ordering).map(|id| {
                let client = Client::new(shared, id + 1);
                scope.spawn(move || match id {
                    _ if id < asking => client.run(),
                    _ if id < asking + owning => client.own(),
                    _ => client.order(pause),
                })
            });
            let threads: Vec<_> = clients.collect();
            direct();
            shared.over.store(true, Ordering::Relaxed);
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        })
    }
}

/// After everything is healed: waits for the cluster, and finds every acknowledged write. What the
/// merged table came to hold, if it was written to.
fn settle(
    options: &Options,
    cluster: &mut Cluster,
    shared: &Shared,
    notes: &mut [Notes],
    report: &mut Report,
    over: &dyn Fn() -> bool,
    watcher: &mut dyn Watcher,
) -> Result<Option<merged::Copies>, String> {
    let begin = Instant::now();
    watcher.say("healed; waiting for all nodes");
    cluster.wait_ready(SETTLE, over)?;
    let keys = shared.copied_names();
    let copies = keys.map(|keys| merged::wait_equal(cluster, &keys, SETTLE, over)).transpose()?;
    report.merged.equal_ms = begin.elapsed().as_millis() as u64;
    watcher.say("reading everything from every node");
    let mut orders: Vec<_> = notes.iter_mut().map(|notes| &mut notes.orders).collect();
    let now = || shared.now();
    primary::settle(cluster, &shared.ordered_names(), &mut orders, &now, SETTLE, over)?;
    let unbound = ledger::wait_unbound(cluster, shared, SETTLE, over)?;
    report.ends_ms = unbound.as_millis() as u64;
    let all = shared.ledger(0);
    for number in cluster.numbers() {
        let missing = ledger::missing(cluster, number, &all, over)?;
        report.failures.extend(missing);
    }
    report.acknowledged += all.len() as u64;
    if options.course == Course::Measure {
        watcher.say("measuring how long keys outlive what they are bound to");
        report.endings = Some(measure::endings(cluster, 20, over)?);
    }
    Ok(copies)
}

/// Judges what was asked of the merged table.
fn judge_copies(
    shared: &Shared,
    notes: &[Notes],
    copies: Option<&merged::Copies>,
    report: &mut Report,
) {
    let Some(keys) = shared.copied_names() else { return };
    let deeds: Vec<_> = notes.iter().flat_map(|notes| notes.deeds.iter().cloned()).collect();
    let (found, wrong) = merged::judge(&keys, &deeds, copies);
    report.merged = merged::Found { equal_ms: report.merged.equal_ms, ..found };
    report.failures.extend(wrong);
}

/// Judges what was asked of the primary table.
fn judge_orders(shared: &Shared, notes: &[Notes], director: &Director<'_>, report: &mut Report) {
    let orders = || notes.iter().map(|notes| &notes.orders);
    let doubts = orders().flat_map(|orders| orders.doubts.iter().map(|doubt| &doubt.deed));
    let deeds: Vec<_> = orders().flat_map(|orders| &orders.deeds).chain(doubts).collect();
    let (found, wrong) = primary::judge(&shared.ordered_names(), &deeds);
    let late: Vec<_> = orders().flat_map(|orders| orders.late.iter().copied()).collect();
    let longest = orders().map(|orders| orders.longest).max().unwrap_or(0);
    report.primary = primary::Found {
        repeated: orders().map(|orders| orders.repeated).sum(),
        longest_ms: longest as f64 / 1e6,
        ..found
    };
    report.failures.extend(wrong);
    report.failures.extend(primary::not_in_time(&late, &director.still_times));
}

/// Closes the book of a round and has it judged.
fn conclude(
    options: &Options,
    cluster: &Cluster,
    shared: &Shared,
    director: &Director<'_>,
    notes: &mut Vec<Notes>,
    report: &mut Report,
    watcher: &mut dyn Watcher,
) {
    if report.is_fine() && !report.interrupted {
        match ledger::read_all(cluster, shared) {
            Ok(last) => notes.push(last),
            // Most of it has forgotten everything, and takes no part.
            Err(why) if options.store == Store::Memory => drop(why),
            Err(why) => report.stuck(why),
        }
    }
    let done: Vec<u64> =
        notes.iter().flat_map(|notes| notes.done.iter().map(|(time, _)| *time)).collect();
    if options.course == Course::Measure {
        report.gaps = Some(measure::gaps(done, &director.kill_times, &director.times));
    }
    let (mut book, strange) = shared.close(notes);
    book.disturbances = director.disturbances.clone();
    book.lives = ledger::lives(cluster);
    report.failures.extend(strange);
    report.failures.extend(book.invented());
    report.operations += shared.operations.load(Ordering::Relaxed);
    report.unknown += book.unknown();
    report.judged += book.calls.len() as u64;
    report.local_reads += book.glances.len() as u64;
    watcher.say(&format!("judging {} answers about {} keys", book.calls.len(), book.keys.len()));
    judge(options, &book, report);
}

fn judge(options: &Options, book: &Book, report: &mut Report) {
    let history = book.history();
    let ruling = record::judge(&history);
    let written = File::create(options.folder.join("history.jsonl")).and_then(|file| {
        let mut out = BufWriter::new(file);
        write_history(&mut out, &history)?;
        out.flush()
    });
    if let Err(error) = written {
        report.failures.push(format!("the history cannot be written: {error}"));
    }
    match ruling {
        Ruling::Linearizable => {}
        Ruling::Undecided(why) => report.undecided.push(why),
        Ruling::Violated(why) => report.failures.push(format!("not linearizable: {why}")),
    }
}

/// Copies what is in memory only beside everything else, for whoever looks for a cause.
///
/// # Errors
/// What the operating system says.
pub fn keep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let place = entry?.path();
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(number) = name.strip_prefix("data-") else { continue };
        room::free(&place);
        let kept = folder.join(format!("state-{number}"));
        copy(&place, &kept)?;
        room::unmount(&place);
        let _ = fs::remove_dir_all(&place);
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
