//! How copies become equal, whether or not anybody noticed that they were apart.
//!
//! Every copy says again and again what it has seen. Who lacks something asks for it and is sent
//! the versions that it lacks, a chunk at a time, in the order of their dots; so the cost is that
//! of the difference. What was sent is set aside until all of it is there and then put in at one
//! stroke: a copy never shows half a difference, and never claims to have seen what it only has
//! parts of (Z70). A link that breaks in between costs nothing but the wait.
//!
//! What is written is also pushed to whoever can be heard, and taken by those whom it brings no
//! gap: the digests repair what that loses.
//!
//! Must never know: sockets, disks, what clients want.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bincode::{Decode, Encode};

use super::command::{Answer, Command, Info, PeerInfo, Unfit};
use super::message::{Body, Chunk, Digest, Message, Pull};
use super::schema::{Agreement, Durability, Schema, Strategy};
use super::stability::Cut;
use super::table::{Applied, Change, Row, Table};
use super::version::{Actor, Dot, Origin, Version, VersionVector};
use crate::base::{Incarnation, Instant, NodeId, TableName, Wall};

/// How many bytes of versions a chunk or a push holds, unless a single version is larger.
const CHUNK_BYTES: usize = 256 << 10;

/// How many copies of one peer that are gone are remembered, so that what they said late is not
/// taken for news.
const RETIRED_MAX: usize = 16;

/// How long an exchange waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    /// For an answer, before it asks again.
    pub round: Duration,
    /// For a link to stay up, before it begins to merge over it.
    pub debounce: Duration,
}

/// What a step of an exchange came to.
#[derive(Debug, Default)]
pub struct Step {
    /// What the copy went through, in order: to be written down if it is durable.
    pub changes: Vec<Change>,
    /// What that did.
    pub applied: Vec<Applied>,
    /// What is to be sent, once the changes are durable.
    pub sends: Vec<(NodeId, Message)>,
    /// What is worth telling.
    pub events: Vec<Event>,
}

/// What happens between two copies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Event {
    /// The copies agree on what the table is, after they had not.
    Agreed {
        /// With whom.
        peer: NodeId,
    },
    /// The copies differ in what the table is, so they are not merged. Nothing is lost (L-27).
    Disagreed {
        /// With whom.
        peer: NodeId,
        /// What it says.
        theirs: Agreement,
    },
    /// All that the peer had when it came back is here.
    MergeFinished {
        /// Which.
        peer: NodeId,
        /// What that took.
        totals: Totals,
    },
    /// A peer is back, and what it has is being compared.
    MergeStarted {
        /// Which.
        peer: NodeId,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreed { peer } => write!(f, "agreed with {peer}"),
            Self::Disagreed { peer, theirs } => {
                write!(f, "disagreed with {peer}, which has {theirs}")
            }
            Self::MergeFinished { peer, totals } => write!(
                f,
                "merge finished with {peer}: {} copied, {} deleted, {} conflicts, {} skipped",
                totals.copied, totals.deleted, totals.conflicts, totals.skipped
            ),
            Self::MergeStarted { peer } => write!(f, "merge started with {peer}"),
        }
    }
}

/// What a merge did here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Totals {
    /// Rows that show something new.
    pub copied: u64,
    /// Rows that show nothing any more.
    pub deleted: u64,
    /// Rows in conflict that were not.
    pub conflicts: u64,
    /// Versions that no copy that keeps the rules can have sent, and that were left out.
    pub skipped: u64,
}

/// What is known of a peer's copy.
#[derive(Debug)]
struct Peer {
    actor: Option<Actor>,
    retired: Vec<Actor>,
    agrees: Option<bool>,
    known: VersionVector,
    heard: Instant,
    /// Whether it counts this copy, and this copy has had all that it had.
    met: bool,
    /// While it has just come back.
    merging: Option<Totals>,
    /// Whether it has gone, and has not been heard since.
    away: bool,
    /// Before this, no merge begins.
    patience: Instant,
}

