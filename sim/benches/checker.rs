//! How long verdicts take: `cargo bench -p synod-sim --bench checker`.
//!
//! Histories are made in memory first; only the judging is timed, best and median of several.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use synod_sim::checker::{Checker, Judge, Options, Verdict};
use synod_sim::history::generate::{Kind, Plant, Recipe, make};
use synod_sim::history::{Model, NEVER};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let many = [Kind::Kv, Kind::Erase, Kind::Once].map(|kind| (kind, 10_000));
    let hot = [(Kind::Regu, 1)];
    for (kind, keys) in many.into_iter().chain(hot) {
        for (unknown, bad) in [(0.0, false), (0.01, false), (0.01, true)] {
            let plant = match kind {
                Kind::Once => Plant::Absent,
                Kind::Bound | Kind::Casu | Kind::Erase | Kind::Kv | Kind::Regs | Kind::Regu => {
                    Plant::StaleRead
                }
            };
            let recipe = Recipe {
                kind,
                ops: 1_000_000,
                clients: 100,
                keys,
                unknown,
                plant: bad.then_some(plant),
                seed: 1,
            };
            let history = make(&recipe).expect("a place for the violation");
            let mut judge = Judge::new();
            let mut times: Vec<Duration> = Vec::new();
            for _ in 0..5 {
                let started = Instant::now();
                let verdict = judge.check(&history, &Options::default());
                times.push(started.elapsed());
                assert_eq!(matches!(verdict, Verdict::Linearizable(_)), !bad, "{recipe:?}");
            }
            times.sort_unstable();
            writeln!(
                out,
                "{kind:?}\t{keys} keys\tunknown {unknown}\t{}\tbest {:.0?}\tmedian {:.0?}",
                if bad { "violation" } else { "legal" },
                times[0],
                times[2]
            )?;
        }
    }
    small(&mut out)?;
    online(&mut out)
}

/// What the online checker adds to each event of a run.
fn online(out: &mut dyn Write) -> io::Result<()> {
    let recipe = Recipe {
        kind: Kind::Kv,
        ops: 100_000,
        clients: 10,
        keys: 1000,
        unknown: 0.01,
        plant: None,
        seed: 1,
    };
    let history = make(&recipe).expect("nothing to plant");
    let mut events: Vec<(u64, usize, bool)> = Vec::new();
    for (index, op) in history.ops.iter().enumerate() {
        events.push((op.call, index, false));
        if op.ret != NEVER {
            events.push((op.ret, index, true));
        }
    }
    events.sort_unstable();
    let mut checker = Checker::new(Model::Kv, Options::default());
    let mut numbers = vec![0; history.ops.len()];
    let started = Instant::now();
    for &(time, index, is_return) in &events {
        let op = history.ops[index];
        if is_return {
            checker.complete(numbers[index], op.outcome, time).expect("a legal history");
        } else {
            numbers[index] = checker.invoke(op.client, op.key, op.action, op.binds, time);
        }
    }
    let fed = started.elapsed();
    let Verdict::Linearizable(witness) = checker.finish() else { panic!("a legal history") };
    let finished = started.elapsed() - fed;
    for (key, order) in &witness.keys {
        for (place, step) in order.iter().enumerate() {
            checker.claim(*key, place as u64, *step);
        }
    }
    let started = Instant::now();
    assert!(matches!(checker.finish(), Verdict::Linearizable(_)));
    let claimed = started.elapsed();
    let count = events.len() as f64;
    let per = |time: Duration| time.as_secs_f64() * 1e9 / count;
    writeln!(
        out,
        "online, a nanosecond count an event\tfed {:.0}\tfinish by search {:.0}\tfinish by claims \
         {:.0}",
        per(fed),
        per(finished),
        per(claimed)
    )
}

/// What one run of the simulator costs: a hundred operations, judged again and again.
fn small(out: &mut dyn Write) -> io::Result<()> {
    let mut judge = Judge::new();
    let mut total = Duration::ZERO;
    let mut slowest = Duration::ZERO;
    const RUNS: u32 = 2000;
    for seed in 0..u64::from(RUNS) {
        let recipe = Recipe {
            kind: Kind::Bound,
            ops: 100,
            clients: 5,
            keys: 5,
            unknown: 0.02,
            plant: None,
            seed,
        };
        let history = make(&recipe).expect("nothing to plant");
        let started = Instant::now();
        let verdict = judge.check(&history, &Options::default());
        let taken = started.elapsed();
        assert!(matches!(verdict, Verdict::Linearizable(_)), "{recipe:?}: {verdict:?}");
        total += taken;
        slowest = slowest.max(taken);
    }
    writeln!(out, "100 operations on 5 bound keys\tmean {:.1?}\tworst {slowest:.1?}", total / RUNS)
}
