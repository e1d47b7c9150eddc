//! One operation on one register, from the first message to the answer.
//!
//! What it has done so far, and what that allows it to believe: the at-most-once rule (AMB,
//! `docs/PROTOCOL.md`) lives here. Who is sent what and when is the node's.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::cell::Cell;
use super::change::{Goal, Mode, Quorum, Step};
use super::command::{Entry, OnNoQuorum, Outcome, Previous, Refusal};
use super::message::{Listed, Testimony};
use crate::base::{ClientId, Epoch, Instant, Key, OpId, RegisterId, RequestId, TableId, Wall};
use crate::monitor::{Bind, Binding, Fact};
use crate::paxos::{Ballot, Proposer, Reading, Tally};
use core::time::Duration;

/// Who waits for the end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A client.
    Client { client: ClientId, request: RequestId },
    /// The node itself.
    Node,
    /// Another operation, which knows this one by its place among those it waits for in that
    /// attempt. One that has begun anew waits for others.
    Operation { number: u64, attempt: u32, place: usize },
}

/// What an operation tells the operation that waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Of a look or a get: this is chosen; `None` is dead since the floor.
    Chosen { ballot: Ballot, cell: Option<Arc<Cell>> },
    /// Of an inquiry about a session.
    Fact(Fact),
    /// Of a burial.
    Burial(Burial),
    /// Nothing was found out.
    Failed,
}

/// What became of a life that may have had to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Burial {
    /// Every binding of it was good at an instant of the inquiry.
    Alive,
    /// The register is dead because this binding has ended.
    Erased(Binding),
    /// It is over, for whatever reason.
    Over,
}

/// An accept that this operation has sent with a change of its own in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Try {
    pub(crate) ballot: Ballot,
    /// What it was built on.
    pub(crate) before: Arc<Cell>,
    /// What it would make.
    pub(crate) after: Arc<Cell>,
}

/// Where an operation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Finding out which life each binding names.
    Resolving { binds: Vec<Bind>, resolved: Vec<Option<Binding>>, missing: usize },
    /// Behind another proposer of this node on the same register.
    Queued,
    /// Waiting before the next attempt.
    Backoff,
    /// Phase 1.
    Preparing { ballot: Ballot, proposer: Proposer<Arc<Cell>>, quorum: Quorum, asked: Instant },
    /// Phase 2.
    Accepting { ballot: Ballot, proposer: Proposer<Arc<Cell>>, content: Content, repeats: u32 },
    /// Asking what is accepted.
    Reading { reading: Reading<Arc<Cell>> },
    /// Having what a read found accepted by a quorum, at its own ballot (R3).
    Completing { ballot: Ballot, cell: Arc<Cell>, tally: Tally },
    /// Waiting for the burial of an entry that may have to die before the answer.
    Burying { then: AfterBurial },
    /// Of a burial: finding out which bindings have ended.
    Verifying { bindings: Vec<Binding>, missing: usize },
    /// Of an inquiry about a session: waiting for its host.
    Asking,
    /// Waiting until this node can host a client session.
    Hosting,
    /// Gathering pages.
    Listing { listing: Listing },
}

impl Stage {
    /// The ballot that acceptors have been asked for, if any is under way.
    pub(crate) const fn ballot(&self) -> Option<Ballot> {
        match self {
            Self::Preparing { ballot, .. }
            | Self::Accepting { ballot, .. }
            | Self::Completing { ballot, .. } => Some(*ballot),
            Self::Resolving { .. }
            | Self::Queued
            | Self::Backoff
            | Self::Reading { .. }
            | Self::Burying { .. }
            | Self::Verifying { .. }
            | Self::Asking
            | Self::Hosting
            | Self::Listing { .. } => None,
        }
    }
}

/// What an accept under way carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// What this operation changed.
    Changed,
    /// What was there, confirmed so that it can be told.
    Kept,
    /// What was there, which holds this operation's own earlier change (AMB i).
    Effected(Ballot),
}

/// What a burial decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AfterBurial {
    /// The operation's own entry was chosen although a binding may have ended: if that is so, the
    /// entry is erased and the answer is a refusal (E3).
    Answer { generation: Ballot, outcome: Outcome },
    /// An entry that is in the way may be dead: look again afterwards (R6).
    Again { generation: Ballot, version: Ballot },
}

