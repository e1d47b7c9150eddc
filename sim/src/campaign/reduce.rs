//! Shrinking of plans: what can be dropped from one, what can be made simpler, and when a smaller
//! one still fails in the same way.

use super::failure::{attempt, failure};
use crate::plan::{Plan, Simplification};
use crate::shrink::{Shrunk, Subject, shrink};
use crate::world::Blind;

/// The smallest plan found within `budget` runs whose failure has the same signature.
#[must_use]
pub fn reduce(plan: &Plan, signature: &str, budget: u64) -> Shrunk<Plan> {
    shrink(plan.clone(), budget, |smaller| {
        smaller.check().is_ok()
            && failure(&attempt(smaller, &mut Blind))
                .is_some_and(|failure| failure.signature == signature)
    })
}

/// How many other seeds are tried for a smaller plan that passes. What is drawn for a message
/// depends on how many were sent on its link before, so dropping an operation redraws others.
const LUCK: u64 = 6;

impl Subject for Plan {
    fn items(&self) -> usize {
        self.items().len()
    }

    fn keeping(&self, keep: &[bool]) -> Self {
        let items = self.items().into_iter().zip(keep);
        let gone: Vec<_> = items.filter(|(_, keep)| !**keep).map(|(item, _)| item).collect();
        self.without(&gone)
    }

    fn simpler(&self) -> Vec<Self> {
        let whole = Simplification::ALL.iter().filter_map(|how| self.simplified(*how));
        whole.chain(self.plainer()).collect()
    }

    fn other_luck(&self) -> Vec<Self> {
        let seeds = (1..=LUCK).map(|step| self.seed.wrapping_add(step));
        seeds.map(|seed| Self { seed, ..self.clone() }).collect()
    }
}

impl Plan {
    /// Variants with one operation or fault made more ordinary.
    fn plainer(&self) -> Vec<Self> {
        let mut variants = Vec::new();
        let mut all = self.clone();
        all.operations.iter_mut().for_each(|operation| operation.after = 0);
        variants.push(all);
        for place in 0..self.operations.len() {
            let mut sooner = self.clone();
            sooner.operations[place].after = 0;
            let mut once = self.clone();
            once.operations[place].again = 0;
            let mut meek = self.clone();
            meek.operations[place].persistent = false;
            variants.extend([sooner, once, meek]);
        }
        for place in 0..self.faults.len() {
            let mut prompt = self.clone();
            prompt.faults[place].at = 0;
            variants.push(prompt);
        }
        variants.retain(|variant| variant != self);
        variants
    }
}
