//! How copies become equal, whether or not anybody noticed that they were apart.
//!
//! Every copy says again and again what it has seen. Who lacks something asks for it and is sent
//! the versions that it lacks, a chunk at a time, in the order of their dots; so the cost is that
//! of the difference. What was sent is set aside until all of it is there and then counts at one
//! stroke: a copy never shows half a difference, and never claims to have seen what it only has
//! parts of (Z70). It is put in little by little (`staging.rs`). Who is slow to answer is asked
//! again, for less and later each time, and what came so far is kept: a slow link costs time, and
//! other messages get past. A peer that answers nothing for seconds is left for another, if there
//! is one; if it is heard again first, it is asked for the rest.
//!
//! What is written is also pushed to whoever can be heard, and taken by those whom it brings no
//! gap: the digests repair what that loses.
//!
//! Must never know: sockets, disks, what clients want.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bincode::{Decode, Encode};

use super::answers::ROWS_MAX;
use super::circle::Circle;
use super::command::{Answer, Command, Info, Keep, PeerInfo, Unfit};
use super::message::{Body, Chunk, Digest, Message, Pull, Stance};
use super::schema::{Agreement, Durability, Schema, Strategy};
use super::stability::{Counting, Cut, Said};
use super::staging::{Progress, Role};
use super::table::{Applied, Change, Row, Table, Writer};
use super::version::{Actor, Dot, Origin, Stamp, Version, VersionVector};
use crate::base::{Incarnation, Instant, NodeId, Now, TableName, Wall};

/// How many bytes of versions a chunk or a push holds at most, unless a single version is larger.
const CHUNK_BYTES: usize = 256 << 10;

/// How many are asked for at first, and how many always: twice as many after each answer in time,
/// half after each that is late. Nothing else gets past them on their link.
const CHUNK_FIRST: u32 = 32 << 10;
const CHUNK_MIN: u32 = 2 << 10;

/// How many copies of one peer that are gone are remembered, so that what they said late is not
/// taken for news.
const RETIRED_MAX: usize = 16;

/// How far ahead of the clocks of most of the others a write may be stamped.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// For how many rounds nothing of what a peer has may come, before that is worth an alarm.
const STALL_ROUNDS: u32 = 100;

/// How long an exchange waits, and how much it does at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    /// How many rows of a difference are put in at one step, and how many are forgotten.
    pub rows: usize,
    /// How many bytes of versions are asked for at once at most.
    pub chunk: u32,
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
    /// Of how many bytes a chunk was that was taken.
    pub taken: Option<usize>,
}

/// What happens between two copies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Event {
    /// The copies agree on what the table is, after they had not.
    Agreed {
        /// With whom.
        peer: NodeId,
    },
    /// Both copies have been written to while they were apart, and the table's strategy is to leave
    /// them so: an alarm until [`Command::Merge`] or somebody who has merged both (U-01).
    Apart {
        /// From whom.
        peer: NodeId,
    },
    /// The clock here is ahead of most of the others': an alarm until it is not. What is written
    /// meanwhile is stamped as by a clock that is a minute ahead.
    ClockAhead {
        /// By so much.
        by: Duration,
    },
    /// It is no more.
    ClockSteady,
    /// This copy was given up by others, which went on without it. It has taken all from one of
    /// them, and has written once more what those had not seen.
    BegunAnew {
        /// From whom.
        peer: NodeId,
    },
    /// The copies differ in what the table is, so they are not merged. Nothing is lost (L-27).
    Disagreed {
        /// With whom.
        peer: NodeId,
        /// What it says.
        theirs: Agreement,
    },
    /// Replicas were not heard for the retention by any of those that are heard, which go on
    /// without them: they begin anew when they are back.
    GivenUp {
        /// Which.
        peers: Vec<NodeId>,
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
    /// All that others know of this copy's own writes is here again, and clients may write.
    Regained,
    /// Something of what a peer has comes after all.
    Resumed {
        /// Which.
        peer: NodeId,
    },
    /// This copy is older than what it has told a peer: its storage was put back to an earlier
    /// state. An alarm, and clients' writes are refused.
    Rewound {
        /// Who knows more of it.
        peer: NodeId,
        /// What that has come to.
        state: Rewound,
    },
    /// A peer is heard, and for long nothing has come of what it has: an alarm until something
    /// does. It is asked again and again (M-36).
    Stalled {
        /// Which.
        peer: NodeId,
    },
    /// The copies are apart no more.
    Together {
        /// With whom.
        peer: NodeId,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreed { peer } => write!(f, "agreed with {peer}"),
            Self::Apart { peer } => {
                write!(f, "apart from {peer}: both were written to; waiting to be told to merge")
            }
            Self::BegunAnew { peer } => {
                write!(f, "begun anew from {peer}: others had gone on without this copy")
            }
            Self::ClockAhead { by } => {
                write!(f, "clock ahead of most others by {} s", by.as_secs())
            }
            Self::ClockSteady => write!(f, "clock ahead no more"),
            Self::Disagreed { peer, theirs } => {
                write!(f, "disagreed with {peer}, which has {theirs}")
            }
            Self::GivenUp { peers } => {
                write!(f, "going on without")?;
                peers.iter().try_for_each(|peer| write!(f, " {peer}"))
            }
            Self::MergeFinished { peer, totals } => write!(
                f,
                "merge finished with {peer}: {} copied, {} deleted, {} conflicts, {} lost, \
                 {} skipped",
                totals.copied, totals.deleted, totals.conflicts, totals.lost, totals.skipped
            ),
            Self::MergeStarted { peer } => write!(f, "merge started with {peer}"),
            Self::Regained => write!(f, "regained all that others know of this copy's writes"),
            Self::Resumed { peer } => write!(f, "resumed from {peer}"),
            Self::Rewound { peer, state: Rewound::Behind } => {
                write!(f, "rewound: {peer} has writes of this copy that it has not; refusing more")
            }
            Self::Rewound { peer, state: Rewound::Forked } => write!(
                f,
                "rewound: {peer} knows another write by the name of one of this copy's; refusing \
                 more: save what is here alone, and give this node's seat to a new storage"
            ),
            Self::Stalled { peer } => write!(f, "stalled: {peer} has what does not come"),
            Self::Together { peer } => write!(f, "together with {peer}"),
        }
    }
}

