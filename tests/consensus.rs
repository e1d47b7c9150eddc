//! What a consensus table promises, seen through the public seam.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use support::{
    Cluster, Fate, NO_QUORUM, compare_and_set, config, fence, get, get_local, lives, lost, ms, put,
    put_if_absent, remove, value, won,
};
use synod::{
    ClientId, Command, Config, Expect, Key, Node, NodeId, OnNoQuorum, Outcome, Previous, ReadLevel,
    Refusal, RequestId, Sent, TableConfig, TableId, Value,
};

/// P-01: no node is special. Whichever of three is killed, the two others decide the next key in
/// the time that two rounds of messages take, without waiting for anybody to be elected.
#[test]
fn killing_any_node_delays_nobody() {
    for killed in 1..=3 {
        let mut cluster = Cluster::new(3);
        cluster.crash(killed);
        for node in (1..=3).filter(|node| *node != killed) {
            let before = cluster.now;
            let asked = cluster.ask(node, put_if_absent(&format!("k{node}"), "v", vec![]));
            cluster.deliver_all();
            let answer = cluster.answered(asked).expect("no time has passed");
            assert!(won(answer), "{killed} killed, asked {node}: {answer}");
            assert_eq!(cluster.now, before);
        }
    }
}

/// P-01: keys are independent of each other: one that is stuck holds up no other.
#[test]
fn a_stuck_key_holds_up_no_other() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| if flight.is_about("stuck") { Fate::Lose } else { Fate::Deliver });
    let stuck = cluster.ask(1, put("stuck", "v", vec![]));
    let free = cluster.ask(1, put("free", "v", vec![]));
    cluster.deliver_all();
    assert!(matches!(cluster.answered(free), Some(Outcome::Written { .. })));
    assert_eq!(cluster.answered(stuck), None);
}

/// P-02: a decision needs more than half of the *configured* size, whatever can be seen.
#[test]
fn a_decision_needs_a_majority_of_the_configured_size() {
    for (size, up, decides) in
        [(1, 1, true), (2, 1, false), (2, 2, true), (3, 1, false), (3, 2, true)]
            .into_iter()
            .chain([(4, 2, false), (4, 3, true), (5, 2, false), (5, 3, true)])
    {
        let mut cluster = Cluster::new(size);
        for node in up + 1..=size {
            cluster.crash(node);
        }
        cluster.run(Duration::from_secs(3));
        let answer = cluster.call(1, put_if_absent("k", "v", vec![]));
        assert_eq!(won(&answer), decides, "{up} of {size}: {answer}");
        assert!(decides || answer == NO_QUORUM, "{up} of {size}: {answer}");
    }
}

/// P-02: of two islands, at most one decides, and it is the one with the quorum.
#[test]
fn only_the_larger_island_decides() {
    let mut cluster = Cluster::new(3);
    cluster.split(&[1, 2], &[3]);
    cluster.run(Duration::from_secs(3));
    assert!(won(&cluster.call(2, put_if_absent("k", "large", vec![]))));
    assert_eq!(cluster.call(3, put_if_absent("k", "small", vec![])), NO_QUORUM);
    cluster.heal();
    cluster.run(Duration::from_secs(1));
    assert_eq!(value(&cluster.call(3, get("k"))).as_deref(), Some("large"));
}

/// P-02: seats that nobody fills count as down, not as absent.
#[test]
fn vacant_seats_count_as_down() {
    let vacant = |config: &mut Config| config.cluster_size = 4;
    let mut cluster = Cluster::with(3, vacant);
    assert!(won(&cluster.call(1, put_if_absent("k", "v", vec![]))));
    cluster.crash(3);
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.call(1, put("k", "w", vec![])), NO_QUORUM, "two of four");
}

/// P-03: three seats unless the configuration says otherwise; with five, two nodes are no quorum.
#[test]
fn the_cluster_size_is_three_unless_configured() {
    assert_eq!(Config::new(NodeId(1)).cluster_size, 3);
    let mut cluster = Cluster::new(3);
    assert_eq!((cluster.status(1).cluster_size, cluster.status(1).quorum_size), (3, 2));
    let mut five = Cluster::new(5);
    assert_eq!((five.status(1).cluster_size, five.status(1).quorum_size), (5, 3));
}

/// P-04: the first value chosen wins for ever, and every node says so.
#[test]
fn the_first_value_chosen_wins_for_ever() {
    let mut cluster = Cluster::new(3);
    let first = cluster.call(1, put_if_absent("k", "a", vec![]));
    assert!(won(&first), "{first}");
    for node in 1..=3 {
        let later = cluster.call(node, put_if_absent("k", "b", vec![]));
        assert!(lost(&later), "{later}");
        assert_eq!(value(&later).as_deref(), Some("a"));
        assert_eq!(value(&cluster.call(node, get("k"))).as_deref(), Some("a"));
    }
}

