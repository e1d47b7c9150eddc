//! A node's two clocks: one that only goes forward, and one that people set.
//!
//! Must never know: what time means to anybody.

use synod::{Instant, Now, Wall};

use crate::plan::Nanos;

/// What wall clocks show at the start of a run, in nanoseconds since the Unix epoch.
const EPOCH: i64 = 1_600_000_000_000_000_000;

/// A node's clocks as a function of true time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// True time of the last change of rate or setting.
    since: Nanos,
    /// What the monotonic clock showed then.
    mono: Nanos,
    /// What the wall clock showed then.
    wall: i64,
    /// How fast both run, in millionths above true time.
    rate: i32,
    /// Whether the wall clock stands still.
    frozen: u32,
}

impl Clock {
    /// Clocks that show these at true time 0.
    pub(super) const fn new(mono: Nanos, wall_off: i64) -> Self {
        Self { since: 0, mono, wall: EPOCH + wall_off, rate: 0, frozen: 0 }
    }

    #[inline]
    fn passed(&self, now: Nanos) -> Nanos {
        let passed = now - self.since;
        if self.rate == 0 {
            return passed;
        }
        let rate = (1_000_000 + i64::from(self.rate)).unsigned_abs();
        (u128::from(passed) * u128::from(rate) / 1_000_000) as Nanos
    }

    /// What they show.
    #[inline]
    pub(crate) fn read(&self, now: Nanos) -> Now {
        Now {
            instant: Instant(self.mono + self.passed(now)),
            wall: Wall(millis(self.wall_at(now))),
        }
    }

    /// Whether they have gone with true time ever since `start`.
    #[cfg(madsim)]
    pub(super) const fn is_even(&self, start: Nanos) -> bool {
        self.rate == 0 && self.since <= start
    }

    /// What the monotonic clock shows.
    pub(super) fn mono(&self, now: Nanos) -> Nanos {
        self.mono + self.passed(now)
    }

    fn wall_at(&self, now: Nanos) -> i64 {
        if self.frozen > 0 {
            self.wall
        } else {
            self.wall.saturating_add_unsigned(self.passed(now))
        }
    }

    /// The true time at which the monotonic clock shows `instant` or a little more.
    #[inline]
    pub(super) fn when(&self, instant: Instant) -> Nanos {
        let ahead = instant.0.saturating_sub(self.mono);
        if self.rate == 0 {
            return self.since.saturating_add(ahead);
        }
        let rate = (1_000_000 + i64::from(self.rate)).unsigned_abs();
        let true_ahead = (u128::from(ahead) * 1_000_000).div_ceil(u128::from(rate));
        self.since.saturating_add(u64::try_from(true_ahead).unwrap_or(u64::MAX))
    }

    fn settle(&mut self, now: Nanos) {
        self.wall = self.wall_at(now);
        self.mono = self.mono(now);
        self.since = now;
    }

    /// Makes both run at another rate from now on.
    pub(super) fn drift(&mut self, now: Nanos, rate: i32) {
        self.settle(now);
        self.rate = rate;
    }

    /// Sets the wall clock forward or back.
    pub(super) fn jump(&mut self, now: Nanos, by: i64) {
        self.settle(now);
        self.wall = self.wall.saturating_add(by);
    }

    /// Stops the wall clock, or lets it go on.
    pub(super) fn freeze(&mut self, now: Nanos, frozen: bool) {
        self.settle(now);
        self.frozen = if frozen { self.frozen + 1 } else { self.frozen.saturating_sub(1) };
    }

    /// Sets the wall clock right, and lets both run at the right rate.
    pub(super) fn heal(&mut self, now: Nanos) {
        self.settle(now);
        self.rate = 0;
        self.frozen = 0;
        self.wall = true_wall(now);
    }

    /// Another boot of the machine: the monotonic clock begins anew.
    pub(super) fn reboot(&mut self, now: Nanos, mono: Nanos) {
        self.settle(now);
        self.mono = mono;
    }

    /// Moves the monotonic clock ahead to `instant`, as only free mode does, where no time passes.
    pub(super) fn skip_to(&mut self, now: Nanos, instant: Instant) {
        self.settle(now);
        let ahead = instant.0.saturating_sub(self.mono);
        self.mono += ahead;
        self.wall = self.wall.saturating_add_unsigned(ahead);
    }
}

/// What a right wall clock shows, in nanoseconds.
pub(super) const fn true_wall(now: Nanos) -> i64 {
    EPOCH.saturating_add_unsigned(now)
}

/// Milliseconds, as wall clocks are read.
pub(super) const fn millis(wall: i64) -> u64 {
    (if wall < 0 { 0 } else { wall as u64 }) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{MILLI, SECOND};

    #[test]
    fn a_fast_clock_shows_more_and_wakes_earlier() {
        let mut clock = Clock::new(7 * SECOND, 0);
        clock.drift(SECOND, 500_000);
        assert_eq!(clock.mono(3 * SECOND), 11 * SECOND);
        assert_eq!(clock.when(Instant(11 * SECOND)), 3 * SECOND);
        assert!(clock.mono(clock.when(Instant(9 * SECOND + 1))) > 9 * SECOND);
    }

    #[test]
    fn the_wall_clock_freezes_and_jumps_alone() {
        let mut clock = Clock::new(0, 0);
        let start = clock.read(0).wall.0;
        clock.freeze(SECOND, true);
        assert_eq!(clock.read(5 * SECOND).wall.0, start + 1_000);
        assert_eq!(clock.mono(5 * SECOND), 5 * SECOND);
        clock.freeze(5 * SECOND, false);
        clock.jump(5 * SECOND, -(2 * SECOND as i64));
        assert_eq!(clock.read(6 * SECOND).wall.0, start);
        clock.heal(6 * SECOND);
        assert_eq!(clock.read(6 * SECOND + MILLI).wall.0, start + 6_001);
    }
}
