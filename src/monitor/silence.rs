//! For how long each member has been silent, on this node's own monotonic clock.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::base::Instant;

/// Silence is counted from the last message, or from when this node began to listen: a node that
/// has just started, or was paused itself, accuses nobody (M1).
#[derive(Clone, Debug)]
pub(crate) struct Silence {
    heard: Vec<Instant>,
    /// Who says that its storage is not the one that held its session: that one is silent, however
    /// much is said in its name.
    lost: Vec<bool>,
}

impl Silence {
    pub(crate) fn new(members: usize, now: Instant) -> Self {
        Self { heard: vec![now; members], lost: vec![false; members] }
    }

    pub(crate) fn reset(&mut self, now: Instant) {
        self.heard.fill(now);
    }

    pub(crate) fn hear(&mut self, member: usize, now: Instant) {
        if !self.lost[member] {
            self.heard[member] = now;
        }
    }

    pub(crate) fn set_lost(&mut self, member: usize, lost: bool) {
        self.lost[member] = lost;
    }

    pub(crate) fn of(&self, member: usize, now: Instant) -> Duration {
        now.since(self.heard[member])
    }
}