/// P-05: of fifty that try at once on five nodes, one wins, and all are told its value.
#[test]
fn of_fifty_concurrent_puts_exactly_one_wins() {
    let mut cluster = Cluster::new(5);
    let asked: Vec<_> = (0..50u16)
        .map(|caller| {
            let put = put_if_absent("k", &format!("v{caller}"), vec![]);
            cluster.ask_with(caller % 5 + 1, OnNoQuorum::Retry, Duration::from_secs(60), put)
        })
        .collect();
    let answers: Vec<Outcome> = asked.into_iter().map(|asked| cluster.answer(asked)).collect();
    let values: BTreeSet<_> =
        answers.iter().map(|answer| value(answer).expect("a value")).collect();
    assert_eq!(values.len(), 1, "all are told one value");
    let winners: Vec<_> = (0..50).filter(|caller| won(&answers[*caller])).collect();
    assert_eq!(winners.len(), 1, "exactly one caller won");
    assert!(values.contains(&format!("v{}", winners[0])), "and it is the winner's");
}

proptest! {
    #![proptest_config(support::cases(64))]

    /// P-06: keys and values are any bytes; what is got is what was put, to the byte, and the wire
    /// between changes none of them.
    #[test]
    fn any_bytes_come_back_as_they_were(
        key in prop::collection::vec(any::<u8>(), 0..64),
        text in prop::collection::vec(any::<u8>(), 0..256),
    ) {
        let mut cluster = Cluster::new(3);
        let (key, value) = (Key::from(key), Value::from(text));
        let put = Command::PutIfAbsent {
            table: support::TABLE, key: key.clone(), value: value.clone(), bindings: vec![],
        };
        let asked = cluster.ask(1, put);
        cluster.deliver_encoded();
        prop_assert!(won(&cluster.replies[&asked]));
        let level = ReadLevel::Linearizable;
        let asked = cluster.ask(3, Command::Get { table: support::TABLE, key, level });
        cluster.deliver_encoded();
        let entry = cluster.replies[&asked].entry().cloned();
        prop_assert_eq!(entry.map(|entry| entry.value), Some(value));
    }
}

/// P-10: absent, empty, and the text `nil` are three different things.
#[test]
fn absence_is_not_a_value() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("empty", "", vec![]));
    cluster.call(1, put("nil", "nil", vec![]));
    for node in 1..=3 {
        assert_eq!(value(&cluster.call(node, get("never"))), None);
        assert_eq!(value(&cluster.call(node, get("empty"))).as_deref(), Some(""));
        assert_eq!(value(&cluster.call(node, get("nil"))).as_deref(), Some("nil"));
    }
    cluster.call(2, remove("nil"));
    assert_eq!(value(&cluster.call(3, get("nil"))), None, "removed is absent again");
}

/// P-13: what is removed stays removed, and the key is free.
#[test]
fn a_removed_value_never_comes_back() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("k", "a", vec![]));
    cluster.split(&[1, 2], &[3]);
    cluster.call(1, remove("k"));
    cluster.heal();
    assert_eq!(
        cluster.held(3, "k").and_then(|(.., cell)| cell).as_deref(),
        Some("a"),
        "the node that was cut off holds the old value still"
    );
    for node in 1..=3 {
        assert_eq!(value(&cluster.call(node, get("k"))), None);
    }
    let again = cluster.call(3, put_if_absent("k", "b", vec![]));
    assert!(won(&again), "{again}");
    assert_eq!(value(&again).as_deref(), Some("b"));
}

/// P-13: only the life that the client means is removed.
#[test]
fn removing_one_generation_spares_a_later_one() {
    let mut cluster = Cluster::new(3);
    let first = lives(&cluster.call(1, put_if_absent("k", "a", vec![]))).expect("an entry").0;
    cluster.call(2, remove("k"));
    let second = lives(&cluster.call(2, put_if_absent("k", "b", vec![]))).expect("an entry").0;
    assert!(second > first, "a fencing token grows");
    let removing = |generation| Command::Remove {
        table: support::TABLE,
        key: Key::from("k"),
        generation: Some(generation),
    };
    let missed = cluster.call(3, removing(first));
    assert!(matches!(missed, Outcome::Mismatch { entry: Some(_), .. }), "{missed}");
    assert!(missed.is_rejected());
    let removed = cluster.call(3, removing(second));
    assert!(matches!(removed, Outcome::Removed { .. }), "{removed}");
    assert_eq!(value(&cluster.call(1, get("k"))), None);
}