/// A listing under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) table: TableId,
    pub(crate) after: Option<Key>,
    pub(crate) limit: u32,
    pub(crate) tally: Tally,
    pub(crate) pages: Vec<(Vec<Listed>, bool)>,
    /// Decided once a quorum of pages is in.
    pub(crate) keys: BTreeMap<Key, bool>,
    pub(crate) disputed: Vec<Key>,
    pub(crate) missing: usize,
    pub(crate) more: Option<Key>,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) op: OpId,
    pub(crate) asker: Asker,
    pub(crate) register: RegisterId,
    pub(crate) goal: Goal,
    pub(crate) deadline: Instant,
    pub(crate) on_no_quorum: OnNoQuorum,
    pub(crate) stage: Stage,
    /// Counts the rounds of messages, so that a reply to an earlier one is not counted.
    pub(crate) attempt: u32,
    pub(crate) losses: u32,
    /// The lowest ballot at which this operation may have been proposed and may still be chosen.
    ambiguous: Option<Ballot>,
    pub(crate) tries: Vec<Try>,
    /// What the client asked to bind to, to say which is invalid.
    pub(crate) binds: Vec<Bind>,
    /// Whether an acceptor has said that a binding of what it holds may have ended.
    pub(crate) suspect: bool,
    /// What the acceptors read have testified in this attempt.
    pub(crate) heard: Quorum,
    /// An entry found to be alive at an instant of this call: not inquired into again.
    pub(crate) cleared: Option<(Ballot, Ballot)>,
}

/// What the at-most-once rule says of a content that phase 1 found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// (i) It took effect, at this ballot.
    Took(Ballot),
    /// (ii), (iii) It did not: evaluate it.
    Fresh,
    /// (iv) It cannot be told.
    Untold,
}

impl Operation {
    pub(crate) fn new(op: OpId, asker: Asker, register: RegisterId, goal: Goal) -> Self {
        Self {
            op,
            asker,
            register,
            goal,
            deadline: Instant(u64::MAX),
            on_no_quorum: OnNoQuorum::Retry,
            stage: Stage::Backoff,
            attempt: 0,
            losses: 0,
            ambiguous: None,
            tries: Vec::new(),
            binds: Vec::new(),
            suspect: false,
            heard: Quorum::UNHEARD,
            cleared: None,
        }
    }

    /// Another node may have proposed this at any ballot of the register's whole history.
    pub(crate) fn sent_before(&mut self) {
        self.ambiguous = Some(Ballot { sequence: 1, ..Ballot::genesis(Epoch(1)) });
    }

    /// Whether it may have taken effect, or may yet.
    pub(crate) const fn is_ambiguous(&self) -> bool {
        self.ambiguous.is_some()
    }

    /// The at-most-once rule, for a quorum that has promised and reports `cell` at `accepted`.
    ///
    /// `Fresh` does not end the ambiguity. Nothing that was proposed for this operation can be
    /// chosen at its own ballot any more, but an acceptor outside the quorum may hold it, and until
    /// something is chosen at the ballot promised, another proposer may build on that.
    pub(crate) fn resolve(&self, accepted: Ballot, cell: &Cell) -> Effect {
        if let Some(change) = cell.lineage.iter().find(|change| change.op == self.op) {
            return Effect::Took(change.ballot);
        }
        // P4: a change that followed one of ours took effect with it.
        let known = cell.lineage.iter().map(|change| change.ballot).chain([cell.truncated]);
        for known in known {
            if let Some(tried) = self.tries.iter().find(|tried| known.follows(tried.ballot)) {
                return Effect::Took(tried.ballot);
            }
        }
        let Some(lowest) = self.ambiguous else {
            return Effect::Fresh;
        };
        // Of what other nodes have proposed for this, only the operation itself would tell.
        let complete = !(lowest.is_genesis() && cell.lineage.hides_any());
        if accepted < lowest || cell.truncated < lowest && complete {
            Effect::Fresh
        } else {
            Effect::Untold
        }
    }

    /// Evaluates the goal on `before`; remembers the try if it changes anything.
    pub(crate) fn evaluate(
        &mut self,
        before: &Arc<Cell>,
        ballot: Ballot,
        quorum: &Quorum,
    ) -> Option<Arc<Cell>> {
        let Step::Change(state) = self.goal.evaluate(before, ballot, quorum) else {
            return None;
        };
        let after = Arc::new(before.changed(state, self.op, ballot));
        // I6: from here on it may take effect, whatever becomes of this node.
        self.ambiguous.get_or_insert(ballot);
        self.tries.push(Try { ballot, before: before.clone(), after: after.clone() });
        Some(after)
    }

    /// What the client is told when there is no time left.
    pub(crate) const fn out_of_time(&self) -> Outcome {
        if self.is_ambiguous() { Outcome::Unknown } else { Outcome::Refused(Refusal::NoQuorum) }
    }

