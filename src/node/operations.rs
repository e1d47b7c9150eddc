//! Driving operations: from their start to the one end, and when to try again.
//!
//! An operation is one register's business. One that needs to know of another register, or to have
//! an entry erased before it may answer, starts further operations and waits for their findings.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::burials::over;
use super::{Effect, Effects, Node, Timer};
use crate::base::RegisterId;
use crate::consensus::{
    Asker, Cell, Finding, Goal, Message, OnNoQuorum, Operation, Outcome, Refusal, Stage, Tag,
};
use crate::monitor::Fact;
use crate::paxos::{Ballot, Proposer};

/// How often the same accept is sent again before a new ballot is tried: repeating is harmless,
/// and a new ballot makes the operation harder to answer for.
const REPEATS_MAX: u32 = 2;

/// For how many rounds of messages an operation of this node's own tries before it gives up; the
/// sweep starts it again.
const OWN_ROUNDS: u32 = 10;

impl Node {
    /// Starts an operation of this node's own on behalf of `asker`.
    pub(super) fn start_own(
        &mut self,
        asker: Asker,
        register: RegisterId,
        goal: Goal,
        effects: &mut Effects,
    ) -> u64 {
        let mut operation = Operation::new(self.own_op(), asker, register, goal);
        operation.deadline = self.now.instant + self.config.timing.round.saturating_mul(OWN_ROUNDS);
        if let Asker::Operation { number, .. } = asker
            && let Some(parent) = self.operations.get(&number)
        {
            operation.deadline = operation.deadline.min(parent.deadline);
            operation.on_no_quorum = parent.on_no_quorum;
        }
        self.start_operation(operation, effects)
    }

    pub(super) fn start_operation(&mut self, operation: Operation, effects: &mut Effects) -> u64 {
        self.operation_next += 1;
        let number = self.operation_next;
        self.operations.insert(number, operation);
        self.begin(number, effects);
        number
    }

    /// The asker of what `number` now waits for at `place`.
    pub(super) fn child(&self, number: u64, place: usize) -> Asker {
        let attempt = self.operations.get(&number).map_or(0, |operation| operation.attempt);
        Asker::Operation { number, attempt, place }
    }

    /// Wakes the operation after a time, or at its deadline.
    pub(super) fn wake_after(&mut self, number: u64, wait: Duration) {
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        let instant = (self.now.instant + wait).min(operation.deadline);
        self.timers.set(Timer::Operation(number), instant);
    }

    /// Leaves the operation to others, which will go on with it before its deadline.
    pub(super) fn wait_for_others(&mut self, number: u64) {
        self.wake_after(number, Duration::MAX);
    }

    pub(super) fn tag(&self, number: u64) -> Tag {
        let attempt = self.operations.get(&number).map_or(0, |operation| operation.attempt);
        Tag { incarnation: self.incarnation, operation: number, attempt }
    }

