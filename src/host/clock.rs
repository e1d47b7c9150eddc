//! What a node takes for the time.
//!
//! Must never know: what waits for it.

use crate::base::Now;
#[cfg(not(madsim))]
use crate::base::{Instant, Wall};

/// A node's two clocks. The simulator gives each node its own.
pub trait Clock: 'static {
    /// What they show.
    fn now(&self) -> Now;
}

/// The clocks of this machine.
#[cfg(not(madsim))]
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

#[cfg(not(madsim))]
impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: std::time::Instant::now() }
    }
}

#[cfg(not(madsim))]
impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
        Now {
            instant: Instant(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)),
            wall: Wall(u64::try_from(wall).unwrap_or(u64::MAX)),
        }
    }
}
