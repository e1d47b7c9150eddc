//! Ballots: one change of a register, from the queue of proposers to the commit (P1-P4).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::acceptors::{ROUND_LEAP_MAX, ROUND_MAX};
use super::burials::over;
use super::turns::Turns;
use super::{Effects, Node};
use crate::base::RegisterId;
use crate::consensus::{
    Accepting, Burial, Cell, Effect, Finding, Goal, Message, Operation, Outcome, Quorum, Stage, Tag,
};
use crate::paxos::{Ballot, Proposer};

impl Node {
    /// Joins the queue of this node's proposers on the register, and proposes when first in it.
    pub(super) fn propose(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let turns = self.proposing.entry(operation.register.clone()).or_default();
        let is_new = turns.join(number);
        if turns.first() == Some(number) {
            return self.prepare(number, effects);
        }
        operation.stage = Stage::Queued;
        let before = turns.before_last();
        let before = before.and_then(|before| self.operations.get(&before));
        let goes_on = before.is_some_and(|it| matches!(it.stage, Stage::Accepting { .. }));
        if !(is_new && goes_on && self.propose_behind(number, None, effects)) {
            self.wait_for_others(number);
        }
    }

    /// Leaves the queue; the next in it proposes.
    pub(super) fn stop_proposing(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        let Some(turns) = self.proposing.get_mut(&operation.register) else {
            return;
        };
        let was_first = turns.leave(number);
        let Some(next) = turns.first() else {
            let register = operation.register.clone();
            self.proposing.remove(&register);
            return;
        };
        // One that is about to be given up, too, need not begin; one that waits for nobody has.
        let has_quorum = self.reach.has_quorum();
        let waits = |next: &Operation| {
            matches!(next.stage, Stage::Queued) && !next.on_no_quorum.gives_up(has_quorum)
        };
        if was_first && self.operations.get(&next).is_some_and(waits) {
            self.prepare(next, effects);
        }
    }

    /// P4: proposes behind the last proposal of this node's round under way on the register, if
    /// there is one and the operation changes what that leaves. Nobody need promise again.
    ///
    /// What a quorum has just `promised` for this round settles what became of earlier proposals
    /// of the operation; without that, one that has made any may not follow.
    fn propose_behind(
        &mut self,
        number: u64,
        promised: Option<(Ballot, &Cell)>,
        effects: &mut Effects,
    ) -> bool {
        let has_quorum = self.reach.has_quorum();
        let Some(operation) = self.operations.get_mut(&number) else {
            return false;
        };
        let turns = self.proposing.get(&operation.register);
        let Some((ballot, tip)) = turns.and_then(Turns::next) else {
            return false;
        };
        let waits = matches!(operation.stage, Stage::Queued | Stage::Backoff);
        let writes = matches!(operation.goal, Goal::Write { .. } | Goal::Remove { .. });
        if !waits || !writes || operation.on_no_quorum.gives_up(has_quorum) {
            return false;
        }
        let fresh = match promised {
            Some((accepted, before)) => operation.resolve(accepted, before) == Effect::Fresh,
            None => !operation.is_ambiguous(),
        };
        if !fresh {
            return false;
        }
        // Neither writes nor removals ask what the quorum testified.
        let tip = tip.clone();
        let Some(after) = operation.evaluate(&tip, ballot, &Quorum::UNHEARD) else {
            return false;
        };
        operation.attempt += 1;
        self.ask_accept(number, ballot, after, Accepting::Changed, effects);
        true
    }

    /// Has those that wait behind `number` follow it, as far as they can.
    fn let_follow(&mut self, number: u64, promised: (Ballot, &Cell), effects: &mut Effects) {
        let Some(turns) = self
            .operations
            .get(&number)
            .and_then(|operation| self.proposing.get(&operation.register))
        else {
            return;
        };
        let behind: Vec<u64> = turns.iter().skip(1).collect();
        for number in behind {
            if !self.propose_behind(number, Some(promised), effects) {
                break;
            }
        }
    }

    /// What was proposed before `accepted` in its round took effect with it, whoever has heard of
    /// it: links may have lost it, or brought it late.
    fn settle_before(
        &mut self,
        register: &RegisterId,
        accepted: Ballot,
        (cell, suspect): (&Arc<Cell>, bool),
        effects: &mut Effects,
    ) {
        let Some(turns) = self.proposing.get(register) else {
            return;
        };
        let at = |number: u64| {
            let Stage::Accepting { ballot, .. } = self.operations.get(&number)?.stage else {
                return None;
            };
            (ballot < accepted && accepted.follows(ballot)).then_some((number, ballot))
        };
        let settled: Vec<(u64, Ballot)> = turns.iter().filter_map(at).collect();
        for (number, at) in settled {
            if let Some(operation) = self.operations.get_mut(&number) {
                operation.suspect |= suspect;
            }
            self.on_effected(number, at, accepted, cell, effects);
        }
    }

