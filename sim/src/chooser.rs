//! "Pick one of n": the one decision that every schedule, fuzzer, replay and enumeration is made
//! of.
//!
//! By convention of all callers, 0 is the most ordinary choice: the oldest message delivered, no
//! fault. So a list of choices shrinks towards zeros and towards its own prefix.
//!
//! Must never know: what is being chosen.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Picks one of `n`.
pub trait Chooser {
    /// A number below `n`. Callers ask only where `n` is at least 1.
    fn choose(&mut self, n: usize) -> usize;

    /// Whether every later choice will be 0: a scheduler may stop asking.
    fn is_exhausted(&self) -> bool {
        false
    }
}

/// Evenly at random, from a seed.
#[derive(Clone, Debug)]
pub struct Seeded(ChaCha8Rng);

impl Seeded {
    /// The choices of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

impl Chooser for Seeded {
    fn choose(&mut self, n: usize) -> usize {
        crate::random::below(self.0.next_u64(), n as u64) as usize
    }
}

impl Seeded {
    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        crate::random::below(self.bits(), n)
    }

    /// From `low` to `high`.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Evenly by magnitude: as likely between 1 and 10 as between 10 and 100.
    pub(crate) fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let mut high = high.max(low + 1);
        while high / 2 > low && self.below(2) == 0 {
            high /= 2;
        }
        self.within(low, high)
    }

    /// One of these.
    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.choose(of.len())]
    }

    /// True so often in a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Picks a place by weight.
pub(crate) fn weighted(draws: &mut Seeded, weights: &[u64]) -> usize {
    let total: u64 = weights.iter().sum();
    let mut at = draws.below(total.max(1));
    for (place, &weight) in weights.iter().enumerate() {
        if at < weight {
            return place;
        }
        at -= weight;
    }
    0
}

/// A fuzzer's bytes: one byte a choice, two where more than 256 are offered; zeros at the end.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// The choices these bytes make.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn next(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(first)
    }
}

impl Chooser for Bytes<'_> {
    fn choose(&mut self, n: usize) -> usize {
        if n <= 1 {
            return 0;
        }
        let mut number = self.next();
        if n > 256 {
            number = number << 8 | self.next();
        }
        number % n
    }

    fn is_exhausted(&self) -> bool {
        self.0.is_empty()
    }
}

/// A list of choices made before; zeros at the end. A choice too large for what is offered, as
/// happens after an edit, is reduced rather than refused.
#[derive(Clone, Debug)]
pub struct Recorded<'a>(&'a [u32]);

impl<'a> Recorded<'a> {
    /// These choices.
    #[must_use]
    pub const fn new(choices: &'a [u32]) -> Self {
        Self(choices)
    }
}

impl Chooser for Recorded<'_> {
    fn choose(&mut self, n: usize) -> usize {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first as usize % n.max(1)
    }

    fn is_exhausted(&self) -> bool {
        self.0.is_empty()
    }
}

/// Notes what another chooser chooses, for a plan to replay.
pub struct Recording<'a> {
    inner: &'a mut dyn Chooser,
    choices: Vec<u32>,
}

impl<'a> Recording<'a> {
    /// Notes what `inner` chooses.
    pub fn new(inner: &'a mut dyn Chooser) -> Self {
        Self { inner, choices: Vec::new() }
    }

    /// What was chosen. Zeros at the end are kept: a run may end where its choices do.
    #[must_use]
    pub fn into_choices(self) -> Vec<u32> {
        self.choices
    }
}

impl Chooser for Recording<'_> {
    fn choose(&mut self, n: usize) -> usize {
        let choice = self.inner.choose(n);
        self.choices.push(u32::try_from(choice).unwrap_or(u32::MAX));
        choice
    }

    fn is_exhausted(&self) -> bool {
        self.inner.is_exhausted()
    }
}

/// The ordinary choice `calm` times, then another chooser's: so that an enumeration need not spend
/// itself on how a cluster starts.
pub struct Later<'a> {
    inner: &'a mut dyn Chooser,
    calm: usize,
}

impl<'a> Later<'a> {
    /// `calm` zeros, then what `inner` chooses.
    pub fn new(inner: &'a mut dyn Chooser, calm: usize) -> Self {
        Self { inner, calm }
    }
}

impl Chooser for Later<'_> {
    fn choose(&mut self, n: usize) -> usize {
        if self.calm > 0 {
            self.calm -= 1;
            return 0;
        }
        self.inner.choose(n)
    }

    fn is_exhausted(&self) -> bool {
        self.calm == 0 && self.inner.is_exhausted()
    }
}

/// Every list of choices, one after another, in lexicographic order; beyond `depth` choices, 0.
///
/// Use: run with it, then [`Exhaustive::advance`] until that says there is nothing left.
#[derive(Clone, Debug)]
pub struct Exhaustive {
    path: Vec<(u32, u32)>,
    place: usize,
    depth: usize,
}

impl Exhaustive {
    /// All lists of up to `depth` choices.
    #[must_use]
    pub const fn new(depth: usize) -> Self {
        Self { path: Vec::new(), place: 0, depth }
    }

    /// Goes to the next list; false when all have been taken.
    pub fn advance(&mut self) -> bool {
        self.place = 0;
        while let Some((choice, n)) = self.path.pop() {
            if choice + 1 < n {
                self.path.push((choice + 1, n));
                return true;
            }
        }
        false
    }

    /// The present list.
    pub fn choices(&self) -> impl Iterator<Item = u32> {
        self.path.iter().map(|(choice, _)| *choice)
    }
}

impl Chooser for Exhaustive {
    fn choose(&mut self, n: usize) -> usize {
        if n <= 1 || self.place >= self.depth {
            return 0;
        }
        if self.place == self.path.len() {
            self.path.push((0, u32::try_from(n).unwrap_or(u32::MAX)));
        }
        let (choice, _) = self.path[self.place];
        self.place += 1;
        (choice as usize).min(n - 1)
    }

    fn is_exhausted(&self) -> bool {
        self.place >= self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhaustive_takes_every_list_once() {
        let mut chooser = Exhaustive::new(3);
        let mut seen = Vec::new();
        loop {
            let list = [chooser.choose(2), chooser.choose(3), chooser.choose(2)];
            assert_eq!(chooser.choose(9), 0, "beyond the depth");
            seen.push(list);
            if !chooser.advance() {
                break;
            }
        }
        assert_eq!(seen.len(), 12);
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_recording_replays() {
        let mut seeded = Seeded::new(5);
        let mut recording = Recording::new(&mut seeded);
        let first: Vec<usize> = (1..40).map(|n| recording.choose(n)).collect();
        let choices = recording.into_choices();
        let mut recorded = Recorded::new(&choices);
        let second: Vec<usize> = (1..40).map(|n| recorded.choose(n)).collect();
        assert_eq!(first, second);
        assert!(recorded.is_exhausted());
    }

    #[test]
    fn bytes_never_choose_out_of_range() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut chooser = Bytes::new(&bytes);
        for n in 1..2_000 {
            assert!(chooser.choose(n) < n);
        }
        assert_eq!(chooser.choose(1_000), 0);
    }
}
