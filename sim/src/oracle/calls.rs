//! Calls under way: when each has to be answered, and what it may be answered so far.
//!
//! Everything is on the clock of the node that has the call, which is the clock it is told by. A
//! node that is woken looks at what is due, so no margin is needed: whoever stood still is late by
//! as long as it stood still, and by nothing more.
//!
//! Must never know: what an answer says of a key.

use synod::consensus::Cell;
use synod::primary::Call as PrimaryCall;
use synod::{
    Ballot, Bind, Command, OnNoQuorum, OpId, Outcome, Refusal, Request, Sent, SessionId, Topic,
};

use super::Oracle;
use super::answers::Asked;
use crate::plan::Nanos;

/// A request that a node's process has been given and has not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) node: usize,
    pub(super) op: OpId,
    /// When it has to be answered, at the latest.
    deadline: Nanos,
    /// Whether it was given to a node before.
    again: bool,
    /// Whether it waits for a quorum.
    persistent: bool,
    changes: bool,
    bound: bool,
    /// Whether it is about a merged or a primary table, whose answers no quorum here decides.
    merged: bool,
    /// Whether it is about a table that may be dropped meanwhile.
    droppable: bool,
    /// Whether it is about a primary table, which has a time of its own to answer in.
    primary: bool,
    /// What it subscribes to, or unsubscribes from.
    topic: Option<(Option<usize>, bool)>,
}

/// What a node is bound to by its configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    pub(super) requests: usize,
    pub(super) write_once: Vec<bool>,
}

impl Oracle {
    /// A node handles a request, for the first time or again.
    pub(crate) fn on_given(&mut self, node: usize, request: &Request, mono: Nanos) {
        let op = OpId { client: request.client, request: request.id };
        if self.calls.iter().any(|call| call.node == node && call.op == op) {
            return;
        }
        let topic = self.topic(&request.command);
        if let Some((what, true)) = topic {
            self.may_watch(node, request.client, what);
        }
        let patience = Nanos::try_from(request.patience.as_nanos()).unwrap_or(Nanos::MAX);
        let patience = patience.min(self.answer_within(node, &request.command));
        self.calls.push(Call {
            node,
            op,
            deadline: mono.saturating_add(patience),
            again: request.sent == Sent::Again,
            persistent: request.on_no_quorum == OnNoQuorum::Retry,
            changes: changes(&request.command),
            bound: !super::bindings::binds(&request.command).is_empty(),
            merged: matches!(
                request.command,
                Command::Merged { .. } | Command::Primary { .. } | Command::Table(_)
            ) && !self.is_of_lists(&request.command),
            droppable: self.may_be_dropped(&request.command),
            primary: matches!(request.command, Command::Primary { .. } | Command::PrimaryTable(_))
                || self.is_of_lists(&request.command),
            topic,
        });
    }

    /// W14: a node answers; it must have had the reason that its answer claims.
    pub(crate) fn on_reply(
        &mut self,
        node: usize,
        op: OpId,
        outcome: &Outcome,
        mono: Nanos,
        is_ready: bool,
    ) {
        let Some(place) = self.calls.iter().position(|call| call.node == node && call.op == op)
        else {
            return;
        };
        self.mark_full(node);
        let call = self.calls.swap_remove(place);
        if let (Some(topic), Outcome::Done) = (call.topic, outcome) {
            self.watches(node, op.client, topic);
        }
        if let Outcome::Status(status) = outcome {
            return self.check_status(node, status, mono);
        }
        let early = mono < call.deadline;
        let Some(shape) = self.groundless(&call, outcome, early, is_ready) else { return };
        let text = format!("n{} answers {op} {outcome}: {shape}", node + 1);
        self.breaks("W14", shape, text);
    }

