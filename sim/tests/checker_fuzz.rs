//! The checker against the oracle that tries everything, on random small histories.
//!
//! `SYNOD_CHECKER_FUZZ=100000` says how many; the seeds are always the same ones, from
//! `SYNOD_CHECKER_SEED` on.

use synod_sim::checker::{Judge, Options, Verdict, brute, check_witness};
use synod_sim::history::generate::{Dice, Kind, Recipe, make};
use synod_sim::history::{Action, History, MarkKind, NEVER, Outcome, Seen, Value, jsonl};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn recipe(seed: u64) -> Recipe {
    let mut dice = Dice::new(seed ^ 0xabcd_ef01);
    let kind = Kind::ALL[dice.below(7) as usize].1;
    let register = matches!(kind, Kind::Casu | Kind::Regs | Kind::Regu);
    Recipe {
        kind,
        ops: 3 + dice.below(16),
        clients: 2 + dice.below(5) as u32,
        keys: if register { 1 } else { 1 + dice.below(3) as u32 },
        unknown: [0.0, 0.1, 0.3][dice.below(3) as usize],
        plant: None,
        seed,
    }
}

/// A value somebody wrote in this history, or one nobody did.
fn some_value(history: &History, dice: &mut Dice) -> Value {
    let values: Vec<Value> = history.ops.iter().filter_map(|op| op.action.value()).collect();
    if values.is_empty() || dice.below(12) == 0 {
        return 3;
    }
    values[dice.below(values.len() as u64) as usize]
}

fn mutate(history: &mut History, dice: &mut Dice) {
    let index = dice.below(history.ops.len() as u64) as usize;
    let value = some_value(history, dice);
    let maybe = if dice.below(4) == 0 { None } else { Some(value) };
    let seen = match dice.below(4) {
        0 => Seen::Absent,
        1 => Seen::Present,
        2 => Seen::Nothing,
        _ => Seen::Value(value),
    };
    if dice.below(10) == 0 && !history.marks.is_empty() {
        let mark = dice.below(history.marks.len() as u64) as usize;
        match dice.below(3) {
            0 => {
                history.marks.remove(mark);
            }
            1 => history.marks[mark].time = 1 + dice.below(40),
            _ => history.marks[mark].kind = MarkKind::Gone,
        }
        return;
    }
    let op = &mut history.ops[index];
    match dice.below(8) {
        0 => {
            op.ret = NEVER;
            op.outcome = Outcome::Unknown;
        }
        1 if op.ret != NEVER => op.ret = op.call + 1 + dice.below(op.ret - op.call),
        2 if op.ret != NEVER => op.ret += dice.below(20),
        3 => op.call = op.call.saturating_sub(dice.below(12)),
        4 => {
            if let Action::CompareAndSet { value, .. } = op.action {
                op.action = Action::CompareAndSet { expect: maybe, value };
            }
        }
        _ if op.ret == NEVER => {}
        _ => {
            op.outcome = match (op.action, op.outcome) {
                (Action::Get, _) => Outcome::Read(maybe),
                (Action::Exists, _) => Outcome::Exists(dice.below(2) == 0),
                (Action::CompareAndSet { .. } | Action::PutIfAbsent { .. }, Outcome::Done(_)) => {
                    Outcome::Refused(seen)
                }
                (Action::Put { .. } | Action::PutIfAbsent { .. }, _) if dice.below(6) == 0 => {
                    Outcome::InvalidBinding
                }
                _ => Outcome::Done(seen),
            };
        }
    }
    history.ops.sort_by_key(|op| op.call);
}

fn show(history: &History) -> String {
    let mut text = Vec::new();
    jsonl::write_history(&mut text, history).expect("memory takes everything");
    String::from_utf8(text).expect("JSON is text")
}

#[test]
fn agrees_with_trying_everything() {
    let count = number("SYNOD_CHECKER_FUZZ", 4000);
    let first = number("SYNOD_CHECKER_SEED", 0);
    let options = Options { budget: 300_000 };
    let mut judge = Judge::new();
    let (mut legal, mut illegal, mut skipped, mut unknown) = (0_u64, 0_u64, 0_u64, 0_u64);
    for seed in first..first + count {
        let mut history = make(&recipe(seed)).expect("nothing to plant");
        let mut dice = Dice::new(seed);
        for _ in 0..dice.below(4) {
            mutate(&mut history, &mut dice);
        }
        let Some(expected) = brute::is_linearizable(&history, 300_000) else {
            skipped += 1;
            continue;
        };
        match judge.check(&history, &options) {
            Verdict::Linearizable(witness) => {
                assert!(expected, "seed {seed}: called linearizable\n{}", show(&history));
                assert_eq!(check_witness(&history, &witness), Ok(()), "{}", show(&history));
                legal += 1;
            }
            Verdict::NotLinearizable { .. } => {
                assert!(!expected, "seed {seed}: called illegal\n{}", show(&history));
                illegal += 1;
            }
            Verdict::Unknown { .. } => unknown += 1,
        }
    }
    println!(
        "{legal} legal, {illegal} illegal, {unknown} unknown, {skipped} too hard for the oracle"
    );
    assert!(legal > count / 10 && illegal > count / 10, "both verdicts must be exercised");
    assert!(skipped + unknown < count / 50, "{skipped} skipped, {unknown} unknown of {count}");
}
