//! The simulator of synod: plans, rigs, oracles, and the judge of recorded histories.

pub mod checker;
pub mod history;
