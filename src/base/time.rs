//! Time as data. The engine never asks what time it is; every input says.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

use bincode::{Decode, Encode};

/// A moment on one node's monotonic clock, in nanoseconds since an origin of that node's own.
///
/// Two nodes' instants cannot be compared, and no message carries one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// How long since `earlier`; zero if `earlier` is later, so a bad clock cannot panic.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: the far future is as good as never.
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

/// A reading of a wall clock: milliseconds since the Unix epoch. Evidence, never an authority: a
/// deadline has passed only when a quorum of clocks says so (`PROTOCOL.md` 1.7 M6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Wall(pub u64);

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// What both of a node's clocks show when an input is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Now {
    /// The monotonic clock: timeouts, silence, deadlines of calls.
    pub instant: Instant,
    /// The wall clock: only ever compared with `until` bindings.
    pub wall: Wall,
}
