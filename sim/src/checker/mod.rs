//! Judges histories: linearizable, not linearizable, or unknown.
//!
//! The judge knows clients' calls and answers and the moments bindings went down; it must never
//! know how a cluster works inside, read a clock, or draw a random number: the same history always
//! gets the same verdict after the same number of steps. How it works is told in `docs/CHECKER.md`.

mod bound;
pub mod brute;
mod case;
mod explain;
mod frontier;
mod hash;
mod joint;
mod judge;
mod online;
mod witness;
mod zones;

pub use explain::Explanation;
pub use judge::{Judge, Options, Verdict, check};
pub use online::{Checker, check_claims};
pub use witness::{Move, Witness, WitnessError, check_witness};