    /// Waits a random time that doubles with each loss, so that of several proposers one gets
    /// through (P-35).
    pub(super) fn back_off(&mut self, number: u64) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.stage = Stage::Backoff;
        operation.attempt += 1;
        operation.losses += 1;
        if let Some(turns) = self.proposing.get_mut(&operation.register) {
            turns.cut();
        }
        let timing = &self.config.timing;
        let most = timing.backoff.saturating_mul(1 << operation.losses.min(16));
        let wait = self.random.up_to(most.min(timing.backoff_max));
        self.wake_after(number, wait);
    }

    pub(super) fn on_operation_timer(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        if self.now.instant >= operation.deadline {
            return self.give_up(number, effects);
        }
        let register = operation.register.clone();
        let round = self.config.timing.round;
        match &mut operation.stage {
            Stage::Backoff => self.begin_again(number, effects),
            Stage::Preparing { .. } | Stage::Completing { .. } => self.back_off(number),
            Stage::Accepting { ballot, proposer, repeats, .. } => {
                let Proposer::Accepting { content, .. } = proposer else {
                    return;
                };
                if *repeats == REPEATS_MAX {
                    return self.back_off(number);
                }
                *repeats += 1;
                let (ballot, cell) = (*ballot, content.clone());
                let tag = self.tag(number);
                self.wake_after(number, round);
                self.tell_all(Message::Accept { tag, register, ballot, cell }, effects);
            }
            // Late replies to the first asking are as good as those to a repetition: every one of
            // them was given after the call began.
            Stage::Reading { .. } => {
                let tag = self.tag(number);
                self.wake_after(number, round);
                self.tell_all(Message::Read { tag, register }, effects);
            }
            Stage::Listing { listing } => {
                let (table, after) = (listing.table, listing.after.clone());
                let limit = listing.limit;
                let gathering = listing.missing == 0;
                self.wake_after(number, round);
                if gathering {
                    let tag = self.tag(number);
                    self.tell_all(Message::List { tag, table, after, limit }, effects);
                }
            }
            Stage::Asking => {
                // Its host does not answer. Whether the host's own session is over is the next
                // best thing to know, and can be known without it.
                self.read(number, effects);
            }
            Stage::Hosting => self.begin(number, effects),
            // These wait for others, whose deadlines are no later.
            Stage::Resolving { .. }
            | Stage::Queued
            | Stage::Burying { .. }
            | Stage::Verifying { .. } => self.wake_after(number, round),
        }
    }

    /// After a backoff: the ground may have shifted, but what was resolved stays resolved.
    fn begin_again(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        if matches!(operation.goal, Goal::Bury { .. }) {
            return self.propose(number, effects);
        }
        let turns = self.proposing.get(&operation.register);
        if turns.is_some_and(|turns| turns.iter().any(|waiting| waiting == number)) {
            self.propose(number, effects);
        } else {
            self.begin(number, effects);
        }
    }
    // ------------------------------------------------------------------ answers

    /// `cell` is chosen at `ballot`, and the operation leaves it as it is.
    pub(super) fn on_chosen(
        &mut self,
        number: u64,
        ballot: Ballot,
        cell: Option<Arc<Cell>>,
        effects: &mut Effects,
    ) {
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        let register = operation.register.clone();
        if let Some(cell) = &cell {
            self.learn(&register, ballot, cell, effects);
            if self.must_bury(number, cell) {
                return self.bury(number, cell, effects);
            }
        }
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        if let Goal::CloseNodeSession { patience, .. } = operation.goal
            && matches!(operation.stage, Stage::Reading { .. })
        {
            let session = cell.as_ref().and_then(|cell| cell.node_session());
            // No ballot is spent on a suspicion that a quorum does not share. Whether it may be
            // closed is decided in the ballot all the same.
            if session.is_some_and(|session| session.open) && operation.heard.silent_min >= patience
            {
                return self.propose(number, effects);
            }
        }
        if let Goal::Inquire(session) = operation.goal {
            let known = cell.as_ref().and_then(|cell| cell.node_session());
            let ended = known.is_some_and(|known| known.has_ended(session.node_session));
            let fact = if ended { Fact::Ended } else { Fact::Unknown };
            return self.finish(number, Outcome::Done, Finding::Fact(fact), effects);
        }
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        let floor = self.registers.floor(&register);
        let outcome = match &cell {
            Some(cell) => operation.kept(cell),
            None => operation.kept(&Cell::absent(floor.accepted)),
        };
        self.finish(number, outcome, Finding::Chosen { ballot, cell }, effects);
    }

    /// The operation's own change took effect at `at`; `cell`, which holds it, is chosen at
    /// `ballot`.
    pub(super) fn on_effected(
        &mut self,
        number: u64,
        at: Ballot,
        ballot: Ballot,
        cell: &Arc<Cell>,
        effects: &mut Effects,
    ) {
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        let register = operation.register.clone();
        self.learn(&register, ballot, cell, effects);
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        let outcome = operation.effected(at, cell);
        let own = operation.goal.bindings();
        let suspicious = operation.suspect || own.iter().any(|own| self.may_have_ended(own));
        let live = cell.live().filter(|live| live.bindings == own);
        if let Some(generation) = live.map(|live| live.generation)
            && !own.is_empty()
            && suspicious
        {
            // E3: an acceptor of ours has accepted that what we are bound to has ended.
            self.stop_proposing(number, effects);
            return self.bury_own(number, generation, outcome, effects);
        }
        let finding = if matches!(operation.goal, Goal::Bury { .. }) {
            Finding::Burial(over(cell))
        } else {
            Finding::Chosen { ballot, cell: Some(cell.clone()) }
        };
        self.finish(number, outcome, finding, effects);
    }

    /// P-07: the quorum is lost, and with it every operation whose client does not wait for one.
    pub(super) fn give_up_impatient(&mut self, effects: &mut Effects) {
        let returns = |operation: &Operation| operation.on_no_quorum == OnNoQuorum::Return;
        let impatient = self.operations.iter().filter(|(_, operation)| returns(operation));
        let numbers: Vec<u64> = impatient.map(|(number, _)| *number).collect();
        for number in numbers {
            self.give_up(number, effects);
        }
    }

    /// No time is left, or no quorum is in sight and the client does not wait for one.
    pub(super) fn give_up(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        let outcome = operation.out_of_time();
        self.finish(number, outcome, Finding::Failed, effects);
    }

    /// Ends an operation because this node may not go on.
    pub(super) fn fail(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        let outcome = if operation.is_ambiguous() {
            Outcome::Unknown
        } else {
            Outcome::Refused(Refusal::NotReady(self.readiness.clone()))
        };
        self.finish(number, outcome, Finding::Failed, effects);
    }

    /// Ends an operation that was about no register.
    pub(super) fn finish_request(&mut self, number: u64, outcome: Outcome, effects: &mut Effects) {
        self.finish(number, outcome, Finding::Failed, effects);
    }

    /// The one end of every operation: whoever waits for it is told, once.
    pub(super) fn finish(
        &mut self,
        number: u64,
        outcome: Outcome,
        finding: Finding,
        effects: &mut Effects,
    ) {
        self.stop_proposing(number, effects);
        let Some(operation) = self.operations.remove(&number) else {
            return;
        };
        self.timers.clear(Timer::Operation(number));
        if let Goal::Inquire(session) = operation.goal {
            self.inquiries.remove(&(session, number));
        }
        match operation.asker {
            Asker::Client { client, request } => {
                self.requests.remove(&operation.op);
                effects.push(Effect::Reply { client, request, outcome });
            }
            Asker::Node => self.on_own_finished(&operation, &finding, effects),
            Asker::Operation { number, attempt, place } => {
                if self.operations.get(&number).is_some_and(|asker| asker.attempt == attempt) {
                    self.on_finding(number, place, finding, effects);
                }
            }
        }
    }

    // ------------------------------------------------------------------ findings

    /// An operation that `number` waits for has ended.
    pub(super) fn on_finding(
        &mut self,
        number: u64,
        place: usize,
        finding: Finding,
        effects: &mut Effects,
    ) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        match &mut operation.stage {
            Stage::Resolving { .. } => self.on_resolved(number, place, &finding, effects),
            Stage::Verifying { .. } => self.on_verified(number, place, finding, effects),
            Stage::Burying { then } => {
                let then = then.clone();
                self.on_burial(number, then, &finding, effects);
            }
            Stage::Listing { .. } => self.on_listed(number, place, &finding, effects),
            Stage::Queued
            | Stage::Backoff
            | Stage::Preparing { .. }
            | Stage::Accepting { .. }
            | Stage::Reading { .. }
            | Stage::Completing { .. }
            | Stage::Hosting
            | Stage::Asking => {}
        }
    }
}
