//! The World rig as its callers see it: plans are data, runs are functions of plans, faults act.

use proptest::prelude::*;
use synod_sim::chooser::{Bytes, Exhaustive, Later, Recording, Seeded};
use synod_sim::marks::Mark;
use synod_sim::plan::{
    Act, Address, CLOCK_MAX, Cluster, Cut, Disk, Fault, FaultKind, Keep, Links, MICRO, MILLI, Mode,
    Nanos, Network, Nodes, Operation, Options, Plan, SECOND, Simplification, TIME_MAX, Tie,
    Trouble,
};
use synod_sim::scenario::{find, scenarios};
use synod_sim::world::{Blind, Event, EventKind, FailureKind, Observer, Report, Verdict};
use synod_sim::world::{run, run_free};

const K0: Address = Address { table: 0, key: 0 };
const K1: Address = Address { table: 0, key: 1 };

fn plan_of(scenario: &str, seed: u64) -> Plan {
    Plan::generate(seed, find(scenario).expect("there is such a scenario"), &Options::default())
}

fn nodes(members: &[u16]) -> Nodes {
    let mut set = Nodes::default();
    members.iter().for_each(|&node| set.add(node));
    set
}

/// Client 1 puts and gets `k0` every 20 ms for two seconds, asking all nodes in turn.
fn steady() -> Plan {
    let operations = (0..100).map(|id| Operation {
        id,
        client: 1,
        after: if id == 0 { 200 * MILLI } else { 20 * MILLI },
        node: (id % 3 + 1) as u16,
        patience: 200 * MILLI,
        again: 2,
        persistent: true,
        act: if id % 2 == 0 { Act::Put(K0, Vec::new()) } else { Act::Get(K0) },
    });
    Plan { operations: operations.collect(), seed: 7, ..Plan::default() }
}

fn with(trouble: Trouble, lasts: Nanos) -> Plan {
    let mut plan = steady();
    plan.faults.push(Fault { id: 0, at: SECOND, lasts, trouble });
    plan
}

#[track_caller]
fn passes(plan: &Plan) -> Report {
    let report = run(plan, &mut Blind);
    assert_eq!(report.verdict, Verdict::Pass, "{plan}");
    report
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What is printed is what is read, for every scenario and for shrunk plans as well.
    #[test]
    fn text_round_trips(seed: u64, which in 0..scenarios().len(), drop in 0..40_usize) {
        let scenario = &scenarios()[which];
        let plan = Plan::generate(seed, scenario, &Options::default());
        prop_assert!(plan.check().is_ok(), "{:?}", plan.check());
        prop_assert_eq!(&plan.to_string().parse::<Plan>().unwrap(), &plan);
        let items = plan.items();
        let some: Vec<_> = items.iter().copied().skip(drop).step_by(3).collect();
        let smaller = plan.without(&some);
        prop_assert_eq!(&smaller.to_string().parse::<Plan>().unwrap(), &smaller);
        for how in Simplification::ALL {
            if let Some(simpler) = smaller.simplified(how) {
                prop_assert!(simpler.check().is_ok());
                prop_assert_eq!(&simpler.to_string().parse::<Plan>().unwrap(), &simpler);
            }
        }
    }

    /// Text that is no plan is refused with a line, never with a panic.
    #[test]
    fn bad_text_is_refused(seed: u64, cut in 0..4000_usize, junk in "[ -~]{0,12}") {
        let mut text = plan_of("swarm", seed).to_string();
        let mut at = cut.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, &junk);
        if let Err(error) = text.parse::<Plan>() {
            prop_assert!(!error.message.is_empty() && !error.message.contains('\n'));
        }
    }
}

