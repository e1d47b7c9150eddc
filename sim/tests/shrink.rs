//! Shrinking of real plans: the failure stays the same, and nothing more can be dropped.

use synod_sim::campaign::{attempt, failure, reduce};
use synod_sim::plan::{Options, Plan};
use synod_sim::scenario;
use synod_sim::shrink::Subject as _;
use synod_sim::world::Blind;

/// A plan that fails for a reason of its own making: it leaves no time to settle.
fn hasty(seed: u64, name: &str) -> Plan {
    let scenario = scenario::find(name).expect("a scenario");
    let mut plan = Plan::generate(seed, scenario, &Options::default());
    plan.liveness = 1;
    plan
}

fn signature(plan: &Plan) -> Option<String> {
    Some(failure(&attempt(plan, &mut Blind))?.signature.clone())
}

#[test]
fn a_shrunk_plan_fails_in_the_same_way_and_is_minimal() {
    for (seed, name) in [(1, "register"), (2, "swarm"), (3, "erase")] {
        let plan = hasty(seed, name);
        let before = signature(&plan).expect("no time to settle is a failure");
        let shrunk = reduce(&plan, &before, 20_000);
        assert!(!shrunk.exhausted, "{name}: {} runs", shrunk.runs);
        let small = shrunk.plan;
        assert_eq!(signature(&small).as_ref(), Some(&before), "{name}");
        assert!(small.items().len() <= plan.items().len());
        for item in small.items() {
            let smaller = small.without(&[item]);
            assert_ne!(signature(&smaller).as_ref(), Some(&before), "{name}: {item} can go");
        }
        for simpler in small.simpler() {
            let same = simpler.check().is_ok() && signature(&simpler).as_ref() == Some(&before);
            assert!(!same, "{name}: it can be simpler:\n{simpler}");
        }
        // What is written down is what was run.
        let read: Plan = small.to_string().parse().expect("a printed plan can be read");
        assert_eq!(read, small);
    }
}
