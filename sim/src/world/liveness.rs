//! The second phase: faults end, a core that must be able to work is healed, everything outside it
//! stays failed for good, and what must come must come within a bound.
//!
//! The predicate of who must make progress is written down in `docs/SIMULATION.md`; it is
//! [`World::choose_core`] here.
//!
//! Must never know: how the engine makes progress.

use std::time::Duration;

use synod::consensus::Readiness;
use synod::{
    Ballot, Binding, ClientId, Command, NodeId, OnNoQuorum, Outcome, ReadLevel, RegisterId,
    Request, RequestId, Sent, SessionId, TableId, Value, Wall,
};

use super::client::{key_of, value_of};
use super::clock::{millis, true_wall};
use super::queue::Task;
use super::resolvers::is_resolver;
use super::{EventKind, FailureKind, PROBER, World};
use crate::oracle::{Orphan, node_of, op};
use crate::plan::{Keep, Nanos, Nodes};
use crate::random::{Site, below, draw};

/// The shape of an entry that outlives its deadline, or another entry that ended at its own.
const DEADLINE: &str = "deadline passed";

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Safety,
    /// Until everything that must come has come.
    Settling,
    /// Asking the healed core things that it must answer.
    Probing,
    /// Nothing is asked: nothing may happen.
    Quiet,
    Over,
}

/// What the liveness phase keeps.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    stage: Stage,
    /// The nodes that must be able to work.
    core: Nodes,
    /// Nodes outside it that are there: they have lost what they voted by, and must say so.
    lost: Nodes,
    /// Whether the core must make progress.
    pub(super) due: bool,
    deadline: Nanos,
    pub(super) last_quorum_event: Nanos,
    quiet_since: Nanos,
    /// When replicas of primary tables were last seen not to be equal yet.
    unequal_at: Nanos,
    probe: u64,
    asked: u64,
    session: Option<SessionId>,
    prepared: u64,
    list_reads: u64,
    rosters: u64,
    /// The deadlines that there were when nothing more was asked, and how many registers may
    /// follow when one passes.
    deadlines: Vec<Wall>,
    dependants: usize,
}

/// One thing asked of the core.
enum Probe {
    Open,
    Close,
    Write(TableId, u16),
    Read(TableId, u16),
    Status(usize),
}

impl Liveness {
    pub(super) fn is_safety(&self) -> bool {
        self.stage == Stage::Safety
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }
}

