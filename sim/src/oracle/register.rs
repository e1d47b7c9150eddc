//! One register as an omniscient observer sees it: every proposal, every vote, what is chosen.
//!
//! Must never know: nodes' insides. Everything here was seen at the seam.

use std::sync::Arc;

use synod::consensus::{Cell, Change, Content, Live, State};
use synod::{Ballot, OpId};

/// One proposal: one ballot and one content, ever (W1).
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) ballot: Ballot,
    pub(super) cell: Arc<Cell>,
    /// Who has durably accepted it, and knows that.
    pub(super) votes: u64,
    pub(super) chosen: bool,
}

/// What is chosen, in the order of ballots.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) ballot: Ballot,
    /// The ballot of its last change.
    pub(super) version: Ballot,
    pub(super) cell: Arc<Cell>,
}

/// One change that took effect: it was chosen itself, or what was chosen builds on it.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) version: Ballot,
    pub(super) cell: Arc<Cell>,
    /// The event at which it did.
    pub(super) since: u64,
}

/// Everything seen of one register.
#[derive(Debug)]
pub(super) struct Register {
    /// Ascending by ballot.
    pub(super) proposals: Vec<Proposal>,
    /// Ascending by ballot.
    pub(super) chosen: Vec<Chosen>,
    /// Every change that took effect, ascending.
    pub(super) versions: Vec<Version>,
    /// The latest of those, until somebody has looked at them.
    pub(super) fresh: Vec<Arc<Cell>>,
    /// The highest version that a client has been told of, in an answer that claims to be fresh.
    pub(super) told: Ballot,
    /// What was proposed up to this and had no effect by then has none any more.
    pub(super) fenced: Ballot,
    /// When the newest chosen content last went from live to dead or back.
    pub(super) turned: u64,
    /// Versions up to this are no longer held.
    pub(super) forgotten: Ballot,
    /// Nor are proposals up to this; but a node that was away for long may still speak of them.
    pub(super) dropped: Ballot,
    /// How many ballots have been prepared.
    pub(super) prepared: u64,
    /// Highest ballot prepared, so that each is counted once.
    pub(super) prepared_max: Ballot,
}

/// Why a content may not be proposed or chosen.
pub(super) type Wrong = (&'static str, &'static str, String);

impl Default for Register {
    fn default() -> Self {
        Self {
            proposals: Vec::new(),
            chosen: Vec::new(),
            versions: Vec::new(),
            fresh: Vec::new(),
            told: Ballot::ZERO,
            fenced: Ballot::ZERO,
            turned: 0,
            forgotten: Ballot::ZERO,
            dropped: Ballot::ZERO,
            prepared: 0,
            prepared_max: Ballot::ZERO,
        }
    }
}

impl Register {
    /// Holds no more than the newest `kept` proposals and choices.
    pub(super) fn forget(&mut self, kept: usize) {
        if let Some(old) = self.proposals.len().checked_sub(kept) {
            self.proposals.drain(..old).for_each(|proposal| self.dropped = proposal.ballot);
        }
        if let Some(old) = self.chosen.len().checked_sub(kept) {
            self.chosen.drain(..old);
        }
        if let Some(old) = self.versions.len().checked_sub(kept) {
            self.versions.drain(..old).for_each(|version| self.forgotten = version.version);
        }
    }

    /// Whether what was proposed at a ballot is not known any more: then nothing said of it can be
    /// judged.
    pub(super) fn is_dropped(&self, ballot: Ballot) -> bool {
        ballot <= self.dropped && self.find(ballot).is_err()
    }

    /// The place of a ballot, or where it would be.
    pub(super) fn find(&self, ballot: Ballot) -> Result<usize, usize> {
        // Almost everything is about one of the newest ballots.
        for (place, proposal) in self.proposals.iter().enumerate().rev().take(4) {
            if proposal.ballot == ballot {
                return Ok(place);
            }
            if proposal.ballot < ballot {
                return Err(place + 1);
            }
        }
        self.proposals.binary_search_by(|proposal| proposal.ballot.cmp(&ballot))
    }

    /// The highest ballot at which anything was proposed.
    pub(super) fn proposed(&self) -> Ballot {
        self.proposals.last().map_or(Ballot::ZERO, |proposal| proposal.ballot)
    }

    /// The newest content chosen.
    pub(super) fn newest(&self) -> Option<&Chosen> {
        self.chosen.last()
    }

    /// The newest life chosen.
    pub(super) fn live(&self) -> Option<&Live> {
        self.newest().and_then(|chosen| chosen.cell.live())
    }

