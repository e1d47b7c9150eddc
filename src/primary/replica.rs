//! A replica: what it is told, what it then is, and what it wants done.
//!
//! Every input ends in the same way: the replica looks at what it now knows and does what is due.
//! Nothing is remembered to be sent once something is on disk; what may be said is worked out from
//! what is on disk. So a lost effect costs a retry and nothing else.
//!
//! Must never know: how the arbiter decides, who watches sessions, what time it is elsewhere.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::asks::Asks;
use super::command::{Ask, Info, Outcome};
use super::follow::Follower;
use super::journal::{Journal, Record};
use super::lead::Lead;
use super::log::{Entry, HistoryMax, Log, Place};
use super::message::{Body, Message};
use super::roster::{Acknowledge, Member, Reign, Roster};
use super::writer::{Mark, Writer};
use crate::base::{Incarnation, Instant, Key, NodeId, OpId, Ticket, Value};
use crate::paxos::Ballot;

/// What a replica is told when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Whose disks must hold a write before it is acknowledged, if this replica has its way: what
    /// counts is what the arbiter says.
    pub acknowledge: Acknowledge,
    /// How long a client waits for its answer at most.
    pub answer_within: Duration,
    /// After what time what got no answer is sent, written or asked again.
    pub retry: Duration,
    /// How long a replica may owe an acknowledgement before it is counted out.
    pub patience: Duration,
    /// What may wait.
    pub limits: Limits,
}

impl Default for Settings {
    /// one second to answer: 100 ms to try again; three seconds of patience.
    fn default() -> Self {
        Self {
            acknowledge: Acknowledge::All,
            answer_within: Duration::from_secs(1),
            retry: Duration::from_millis(100),
            patience: Duration::from_secs(3),
            limits: Limits::default(),
        }
    }
}

/// What may wait, and what is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Requests that may wait for their answers at a time.
    pub waiting: usize,
    /// Entries that may wait to be committed.
    pub tail: usize,
    /// Bytes of entries that may wait to be committed, and of requests before the role is known.
    pub tail_bytes: usize,
    /// Bytes of one key and its value.
    pub write_bytes: usize,
    /// Committed requests remembered, so that none is done twice.
    pub remembered: usize,
    /// Committed entries kept for replicas that lack no more than these.
    pub history: usize,
    /// Bytes of them.
    pub history_bytes: usize,
    /// Bytes of entries or rows in one message, unless one alone is longer.
    pub batch_bytes: usize,
    /// Entries under way to one replica.
    pub window: u64,
    /// Bytes of them, unless one batch alone is longer.
    pub window_bytes: usize,
}

/// How many committed requests are remembered, unless said otherwise.
pub const REMEMBERED: usize = 1 << 16;

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting: 1 << 14,
            tail: 10_000,
            tail_bytes: 64 << 20,
            write_bytes: 1 << 20,
            remembered: REMEMBERED,
            history: 1 << 14,
            history_bytes: 16 << 20,
            batch_bytes: 256 << 10,
            window: 1 << 10,
            window_bytes: 4 << 20,
        }
    }
}

impl Limits {
    pub(super) const fn history_max(&self) -> HistoryMax {
        HistoryMax { entries: self.history, bytes: self.history_bytes }
    }
}

/// What a replica is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A client asks.
    Ask(Ask),
    /// What the arbiter was found to say, at an instant after [`Effect::Look`] number `asked` was
    /// given (0: after none in particular). Only what is chosen may be told.
    Arbiter {
        /// The number of that look.
        asked: u64,
        /// The version of what it says, also of its saying nothing.
        version: Ballot,
        /// What it says.
        roster: Option<Roster>,
    },
    /// An operator makes this replica the primary, if [`Replica::check_force`] allows it.
    Force,
    /// An operator asks the primary to hand over to this node, or to whoever is best.
    HandOver(Option<NodeId>),
    /// Be a replica, or cease to be one. A replica wants to be one unless told.
    Join(bool),
    /// Another replica says something.
    Message {
        /// Which.
        from: Member,
        /// What.
        message: Message,
    },
    /// What this ticket stands for is on disk.
    Persisted(Ticket),
    /// The session of this member's node is open, or has been decided to be closed. It is told when
    /// that changes, and again to a replica that starts or is told a roster that names the member.
    Session {
        /// Whose.
        member: Member,
        /// Whether it is open.
        open: bool,
    },
    /// The time of [`Replica::poll_timeout`] has come. Early, late and repeated ones are harmless.
    Timeout,
}

