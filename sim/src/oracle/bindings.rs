//! What clients are told of bindings, against what has truly become of their targets.
//!
//! A binding that is said to have ended had ended at an instant of the call; a write that is said
//! to be done is not bound to what was over before it was asked for (P-09, P-19). What "over" means
//! is this file's own knowledge of sessions, clocks and what is chosen.
//!
//! Must never know: how a node found out.

use synod::consensus::Cell;
use synod::monitor::NodeSession;
use synod::{Bind, Binding, ClientId, Command, NodeId, OpId, RegisterId, SessionId, Wall};

use super::Oracle;
use super::answers::Asked;

/// A deadline that a call under way names, and the nodes whose clocks have judged it meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    op: OpId,
    wall: Wall,
    /// The nodes whose clocks have shown it or later.
    past: u64,
    /// The nodes whose clocks have shown less.
    ahead: u64,
}

/// A client session.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionTruth {
    pub(super) id: SessionId,
    pub(super) client: ClientId,
    pub(super) ended: bool,
    /// Whether its client has died.
    pub(super) is_gone: bool,
    /// The event at which its host knew that it had ended.
    pub(super) told: Option<u64>,
}

/// What a write asks to be bound to.
pub(super) fn binds(command: &Command) -> &[Bind] {
    if let Command::CompareAndSet { bindings, .. }
    | Command::Put { bindings, .. }
    | Command::PutIfAbsent { bindings, .. } = command
    {
        return bindings;
    }
    &[]
}

impl Oracle {
    /// A client asks: whoever judges its deadlines does so from now on.
    pub(super) fn watch_deadlines(&mut self, op: OpId, command: &Command) {
        // A client that asks again has been answered, or waits for the former answer no more.
        self.deadlines.retain(|deadline| deadline.op.client != op.client);
        for bind in binds(command) {
            if let Bind::Until(wall) = *bind {
                self.deadlines.push(Deadline { op, wall, past: 0, ahead: 0 });
            }
        }
    }

    /// A node handles an input: its wall clock shows this.
    #[inline]
    pub(crate) fn on_clock(&mut self, node: usize, wall: Wall) {
        let truth = &mut self.truths[node];
        truth.wall_max = truth.wall_max.max(wall.0);
        for deadline in &mut self.deadlines {
            if wall >= deadline.wall {
                deadline.past |= 1 << node;
            } else {
                deadline.ahead |= 1 << node;
            }
        }
    }

    fn deadline(&self, op: OpId, wall: Wall) -> Option<&Deadline> {
        self.deadlines.iter().find(|deadline| deadline.op == op && deadline.wall == wall)
    }

    /// Whether `node` may refuse a call because of a binding: its target was over, or not there, at
    /// an instant of the call.
    pub(super) fn was_down(&self, node: usize, asked: &Asked, bind: &Bind) -> bool {
        match bind {
            Bind::Key { table, key } => {
                let Some(target) = self.key_slot(*table, key) else { return true };
                // A key cannot keep itself alive.
                asked.slot == Some(target)
                    || self.registers[target]
                        .held_since(asked.since)
                        .any(|cell| cell.and_then(Cell::live).is_none())
            }
            Bind::Node(of) => {
                let Some(target) = self.slot(&RegisterId::NodeSession(*of)) else { return true };
                let mut open = self.registers[target].held_since(asked.since).map(open_session);
                let last = open.next().flatten();
                last.is_none() || open.any(|session| session != last)
            }
            Bind::Session(session) => self.session_has_ended(*session),
            Bind::Until(wall) => self.deadline(asked.op, *wall).is_none_or(|deadline| {
                deadline.past >> node & 1 == 1 || deadline.past.count_ones() >= self.quorum
            }),
        }
    }

    /// Whether a binding's target was over before a call began, so that `node` cannot but have
    /// found that out.
    pub(super) fn was_over(&self, node: usize, asked: &Asked, binding: &Binding) -> bool {
        match binding {
            Binding::Key { register, generation } => {
                let target = self.slot(register).map(|target| &self.registers[target]);
                target.and_then(|target| target.held_at(asked.since)).is_some_and(|held| {
                    let live = held.cell.live();
                    held.version > *generation
                        && live.is_none_or(|live| live.generation != *generation)
                })
            }
            Binding::Node { node, session } => self.was_closed(*node, *session, asked.since),
            // Of a session that its client has ended, its host knows; another node may not have
            // been able to ask.
            Binding::Session(session) => {
                self.was_closed(session.host, session.node_session, asked.since)
                    || session.host == super::node_of(node)
                        && self.sessions.iter().any(|known| {
                            known.id == *session
                                && known.told.is_some_and(|told| told <= asked.since)
                        })
            }
            Binding::Until(wall) => self
                .deadline(asked.op, *wall)
                .is_some_and(|deadline| deadline.past & !deadline.ahead & 1 << node != 0),
        }
    }

    /// Whether a session of a node was chosen closed by the end of an event.
    fn was_closed(&self, node: NodeId, number: u64, step: u64) -> bool {
        let target = self.slot(&RegisterId::NodeSession(node));
        let held = target.and_then(|target| self.registers[target].held_at(step));
        held.and_then(|held| held.cell.node_session()).is_some_and(|held| held.has_ended(number))
    }

    /// The host of a session knows that it is over.
    pub(crate) fn on_session_told(&mut self, session: SessionId) {
        let step = self.step;
        if let Some(known) = self.sessions.iter_mut().rev().find(|known| known.id == session) {
            known.told.get_or_insert(step);
        }
    }
}

/// The number of the node session that is open in a register of that kind.
fn open_session(cell: Option<&Cell>) -> Option<u64> {
    let session: NodeSession = cell?.node_session()?;
    session.open.then_some(session.number)
}