    /// The change of this ballot, if it took effect.
    pub(super) fn version(&self, version: Ballot) -> Option<&Version> {
        let from = self.versions.partition_point(|known| known.version < version);
        self.versions.get(from).filter(|known| known.version == version)
    }

    /// The change before the one at `version`.
    pub(super) fn before(&self, version: Ballot) -> Option<&Version> {
        let from = self.versions.partition_point(|known| known.version < version);
        from.checked_sub(1).map(|place| &self.versions[place])
    }

    /// What the register held at the end of an event; `None` before its first change, and before
    /// what is forgotten.
    pub(super) fn held_at(&self, step: u64) -> Option<&Version> {
        self.versions.iter().rev().find(|known| known.since <= step)
    }

    /// Everything that the register has held from the end of an event on, newest first.
    pub(super) fn held_since(&self, step: u64) -> impl Iterator<Item = Option<&Cell>> {
        let mut versions = self.versions.iter().rev().map(Some).chain([None]);
        let mut reached = false;
        std::iter::from_fn(move || {
            let held = versions.next().filter(|_| !reached)?;
            reached = held.is_none_or(|known| known.since <= step);
            Some(held.map(|known| &*known.cell))
        })
    }

    /// Whether a life is over: something else is chosen above its birth.
    pub(super) fn has_ended(&self, generation: Ballot) -> bool {
        self.newest().is_some_and(|newest| {
            newest.ballot > generation
                && newest.cell.live().is_none_or(|live| live.generation != generation)
        })
    }

    /// The change that ended a life.
    pub(super) fn end_of(&self, generation: Ballot) -> Option<&Version> {
        let from = self.versions.partition_point(|known| known.version <= generation);
        self.versions[from..]
            .iter()
            .find(|known| known.cell.live().is_none_or(|live| live.generation != generation))
    }

    /// Whether a content is no more to be seen: it is no life, or one that is over.
    pub(super) fn is_over(&self, cell: &Cell) -> bool {
        cell.live().is_none_or(|live| self.has_ended(live.generation))
    }

    /// The last change that an operation is known to have made.
    pub(super) fn change_of(&self, op: OpId) -> Option<&Version> {
        self.versions
            .iter()
            .rev()
            .find(|known| known.cell.lineage.last().is_some_and(|change| change.op == op))
    }

    /// W2, on every proposal: what is proposed above a chosen ballot builds on what was chosen.
    /// *Paxos Made Simple* P2b: every proposal above a chosen one, whether it is chosen or not.
    pub(super) fn check_builds(&self, place: usize) -> Result<(), Wrong> {
        let upper = &self.proposals[place];
        if let Some(sequence) = upper.ballot.sequence.checked_sub(1) {
            let before = Ballot { sequence, ..upper.ballot };
            match self.find(before) {
                Ok(before) => follows(upper, &self.proposals[before])?,
                Err(_) if self.is_dropped(before) => {}
                Err(_) => {
                    let text = format!("{} follows what was not proposed", upper.ballot);
                    return Err(("W2", "follows nothing", text));
                }
            }
        }
        let below = self.chosen.partition_point(|chosen| chosen.ballot < upper.ballot);
        match below.checked_sub(1) {
            Some(lower) => builds_on(upper.ballot, &upper.cell, &self.chosen[lower]),
            None => Ok(()),
        }
    }

    /// Enters the proposal at `place`, on which a quorum has voted, among the chosen.
    pub(super) fn choose(&mut self, place: usize, step: u64) -> Result<(), Wrong> {
        let proposal = &mut self.proposals[place];
        proposal.chosen = true;
        let chosen = Chosen {
            ballot: proposal.ballot,
            version: proposal.cell.version(),
            cell: proposal.cell.clone(),
        };
        let at = self.chosen.partition_point(|other| other.ballot < chosen.ballot);
        let was_live = self.live().is_some();
        self.chosen.insert(at, chosen);
        if self.live().is_some() != was_live {
            self.turned = step;
        }
        // W2: everything above builds on it.
        for upper in &self.proposals[place + 1..] {
            builds_on(upper.ballot, &upper.cell, &self.chosen[at])?;
        }
        if at > 0 {
            check_lives(&self.chosen[at - 1], &self.chosen[at])?;
        }
        if at + 1 < self.chosen.len() {
            check_lives(&self.chosen[at], &self.chosen[at + 1])?;
        }
        self.take_effect(place, step)
    }