    /// What the client is told when its change took effect at `ballot`; `now` is the content that
    /// shows it, which may hold later changes too.
    pub(crate) fn effected(&self, ballot: Ballot, now: &Cell) -> Outcome {
        let own = self.tries.iter().find(|tried| tried.ballot == ballot);
        let previous = own.map_or(Previous::Unknown, |tried| Previous::Known(tried.before.entry()));
        let after = own.map(|tried| &*tried.after);
        let after = after.or_else(|| (now.version() == ballot).then_some(now));
        match &self.goal {
            Goal::Write { mode: Mode::IfAbsent, value, bindings }
                if after.is_some() || bindings.is_empty() =>
            {
                // It was born by this very change, so all of it is known.
                let live = after.and_then(Cell::live);
                Outcome::Chosen {
                    entry: Entry {
                        value: value.clone(),
                        generation: ballot,
                        version: ballot,
                        bindings: live.map_or_else(Vec::new, |live| live.bindings.clone()),
                    },
                    won: true,
                }
            }
            // Which lives another node has bound it to cannot be told any more.
            Goal::Write { mode: Mode::IfAbsent, .. } => Outcome::Written {
                generation: Some(ballot),
                version: ballot,
                previous: Previous::Known(None),
            },
            Goal::Write { .. } => Outcome::Written {
                generation: after.and_then(Cell::live).map(|live| live.generation),
                version: ballot,
                previous,
            },
            Goal::Remove { .. } => Outcome::Removed { previous, version: ballot },
            Goal::Bury { .. }
            | Goal::CloseNodeSession { .. }
            | Goal::Fence
            | Goal::Get
            | Goal::Inquire(_)
            | Goal::Look
            | Goal::OpenNodeSession
            | Goal::RenewNodeSession { .. } => Outcome::Done,
        }
    }

    /// What the client is told when `cell` is chosen and the operation leaves it as it is.
    pub(crate) fn kept(&self, cell: &Cell) -> Outcome {
        let entry = cell.entry();
        let version = cell.version();
        match (&self.goal, entry) {
            (Goal::Write { mode: Mode::IfAbsent, .. }, Some(entry)) => {
                Outcome::Chosen { entry, won: false }
            }
            (Goal::Write { .. } | Goal::Remove { generation: Some(_) }, entry) => {
                Outcome::Mismatch { entry, version }
            }
            (Goal::Remove { generation: None }, entry) => {
                Outcome::Removed { previous: Previous::Known(entry), version }
            }
            (
                Goal::Bury { .. }
                | Goal::CloseNodeSession { .. }
                | Goal::Fence
                | Goal::Get
                | Goal::Inquire(_)
                | Goal::Look
                | Goal::OpenNodeSession
                | Goal::RenewNodeSession { .. },
                entry,
            ) => Outcome::Found { entry, version },
        }
    }
}

impl Listing {
    /// Compares the pages of a quorum: what they agree on is chosen, the rest is disputed and has
    /// to be read. A key missing from a page is dead there since the floor, like any other ballot.
    pub(crate) fn compare(&mut self, quorum: u32, floor: Ballot) {
        let ends = self.pages.iter().filter(|(_, more)| *more);
        // Behind the shortest page that goes on, not every page has been heard.
        let horizon = ends.filter_map(|(items, _)| items.last()).map(|item| &item.key).min();
        let horizon = horizon.cloned();
        let mut seen: BTreeMap<&Key, Vec<&Listed>> = BTreeMap::new();
        for item in self.pages.iter().flat_map(|(items, _)| items) {
            if horizon.as_ref().is_none_or(|horizon| item.key <= *horizon) {
                seen.entry(&item.key).or_default().push(item);
            }
        }
        for (key, items) in seen {
            let highest = items.iter().map(|item| item.accepted).max().unwrap_or(floor);
            let same = || items.iter().filter(|item| item.accepted == highest);
            let chosen = highest.epoch == floor.epoch
                && (same().count() >= quorum as usize || same().any(|item| item.chosen));
            let live = same().any(|item| item.live);
            let suspect = live && items.iter().any(|item| item.suspect);
            if chosen && !suspect {
                self.keys.insert(key.clone(), live);
            } else {
                self.disputed.push(key.clone());
            }
        }
        self.more = horizon;
    }
}

impl Quorum {
    /// Before anybody has testified.
    pub(crate) const UNHEARD: Self = Self { wall_min: Wall(u64::MAX), silent_min: Duration::MAX };

    pub(crate) fn hear(&mut self, testimony: &Testimony) {
        self.wall_min = self.wall_min.min(testimony.wall);
        self.silent_min = self.silent_min.min(Duration::from_millis(testimony.silent));
    }

    /// What it testified of the moment when it was asked, `elapsed` ago: each acceptor tells its
    /// silence as of its own answer, but only a silence that all of them share is one of a quorum
    /// (M2), and that of each began as much before its answer as it says.
    pub(crate) fn when_asked(self, elapsed: Duration) -> Self {
        Self { silent_min: self.silent_min.saturating_sub(elapsed), ..self }
    }
}