/// What a replica wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the arbiter, from now on, and tell. A look may be lost: another follows.
    Look {
        /// To be told with the answer.
        asked: u64,
    },
    /// Tell whoever wants to know what this replica is now.
    Notify(Role),
    /// Write these down, in the order of tickets; then [`Input::Persisted`]. A ticket comes again
    /// until then, with the same records. A torn batch may leave the first of them behind.
    Persist {
        /// Names it.
        ticket: Ticket,
        /// What to write.
        records: Vec<Record>,
    },
    /// Have the arbiter say this if what it says still has that version. It may be lost, fail, or
    /// be decided later: [`Input::Arbiter`] tells, and until then it comes again.
    Propose {
        /// The version that it changes.
        before: Ballot,
        /// What it is to say.
        roster: Roster,
    },
    /// The answer, once.
    Reply {
        /// To which request.
        op: OpId,
        /// What.
        outcome: Outcome,
    },
    /// May be lost, late, doubled.
    Send {
        /// To whom.
        to: Member,
        /// What.
        message: Message,
    },
}

/// What a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// It does not know yet.
    #[default]
    Unknown,
    /// No replica: it has not joined, or has been counted out.
    Outside,
    /// It puts writes in order.
    Primary,
    /// It follows the primary.
    Secondary,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Outside => "outside",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// How another replica stands, as its primary sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lag {
    /// Which.
    pub member: Member,
    /// Whether its acknowledgement counts.
    pub in_sync: bool,
    /// How many entries it has not acknowledged.
    pub behind: u64,
    /// Since when it has not been heard.
    pub silent: Duration,
}

/// What a replica does in its role.
#[derive(Debug)]
pub(super) enum Part {
    /// Nothing yet.
    Waiting,
    Outside,
    Follow(Box<Follower>),
    Lead(Lead),
}

/// One copy of a table, and its part in it.
#[derive(Debug)]
pub struct Replica {
    pub(super) me: Member,
    pub(super) settings: Settings,
    pub(super) log: Log,
    pub(super) writer: Writer,
    /// The highest reign known, which nothing of an earlier one gets past.
    pub(super) reign: Reign,
    /// Whether this reign's primary is given up.
    pub(super) sworn_off: bool,
    /// The reign that this very process has begun.
    pub(super) crowned: Reign,
    /// Where the log ended that was on disk when this process began: an earlier one may have shown
    /// all of it.
    recovered: Place,
    pub(super) version: Option<Ballot>,
    pub(super) roster: Option<Arc<Roster>>,
    /// What it wants the arbiter to say in place of `roster`. Until the version has moved it may be
    /// decided any time.
    pub(super) proposal: Option<Roster>,
    /// Whose sessions are closed.
    pub(super) gone: BTreeSet<Member>,
    pub(super) wanted: bool,
    /// The reign that an operator wants this replica to end.
    pub(super) forced: Option<Reign>,
    pub(super) part: Part,
    pub(super) asks: Asks,
    pub(super) looks: u64,
    /// The latest hello.
    pub(super) greeting: u64,
    tick: Instant,
    told: Role,
}

impl Replica {
    /// With nothing on disk yet.
    #[must_use]
    pub fn new(me: Member, incarnation: Incarnation, settings: Settings) -> Self {
        let journal = Journal::new(settings.limits.remembered);
        Self::recover(me, incarnation, settings, journal)
    }

    /// From what was written. Whatever was not written in whole is as if it had never been.
    /// `incarnation` is of the process: no question of an earlier one is taken for one of this.
    #[must_use]
    pub fn recover(
        me: Member,
        incarnation: Incarnation,
        settings: Settings,
        journal: Journal,
    ) -> Self {
        let (reign, sworn_off) = journal.reign();
        let log = journal.into_log().keeping(settings.limits.history_max());
        let mark = Mark { reign, sworn_off, index: log.last().index, cursor: None };
        Self {
            me,
            writer: Writer::new(settings.retry, mark, log.committed().index),
            recovered: log.last(),
            log,
            reign,
            sworn_off,
            crowned: Reign::NONE,
            version: None,
            roster: None,
            proposal: None,
            gone: BTreeSet::new(),
            wanted: true,
            forced: None,
            part: Part::Waiting,
            asks: Asks::default(),
            looks: 0,
            greeting: u64::from(incarnation.0) << 32,
            tick: Instant::ZERO,
            told: Role::Unknown,
            settings,
        }
    }