    /// What is wrong with an answer that tells of nothing but why there is none.
    fn groundless(
        &self,
        call: &Call,
        outcome: &Outcome,
        early: bool,
        is_ready: bool,
    ) -> Option<&'static str> {
        if *outcome == Outcome::Unknown {
            return if !call.changes {
                Some("unknown though it changes nothing")
            } else if call.primary {
                None
            } else if call.merged {
                // Its disk, or another node, may have done it and been too slow to say so.
                (early && !call.again && !call.droppable && !self.truths[call.node].lost)
                    .then_some("unknown before its time")
            } else if !call.again && self.first_attempt(call.op).is_none() {
                Some("unknown though never proposed")
            } else if early
                && is_ready
                && !call.bound
                && !self.is_full(call.node)
                && self.is_told(call)
            {
                Some("unknown though it could be told")
            } else {
                None
            };
        }
        if is_ready && matches!(outcome, Outcome::Refused(Refusal::NotReady(_))) {
            return Some("not ready though it is");
        }
        if !early || *outcome != Outcome::Refused(Refusal::NoQuorum) {
            return None;
        }
        if call.persistent {
            Some("impatient for want of a quorum")
        } else if self.truths[call.node].quorum == Some(true) {
            Some("no quorum though one is reached")
        } else {
            None
        }
    }

    /// Whether a node has as many calls under way as it may.
    fn is_full(&self, node: usize) -> bool {
        self.calls.iter().filter(|call| call.node == node).count() >= self.bounds.requests
    }

    /// A call of a node is about to end: until now it was full, if it is.
    fn mark_full(&mut self, node: usize) {
        if self.is_full(node) {
            self.full[node] = Some(self.step);
        }
    }

    /// Whether a call may have been passed on to a replica that could take no more.
    fn met_a_full_replica(&self, node: usize, asked: &Asked) -> bool {
        let Command::Merged { table, .. } = &asked.command else { return false };
        let Some(table) = self.meant(node, asked.op, *table) else { return false };
        if self.keeps_copy(node, table) {
            return false;
        }
        (0..self.nodes).filter(|other| *other != node).any(|other| {
            self.keeps_copy(other, table)
                && (self.is_full(other) || self.full[other].is_some_and(|at| at >= asked.since))
        })
    }

    /// Whether what became of a call that was given up early could have been told: a quorum is
    /// reached, and nobody has ever proposed a content of which the lineage does not go back to
    /// before the operation was proposed (AMB iv).
    fn is_told(&self, call: &Call) -> bool {
        if self.truths[call.node].quorum != Some(true) || self.truths[call.node].lost {
            return false;
        }
        let Some(slot) = self.asked_of(call.op).and_then(|asked| asked.slot) else { return false };
        let register = &self.registers[slot];
        let lowest = if call.again { None } else { self.first_attempt(call.op) };
        let is_cut = |cell: &Cell| match lowest {
            Some((_, lowest)) => cell.truncated >= lowest,
            None => {
                let hides = cell.lineage.iter().any(|change| change.ballot.sequence > 0);
                hides || !cell.truncated.is_genesis()
            }
        };
        register.forgotten == Ballot::ZERO
            && !register.proposals.iter().any(|proposal| is_cut(&proposal.cell))
    }

    /// A node has been woken, and has seen to all that was due: no call has outlasted its client's
    /// patience, nor the loss of the quorum without which its client did not want to wait.
    pub(crate) fn check_calls(&mut self, node: usize, mono: Nanos) {
        let is_lost = self.truths[node].quorum == Some(false);
        let late = self.calls.iter().filter(|call| call.node == node).find_map(|call| {
            if call.deadline <= mono {
                let rule = if call.primary { "I5" } else { "W14" };
                Some((call.op, rule, "patience outlasted"))
            } else if !call.persistent && !call.merged && is_lost {
                Some((call.op, "W14", "waits without a quorum"))
            } else {
                None
            }
        });
        if let Some((op, rule, shape)) = late {
            let text = format!("n{} is woken and does not answer {op}", node + 1);
            self.breaks(rule, shape, text);
        }
    }

    /// I5: a node that has taken a step wants to be woken at this time of its clock: not after a
    /// primary table has to answer, or nothing that happens to it would be to blame for being late.
    #[cfg(not(madsim))]
    pub(crate) fn check_wake(&mut self, node: usize, wake: Nanos) {
        let mut calls = self.calls.iter().filter(|call| call.node == node && call.primary);
        if let Some(call) = calls.find(|call| call.deadline < wake) {
            let text = format!("n{} is not woken in time to answer {}", node + 1, call.op);
            self.breaks("I5", "patience slept through", text);
        }
    }

    /// A process is gone, and with it what it was asked.
    pub(super) fn forget_calls(&mut self, node: usize) {
        self.mark_full(node);
        self.calls.retain(|call| call.node != node);
    }

    /// W14: what is refused whatever the state of the cluster has to deserve it.
    pub(super) fn is_refusable(&self, node: usize, asked: &Asked, refusal: &Refusal) -> bool {
        let command = &asked.command;
        match refusal {
            // Its own call is off the list by now.
            Refusal::Busy => {
                self.is_full(node)
                    || matches!(command, Command::Subscribe(_))
                    || self.met_a_full_replica(node, asked)
            }
            Refusal::LimitExceeded { len, max, .. } => len > max && lengths(command).contains(len),
            Refusal::NoSuchSession(session) => {
                *command == Command::CloseSession(*session)
                    && !self.is_hosted(node, asked, *session)
            }
            // The node that is asked may not have heard of one that was made.
            Refusal::NoSuchTable(_) if self.is_of_made(command) => true,
            Refusal::NoSuchTable(_) if self.is_refused_table(command) => true,
            Refusal::NoSuchTable(table) => {
                tables(command).contains(&table.0)
                    && usize::from(table.0) >= self.bounds.write_once.len()
            }
            Refusal::WriteOnce(table) => {
                self.bounds.write_once.get(usize::from(table.0)) == Some(&true)
                    && matches!(
                        command,
                        Command::CompareAndSet { table: of, .. }
                            | Command::Put { table: of, .. }
                            | Command::Remove { table: of, .. } if of == table
                    )
            }
            // Or its disk has not made durable in time what would have been shown.
            Refusal::NoReplica(table) => {
                let of = if let Command::Merged { table, .. } = command {
                    self.meant(node, asked.op, *table)
                } else {
                    Some(*table)
                };
                !of.is_some_and(|table| self.keeps_copy(node, table)) || !changes(command)
            }
            // Nothing is asked of a table that it has not, and every value fits.
            Refusal::Primary(_) => matches!(command, Command::Primary { .. }),
            // What it says is compared with the lists.
            Refusal::Unmade(_) if self.is_of_lists(command) => true,
            Refusal::Discipline(_) | Refusal::Unfit(_) | Refusal::Unmade(_) => false,
            // Looked at where they are known: at the call, at its bindings, at the node.
            Refusal::NoQuorum | Refusal::InvalidBinding(_) | Refusal::NotReady(_) => true,
        }
    }

    /// Whether a command is about a primary table that is made while nodes run.
    fn is_of_made(&self, command: &Command) -> bool {
        matches!(command, Command::Primary { table, .. } if self.is_made(*table))
    }

    /// Whether it is about the list of such tables.
    const fn is_of_lists(&self, command: &Command) -> bool {
        self.list.is_some() && matches!(command, Command::PrimaryTable(_) | Command::Table(_))
    }

    /// Whether a node hosts a session of who asks, as far as it can know.
    fn is_hosted(&self, node: usize, asked: &Asked, session: SessionId) -> bool {
        session.host == super::node_of(node)
            && !self.is_closed(session)
            && self.sessions.iter().any(|known| {
                known.id == session
                    && known.client == asked.op.client
                    && known.told.is_none()
                    && !known.is_gone
            })
    }
}