#[test]
fn every_kind_of_fault_is_written_and_read() {
    let (some, all) = (nodes(&[1, 3]), Nodes::ALL);
    let links = Links { from: some, to: all };
    let troubles = [
        Trouble::Clog(links),
        Trouble::Client(2),
        Trouble::Crash(1, Keep::Mid),
        Trouble::Delay(links, 5),
        Trouble::DiskFull(2),
        Trouble::Drift(2, -500_000),
        Trouble::Duplicate(links, 9),
        Trouble::Freeze(3),
        Trouble::Hint(1, 2),
        Trouble::Jump(1, -3),
        Trouble::Loss(links, 1),
        Trouble::Partition(Cut::Bridge(some, nodes(&[2, 3])), 0),
        Trouble::Partition(Cut::Graph(vec![some, Nodes::default(), all]), 7 * MILLI),
        Trouble::Partition(Cut::Islands(vec![some, nodes(&[2])]), 0),
        Trouble::Partition(Cut::OneWay(links), 0),
        Trouble::Partition(Cut::Ring(vec![3, 1, 2]), 0),
        Trouble::Pause(1),
        Trouble::PowerCut(Keep::Torn),
        Trouble::Queue(links, 3),
        Trouble::Reorder(links, SECOND),
        Trouble::Rot(1),
        Trouble::Skew(1, 3_600_000_000_000),
        Trouble::SlowDisk(1, 1),
        Trouble::WriteError(3),
    ];
    for trouble in troubles {
        let plan = with(trouble, 100);
        assert_eq!(plan.to_string().parse::<Plan>().expect("it was printed"), plan);
    }
}

/// Equal hashes: alone, again, and after other runs.
#[test]
fn a_run_is_a_function_of_its_plan() {
    for scenario in scenarios() {
        let plan = Plan::generate(11, scenario, &Options::default());
        let first = run(&plan, &mut Blind);
        for seed in 0..3 {
            run(&Plan::generate(seed, scenario, &Options::default()), &mut Blind);
        }
        let reread: Plan = plan.to_string().parse().expect("it was printed");
        let second = run(&reread, &mut Story::default());
        assert_eq!(first.trace_hash, second.trace_hash, "{}", scenario.name);
        assert_eq!(first.deliveries, second.deliveries);
        assert_eq!(first.history.ops, second.history.ops);
        let other = run(&Plan { seed: plan.seed + 1, ..plan }, &mut Blind);
        assert_ne!(first.trace_hash, other.trace_hash, "{}", scenario.name);
    }
}

#[test]
fn scenarios_pass_and_exercise_what_they_say() {
    for scenario in scenarios() {
        let mut kinds = [0; FaultKind::ALL.len()];
        for seed in 0..25 {
            let report = passes(&Plan::generate(seed, scenario, &Options::default()));
            for (sum, count) in kinds.iter_mut().zip(report.faults) {
                *sum += count;
            }
        }
        let active = kinds.iter().filter(|&&count| count > 0).count();
        let least = match scenario.name {
            "swarm" => 20,
            "calm" => 0,
            "clocks" => 4,
            "free" => 3,
            _ => 5,
        };
        assert!(active >= least, "{}: {active} kinds of fault acted", scenario.name);
    }
}

/// Collects what happens.
#[derive(Default)]
struct Story {
    lines: Vec<(Nanos, EventKind, String)>,
}

impl Observer for Story {
    fn event(&mut self, event: &Event<'_>) {
        self.lines.push((event.at, event.kind, event.text.to_string()));
    }
}

/// How long each message about `k0` took, in the order of sending on each link.
fn latencies(plan: &Plan) -> Vec<(String, Nanos)> {
    let mut story = Story::default();
    run(plan, &mut story);
    let delivered = story.lines.into_iter().filter_map(|(at, kind, text)| {
        let EventKind::Deliver { sent, .. } = kind else { return None };
        let words = text.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
        text.contains("t0/k0").then_some((words, at - sent))
    });
    delivered.collect()
}

/// Keyed draws: what happens to one key does not depend on what is asked of another.
#[test]
fn removing_an_operation_leaves_other_draws_as_they_were() {
    let mut plan = steady();
    plan.operations.truncate(1);
    plan.operations.push(Operation {
        id: 1,
        client: 2,
        after: 100 * MILLI,
        act: Act::Put(K1, Vec::new()),
        ..plan.operations[0].clone()
    });
    let both = latencies(&plan);
    let one = latencies(&plan.without(&[synod_sim::plan::ItemId::Operation(1)]));
    assert!(both.len() > 10);
    assert_eq!(both[..10], one[..10]);
}

