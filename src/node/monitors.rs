//! Sessions and sweeps: noticing what has ended, having it decided, and erasing what was bound.
//!
//! Everything here is level-triggered. A notice that is lost costs time: the sweep looks again at
//! whatever is bound, for as long as it is bound (E2).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::agreed::is_list;
use super::{Effect, Effects, Event, Node, TURN_ROUNDS, Timer, Timing};
use crate::base::{ClientId, Instant, NodeId, RegisterId, SessionId, TableId, fnv1a};
use crate::consensus::{Asker, Finding, Goal, Operation, Stage, Topic};
use crate::monitor::{Binding, Fact, Message, NodeSession, Standing, Target};

/// How many targets one round of the sweep looks at. The rest come in the next, soon after.
const TARGETS_MAX: usize = 256;
/// How many sessions one message asks about.
const ASKED_MAX: usize = 64;
/// How many entries this node erases at a time.
const BURIALS_MAX: usize = 256;
/// How many entries this node keeps in mind for erasing. The sweep finds the rest once these are.
const SUSPECTS_MAX: usize = 4_096;
/// How many keys that something is bound to are looked at in the time of a sweep.
const PARENTS_MAX: usize = 64;
/// How many watched keys one round of the sweep looks at.
const WATCHED_MAX: usize = 64;

impl Node {
    // ------------------------------------------------------------------ client sessions

    /// The host says that a client session has ended.
    pub(super) fn on_down(&mut self, session: SessionId, effects: &mut Effects) {
        // Should the client be there after all, it learns that it is not (L8).
        if let Some(client) = self.end_session(session, effects) {
            effects.push(Effect::Notify { client, event: Event::SessionLost(session) });
        }
    }

    /// Ends a client session hosted here; says whose it was, if there is such a session.
    pub(super) fn end_session(
        &mut self,
        session: SessionId,
        effects: &mut Effects,
    ) -> Option<ClientId> {
        let client = self.sessions.end(session)?;
        self.sweep_soon();
        // A hint that spares the others a question.
        let ended = Message::Sessions(alloc::vec![(session, true)]);
        for member in self.peers() {
            self.send_monitor(member, ended.clone(), effects);
        }
        Some(client)
    }

    pub(super) fn on_monitor(&mut self, from: usize, message: Message, effects: &mut Effects) {
        if !self.is_ready() {
            return;
        }
        let peer = self.members.nodes()[from];
        match message {
            Message::AskSessions(mut sessions) => {
                sessions.truncate(ASKED_MAX);
                sessions.retain(|session| session.host == self.config.node);
                let facts = sessions.iter().map(|&session| (session, self.sessions.fact(session)));
                // Who gets no answer finds out from the session register of this node.
                let known = facts.filter(|(_, fact)| *fact != Fact::Unknown);
                let answer: Vec<_> =
                    known.map(|(session, fact)| (session, fact == Fact::Ended)).collect();
                if !answer.is_empty() {
                    self.send_monitor(from, Message::Sessions(answer), effects);
                }
            }
            Message::Sessions(answers) => {
                // M4: only the host of a session can say.
                let answers = answers.into_iter().take(ASKED_MAX);
                for (session, ended) in answers.filter(|(session, _)| session.host == peer) {
                    if ended && self.index.has_session(session) {
                        self.monitors.ended.insert(session);
                        self.sweep_soon();
                    }
                    let fact = if ended { Fact::Ended } else { Fact::Alive };
                    self.on_session_fact(session, fact, effects);
                }
            }
        }
    }

    /// That a session has ended is kept for as long as anything is bound to it here (I14).
    pub(super) fn forget_ended(&mut self, bindings: &[Binding]) {
        for binding in bindings {
            if let Binding::Session(session) = binding
                && !self.index.has_session(*session)
            {
                self.monitors.ended.remove(session);
            }
        }
    }

    // ------------------------------------------------------------------ this node's own session

    /// Whether a quorum has heard this node so lately that nobody can be closing its session.
    fn is_confirmed(&self) -> bool {
        let now = self.now.instant;
        let confirmed = self.reach.confirmed(now);
        confirmed.is_some_and(|confirmed| now.since(confirmed) <= self.config.timing.down / 2)
    }

