//! Driving operations: whom to ask, what the answers mean, when to try again.
//!
//! An operation is one register's business. One that needs to know of another register, or to have
//! an entry erased before it may answer, starts further operations and waits for their findings.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::acceptors::{ROUND_LEAP_MAX, ROUND_MAX, has_ended};
use super::{Effect as Out, Effects, Node, Timer};
use crate::base::{Key, RegisterId, SessionId};
use crate::consensus::{
    Accepting, AfterBurial, Asker, Burial, Cell, Effect, Finding, Goal, Listed, Message,
    OnNoQuorum, Operation, Outcome, Quorum, Refusal, Stage, State, Tag,
};
use crate::monitor::{Bind, Binding, Cause, Fact};
use crate::paxos::{Ballot, Proposer, Reading, Tally, Verdict};

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
    fn child(&self, number: u64, place: usize) -> Asker {
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

    pub(super) fn tag(&self, number: u64) -> Tag {
        let attempt = self.operations.get(&number).map_or(0, |operation| operation.attempt);
        Tag { incarnation: self.incarnation, operation: number, attempt }
    }

    // ------------------------------------------------------------------ reads (R0-R6)

    pub(super) fn read(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.attempt += 1;
        operation.suspect = false;
        operation.heard = Quorum::UNHEARD;
        operation.stage = Stage::Reading { reading: Reading::default() };
        let register = operation.register.clone();
        let tag = self.tag(number);
        self.wake_after(number, self.config.timing.round);
        self.tell_all(&Message::Read { tag, register }, effects);
    }

    pub(super) fn on_read_reply(&mut self, from: usize, reply: Message, effects: &mut Effects) {
        let Message::ReadReply { tag, register, accepted, cell, chosen, suspect, testimony } =
            reply
        else {
            return;
        };
        let (quorum, epoch) = (self.quorum(), self.epoch);
        let Some((number, _)) = self.asker(tag) else {
            return;
        };
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        if operation.register != register {
            return;
        }
        let Stage::Reading { reading } = &mut operation.stage else {
            return;
        };
        reading.on_reply(from, accepted, cell.as_ref(), chosen);
        operation.heard.hear(&testimony);
        operation.suspect |= suspect;
        match reading.verdict(quorum, epoch) {
            Verdict::Pending => {}
            Verdict::Chosen => {
                let (ballot, cell) = (reading.ballot(), reading.content().cloned());
                self.on_chosen(number, ballot, cell, effects);
            }
            Verdict::Incomplete => {
                let Some(cell) = reading.content().cloned() else {
                    return;
                };
                let ballot = reading.ballot();
                self.complete(number, ballot, cell, effects);
            }
            Verdict::Inherited => self.propose(number, effects),
        }
    }

    /// R3: has a quorum accept what the read found, at the ballot it has already. To an acceptor
    /// that is a duplicate of the proposer's own message, so it disturbs nobody.
    fn complete(&mut self, number: u64, ballot: Ballot, cell: Arc<Cell>, effects: &mut Effects) {
        if self.must_bury(number, &cell) {
            return self.bury(number, &cell, effects);
        }
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.attempt += 1;
        let register = operation.register.clone();
        operation.stage = Stage::Completing { ballot, cell: cell.clone(), tally: Tally::default() };
        let tag = self.tag(number);
        self.wake_after(number, self.config.timing.round);
        self.tell_all(&Message::Accept { tag, register, ballot, cell }, effects);
    }

    // ------------------------------------------------------------------ writes (P1-P3)

    /// Joins the queue of this node's proposers on the register, and proposes when first in it.
    pub(super) fn propose(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let queue = self.proposing.entry(operation.register.clone()).or_default();
        if !queue.contains(&number) {
            queue.push_back(number);
        }
        if queue.front() == Some(&number) {
            self.prepare(number, effects);
        } else {
            operation.stage = Stage::Queued;
            let deadline = operation.deadline;
            self.timers.set(Timer::Operation(number), deadline);
        }
    }

    /// Leaves the queue; the next in it proposes.
    fn stop_proposing(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        let Some(queue) = self.proposing.get_mut(&operation.register) else {
            return;
        };
        let was_first = queue.front() == Some(&number);
        queue.retain(|&waiting| waiting != number);
        match queue.front() {
            Some(&next) if was_first => self.prepare(next, effects),
            Some(_) => {}
            None => {
                let register = operation.register.clone();
                self.proposing.remove(&register);
            }
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
        operation.stage =
            Stage::Preparing { ballot, proposer: Proposer::default(), quorum: Quorum::UNHEARD };
        let tag = self.tag(number);
        self.wake_after(number, self.config.timing.round);
        self.tell_all(&Message::Prepare { tag, register, ballot }, effects);
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
        let Some((number, _)) = self.asker(tag) else {
            return;
        };
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        if operation.register != register {
            return;
        }
        let Stage::Preparing { ballot, proposer, quorum } = &mut operation.stage else {
            return;
        };
        // An acceptance at or above our ballot cannot have been reported by a peer that keeps the
        // rules, for nobody has been asked for one. Believing it could choose two values.
        if *ballot != promised || accepted >= promised {
            return;
        }
        quorum.hear(&testimony);
        operation.suspect |= suspect;
        let ballot = *ballot;
        let Some(promises) =
            proposer.on_promise(needed, ballot, from, (accepted, cell.as_ref()), chosen)
        else {
            return;
        };
        let before = (promises.ballot(), promises.content().cloned());
        let is_chosen = promises.is_chosen(needed, ballot);
        let quorum = *quorum;
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
                    return self.ask_accept(number, ballot, after, Accepting::Changed, effects);
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
                        Some(_) | None => Burial::Over,
                    };
                    return self.finish(number, Outcome::Done, Finding::Burial(burial), effects);
                }
                Goal::CloseNodeSession { .. } => {
                    return self.finish(number, Outcome::Done, Finding::Failed, effects);
                }
                Goal::Fence => {}
                Goal::Get
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
        let Stage::Preparing { proposer, .. } = &mut operation.stage else {
            return;
        };
        let mut proposer = core::mem::take(proposer);
        proposer.propose(cell.clone());
        operation.stage = Stage::Accepting { ballot, proposer, content, repeats: 0 };
        let tag = self.tag(number);
        self.wake_after(number, self.config.timing.round);
        self.tell_all(&Message::Accept { tag, register, ballot, cell }, effects);
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
        let Some((number, _)) = self.asker(tag) else {
            return;
        };
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        if operation.register != *register {
            return;
        }
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
                let (cell, content) = (cell.clone(), *content);
                self.commit(register, accepted, effects);
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
        self.tell_all(&Message::Commit { register: register.clone(), ballot }, effects);
    }

    pub(super) fn on_reject(
        &mut self,
        tag: Tag,
        register: &RegisterId,
        rejected: Ballot,
        promised: Ballot,
        effects: &mut Effects,
    ) {
        let Some((number, operation)) = self.asker(tag) else {
            return;
        };
        let Some(asked) = operation.stage.ballot() else {
            return;
        };
        // A duplicate of our own prepare is rejected with our own ballot: that preempts nobody.
        if operation.register != *register || asked != rejected || promised <= asked {
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

    /// Waits a random time that doubles with each loss, so that of several proposers one gets
    /// through (P-35).
    fn back_off(&mut self, number: u64) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.stage = Stage::Backoff;
        operation.attempt += 1;
        operation.losses += 1;
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
        if operation.on_no_quorum == OnNoQuorum::Return && !self.reach.has_quorum() {
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
                self.tell_all(&Message::Accept { tag, register, ballot, cell }, effects);
            }
            // Late replies to the first asking are as good as those to a repetition: every one of
            // them was given after the call began.
            Stage::Reading { .. } => {
                let tag = self.tag(number);
                self.wake_after(number, round);
                self.tell_all(&Message::Read { tag, register }, effects);
            }
            Stage::Listing { listing } => {
                let (table, after) = (listing.table, listing.after.clone());
                let limit = listing.limit;
                let gathering = listing.missing == 0;
                self.wake_after(number, round);
                if gathering {
                    let tag = self.tag(number);
                    self.tell_all(&Message::List { tag, table, after, limit }, effects);
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
        let proposing = self.proposing.get(&operation.register);
        if proposing.is_some_and(|queue| queue.contains(&number)) {
            self.propose(number, effects);
        } else {
            self.begin(number, effects);
        }
    }

    // ------------------------------------------------------------------ answers

    /// `cell` is chosen at `ballot`, and the operation leaves it as it is.
    fn on_chosen(
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
    fn on_effected(
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

    /// No time is left, or no quorum is in sight and the client does not wait for one.
    fn give_up(&mut self, number: u64, effects: &mut Effects) {
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
    fn finish(&mut self, number: u64, outcome: Outcome, finding: Finding, effects: &mut Effects) {
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
                effects.push(Out::Reply { client, request, outcome });
            }
            Asker::Node => self.on_own_finished(&operation, &finding, effects),
            Asker::Operation { number, attempt, place } => {
                if self.operations.get(&number).is_some_and(|asker| asker.attempt == attempt) {
                    self.on_finding(number, place, finding, effects);
                }
            }
        }
    }

    // ------------------------------------------------------------------ burials (E1-E4, R6)

    /// Whether the answer would show an entry that may have to be erased first (R6).
    fn must_bury(&self, number: u64, cell: &Cell) -> bool {
        let Some(operation) = self.operations.get(&number) else {
            return false;
        };
        let Some(live) = cell.live() else {
            return false;
        };
        !live.bindings.is_empty()
            && operation.goal.exposes_entry()
            && operation.cleared != Some((live.generation, cell.version()))
            && (operation.suspect
                || live.bindings.iter().any(|binding| self.may_have_ended(binding)))
    }

    /// Has the entry erased if a binding of it has ended; then looks again.
    fn bury(&mut self, number: u64, cell: &Cell, effects: &mut Effects) {
        let Some(live) = cell.live() else { return };
        let (generation, version) = (live.generation, cell.version());
        self.stop_proposing(number, effects);
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.stage = Stage::Burying { then: AfterBurial::Again { generation, version } };
        let register = operation.register.clone();
        self.wake_after(number, Duration::MAX);
        let asker = self.child(number, 0);
        self.start_own(asker, register, Goal::Bury { generation, ended: Vec::new() }, effects);
    }

    /// Has the operation's own entry erased if a binding of it has ended; then answers.
    fn bury_own(
        &mut self,
        number: u64,
        generation: Ballot,
        outcome: Outcome,
        effects: &mut Effects,
    ) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.stage = Stage::Burying { then: AfterBurial::Answer { generation, outcome } };
        let register = operation.register.clone();
        self.wake_after(number, Duration::MAX);
        let asker = self.child(number, 0);
        self.start_own(asker, register, Goal::Bury { generation, ended: Vec::new() }, effects);
    }

    /// Of a burial: finds out which bindings of the entry have ended. It needs the entry for that,
    /// which this node may not hold.
    pub(super) fn verify(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.stage = Stage::Verifying { bindings: Vec::new(), missing: 1 };
        let register = operation.register.clone();
        self.wake_after(number, Duration::MAX);
        let asker = self.child(number, usize::MAX);
        self.start_own(asker, register, Goal::Look, effects);
    }

    /// The entry is known: asks about each of its bindings.
    fn verify_bindings(&mut self, number: u64, cell: Option<&Cell>, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Goal::Bury { generation, .. } = operation.goal else {
            return;
        };
        let Some(live) = cell.and_then(Cell::live).filter(|live| live.generation == generation)
        else {
            let burial = cell.map_or(Burial::Over, over);
            return self.finish(number, Outcome::Done, Finding::Burial(burial), effects);
        };
        let bindings = live.bindings.clone();
        operation.stage = Stage::Verifying { bindings: bindings.clone(), missing: bindings.len() };
        for (place, binding) in bindings.iter().enumerate() {
            self.inquire(number, place, binding, effects);
        }
        if bindings.is_empty() {
            self.finish(number, Outcome::Done, Finding::Burial(Burial::Alive), effects);
        }
    }

    /// Finds out whether a binding's target has ended.
    fn inquire(&mut self, number: u64, place: usize, binding: &Binding, effects: &mut Effects) {
        let asker = self.child(number, place);
        let found = |node: &mut Self, fact, effects: &mut Effects| {
            node.on_finding(number, place, Finding::Fact(fact), effects);
        };
        match binding {
            Binding::Key { register, .. } => {
                self.start_own(asker, register.clone(), Goal::Look, effects);
            }
            Binding::Node { node, session } => {
                if self.has_closed(*node, *session) {
                    return found(self, Fact::Ended, effects);
                }
                self.start_own(asker, RegisterId::NodeSession(*node), Goal::Look, effects);
            }
            Binding::Session(session) => {
                if self.has_closed(session.host, session.node_session)
                    || self.monitors.ended.contains(session)
                {
                    return found(self, Fact::Ended, effects);
                }
                let register = RegisterId::NodeSession(session.host);
                self.start_own(asker, register, Goal::Inquire(*session), effects);
            }
            // Decided by the clocks of the quorum that promises.
            Binding::Until(_) => found(self, Fact::Unknown, effects),
        }
    }

    /// Whether it is known to be *chosen* here that a node session has ended.
    fn has_closed(&self, node: crate::NodeId, session: u64) -> bool {
        self.registers.node_session(node).is_some_and(|known| known.has_ended(session))
    }

    /// Asks the host of a session whether it goes on.
    pub(super) fn ask(&mut self, number: u64, session: SessionId, effects: &mut Effects) {
        if session.host == self.config.node {
            let fact = self.sessions.fact(session);
            return self.finish(number, Outcome::Done, Finding::Fact(fact), effects);
        }
        let Some(host) = self.members.index(session.host) else {
            // Nobody of that name can have opened it.
            return self.finish(number, Outcome::Done, Finding::Fact(Fact::Ended), effects);
        };
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.stage = Stage::Asking;
        self.inquiries.insert((session, number));
        self.wake_after(number, self.config.timing.round * 2);
        let ask = crate::monitor::Message::AskSessions(alloc::vec![session]);
        self.send_monitor(host, ask, effects);
    }

    /// The host of a session has answered.
    pub(super) fn on_session_fact(
        &mut self,
        session: SessionId,
        fact: Fact,
        effects: &mut Effects,
    ) {
        let waiting: Vec<u64> = self
            .inquiries
            .range((session, 0)..=(session, u64::MAX))
            .map(|(_, number)| *number)
            .collect();
        for number in waiting {
            self.finish(number, Outcome::Done, Finding::Fact(fact), effects);
        }
    }

    // ------------------------------------------------------------------ findings

    /// An operation that `number` waits for has ended.
    fn on_finding(&mut self, number: u64, place: usize, finding: Finding, effects: &mut Effects) {
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

    fn on_burial(
        &mut self,
        number: u64,
        then: AfterBurial,
        finding: &Finding,
        effects: &mut Effects,
    ) {
        let Finding::Burial(burial) = finding else {
            // Whether the entry lives could not be found out.
            return match then {
                AfterBurial::Answer { generation, outcome } => {
                    self.bury_own(number, generation, outcome, effects);
                }
                AfterBurial::Again { .. } => self.back_off(number),
            };
        };
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        match then {
            AfterBurial::Answer { outcome, .. } => {
                // Over for another reason: it was put, and something else happened to it since.
                let refused = match burial {
                    Burial::Erased(ended) => operation
                        .goal
                        .bindings()
                        .iter()
                        .position(|own| own == ended)
                        .and_then(|place| operation.binds.get(place).cloned()),
                    Burial::Alive | Burial::Over => None,
                };
                let refused = refused.map(|bind| Outcome::Refused(Refusal::InvalidBinding(bind)));
                self.finish(number, refused.unwrap_or(outcome), Finding::Failed, effects);
            }
            AfterBurial::Again { generation, version } => {
                if *burial == Burial::Alive {
                    operation.cleared = Some((generation, version));
                }
                self.begin(number, effects);
            }
        }
    }

    fn on_verified(&mut self, number: u64, place: usize, finding: Finding, effects: &mut Effects) {
        if place == usize::MAX {
            return match finding {
                Finding::Chosen { cell, .. } => {
                    self.verify_bindings(number, cell.as_deref(), effects);
                }
                Finding::Fact(_) | Finding::Burial(_) | Finding::Failed => {
                    self.give_up(number, effects);
                }
            };
        }
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Stage::Verifying { bindings, missing } = &mut operation.stage else {
            return;
        };
        let Some(binding) = bindings.get(place) else {
            return;
        };
        if is_over(binding, &finding) {
            let binding = binding.clone();
            if let Goal::Bury { ended, .. } = &mut operation.goal {
                ended.push(binding);
            }
        }
        *missing -= 1;
        if *missing > 0 {
            return;
        }
        let has_deadline = bindings.iter().any(|binding| matches!(binding, Binding::Until(_)));
        let Goal::Bury { ended, .. } = &operation.goal else {
            return;
        };
        if ended.is_empty() && !has_deadline {
            return self.finish(number, Outcome::Done, Finding::Burial(Burial::Alive), effects);
        }
        self.propose(number, effects);
    }

    // ------------------------------------------------------------------ resolving bindings

    /// Finds out which life each binding names; the write begins when all are known.
    pub(super) fn resolve_binds(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let binds = operation.binds.clone();
        let resolved = alloc::vec![None; binds.len()];
        operation.stage = Stage::Resolving { binds: binds.clone(), resolved, missing: binds.len() };
        self.wake_after(number, Duration::MAX);
        for (place, bind) in binds.iter().enumerate() {
            if !self.operations.contains_key(&number) {
                // One of them has ended: the answer is given.
                return;
            }
            let asker = self.child(number, place);
            match bind {
                Bind::Key { table, key } => {
                    let register = RegisterId::Key(*table, key.clone());
                    self.start_own(asker, register, Goal::Get, effects);
                }
                Bind::Node(node) => {
                    self.start_own(asker, RegisterId::NodeSession(*node), Goal::Look, effects);
                }
                Bind::Session(session) => {
                    let register = RegisterId::NodeSession(session.host);
                    self.start_own(asker, register, Goal::Inquire(*session), effects);
                }
                Bind::Until(wall) => {
                    let over = self.now.wall >= *wall;
                    let fact = if over { Fact::Ended } else { Fact::Alive };
                    self.on_finding(number, place, Finding::Fact(fact), effects);
                }
            }
        }
    }

    fn on_resolved(&mut self, number: u64, place: usize, finding: &Finding, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Stage::Resolving { binds, resolved, missing } = &mut operation.stage else {
            return;
        };
        let Some(bind) = binds.get(place) else { return };
        let binding = match (bind, finding) {
            // There may be time for another try.
            (_, Finding::Failed | Finding::Burial(_)) => return self.back_off(number),
            (_, Finding::Fact(Fact::Ended)) => None,
            (Bind::Key { table, key }, Finding::Chosen { cell, .. }) => {
                let live = cell.as_ref().and_then(|cell| cell.live());
                live.map(|live| Binding::Key {
                    register: RegisterId::Key(*table, key.clone()),
                    generation: live.generation,
                })
            }
            (Bind::Node(node), Finding::Chosen { cell, .. }) => {
                let session = cell.as_ref().and_then(|cell| cell.node_session());
                let open = session.filter(|session| session.open);
                open.map(|open| Binding::Node { node: *node, session: open.number })
            }
            // A host that cannot be asked is not known to have ended it. If it has, the entry is
            // erased when that becomes known.
            (Bind::Session(session), Finding::Fact(_)) => Some(Binding::Session(*session)),
            (Bind::Until(wall), Finding::Fact(_)) => Some(Binding::Until(*wall)),
            (Bind::Key { .. } | Bind::Node(_), Finding::Fact(_))
            | (Bind::Session(_) | Bind::Until(_), Finding::Chosen { .. }) => None,
        };
        let Some(binding) = binding else {
            let refused = Outcome::Refused(Refusal::InvalidBinding(bind.clone()));
            // One sent before may have been put while the binding was good, so "no" may be wrong.
            let outcome = if operation.is_ambiguous() { Outcome::Unknown } else { refused };
            return self.finish(number, outcome, Finding::Failed, effects);
        };
        resolved[place] = Some(binding);
        *missing -= 1;
        if *missing > 0 {
            return;
        }
        let found: Vec<Binding> = resolved.iter().flatten().cloned().collect();
        if let Goal::Write { bindings, .. } = &mut operation.goal {
            *bindings = found;
        }
        self.begin(number, effects);
    }

    // ------------------------------------------------------------------ listings

    pub(super) fn on_listing(
        &mut self,
        from: usize,
        tag: Tag,
        items: Vec<Listed>,
        more: bool,
        effects: &mut Effects,
    ) {
        let needed = self.quorum();
        let page_max = self.config.limits.page_max as usize;
        let Some((number, _)) = self.asker(tag) else {
            return;
        };
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Stage::Listing { listing } = &mut operation.stage else {
            return;
        };
        let ascending = items.windows(2).all(|pair| pair[0].key < pair[1].key);
        if !ascending || items.len() > page_max || !listing.tally.add(from) {
            return;
        }
        listing.pages.push((items, more));
        if listing.tally.count() == needed {
            let floor = Ballot::genesis(self.epoch);
            listing.compare(needed, floor);
            listing.missing = listing.disputed.len();
            let table = listing.table;
            let disputed = listing.disputed.clone();
            for (place, key) in disputed.into_iter().enumerate() {
                let asker = self.child(number, place);
                self.start_own(asker, RegisterId::Key(table, key), Goal::Get, effects);
            }
            self.conclude_listing(number, effects);
        }
    }

    fn on_listed(&mut self, number: u64, place: usize, finding: &Finding, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Stage::Listing { listing } = &mut operation.stage else {
            return;
        };
        let Finding::Chosen { cell, .. } = finding else {
            let Some(key) = listing.disputed.get(place).cloned() else {
                return;
            };
            let register = RegisterId::Key(listing.table, key);
            let asker = self.child(number, place);
            self.start_own(asker, register, Goal::Get, effects);
            return;
        };
        let live = cell.as_ref().is_some_and(|cell| cell.live().is_some());
        let Some(key) = listing.disputed.get(place).cloned() else {
            return;
        };
        listing.keys.insert(key, live);
        listing.missing -= 1;
        self.conclude_listing(number, effects);
    }

    fn conclude_listing(&mut self, number: u64, effects: &mut Effects) {
        let needed = self.quorum();
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Stage::Listing { listing } = &mut operation.stage else {
            return;
        };
        if listing.missing > 0 || listing.tally.count() < needed {
            return;
        }
        let live = core::mem::take(&mut listing.keys).into_iter().filter(|(_, live)| *live);
        let mut keys: Vec<Key> = live.map(|(key, _)| key).collect();
        let mut more = listing.more.take();
        if keys.len() > listing.limit as usize {
            keys.truncate(listing.limit as usize);
            more = keys.last().cloned();
        }
        self.finish(number, Outcome::Keys { keys, more }, Finding::Failed, effects);
    }
}

/// How a life came to its end, as far as the content chosen behind it tells.
fn over(cell: &Cell) -> Burial {
    match &cell.state {
        State::Dead(Cause::Erased(binding)) => Burial::Erased(binding.clone()),
        State::Dead(_) | State::Live(_) => Burial::Over,
    }
}

/// Whether a finding proves that what a binding names has ended.
fn is_over(binding: &Binding, finding: &Finding) -> bool {
    match (binding, finding) {
        (_, Finding::Fact(fact)) => *fact == Fact::Ended,
        (Binding::Key { generation, .. }, Finding::Chosen { ballot, cell }) => {
            has_ended(*ballot, cell.as_ref(), *generation)
        }
        (Binding::Node { session, .. }, Finding::Chosen { cell, .. }) => cell
            .as_ref()
            .and_then(|cell| cell.node_session())
            .is_some_and(|known| known.has_ended(*session)),
        (Binding::Session(_) | Binding::Until(_), Finding::Chosen { .. })
        | (_, Finding::Burial(_) | Finding::Failed) => false,
    }
}