/// L-10, A-08 (as consensus tables have them): a write tells what it replaced.
#[test]
fn writes_tell_what_they_replaced() {
    let mut cluster = Cluster::new(3);
    let previous = |outcome: &Outcome| {
        let (Outcome::Written { previous: Previous::Known(entry), .. }
        | Outcome::Removed { previous: Previous::Known(entry), .. }) = outcome
        else {
            return None;
        };
        Some(entry.as_ref().map(|entry| entry.value.to_string()))
    };
    assert_eq!(previous(&cluster.call(1, put("k", "a", vec![]))), Some(None));
    assert_eq!(previous(&cluster.call(2, put("k", "b", vec![]))), Some(Some("a".to_owned())));
    assert_eq!(previous(&cluster.call(3, remove("k"))), Some(Some("b".to_owned())));
    assert_eq!(
        previous(&cluster.call(1, remove("k"))),
        Some(None),
        "nothing to remove is no error"
    );
}

/// Each of the three expectations, met and not met; what is not met changes nothing.
#[test]
fn compare_and_set_writes_only_over_what_is_expected() {
    let mut cluster = Cluster::new(3);
    let written = |outcome: &Outcome| matches!(outcome, Outcome::Written { .. });
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Mismatch { .. });
    let expected = |text: &str| Expect::Value(Value::from(text));
    assert!(refused(&cluster.call(1, compare_and_set("k", expected("a"), "b"))));
    assert_eq!(value(&cluster.call(2, get("k"))), None);
    assert!(written(&cluster.call(1, compare_and_set("k", Expect::Absent, "a"))));
    assert!(refused(&cluster.call(2, compare_and_set("k", Expect::Absent, "b"))));
    let (generation, version) = lives(&cluster.call(3, get("k"))).expect("an entry");
    assert!(written(&cluster.call(2, compare_and_set("k", expected("a"), "b"))));
    let stale = cluster.call(3, compare_and_set("k", Expect::Version(version), "c"));
    assert_eq!(value(&stale).as_deref(), Some("b"), "{stale}");
    let (same, now) = lives(&stale).expect("an entry");
    assert_eq!(same, generation, "an overwrite begins no new life");
    assert!(now > version);
    assert!(written(&cluster.call(1, compare_and_set("k", Expect::Version(now), "c"))));
    assert_eq!(value(&cluster.call(2, get("k"))).as_deref(), Some("c"));
}

/// A fence shows what is there, and leaves nothing in flight that could take effect later.
#[test]
fn a_fence_buries_what_is_still_in_flight() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| if flight.is("Accept") { Fate::Park } else { Fate::Deliver });
    cluster.ask(1, put("k", "late", vec![]));
    cluster.deliver_all();
    cluster.crash(1);
    cluster.no_rule();
    assert_eq!(value(&cluster.call(2, fence("k"))), None);
    cluster.unpark();
    cluster.deliver_all();
    for node in 2..=3 {
        assert_eq!(value(&cluster.call(node, get("k"))), None, "the late accept is refused");
    }
}

