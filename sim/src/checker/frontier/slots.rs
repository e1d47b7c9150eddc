//! Sets of the operations in flight, by slot, as a few machine words.
//!
//! Must never know: what operations do.

/// Which of the operations in flight, by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slots<const N: usize>(pub(super) [u64; N]);

impl<const N: usize> Default for Slots<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Slots<N> {
    pub(super) fn bit(slot: u32) -> Self {
        let mut slots = Self::default();
        slots.0[slot as usize / 64] = 1 << (slot % 64);
        slots
    }

    pub(super) fn has(&self, slot: u32) -> bool {
        self.0[slot as usize / 64] & (1 << (slot % 64)) != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & !other.0[at]))
    }

    pub(super) fn within(self, other: Self) -> bool {
        self.minus(other).is_empty()
    }

    pub(super) fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Takes the lowest slot out.
    pub(super) fn pop(&mut self) -> Option<u32> {
        for (at, word) in self.0.iter_mut().enumerate() {
            if *word != 0 {
                let bit = word.trailing_zeros();
                *word &= *word - 1;
                return Some(at as u32 * 64 + bit);
            }
        }
        None
    }

    pub(super) fn lowest_unset(&self) -> Option<u32> {
        let at = self.0.iter().position(|word| *word != u64::MAX)?;
        Some(at as u32 * 64 + self.0[at].trailing_ones())
    }
}
