//! The simulator of synod: plans, rigs, oracles, and the judge of recorded histories.

pub mod campaign;
pub mod checker;
pub mod chooser;
pub mod commands;
pub mod history;
pub mod marks;
mod oracle;
pub mod plan;
pub mod random;
pub mod real;
pub mod report;
pub mod rig;
pub mod scenario;
pub mod shrink;
#[cfg(madsim)]
mod stack;
pub mod trace;
pub mod world;
pub mod zoo;
