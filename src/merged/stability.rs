//! What every copy has seen, together with everything written without knowledge of it.
//!
//! Found in two rounds. A copy takes what it has seen for the cut. When each of the others has said
//! that it has seen the cut, what they had seen when they said so is the guard: whatever they write
//! later, they write in knowledge of the cut, so what was written without is within the guard. When
//! each has seen the guard too, nobody will meet anything that could still lose to what is in the
//! cut, and what lost can be forgotten.
//!
//! Must never know: what is forgotten.

use alloc::collections::BTreeSet;

use super::version::VersionVector;
use crate::base::NodeId;

/// A cut on its way to being stable.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    cut: VersionVector,
    guard: VersionVector,
    /// Who has been heard to have seen the cut.
    reported: BTreeSet<NodeId>,
}

impl Cut {
    pub(crate) fn new(seen: VersionVector) -> Self {
        Self { guard: seen.clone(), cut: seen, reported: BTreeSet::new() }
    }

    /// Looks at what this copy has seen and what each of the others is known to have seen; says
    /// what is stable, once it is.
    pub(crate) fn advance<'a, I: Iterator<Item = (NodeId, &'a VersionVector)>>(
        &mut self,
        seen: &VersionVector,
        others: impl Fn() -> I,
    ) -> Option<VersionVector> {
        let mut all = true;
        for (node, known) in others() {
            if self.reported.contains(&node) {
                continue;
            }
            if known.covers(&self.cut) {
                self.guard.join(known);
                self.reported.insert(node);
            } else {
                all = false;
            }
        }
        let guarded = |known: &VersionVector| known.covers(&self.guard);
        (all && guarded(seen) && others().all(|(_, known)| guarded(known)))
            .then(|| self.cut.clone())
    }
}
