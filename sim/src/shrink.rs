//! Makes a failing plan smaller until nothing more can be dropped.
//!
//! Delta debugging: drop halves, then quarters, down to single items, then single items again
//! until a whole pass changes nothing. What is left is *1-minimal*: dropping any one item, or
//! taking any one of the simplifications offered, makes the failure another one or none.
//!
//! Must never know: what a plan is, or how it is run. It is handed both.

/// Something that can be made smaller.
pub trait Subject: Clone {
    /// How many items could be dropped.
    fn items(&self) -> usize;

    /// The same without the items at which `keep` is false. `keep` has [`Self::items`] elements.
    #[must_use]
    fn keeping(&self, keep: &[bool]) -> Self;

    /// Simpler variants with the same items, the boldest first. Each must be strictly simpler by
    /// some measure that cannot shrink for ever.
    fn simpler(&self) -> Vec<Self>;

    /// Variants of the same size that differ in luck only: when dropping something makes the failure
    /// go away merely because it also changed what is drawn, one of these may bring it back.
    fn other_luck(&self) -> Vec<Self> {
        Vec::new()
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Shrunk<P> {
    /// The smallest found that still fails in the same way.
    pub plan: P,
    /// How many runs it took.
    pub runs: u64,
    /// Whether the budget ended before the smallest was certain: `plan` may not be 1-minimal.
    pub exhausted: bool,
}

/// Shrinks `plan`, which fails, as long as `fails` says that the smaller one does too, within
/// `budget` runs.
pub fn shrink<P: Subject>(plan: P, budget: u64, fails: impl FnMut(&P) -> bool) -> Shrunk<P> {
    let mut shrinker = Shrinker { plan, runs: 0, budget, fails, stubborn: false };
    loop {
        let dropped = shrinker.drop_items();
        let simplified = shrinker.simplify();
        if shrinker.is_exhausted() {
            break;
        }
        if !(dropped || simplified) {
            // Nothing more by itself. The result stays minimal: whatever luck helps with is
            // followed by passes without it.
            shrinker.stubborn = true;
            let dropped = shrinker.drop_items();
            shrinker.stubborn = false;
            if !dropped {
                break;
            }
        }
    }
    Shrunk { exhausted: shrinker.is_exhausted(), plan: shrinker.plan, runs: shrinker.runs }
}

struct Shrinker<P, F> {
    plan: P,
    runs: u64,
    budget: u64,
    fails: F,
    /// Whether to try other luck, too.
    stubborn: bool,
}

impl<P: Subject, F: FnMut(&P) -> bool> Shrinker<P, F> {
    const fn is_exhausted(&self) -> bool {
        self.runs >= self.budget
    }

    /// Takes `smaller` if it fails in the same way.
    fn attempt(&mut self, smaller: P) -> bool {
        let others = if self.stubborn { smaller.other_luck() } else { Vec::new() };
        self.attempt_one(smaller) || others.into_iter().any(|other| self.attempt_one(other))
    }

    fn attempt_one(&mut self, smaller: P) -> bool {
        if self.is_exhausted() {
            return false;
        }
        self.runs += 1;
        let fails = (self.fails)(&smaller);
        if fails {
            self.plan = smaller;
        }
        fails
    }

    fn drop_items(&mut self) -> bool {
        let before = self.plan.items();
        let mut size = before.div_ceil(2).max(1);
        loop {
            let dropped = self.drop_chunks(size);
            match size {
                1 if dropped => {}
                1 => break,
                _ => size = size.div_ceil(2),
            }
            if self.is_exhausted() {
                break;
            }
        }
        self.plan.items() < before
    }

    /// One pass from the last chunk to the first: effects are dropped before their causes.
    fn drop_chunks(&mut self, size: usize) -> bool {
        let mut any = false;
        let mut end = self.plan.items();
        while end > 0 && !self.is_exhausted() {
            // Dropping may take other items along, so the plan can be shorter than expected.
            end = end.min(self.plan.items());
            let start = end.saturating_sub(size);
            let keep: Vec<bool> =
                (0..self.plan.items()).map(|item| item < start || item >= end).collect();
            let smaller = self.plan.keeping(&keep);
            any |= self.attempt(smaller);
            end = start;
        }
        any
    }

    fn simplify(&mut self) -> bool {
        let mut any = false;
        'again: while !self.is_exhausted() {
            for simpler in self.plan.simpler() {
                if self.attempt(simpler) {
                    any = true;
                    continue 'again;
                }
            }
            break;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Numbers {
        list: Vec<u32>,
        knob: u32,
    }

    impl Subject for Numbers {
        fn items(&self) -> usize {
            self.list.len()
        }

        fn keeping(&self, keep: &[bool]) -> Self {
            let kept = self.list.iter().zip(keep).filter(|(_, keep)| **keep);
            Self { list: kept.map(|(number, _)| *number).collect(), knob: self.knob }
        }

        fn simpler(&self) -> Vec<Self> {
            let knobs = [0, self.knob / 2, self.knob.saturating_sub(1)];
            let simpler = knobs.into_iter().filter(|knob| *knob < self.knob);
            simpler.map(|knob| Self { knob, ..self.clone() }).collect()
        }
    }

    fn numbers(count: u32) -> Numbers {
        Numbers { list: (0..count).collect(), knob: 1_000 }
    }

    #[test]
    fn finds_the_only_items_that_matter() {
        let needed = [3, 77, 500];
        let shrunk = shrink(numbers(1_000), 10_000, |plan| {
            needed.iter().all(|item| plan.list.contains(item)) && plan.knob >= 7
        });
        assert_eq!(shrunk.plan, Numbers { list: needed.to_vec(), knob: 7 });
        assert!(!shrunk.exhausted);
        assert!(shrunk.runs < 300, "{} runs", shrunk.runs);
    }

    #[test]
    fn a_budget_is_kept_and_said() {
        let shrunk = shrink(numbers(1_000), 5, |plan| plan.list.contains(&1));
        assert!(shrunk.exhausted && shrunk.runs == 5);
        assert!(shrunk.plan.list.contains(&1));
    }

    #[test]
    fn nothing_needed_leaves_nothing() {
        let shrunk = shrink(numbers(9), 1_000, |_| true);
        assert_eq!(shrunk.plan, Numbers { list: vec![], knob: 0 });
    }

    /// Fails for some seeds only, which ones depending on what is left.
    #[derive(Clone, Debug, PartialEq)]
    struct Lucky(Numbers, u32);

    impl Subject for Lucky {
        fn items(&self) -> usize {
            self.0.items()
        }

        fn keeping(&self, keep: &[bool]) -> Self {
            Self(self.0.keeping(keep), self.1)
        }

        fn simpler(&self) -> Vec<Self> {
            Vec::new()
        }

        fn other_luck(&self) -> Vec<Self> {
            (1..8).map(|step| Self(self.0.clone(), self.1 + step)).collect()
        }
    }

    #[test]
    fn bad_luck_is_overcome() {
        let fails = |plan: &Lucky| {
            plan.0.list.contains(&5) && (plan.0.list.len() as u32 * 7 + plan.1).is_multiple_of(3)
        };
        let plan = (0..9).map(|seed| Lucky(numbers(50), seed)).find(|plan| fails(plan));
        let shrunk = shrink(plan.unwrap(), 10_000, fails);
        assert_eq!(shrunk.plan.0.list, [5]);
    }

    proptest! {
        /// Whatever the failure depends on, dropping one more item ends it.
        #[test]
        fn the_result_is_one_minimal(count in 0_u32..60, modulus in 2_u32..9, least in 0_usize..5) {
            let fails = |plan: &Numbers| {
                let marked = plan.list.iter().filter(|number| **number % modulus == 1);
                marked.count() >= least && plan.list.len() % 2 == count as usize % 2
            };
            let plan = numbers(count);
            prop_assume!(fails(&plan));
            let shrunk = shrink(plan, 100_000, fails).plan;
            prop_assert!(fails(&shrunk));
            for item in 0..shrunk.items() {
                let keep: Vec<bool> = (0..shrunk.items()).map(|other| other != item).collect();
                prop_assert!(!fails(&shrunk.keeping(&keep)));
            }
        }
    }
}