/// What came of putting a copy's storage back to an earlier state (`docs/MERGED.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Rewound {
    /// It lacks some of its own writes: they come back from the others.
    Behind,
    /// It has named a write as another is named. Copies differ by it for good, whatever is merged.
    Forked,
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
    /// Values that a removal or another value came to stay instead of, though neither knew of the
    /// other: what the strategy or the policy decided.
    pub lost: u64,
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
    /// The number of the last that it said, and of the last of this copy's that it had heard then.
    said: u64,
    echo: u64,
    /// With whom it went on then.
    circle: Circle,
    /// Whom it counted then, and whom of those it missed, if it was of the circle of this copy.
    counting: Counting,
    missed: Vec<NodeId>,
    /// Whether it was left out of this copy's circle, and has not been heard in it since.
    out: bool,
    /// As whom it asked to begin, until it is heard as that. It is waited for.
    coming: Option<Actor>,
    /// What it had seen when it was first heard to count this copy.
    owed: Option<VersionVector>,
    /// Whether it counts this copy, and this copy has had all that it had.
    met: bool,
    /// While it has just come back.
    merging: Option<Totals>,
    /// Whether it has gone, and has not been heard since.
    away: bool,
    /// Before this, no merge begins.
    patience: Instant,
    /// When it came back for the first time since it was last merged with.
    back: Option<Instant>,
    /// What its clock showed, and when.
    clock: Option<(Wall, Instant)>,
    /// Whether it last knew more of this copy's own writes than was here; nothing while it has not
    /// been heard.
    knows_more: Option<bool>,
    lack: Option<Lack>,
    /// Since when it compares itself in full with this copy.
    comparing: Option<Instant>,
    /// Whether this copy has been compared in full with it, where that is needed.
    compared: bool,
    apart: Apart,
    /// Whether the copies were told to merge since it was last lost.
    told: bool,
    /// What is to stay where they collide then.
    keep: Option<Keep>,
}

/// What a peer has and this copy has not.
#[derive(Debug)]
struct Lack {
    upto: VersionVector,
    /// Since when nothing came.
    since: Instant,
    stalled: bool,
}

/// Whether a copy is left alone, where the strategy wants that.
#[derive(Debug, Default)]
enum Apart {
    /// Both were written to. What both had then.
    Held { ours: VersionVector, theirs: VersionVector },
    /// It is merged with.
    #[default]
    No,
    /// It was not heard for a while, and what it has is not known yet.
    Suspected,
}

impl Apart {
    const fn is_no(&self) -> bool {
        matches!(self, Self::No)
    }
}

/// A question under way.
#[derive(Debug)]
struct Session {
    progress: Progress,
    skipped: u64,
    asked: Instant,
    /// For how long it is waited before it is asked again. It grows, and stays grown: what is asked
    /// for twice over a slow link takes twice as long.
    patience: Duration,
    /// How often it was asked in vain.
    tries: u32,
    /// How many bytes are asked for.
    most: u32,
    state: Asking,
}

/// Where a question stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asking {
    /// An answer is waited for.
    Asked,
    /// It is to be asked, and waits for its turn.
    Held,
    /// It was asked in vain for too long. It goes on when the peer is heard again, unless another
    /// has been asked by then.
    Paused,
    /// All is there. What was written here in ignorance of it is looked through so far, if that
    /// has to be, to be written once more; and what the peer has forgotten counts with it.
    Whole { looked: VersionVector, stable: VersionVector },
}

/// Whose the stroke is that is being put in.
#[derive(Debug)]
struct Source {
    peer: NodeId,
    /// What is to stay where copies collide.
    keep: Option<Keep>,
    /// What was seen here before.
    have: VersionVector,
}

/// Conflicts that merging has brought, to be ended for one of the sides.
#[derive(Debug)]
struct Decided {
    rows: Vec<Row>,
    keep: Keep,
    /// What was seen here before.
    have: VersionVector,
}

/// For how many rounds an answer is waited for at most.
const PATIENCE_ROUNDS: u32 = 20;

/// For how many rounds a peer that was asked in vain is waited for, if some of its answer is here,
/// before another is asked for all of it.
const RESUME_ROUNDS: u32 = 70;