#[test]
fn calm_runs_answer_everything() {
    let report = passes(&steady());
    assert_eq!(report.operations, 100);
    assert_eq!(report.outcomes.done, 100);
    assert!(report.progress_due);
    assert!(report.deliveries > 1_000);
    assert_eq!(report.faults.iter().sum::<u64>(), 0);
}

#[test]
fn link_faults_act() {
    let links = Links { from: Nodes::ALL, to: nodes(&[1]) };
    let cases = [
        (Trouble::Clog(links), FaultKind::Clog),
        (Trouble::Delay(links, 9 * MILLI), FaultKind::Delay),
        (Trouble::Duplicate(links, 500_000), FaultKind::Duplicate),
        (Trouble::Loss(links, 500_000), FaultKind::Loss),
        (Trouble::Queue(links, 1), FaultKind::Queue),
        (Trouble::Reorder(links, 9 * MILLI), FaultKind::Reorder),
    ];
    let base = passes(&steady()).trace_hash;
    for (trouble, kind) in cases {
        let report = passes(&with(trouble, 400 * MILLI));
        assert!(report.acted(kind) > 0, "{}", kind.name());
        assert_ne!(report.trace_hash, base);
        let others = report.faults.iter().sum::<u64>() - report.acted(kind);
        assert_eq!(others, 0, "{} only", kind.name());
    }
}

#[test]
fn partitions_act_and_hit_what_is_in_flight() {
    let cuts = [
        (Cut::Bridge(nodes(&[1, 2]), nodes(&[2, 3])), FaultKind::Bridge),
        (Cut::Graph(vec![nodes(&[2]), nodes(&[3]), nodes(&[1])]), FaultKind::Graph),
        (Cut::Islands(vec![nodes(&[1, 2]), nodes(&[3])]), FaultKind::Islands),
        (Cut::OneWay(Links { from: nodes(&[1]), to: nodes(&[2, 3]) }), FaultKind::OneWay),
    ];
    for (cut, kind) in cuts {
        let report = passes(&with(Trouble::Partition(cut.clone(), 0), 400 * MILLI));
        assert!(report.acted(kind) > 0, "{}", kind.name());
        let report = passes(&with(Trouble::Partition(cut, 30 * MILLI), 400 * MILLI));
        assert!(report.acted(FaultKind::Flap) > 0);
    }
    let mut ring = with(Trouble::Partition(Cut::Ring(vec![1, 2, 3, 4]), 0), 400 * MILLI);
    ring.cluster.nodes = 4;
    ring.cluster.size = 4;
    assert!(passes(&ring).acted(FaultKind::Ring) > 0);
    // A message sent before the cut and due during it is lost.
    let mut slow = with(
        Trouble::Partition(Cut::Islands(vec![nodes(&[1]), nodes(&[2]), nodes(&[3])]), 0),
        10 * MILLI,
    );
    slow.network.latency = 20 * MILLI;
    let mut story = Story::default();
    run(&slow, &mut story);
    let sent_before = story.lines.iter().any(|(at, kind, text)| {
        matches!(kind, EventKind::Drop { .. })
            && text.starts_with("the network is cut")
            && *at < SECOND + 10 * MILLI
    });
    assert!(sent_before, "faults act at delivery");
}

#[test]
fn process_faults_act() {
    for keep in [Keep::All, Keep::Mid, Keep::None, Keep::Torn] {
        let report = passes(&with(Trouble::Crash(1, keep), 300 * MILLI));
        let crashes = report.acted(FaultKind::Crash) + report.acted(FaultKind::Torn);
        assert_eq!(crashes, 1, "{keep:?}");
    }
    let report = passes(&with(Trouble::PowerCut(Keep::None), 100 * MILLI));
    assert_eq!(report.acted(FaultKind::Crash), 3);
    let report = passes(&with(Trouble::Pause(2), 500 * MILLI));
    assert_eq!(report.acted(FaultKind::Pause), 1);
    assert!(report.outcomes.done > 50);
}

