//! The checker from outside: formats, verdicts, explanations, witnesses, the online way in.

use proptest::prelude::*;
use synod_sim::checker::{
    Checker, Judge, Move, Options, Verdict, WitnessError, brute, check, check_claims, check_witness,
};
use synod_sim::history::generate::{Dice, Kind, Plant, Recipe, make};
use synod_sim::history::{
    Action, Binding, Binds, History, MarkKind, Model, NEVER, Outcome, Seen, edn, jepsen, jsonl,
};

fn read(text: &str) -> History {
    read_all(text).swap_remove(0)
}

fn read_all(text: &str) -> Vec<History> {
    let mut reader = jsonl::Reader::new(text.as_bytes(), "test", None);
    let mut histories = Vec::new();
    while let Some(history) = reader.next_history().unwrap_or_else(|error| panic!("{error}")) {
        histories.push(history);
    }
    histories
}

fn refusal(text: &str) -> String {
    let mut reader = jsonl::Reader::new(text.as_bytes(), "test", None);
    loop {
        match reader.next_history() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("was understood"),
            Err(error) => return error.to_string(),
        }
    }
}

fn write(history: &History) -> String {
    let mut text = Vec::new();
    jsonl::write_history(&mut text, history).expect("memory takes everything");
    String::from_utf8(text).expect("JSON is text")
}

fn is_legal(history: &History) -> bool {
    match check(history, &Options::default()) {
        Verdict::Linearizable(witness) => {
            assert_eq!(check_witness(history, &witness), Ok(()));
            true
        }
        Verdict::NotLinearizable { .. } => false,
        Verdict::Unknown { .. } => panic!("undecided: {}", write(history)),
    }
}

const STALE: &str = r#"{"h":1,"kind":"kv"}
{"i":0,"c":0,"k":0,"f":"put","a":101,"r":true,"s":1,"e":2}
{"i":1,"c":1,"k":0,"f":"put","a":102,"r":true,"s":3,"e":4}
{"i":2,"c":0,"k":0,"f":"get","r":101,"s":5,"e":6}
"#;

#[test]
fn a_stale_read_is_explained_by_itself_and_the_two_writes() {
    let explanation = Judge::new().explain(&read(STALE), &Options::default()).expect("illegal");
    assert_eq!(explanation.ops, [0, 1, 2]);
    assert_eq!(
        explanation.reason,
        "get#2 saw 101 at 6, but put#1 showed 102 and was answered at 4, and nothing wrote 101 \
         after"
    );
}

#[test]
fn an_unknown_write_may_happen_late_or_never() {
    let text = r#"{"h":1,"kind":"kv"}
{"k":0,"f":"put","a":101,"s":1,"e":null}
{"k":0,"f":"get","r":null,"s":2,"e":3}
{"k":0,"f":"get","r":101,"s":4,"e":5}
"#;
    assert!(is_legal(&read(text)));
    let back = text.to_owned() + r#"{"k":0,"f":"get","r":null,"s":6,"e":7}"#;
    assert!(!is_legal(&read(&back)));
}

#[test]
fn an_entry_vanishes_only_once_its_binding_is_down() {
    let with = |down: u32| {
        let text = format!(
            r#"{{"h":1,"kind":"erase"}}
{{"k":0,"f":"put","a":101,"b":7,"r":true,"s":1,"e":2}}
{{"k":0,"f":"get","r":null,"s":4,"e":6}}
{{"f":"down","b":7,"s":{down}}}
"#
        );
        is_legal(&read(&text))
    };
    assert!(with(3));
    assert!(with(5));
    assert!(!with(7));
}

#[test]
fn an_entry_must_be_gone_by_its_deadline() {
    let with = |read_at: u32| {
        let text = format!(
            r#"{{"h":1,"kind":"erase"}}
{{"k":0,"f":"put","a":101,"b":7,"r":true,"s":1,"e":2}}
{{"f":"down","b":7,"s":3}}
{{"f":"gone","b":7,"s":10}}
{{"k":0,"f":"get","r":101,"s":{read_at},"e":20}}
"#
        );
        is_legal(&read(&text))
    };
    assert!(with(9));
    assert!(!with(11));
}