    /// P1: phase 1 at a ballot never used before.
    fn prepare(&mut self, number: u64, effects: &mut Effects) {
        self.round += 1;
        let ballot = Ballot {
            epoch: self.epoch,
            round: self.round,
            node: self.config.node,
            incarnation: self.incarnation,
            sequence: 0,
        };
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.attempt += 1;
        operation.suspect = false;
        let register = operation.register.clone();
        if let Some(turns) = self.proposing.get_mut(&register) {
            turns.cut();
        }
        let (proposer, quorum, asked) = (Proposer::default(), Quorum::UNHEARD, self.now.instant);
        operation.stage = Stage::Preparing { ballot, proposer, quorum, asked };
        let tag = self.tag(number);
        self.wake_after(number, self.config.timing.round);
        self.tell_all(Message::Prepare { tag, register, ballot }, effects);
    }

    pub(super) fn on_promise(&mut self, from: usize, promise: Message, effects: &mut Effects) {
        let Message::Promise {
            tag,
            register,
            ballot: promised,
            accepted,
            cell,
            chosen,
            suspect,
            testimony,
        } = promise
        else {
            return;
        };
        let needed = self.quorum();
        let number = tag.operation;
        let Some(operation) = self.asker_about(tag, &register) else {
            return;
        };
        let Stage::Preparing { ballot, proposer, quorum, asked } = &mut operation.stage else {
            return;
        };
        // An acceptance at or above our ballot cannot have been reported by a peer that keeps the
        // rules, for nobody has been asked for one. Believing it could choose two values.
        if *ballot != promised || accepted >= promised {
            return;
        }
        quorum.hear(&testimony);
        operation.suspect |= suspect;
        let (ballot, asked) = (*ballot, *asked);
        let Some(promises) =
            proposer.on_promise(needed, ballot, from, (accepted, cell.as_ref()), chosen)
        else {
            return;
        };
        let before = (promises.ballot(), promises.content().cloned());
        let is_chosen = promises.is_chosen(needed, ballot);
        let quorum = quorum.when_asked(self.now.instant.since(asked));
        self.on_promised(number, ballot, before, is_chosen, &quorum, effects);
    }

