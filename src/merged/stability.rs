//! What every copy has seen, together with everything written without knowledge of it.
//!
//! What lost, and what it lost to, may be forgotten once nothing can come any more that knows the
//! one and not the other, or that could lose to what is forgotten. Copies begin anew and replicas
//! are added meanwhile, so this is found in steps:
//!
//! 1. A copy takes what it has seen for the *cut*, and waits until each of the others, all whom it
//!    knows, has said that it has seen the cut. Call that moment T.
//! 2. Each says once more, having heard what was said here after T, what it has seen and which
//!    copies it waits for itself. Those must be the same that are waited for here. What they have
//!    seen then, all together, is the *guard*.
//! 3. Each is heard to have seen the guard. The cut is *stable*.
//!
//! Why that is enough. By 2, each copy that is waited for was alive after T: whoever has begun in
//! its place did so after T, and whoever it had begun in the place of is over for all of them, and
//! nothing of that one is taken any more that is still on its way. So whatever is not in the guard
//! was written by one of those waited for after it had said so, hence in knowledge of the cut; or
//! by a copy that began after T. Such a copy asks before it takes anything, also what is pushed.
//! Who answers has seen all of the cut, or has begun after T likewise: so it learns of all of the
//! cut at one stroke or of nothing. Before, it knows nothing of the cut, and what it writes is
//! *late*: no removal takes away what is late, a late removal takes away only what it had seen, and
//! among values what counts is the greatest; so it does not matter beside it whether what lost was
//! forgotten. Afterwards, it replaces all of the cut.
//!
//! A replica that was added, and that a copy here has not heard of, is known to those from whom it
//! had anything, so it makes the lists of 2 differ.
//!
//! Replicas that are given up are waited for no longer. Of them, and of whoever had anything from
//! them, nothing is taken: the copies that go on are of another *circle*, and lists of 2 are only
//! compared among copies of one (`circle.rs`).
//!
//! Must never know: what is forgotten.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::version::{Actor, VersionVector};
use crate::base::NodeId;

/// The replicas that a copy waits for before it forgets anything, itself among them, in order; each
/// with the copy that it is known by, if it has been heard.
pub(crate) type Counting = Vec<(NodeId, Option<Actor>)>;

/// What is known of another copy by what it said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    /// What it has seen.
    pub(crate) known: &'a VersionVector,
    /// Whom it waited for when it spoke last.
    pub(crate) counting: &'a Counting,
    /// The last that it had heard from here then.
    pub(crate) heard: u64,
}

/// A cut on its way to being stable.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    cut: VersionVector,
    guard: VersionVector,
    counting: Counting,
    /// What was last said here before all had seen the cut.
    after: Option<u64>,
    /// Who has answered to what was said since.
    reported: BTreeSet<NodeId>,
}

impl Cut {
    pub(crate) fn new(seen: VersionVector, counting: Counting) -> Self {
        let guard = seen.clone();
        Self { cut: seen, guard, counting, after: None, reported: BTreeSet::new() }
    }

    /// Whether these are whom it is found with. With others it has to be found anew.
    pub(crate) fn is_of(&self, counting: &Counting) -> bool {
        self.counting == *counting
    }

    /// Looks at what this copy has seen, the last that it said, and what each of the others has
    /// said; says what is stable, once it is.
    pub(crate) fn advance<'a, I: Iterator<Item = (NodeId, Said<'a>)>>(
        &mut self,
        seen: &VersionVector,
        said: u64,
        others: impl Fn() -> I,
    ) -> Option<VersionVector> {
        if self.after.is_none() && others().all(|(_, other)| other.known.covers(&self.cut)) {
            self.after = Some(said);
        }
        let after = self.after?;
        let mut all = true;
        for (node, other) in others() {
            if self.reported.contains(&node) {
                continue;
            }
            if other.heard > after && other.counting == &self.counting {
                self.guard.join(other.known);
                self.reported.insert(node);
            } else {
                all = false;
            }
        }
        let guarded = |known: &VersionVector| known.covers(&self.guard);
        (all && guarded(seen) && others().all(|(_, other)| guarded(other.known)))
            .then(|| self.cut.clone())
    }
}