/// A question under way.
#[derive(Debug)]
struct Session {
    number: u64,
    peer: NodeId,
    actor: Actor,
    full: bool,
    have: VersionVector,
    got: VersionVector,
    /// What the peer had forgotten when it sent the first chunk.
    stable: Option<VersionVector>,
    staged: Vec<(Row, Version)>,
    skipped: u64,
    asked: Instant,
    /// How often it was asked in vain.
    tries: u32,
}

/// How often a question is repeated before another peer is asked.
const TRIES_MAX: u32 = 3;

/// A copy and its dealings with the others.
#[derive(Debug)]
pub struct Replica {
    table: Table,
    name: TableName,
    ignored: bool,
    durability: Durability,
    retention: Duration,
    pace: Pace,
    peers: BTreeMap<NodeId, Peer>,
    session: Option<Session>,
    session_next: u64,
    cut: Option<Cut>,
    started: bool,
}

impl Replica {
    /// A copy among those of `peers`. `incarnation` is of the process: no question of an earlier
    /// one is taken for one of this.
    #[must_use]
    pub fn new(
        name: TableName,
        schema: &Schema,
        table: Table,
        peers: impl IntoIterator<Item = NodeId>,
        incarnation: Incarnation,
        pace: Pace,
    ) -> Self {
        Self {
            table,
            name,
            ignored: schema.strategy == Strategy::Ignore,
            durability: schema.durability,
            retention: schema.retention,
            pace,
            peers: peers.into_iter().map(|peer| (peer, Peer::new(Instant::ZERO))).collect(),
            session: None,
            session_next: u64::from(incarnation.0) << 32,
            cut: None,
            started: false,
        }
    }

    /// Counts on copies of more peers from now on. They know nothing yet, so nothing is forgotten
    /// before they have met.
    pub fn meet(&mut self, peers: impl IntoIterator<Item = NodeId>, now: Instant) {
        for peer in peers {
            self.peers.entry(peer).or_insert_with(|| Peer::new(now));
        }
        self.cut = None;
    }

    /// Which table it is a copy of.
    #[must_use]
    pub const fn name(&self) -> TableName {
        self.name
    }

