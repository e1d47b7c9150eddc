//! Who goes on without the others, once those were not heard for longer than the retention.
//!
//! A copy that is given up may come back with what it wrote in ignorance of what was forgotten
//! meanwhile, or in knowledge of half of it. No merge of the single writes comes to the same on all
//! copies then: what it replaced may have hidden something that some copies have forgotten and
//! others not. So those who go on without it say so, durably, in a *circle*, and from then on take
//! something from copies of the same circle alone:
//!
//! - The replicas that are not heard for the retention by any of those that are heard are left out
//!   together, by the first of the latter. The circle names who goes on.
//! - A copy that is named moves into the circle when it hears of it, if it comes from the circle
//!   before it. One that has seen nothing but its own writes, which are late, may move into any.
//! - Any other copy *begins anew* from a copy of the circle: in one stroke it takes a new name,
//!   holds what that copy holds, and writes once more, as late, what it held and that copy had not
//!   seen. What a late write knew of is replaced by it, and so is what nobody is shown; what is
//!   shown and was not known of is left beside it ([`Table::begun_anew`]).
//! - Of two circles the greater counts: copies move from the lesser to the greater, never back.
//!
//! Why that is enough. What a copy of a circle holds comes from the circle before, where it was one
//! of those named; or from nothing; or at one stroke from a copy of the circle, and from itself,
//! under its new name. So no version of a copy that was given up comes in, by whatever way: neither
//! from that one nor from one that had taken it. Who moved into the circle by name may have taken
//! something of it late, but has seen it when it next reports (step 2 of `stability.rs`), so it is
//! in the guard. Who begins anew is waited for by the copy that it asks from its first question on:
//! what is found stable without it was seen there before, and comes with the stroke as a whole.
//! What it writes once more replaces all that could be forgotten there, and leaves what could not:
//! so it makes no difference whether that was forgotten.
//!
//! [`Table::begun_anew`]: super::Table::begun_anew
//!
//! Must never know: what is written, when somebody was heard.

use alloc::vec::Vec;
use core::cmp::Ordering;

use bincode::{Decode, Encode};

use super::version::Actor;

/// As deep as no circle comes to be.
const DEPTH_MAX: u64 = 1 << 62;

/// Copies that go on together. The first one has nobody left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Circle {
    /// How many were before it.
    depth: u64,
    /// Who made it. Each copy makes one of a depth at most, so this names it.
    of: Option<Actor>,
    /// Who made the one before it.
    after: Option<Actor>,
    /// Who goes on, in order.
    by: Vec<Actor>,
}

impl Circle {
    /// The one behind this, made by a copy of this for those who go on.
    #[must_use]
    pub fn next(&self, of: Actor, mut by: Vec<Actor>) -> Self {
        by.sort_unstable();
        Self { depth: self.depth + 1, of: Some(of), after: self.of, by }
    }

    /// Whether a copy is among those for whom it was made.
    #[must_use]
    pub fn names(&self, actor: &Actor) -> bool {
        self.by.binary_search(actor).is_ok()
    }

    /// Whether a copy of `from` may move here as it is.
    pub(crate) fn takes(&self, actor: &Actor, from: &Self) -> bool {
        self.depth == from.depth + 1 && self.after == from.of && self.names(actor)
    }

    /// Whether copies of the other have to move here.
    #[must_use]
    pub fn outranks(&self, other: &Self) -> bool {
        let rank = |of: &Self| (of.depth, of.by.len());
        let named = || (other.of, other.after, &other.by).cmp(&(self.of, self.after, &self.by));
        rank(self).cmp(&rank(other)).then_with(named) == Ordering::Greater
    }

    /// Whether nobody has ever been left out.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.depth == 0
    }

    /// Whether a copy that keeps the rules can have made it.
    pub(crate) fn is_sound(&self) -> bool {
        self.depth <= DEPTH_MAX && self.by.is_sorted()
    }
}