/// How often a question is repeated before another peer is asked.
const TRIES_MAX: u32 = 6;

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
    source: Option<Source>,
    /// Conflicts that have come up for clients' questions.
    decided: Vec<Decided>,
    session_next: u64,
    /// The number of the last digest.
    said: u64,
    cut: Option<Cut>,
    started: bool,
    /// Whether copies that were both written to are left apart.
    manual: bool,
    /// Whether the clock here was said to be ahead.
    ahead: bool,
    /// Whether this copy was found to be older than what it has told others.
    rewound: Option<Rewound>,
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
        let manual = schema.strategy == Strategy::Manual;
        let left = table.progress().cloned();
        let left = left.map(|progress| Session::new(progress, Instant::ZERO, &pace));
        Self {
            table,
            name,
            manual,
            ahead: false,
            rewound: None,
            ignored: schema.strategy == Strategy::Ignore,
            durability: schema.durability,
            retention: schema.retention,
            pace,
            peers: peers.into_iter().map(|peer| (peer, Peer::new(Instant::ZERO, manual))).collect(),
            // What an earlier process was sent is taken up again.
            session: left.map(|session| Session { state: Asking::Paused, ..session }),
            source: None,
            decided: Vec::new(),
            session_next: u64::from(incarnation.0) << 32,
            said: u64::from(incarnation.0) << 32,
            cut: None,
            started: false,
        }
    }

    /// Counts on copies of more peers from now on. They know nothing yet, so nothing is forgotten
    /// before they have met.
    pub fn meet(&mut self, peers: impl IntoIterator<Item = NodeId>, now: Instant) {
        for peer in peers {
            self.peers.entry(peer).or_insert_with(|| Peer::new(now, self.manual));
        }
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

    fn apply(&mut self, change: Change, step: &mut Step) {
        // What is put in for it is not its doing.
        let mut put_in = Applied::default();
        change.versions.iter().for_each(|(row, _)| self.table.put_in_row(row, &mut put_in));
        self.account(put_in, step);
        let had_work = self.table.has_work();
        step.applied.push(self.table.begin(&change));
        step.changes.push(change);
        if !had_work {
            self.work(step);
        }
    }

    /// Puts in some of what is to be put in.
    fn work(&mut self, step: &mut Step) {
        let applied = self.table.work(self.pace.rows);
        self.account(applied, step);
    }

    /// Takes note of what came of putting in rows, and ends the conflicts that are decided.
    fn account(&mut self, applied: Applied, step: &mut Step) {
        if let Some(decided) = self.take_note(applied, step) {
            self.decide(&decided, step);
        }
    }

    /// Takes note of what came of putting in rows for a client. It is answered from what is there,
    /// and its write is the only one of its step: conflicts are ended in the next pause.
    fn account_for_client(&mut self, applied: Applied, step: &mut Step) {
        let decided = self.take_note(applied, step);
        self.decided.extend(decided);
    }

    /// Takes note of what came of putting in rows. Says which conflicts are decided.
    fn take_note(&mut self, applied: Applied, step: &mut Step) -> Option<Decided> {
        let Some(source) = &self.source else {
            if applied != Applied::default() {
                step.applied.push(applied);
            }
            return None;
        };
        let peer = self.peers.get_mut(&source.peer);
        if let Some(totals) = peer.and_then(|peer| peer.merging.as_mut()) {
            totals.copied += applied.copied;
            totals.deleted += applied.deleted;
            totals.conflicts += applied.raised.len() as u64;
            totals.lost += applied.lost.len() as u64;
            totals.skipped += applied.skipped;
        }
        let rows = applied.raised.clone();
        let decided = source.keep.filter(|_| !rows.is_empty());
        let decided = decided.map(|keep| Decided { rows, keep, have: source.have.clone() });
        if !self.table.is_putting_in() {
            self.source = None;
        }
        if applied != Applied::default() {
            step.applied.push(applied);
        }
        decided
    }

    /// Whether [`Replica::on_pause`] has anything to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let is_whole = |session: &Session| matches!(session.state, Asking::Whole { .. });
        let is_whole = self.session.as_ref().is_some_and(is_whole);
        !self.decided.is_empty() || self.table.has_work() || is_whole
    }

    /// Goes on with what is done little by little. To be called soon, as long as there is
    /// [work](Replica::has_work).
    pub fn on_pause(&mut self, step: &mut Step) {
        if !self.decided.is_empty() {
            let decided = core::mem::take(&mut self.decided);
            decided.iter().for_each(|decided| self.decide(decided, step));
        } else if self.table.has_work() {
            self.work(step);
        } else {
            self.conclude(step);
        }
    }

    /// Answers a client. What it writes is pushed to the peers that `reach` says can be heard.
    ///
    /// # Errors
    /// If it does not fit the table; nothing was changed.
    pub fn serve(
        &mut self,
        command: &Command,
        now: Now,
        reach: impl Fn(NodeId) -> bool,
        step: &mut Step,
    ) -> Result<Answer, Unfit> {
        let heard = || self.peers.keys().copied().filter(|peer| reach(*peer));
        let me = self.table.actor().node;
        let writer = Writer {
            wall: self.trusted(now).0,
            heard: u16::try_from(heard().count() + 1).unwrap_or(u16::MAX),
            oldest: heard().fold(me, NodeId::min),
        };
        if command.changes() && self.rewound.is_some() {
            return Err(Unfit::Rewound);
        }
        let rows = self.pace.rows.min(ROWS_MAX);
        let mut put_in = Applied::default();
        let change = match command {
            Command::Conflicts { after, limit } => {
                let (after, limit) = (after.as_ref(), *limit as usize);
                let page = self.table.conflicts_page(after, limit, rows, &mut put_in);
                self.account_for_client(put_in, step);
                return Ok(page);
            }
            Command::Get(key) => {
                let found = self.table.found(key, usize::MAX, &mut put_in);
                self.account_for_client(put_in, step);
                return Ok(found);
            }
            Command::Info => return Ok(Answer::Info(self.info(now))),
            Command::Merge { keep } => {
                if !self.manual {
                    return Err(Unfit::NotManual);
                }
                self.release(*keep, step);
                return Ok(Answer::Written { previous: Vec::new(), complete: true });
            }
            Command::Scan { pattern, after, limit } => {
                let (after, limit) = (after.as_ref(), *limit as usize);
                let page = self.table.page(pattern, after, limit, rows, &mut put_in);
                self.account_for_client(put_in, step);
                return Ok(page);
            }
            Command::Resolve { row, dots, value } => {
                self.table.put_in_row(row, &mut put_in);
                self.account_for_client(put_in, step);
                match self.table.resolve(row, dots, value.as_ref(), writer) {
                    Some(change) => change,
                    None => return Ok(Answer::Changed),
                }
            }
            Command::Write { mutations, guards } => {
                self.table.put_in_written(mutations, guards, &mut put_in);
                self.account_for_client(put_in, step);
                if !self.table.holds(guards) {
                    return Ok(Answer::Changed);
                }
                self.table.write(mutations, writer)?
            }
        };
        let previous = self.table.before(&change);
        self.write(change, reach, step);
        Ok(Answer::Written { previous, complete: true })
    }

    /// What the copy is, and how it stands with the others.
    #[must_use]
    pub fn info(&self, now: Now) -> Info {
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
            met: peer.met,
            stalled: peer.lack.as_ref().is_some_and(|lack| lack.stalled),
            apart: matches!(peer.apart, Apart::Held { .. }),
        });
        Info {
            agreement: table.agreement().clone(),
            clock_ahead: self.trusted(now).1,
            durability: self.durability,
            node: table.actor().node,
            rewound: self.rewound,
            versions: table.len() as u64,
            tombstones: table.tombstones() as u64,
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
            let merged = |(node, peer): &(&NodeId, &Peer)| reach(**node) && peer.apart.is_no();
            for (peer, _) in self.peers.iter().filter(merged) {
                step.sends.push((*peer, push.clone()));
            }
        }
        self.apply(change, step);
    }

    /// A peer is heard no more. What it says when it is back waits until it has stayed.
    pub fn on_lost(&mut self, peer: NodeId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.away = true;
            known.lack = None;
            if self.manual && known.apart.is_no() {
                known.apart = Apart::Suspected;
                (known.told, known.keep) = (false, None);
            }
        }
    }

    /// A peer has been away and is heard again.
    pub fn on_back(&mut self, peer: NodeId, now: Instant, step: &mut Step) {
        if self.ignored {
            return;
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.away = false;
            known.come_back(now, self.pace.debounce);
            if known.merging.is_none() {
                known.merging = Some(Totals::default());
                step.events.push(Event::MergeStarted { peer });
            }
        }
    }

    /// To be called again and again, a few times in the time after which a peer counts as gone.
    pub fn on_tick(&mut self, Now { instant: now, wall }: Now, step: &mut Step) {
        if !self.started {
            self.started = true;
            self.peers.values_mut().for_each(|peer| peer.heard = now);
        }
        if self.ignored {
            return;
        }
        self.watch_clock(Now { instant: now, wall }, step);
        self.retry(now, step);
        self.go_on(now, step);
        self.settle(now, step);
        self.advance(now, step);
        self.said += 1;
        let counting = self.counting();
        let missed = self.missed(now);
        for (&node, peer) in &self.peers {
            let digest = Digest {
                agreement: self.table.agreement().clone(),
                actor: self.table.actor(),
                seen: self.table.seen().clone(),
                stable: self.table.stable().clone(),
                number: self.said,
                heard: peer.said,
                counting: counting.clone(),
                circle: Box::new(self.table.circle().clone()),
                missed: missed.clone(),
                wall,
                stance: peer.stance(),
                compares: self.session.as_ref().is_some_and(|it| it.is_full_with(node)),
                yours: peer.actor.and_then(|actor| {
                    self.table.latest_of(actor).map(|version| (version.dot, version.stamp))
                }),
            };
            step.sends.push((node, self.message(Body::Digest(digest))));
        }
    }

    /// What a peer's copy says. What no copy that keeps the rules can say is left out.
    pub fn on_message(&mut self, from: NodeId, body: Body, now: Now, step: &mut Step) {
        let now = now.instant;
        if self.ignored || !self.peers.contains_key(&from) || !body.is_sound() {
            return;
        }
        match body {
            Body::Chunk(chunk) => self.on_chunk(from, chunk, now, step),
            Body::Digest(digest) => self.on_digest(from, digest, now, step),
            Body::Pull(pull) => self.on_pull(from, pull, now, step),
            Body::Push(versions) => self.on_push(from, versions, now, step),
            Body::Resync { session } => {
                let asked = self.session.take_if(|asked| {
                    let Progress { session: number, peer, full, .. } = asked.progress;
                    number == session && peer.node == from && !full
                });
                if asked.is_some() {
                    self.ask(from, true, now, step);
                }
            }
        }
    }

    // ------------------------------------------------------------------ clocks

    /// The time to stamp writes with: that of the clock here, unless it is too far ahead of those
    /// of more than half of the replicas; and by how much it is, then. A clock that shows another
    /// century is not believed for long: what it stamps would win for as long (`docs/MERGED.md`).
    /// Only who writes does this: if those who merge did, each would come to something else.
    fn trusted(&self, now: Now) -> (Wall, Option<Duration>) {
        let shows = |(wall, at): (Wall, Instant)| {
            let since = u64::try_from(now.instant.since(at).as_millis()).unwrap_or(u64::MAX);
            wall.0.saturating_add(since)
        };
        let clocks = self.peers.values().filter_map(|peer| peer.clock);
        let mut behind: Vec<u64> =
            clocks.map(|clock| now.wall.0.saturating_sub(shows(clock))).collect();
        behind.sort_unstable_by_key(|behind| core::cmp::Reverse(*behind));
        let replicas = self.peers.len() + 1;
        match behind.get(replicas / 2).map(|behind| Duration::from_millis(*behind)) {
            Some(by) if by > AHEAD_MAX => {
                let back = u64::try_from((by - AHEAD_MAX).as_millis()).unwrap_or(u64::MAX);
                (Wall(now.wall.0.saturating_sub(back)), Some(by))
            }
            Some(_) | None => (now.wall, None),
        }
    }

    fn watch_clock(&mut self, now: Now, step: &mut Step) {
        let ahead = self.trusted(now).1;
        if ahead.is_some() == self.ahead {
            return;
        }
        self.ahead = ahead.is_some();
        step.events.push(ahead.map_or(Event::ClockSteady, |by| Event::ClockAhead { by }));
    }

    // ------------------------------------------------------------------ told to merge

    /// Merges with whoever is left apart. They are told, too.
    fn release(&mut self, keep: Option<Keep>, step: &mut Step) {
        for (node, peer) in &mut self.peers {
            if let Apart::Held { .. } = peer.apart {
                step.events.push(Event::Together { peer: *node });
                peer.apart = Apart::No;
                (peer.told, peer.keep) = (true, keep);
            }
        }
    }

    /// Ends conflicts that merging has brought, for one of the sides.
    fn decide(&mut self, Decided { rows, keep, have }: &Decided, step: &mut Step) {
        for row in rows {
            let shown = self.table.shown(row);
            let is_ours = |version: &&&Version| have.contains(&version.dot);
            let found = match keep {
                Keep::Here => shown.iter().find(is_ours),
                Keep::There => shown.iter().find(|version| !is_ours(version)),
            };
            let Some(value) = found.and_then(|version| version.value()).cloned() else { continue };
            let dots: Vec<Dot> = self.table.row(row).iter().map(|version| version.dot).collect();
            // It is stamped later than what it replaces, whatever the clock shows.
            if let Some(change) = self.table.resolve(row, &dots, Some(&value), Writer::default()) {
                self.apply(change, step);
            }
        }
    }

    // ------------------------------------------------------------------ who has what

    fn on_digest(&mut self, from: NodeId, mut digest: Digest, now: Instant, step: &mut Step) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let is_old = peer.actor == Some(digest.actor) && digest.number <= peer.said;
        if digest.actor.node != from || is_old || peer.is_over(&digest.actor) {
            return;
        }
        let own = self.table.actor();
        if !peer.agrees_on(from, self.table.agreement(), &digest.agreement, step) {
            return;
        }
        let of_it = |session: &mut Session| session.progress.peer.node == from;
        if peer.goes_by(digest.actor) && self.session.take_if(of_it).is_some() {
            self.table.drop_aside();
        }
        peer.heard = now;
        peer.knows_more = Some(digest.seen.last(&own) > self.table.seen().last(&own));
        (peer.said, peer.echo) = (digest.number, digest.heard);
        peer.takes_note(&mut digest, own, self.table.circle());
        peer.comparing = digest.compares.then(|| peer.comparing.unwrap_or(now));
        peer.clock = Some((digest.wall, now));
        if core::mem::take(&mut peer.away) {
            peer.come_back(now, self.pace.debounce);
            // What was asked while it was away was asked of nobody.
            let asked = self.session.as_mut().filter(|it| it.progress.peer.node == from);
            asked.into_iter().for_each(Session::pause);
        }
        peer.known.join(&digest.seen);
        self.find_rewound(from, digest.yours, now, step);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let seen = self.table.seen();
        let equal = seen.covers(&digest.seen);
        if self.manual && !peer.meets(from, seen, &digest, step) {
            return self.advance(now, step);
        }
        self.move_on(&digest.circle, step);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let seen = self.table.seen();
        // What a copy that was something else forgot then, this one may still hold.
        let compares = self.table.is_changed() && !peer.compared;
        peer.misses(from, seen, &digest.seen, now, self.pace.round * STALL_ROUNDS, step);
        let is_in = equal && !self.table.is_putting_in();
        if is_in && let Some(totals) = peer.merging.take_if(|_| now >= peer.patience) {
            step.events.push(Event::MergeFinished { peer: from, totals });
        }
        peer.back.take_if(|_| equal && now >= peer.patience);
        // Whoever brought it: what collides from here on collided with another merge.
        peer.keep.take_if(|_| equal);
        peer.met |= !compares && peer.owed.as_ref().is_some_and(|owed| seen.covers(owed));
        let may_begin = now >= peer.patience;
        let anew = peer.circle.outranks(self.table.circle());
        self.advance(now, step);
        if equal && !compares && !anew {
            return self.let_go(from);
        }
        if self.is_asking(from, now) || self.table.is_putting_in() || !may_begin {
            return;
        }
        let full = anew || compares || !self.table.seen().covers(&digest.stable);
        // Who does not know what was forgotten here has to compare first; what it wrote in
        // ignorance is then written anew, and is asked for then.
        if full || digest.seen.covers(self.table.stable()) {
            self.ask(from, full, now, step);
        }
    }

    /// Finds out whether this copy was put back to an earlier state: then a peer knows writes of it
    /// that it does not, or another one by the name of one of its own. Nothing is sent before it is
    /// durable, so neither comes of a crash.
    fn find_rewound(
        &mut self,
        from: NodeId,
        yours: Option<(Dot, Stamp)>,
        now: Instant,
        step: &mut Step,
    ) {
        let differs = |(dot, stamp): (Dot, Stamp)| {
            let own = self.table.version(&dot).filter(|_| dot.actor == self.table.actor());
            own.is_some_and(|version| version.stamp != stamp)
        };
        let is_behind = |peer: &Peer| peer.knows_more == Some(true);
        let found = if yours.is_some_and(differs) {
            Some(Rewound::Forked)
        } else {
            self.peers.get(&from).filter(|peer| is_behind(peer)).map(|_| Rewound::Behind)
        };
        if found > self.rewound {
            self.rewound = found;
            step.events.extend(found.map(|state| Event::Rewound { peer: from, state }));
        }
        // Another may know still more, so all that are waited for are heard first.
        let caught_up = |peer: &Peer| {
            peer.knows_more == Some(false)
                || peer.knows_more.is_none() && peer.is_missed(now, self.retention)
        };
        if self.rewound == Some(Rewound::Behind) && self.peers.values().all(caught_up) {
            self.rewound = None;
            step.events.push(Event::Regained);
        }
    }

    /// Whether clients' writes are refused, since the copy is older than what it has told others.
    #[must_use]
    pub const fn is_rewound(&self) -> bool {
        self.rewound.is_some()
    }

    /// Once every copy counts on this one, none forgets anything that this one does not know.
    fn settle(&mut self, now: Instant, step: &mut Step) {
        let met = |peer: &Peer| peer.met || !peer.counts() || peer.is_missed(now, self.retention);
        if !self.table.is_settled() && self.peers.values().all(met) {
            self.apply(Change { settled: true, ..Change::default() }, step);
        }
    }

    /// Whom this copy waits for before it forgets anything.
    fn counting(&self) -> Counting {
        let own = self.table.actor();
        let counted = self.peers.iter().filter(|(_, peer)| peer.counts());
        let mut all: Counting =
            counted.map(|(node, peer)| (*node, peer.coming.or(peer.actor))).collect();
        all.push((own.node, Some(own)));
        all.sort_unstable();
        all
    }

    /// Whom of those this copy has not heard for the retention.
    fn missed(&self, now: Instant) -> Vec<NodeId> {
        let missed = |peer: &Peer| peer.counts() && peer.is_missed(now, self.retention);
        self.peers.iter().filter(|(_, peer)| missed(peer)).map(|(node, _)| *node).collect()
    }

    /// Leaves out those who are missed by all whom this copy hears, if it is the first of these.
    fn go_on(&mut self, now: Instant, step: &mut Step) {
        let mut gone = self.missed(now);
        let heard = |(node, peer): &(&NodeId, &Peer)| peer.counts() && !gone.contains(node);
        let present: Vec<(&NodeId, &Peer)> = self.peers.iter().filter(heard).collect();
        let own = self.table.actor();
        if gone.is_empty() || present.iter().any(|(node, _)| **node < own.node) {
            return;
        }
        let counts =
            |peer: &Peer, gone: &NodeId| peer.counting.iter().any(|(node, _)| node == gone);
        gone.retain(|gone| {
            let misses = |peer: &Peer| peer.missed.contains(gone) || !counts(peer, gone);
            present.iter().all(|(_, peer)| !peer.counting.is_empty() && misses(peer))
        });
        let mut by = alloc::vec![own];
        for (node, peer) in
            self.peers.iter().filter(|(node, peer)| peer.counts() && !gone.contains(node))
        {
            // One that is not heard here is known to those who hear it.
            let told = present.iter().flat_map(|(_, peer)| &peer.counting);
            let told = told.filter(|(other, _)| other == node).find_map(|(_, actor)| *actor);
            let Some(actor) = peer.coming.or(peer.actor).or(told) else { return };
            by.push(actor);
        }
        if gone.is_empty() {
            return;
        }
        let circle = self.table.circle().next(own, by);
        step.events.push(Event::GivenUp { peers: gone });
        self.apply(Change { circle: Some(circle), ..Change::default() }, step);
        self.enter();
    }

    /// Moves into a greater circle, if this copy may go there as it is.
    fn move_on(&mut self, circle: &Circle, step: &mut Step) {
        let own = self.table.circle();
        let may = self.table.is_blank() || circle.takes(&self.table.actor(), own);
        if circle.outranks(own) && may {
            self.apply(Change { circle: Some(circle.clone()), ..Change::default() }, step);
            self.enter();
        }
    }

    /// Sees the others as they are from a circle that this copy is now of.
    fn enter(&mut self) {
        let circle = self.table.circle();
        self.cut = None;
        for peer in self.peers.values_mut() {
            peer.counting.clear();
            peer.coming = None;
            peer.out =
                peer.circle != *circle && !peer.actor.is_some_and(|actor| circle.names(&actor));
        }
    }

    /// Finds what all copies have seen, and forgets what lost among it, unless a peer is amid what
    /// it would have to begin again then. Who is written to would never be compared in full else.
    fn advance(&mut self, now: Instant, step: &mut Step) {
        let seen = self.table.seen();
        if !self.started || self.cut.is_none() && self.table.stable().covers(seen) {
            return;
        }
        let counting = self.counting();
        let Some(cut) = self.cut.as_mut().filter(|cut| cut.is_of(&counting)) else {
            self.cut = Some(Cut::new(seen.clone(), counting));
            return;
        };
        let counted = || {
            let counted = self.peers.iter().filter(|(_, peer)| peer.counts());
            counted.map(|(node, peer)| (*node, peer.words()))
        };
        let waited_for = |peer: &Peer| peer.is_comparing(now, &self.pace, self.retention);
        if let Some(stable) = cut.advance(seen, self.said, counted)
            && !self.peers.values().any(waited_for)
        {
            self.cut = None;
            self.apply(Change { stable, ..Change::default() }, step);
        }
    }

    // ------------------------------------------------------------------ asking

    fn ask(&mut self, peer: NodeId, full: bool, now: Instant, step: &mut Step) {
        let Some(known) = self.peers.get(&peer) else { return };
        let Some(actor) = known.actor else { return };
        let own = self.table.circle();
        let anew = known.circle.outranks(own);
        let by = if anew { self.table.actor().next() } else { Some(self.table.actor()) };
        let Some(by) = by.filter(|_| !own.outranks(&known.circle)) else { return };
        let full = full || anew;
        let is_it = |left: &mut Session| {
            let Progress { peer, by: then, full: whole, .. } = left.progress;
            (peer, then, whole) == (actor, by, full)
        };
        let session = match self.session.take_if(is_it) {
            Some(mut left) => {
                if !full {
                    // What was learnt of others meanwhile need not be sent.
                    left.progress.have = self.table.seen().clone();
                    left.progress.got.join(&left.progress.have);
                }
                Session { state: Asking::Asked, tries: 0, asked: now, ..left }
            }
            None => {
                self.table.drop_aside();
                let have = self.table.seen().clone();
                let got = if full { VersionVector::EMPTY } else { have.clone() };
                self.session_next += 1;
                let (session, peer) = (self.session_next, actor);
                let (circle, stable) = (None, None);
                let progress = Progress { session, peer, by, circle, full, have, got, stable };
                Session::new(progress, now, &self.pace)
            }
        };
        step.sends.push((peer, self.message(Body::Pull(session.pull()))));
        self.session = Some(session);
    }

    /// There is nothing left to be had of a peer that was asked and did not answer all.
    fn let_go(&mut self, peer: NodeId) {
        if self.session.take_if(|session| session.is_left_by(peer)).is_some() {
            self.table.drop_aside();
        }
    }

    /// Whether a question is under way that `peer` is not to be asked besides. One that was given
    /// up may be gone on with when who was asked is heard again: that is waited for.
    fn is_asking(&self, peer: NodeId, now: Instant) -> bool {
        self.session.as_ref().is_some_and(|session| {
            let waits = now.since(session.asked) < self.pace.round * RESUME_ROUNDS;
            let is_worth_it = self.table.aside() > 0 && waits;
            session.state != Asking::Paused || !session.is_left_by(peer) && is_worth_it
        })
    }

    /// The question to a peer is not sent yet: others have their turn first.
    pub fn hold_pull(&mut self) {
        if let Some(session) = &mut self.session {
            session.state = Asking::Held;
        }
    }

    /// Whether a peer was asked, and may yet answer.
    #[must_use]
    pub fn waits_for_answer(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.state == Asking::Asked)
    }

    /// Whether a question that was held back is still to be sent; then it is sent now.
    pub fn send_pull(&mut self, pull: &Pull, now: Instant) -> bool {
        let Some(session) = &mut self.session else { return false };
        let is_it = session.state == Asking::Held && session.pull() == *pull;
        if is_it {
            (session.state, session.asked) = (Asking::Asked, now);
        }
        is_it
    }

    /// Asks again what was not answered; gives up whom it was asked in vain for too long.
    fn retry(&mut self, now: Instant, step: &mut Step) {
        let Some(session) = &mut self.session else { return };
        if session.state != Asking::Asked || now.since(session.asked) < session.patience {
            return;
        }
        session.asked = now;
        session.most = (session.most / 2).max(CHUNK_MIN.min(self.pace.chunk));
        session.tries += 1;
        // At first it may not have heard of the one that asks.
        if session.tries > 2 || session.progress.stable.is_some() {
            session.patience = (session.patience * 2).min(self.pace.round * PATIENCE_ROUNDS);
        }
        if session.tries > TRIES_MAX {
            session.pause();
            return;
        }
        let (peer, pull) = (session.progress.peer.node, session.pull());
        step.sends.push((peer, self.message(Body::Pull(pull))));
    }

    fn on_chunk(&mut self, from: NodeId, chunk: Chunk, now: Instant, step: &mut Step) {
        let actor = self.peers.get(&from).and_then(|peer| peer.actor);
        let Some(session) = &mut self.session else { return };
        let progress = &mut session.progress;
        if progress.session != chunk.session
            || progress.peer.node != from
            || progress.got != chunk.after
            || progress.peer != chunk.actor
            || Some(progress.peer) != actor
            || matches!(session.state, Asking::Whole { .. })
        {
            return;
        }
        step.taken = Some(chunk.size());
        progress.got = chunk.upto;
        let mut versions = chunk.versions;
        let count = versions.len();
        versions.retain(|(_, version)| progress.got.contains(&version.dot));
        session.skipped += (count - versions.len()) as u64;
        (session.asked, session.state) = (now, Asking::Asked);
        if core::mem::take(&mut session.tries) == 0 {
            session.most = session.most.saturating_mul(2).min(self.pace.chunk);
        }
        // Whoever is waited for beside this one is not to blame.
        self.peers.values_mut().filter_map(|p| p.lack.as_mut()).for_each(|l| l.since = now);
        let first = progress.stable.get_or_insert_with(|| chunk.stable.clone());
        let circle = progress.circle.get_or_insert_with(|| chunk.circle.clone());
        // What the peer forgot meanwhile may be missing between two chunks.
        let nothing_forgotten = match progress.full {
            true => *first == chunk.stable,
            false => progress.have.covers(&chunk.stable),
        };
        let is_whole = nothing_forgotten && *circle == chunk.circle;
        if !is_whole {
            if let Some(peer) = self.peers.get_mut(&from)
                && chunk.circle.outranks(&peer.circle)
            {
                peer.circle = chunk.circle;
            }
            self.session = None;
            return self.ask(from, true, now, step);
        }
        if !versions.is_empty() {
            let role = Role::Aside(Box::new(progress.clone()));
            let change = Change { versions, role, ..Change::default() };
            self.table.begin(&change);
            step.changes.push(change);
        }
        if !chunk.complete {
            let pull = session.pull();
            step.sends.push((from, self.message(Body::Pull(pull))));
            return;
        }
        let looked = progress.got.clone();
        session.state = Asking::Whole { looked, stable: chunk.stable };
        self.conclude(step);
    }

    /// Goes on under another name as what a copy is that has gone on without this one, and writes
    /// once more what that has not seen.
    fn begin_anew(
        &mut self,
        Progress { session, peer: from, by, circle, got, .. }: Progress,
        stable: &VersionVector,
        step: &mut Step,
    ) {
        // All that is here is looked at, and nothing of it stays.
        let applied = self.table.work(usize::MAX);
        self.account(applied, step);
        if let Some(peer) = self.peers.get_mut(&from.node) {
            // What it wrote is late beside what is there, and stays in conflict with it.
            peer.keep = None;
        }
        let mut theirs = self.table.take_staged(session);
        theirs.retain(|(_, version)| version.is_among(&got));
        let change = self.table.begun_anew(by, theirs, &got, stable);
        self.apply(Change { circle, ..change }, step);
        step.events.push(Event::BegunAnew { peer: from.node });
        self.enter();
        for peer in self.peers.values_mut() {
            (peer.owed, peer.met, peer.knows_more) = (None, false, None);
        }
        if let Some(peer) = self.peers.get_mut(&from.node) {
            peer.known.join(&got);
            peer.out = false;
        }
    }

    /// Whether what came is still what this copy may take, and as whom.
    fn is_as_meant(&self, progress: &Progress) -> bool {
        let (own, circle) = (self.table.actor(), self.table.circle());
        progress.circle.as_ref().is_some_and(|theirs| match progress.by == own {
            true => theirs == circle,
            false => theirs.outranks(circle) && Some(progress.by) == own.next(),
        })
    }

    /// Has what was set aside count, if all is there and its turn has come, and only then claims to
    /// have seen what the peer has.
    fn conclude(&mut self, step: &mut Step) {
        let is_whole = |it: &Session| matches!(it.state, Asking::Whole { .. });
        let whole = self.session.as_ref().filter(|it| is_whole(it));
        let Some(progress) = whole.map(|it| &it.progress) else { return };
        if self.table.is_putting_in() {
            return;
        }
        if !self.is_as_meant(progress) {
            // It is asked anew for what this copy may take now.
            self.session = None;
            return self.table.drop_aside();
        }
        let anew = progress.by != self.table.actor();
        if !anew {
            if !self.writes_again(step) {
                return;
            }
            self.removes_again(step);
        }
        let Some(session) = self.session.take_if(|it| is_whole(it)) else { return };
        let Session { progress, state: Asking::Whole { stable, .. }, skipped, .. } = session else {
            return;
        };
        if anew {
            return self.begin_anew(progress, &stable, step);
        }
        let of_it = self.table.progress().is_some_and(|it| it.session == progress.session);
        let count = if of_it { self.table.aside() as u64 } else { 0 };
        let Progress { session, peer, full, have, got, .. } = progress;
        let role = Role::Stroke { session, count, full };
        let stable = if full { stable } else { VersionVector::EMPTY };
        let mut keep = None;
        if let Some(peer) = self.peers.get_mut(&peer.node) {
            peer.known.join(&got);
            peer.compared |= full;
            keep = peer.keep.take();
        }
        self.source = Some(Source { peer: peer.node, keep, have });
        let change = Change { role, seen: got, stable, ..Change::default() };
        let mut applied = self.table.begin(&change);
        step.changes.push(change);
        applied.add(self.table.work(self.pace.rows));
        applied.skipped += skipped;
        self.account(applied, step);
    }

    /// Before a copy takes all of a peer that has forgotten what this one has not, values that were
    /// written here without knowing of that are written once more, as late ones: no removal that
    /// some copies have forgotten and others have not takes them away in some copies only. They may
    /// be so written whether or not it comes to the stroke, so this is done little by little, too.
    /// Says whether it is done. What is here in another writing, and is over there, is removed:
    /// there nobody may remember by what.
    fn writes_again(&mut self, step: &mut Step) -> bool {
        let Some(session) = &mut self.session else { return true };
        let Asking::Whole { looked, .. } = &mut session.state else { return true };
        if !session.progress.full {
            return true;
        }
        let actor = self.table.actor();
        let mut number = self.table.seen().last(&actor);
        let mut again = Change::default();
        let known = looked.clone();
        let mut unknown = self.table.unknown_to(&known);
        for (row, version) in unknown.by_ref().take(self.pace.rows.max(1)) {
            looked.insert(version.dot);
            let dot = Dot { actor, number: number + 1 };
            let version = if self.table.is_over_there(row, version, &session.progress.got) {
                version.removal(dot)
            } else if version.origin == Origin::Late || version.value().is_none() {
                continue;
            } else {
                version.clone().again(dot, version.known())
            };
            number += 1;
            again.versions.push((row.clone(), version));
            again.seen.insert(dot);
        }
        let is_done = unknown.next().is_none();
        drop(unknown);
        if !again.versions.is_empty() {
            self.apply(again, step);
        }
        is_done
    }

    /// Before a copy takes another writing of what is over here, it says so: nobody else may
    /// remember that, nor may this one remember by what.
    fn removes_again(&mut self, step: &mut Step) {
        let actor = self.table.actor();
        let mut dot = Dot { actor, number: self.table.seen().last(&actor) };
        let over = self.table.over_aside().map(|(row, version)| {
            dot.number += 1;
            (row.clone(), version.removal(dot))
        });
        let versions: Vec<(Row, Version)> = over.collect();
        if !versions.is_empty() {
            let seen = VersionVector::from_iter([dot]);
            self.apply(Change { versions, seen, ..Change::default() }, step);
        }
    }

    // ------------------------------------------------------------------ answering

    fn on_pull(&mut self, from: NodeId, pull: Pull, now: Instant, step: &mut Step) {
        let circle = self.table.circle().clone();
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let is_next = pull.by.node == from && !peer.is_over(&pull.by);
        if peer.agrees != Some(true) || !peer.apart.is_no() || !is_next {
            return;
        }
        if peer.actor.and_then(Actor::next) == Some(pull.by) && !self.is_versed(now) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.actor != Some(pull.by) {
            // It knows from here on what this copy knows: nothing is forgotten without it.
            (peer.coming, peer.heard) = (Some(pull.by), now);
        }
        if !pull.full && !pull.have.covers(self.table.stable()) {
            let resync = Body::Resync { session: pull.session };
            step.sends.push((from, self.message(resync)));
            return;
        }
        if pull.full {
            peer.comparing.get_or_insert(now);
        }
        let most = (pull.most as usize).min(CHUNK_BYTES);
        let mut put_in = Applied::default();
        let bounds = (most, self.pace.rows);
        let until = self.table.put_in_unknown_to(&pull.got, bounds, &mut put_in);
        self.account(put_in, step);
        let mut upto = pull.got.clone();
        let mut versions: Vec<(Row, Version)> = Vec::new();
        let mut bytes = 0;
        let mut complete = true;
        for (row, version) in self.table.unknown_to(&pull.got) {
            if until.is_some_and(|until| version.dot > until) {
                break;
            }
            let entry = (row.clone(), version.clone());
            bytes += size(&entry);
            if bytes > most && !versions.is_empty() {
                complete = false;
                break;
            }
            upto.insert(version.dot);
            versions.push(entry);
        }
        match until {
            // All up to there was looked at, whether it is held or not.
            Some(until) if complete => {
                upto.insert(until);
                complete = false;
            }
            None if complete => upto = self.table.seen().clone(),
            Some(_) | None => {}
        }
        let stable = self.table.stable().clone();
        let (session, after) = (pull.session, pull.got);
        let actor = self.table.actor();
        let chunk = Chunk { session, actor, after, versions, upto, complete, stable, circle };
        step.sends.push((from, self.message(Body::Chunk(chunk))));
    }

    /// Whether this copy knows what those with whom it goes on may have forgotten. From one that
    /// does not, nobody begins anew: it would write once more what is over.
    fn is_versed(&self, now: Instant) -> bool {
        let circle = self.table.circle();
        let is_met =
            |peer: &Peer| peer.met || peer.circle != *circle || peer.is_missed(now, self.retention);
        self.table.is_settled() || self.peers.values().all(is_met)
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
            || !peer.apart.is_no()
            || peer.actor != Some(actor)
            || peer.circle != *self.table.circle()
            || !peer.known.covers(self.table.stable())
            || !versions.iter().enumerate().all(counted)
        {
            return;
        }
        if !peer.met {
            // It may have been meant for the copy that was here before, and be part of what this
            // one has to learn at one stroke.
            return self.ask_unless_asking(from, now, step);
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
        if !self.is_asking(peer, now)
            && !self.table.is_putting_in()
            && self.peers.get(&peer).is_some_and(|peer| now >= peer.patience)
        {
            self.ask(peer, false, now, step);
        }
    }
}