fn two_tables() -> Cluster {
    Cluster::with(3, |config| {
        config.tables.push(TableConfig::write_once("once"));
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a new command need not be moved here")]
fn in_table(table: u16, command: Command) -> Command {
    let table = TableId(table);
    match command {
        Command::PutIfAbsent { key, value, bindings, .. } => {
            Command::PutIfAbsent { table, key, value, bindings }
        }
        Command::Put { key, value, bindings, .. } => Command::Put { table, key, value, bindings },
        Command::Get { key, level, .. } => Command::Get { table, key, level },
        Command::Remove { key, generation, .. } => Command::Remove { table, key, generation },
        other => panic!("not a command of one table's key: {other}"),
    }
}

/// P-22: one key in two tables is two registers.
#[test]
fn tables_are_separate_key_spaces() {
    let mut cluster = two_tables();
    assert_eq!(cluster.node(1).registers().count(), 3, "one session for each node");
    assert!(won(&cluster.call(1, put_if_absent("k", "zero", vec![]))));
    assert!(won(&cluster.call(1, in_table(1, put_if_absent("k", "one", vec![])))));
    assert_eq!(value(&cluster.call(2, get("k"))).as_deref(), Some("zero"));
    assert_eq!(value(&cluster.call(2, in_table(1, get("k")))).as_deref(), Some("one"));
    cluster.call(3, remove("k"));
    assert_eq!(value(&cluster.call(3, in_table(1, get("k")))).as_deref(), Some("one"));
    let config = config(1, 3);
    assert_eq!((config.table("default"), config.table("nowhere")), (Some(TableId(0)), None));
}

/// P-22, L-19: every command about a table that is not configured says so, local reads too, and
/// makes nothing.
#[test]
fn an_undeclared_table_is_refused_by_every_command() {
    let mut cluster = Cluster::new(3);
    let before = cluster.holdings(1);
    let sent = cluster.sent;
    let commands = [
        put_if_absent("k", "v", vec![]),
        put("k", "v", vec![]),
        get("k"),
        get_local("k"),
        remove("k"),
    ];
    for command in commands {
        let what = command.to_string();
        let answer = cluster.at_once(1, in_table(7, command));
        assert_eq!(answer, Outcome::Refused(Refusal::NoSuchTable(TableId(7))), "{what}");
    }
    let listed = Command::Keys { table: TableId(7), after: None, limit: 1 };
    let fenced = Command::Fence { table: TableId(7), key: Key::from("k") };
    let watched = Command::Subscribe(synod::Topic::Key(TableId(7), Key::from("k")));
    let bound = synod::Bind::Key { table: TableId(7), key: Key::from("p") };
    for command in [listed, fenced, watched, put("k", "v", vec![bound])] {
        let what = command.to_string();
        let answer = cluster.at_once(1, command);
        assert_eq!(answer, Outcome::Refused(Refusal::NoSuchTable(TableId(7))), "{what}");
    }
    assert_eq!((cluster.holdings(1), cluster.sent), (before, sent));
}

/// A write-once table takes one kind of write, and says no to every other at once.
#[test]
fn a_write_once_table_takes_no_other_write() {
    let mut cluster = two_tables();
    assert!(won(&cluster.call(1, in_table(1, put_if_absent("k", "v", vec![])))));
    let swap = Command::CompareAndSet {
        table: TableId(1),
        key: Key::from("k"),
        expect: Expect::Absent,
        value: Value::from("w"),
        bindings: vec![],
    };
    let sent = cluster.sent;
    for command in [in_table(1, put("k", "w", vec![])), in_table(1, remove("k")), swap] {
        let what = command.to_string();
        let answer = cluster.at_once(2, command);
        assert_eq!(answer, Outcome::Refused(Refusal::WriteOnce(TableId(1))), "{what}");
    }
    assert_eq!(cluster.sent, sent, "a refusal asks nobody");
    assert_eq!(value(&cluster.call(3, in_table(1, get("k")))).as_deref(), Some("v"));
}

/// P-29 (as far as the engine goes): two clusters in one process do not see each other, for
/// nothing is shared but code.
#[test]
fn two_clusters_in_one_process_share_nothing() {
    let mut one = Cluster::new(3);
    let mut other = Cluster::with(5, |config| config.cluster = synod::ClusterId(2));
    assert!(won(&one.call(1, put_if_absent("k", "one", vec![]))));
    assert!(won(&other.call(1, put_if_absent("k", "other", vec![]))));
    assert_eq!(value(&one.call(2, get("k"))).as_deref(), Some("one"));
    assert_eq!(value(&other.call(4, get("k"))).as_deref(), Some("other"));
}

/// clients are told apart: the same number from two of them is two requests.
#[test]
fn two_clients_may_use_the_same_number() {
    let mut cluster = Cluster::new(3);
    let one = cluster.ask_as(1, 1, 0, Sent::First, put("a", "one", vec![]));
    let two = cluster.ask_as(1, 2, 0, Sent::First, put("b", "two", vec![]));
    assert_eq!((one, two), ((ClientId::new(1), RequestId(0)), (ClientId::new(2), RequestId(0))));
    for asked in [one, two] {
        assert!(matches!(cluster.answer(asked), Outcome::Written { .. }));
    }
    assert_eq!(value(&cluster.call(3, get("a"))).as_deref(), Some("one"));
    assert_eq!(value(&cluster.call(3, get("b"))).as_deref(), Some("two"));
}

/// The same configuration, seed and inputs give the same effects: what every replay rests on.
#[test]
fn a_run_repeats_to_the_letter() {
    let run = || {
        let mut cluster = Cluster::new(3);
        for node in 1..=3 {
            cluster.ask(node, put("k", &format!("v{node}"), vec![]));
        }
        cluster.run(ms(700));
        cluster.restart(2);
        cluster.call(2, get("k"));
        (cluster.log, cluster.sent)
    };
    assert_eq!(run(), run());
}

/// A configuration that cannot work is refused when the node is made, not later.
#[test]
fn a_node_is_not_made_of_an_impossible_configuration() {
    let mut config = Config::new(NodeId(4));
    assert!(Node::new(config.clone(), 1).is_err(), "not among the members");
    config.node = NodeId(1);
    assert!(Node::new(config, 1).is_ok());
}