    /// The copy itself.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    fn message(&self, body: Body) -> Message {
        Message { table: self.name, body }
    }

    fn apply(&mut self, change: Change, step: &mut Step) -> Applied {
        let applied = self.table.apply(&change);
        step.changes.push(change);
        step.applied.push(applied.clone());
        applied
    }

    /// Answers a client at `wall`. What it writes is pushed to the peers that `reach` says can be
    /// heard.
    ///
    /// # Errors
    /// If it does not fit the table; nothing was changed.
    pub fn serve(
        &mut self,
        command: &Command,
        wall: Wall,
        reach: impl Fn(NodeId) -> bool,
        step: &mut Step,
    ) -> Result<Answer, Unfit> {
        let change = match command {
            Command::Conflicts { after, limit } => {
                return Ok(self.table.conflicts_page(after.as_ref(), *limit as usize));
            }
            Command::Get(key) => return Ok(self.table.found(key, usize::MAX)),
            Command::Info => return Ok(Answer::Info(self.info())),
            Command::Scan { pattern, after, limit } => {
                return Ok(self.table.page(pattern, after.as_ref(), *limit as usize));
            }
            Command::Resolve { row, dots, value } => {
                match self.table.resolve(row, dots, value.as_ref(), wall) {
                    Some(change) => change,
                    None => return Ok(Answer::Changed),
                }
            }
            Command::Write { mutations, guards } => {
                if !self.table.holds(guards) {
                    return Ok(Answer::Changed);
                }
                self.table.write(mutations, wall)?
            }
        };
        let previous = self.table.before(&change);
        self.write(change, reach, step);
        Ok(Answer::Written { previous })
    }

    /// What the copy is, and how it stands with the others.
    #[must_use]
    pub fn info(&self) -> Info {
        let table = &self.table;
        let behind = |known: &VersionVector| {
            let missing =
                table.seen().iter().map(|(actor, last)| last.saturating_sub(known.last(&actor)));
            missing.sum()
        };
        let peers = self.peers.iter().map(|(node, peer)| PeerInfo {
            node: *node,
            agrees: peer.agrees,
            behind: behind(&peer.known),
            merging: peer.merging.is_some(),
        });
        let tombstones = table.versions().filter(|(_, version)| version.value().is_none());
        Info {
            agreement: table.agreement(),
            durability: self.durability,
            node: table.actor().node,
            versions: table.len() as u64,
            tombstones: tombstones.count() as u64,
            conflicts: table.conflicts().len() as u64,
            settled: table.is_settled(),
            seen: table.seen().clone(),
            stable: table.stable().clone(),
            peers: peers.collect(),
            history: Vec::new(),
        }
    }

    /// Takes a client's write, which is pushed to the peers that `reach` says can be heard.
    pub fn write(&mut self, change: Change, reach: impl Fn(NodeId) -> bool, step: &mut Step) {
        if change.versions.is_empty() {
            return;
        }
        let size: usize = change.versions.iter().map(size).sum();
        if !self.ignored && size <= CHUNK_BYTES {
            let push = self.message(Body::Push(change.versions.clone()));
            for (peer, _) in self.peers.iter().filter(|(node, _)| reach(**node)) {
                step.sends.push((*peer, push.clone()));
            }
        }
        self.apply(change, step);
    }

    /// A peer is heard no more. What it says when it is back waits until it has stayed.
    pub fn on_lost(&mut self, peer: NodeId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.away = true;
        }
    }

    /// A peer has been away and is heard again.
    pub fn on_back(&mut self, peer: NodeId, now: Instant, step: &mut Step) {
        if self.ignored {
            return;
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.away = false;
            known.patience = now + self.pace.debounce;
            if known.merging.is_none() {
                known.merging = Some(Totals::default());
                step.events.push(Event::MergeStarted { peer });
            }
        }
    }

    /// To be called again and again, a few times in the time after which a peer counts as gone.
    pub fn on_tick(&mut self, now: Instant, step: &mut Step) {
        if !self.started {
            self.started = true;
            self.peers.values_mut().for_each(|peer| peer.heard = now);
        }
        if self.ignored {
            return;
        }
        self.retry(now, step);
        self.settle(now, step);
        self.advance(now, step);
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            let digest = Digest {
                agreement: self.table.agreement(),
                actor: self.table.actor(),
                seen: self.table.seen().clone(),
                stable: self.table.stable().clone(),
                counting: self.peers[&node].actor,
            };
            step.sends.push((node, self.message(Body::Digest(digest))));
        }
    }

    /// What a peer's copy says.
    pub fn on_message(&mut self, from: NodeId, body: Body, now: Instant, step: &mut Step) {
        if self.ignored || !self.peers.contains_key(&from) {
            return;
        }
        match body {
            Body::Chunk(chunk) => self.on_chunk(from, chunk, now, step),
            Body::Digest(digest) => self.on_digest(from, digest, now, step),
            Body::Pull(pull) => self.on_pull(from, pull, step),
            Body::Push(versions) => self.on_push(from, versions, now, step),
            Body::Resync { session } => {
                let asked = self
                    .session
                    .take_if(|asked| asked.number == session && asked.peer == from && !asked.full);
                if asked.is_some() {
                    self.ask(from, true, now, step);
                }
            }
        }
    }

    // ------------------------------------------------------------------ who has what

    fn on_digest(&mut self, from: NodeId, digest: Digest, now: Instant, step: &mut Step) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if digest.actor.node != from || peer.is_over(&digest.actor) {
            return;
        }
        let agrees = digest.agreement == self.table.agreement();
        if peer.agrees != Some(agrees) {
            if !agrees {
                let theirs = digest.agreement;
                step.events.push(Event::Disagreed { peer: from, theirs });
            } else if peer.agrees == Some(false) {
                step.events.push(Event::Agreed { peer: from });
            }
            peer.agrees = Some(agrees);
        }
        if !agrees {
            return;
        }
        if peer.actor != Some(digest.actor) {
            // Another copy, which has nothing of what the one before it had.
            if let Some(before) = peer.actor.replace(digest.actor) {
                if peer.retired.len() == RETIRED_MAX {
                    peer.retired.remove(0);
                }
                peer.retired.push(before);
                peer.known = VersionVector::EMPTY;
                self.cut = None;
            }
        }
        peer.heard = now;
        if core::mem::take(&mut peer.away) {
            peer.patience = now + self.pace.debounce;
        }
        peer.known.join(&digest.seen);
        let equal = self.table.seen().covers(&digest.seen);
        if equal {
            if let Some(totals) = peer.merging.take_if(|_| now >= peer.patience) {
                step.events.push(Event::MergeFinished { peer: from, totals });
            }
            peer.met |= digest.counting == Some(self.table.actor());
        }
        let may_begin = now >= peer.patience;
        self.advance(now, step);
        if equal || self.session.is_some() || !may_begin {
            return;
        }
        let full = !self.table.seen().covers(&digest.stable);
        // Who does not know what was forgotten here has to compare first; what it wrote in
        // ignorance is then written anew, and is asked for then.
        if full || digest.seen.covers(self.table.stable()) {
            self.ask(from, full, now, step);
        }
    }

    /// Once every copy counts on this one, none forgets anything that this one does not know.
    fn settle(&mut self, now: Instant, step: &mut Step) {
        let retention = self.retention;
        let met = |peer: &Peer| peer.met || now.since(peer.heard) > retention;
        if !self.table.is_settled() && self.peers.values().all(met) {
            self.apply(Change { settled: true, ..Change::default() }, step);
        }
    }

    /// Finds what all copies have seen, and forgets what lost among it.
    fn advance(&mut self, now: Instant, step: &mut Step) {
        let seen = self.table.seen();
        let counted = || {
            let counted = self.peers.iter().filter(|(_, p)| now.since(p.heard) <= self.retention);
            counted.map(|(node, peer)| (*node, &peer.known))
        };
        let Some(cut) = &mut self.cut else {
            if !self.table.stable().covers(seen) {
                self.cut = Some(Cut::new(seen.clone()));
            }
            return;
        };
        if let Some(stable) = cut.advance(seen, counted) {
            self.cut = None;
            self.apply(Change { stable, ..Change::default() }, step);
        }
    }

    // ------------------------------------------------------------------ asking

    fn ask(&mut self, peer: NodeId, full: bool, now: Instant, step: &mut Step) {
        let Some(actor) = self.peers.get(&peer).and_then(|peer| peer.actor) else { return };
        let have = self.table.seen().clone();
        let got = if full { VersionVector::EMPTY } else { have.clone() };
        self.session_next += 1;
        let session = Session {
            number: self.session_next,
            peer,
            actor,
            full,
            have,
            got,
            stable: None,
            staged: Vec::new(),
            skipped: 0,
            asked: now,
            tries: 0,
        };
        step.sends.push((peer, self.message(Body::Pull(session.pull()))));
        self.session = Some(session);
    }

    /// Asks again what was not answered; gives up whom it was asked in vain for too long.
    fn retry(&mut self, now: Instant, step: &mut Step) {
        let patience = self.pace.round * 2;
        let Some(session) = &mut self.session else { return };
        if now.since(session.asked) < patience {
            return;
        }
        session.asked = now;
        session.tries += 1;
        if session.tries > TRIES_MAX {
            self.session = None;
            return;
        }
        let (peer, pull) = (session.peer, session.pull());
        step.sends.push((peer, self.message(Body::Pull(pull))));
    }

    fn on_chunk(&mut self, from: NodeId, chunk: Chunk, now: Instant, step: &mut Step) {
        let actor = self.peers.get(&from).and_then(|peer| peer.actor);
        let Some(session) = &mut self.session else { return };
        if session.number != chunk.session
            || session.peer != from
            || session.got != chunk.after
            || Some(session.actor) != actor
        {
            return;
        }
        session.got = chunk.upto;
        session.staged.extend(chunk.versions);
        session.asked = now;
        session.tries = 0;
        let first = session.stable.get_or_insert_with(|| chunk.stable.clone()).clone();
        if !chunk.complete {
            let pull = session.pull();
            step.sends.push((from, self.message(Body::Pull(pull))));
            return;
        }
        let Some(session) = self.session.take() else { return };
        // What the peer forgot meanwhile may be missing between two chunks.
        let whole = match session.full {
            true => first == chunk.stable,
            false => session.have.covers(&chunk.stable),
        };
        if whole {
            self.finish(session, chunk.stable, step);
        } else {
            self.ask(from, true, now, step);
        }
    }

    /// Puts in what was set aside, and only now claims to have seen what the peer has.
    fn finish(&mut self, mut session: Session, stable: VersionVector, step: &mut Step) {
        let upto = &session.got;
        let mut both = upto.clone();
        both.join(self.table.seen());
        let before = session.staged.len();
        session
            .staged
            .retain(|(_, version)| upto.contains(&version.dot) && both.covers(&version.past));
        session.skipped += (before - session.staged.len()) as u64;
        let mut change = Change { seen: session.got.clone(), ..Change::default() };
        if session.full {
            change.stable = stable;
            change.forgotten = self.forgotten_by(&session);
        }
        change.versions = session.staged;
        let applied = if session.full {
            self.compare_all(change, &session.got, step)
        } else {
            self.apply(change, step)
        };
        if let Some(peer) = self.peers.get_mut(&session.peer) {
            peer.known.join(&session.got);
            if let Some(totals) = &mut peer.merging {
                totals.copied += applied.copied;
                totals.deleted += applied.deleted;
                totals.conflicts += applied.raised.len() as u64;
                totals.skipped += session.skipped;
            }
        }
    }

    /// What is held here and was seen there, but is held there no more: it was replaced or lost.
    fn forgotten_by(&self, session: &Session) -> Vec<Dot> {
        let staged: BTreeSet<Dot> = session.staged.iter().map(|(_, version)| version.dot).collect();
        let held = self.table.versions().map(|(_, version)| version.dot);
        held.filter(|dot| session.got.contains(dot) && !staged.contains(dot)).collect()
    }

    /// Takes a whole copy of a peer that has forgotten what this one has not. Values that were
    /// written here without knowing of that are written once more, as late ones: no removal that
    /// some copies have forgotten and others have not takes them away in some copies only.
    fn compare_all(&mut self, change: Change, theirs: &VersionVector, step: &mut Step) -> Applied {
        let applied = self.table.apply(&change);
        step.changes.push(change);
        let actor = self.table.actor();
        let mut number = self.table.seen().last(&actor);
        let mut again = Change::default();
        for (row, version) in self.table.versions() {
            let late = version.origin == Origin::Late || version.value().is_none();
            if late || theirs.contains(&version.dot) {
                continue;
            }
            number += 1;
            let dot = Dot { actor, number };
            let mut past = version.past.clone();
            past.insert(version.dot);
            let version = Version { dot, past, origin: Origin::Late, ..version.clone() };
            again.versions.push((row.clone(), version));
            again.seen.insert(dot);
        }
        self.table.apply(&again);
        // One record: whoever recovers has done all of it or nothing.
        if let Some(change) = step.changes.last_mut() {
            change.versions.extend(again.versions);
            change.seen.join(&again.seen);
        }
        step.applied.push(applied.clone());
        applied
    }

    // ------------------------------------------------------------------ answering

    fn on_pull(&self, from: NodeId, pull: Pull, step: &mut Step) {
        if self.peers.get(&from).is_none_or(|peer| peer.agrees != Some(true)) {
            return;
        }
        if !pull.full && !pull.have.covers(self.table.stable()) {
            let resync = Body::Resync { session: pull.session };
            step.sends.push((from, self.message(resync)));
            return;
        }
        let mut upto = pull.got.clone();
        let mut versions: Vec<(Row, Version)> = Vec::new();
        let mut bytes = 0;
        let mut complete = true;
        for (row, version) in self.table.unknown_to(&pull.got) {
            let entry = (row.clone(), version.clone());
            bytes += size(&entry);
            if bytes > CHUNK_BYTES && !versions.is_empty() {
                complete = false;
                break;
            }
            upto.insert(version.dot);
            versions.push(entry);
        }
        if complete {
            upto = self.table.seen().clone();
        }
        let stable = self.table.stable().clone();
        let (session, after) = (pull.session, pull.got);
        let chunk = Chunk { session, after, versions, upto, complete, stable };
        step.sends.push((from, self.message(Body::Chunk(chunk))));
    }

    /// Takes what a peer has just written, if nothing is missing before it.
    fn on_push(
        &mut self,
        from: NodeId,
        mut versions: Vec<(Row, Version)>,
        now: Instant,
        step: &mut Step,
    ) {
        let (Some(peer), Some((_, first))) = (self.peers.get(&from), versions.first()) else {
            return;
        };
        let (actor, first) = (first.dot.actor, first.dot.number);
        let counted = |(place, (_, version)): (usize, &(Row, Version))| {
            version.dot == Dot { actor, number: first.saturating_add(place as u64) }
        };
        if peer.agrees != Some(true)
            || peer.actor != Some(actor)
            || !peer.known.covers(self.table.stable())
            || !versions.iter().enumerate().all(counted)
        {
            return;
        }
        let last = self.table.seen().last(&actor);
        if first > last + 1 {
            return self.ask_unless_asking(from, now, step);
        }
        versions.retain(|(_, version)| version.dot.number > last);
        let mut seen = self.table.seen().clone();
        for (_, version) in &versions {
            if !seen.covers(&version.past) {
                return self.ask_unless_asking(from, now, step);
            }
            seen.insert(version.dot);
        }
        let Some((_, newest)) = versions.last() else { return };
        let seen = VersionVector::from_iter([newest.dot]);
        self.apply(Change { versions, seen, ..Change::default() }, step);
    }

    fn ask_unless_asking(&mut self, peer: NodeId, now: Instant, step: &mut Step) {
        if self.session.is_none() && self.peers.get(&peer).is_some_and(|peer| now >= peer.patience)
        {
            self.ask(peer, false, now, step);
        }
    }
}

impl Peer {
    const fn new(heard: Instant) -> Self {
        Self {
            actor: None,
            retired: Vec::new(),
            agrees: None,
            known: VersionVector::EMPTY,
            heard,
            met: false,
            merging: None,
            away: false,
            patience: Instant::ZERO,
        }
    }

    /// Whether this copy of the peer's is gone: what it said comes late.
    fn is_over(&self, actor: &Actor) -> bool {
        let later = |now: Actor| now.life == actor.life && now.incarnation > actor.incarnation;
        self.actor.is_some_and(later) || self.retired.contains(actor)
    }
}

impl Session {
    fn pull(&self) -> Pull {
        let (have, got) = (self.have.clone(), self.got.clone());
        Pull { session: self.number, have, got, full: self.full }
    }
}

/// About how many bytes a version takes on the wire.
pub(super) fn size((row, version): &(Row, Version)) -> usize {
    let element = row.element.as_ref().map_or(0, |element| element.len());
    let value = version.value().map_or(0, |value| value.len());
    row.key.len() + element + value + 64 + 24 * version.past.iter().count()
}
