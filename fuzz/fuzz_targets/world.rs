//! Bytes drive the scheduler: which message is delivered, lost or doubled, who crashes, whose timer
//! fires. The oracles judge; a violation is a crash of the target.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod_sim::chooser::Bytes;
use synod_sim::plan::{Options, Plan};
use synod_sim::scenario;
use synod_sim::world::{Blind, Verdict, run_free};

fuzz_target!(|bytes: &[u8]| {
    // The first byte picks one of 256 clusters with their operations, the others every step.
    let Some((&seed, choices)) = bytes.split_first() else { return };
    let free = scenario::find("free").expect("it is listed");
    let options = Options { operations: Some(12), ..Options::default() };
    let plan = Plan { choices: Vec::new(), ..Plan::generate(u64::from(seed), free, &options) };
    let report = run_free(&plan, &mut Bytes::new(choices), &mut Blind);
    if let Verdict::Fail(failure) = report.verdict {
        panic!("{failure}");
    }
});