#[test]
fn lives_end_in_a_cascade() {
    // 2 is bound to 1's life, 1 to 0's; 0 is removed between 7 and 8.
    let with = |at: u32| {
        let text = format!(
            r#"{{"h":1,"kind":"bound"}}
{{"k":0,"f":"put","a":100,"r":true,"s":1,"e":2}}
{{"k":1,"f":"put","a":101,"b":[[0,100]],"r":true,"s":3,"e":4}}
{{"k":2,"f":"put","a":102,"b":[[1,101]],"r":true,"s":5,"e":6}}
{{"k":0,"f":"remove","r":true,"s":17,"e":18}}
{{"k":2,"f":"get","r":null,"s":8,"e":{at}}}
"#
        );
        is_legal(&read(&text))
    };
    assert!(!with(16));
    assert!(with(19));
}

#[test]
fn a_refused_binding_leaves_nothing_behind() {
    let with = |last: &str| {
        let text = format!(
            r#"{{"h":1,"kind":"bound"}}
{{"f":"down","b":7,"s":1}}
{{"k":0,"f":"put","a":101,"b":7,"r":"invalid_binding","s":2,"e":5}}
{{"k":0,"f":"get","r":101,"s":3,"e":4}}
{{"k":0,"f":"get","r":{last},"s":6,"e":7}}
"#
        );
        is_legal(&read(&text))
    };
    assert!(with("null"));
    assert!(!with("101"));
}

#[test]
fn the_other_formats_are_understood() {
    let log = "INFO  jepsen.util - 0\t:invoke\t:write\t1\nINFO  jepsen.util - 0\t:ok\t:write\t1\n\
               INFO  jepsen.util - 1\t:invoke\t:cas\t[1 2]\nINFO  jepsen.util - 1\t:fail\t:cas\t[1 2]\n";
    let history = jepsen::read(log.as_bytes(), "log", None).expect("a log");
    assert_eq!(history.ops.len(), 2);
    assert!(!is_legal(&history), "nothing else can have been in the register");
    let text = "{:process 0, :type :invoke, :f :append, :key \"a\", :value \"x\"}\n\
                {:process 0, :type :ok, :f :append, :key \"a\", :value \"x\"}\n\
                {:process 1, :type :invoke, :f :get, :key \"a\", :value nil}\n\
                {:process 1, :type :ok, :f :get, :key \"a\", :value \"GOT\"}\n";
    let good = edn::read(text.replace("GOT", "x").as_bytes(), "txt", None).expect("EDN");
    assert!(is_legal(&good));
    let bad = edn::read(text.replace("GOT", "").as_bytes(), "txt", None).expect("EDN");
    assert!(!is_legal(&bad));
}

#[test]
fn bad_input_is_refused_with_its_place() {
    for (text, wanted) in [
        ("{\"h\":1,\"kind\":\"nonsense\"}", "test:1: unknown kind \"nonsense\""),
        ("{\"h\":1}\n{\"k\":0,\"f\":\"get\",\"s\":5,\"e\":4,\"r\":null}", "test:2: the operation"),
        ("{\"k\":0,\"f\":\"frob\",\"s\":5,\"e\":null}", "test:1: unknown operation \"frob\""),
        ("{\"k\":0,\"f\":\"put\",\"s\":5,\"e\":null}", "test:1: put needs field \"a\""),
        ("{\"k\":0,\"f\":\"get\",\"s\":5,\"e\":", "test:1: the line ends too early"),
        ("{\"k\":-1,\"f\":\"get\",\"s\":5,\"e\":null}", "test:1: field \"k\" must be"),
        ("\n\n[1]", "test:3: expected '{'"),
    ] {
        let got = refusal(text);
        assert!(got.starts_with(wanted), "{text}: {got}");
    }
}