    /// M3, first half: after a gap, nobody may rely on this node's sessions.
    pub(super) fn watch_own_session(&mut self, effects: &mut Effects) {
        if !matches!(self.sessions.standing(), Standing::Open(_)) || self.is_confirmed() {
            return;
        }
        if self.sessions.suspend() {
            self.notify_sessions(Event::SessionSuspended, effects);
        }
    }

    /// M3, second half: opens the node's session, or renews it after a gap.
    pub(super) fn keep_own_session(&mut self, effects: &mut Effects) {
        if !self.is_ready() || self.monitors.session_operation || !self.is_confirmed() {
            return;
        }
        let goal = match self.sessions.standing() {
            Standing::None => Goal::OpenNodeSession,
            Standing::Open(_) => return,
            Standing::Suspended(number) => Goal::RenewNodeSession { number },
        };
        self.monitors.session_operation = true;
        let register = RegisterId::NodeSession(self.config.node);
        self.start_own(Asker::Node, register, goal, effects);
    }

    /// Somebody knows this to be chosen of this node's own session register.
    pub(super) fn on_own_session_seen(&mut self, seen: NodeSession, effects: &mut Effects) {
        let Some(number) = self.sessions.number() else {
            return;
        };
        if !seen.has_ended(number) {
            return;
        }
        for (session, client) in self.sessions.lose() {
            effects.push(Effect::Demonitor { session });
            effects.push(Effect::Notify { client, event: Event::SessionLost(session) });
        }
        self.sweep_soon();
        self.keep_own_session(effects);
    }

    fn notify_sessions(&self, event: fn(SessionId) -> Event, effects: &mut Effects) {
        for (session, client) in self.sessions.clients() {
            effects.push(Effect::Notify { client, event: event(session) });
        }
    }

    /// An operation of this node's own has ended.
    pub(super) fn on_own_finished(
        &mut self,
        operation: &Operation,
        finding: &Finding,
        effects: &mut Effects,
    ) {
        if let RegisterId::Key(TableId::ROSTERS, name) = &operation.register {
            if is_list(name) {
                return self.on_list_finished(operation, finding, effects);
            }
            return self.on_roster_finished(name, &operation.goal, finding, effects);
        }
        let cell = match finding {
            Finding::Chosen { cell, .. } => cell.as_deref(),
            Finding::Burial(_) | Finding::Fact(_) | Finding::Failed => None,
        };
        match operation.goal {
            Goal::Bury { .. } => {
                self.monitors.burials.remove(&operation.register);
                self.monitors.suspects.remove(&operation.register);
                // In batches: every sweep looks at all that it keeps in mind.
                if !self.monitors.suspects.is_empty()
                    && self.monitors.burials.len() <= BURIALS_MAX / 2
                {
                    self.sweep_soon();
                }
            }
            Goal::CloseNodeSession { .. } => {
                if let RegisterId::NodeSession(node) = operation.register {
                    self.monitors.closings.remove(&node);
                }
            }
            Goal::OpenNodeSession => {
                self.monitors.session_operation = false;
                let ours = cell.filter(|cell| {
                    cell.lineage.last().is_some_and(|change| change.op == operation.op)
                });
                if let Some(session) = ours.and_then(|cell| cell.node_session())
                    && session.open
                {
                    self.sessions.open(session.number);
                    self.host_waiting(effects);
                }
            }
            Goal::RenewNodeSession { number } => {
                self.monitors.session_operation = false;
                let renewed = cell
                    .and_then(|cell| cell.node_session())
                    .is_some_and(|session| session == NodeSession { number, open: true });
                // Heard so long ago, it may have been closed again since: not yet.
                if renewed
                    && self.is_confirmed()
                    && self.sessions.standing() == Standing::Suspended(number)
                {
                    self.sessions.open(number);
                    self.notify_sessions(Event::SessionResumed, effects);
                    self.host_waiting(effects);
                }
            }
            Goal::Look => {
                self.monitors.lookings.remove(&operation.register);
            }
            Goal::Fence
            | Goal::Get
            | Goal::Inquire(_)
            | Goal::Remove { .. }
            | Goal::Write { .. } => {}
        }
    }

    /// Clients that waited for this node to be able to host them.
    fn host_waiting(&mut self, effects: &mut Effects) {
        let waiting: Vec<u64> = self
            .operations
            .iter()
            .filter(|(_, operation)| matches!(operation.stage, Stage::Hosting))
            .map(|(number, _)| *number)
            .collect();
        for number in waiting {
            self.begin(number, effects);
        }
    }