impl Peer {
    fn new(heard: Instant, manual: bool) -> Self {
        Self {
            actor: None,
            retired: Vec::new(),
            agrees: None,
            known: VersionVector::EMPTY,
            heard,
            said: 0,
            echo: 0,
            circle: Circle::default(),
            counting: Vec::new(),
            missed: Vec::new(),
            out: false,
            coming: None,
            owed: None,
            met: false,
            merging: None,
            away: false,
            patience: Instant::ZERO,
            back: None,
            clock: None,
            knows_more: None,
            lack: None,
            comparing: None,
            compared: false,
            // What was before this process is not known.
            apart: if manual { Apart::Suspected } else { Apart::No },
            told: false,
            keep: None,
        }
    }

    /// Whether both copies are the same thing.
    fn agrees_on(
        &mut self,
        node: NodeId,
        ours: &Agreement,
        theirs: &Agreement,
        step: &mut Step,
    ) -> bool {
        let agrees = ours == theirs;
        if !agrees && self.agrees != Some(false) {
            step.events.push(Event::Disagreed { peer: node, theirs: theirs.clone() });
        } else if agrees && self.agrees == Some(false) {
            step.events.push(Event::Agreed { peer: node });
        }
        self.agrees = Some(agrees);
        agrees
    }

    /// Takes note of which copy it is; says whether it was another before, of which that one has
    /// nothing.
    fn goes_by(&mut self, actor: Actor) -> bool {
        if self.actor == Some(actor) {
            return false;
        }
        self.coming = None;
        let Some(before) = self.actor.replace(actor) else { return false };
        if self.retired.len() == RETIRED_MAX {
            self.retired.remove(0);
        }
        self.retired.push(before);
        (self.known, self.owed) = (VersionVector::EMPTY, None);
        true
    }