/// Part of a history is not a history: what is missing could have been the violation.
#[test]
fn what_was_cut_off_is_not_judged() {
    let get =
        |i: u32| format!("{{\"i\":{i},\"k\":0,\"f\":\"get\",\"s\":{i},\"e\":9,\"r\":null}}\n");
    let header = "{\"h\":1,\"ops\":2}\n";
    assert_eq!(read(&format!("{header}{}{}", get(1), get(2))).ops.len(), 2);
    let short = refusal(&format!("{header}{}", get(1)));
    assert!(
        short.starts_with("test:2: the header announces 2 operations, and 1 and 0 marks"),
        "{short}"
    );
    let long = refusal(&format!("{header}{}{}{}{header}", get(1), get(2), get(3)));
    assert!(long.contains("and 3 and 0 marks follow"), "{long}");
    let twice = refusal(&format!("{}{}{}", get(2), get(1), get(2)));
    assert!(twice.starts_with("test:3: operation 2 is there twice"), "{twice}");
    assert!(refusal("{\"h\":1,\"ops\":-1}").contains("\"ops\" must not be negative"));
    let log = "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:read\t12\n";
    assert_eq!(jepsen::read(log.as_bytes(), "test", None).expect("a log").ops.len(), 1);
    for (cut, wanted) in
        [(1, "test:2: the line does not end"), (2, "test:2: the line does not end")]
    {
        let log = &log.as_bytes()[..log.len() - cut];
        let refused = jepsen::read(log, "test", None).expect_err("cut off").to_string();
        assert!(refused.starts_with(wanted), "{refused}");
    }
    let halved = "INFO  jepsen.util - 0\t:invoke\n";
    let refused = jepsen::read(halved.as_bytes(), "test", None).expect_err("halved").to_string();
    assert!(refused.starts_with("test:1: process 0 does what?"), "{refused}");
}

proptest! {
    #[test]
    fn no_input_makes_the_reader_panic(cut in 0_usize..260, byte: u8, at in 0_usize..260) {
        let mut bytes = STALE.as_bytes().to_vec();
        bytes.truncate(cut);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let mut reader = jsonl::Reader::new(bytes.as_slice(), "test", None);
        while let Ok(Some(history)) = reader.next_history() {
            let _ = check(&history, &Options { budget: 10_000 });
        }
        let _ = jepsen::read(bytes.as_slice(), "test", None);
        let _ = edn::read(bytes.as_slice(), "test", None);
    }

    #[test]
    fn what_is_written_is_read_back(seed: u64, kind in 0_usize..7) {
        let kind = Kind::ALL[kind].1;
        let keys = if matches!(kind, Kind::Casu | Kind::Regs | Kind::Regu) { 1 } else { 3 };
        let recipe =
            Recipe { kind, ops: 40, clients: 5, keys, unknown: 0.1, plant: None, seed };
        let history = make(&recipe).expect("nothing to plant");
        let text = write(&history);
        let back = read(&text);
        prop_assert_eq!(write(&back), text);
        prop_assert_eq!(back.ops.len(), 40);
    }
}

#[test]
fn made_histories_are_what_they_claim() {
    let mut judge = Judge::new();
    let options = Options::default();
    let mut planted = 0;
    for (_, kind) in Kind::ALL {
        let register = matches!(kind, Kind::Casu | Kind::Regs | Kind::Regu);
        for seed in 0..6 {
            let recipe = Recipe {
                kind,
                ops: if kind == Kind::Bound { 200 } else { 1500 },
                clients: 8,
                keys: if register { 1 } else { 6 },
                unknown: if kind == Kind::Regs { 0.0 } else { 0.01 },
                plant: None,
                seed,
            };
            let history = make(&recipe).expect("nothing to plant");
            let verdict = judge.check(&history, &options);
            assert!(matches!(verdict, Verdict::Linearizable(_)), "{recipe:?}: {verdict:?}");
            for (_, plant) in Plant::ALL {
                if !plant.fits(kind) {
                    continue;
                }
                let recipe = Recipe { plant: Some(plant), ..recipe };
                let Some(history) = make(&recipe) else { continue };
                planted += 1;
                let verdict = judge.check(&history, &options);
                assert!(matches!(verdict, Verdict::NotLinearizable { .. }), "{recipe:?}");
            }
        }
    }
    // Only the short histories of bound keys may have no place for one.
    assert!(planted > 130, "only {planted} violations were planted");
}

