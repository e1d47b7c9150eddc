//! What a read may answer, what it costs, and what it must leave alone.

mod support;

use std::time::Duration;

use support::{Cluster, Fate, get, get_local, lives, put, put_if_absent, remove, value};
use synod::{Bind, NodeId, Outcome, TableConfig};

/// P-11: a local read sends nothing and changes nothing, whatever state the register is in.
#[test]
fn a_local_read_sends_nothing_and_changes_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.call(2, put("chosen", "v", vec![]));
    cluster.leave_unfinished(1, &[2], put("unfinished", "v", vec![]));
    for node in 2..=3 {
        let before = (cluster.holdings(node), cluster.sent, cluster.machine(node).durable.clone());
        for key in ["chosen", "unfinished", "never"] {
            let read = cluster.at_once(node, get_local(key));
            let expected = (key == "chosen").then_some("v");
            assert_eq!(value(&read).as_deref(), expected, "{key} at {node}");
        }
        let after = (cluster.holdings(node), cluster.sent, cluster.machine(node).durable.clone());
        assert_eq!(after, before, "at {node}");
    }
}

/// P-11: a value accepted by one of three, its proposer dead: the first answer stays the answer.
#[test]
fn an_unfinished_write_is_seen_by_all_or_by_none() {
    for holder in 2..=3 {
        for order in [[2, 3, 2, 3], [3, 2, 3, 2], [2, 2, 3, 3], [3, 3, 2, 2]] {
            let mut cluster = Cluster::new(3);
            cluster.leave_unfinished(1, &[holder], put("k", "v", vec![]));
            let other = 5 - holder;
            assert_eq!(cluster.held(other, "k").and_then(|(.., cell)| cell), None);
            let answers: Vec<_> =
                order.iter().map(|node| value(&cluster.call(*node, get("k")))).collect();
            assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{order:?}: {answers:?}");
        }
    }
}

/// P-11: a read whose own quorum holds nothing of the unfinished write says so, and when the write
/// is completed later, no read goes back.
#[test]
fn a_read_never_goes_back() {
    let mut cluster = Cluster::new(5);
    cluster.leave_unfinished(1, &[5], put("k", "v", vec![]));
    cluster.split(&[2, 3, 4], &[5]);
    assert_eq!(value(&cluster.call(2, get("k"))), None, "2, 3 and 4 know nothing of it");
    cluster.heal();
    cluster.split(&[2], &[3, 4, 5]);
    cluster.run(Duration::from_secs(3));
    let completed = cluster.call(3, get("k"));
    assert_eq!(value(&completed).as_deref(), Some("v"), "the read finds it and completes it");
    cluster.heal();
    cluster.split(&[5], &[2, 3, 4]);
    cluster.run(Duration::from_secs(3));
    for node in 2..=4 {
        assert_eq!(value(&cluster.call(node, get("k"))).as_deref(), Some("v"), "{node}");
    }
}

/// P-12: after a decided put, a local read on a healthy node finds it at no cost; with every notice
/// of the decision lost, a linearizable read finds it all the same.
#[test]
fn learners_are_told_and_reads_do_not_depend_on_it() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("told", "v", vec![]));
    cluster.deliver_all();
    cluster.rule(|flight| if flight.is("Commit") { Fate::Lose } else { Fate::Deliver });
    cluster.call(1, put("untold", "v", vec![]));
    cluster.deliver_all();
    for node in 2..=3 {
        let sent = cluster.sent;
        assert_eq!(value(&cluster.at_once(node, get_local("told"))).as_deref(), Some("v"));
        assert_eq!(value(&cluster.at_once(node, get_local("untold"))), None);
        assert_eq!(cluster.sent, sent);
    }
    assert_eq!(value(&cluster.call(2, get("untold"))).as_deref(), Some("v"));
}

/// R1: a read on which a quorum agrees takes one round of messages and writes nothing anywhere.
#[test]
fn an_agreed_read_is_one_round_and_no_write() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("k", "v", vec![]));
    cluster.deliver_all();
    let (sent, holdings) = (cluster.sent, cluster.holdings(1));
    let asked = cluster.ask(3, get("k"));
    cluster.deliver_all();
    assert_eq!(cluster.answered(asked).and_then(value).as_deref(), Some("v"));
    assert_eq!(cluster.sent - sent, 4, "two questions, two answers");
    assert_eq!(cluster.holdings(1), holdings);
}

/// R2: one replica behind, but another knows the value to be chosen: still one round, no write.
#[test]
fn a_read_trusts_a_replica_that_knows_the_choice() {
    let mut cluster = Cluster::new(3);
    cluster.split(&[1, 2], &[3]);
    cluster.call(1, put("k", "v", vec![]));
    cluster.heal();
    cluster.crash(1);
    let asked = cluster.ask(3, get("k"));
    cluster.deliver_all();
    assert_eq!(cluster.answered(asked).and_then(value).as_deref(), Some("v"));
    assert_eq!(cluster.held(3, "k").and_then(|(.., cell)| cell), None, "it was not written here");
}

/// R3: what is not known to be chosen is completed at the ballot it has already, so the read takes
/// no promise away from anybody.
#[test]
fn a_read_completes_at_the_same_ballot() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| {
        let lost = flight.is("Commit") || flight.is("Accept") && flight.to == NodeId(3);
        if lost { Fate::Lose } else { Fate::Deliver }
    });
    let written = cluster.call(1, put("k", "v", vec![]));
    let Outcome::Written { version, .. } = written else { panic!("{written}") };
    cluster.no_rule();
    cluster.crash(1);
    let read = cluster.call(3, get("k"));
    assert_eq!(lives(&read), Some((version, version)));
    let held = cluster.held(3, "k").expect("completed here too");
    assert_eq!((held.0, held.1), (version, version), "no higher ballot was promised for a read");
    assert!(!cluster.lines_about("k").iter().any(|line| line.contains("3->2 Prepare")));
}