impl World<'_> {
    pub(super) fn begin_liveness(&mut self) {
        if !self.liveness.is_safety() {
            return;
        }
        // Before faults end: what they hold down must not start only to be stopped.
        self.liveness.stage = Stage::Settling;
        for client in &mut self.clients {
            client.retire();
        }
        self.choose_core();
        self.event(0x11FE ^ self.liveness.core.0 << 16);
        let core = self.liveness.core;
        let due = if self.liveness.due { "must" } else { "need not" };
        self.tell(
            None,
            EventKind::Phase,
            format_args!("faults end; nodes {core} are healed and {due} make progress"),
        );
        let lost = self.liveness.lost;
        for place in 0..self.hosts.len() {
            if !core.has(node_of(place).0) && !lost.has(node_of(place).0) {
                self.retire_node(place);
            }
        }
        self.end_all_faults();
        #[cfg(madsim)]
        self.hurry_segments();
        for place in 0..self.hosts.len() {
            let host = &mut self.hosts[place];
            host.held = 0;
            host.disk.full = 0;
            host.disk.fails = false;
            host.disk.slow = 0;
            // What a slow disk holds up is held up no more.
            for write in &mut host.disk.pending {
                write.done = self.now;
                self.queue.push(self.now, Task::Written(place as u16, host.boots));
            }
            host.clock.heal(self.now);
            if host.paused > 0 {
                host.paused = 1;
                self.resume(place);
            }
            self.hosts[place].timer = None;
            self.schedule_timer(place);
            self.start_if_free(place);
        }
        self.check_oracle();
        self.liveness.last_quorum_event = self.now;
        self.liveness.deadline = self.now.saturating_add(self.plan.liveness);
        let at = self.now + self.plan.cluster.heartbeat;
        self.queue.push(at, Task::Settle);
    }

    /// Who must be able to work: at least a quorum of nodes that keep their storage and that vote
    /// already; or, while some have never voted, all that keep their storage, as long as those are
    /// enough to witness each other's.
    fn choose_core(&mut self) {
        let quorum = u32::from(self.plan.quorum());
        let (mut voters, mut intact) = (Nodes::default(), Nodes::default());
        for (place, host) in self.hosts.iter().enumerate() {
            if host.rotten || host.wiped || host.gone {
                continue;
            }
            let node = node_of(place).0;
            intact.add(node);
            if self.oracle.is_active(place) {
                voters.add(node);
            }
        }
        if voters.len() < quorum {
            // The cluster has never begun (P-32).
            let witnesses = self.hosts.first().and_then(|host| host.config.witnesses().ok());
            let enough = witnesses.is_some_and(|witnesses| intact.len() > witnesses);
            self.liveness.core = intact;
            self.liveness.due = intact.len() >= quorum && enough && self.no_storage_lost();
            return;
        }
        let mut order: Vec<u16> = voters.iter().collect();
        for place in (1..order.len()).rev() {
            let drawn = draw(self.plan.seed, Site::Core, place as u64, 0);
            order.swap(place, below(drawn, place as u64 + 1) as usize);
        }
        let spare = u64::from(voters.len() - quorum);
        let size = quorum as u64 + below(draw(self.plan.seed, Site::Core, 0, 1), spare + 1);
        let mut core = Nodes::default();
        order.iter().take(size as usize).for_each(|&node| core.add(node));
        self.liveness.core = core;
        self.liveness.due = true;
        for place in 0..self.hosts.len() {
            // A quorum of voters holds somebody who took note of what it was before it voted.
            let drawn = draw(self.plan.seed, Site::Core, place as u64, 1);
            if self.oracle.is_lost(place) && !self.hosts[place].gone && drawn & 1 == 0 {
                self.liveness.lost.add(node_of(place).0);
            }
        }
    }

    fn no_storage_lost(&self) -> bool {
        !self.hosts.iter().any(|host| host.wiped || host.rotten)
    }

    /// Whether a node says that its storage is not the one it was (P-33).
    pub(super) fn says_lost(&self, place: usize) -> bool {
        let node = self.hosts[place].node.as_ref();
        node.is_some_and(|node| matches!(node.readiness(), Readiness::StateLost(_)))
    }

    /// Whether a node takes part.
    pub(super) fn is_ready(&self, place: usize) -> bool {
        let node = self.hosts[place].node.as_ref();
        node.is_some_and(|node| *node.readiness() == Readiness::Ready)
    }

    /// A node outside the core is gone for the rest of the run.
    fn retire_node(&mut self, place: usize) {
        self.hosts[place].gone = true;
        self.crash(place, Keep::None, 1 << 41 | place as u64);
        self.forget_sessions(place);
    }

    /// Looks whether all is as it must be, and goes on to the next stage when it is.
    pub(super) fn settle(&mut self) {
        if self.failure.is_some() || self.liveness.is_over() {
            return;
        }
        let unsettled = self.unsettled();
        if !self.liveness.due {
            // Safety holds all the same; a while is enough to see.
            if self.now + self.plan.liveness > self.liveness.deadline + 2 * self.plan.cluster.down {
                self.liveness.stage = Stage::Over;
                return;
            }
        } else if self.now >= self.liveness.deadline {
            let stage = self.liveness.stage;
            let (rule, shape, text) = unsettled.unwrap_or_else(|| {
                (
                    "L1",
                    "call not answered",
                    format!("probe {} is not answered", self.liveness.probe),
                )
            });
            let text = format!(
                "{text}; {}s after faults ended, with nodes {} healed ({stage:?})",
                self.plan.liveness / 1_000_000_000,
                self.liveness.core
            );
            return self.fail(FailureKind::NoProgress, rule, shape, text);
        } else {
            match (self.liveness.stage, unsettled) {
                (Stage::Settling, None) => {
                    self.liveness.stage = Stage::Probing;
                    self.liveness.prepared = self.oracle.prepared(self.gone());
                    self.tell(None, EventKind::Phase, format_args!("settled; the core is probed"));
                    self.ask_probe();
                }
                (Stage::Settling, Some(("C1", ..))) => self.order_merges(),
                (Stage::Quiet, None) if self.is_quiet_long() => self.end_quiet(),
                // A deadline may pass in a quiet time; its entry goes with the next sweep, and then
                // what is bound to that, and then watchers are told. Nothing else ends while nobody
                // does anything; and the quiet time ends only when all this is done.
                // And what a node sent before it was gone may come as late as a fault can make it:
                // the others learn of its writes one after the other.
                (Stage::Quiet, Some(("L2", DEADLINE, _) | ("L10" | "C1", ..))) => {}
                // So are writes and changes of who counts that waited for who is gone now; but they
                // come to an end, and then nothing comes for as long as before.
                // And resolvers are asked anew when a node is told late that another is back.
                (Stage::Quiet, Some(("C6" | "I9" | "I10", ..))) => {
                    self.liveness.unequal_at = self.now;
                }
                (Stage::Quiet, Some((rule, shape, text))) => {
                    let text = format!("unsettled again: {text}");
                    return self.fail(FailureKind::NoProgress, rule, shape, text);
                }
                _ => {}
            }
        }
        let at = self.now + self.plan.cluster.heartbeat;
        self.queue.push(at, Task::Settle);
    }

    const fn is_quiet_long(&self) -> bool {
        let (quiet, unequal) = (self.liveness.quiet_since, self.liveness.unequal_at);
        let since = if quiet > unequal { quiet } else { unequal };
        self.now >= since + self.plan.cluster.down
    }

    /// Whether a reader asking the core would find this life, so bound.
    fn is_found(&self, register: &RegisterId, generation: Ballot, binding: &Binding) -> bool {
        let nodes = self.hosts.iter().filter_map(|host| host.node.as_ref());
        let found = nodes.filter_map(|node| {
            let own = node.registers().find(|(known, ..)| *known == register);
            own.map(|(_, _, accepted, cell)| (accepted, cell))
        });
        let newest = found.max_by_key(|(accepted, _)| *accepted);
        newest
            .and_then(|(_, cell)| cell?.live())
            .is_some_and(|live| live.generation == generation && live.bindings.contains(binding))
    }

    /// The nodes that are gone for good.
    fn gone(&self) -> Nodes {
        let all = Nodes::first(self.plan.cluster.nodes);
        Nodes(all.0 & !self.liveness.core.0)
    }

    fn is_probing(&self) -> bool {
        self.liveness.stage == Stage::Probing
    }

    /// A node that is not yet as it must be.
    fn unsettled_node(&self) -> Option<(&'static str, &'static str, String)> {
        #[cfg(madsim)]
        if let Some(text) = self.dead_stream() {
            return Some(("H6", "dead stream kept", text));
        }
        for (place, host) in self.hosts.iter().enumerate() {
            let node = node_of(place);
            let session = self.oracle.node_session(place);
            let open = session.is_some_and(|session| session.open);
            if self.liveness.lost.has(node.0) && !self.says_lost(place) {
                let text = format!("{node} does not say that its storage is lost");
                return Some(("L4", "lost and silent about it", text));
            }
            if !self.liveness.core.has(node.0) {
                continue;
            }
            let ready = host.node.as_ref().map(super::Process::readiness);
            if ready != Some(&Readiness::Ready) {
                let why = ready.map_or_else(|| "down".to_owned(), ToString::to_string);
                return Some(("L4", "node not ready", format!("{node} is {why}")));
            }
            #[cfg(madsim)]
            if let Some(text) = self.untold_merge(place) {
                return Some(("H7", "merge kept from the client", text));
            }
            if self.oracle.has_quorum(place) != Some(true) {
                let text = format!("{node} does not say that it reaches a quorum");
                return Some(("L5", "quorum not reached", text));
            }
            let (reached, there) =
                (self.oracle.reachable(place).unwrap_or(1), self.liveness.core.iter().count());
            if reached < there {
                let text = format!("{node} reaches {reached} where {there} are there");
                return Some(("L5", "others not reached", text));
            }
            if !open {
                let text = format!("{node} works, and its session is not open");
                return Some(("L7", "session of a live node not open", text));
            }
        }
        None
    }

    /// What is not yet as it must be.
    fn unsettled(&self) -> Option<(&'static str, &'static str, String)> {
        let node = self.unsettled_node();
        if node.is_some() {
            return node;
        }
        // Also those whose clients have died since: their nodes do not know, and go on.
        // Resolvers are at work until they have their answers (C6).
        let probing = self.is_probing();
        let mut unanswered = self.core_places().into_iter().filter_map(|place| {
            let mut asked = self.hosts[place].asked.iter().filter(|(who, _)| !is_resolver(*who));
            asked.next().filter(|_| !probing).map(|asked| (place, *asked))
        });
        if let Some((place, (client, request))) = unanswered.next() {
            let text = format!("n{} has not answered {client}.{request}", place + 1);
            return Some(("L1", "call not answered", text));
        }
        if let Some(client) = self.clients.iter().find(|client| client.is_waiting()) {
            let text = format!("a request of {} is not answered", client.id);
            return Some(("L1", "call not answered", text));
        }
        let wall = Wall(millis(true_wall(self.now)).saturating_sub(1));
        let orphan = self.oracle.orphan(self.gone(), wall, |register, generation, binding| {
            self.is_found(register, generation, binding)
        });
        if let Some(Orphan { register, binding, late }) = orphan {
            let shape = if late { DEADLINE } else { "orphan" };
            return Some(("L2", shape, format!("{register} lives on though {binding} has ended")));
        }
        if let Some((register, client, generation)) = self.oracle.untold(self.liveness.core) {
            let text =
                format!("{client} watches {register} and is not told that {generation} ended");
            return Some(("L10", "end not told", text));
        }
        if let Some((shape, text)) = self.oracle.unequal(self.liveness.core) {
            return Some(("C1", shape, text));
        }
        let unequal = self.oracle.unequal_replicas(self.liveness.core);
        if unequal.is_some() {
            return unequal;
        }
        if let Some(text) = self.unresolved() {
            return Some(("C6", "conflict left alone", text));
        }
        let suspended = self.clients.iter().find(|client| !client.suspended.is_empty());
        if let Some(client) = suspended {
            let text = format!(
                "{} was told that {} may have ended, and nothing since",
                client.id, client.suspended[0]
            );
            return Some(("L8", "suspended for ever", text));
        }
        None
    }

    // ---- probes ---------------------------------------------------------------------------

    /// The nodes of the core, in order.
    pub(super) fn core_places(&self) -> Vec<usize> {
        self.liveness.core.iter().map(|node| usize::from(node - 1)).collect()
    }

    /// The probe of this number: sessions at each node of the core, then a write and a read of
    /// each key at different nodes.
    fn probe(&self, number: u64) -> Option<(usize, Probe)> {
        let core = self.core_places();
        let count = core.len() as u64;
        let keys = u64::from(self.plan.keys) * self.plan.consensus_tables() as u64;
        if number < 2 * count {
            let place = core[(number / 2) as usize];
            let probe = if number.is_multiple_of(2) { Probe::Open } else { Probe::Close };
            return Some((place, probe));
        }
        let number = number - 2 * count;
        if number < 2 * keys {
            let place = core[(number % count) as usize];
            let key = number / 2;
            let table = TableId((key / u64::from(self.plan.keys)) as u16);
            let key = (key % u64::from(self.plan.keys)) as u16;
            let write = number.is_multiple_of(2);
            let probe = if write { Probe::Write(table, key) } else { Probe::Read(table, key) };
            return Some((place, probe));
        }
        let number = number - 2 * keys;
        let place = *core.get(usize::try_from(number).ok()?)?;
        Some((place, Probe::Status(place)))
    }

    fn ask_probe(&mut self) {
        let number = self.liveness.probe;
        let Some((place, probe)) = self.probe(number) else {
            self.liveness.stage = Stage::Over;
            self.tell(None, EventKind::Phase, format_args!("all is well"));
            return;
        };
        if matches!(probe, Probe::Status(_)) && self.liveness.stage == Stage::Probing {
            return self.begin_quiet();
        }
        let client = ClientId::new(PROBER);
        let id = RequestId(number + 1);
        let once = |table: TableId| self.plan.tables[usize::from(table.0)].is_write_once();
        let command = match probe {
            Probe::Open => Command::OpenSession,
            Probe::Close => match self.liveness.session {
                Some(session) => Command::CloseSession(session),
                None => Command::Status,
            },
            Probe::Write(table, key) => {
                let (key, bindings) = (key_of(key), Vec::new());
                let value = value_of(PROBER, number);
                if once(table) {
                    Command::PutIfAbsent { table, key, value, bindings }
                } else {
                    Command::Put { table, key, value, bindings }
                }
            }
            Probe::Read(table, key) => {
                Command::Get { table, key: key_of(key), level: ReadLevel::Linearizable }
            }
            Probe::Status(_) => Command::Status,
        };
        self.oracle.on_request(op(client, id), &command);
        self.recorder.on_request(op(client, id), &command, None);
        self.liveness.asked += 1;
        let request = Request {
            client,
            id,
            sent: Sent::First,
            patience: Duration::from_nanos(self.plan.liveness),
            on_no_quorum: OnNoQuorum::Return,
            command,
        };
        self.give(place, request);
    }

    /// L1: what is asked of a healed core is answered definitely, and rightly.
    pub(super) fn on_probe_answer(
        &mut self,
        at: usize,
        client: ClientId,
        id: RequestId,
        outcome: &Outcome,
    ) {
        self.oracle.on_answer(op(client, id), at, outcome, &mut self.marks);
        self.recorder.on_outcome(op(client, id), Some(outcome));
        self.check_oracle();
        let number = self.liveness.probe;
        if id.0 != number + 1 {
            return;
        }
        let Some((place, probe)) = self.probe(number) else { return };
        let right = match (&probe, outcome) {
            (Probe::Open, Outcome::Session(session)) => {
                self.liveness.session = Some(*session);
                true
            }
            (Probe::Close, Outcome::Done)
            | (Probe::Write(..), Outcome::Written { .. } | Outcome::Chosen { .. }) => true,
            (Probe::Read(..), Outcome::Found { entry, .. }) => {
                // What was put once may be bound, and may have ended since.
                let wanted: Value = value_of(PROBER, number - 1);
                self.is_once(&probe) || entry.as_ref().is_some_and(|entry| entry.value == wanted)
            }
            (Probe::Status(place), Outcome::Status(status)) => {
                return self.check_status(*place, status);
            }
            _ => false,
        };
        if !right {
            let text =
                format!("n{} of the healed core answers probe {number} with: {outcome}", place + 1);
            return self.fail(FailureKind::NoProgress, "L1", "healed and not definite", text);
        }
        self.liveness.probe += 1;
        self.ask_probe();
    }

    fn is_once(&self, probe: &Probe) -> bool {
        let once = |table: &TableId| self.plan.tables[usize::from(table.0)].is_write_once();
        matches!(probe, Probe::Read(table, _) if once(table))
    }

    /// L9: what a quiet node keeps is bounded by what there is.
    fn check_status(&mut self, place: usize, status: &synod::Status) {
        let registers = self.oracle.slots();
        let sessions = self.hosts[place].monitored.len();
        let wrong = if status.requests > 0 {
            Some(format!("{} requests in flight", status.requests))
        } else if status.registers > registers {
            Some(format!("{} registers where there are {registers}", status.registers))
        } else if status.sessions != sessions {
            Some(format!("{} sessions where it watches {sessions}", status.sessions))
        } else if !self.liveness.core.iter().all(|node| status.reachable.contains(&NodeId(node))) {
            let text = format!("n{} does not reach all that are there: {status:?}", place + 1);
            return self.fail(FailureKind::NoProgress, "L5", "reaches others than it says", text);
        } else if self.oracle.reachable(place).unwrap_or(1) != status.reachable.len() {
            let text = format!("n{} did not tell whom it reaches: {status:?}", place + 1);
            return self.fail(FailureKind::NoProgress, "L5", "reaches others than it says", text);
        } else {
            None
        };
        if let Some(wrong) = wrong {
            let text = format!("n{} is quiet and keeps {wrong}", place + 1);
            return self.fail(FailureKind::NoProgress, "L9", "kept for ever", text);
        }
        self.liveness.probe += 1;
        self.ask_probe();
    }

    /// L6: how many ballots the probes took, with nobody in their way.
    fn begin_quiet(&mut self) {
        let spent = self.oracle.prepared(self.gone()) - self.liveness.prepared;
        let nodes = self.hosts.len() as u64;
        let most = 4 * self.liveness.asked + 8 * nodes;
        if spent > most {
            let text = format!(
                "{spent} ballots were prepared for {} probes; {most} are more than enough",
                self.liveness.asked
            );
            return self.fail(FailureKind::NoProgress, "L6", "too many ballots", text);
        }
        self.liveness.stage = Stage::Quiet;
        self.liveness.quiet_since = self.now;
        self.liveness.prepared = self.oracle.prepared(self.gone());
        self.liveness.list_reads = self.oracle.list_reads();
        self.liveness.rosters = self.oracle.rosters();
        let (deadlines, dependants) = self.oracle.deadlines_to_come();
        (self.liveness.deadlines, self.liveness.dependants) = (deadlines, dependants);
        self.tell(None, EventKind::Phase, format_args!("nothing is asked; nothing may happen"));
    }

    /// L5, L6, L7: with nothing asked and nothing wrong, nothing happens.
    fn end_quiet(&mut self) {
        if self.liveness.last_quorum_event > self.liveness.quiet_since {
            let text = "a quorum event comes though nothing is wrong".to_owned();
            return self.fail(FailureKind::NoProgress, "L5", "quorum events go on", text);
        }
        let spent = self.oracle.prepared(self.gone()) - self.liveness.prepared;
        // What was begun before may still come to its end, and so may entries whose deadlines have
        // passed, with what is bound to them; what never ends shows.
        let wall = Wall(millis(true_wall(self.now)));
        let late = self.liveness.deadlines.iter().filter(|until| **until <= wall).count();
        let burials = if late > 0 { late + self.liveness.dependants } else { 0 };
        let nodes = self.hosts.len() as u64;
        // Replicas that were away come back: each is let in, and then counts. Each of these changes
        // is tried by all that it concerns at once.
        let changes = (self.oracle.rosters() - self.liveness.rosters).min(2 * nodes);
        let most = 4 * nodes * (1 + burials as u64) + 16 * changes;
        if spent > most {
            let text = format!(
                "{spent} ballots are prepared though nothing is asked, {burials} entries at most \
                 had to be erased and replicas came back {changes} times"
            );
            return self.fail(FailureKind::NoProgress, "L6", "ballots for nothing", text);
        }
        // A few may be on their way, and be asked again; not one with each heartbeat.
        let reads = self.oracle.list_reads() - self.liveness.list_reads;
        if reads > 4 * nodes * nodes {
            let text = format!("{reads} messages ask for the list of tables, which nobody changes");
            return self.fail(FailureKind::NoProgress, "L6", "reads for nothing", text);
        }
        self.ask_probe();
    }
}