    /// Takes note of whom it goes on with and waits for. What a copy of another circle says of the
    /// latter means nothing here.
    fn takes_note(&mut self, digest: &mut Digest, own: Actor, circle: &Circle) {
        self.circle = (*digest.circle).clone();
        self.counting.clear();
        if self.circle != *circle {
            return;
        }
        if self.owed.is_none() && digest.counting.contains(&(own.node, Some(own))) {
            self.owed = Some(digest.seen.clone());
        }
        self.counting = core::mem::take(&mut digest.counting);
        self.missed = core::mem::take(&mut digest.missed);
        self.out = false;
        // It has come into this circle as it is after all.
        self.coming.take_if(|coming| coming.incarnation == digest.actor.incarnation);
    }

    /// It is heard again. What it has is merged when a debounce has gone by, and not put off again
    /// by a link that goes and comes meanwhile: else one that flaps faster than that never merges.
    fn come_back(&mut self, now: Instant, debounce: Duration) {
        self.patience = *self.back.get_or_insert(now) + debounce;
    }

    /// Whether it is amid comparing itself in full, and not for too long.
    fn is_comparing(&self, now: Instant, pace: &Pace, retention: Duration) -> bool {
        let since = |then: Instant| now.since(then);
        let is_heard = since(self.heard) < pace.round * RESUME_ROUNDS;
        is_heard && self.comparing.is_some_and(|then| since(then) < retention)
    }