/// A node that lost its disk after it had voted counts as gone for good, and the rest goes on.
#[test]
fn lost_storage_never_votes_again() {
    for trouble in [Trouble::Wipe(2), Trouble::Rot(2)] {
        let kind = trouble.kind();
        let report = passes(&with(trouble, 100 * MILLI));
        assert_eq!(report.acted(kind), 1);
        assert!(report.marks.count(Mark::StateLost) > 0);
        assert!(report.progress_due);
    }
    let mut plan = with(Trouble::Wipe(2), MILLI);
    plan.faults.push(Fault { id: 1, trouble: Trouble::Wipe(1), ..plan.faults[0].clone() });
    let report = run(&plan, &mut Blind);
    let Verdict::Fail(failure) = report.verdict else { panic!("an impossible plan was run") };
    assert_eq!(failure.rule, "PLAN");
}

/// The largest times that a plan may name, all at once: every sum of them stays in its range.
#[test]
fn the_longest_times_add_up() {
    let far = CLOCK_MAX as i64;
    let links = Links { from: Nodes::ALL, to: Nodes::ALL };
    let troubles = [
        Trouble::Skew(1, -far),
        Trouble::Jump(1, far),
        Trouble::Jump(2, -far),
        Trouble::Drift(3, 9_000_000),
        Trouble::SlowDisk(3, TIME_MAX),
        Trouble::Reorder(links, TIME_MAX),
        Trouble::Partition(Cut::Ring(vec![1, 2, 3]), TIME_MAX),
    ];
    // Two hundred delays of one link are more than a clock can count.
    let delays = (0..200).map(|_| Trouble::Delay(links, TIME_MAX));
    let day = 86_400 * SECOND;
    let mut plan = steady();
    for operation in &mut plan.operations {
        operation.patience = TIME_MAX;
        if let Act::Put(_, ties) = &mut operation.act {
            ties.extend([Tie::Until(far), Tie::Until(-far)]);
        }
    }
    plan.operations[99].after = TIME_MAX;
    plan.faults.extend(troubles.into_iter().chain(delays).zip(0..).map(|(trouble, id)| Fault {
        id,
        at: SECOND + u64::from(id) * MILLI,
        lasts: TIME_MAX,
        trouble,
    }));
    plan.network = Network { latency: day, jitter: day, duplicate: 1_000_000, ..plan.network };
    plan.disk = Disk { latency: day, jitter: day };
    let timing = Cluster { heartbeat: day / 4, down: day, sweep: day, round: day, ..plan.cluster };
    plan.cluster = Cluster { up: day, backoff: day, backoff_max: day, ..timing };
    plan.cluster.wall_spread = CLOCK_MAX;
    plan.liveness = TIME_MAX / 1_000;
    assert_eq!(plan.check(), Ok(()));
    let report = run(&plan, &mut Blind);
    // That nothing gets done in time is as may be; that time runs backwards is not.
    if let Verdict::Fail(failure) = report.verdict {
        assert_eq!(failure.kind, FailureKind::NoProgress, "{failure}");
    }
    assert!(plan.simplified(Simplification::Shorter).is_none_or(|plan| plan.check().is_ok()));
    plan.safety = TIME_MAX;
    plan.operations.truncate(50);
    let report = run(&plan, &mut Blind);
    assert!(report.simulated >= TIME_MAX, "{}", report.simulated);
}

/// A plan that was never text is not trusted either: nothing is made of it before it is checked.
#[test]
fn a_plan_beyond_every_bound_is_unknown() {
    let wild = Cluster { wall_spread: u64::MAX, down: u64::MAX, ..steady().cluster };
    let mut plan = Plan { cluster: wild, safety: u64::MAX, ..steady() };
    for nodes in [0, 3, u16::MAX] {
        for mode in [Mode::Free, Mode::Timed] {
            plan.cluster.nodes = nodes;
            plan.mode = mode;
            let Verdict::Fail(failure) = run(&plan, &mut Blind).verdict else { panic!("it ran") };
            assert_eq!((failure.kind, failure.rule), (FailureKind::Unknown, "PLAN"));
        }
    }
}