    /// Enters the changes that took effect with the choice of the proposal at `place`: its own, and
    /// those that it builds on though they were never chosen themselves.
    fn take_effect(&mut self, place: usize, step: u64) -> Result<(), Wrong> {
        let mut cells = vec![self.proposals[place].cell.clone()];
        while let Some(cell) = cells.pop() {
            // What it names, and the last change that it names no more.
            let named = cell.lineage.iter().map(|change| (change.ballot, true));
            for (ballot, is_named) in named.chain([(cell.truncated, false)]) {
                if ballot <= self.forgotten || ballot.is_genesis() {
                    continue;
                }
                let at = self.versions.partition_point(|known| known.version < ballot);
                if self.versions.get(at).is_some_and(|known| known.version == ballot) {
                    continue;
                }
                let origin = self.find(ballot).ok().map(|origin| &self.proposals[origin].cell);
                let Some(origin) = origin.cloned() else {
                    if is_named {
                        let text = format!("a change at {ballot} was never proposed");
                        return Err(("W1", "lineage names what was not proposed", text));
                    }
                    continue;
                };
                let change = origin.lineage.last().filter(|change| change.ballot == ballot);
                let Some(change) = change else { continue };
                self.check_once(change)?;
                if ballot <= self.fenced {
                    let text = format!(
                        "{} takes effect at {ballot}; it was fenced off at {}",
                        change.op, self.fenced
                    );
                    return Err(("LIN", "took effect across a fence", text));
                }
                self.fresh.push(origin.clone());
                let change = Version { version: ballot, cell: origin.clone(), since: step };
                self.versions.insert(at, change);
                cells.push(origin);
                // What its round changed before is not named.
                if let Some(sequence) = ballot.sequence.checked_sub(1)
                    && let Ok(before) = self.find(Ballot { sequence, ..ballot })
                {
                    cells.push(self.proposals[before].cell.clone());
                }
            }
        }
        Ok(())
    }

    /// W10: an operation changes a register once.
    fn check_once(&self, change: &Change) -> Result<(), Wrong> {
        match self.change_of(change.op) {
            Some(other) => Err((
                "W10",
                "operation applied twice",
                format!(
                    "operation {} changed the register at {} and at {}",
                    change.op, other.version, change.ballot
                ),
            )),
            None => Ok(()),
        }
    }
}

/// P4: what follows in a round is the proposal before it, changed once.
fn follows(upper: &Proposal, lower: &Proposal) -> Result<(), Wrong> {
    if let Some(last) = upper.cell.lineage.last()
        && last.ballot == upper.ballot
        && *upper.cell == lower.cell.changed(upper.cell.state.clone(), last.op, last.ballot)
    {
        return Ok(());
    }
    let (ballot, upper, lower) = (upper.ballot, &upper.cell, &lower.cell);
    let text = format!("{ballot} proposes {upper} behind {lower}, and does not build on it");
    Err(("W2", "follows without building on it", text))
}

/// W2 of one pair.
fn builds_on(ballot: Ballot, upper: &Cell, lower: &Chosen) -> Result<(), Wrong> {
    let Some(last) = lower.cell.lineage.last() else { return Ok(()) };
    let version = upper.version();
    if upper.lineage.last() == Some(last) {
        // The same last change: the same content.
        return if upper.state == lower.cell.state {
            Ok(())
        } else {
            Err((
                "W2",
                "content changed without a change",
                format!(
                    "{ballot} proposes {upper} where {} with the same last change is {}",
                    lower.ballot, lower.cell
                ),
            ))
        };
    }
    let built = upper.lineage.iter().any(|change: &Change| {
        change == last || change.ballot > last.ballot && change.ballot.follows(last.ballot)
    }) || upper.truncated >= last.ballot;
    if built && version > lower.version {
        return Ok(());
    }
    Err((
        "W2",
        "proposal does not build on the chosen one",
        format!(
            "{ballot} proposes {upper}, which forgets operation {} chosen at {} ({})",
            last.op, lower.ballot, lower.cell
        ),
    ))
}

/// W7 of one pair of neighbours: a life that was over is not live again.
fn check_lives(lower: &Chosen, upper: &Chosen) -> Result<(), Wrong> {
    let Some(live) = upper.cell.live() else { return Ok(()) };
    let same = lower.cell.live().is_some_and(|before| before.generation == live.generation);
    if live.generation > lower.ballot || same {
        return Ok(());
    }
    Err((
        "W7",
        "a dead life is live again",
        format!(
            "life {} is live at {} though {} was chosen at {} after its birth",
            live.generation, upper.ballot, lower.cell, lower.ballot
        ),
    ))
}

/// The value of a client's cell, if it is a live one.
pub(super) const fn value(cell: &Cell) -> Option<&synod::Value> {
    match &cell.state {
        State::Live(Live { content: Content::Value(value), .. }) => Some(value),
        State::Live(_) | State::Dead(_) => None,
    }
}
