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
//! # What is written once more
//!
//! It bears another name, and who knew it by the one before, and has removed or replaced it, must
//! not see it come back. So it says by which name it was *first* written: all writings of one write
//! have that in common, however often it is written, and
//!
//! - what was written in knowledge of a write, in whatever writing, *outdates* each other writing
//!   of it (`Version::outdates`). It does not replace it: what that one replaced, it may know
//!   nothing of, and what comes of a set of versions must not depend on their order. Both are held
//!   until both are stable, and the outdated one is not shown (`view.rs`);
//! - a copy that has seen a write and holds no writing of it knows that it is over, even if it has
//!   forgotten by what. Before it takes a writing of it, it writes a removal that outdates that one
//!   (`Table::over_aside`); and if one is shown where it begins anew, it removes it there. Who
//!   holds one and takes all of such a copy writes the removal itself (`Table::is_over_there`): it
//!   learns by that that the write is over, and is to show it no longer from that moment on;
//! - what is known, and over, where a copy begins anew is not written once more. A removal takes
//!   its place that replaces it, since others may hold it by the name that is given up.
//!
//! Whoever removes or outdates a writing has done so before it says that it has seen that writing.
//! So all have seen the removal before the writing is stable, and nothing was forgotten for it by
//! then. That takes that nobody in the circle is without knowledge of what was forgotten: from a
//! copy that has not met those with whom it goes on nobody begins anew.
//!
//! Two writings may each have learnt of the other's write where that had lost and was shown to
//! nobody. Neither outdates the other then; else both values would be gone.
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