    /// A peer says which session it has open. If this node knows only of an earlier one, it has
    /// missed something, perhaps the end of what entries here are bound to.
    pub(super) fn on_session_told(&mut self, peer: NodeId, number: u64, effects: &mut Effects) {
        let known = self.registers.node_session(peer);
        if !self.is_ready() || known.is_some_and(|known| known.number >= number) {
            return;
        }
        self.look(RegisterId::NodeSession(peer), effects);
    }

    /// Learns what is chosen of a register. If too much is looked at already it is not, and whoever
    /// wants to know asks again.
    fn look(&mut self, register: RegisterId, effects: &mut Effects) -> bool {
        if self.monitors.lookings.contains(&register) {
            return true;
        }
        if self.monitors.lookings.len() >= self.config.limits.requests_max {
            return false;
        }
        self.monitors.lookings.insert(register.clone());
        self.start_own(Asker::Node, register, Goal::Look, effects);
        true
    }

    // ------------------------------------------------------------------ the sweep

    pub(super) fn on_sweep_timer(&mut self, effects: &mut Effects) {
        let now = self.now.instant;
        self.timers.set(Timer::Sweep, now + self.config.timing.sweep);
        if !self.is_ready() {
            return;
        }
        self.sweep_targets(effects);
        self.look_around(effects);
        self.erase_suspects(effects);
        self.close_silent(effects);
    }

    /// Looks at what entries here are bound to; collects the entries that may have to be erased.
    fn sweep_targets(&mut self, effects: &mut Effects) {
        if self.index.is_empty() {
            self.monitors.cursor = None;
            self.monitors.suspects.clear();
            return;
        }
        let now = self.now.instant;
        let targets = self.index.targets(self.monitors.cursor.as_ref(), TARGETS_MAX);
        if targets.len() == TARGETS_MAX {
            self.timers.hasten(Timer::Sweep, now + self.config.timing.round);
            self.monitors.cursor = targets.last().cloned();
        } else {
            self.monitors.cursor = None;
        }
        let mut asked: BTreeMap<NodeId, Vec<SessionId>> = BTreeMap::new();
        for target in targets {
            let binding = match &target {
                Target::Until(wall) => Binding::Until(*wall),
                Target::Node(node, session) => Binding::Node { node: *node, session: *session },
                Target::Session(session) => Binding::Session(*session),
                Target::Key(register, generation) => {
                    Binding::Key { register: register.clone(), generation: *generation }
                }
            };
            if self.may_have_ended(&binding) {
                let suspects = &mut self.monitors.suspects;
                for register in self.index.bound_to(&target) {
                    if suspects.len() >= SUSPECTS_MAX {
                        break;
                    }
                    suspects.entry(register.clone()).or_insert(now);
                }
            } else if let Target::Session(session) = target
                && session.host != self.config.node
            {
                asked.entry(session.host).or_default().push(session);
            }
        }
        for (host, sessions) in asked {
            let Some(host) = self.members.index(host) else {
                continue;
            };
            for page in sessions.chunks(ASKED_MAX) {
                self.send_monitor(host, Message::AskSessions(page.to_vec()), effects);
            }
        }
    }

    /// Learns what is chosen of keys that something here is bound to, and of keys that somebody
    /// watches, some at a time: the end of one may have passed this node by, and whoever knew both
    /// may be gone for good (E2, P-16). Where few may be looked at, they take turns in being first.
    fn look_around(&mut self, effects: &mut Effects) {
        let now = self.now.instant;
        if !self.reach.has_quorum() || now.since(self.monitors.looked) < self.config.timing.sweep {
            return;
        }
        self.monitors.looked = now;
        self.monitors.watched_first = !self.monitors.watched_first;
        if self.monitors.watched_first {
            self.look_at_watched(effects);
            self.look_at_parents(effects);
        } else {
            self.look_at_parents(effects);
            self.look_at_watched(effects);
        }
    }

    fn look_at_parents(&mut self, effects: &mut Effects) {
        let parents = self.index.parents(self.monitors.parent.as_ref(), PARENTS_MAX);
        let goes_on = parents.len() == PARENTS_MAX;
        for parent in parents {
            if let Target::Key(register, generation) = &parent {
                let (register, generation) = (register.clone(), *generation);
                let binding = Binding::Key { register: register.clone(), generation };
                if !self.may_have_ended(&binding) && !self.look(register, effects) {
                    return;
                }
            }
            self.monitors.parent = Some(parent);
        }
        if !goes_on {
            self.monitors.parent = None;
        }
    }