    /// The same, which joins only when it is told to.
    pub const fn stay_out(&mut self) {
        self.wanted = false;
    }

    // ------------------------------------------------------------------ what is to be seen of it

    /// What it is.
    #[must_use]
    pub const fn role(&self) -> Role {
        match &self.part {
            Part::Waiting => Role::Unknown,
            Part::Outside => Role::Outside,
            Part::Follow(_) => Role::Secondary,
            Part::Lead(_) => Role::Primary,
        }
    }

    /// The highest reign that it knows of.
    #[must_use]
    pub const fn reign(&self) -> Reign {
        self.reign
    }

    /// What the arbiter said last.
    #[must_use]
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_deref()
    }

    /// Up to where it knows the table to be committed.
    #[must_use]
    pub const fn committed(&self) -> Place {
        self.log.committed()
    }

    /// Up to where the primary has said that it is committed, in this reign; `None` if it has not.
    #[must_use]
    pub fn heard(&self) -> Option<u64> {
        match &self.part {
            Part::Lead(_) => Some(self.committed().index),
            Part::Follow(follower) => follower.heard_committed(),
            Part::Outside | Part::Waiting => None,
        }
    }

    /// Where its log ends.
    #[must_use]
    pub fn last(&self) -> Place {
        self.log.last()
    }

    /// What it has asked the arbiter to say instead, which may be decided any time.
    #[must_use]
    pub const fn proposal(&self) -> Option<&Roster> {
        self.proposal.as_ref()
    }

    /// Whether it wants to be a replica.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// The version of what the arbiter said last.
    #[must_use]
    pub const fn version(&self) -> Option<Ballot> {
        self.version
    }

    /// Whether it has been told that this member's session is closed.
    #[must_use]
    pub fn is_gone(&self, member: &Member) -> bool {
        self.gone.contains(member)
    }

    /// Whether a request with this id waits here for its answer.
    #[must_use]
    pub fn awaits(&self, op: &OpId) -> bool {
        self.asks.has(op)
    }

    /// The primary, as far as it is known.
    #[must_use]
    pub fn primary(&self) -> Option<NodeId> {
        let roster = self.roster.as_ref().filter(|roster| roster.reign >= self.reign)?;
        let known = !self.sworn_off && !self.gone.contains(&roster.primary);
        known.then_some(roster.primary.node)
    }

    /// The entries committed last, as far as they are kept, and then those that are not committed.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.log.history().iter().chain(self.log.tail())
    }

    /// All that can be told of it.
    #[must_use]
    pub fn info(&self, now: Instant) -> Info {
        Info {
            role: self.role(),
            wanted: self.wanted,
            roster: self.roster().cloned(),
            committed: self.committed(),
            last: self.last(),
            rows: self.log.content().rows.len() as u64,
            waiting: self.asks.len() as u64,
            lags: self.lags(now),
        }
    }

    /// What is committed, in order.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.log.content().rows.iter()
    }

    /// How the others stand; nothing is known unless it is primary.
    #[must_use]
    pub fn lags(&self, now: Instant) -> Vec<Lag> {
        let (Part::Lead(lead), Some(roster)) = (&self.part, &self.roster) else {
            return Vec::new();
        };
        let last = self.log.last().index;
        let lag = |(member, peer): (&Member, &super::lead::Peer)| Lag {
            member: *member,
            in_sync: roster.in_sync.contains(member),
            behind: last.saturating_sub(peer.acked),
            silent: now.since(peer.heard),
        };
        lead.peers.iter().map(lag).collect()
    }

    /// Whether it knows to be committed whatever an earlier process of this replica has shown: all
    /// that was on disk, or, if the rest of that was never committed, something of a later reign.
    pub(super) fn has_caught_up(&self) -> bool {
        let committed = self.log.committed();
        // A copy is here before it is on this disk.
        committed >= self.recovered && self.writer.durable().index >= committed.index
    }

    /// Whether it answers reads. Who counts does; who is to count once the table is as new here as
    /// it was elsewhere when the primary first spoke: before that what it shows may be nothing.
    #[must_use]
    pub fn may_show(&self) -> bool {
        match &self.part {
            Part::Outside | Part::Waiting => false,
            Part::Lead(_) => true,
            Part::Follow(follower) => {
                let roster = self.roster.as_ref();
                roster.is_some_and(|roster| roster.in_sync.contains(&self.me))
                    || follower.is_up_to_date(self.log.committed().index)
            }
        }
    }

    /// When it wants [`Input::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.asks.deadline().map_or(self.tick, |deadline| deadline.min(self.tick))
    }

    /// Whether an operator's wish for another primary is neither done nor given up yet.
    #[must_use]
    pub const fn is_changing(&self) -> bool {
        self.forced.is_some() || self.is_handing_over()
    }

    // ------------------------------------------------------------------ what it is told

    /// Takes one input. Total: no input is an error.
    pub fn handle(&mut self, input: Input, now: Instant, effects: &mut Vec<Effect>) {
        match input {
            Input::Ask(ask) => self.on_ask(ask, now, effects),
            Input::Arbiter { asked, version, roster } => self.on_arbiter(asked, version, roster),
            Input::Force => self.on_force(),
            Input::HandOver(to) => self.on_hand_over(to, now),
            Input::Join(wanted) => self.wanted = wanted,
            Input::Message { from, message } => self.on_message(from, message, now, effects),
            Input::Persisted(ticket) => self.writer.on_persisted(ticket),
            Input::Session { member, open: true } => {
                self.gone.remove(&member);
            }
            Input::Session { member, open: false } => {
                self.gone.insert(member);
            }
            Input::Timeout => {}
        }
        let ticked = now >= self.tick;
        if ticked {
            let late = now.since(self.tick);
            if late > self.settings.retry {
                // It was not there: what others said meanwhile is still to be read.
                self.excuse(late, now);
            }
            self.tick = now + self.settings.retry;
            self.writer.on_tick(now, effects);
        }
        self.settle(ticked, now, effects);
        self.writer.flush(self.log.committed().index, now, effects);
    }

    fn on_arbiter(&mut self, asked: u64, version: Ballot, roster: Option<Roster>) {
        let sound = roster.as_ref().is_none_or(Roster::is_sound);
        if !sound || self.version.is_some_and(|known| version < known) {
            return;
        }
        if self.version != Some(version) {
            // Whatever was proposed in place of an earlier version is this, or was before it, or
            // will never be.
            (self.version, self.proposal) = (Some(version), None);
            self.roster = roster.map(Arc::new);
            if let Some(roster) = &self.roster {
                self.gone.retain(|member| roster.has(member));
            }
        }
        self.asks.on_looked(asked);
    }

    fn on_message(
        &mut self,
        from: Member,
        message: Message,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Message { reign, body } = message;
        if reign < self.reign {
            // A primary that does not know that it was one hears it here.
            if matches!(body, Body::Append { .. }) {
                self.send(from, Body::Ack { index: 0, round: 0 }, effects);
            }
            return;
        }
        if reign > self.reign {
            // It is entered when the arbiter says so, and what is said of it is said again: nothing
            // is written down on the word of others alone.
            return self.look(effects);
        }
        match body {
            Body::Ack { .. } | Body::Hello { .. } | Body::Leave | Body::Pull { .. } => {
                self.on_secondary(from, body, now, effects);
            }
            Body::Append { .. } | Body::Behind { .. } | Body::Piece { .. } => {
                self.on_primary(from, body, now);
            }
            Body::SwearOff => self.on_swear_off(from),
            Body::Sworn(last) => self.on_sworn(from, last, effects),
        }
    }

    // ------------------------------------------------------------------ what is due

    fn settle(&mut self, ticked: bool, now: Instant, effects: &mut Vec<Effect>) {
        if ticked && let (Some(before), Some(roster)) = (self.version, &self.proposal) {
            effects.push(Effect::Propose { before, roster: roster.clone() });
        }
        self.force(effects);
        self.take_part(ticked, now, effects);
        match self.part {
            Part::Lead(_) => self.lead(ticked, now, effects),
            Part::Follow(_) => self.follow(ticked, now, effects),
            Part::Waiting | Part::Outside => {}
        }
        self.succeed(ticked, now, effects);
        if self.role() != self.told {
            self.told = self.role();
            effects.push(Effect::Notify(self.told));
        }
        self.answer(ticked, now, effects);
    }

    /// Finds out which part to take.
    fn take_part(&mut self, ticked: bool, now: Instant, effects: &mut Vec<Effect>) {
        if self.version.is_none() {
            if ticked {
                self.look(effects);
            }
            return;
        }
        let Some(roster) = self.roster.clone() else {
            // P-I1: who has written down a reign has been part of this table before, and does not
            // begin it anew because its arbiter has nothing to say.
            if self.wanted && self.reign == Reign::NONE {
                let roster = Roster::founded_by(self.me, self.settings.acknowledge);
                self.propose(roster, effects);
            }
            if ticked && self.wanted {
                self.look(effects);
            }
            return;
        };
        if roster.reign < self.reign {
            // Others are ahead of what the arbiter has said here.
            assert!(!matches!(self.part, Part::Lead(_)), "P-I1: nobody leads in a reign gone by");
            if ticked {
                self.look(effects);
            }
            return;
        }
        if roster.primary == self.me {
            return self.take_lead(&roster, now, effects);
        }
        if matches!(self.part, Part::Lead(_)) {
            self.step_down(now, effects);
        }
        if roster.has(&self.me) {
            if roster.reign > self.reign {
                self.enter(roster.reign, now, effects);
            }
            if !matches!(self.part, Part::Follow(_)) {
                self.part = Part::Follow(Box::new(Follower::new(now)));
            }
        } else {
            if !matches!(self.part, Part::Outside) {
                self.writer.unstage();
                self.part = Part::Outside;
            }
            if self.wanted {
                self.propose(roster.joined_by(self.me), effects);
                if ticked {
                    self.look(effects);
                }
            }
        }
    }

    /// The arbiter says that this is the primary.
    fn take_lead(&mut self, roster: &Roster, now: Instant, effects: &mut Vec<Effect>) {
        if roster.reign > self.reign {
            // Nobody has come between two reigns of one primary: what it has not committed yet it
            // will, in the next.
            let goes_on = matches!(self.part, Part::Lead(_)) && roster.reign == self.reign.next();
            if goes_on {
                self.part = Part::Waiting;
                self.fail_proofs(effects);
            }
            self.enter(roster.reign, now, effects);
            self.crowned = roster.reign;
        }
        if self.crowned != roster.reign {
            // It began this reign in an earlier life, and may have sent what it does not remember:
            // it begins another, with what is on its disk.
            self.part = Part::Waiting;
            let roster = roster.succeeded_by(self.me, |_| false);
            return self.propose(roster, effects);
        }
        // Durable first: a reign is begun once (P-I1).
        if self.writer.durable().reign != roster.reign {
            self.part = Part::Waiting;
        } else if !matches!(self.part, Part::Lead(_)) {
            self.begin_reign(now);
        }
    }

    /// Takes nothing of earlier reigns any more.
    fn enter(&mut self, reign: Reign, now: Instant, effects: &mut Vec<Effect>) {
        assert!(reign > self.reign, "P-I1: reigns follow each other");
        (self.reign, self.sworn_off) = (reign, false);
        self.writer.enter(reign, false);
        self.writer.unstage();
        match &mut self.part {
            Part::Follow(follower) => follower.begin_reign(),
            Part::Lead(_) => self.step_down(now, effects),
            Part::Outside | Part::Waiting => {}
        }
    }

    /// Is primary no more: what is not acknowledged by now never will be, here (P-I8).
    pub(super) fn step_down(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.part = Part::Follow(Box::new(Follower::new(now)));
        self.fail_writes(effects);
        self.look(effects);
    }

    // ------------------------------------------------------------------ small change

    /// Asks for a roster in place of the one it knows, unless it has asked for one already.
    pub(super) fn propose(&mut self, roster: Roster, effects: &mut Vec<Effect>) {
        if let (None, Some(before)) = (&self.proposal, self.version) {
            self.proposal = Some(roster.clone());
            effects.push(Effect::Propose { before, roster });
        }
    }

    pub(super) fn look(&mut self, effects: &mut Vec<Effect>) {
        self.looks += 1;
        effects.push(Effect::Look { asked: self.looks });
    }

    pub(super) fn send(&self, to: Member, body: Body, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send { to, message: Message { reign: self.reign, body } });
    }
}