/// R5: two different absences are not agreement: between them there can be a value.
#[test]
fn different_absences_do_not_agree() {
    let mut cluster = Cluster::new(5);
    cluster.split(&[1, 2, 3], &[4, 5]);
    cluster.call(1, put("k", "v", vec![]));
    cluster.heal();
    // A removal that reached node 4 only: dead at its ballot there, dead since ever at node 5.
    cluster.leave_unfinished(1, &[4], remove("k"));
    cluster.crash(2);
    let read = cluster.call(5, get("k"));
    assert_eq!(value(&read), None, "the removal is the highest that 3, 4 and 5 know");
    let removal = cluster.held(4, "k").expect("dead here").1;
    assert_eq!(cluster.held(5, "k").map(|held| held.1), Some(removal), "so it was completed first");
    cluster.start(2);
    cluster.crash(4);
    assert_eq!(value(&cluster.call(2, get("k"))), None, "and no read goes back behind it");
}

/// R7: in a write-once table what is chosen and bound to nothing is there for ever: any node that
/// knows it answers a linearizable read alone, even with no quorum in sight.
#[test]
fn a_permanent_entry_is_read_without_asking() {
    let mut cluster =
        Cluster::with(3, |config| config.tables[0] = TableConfig::write_once("default"));
    cluster.call(1, put_if_absent("k", "v", vec![]));
    let wall = synod::Wall(cluster.wall() + 3_600_000);
    cluster.call(1, put_if_absent("bound", "v", vec![Bind::Until(wall)]));
    cluster.deliver_all();
    cluster.split(&[2], &[1, 3]);
    cluster.run(Duration::from_secs(3));
    let sent = cluster.sent;
    assert_eq!(value(&cluster.at_once(2, get("k"))).as_deref(), Some("v"));
    assert_eq!(cluster.sent, sent);
    let bound = cluster.at_once(2, get("bound"));
    assert_eq!(bound, support::NO_QUORUM, "what can be erased is not permanent");
    let absent = cluster.at_once(2, get("absent"));
    assert_eq!(absent, support::NO_QUORUM, "absence is not permanent");
}

/// R7: in a table with other writes, nothing is answered alone.
#[test]
fn an_entry_that_can_be_overwritten_is_not_permanent() {
    let mut cluster = Cluster::with(3, |config| {
        config.tables.push(TableConfig::write_once("once"));
    });
    cluster.call(1, put_if_absent("k", "old", vec![]));
    cluster.split(&[2], &[1, 3]);
    cluster.call(1, put("k", "new", vec![]));
    let asked = cluster.ask(2, get("k"));
    assert_eq!(cluster.answered(asked), None, "it asks");
    assert_eq!(
        value(&cluster.at_once(2, get_local("k"))).as_deref(),
        Some("old"),
        "stale is local"
    );
    cluster.heal();
    assert_eq!(value(&cluster.answer(asked)).as_deref(), Some("new"));
}

/// A3: what is not durable yet is told nobody: it could be taken back by a crash.
#[test]
fn a_read_is_not_told_what_is_not_durable() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| if flight.is("Accept") { Fate::Park } else { Fate::Deliver });
    cluster.machine(1).slow_disk = true;
    cluster.ask(1, put("k", "v", vec![]));
    cluster.deliver_all();
    cluster.no_rule();
    cluster.crash(1);
    cluster.machine(2).slow_disk = true;
    cluster.parked.retain(|flight| flight.to == NodeId(2));
    cluster.unpark();
    cluster.deliver_all();
    assert!(cluster.held(2, "k").expect("accepted in memory").2.is_some());
    let reading = cluster.ask(3, get("k"));
    cluster.deliver_all();
    assert_eq!(cluster.answered(reading), None);
    let told = |cluster: &Cluster| {
        cluster.lines_about("k").iter().any(|line| line.starts_with("2->3 ReadReply"))
    };
    assert!(!told(&cluster), "2 withholds its answer");
    cluster.machine(2).slow_disk = false;
    cluster.sync(2);
    cluster.deliver_all();
    assert!(told(&cluster));
    assert_eq!(cluster.answered(reading).and_then(value).as_deref(), Some("v"));
}

/// A3: and where the crash comes first, nobody ever hears of it.
#[test]
fn what_a_crash_took_back_was_never_told() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| if flight.is("Accept") { Fate::Park } else { Fate::Deliver });
    cluster.machine(1).slow_disk = true;
    cluster.ask(1, put("k", "v", vec![]));
    cluster.deliver_all();
    cluster.no_rule();
    cluster.crash(1);
    cluster.machine(2).slow_disk = true;
    cluster.parked.retain(|flight| flight.to == NodeId(2));
    cluster.unpark();
    cluster.deliver_all();
    let reading = cluster.ask(3, get("k"));
    cluster.deliver_all();
    cluster.machine(2).slow_disk = false;
    cluster.restart(2);
    assert_eq!(value(&cluster.answer(reading)), None, "nobody was told of it");
    assert_eq!(cluster.held(2, "k").and_then(|(.., cell)| cell), None, "the tail is gone");
    for node in [2, 3, 2] {
        assert_eq!(value(&cluster.call(node, get("k"))), None);
    }
}