#[test]
fn disk_faults_act() {
    let report = passes(&with(Trouble::SlowDisk(1, 20 * MILLI), 300 * MILLI));
    assert!(report.acted(FaultKind::SlowDisk) > 0);
    let report = passes(&with(Trouble::WriteError(1), 300 * MILLI));
    assert_eq!(report.acted(FaultKind::WriteError), 1);
    let report = passes(&with(Trouble::DiskFull(1), 300 * MILLI));
    assert_eq!(report.acted(FaultKind::DiskFull), 1);
}

/// Un-synced writes are lost in crashes, torn ones cut off, durable ones kept though nobody was
/// told: each somewhere among crashes in the middle of writes.
#[test]
fn crashes_find_writes_on_their_way() {
    let mut marks = synod_sim::marks::Marks::default();
    for seed in 0..60 {
        let mut plan = steady();
        plan.seed = seed;
        plan.disk.latency = 2 * MILLI;
        for id in 0..10 {
            let at = 300 * MILLI + u64::from(id) * 170 * MILLI;
            let node = (id % 3 + 1) as u16;
            let trouble = Trouble::Crash(node, Keep::Mid);
            plan.faults.push(Fault { id, at, lasts: 60 * MILLI, trouble });
        }
        marks.add(&passes(&plan).marks);
    }
    for mark in [Mark::TornTail, Mark::PromiseUnsynced, Mark::VoteUnsynced, Mark::DurableUnsaid] {
        assert!(marks.count(mark) > 0, "{}", mark.name());
    }
}

#[test]
fn clock_faults_act() {
    let cases = [
        (Trouble::Drift(1, 800_000), FaultKind::Drift),
        (Trouble::Freeze(1), FaultKind::Freeze),
        (Trouble::Jump(1, -3_600 * SECOND as i64), FaultKind::Jump),
        (Trouble::Skew(1, 3_600 * SECOND as i64), FaultKind::Skew),
    ];
    for (trouble, kind) in cases {
        let report = passes(&with(trouble, 500 * MILLI));
        assert_eq!(report.acted(kind), 1, "{}", kind.name());
    }
    let report = passes(&with(Trouble::Hint(1, 2), 100 * MILLI));
    assert_eq!(report.acted(FaultKind::Hint), 1);
}

/// One fast clock among three erases nothing; two of them do.
#[test]
fn a_deadline_is_a_majoritys() {
    let erased = |fast: &[u16]| {
        let mut plan = steady();
        plan.operations.truncate(1);
        plan.operations[0].act = Act::Put(K0, vec![Tie::Until(3_000 * SECOND as i64)]);
        for &node in fast {
            let trouble = Trouble::Jump(node, 4_000 * SECOND as i64);
            let id = u32::from(node);
            plan.faults.push(Fault { id, at: SECOND, lasts: SECOND, trouble });
        }
        passes(&plan).marks.count(Mark::ErasedDeadline)
    };
    assert_eq!(erased(&[1]), 0);
    assert_eq!(erased(&[1, 2]), 1);
}

/// A client's death ends its session, and with it what is bound to it.
#[test]
fn clients_die_and_their_entries_with_them() {
    let mut plan = steady();
    plan.operations.truncate(2);
    plan.operations[0].act = Act::OpenSession;
    plan.operations[0].after = 400 * MILLI;
    plan.operations[1].act = Act::Put(K0, vec![Tie::Session]);
    plan.faults.push(Fault { id: 0, at: SECOND, lasts: 300 * MILLI, trouble: Trouble::Client(1) });
    let report = passes(&plan);
    assert_eq!(report.acted(FaultKind::Client), 1);
    assert_eq!(report.marks.count(Mark::ErasedSession), 1);
}

