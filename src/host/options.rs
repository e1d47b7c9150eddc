//! What can be told to a host beyond the engine's configuration. The defaults are good.
//!
//! Must never know: how it is kept.

use std::time::Duration;

/// When a link that is down is tried again (M-29).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// After `first`, then ever less often, no less than every `max`; with jitter.
    Backoff {
        /// The first wait.
        first: Duration,
        /// Where it stops doubling.
        max: Duration,
    },
    /// Always after as long.
    Every(Duration),
    /// Never, unless told to; a peer may still dial.
    Never,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self::Backoff { first: Duration::from_millis(20), max: Duration::from_secs(1) }
    }
}

/// Bounds of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// When a link that is down is tried again.
    pub reconnect: Reconnect,
    /// How long a stranger has to introduce itself, and a dial may take. Default 3 s.
    pub handshake: Duration,
    /// Silence, or waiting for the peer to read, after which a link is given up; noticed within
    /// twice that. Default 4 s; heartbeats must be much more frequent.
    pub idle: Duration,
    /// Bytes that may wait for a peer, give or take one message; more are lost, heartbeats a few
    /// KiB later than all else. Default 8 MiB.
    pub queue_max: usize,
    /// Handshakes under way at once. Default 128.
    pub guests_max: usize,
    /// Wait after a failure to accept, such as too many open files. Default 100 ms.
    pub backoff: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            reconnect: Reconnect::default(),
            handshake: Duration::from_secs(3),
            idle: Duration::from_secs(4),
            queue_max: 8 << 20,
            guests_max: 128,
            backoff: Duration::from_millis(100),
        }
    }
}
