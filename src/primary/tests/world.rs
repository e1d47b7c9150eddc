//! One arbiter and some replicas in a world where anything may happen, and oracles that know all.
//!
//! Messages are lost, doubled, late and out of order; stores fail, do what they then do not
//! confirm, and are torn; decisions of the arbiter come late or are not told; nodes crash, restart,
//! lose their disks, join and leave. After every step all that any replica shows is held against
//! the one history of what was committed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use std::format;

use crate::base::{
    ClientId, Incarnation, Instant, Key, Life, NodeId, OpId, RequestId, Ticket, Value,
};
use crate::paxos::Ballot;
use crate::primary::*;

pub(super) type Rows = BTreeMap<Key, Value>;

pub(super) struct Host {
    pub(super) member: Member,
    pub(super) incarnation: u32,
    pub(super) replica: Option<Replica>,
    /// What the store has been handed and not confirmed.
    pub(super) batch: Option<(Ticket, Vec<Record>)>,
    /// Where this process was committed up to.
    committed: u64,
    wanted: bool,
}

/// A request under way.
#[derive(Clone, Debug)]
struct Call {
    host: usize,
    incarnation: u32,
    at: Instant,
    /// The latest write acknowledged to anybody when it was made.
    acked: u64,
    ask: Ask,
    /// Whether every earlier attempt was rejected.
    harmless: bool,
}

impl Call {
    const fn writes(&self) -> bool {
        self.ask.command.writes()
    }
}

/// What a store does with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Done,
    Fails,
    Unconfirmed,
}

pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) hosts: Vec<Host>,
    /// Of every member that ever was, also of those whose disk is lost.
    pub(super) disks: BTreeMap<Member, Journal>,
    pub(super) network: Vec<(Member, Member, Message)>,
    pub(super) version: Ballot,
    pub(super) roster: Option<Roster>,
    pub(super) proposals: Vec<(Member, Ballot, Roster)>,
    /// What the arbiter has said, on its way.
    pub(super) answers: Vec<(Member, Input)>,
    pub(super) looks: Vec<(Member, u64)>,
    pub(super) closed: BTreeSet<Member>,
    /// Who is still to be told of whose session.
    pub(super) tells: Vec<(usize, Member)>,
    pub(super) now: Instant,
    /// What does not work even in peace: whose links, whose stores, and the arbiter.
    pub(super) cut: BTreeSet<usize>,
    pub(super) stuck: BTreeSet<usize>,
    /// Who is far away, so that messages take [`FAR`] either way, and those on their way.
    pub(super) far: BTreeSet<usize>,
    late: Vec<(Instant, (Member, Member, Message))>,
    pub(super) undecided: bool,
    /// Whether an operator has had its way, so that who did not count may lead.
    pub(super) forced: bool,
    /// What was committed, by anybody, and the table after each step.
    pub(super) history: Vec<Entry>,
    states: Vec<Rows>,
    /// Requests that are done, and those that are resolved as never to be.
    done: BTreeMap<OpId, u64>,
    never: BTreeSet<OpId>,
    /// Whether every attempt so far was answered, by a rejection.
    rejected: BTreeMap<OpId, bool>,
    calls: BTreeMap<OpId, Call>,
    pub(super) asked: Vec<Ask>,
    pub(super) replies: Vec<(OpId, Outcome)>,
    pub(super) acked: u64,
    reigns: BTreeMap<Reign, (Member, u32)>,
    /// The latest place that each replica has shown to anybody, over all its restarts.
    shown: BTreeMap<Member, u64>,
    seen: BTreeMap<ClientId, u64>,
    next_request: u64,
    pub(super) roles: Vec<(Member, Role)>,
    /// What happened often enough to be worth a look.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// How many pieces of a copy were sent to whom.
    pub(super) pieces: BTreeMap<Member, u64>,
}

/// How long messages take to and from who is far away.
const FAR: Duration = Duration::from_millis(20);

pub(super) fn small() -> Settings {
    let limits = Limits {
        waiting: 40,
        tail: 30,
        tail_bytes: 4_000,
        write_bytes: 100,
        remembered: 12,
        history: 8,
        history_bytes: 2_000,
        batch_bytes: 90,
        window: 6,
        window_bytes: 500,
    };
    Settings { limits, ..Settings::default() }
}