/// A check of progress that cannot fail is none: no cluster settles in no time.
#[test]
fn no_progress_is_a_failure() {
    let mut plan = steady();
    plan.safety = 10 * MILLI;
    plan.liveness = MILLI;
    let Verdict::Fail(failure) = run(&plan, &mut Blind).verdict else { panic!("it passed") };
    assert_eq!(failure.kind, FailureKind::NoProgress);
}

/// Choices recorded in free mode replay from the plan's own list.
#[test]
fn free_runs_replay() {
    for seed in 0..20 {
        let plan = Plan { choices: Vec::new(), ..plan_of("free", seed) };
        assert_eq!(plan.mode, Mode::Free);
        let mut seeded = Limited { inner: Seeded::new(seed), left: 400 };
        let mut recording = Recording::new(&mut seeded);
        let first = run_free(&plan, &mut recording, &mut Blind);
        let choices = recording.into_choices();
        assert!(choices.len() > 100);
        let replay = run(&Plan { choices, ..plan }, &mut Blind);
        assert_eq!(first.trace_hash, replay.trace_hash, "seed {seed}");
        assert_eq!(first.verdict, Verdict::Pass, "seed {seed}");
    }
}

/// Random choices, then none.
struct Limited {
    inner: Seeded,
    left: usize,
}

impl synod_sim::chooser::Chooser for Limited {
    fn choose(&mut self, n: usize) -> usize {
        if self.left == 0 {
            return 0;
        }
        self.left -= 1;
        // Mostly one of the oldest: a message that never arrives moves nothing.
        let most = if self.inner.choose(4) == 0 { n } else { n.min(3) };
        self.inner.choose(most)
    }

    fn is_exhausted(&self) -> bool {
        self.left == 0
    }
}

#[test]
fn any_bytes_are_a_free_run() {
    let plan = Plan { choices: Vec::new(), ..plan_of("free", 3) };
    for pattern in 0..40_u32 {
        let bytes: Vec<u8> = (0..400).map(|n: u32| ((n * (pattern * 2 + 1)) >> 2) as u8).collect();
        let report = run_free(&plan, &mut Bytes::new(&bytes), &mut Blind);
        assert_eq!(report.verdict, Verdict::Pass, "pattern {pattern}");
    }
}

/// Two clients write one key at two of three nodes, two operations each.
fn tiny() -> Plan {
    let operation = |id: u32, client: u16, act: Act| Operation {
        id,
        client,
        after: 0,
        node: client,
        patience: SECOND,
        again: 0,
        persistent: true,
        act,
    };
    Plan {
        scenario: "free".to_owned(),
        mode: Mode::Free,
        keys: 1,
        clients: 2,
        cluster: Cluster { witnessed: false, ..Plan::default().cluster },
        disk: Disk { latency: 0, jitter: MICRO },
        operations: vec![
            operation(0, 1, Act::PutIfAbsent(K0, Vec::new())),
            operation(1, 2, Act::Put(K0, Vec::new())),
            operation(2, 1, Act::Remove(K0, false)),
            operation(3, 2, Act::Get(K0)),
        ],
        ..Plan::default()
    }
}

fn enumerate(depth: usize, calm: usize, runs_max: usize) -> usize {
    let plan = tiny();
    let mut every = Exhaustive::new(depth);
    let mut hashes = std::collections::BTreeSet::new();
    for _ in 0..runs_max {
        let report = run_free(&plan, &mut Later::new(&mut every, calm), &mut Blind);
        assert_eq!(report.verdict, Verdict::Pass, "{:?}", every.choices().collect::<Vec<_>>());
        hashes.insert(report.trace_hash);
        if !every.advance() {
            break;
        }
    }
    hashes.len()
}

/// Every order of the first two steps after the clients have begun, and what follows of them.
#[test]
fn a_tiny_scope_is_enumerated() {
    let orders = enumerate(2, 24, 2_000);
    assert!(orders > 50, "{orders} different runs");
}

/// As above with more steps; minutes of work, so only when asked for.
#[test]
#[ignore = "takes minutes"]
fn a_tiny_scope_is_enumerated_deeper() {
    for calm in [12, 24, 36, 48] {
        assert!(enumerate(4, calm, usize::MAX) > 1_000);
    }
}