/// Whether a command may leave something behind.
const fn changes(command: &Command) -> bool {
    if let Command::Merged { command, .. } = command {
        return command.changes();
    }
    if let Command::Table(_) = command {
        return true;
    }
    if let Command::PrimaryTable(command) = command {
        return command.changes();
    }
    if let Command::Table(_) = command {
        return true;
    }
    if let Command::Primary { call, .. } = command {
        // An operator's wish may come true later, too.
        return call.writes()
            || matches!(
                call,
                PrimaryCall::Force | PrimaryCall::HandOver(_) | PrimaryCall::Join(_)
            );
    }
    matches!(
        command,
        Command::CompareAndSet { .. }
            | Command::Put { .. }
            | Command::PutIfAbsent { .. }
            | Command::Remove { .. }
    )
}

/// The lengths of everything in a command that is bounded.
fn lengths(command: &Command) -> Vec<usize> {
    let mut lengths: Vec<usize> = Vec::new();
    lengths.extend(command.address().map(|(_, key)| key.len()));
    if let Command::CompareAndSet { value, .. }
    | Command::Put { value, .. }
    | Command::PutIfAbsent { value, .. } = command
    {
        lengths.push(value.len());
    }
    let binds = super::bindings::binds(command);
    lengths.push(binds.len());
    lengths.extend(binds.iter().filter_map(|bind| match bind {
        Bind::Key { key, .. } => Some(key.len()),
        Bind::Node(_) | Bind::Session(_) | Bind::Until(_) => None,
    }));
    if let Command::Keys { after, limit, .. } = command {
        lengths.push(*limit as usize);
        lengths.extend(after.as_ref().map(synod::Key::len));
    }
    if let Command::Subscribe(Topic::Key(_, key)) = command {
        lengths.push(key.len());
    }
    lengths
}

/// The tables that a command names.
fn tables(command: &Command) -> Vec<u16> {
    let mut tables: Vec<u16> = Vec::new();
    tables.extend(command.address().map(|(table, _)| table.0));
    for bind in super::bindings::binds(command) {
        if let Bind::Key { table, .. } = bind {
            tables.push(table.0);
        }
    }
    if let Command::Keys { table, .. } | Command::Subscribe(Topic::Key(table, _)) = command {
        tables.push(table.0);
    }
    tables
}
