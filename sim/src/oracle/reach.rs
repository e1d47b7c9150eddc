//! Who truly hears whom, both ways: what a node that says it reaches a quorum must rest on (P-25).
//!
//! Each message carries, unseen by the nodes, when it was sent and the latest message of its
//! receiver that its sender had handled by then. So the arrival of any message at all shows how
//! lately the way there and the way back have both worked.
//!
//! Must never know: what messages say. A node may use any of them as a proof; it has no other.

use crate::plan::Nanos;

/// A moment of one process life, on that node's own monotonic clock.
type Moment = (u32, Nanos);

/// What a message in flight shows, whatever it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    sent: Moment,
    /// When the latest message of the receiver's that the sender had handled was sent.
    heard: Option<Moment>,
}

/// Every pair of nodes.
#[derive(Debug)]
pub(super) struct Reach {
    nodes: usize,
    /// Which process life of each node it is.
    lives: Vec<u32>,
    /// Of the latest message that a node has handled of another: when that was sent.
    heard: Vec<Option<Moment>>,
    /// The latest message of a node's own of which it has had an echo: when that was sent.
    echoed: Vec<Option<Nanos>>,
}

impl Reach {
    pub(super) fn new(nodes: usize) -> Self {
        let pairs = nodes * nodes;
        Self { nodes, lives: vec![0; nodes], heard: vec![None; pairs], echoed: vec![None; pairs] }
    }

    /// A node's process starts: it has heard nobody.
    pub(super) fn start(&mut self, node: usize) {
        self.lives[node] += 1;
        let own = node * self.nodes..(node + 1) * self.nodes;
        self.heard[own.clone()].fill(None);
        self.echoed[own].fill(None);
    }

    #[inline]
    pub(super) fn depart(&self, from: usize, to: usize, mono: Nanos) -> Echo {
        Echo { sent: (self.lives[from], mono), heard: self.heard[from * self.nodes + to] }
    }

    #[inline]
    pub(super) fn arrive(&mut self, from: usize, to: usize, echo: Echo) {
        let pair = to * self.nodes + from;
        self.heard[pair] = self.heard[pair].max(Some(echo.sent));
        if let Some((life, at)) = echo.heard
            && life == self.lives[to]
        {
            self.echoed[pair] = self.echoed[pair].max(Some(at));
        }
    }

    /// Whether a node has had, of another, an answer to something that it sent less than `within`
    /// before `mono`; it answers itself.
    pub(super) fn hears(&self, node: usize, other: usize, mono: Nanos, within: Nanos) -> bool {
        let echoed = self.echoed.get(node * self.nodes + other).copied().flatten();
        other == node
            || other < self.nodes && echoed.is_some_and(|at| mono.saturating_sub(at) < within)
    }

    /// How many nodes, itself included, have answered something that a node sent less than
    /// `within` before `mono`.
    pub(super) fn both_ways(&self, node: usize, mono: Nanos, within: Nanos) -> u32 {
        let echoed = &self.echoed[node * self.nodes..(node + 1) * self.nodes];
        let lately = |at: &&Nanos| mono.saturating_sub(**at) < within;
        1 + echoed.iter().flatten().filter(lately).count() as u32
    }
}