    /// Whether it is waited for before anything is forgotten.
    const fn counts(&self) -> bool {
        !self.out || self.coming.is_some()
    }

    /// Whether it was not heard for the retention.
    fn is_missed(&self, now: Instant, retention: Duration) -> bool {
        now.since(self.heard) > retention
    }

    const fn words(&self) -> Said<'_> {
        Said { known: &self.known, counting: &self.counting, heard: self.echo }
    }

    const fn stance(&self) -> Stance {
        match self.apart {
            Apart::Held { .. } => Stance::Apart,
            Apart::No if self.told => Stance::Told,
            Apart::No | Apart::Suspected => Stance::Merged,
        }
    }

    /// Whether the copies are merged, where that is not a matter of course: if one of them has all
    /// that the other has; if somebody says so; or if each has come to have what the other had when
    /// they were found apart, since somebody who hears both has merged them.
    fn meets(
        &mut self,
        node: NodeId,
        seen: &VersionVector,
        theirs: &Digest,
        step: &mut Step,
    ) -> bool {
        let told = self.told || theirs.stance == Stance::Told;
        let behind = seen.covers(&theirs.seen) || theirs.seen.covers(seen);
        match &self.apart {
            Apart::No if theirs.stance != Stance::Apart || self.told || behind => return true,
            Apart::Suspected if told || behind => self.apart = Apart::No,
            Apart::No | Apart::Suspected => {
                self.apart = Apart::Held { ours: seen.clone(), theirs: theirs.seen.clone() };
                step.events.push(Event::Apart { peer: node });
            }
            Apart::Held { ours, theirs: had } => {
                if told || behind || (seen.covers(had) && theirs.seen.covers(ours)) {
                    self.apart = Apart::No;
                    step.events.push(Event::Together { peer: node });
                }
            }
        }
        self.apart.is_no()
    }

    /// Keeps in mind what it has and this copy has not, and for how long.
    fn misses(
        &mut self,
        node: NodeId,
        seen: &VersionVector,
        theirs: &VersionVector,
        now: Instant,
        patience: Duration,
        step: &mut Step,
    ) {
        match &mut self.lack {
            Some(lack) if !seen.covers(&lack.upto) => {
                if !lack.stalled && now.since(lack.since) >= patience {
                    lack.stalled = true;
                    step.events.push(Event::Stalled { peer: node });
                }
            }
            lack => {
                if lack.as_ref().is_some_and(|lack| lack.stalled) {
                    step.events.push(Event::Resumed { peer: node });
                }
                let more = !seen.covers(theirs);
                *lack = more.then(|| Lack { upto: theirs.clone(), since: now, stalled: false });
            }
        }
    }

    /// Whether this copy of the peer's is gone: what it said comes late.
    fn is_over(&self, actor: &Actor) -> bool {
        let place = |of: &Actor| (of.incarnation, of.anew);
        let later = |now: Actor| now.life == actor.life && place(&now) > place(actor);
        self.actor.is_some_and(later) || self.retired.contains(actor)
    }
}

