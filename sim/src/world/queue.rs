//! What is to happen, by time; at one time, in the order in which it was arranged.
//!
//! Must never know: what tasks do.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use synod::SessionId;

use crate::plan::Nanos;

/// Something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// A message reaches its node.
    Arrive(u32),
    /// A client's turn; void if it has had another since.
    Client(u16, u32),
    /// A host learns that the client of the session at this place of [`Queue::sessions`] is gone.
    Down(u16, u32),
    FaultBegins(u32),
    FaultEnds(u32),
    /// A partition comes or goes.
    Flap(u32),
    SafetyEnds,
    /// An application that resolves conflicts at a node looks; void if its turn is another.
    Resolver(u16, u16, u32),
    /// A segment of a stream reaches the other end's machine.
    #[cfg(madsim)]
    Segment(u32),
    /// Somebody unknown says something to a node.
    #[cfg(madsim)]
    Stranger(u32),
    /// The liveness phase looks whether all is settled.
    Settle,
    /// A node wants to be woken.
    Timer(u16),
    /// A write of this process life is done.
    Written(u16, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    at: Nanos,
    order: u64,
    task: Task,
}

impl Item {
    /// Both parts as one number: comparing it takes no branch, and the heap does little else.
    const fn key(&self) -> u128 {
        (self.at as u128) << 64 | self.order as u128
    }
}

impl Ord for Item {
    /// The earliest is the greatest: the heap is a max-heap.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    fn lt(&self, other: &Self) -> bool {
        other.key() < self.key()
    }

    fn le(&self, other: &Self) -> bool {
        other.key() <= self.key()
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Item>,
    order: u64,
    /// Sessions that tasks are about: kept aside, for the heap moves its items all the time.
    sessions: Vec<SessionId>,
}

impl Queue {
    #[inline]
    pub(super) fn push(&mut self, at: Nanos, task: Task) {
        self.order += 1;
        self.heap.push(Item { at, order: self.order, task });
    }

    /// A host is to learn that the client of a session is gone.
    pub(super) fn push_down(&mut self, at: Nanos, node: u16, session: SessionId) {
        self.push(at, Task::Down(node, self.sessions.len() as u32));
        self.sessions.push(session);
    }

    /// The session of a [`Task::Down`].
    pub(super) fn session(&self, place: u32) -> SessionId {
        self.sessions[place as usize]
    }

    /// When the next thing is to happen.
    #[cfg(madsim)]
    pub(super) fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|item| item.at)
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<(Nanos, Task)> {
        self.heap.pop().map(|item| (item.at, item.task))
    }
}