    fn look_at_watched(&mut self, effects: &mut Effects) {
        use core::ops::Bound;
        let low = self.monitors.watched.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.subscriptions.range((low, Bound::Unbounded));
        let keys = keys.filter(|(topic, _)| matches!(topic, Topic::Key(..))).take(WATCHED_MAX);
        let keys: Vec<(Topic, ClientId)> = keys.cloned().collect();
        let goes_on = keys.len() == WATCHED_MAX;
        for subscription in keys {
            if let (Topic::Key(table, key), _) = &subscription
                && !self.look(RegisterId::Key(*table, key.clone()), effects)
            {
                return;
            }
            self.monitors.watched = Some(subscription);
        }
        if !goes_on {
            self.monitors.watched = None;
        }
    }

    /// Has the entries erased whose binding may have ended, each by the member whose turn it is.
    fn erase_suspects(&mut self, effects: &mut Effects) {
        let now = self.now.instant;
        let turn = self.config.timing.round * TURN_ROUNDS;
        let mut due: Vec<RegisterId> = Vec::new();
        let mut done: Vec<RegisterId> = Vec::new();
        let mut next: Option<Instant> = None;
        for (register, &since) in &self.monitors.suspects {
            let bindings = self.registers.get(register).map_or(&[][..], |record| record.bindings());
            if !bindings.iter().any(|binding| self.may_have_ended(binding)) {
                done.push(register.clone());
            } else if !self.monitors.burials.contains(register) {
                let at = since + turn * self.rank(turn_key(register));
                if at > now {
                    next = Some(next.map_or(at, |next| next.min(at)));
                } else if self.monitors.burials.len() + due.len() < BURIALS_MAX {
                    due.push(register.clone());
                }
            }
        }
        for register in done {
            self.monitors.suspects.remove(&register);
        }
        if let Some(next) = next {
            self.timers.hasten(Timer::Sweep, next);
        }
        for register in due {
            let live = self
                .registers
                .get(&register)
                .and_then(|record| record.acceptor().content().and_then(|cell| cell.live()));
            let Some(generation) = live.map(|live| live.generation) else {
                continue;
            };
            self.monitors.burials.insert(register.clone());
            let goal = Goal::Bury { generation, ended: Vec::new() };
            self.start_own(Asker::Node, register, goal, effects);
        }
    }

    /// M2: proposes to close the sessions of nodes that have been silent for long enough. Whether a
    /// whole quorum has not heard them either is asked in the ballot itself.
    fn close_silent(&mut self, effects: &mut Effects) {
        if !self.reach.has_quorum() {
            return;
        }
        let now = self.now.instant;
        let Timing { down, heartbeat, round, .. } = self.config.timing;
        let turn = round * TURN_ROUNDS;
        for member in self.peers() {
            let node = self.members.nodes()[member];
            if self.registers.node_session(node).is_some_and(|known| !known.open) {
                continue;
            }
            let patience = down + turn * self.rank(u64::from(node.0));
            let silence = self.silence.of(member, now);
            // Not a whole sweep late. Others may have heard it later, by a heartbeat at most.
            if silence < patience + heartbeat {
                let left = patience.saturating_sub(silence).max(round / 4);
                self.timers.hasten(Timer::Sweep, now + left);
            }
            if silence < patience || !self.monitors.closings.insert(node) {
                continue;
            }
            let goal = Goal::CloseNodeSession { down, patience };
            self.start_own(Asker::Node, RegisterId::NodeSession(node), goal, effects);
        }
    }

    /// Learns what is chosen of a key that somebody has begun to watch, so that its end is noticed.
    pub(super) fn look_at_key(&mut self, register: RegisterId, effects: &mut Effects) {
        if self.reach.has_quorum() && self.is_ready() {
            self.look(register, effects);
        }
    }
}

/// Spreads the work of erasing over the members, the same way on each of them.
fn turn_key(register: &RegisterId) -> u64 {
    match register {
        RegisterId::NodeSession(node) => u64::from(node.0),
        RegisterId::Key(_, key) => fnv1a(key.as_bytes()),
    }
}