impl Session {
    fn new(progress: Progress, asked: Instant, pace: &Pace) -> Self {
        Self {
            progress,
            skipped: 0,
            asked,
            patience: pace.round * 2,
            tries: 0,
            most: CHUNK_FIRST.min(pace.chunk),
            state: Asking::Asked,
        }
    }

    fn pull(&self) -> Pull {
        let Progress { session, by, have, got, full, .. } = self.progress.clone();
        Pull { session, by, have, got, full, most: self.most }
    }

    /// Whether that peer is asked for everything, and has not said all of it.
    fn is_full_with(&self, peer: NodeId) -> bool {
        let is_under_way = !matches!(self.state, Asking::Whole { .. });
        self.progress.full && self.progress.peer.node == peer && is_under_way
    }

    /// Whether that peer was asked, and the question was given up.
    fn is_left_by(&self, peer: NodeId) -> bool {
        self.state == Asking::Paused && self.progress.peer.node == peer
    }

    /// Asks no more for now. If all is there nothing has to be asked.
    fn pause(&mut self) {
        if !matches!(self.state, Asking::Whole { .. }) {
            self.state = Asking::Paused;
        }
    }
}

/// About how many bytes a version takes on the wire.
pub(super) fn size((row, version): &(Row, Version)) -> usize {
    let element = row.element.as_ref().map_or(0, |element| element.len());
    let value = version.value().map_or(0, |value| value.len());
    let first = version.first.as_ref().map_or(0, |_| 32);
    row.key.len() + element + value + 64 + first + 24 * version.past.iter().count()
}