#[test]
fn lives_of_several_keys_are_reconciled() {
    let mut judge = Judge::new();
    // Among these are histories that need the joint search, and several ends at once.
    for seed in 1200..1300 {
        let recipe = Recipe {
            kind: Kind::Bound,
            ops: 100,
            clients: 3 + (seed % 5) as u32,
            keys: 1 + (seed % 3) as u32,
            unknown: 0.05,
            plant: None,
            seed,
        };
        let history = make(&recipe).expect("nothing to plant");
        let verdict = judge.check(&history, &Options::default());
        assert!(matches!(verdict, Verdict::Linearizable(_)), "{recipe:?}: {verdict:?}");
    }
}

/// The history with one answer forgotten.
fn weaken(history: &History, index: usize) -> History {
    let mut weaker = history.clone();
    let op = weaker.ops[index];
    if op.action.is_read() || matches!(op.outcome, Outcome::Refused(_)) {
        weaker.ops.remove(index);
    } else {
        weaker.ops[index].outcome = Outcome::Unknown;
        weaker.ops[index].ret = NEVER;
    }
    weaker
}

#[test]
fn explanations_are_illegal_and_one_minimal() {
    let mut judge = Judge::new();
    let options = Options { budget: 300_000 };
    let (mut explained, mut sizes) = (0, Vec::new());
    for seed in 0..600 {
        let kind = Kind::ALL[(seed % 7) as usize].1;
        let recipe = Recipe { kind, ops: 14, clients: 3, keys: 1, unknown: 0.1, plant: None, seed };
        let mut history = make(&recipe).expect("nothing to plant");
        let mut dice = Dice::new(seed);
        for op in &mut history.ops {
            if op.action == Action::Get && op.ret != NEVER && dice.below(3) == 0 {
                op.outcome = Outcome::Read(Some(101 + dice.below(6)));
            }
        }
        let Some(explanation) = judge.explain(&history, &options) else { continue };
        let core = &explanation.core;
        assert_eq!(brute::is_linearizable(core, 300_000), Some(false), "{}", write(core));
        assert!(explanation.minimal);
        for index in 0..core.ops.len() {
            if core.ops[index].outcome != Outcome::Unknown {
                let weaker = weaken(core, index);
                assert_eq!(
                    brute::is_linearizable(&weaker, 300_000),
                    Some(true),
                    "without {}: {}",
                    core.ops[index].id,
                    write(core)
                );
            }
        }
        for index in 0..core.marks.len() {
            if core.marks[index].kind == MarkKind::Gone {
                let mut weaker = core.clone();
                weaker.marks.remove(index);
                assert_eq!(brute::is_linearizable(&weaker, 300_000), Some(true));
            }
        }
        explained += 1;
        sizes.push(explanation.lines.len());
    }
    sizes.sort_unstable();
    assert!(explained > 150, "only {explained} histories were illegal");
    assert!(sizes[sizes.len() / 2] <= 3, "the median explanation has {}", sizes[sizes.len() / 2]);
}

#[test]
fn a_wrong_order_is_no_witness() {
    let mut history = read(STALE);
    let claims = [(0, 0, Move::Op(0)), (0, 1, Move::Op(2)), (0, 2, Move::Op(1))];
    assert_eq!(check_claims(&history, &claims), Err(WitnessError::TooLate(1)));
    let claims = [(0, 0, Move::Op(0)), (0, 1, Move::Op(1)), (0, 2, Move::Op(2))];
    assert_eq!(check_claims(&history, &claims), Err(WitnessError::Wrong(2)));
    history.ops[2].outcome = Outcome::Read(Some(102));
    assert!(check_claims(&history, &claims).is_ok());
    assert_eq!(check_claims(&history, &claims[..2]), Err(WitnessError::Missing(2)));
    let claims = [(0, 0, Move::Op(0)), (0, 1, Move::Erase), (0, 2, Move::Op(1))];
    assert_eq!(
        check_claims(&history, &claims),
        Err(WitnessError::NotErasable { key: 0, place: 1 })
    );
}