pub(super) fn member(node: u16, life: u64) -> Member {
    Member { node: NodeId(node), life: Life(life) }
}

pub(super) fn key(number: u16) -> Key {
    Key::from(format!("k{number}").as_str())
}

impl World {
    pub(super) fn new(count: u16, settings: Settings) -> Self {
        let mut world = Self {
            settings,
            hosts: Vec::new(),
            disks: BTreeMap::new(),
            network: Vec::new(),
            version: Ballot::ZERO,
            roster: None,
            proposals: Vec::new(),
            answers: Vec::new(),
            looks: Vec::new(),
            closed: BTreeSet::new(),
            tells: Vec::new(),
            now: Instant(1_000_000_000),
            cut: BTreeSet::new(),
            stuck: BTreeSet::new(),
            far: BTreeSet::new(),
            late: Vec::new(),
            undecided: false,
            forced: false,
            history: Vec::new(),
            states: alloc::vec![Rows::new()],
            done: BTreeMap::new(),
            never: BTreeSet::new(),
            rejected: BTreeMap::new(),
            calls: BTreeMap::new(),
            asked: Vec::new(),
            replies: Vec::new(),
            acked: 0,
            reigns: BTreeMap::new(),
            shown: BTreeMap::new(),
            seen: BTreeMap::new(),
            next_request: 1,
            roles: Vec::new(),
            counts: BTreeMap::new(),
            pieces: BTreeMap::new(),
        };
        for node in 1..=count {
            let member = member(node, 1);
            let (replica, batch) = (None, None);
            let host = Host { member, incarnation: 0, replica, batch, committed: 0, wanted: true };
            world.hosts.push(host);
            world.start(usize::from(node) - 1);
        }
        world
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    // ------------------------------------------------------------------ what may happen

    pub(super) fn start(&mut self, place: usize) {
        let remembered = self.settings.limits.remembered;
        let host = &mut self.hosts[place];
        if host.replica.is_some() {
            return;
        }
        host.incarnation += 1;
        let (member, incarnation) = (host.member, Incarnation(host.incarnation));
        let journal = self.disks.entry(member).or_insert_with(|| Journal::new(remembered));
        // What a store that gets rid of old records keeps comes to the same.
        let mut compacted = Journal::new(remembered);
        journal
            .clone()
            .into_records()
            .for_each(|record| compacted.add(record).expect("a sound journal"));
        assert_eq!(compacted.reign(), journal.reign());
        assert_eq!(compacted.log().content(), journal.log().content());
        assert_eq!(compacted.log().tail(), journal.log().tail());
        // It does so now and then.
        if incarnation.0 % 2 == 1 {
            *journal = compacted;
        }
        let settings = self.settings.clone();
        let replica = Replica::recover(member, incarnation, settings, journal.clone());
        host.committed = replica.committed().index;
        host.replica = Some(replica);
        host.wanted = true;
        self.closed.remove(&member);
        self.tells.extend((0..self.hosts.len()).map(|other| (other, member)));
        self.tells.extend(self.closed.iter().map(|member| (place, *member)));
        self.handle(place, Input::Timeout);
    }

    /// Everything that is not on disk is gone; of the last batch `torn` records are on it.
    pub(super) fn crash(&mut self, place: usize, torn: usize) {
        let host = &mut self.hosts[place];
        if host.replica.take().is_none() {
            return;
        }
        let (member, incarnation) = (host.member, host.incarnation);
        if let Some((_, mut records)) = host.batch.take() {
            records.truncate(torn);
            self.write(member, &records);
        }
        self.calls.retain(|_, call| call.host != place || call.incarnation != incarnation);
        self.count("crash");
    }

    /// Its disk is lost, if the table can do without.
    pub(super) fn wipe(&mut self, place: usize) {
        let whole = |member: &Member| self.hosts.iter().any(|host| host.member == *member);
        // Also if something is decided that is on its way.
        let proposed = self.proposals.iter().map(|(_, _, roster)| roster);
        let spared = self.roster.iter().chain(proposed).all(|roster| {
            let count = roster.in_sync.len();
            let needed = match self.settings.acknowledge {
                Acknowledge::All | Acknowledge::Primary => 1,
                Acknowledge::Quorum => count - count / 2,
            };
            roster.in_sync.iter().filter(|member| whole(member)).count() > needed
        });
        if self.roster.is_none() || !spared {
            return;
        }
        self.crash(place, 0);
        // Its session is closed at last: it will not come back.
        self.close(place);
        self.hosts[place].member.life.0 += 1;
        self.count("wipe");
    }

    pub(super) fn write(&mut self, member: Member, records: &[Record]) {
        let journal = self.disks.get_mut(&member).expect("a disk");
        for record in records {
            journal.add(record.clone()).expect("what a replica writes can be read");
        }
    }

    pub(super) fn store(&mut self, place: usize, how: Store) {
        let member = self.hosts[place].member;
        let Some((ticket, records)) = self.hosts[place].batch.clone() else { return };
        match how {
            Store::Done => {
                self.hosts[place].batch = None;
                self.write(member, &records);
                self.handle(place, Input::Persisted(ticket));
            }
            Store::Fails => self.hosts[place].batch = None,
            Store::Unconfirmed => {
                self.hosts[place].batch = None;
                self.write(member, &records);
                self.count("unconfirmed");
            }
        }
    }

    pub(super) fn deliver(&mut self, which: usize, again: bool) {
        if self.network.is_empty() {
            return;
        }
        let which = which % self.network.len();
        let (from, to, message) =
            if again { self.network[which].clone() } else { self.network.remove(which) };
        if let Some(place) = self.hosts.iter().position(|host| host.member == to) {
            self.handle(place, Input::Message { from, message });
        }
    }

    pub(super) fn lose(&mut self, which: usize) {
        if !self.network.is_empty() {
            let which = which % self.network.len();
            self.network.remove(which);
        }
    }

    /// The arbiter decides on a proposal, and perhaps says so.
    pub(super) fn decide(&mut self, which: usize, tells: bool) {
        if self.proposals.is_empty() {
            return;
        }
        let which = which % self.proposals.len();
        let (by, before, roster) = self.proposals.remove(which);
        if before == self.version {
            assert!(roster.is_sound(), "{roster}");
            if let Some(old) = &self.roster {
                assert!(roster.reign >= old.reign, "reigns never go back");
                if roster.in_sync.len() < old.in_sync.len() {
                    *self.counts.entry("shrink").or_default() += 1;
                }
                if roster.reign > old.reign {
                    let counted = old.in_sync.contains(&roster.primary);
                    assert!(counted || self.forced, "P-I4: not in sync");
                    let pending = self.calls.values().any(|call| call.writes());
                    *self.counts.entry("succession").or_default() += 1;
                    *self.counts.entry("pending at a succession").or_default() +=
                        u64::from(pending);
                }
            }
            self.version = Ballot { round: self.version.round + 1, ..Ballot::ZERO };
            self.roster = Some(roster);
        }
        if tells {
            self.answers.push((by, self.said(0)));
        }
    }

    fn said(&self, asked: u64) -> Input {
        Input::Arbiter { asked, version: self.version, roster: self.roster.clone() }
    }

    /// The arbiter is read; what it said then is told later.
    pub(super) fn read_arbiter(&mut self, which: usize) {
        if !self.looks.is_empty() {
            let which = which % self.looks.len();
            let (by, asked) = self.looks.remove(which);
            self.answers.push((by, self.said(asked)));
        }
    }

    pub(super) fn tell_arbiter(&mut self, which: usize) {
        if !self.answers.is_empty() {
            let which = which % self.answers.len();
            let (to, input) = self.answers.remove(which);
            // Only to the process that asked would be easier.
            if let Some(place) = self.hosts.iter().position(|host| host.member == to) {
                self.handle(place, input);
                self.tells.extend(self.closed.iter().map(|member| (place, *member)));
            }
        }
    }

    /// The session of a node is decided to be closed, though it may be as well as can be.
    pub(super) fn close(&mut self, place: usize) {
        let member = self.hosts[place].member;
        self.closed.insert(member);
        self.tells.extend((0..self.hosts.len()).map(|other| (other, member)));
    }

    pub(super) fn tell_session(&mut self, which: usize) {
        if !self.tells.is_empty() {
            let which = which % self.tells.len();
            let (place, member) = self.tells.remove(which);
            let open = !self.closed.contains(&member);
            self.handle(place, Input::Session { member, open });
        }
    }

    pub(super) fn want(&mut self, place: usize, wanted: bool) {
        self.hosts[place].wanted = wanted;
        self.handle(place, Input::Join(wanted));
    }

    /// Lets time pass; whoever waits for a moment is told when it has come.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let up = self.hosts.iter().filter_map(|host| host.replica.as_ref());
            let next = up.map(Replica::poll_timeout).min().unwrap_or(until).max(self.now);
            self.now = next.min(until);
            for place in 0..self.hosts.len() {
                let due = |replica: &Replica| replica.poll_timeout() <= self.now;
                if self.hosts[place].replica.as_ref().is_some_and(due) {
                    self.handle(place, Input::Timeout);
                }
            }
            if self.now >= until {
                return;
            }
        }
    }

    // ------------------------------------------------------------------ clients

    pub(super) fn op(&mut self, client: u64) -> OpId {
        self.next_request += 1;
        OpId { client: ClientId::new(client), request: RequestId(self.next_request) }
    }

    pub(super) fn ask(&mut self, place: usize, client: u64, command: Command) -> OpId {
        let op = self.op(client);
        let seen = self.seen.get(&op.client).copied().unwrap_or(0);
        self.ask_as(place, Ask { op, seen, again: false, within: Duration::MAX, command });
        op
    }

    pub(super) fn ask_as(&mut self, place: usize, ask: Ask) {
        let host = &self.hosts[place];
        if host.replica.is_none() {
            return;
        }
        if ask.command.writes() && !ask.again {
            self.asked.push(ask.clone());
        }
        let call = Call {
            host: place,
            incarnation: host.incarnation,
            at: self.now,
            acked: self.acked,
            ask: ask.clone(),
            harmless: self.rejected.get(&ask.op).copied().unwrap_or(true),
        };
        if self.calls.get(&ask.op).is_some_and(|call| call.host != place) {
            // A client asks one node at a time.
            return;
        }
        self.calls.entry(ask.op).or_insert(call);
        self.rejected.insert(ask.op, false);
        self.handle(place, Input::Ask(ask));
    }

    // ------------------------------------------------------------------ steps

    pub(super) fn handle(&mut self, place: usize, input: Input) {
        let Some(mut replica) = self.hosts[place].replica.take() else { return };
        let tail: Vec<Entry> = replica.log.tail().iter().cloned().collect();
        let mut effects = Vec::new();
        replica.handle(input, self.now, &mut effects);
        let host = &mut self.hosts[place];
        let (member, incarnation, before) = (host.member, host.incarnation, host.committed);
        host.committed = replica.committed().index;
        self.check(&replica, incarnation, before, &tail);
        self.hosts[place].replica = Some(replica);
        for effect in effects {
            match effect {
                Effect::Look { asked } => self.looks.push((member, asked)),
                Effect::Notify(role) => self.roles.push((member, role)),
                Effect::Persist { ticket, records } => {
                    self.hosts[place].batch = Some((ticket, records));
                }
                Effect::Propose { before, roster } => {
                    let proposal = (member, before, roster);
                    if !self.proposals.contains(&proposal) {
                        self.proposals.push(proposal);
                    }
                }
                Effect::Reply { op, outcome } => self.on_reply(place, op, outcome),
                Effect::Send { to, message } => {
                    if matches!(message.body, Body::Piece { .. }) {
                        self.count("piece");
                        *self.pieces.entry(to).or_default() += 1;
                    }
                    if matches!(&message.body, Body::Append { entries, .. } if !entries.is_empty())
                    {
                        self.count("batch");
                    }
                    self.network.push((member, to, message));
                    if self.network.len() > 200 {
                        self.network.remove(0);
                    }
                }
            }
        }
    }

    /// What one replica shows.
    fn check(&mut self, replica: &Replica, incarnation: u32, before: u64, tail: &[Entry]) {
        let committed = replica.committed();
        assert!(committed.index >= before, "P-I4: {} went back to {committed}", replica.me);
        // A copy that has taken the place of the whole log says nothing of what it had in its tail.
        let stepped = replica.log.history().back().is_some_and(|last| last.place == committed);
        let done = |entry: &&Entry| stepped && entry.place.index <= committed.index;
        for entry in tail.iter().filter(done) {
            let place = entry.place.index as usize;
            if place > self.history.len() {
                assert_eq!(place, self.history.len() + 1, "P-I3: a gap in what is committed");
                self.commit(entry.clone());
            }
            assert_eq!(&self.history[place - 1], entry, "P-I3, P-I7: two histories");
        }
        let index = committed.index as usize;
        assert!(index <= self.history.len(), "P-I6: more than was ever committed");
        let place = index.checked_sub(1).map_or(Place::ZERO, |last| self.history[last].place);
        assert_eq!(place, committed, "P-I3: another history");
        assert!(
            replica.rows().eq(self.states[index].iter()),
            "P-I6: {} is not the table as of \
            {committed}",
            replica.me
        );
        if replica.proposal.is_some() && replica.role() == Role::Primary && !tail.is_empty() {
            self.count("union needed");
        }
        if replica.role() == Role::Primary {
            let who = (replica.me, incarnation);
            let first = *self.reigns.entry(replica.reign()).or_insert(who);
            assert_eq!(first, who, "P-I1: two primaries in {}", replica.reign());
        }
        let limits = &self.settings.limits;
        let reigns = replica.reign().0 as usize;
        assert!(replica.log.tail().len() <= limits.tail + reigns, "the tail is bounded");
        assert!(replica.log.history().len() <= limits.history, "the history is bounded");
    }

    /// Something is committed for the first time.
    fn commit(&mut self, entry: Entry) {
        let mut rows = self.states[self.history.len()].clone();
        match &entry.what {
            What::Put(op, key, value) => {
                rows.insert(key.clone(), value.clone());
                self.committed_once(*op, entry.place.index);
            }
            What::Remove(op, key) => {
                rows.remove(key);
                self.committed_once(*op, entry.place.index);
            }
            What::Begin | What::Resolve(_) => {}
        }
        if let What::Resolve(op) = &entry.what {
            assert!(!self.done.contains_key(op), "{op} is resolved although it was done");
        }
        self.history.push(entry);
        self.states.push(rows);
    }

    fn committed_once(&mut self, op: OpId, index: u64) {
        assert_eq!(self.done.insert(op, index), None, "P-I5: {op} is done twice");
        assert!(!self.never.contains(&op), "{op} is done although it was resolved");
        assert!(!self.rejected.get(&op).copied().unwrap_or(false), "{op} was rejected, and done");
    }

    fn on_reply(&mut self, place: usize, op: OpId, outcome: Outcome) {
        let call = self.calls.remove(&op).unwrap_or_else(|| panic!("P-I5: {op} answered twice"));
        assert_eq!(call.host, place, "P-I5: answered where it was not asked");
        let took = self.now.since(call.at);
        assert!(took <= self.settings.answer_within, "P-I5: {op} answered after {took:?}");
        let write = call.writes();
        let rejection = matches!(outcome, Outcome::Rejected(_));
        self.rejected.insert(op, call.harmless && rejection);
        match &outcome {
            Outcome::Committed { place, existed } => {
                assert!(write);
                self.on_acknowledged(op, *place, *existed);
                self.count("committed");
                let seen = self.seen.entry(op.client).or_default();
                *seen = place.index.max(*seen);
            }
            Outcome::Found { value, place } => {
                let Command::Get(key, level) = &call.ask.command else { panic!("not a read") };
                if *level != ReadLevel::Dirty {
                    let state = &self.states[place.index as usize];
                    assert_eq!(state.get(key), value.as_ref(), "not what was committed");
                    assert!(place.index >= call.ask.seen, "A-32: back in time");
                    self.show_place(call.host, *place);
                    let seen = self.seen.entry(op.client).or_default();
                    *seen = place.index.max(*seen);
                }
                if *level == ReadLevel::Linearizable {
                    assert!(place.index >= call.acked, "P-I8: older than what was acknowledged");
                    self.count("linearizable");
                }
                self.count("found");
            }
            Outcome::Rejected(Refusal::Resolved) => {
                assert!(!self.done.contains_key(&op), "{op} is done, and resolved as not done");
                self.never.insert(op);
                self.count("resolved");
            }
            Outcome::Rejected(_) => self.count("rejected"),
            Outcome::Rows { rows, place, .. } => {
                let state = &self.states[place.index as usize];
                assert!(rows.iter().all(|(key, value)| state.get(key) == Some(value)));
                assert!(place.index >= call.ask.seen, "A-32: back in time");
                self.show_place(call.host, *place);
                self.count("scanned");
            }
            Outcome::Unknown => {
                assert!(write, "a read is never unknown");
                self.count("unknown");
            }
        }
        self.replies.push((op, outcome));
    }

    /// P-I3: a replica does not go back, also when it restarts.
    fn show_place(&mut self, host: usize, place: Place) {
        let member = self.hosts[host].member;
        let shown = self.shown.entry(member).or_default();
        assert!(place.index >= *shown, "P-I3: {member} shows {place}, and had shown {shown}");
        *shown = place.index;
    }

    /// P-I2: whoever counts has it on disk now.
    fn on_acknowledged(&mut self, op: OpId, place: Place, existed: bool) {
        let entry = &self.history[place.index as usize - 1];
        assert_eq!((entry.place, entry.what.op()), (place, Some(op)), "acknowledged at its place");
        let before = &self.states[place.index as usize - 1];
        if let What::Put(_, key, _) | What::Remove(_, key) = &entry.what {
            assert_eq!(existed, before.contains_key(key), "A-08");
        }
        let holds = |member: &&Member| {
            let log = self.disks[*member].log();
            log.committed().index >= place.index || log.has(place)
        };
        let in_sync = &self.roster.as_ref().expect("a roster").in_sync;
        let holders = in_sync.iter().filter(holds).count();
        let enough = match self.settings.acknowledge {
            Acknowledge::All => in_sync.len(),
            Acknowledge::Primary => 1,
            Acknowledge::Quorum => in_sync.len() / 2 + 1,
        };
        assert!(holders >= enough, "P-I2: {op} at {place} is on {holders} of {enough} disks");
        self.acked = self.acked.max(place.index);
    }

    // ------------------------------------------------------------------ peace

    /// Nothing fails for so long, but for what is said to.
    pub(super) fn peace(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            for _ in 0..3 {
                let tells = self.tells.len();
                let mut network = core::mem::take(&mut self.network);
                let place = |member| self.hosts.iter().position(|host| host.member == member);
                let far = |(from, to, _): &(Member, Member, Message)| {
                    let ends = [place(*from), place(*to)].into_iter().flatten();
                    ends.into_iter().any(|place| self.far.contains(&place))
                };
                let late = network.extract_if(.., |message| far(message));
                self.late.extend(late.map(|message| (self.now + FAR, message)));
                let due = self.late.extract_if(.., |(when, _)| *when <= self.now);
                network.extend(due.map(|(_, message)| message));
                for (from, to, message) in network {
                    let place = |member| self.hosts.iter().position(|host| host.member == member);
                    let (from_place, to_place) = (place(from), place(to));
                    let mut cut = [from_place, to_place].into_iter().flatten();
                    if let Some(place) = to_place
                        && cut.all(|place| !self.cut.contains(&place))
                    {
                        self.handle(place, Input::Message { from, message });
                    }
                }
                (0..tells).for_each(|_| self.tell_session(0));
                for place in 0..self.hosts.len() {
                    if !self.stuck.contains(&place) {
                        self.store(place, Store::Done);
                    }
                }
                if !self.undecided {
                    (0..self.proposals.len()).for_each(|_| self.decide(0, true));
                    (0..self.looks.len()).for_each(|_| self.read_arbiter(0));
                    (0..self.answers.len()).for_each(|_| self.tell_arbiter(0));
                }
            }
            self.pass(Duration::from_millis(5));
        }
    }

    /// As many replicas, all of them in sync.
    pub(super) fn settled(count: u16, settings: Settings) -> Self {
        let mut world = Self::new(count, settings);
        world.peace(Duration::from_secs(1));
        assert_eq!(world.roster.as_ref().map(|roster| roster.in_sync.len()), Some(count.into()));
        world
    }

    /// What was answered to this request, and no more than once.
    pub(super) fn reply(&self, op: OpId) -> Option<&Outcome> {
        let mut found = self.replies.iter().filter(|(replied, _)| *replied == op);
        let first = found.next().map(|(_, outcome)| outcome);
        assert_eq!(found.next(), None, "P-I5");
        first
    }

    /// What the others are.
    pub(super) fn followers(&self) -> Vec<usize> {
        let leader = self.leader();
        (0..self.hosts.len()).filter(|place| *place != leader).collect()
    }

    pub(super) fn leader(&self) -> usize {
        let leads = |host: &Host| {
            host.replica.as_ref().is_some_and(|replica| replica.role() == Role::Primary)
        };
        let mut leaders = self.hosts.iter().enumerate().filter(|(_, host)| leads(host));
        let (place, _) = leaders.next().unwrap_or_else(|| panic!("no primary: {}", self.show()));
        assert!(leaders.next().is_none(), "one");
        place
    }

    pub(super) fn replica(&self, place: usize) -> &Replica {
        self.hosts[place].replica.as_ref().expect("up")
    }

    /// Everything comes to an end: all replicas are equal, all are in sync, writes work, and
    /// nothing acknowledged is missing (P-I4, P-I10).
    pub(super) fn conclude(&mut self) {
        self.cut.clear();
        self.stuck.clear();
        self.far.clear();
        self.undecided = false;
        for place in 0..self.hosts.len() {
            self.start(place);
            self.want(place, true);
            self.closed.remove(&self.hosts[place].member);
            let member = self.hosts[place].member;
            self.tells.extend((0..self.hosts.len()).map(|other| (other, member)));
        }
        self.peace(Duration::from_secs(14));
        let leader = self.leader();
        let value = Value::from("the end");
        let op = self.ask(leader, 99, Command::Put(key(0), value));
        self.peace(Duration::from_millis(500));
        let outcome = self.replies.iter().find(|(replied, _)| *replied == op);
        let committed = matches!(outcome, Some((_, Outcome::Committed { .. })));
        assert!(committed, "writes work again: {outcome:?}");
        assert!(self.calls.is_empty(), "P-I5: never answered: {:?}", self.calls);
        let members: BTreeSet<Member> = self.hosts.iter().map(|host| host.member).collect();
        let roster = self.roster.clone().expect("a roster");
        assert_eq!(roster.in_sync, members, "all are in sync again: {}", self.show());
        for place in 0..self.hosts.len() {
            let replica = self.replica(place);
            assert_eq!(replica.committed().index as usize, self.history.len(), "P-I10");
            assert_eq!(replica.last(), replica.committed(), "P-I7: nothing is left over");
        }
        assert!(self.acked as usize <= self.history.len());
    }

    pub(super) fn show(&self) -> String {
        let roster = self.roster.as_ref().map_or_else(String::new, |roster| format!("{roster}"));
        let mut shown = format!("{} roster {roster} {:?}", self.now, self.counts);
        for host in &self.hosts {
            let Some(replica) = &host.replica else { continue };
            let (role, reign) = (replica.role(), replica.reign());
            let (committed, last) = (replica.committed(), replica.last());
            let sworn = replica.sworn_off;
            shown += &format!(
                "\n  {} {role:?} {reign} sworn off {sworn} committed {committed} last {last} \
                 gone {:?} \
                 proposes {:?}",
                host.member, replica.gone, replica.proposal
            );
        }
        shown
    }
}