    /// P2: a quorum has promised. What it reports is what must be built on.
    fn on_promised(
        &mut self,
        number: u64,
        ballot: Ballot,
        (accepted, cell): (Ballot, Option<Arc<Cell>>),
        is_chosen: bool,
        quorum: &Quorum,
        effects: &mut Effects,
    ) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let floor = self.registers.floor(&operation.register);
        let before = cell.clone().unwrap_or_else(|| Arc::new(Cell::absent(floor.accepted)));
        let effect = operation.resolve(accepted, &before);
        let kept = match effect {
            Effect::Took(at) => Accepting::Effected(at),
            Effect::Untold => return self.give_up(number, effects),
            Effect::Fresh => match operation.evaluate(&before, ballot, quorum) {
                Some(after) => {
                    self.ask_accept(number, ballot, after, Accepting::Changed, effects);
                    return self.let_follow(number, (accepted, &before), effects);
                }
                None => Accepting::Kept,
            },
        };
        if kept == Accepting::Kept {
            match operation.goal {
                // An inquiry that found nothing to do leaves what it found as it was.
                Goal::Bury { generation, .. } => {
                    let burial = match before.live() {
                        Some(live) if live.generation == generation => Burial::Alive,
                        // Somebody else has buried it.
                        None if is_chosen => over(&before),
                        Some(_) | None => Burial::Over,
                    };
                    return self.finish(number, Outcome::Done, Finding::Burial(burial), effects);
                }
                Goal::CloseNodeSession { .. }
                    if before.node_session().is_some_and(|session| session.open) =>
                {
                    return self.finish(number, Outcome::Done, Finding::Failed, effects);
                }
                Goal::Fence => {}
                // A closing that too few have accepted is completed, also by those who wanted it
                // themselves: its node may be gone for good, and nobody else comes.
                Goal::CloseNodeSession { .. }
                | Goal::Get
                | Goal::Inquire(_)
                | Goal::Look
                | Goal::OpenNodeSession
                | Goal::Remove { .. }
                | Goal::RenewNodeSession { .. }
                | Goal::Write { .. } => {
                    // One that may yet take effect is not answered from what was chosen before:
                    // only what is chosen at this ballot, without it, rules it out (AMB).
                    if is_chosen && !operation.is_ambiguous() {
                        return self.on_chosen(number, accepted, cell, effects);
                    }
                }
            }
            if self.must_bury(number, &before) {
                // E4: what is to be erased is not first made chosen.
                return self.bury(number, &before, effects);
            }
        }
        self.ask_accept(number, ballot, before, kept, effects);
    }

    /// P3: phase 2.
    fn ask_accept(
        &mut self,
        number: u64,
        ballot: Ballot,
        cell: Arc<Cell>,
        content: Accepting,
        effects: &mut Effects,
    ) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let register = operation.register.clone();
        operation.suspect = false;
        // Whoever follows has gathered no promises of its own.
        let mut proposer = Proposer::default();
        if let Stage::Preparing { proposer: prepared, .. } = &mut operation.stage {
            core::mem::swap(&mut proposer, prepared);
        }
        proposer.propose(cell.clone());
        if content == Accepting::Changed {
            self.proposing.entry(register.clone()).or_default().extend(ballot, cell.clone());
        }
        operation.stage = Stage::Accepting { ballot, proposer, content, repeats: 0 };
        let tag = self.tag(number);
        self.wake_after(number, self.config.timing.round);
        self.tell_all(Message::Accept { tag, register, ballot, cell }, effects);
    }

    pub(super) fn on_accepted(
        &mut self,
        from: usize,
        tag: Tag,
        register: &RegisterId,
        accepted: Ballot,
        suspect: bool,
        effects: &mut Effects,
    ) {
        let needed = self.quorum();
        let number = tag.operation;
        let Some(operation) = self.asker_about(tag, register) else {
            return;
        };
        match &mut operation.stage {
            Stage::Accepting { ballot, proposer, content, .. } => {
                if *ballot != accepted {
                    return;
                }
                operation.suspect |= suspect;
                if !proposer.on_accepted(needed, from) {
                    return;
                }
                let Proposer::Accepting { content: cell, .. } = proposer else {
                    return;
                };
                let (cell, content, suspect) = (cell.clone(), *content, operation.suspect);
                self.commit(register, accepted, effects);
                self.settle_before(register, accepted, (&cell, suspect), effects);
                match content {
                    Accepting::Kept => self.on_chosen(number, accepted, Some(cell), effects),
                    Accepting::Changed => {
                        self.on_effected(number, accepted, accepted, &cell, effects);
                    }
                    Accepting::Effected(at) => {
                        self.on_effected(number, at, accepted, &cell, effects);
                    }
                }
            }
            Stage::Completing { ballot, cell, tally } => {
                if *ballot != accepted {
                    return;
                }
                operation.suspect |= suspect;
                if !tally.add(from) || tally.count() != needed {
                    return;
                }
                let cell = cell.clone();
                self.commit(register, accepted, effects);
                self.on_chosen(number, accepted, Some(cell), effects);
            }
            Stage::Resolving { .. }
            | Stage::Queued
            | Stage::Backoff
            | Stage::Preparing { .. }
            | Stage::Reading { .. }
            | Stage::Burying { .. }
            | Stage::Verifying { .. }
            | Stage::Asking
            | Stage::Hosting
            | Stage::Listing { .. } => {}
        }
    }

    /// Tells everybody what a quorum of acceptances has made a fact.
    fn commit(&mut self, register: &RegisterId, ballot: Ballot, effects: &mut Effects) {
        self.tell_all(Message::Commit { register: register.clone(), ballot }, effects);
    }

    pub(super) fn on_reject(
        &mut self,
        tag: Tag,
        register: &RegisterId,
        rejected: Ballot,
        promised: Ballot,
        effects: &mut Effects,
    ) {
        let number = tag.operation;
        let Some(operation) = self.asker_about(tag, register) else {
            return;
        };
        let Some(asked) = operation.stage.ballot() else {
            return;
        };
        // A duplicate of our own prepare is rejected with our own ballot, and what comes late with
        // one that follows it: that preempts nobody.
        if asked != rejected || promised <= asked || promised.follows(asked) {
            return;
        }
        let completing = matches!(operation.stage, Stage::Completing { .. });
        // Half of what an acceptor follows, so that the next ballot is one that it still does.
        if promised.round > self.round.saturating_add(ROUND_LEAP_MAX / 2).min(ROUND_MAX) {
            return;
        }
        if promised.epoch == self.epoch {
            self.round = self.round.max(promised.round);
        }
        if completing {
            // R4: somebody has a ballot under way; a ballot of our own settles it.
            return self.propose(number, effects);
        }
        self.back_off(number);
    }
}
