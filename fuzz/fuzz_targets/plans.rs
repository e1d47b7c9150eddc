//! Text of a plan: it is read, or refused with the line that is wrong. What was read prints as text
//! that reads back the same, and a small one runs to a verdict without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod_sim::plan::Plan;
use synod_sim::world::{Blind, run};

fuzz_target!(|text: &str| {
    let Ok(plan) = text.parse::<Plan>() else { return };
    let printed = plan.to_string();
    let again: Plan = printed.parse().expect("a plan prints as a plan");
    assert_eq!(again.to_string(), printed);
    if plan.operations.len() <= 20 && plan.check().is_ok() {
        let _ = run(&plan, &mut Blind);
    }
});