#[test]
fn the_online_checker_stops_at_the_stale_read() {
    let mut checker = Checker::new(Model::Kv, Options::default());
    for _ in 0..2 {
        checker.reset();
        let binds = checker.bind(&[Binding::Thing(1)]);
        let first = checker.invoke(0, 0, Action::Put { value: 1 }, binds, 1);
        assert_eq!(checker.complete(first, Outcome::Done(Seen::Nothing), 2), Ok(()));
        let second = checker.invoke(0, 0, Action::Put { value: 2 }, Binds::NONE, 3);
        assert_eq!(checker.complete(second, Outcome::Done(Seen::Nothing), 4), Ok(()));
        let failed = checker.invoke(0, 0, Action::Put { value: 3 }, Binds::NONE, 5);
        checker.fail(failed);
        let read = checker.invoke(1, 0, Action::Get, Binds::NONE, 6);
        let verdict = checker.complete(read, Outcome::Read(Some(1)), 7);
        assert!(matches!(verdict, Err(Verdict::NotLinearizable { key: 0, .. })), "{verdict:?}");
        assert_eq!(checker.explain().expect("illegal").ops, [0, 1, 3]);
    }
}

#[test]
fn the_online_checker_agrees_with_the_judge_and_takes_claims() {
    let mut checker = Checker::new(Model::Kv, Options::default());
    let mut judge = Judge::new();
    let mut early = 0;
    for seed in 0..300 {
        let plant = [None, Some(Plant::StaleRead), Some(Plant::LostUpdate)][seed as usize % 3];
        let recipe =
            Recipe { kind: Kind::Kv, ops: 120, clients: 5, keys: 3, unknown: 0.02, plant, seed };
        let Some(history) = make(&recipe) else { continue };
        let mut events: Vec<(u64, usize, bool)> = Vec::new();
        for (index, op) in history.ops.iter().enumerate() {
            events.push((op.call, index, false));
            if op.ret != NEVER {
                events.push((op.ret, index, true));
            }
        }
        events.sort_unstable();
        checker.reset();
        let mut stopped = false;
        let mut numbers = vec![0; history.ops.len()];
        for (time, index, is_return) in events {
            let op = history.ops[index];
            if !is_return {
                numbers[index] = checker.invoke(op.client, op.key, op.action, op.binds, time);
            } else if checker.complete(numbers[index], op.outcome, time).is_err() {
                stopped = true;
                break;
            }
        }
        let legal = matches!(judge.check(&history, &Options::default()), Verdict::Linearizable(_));
        assert_eq!(legal, plant.is_none());
        if stopped {
            assert!(!legal, "seed {seed} was stopped without reason");
            early += 1;
            continue;
        }
        let verdict = checker.finish();
        assert_eq!(matches!(verdict, Verdict::Linearizable(_)), legal, "seed {seed}");
        if let Verdict::Linearizable(witness) = verdict {
            for (key, order) in &witness.keys {
                for (place, step) in order.iter().enumerate() {
                    checker.claim(*key, place as u64, *step);
                }
            }
            assert_eq!(checker.finish(), Verdict::Linearizable(witness));
        }
    }
    assert!(early > 100, "only {early} violations stopped the run at once");
}

#[test]
fn a_spent_budget_is_unknown_and_says_where() {
    let recipe = Recipe {
        kind: Kind::Casu,
        ops: 300,
        clients: 20,
        keys: 1,
        unknown: 0.0,
        plant: None,
        seed: 1,
    };
    let history = make(&recipe).expect("nothing to plant");
    match check(&history, &Options { budget: 100 }) {
        Verdict::Unknown { key: 0, window: (from, to), budget: 100, .. } => assert!(from <= to),
        verdict @ (Verdict::Linearizable(_)
        | Verdict::NotLinearizable { .. }
        | Verdict::Unknown { .. }) => panic!("{verdict:?}"),
    }
}
