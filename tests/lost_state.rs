//! What was durable survives; what was lost is never made up, and whoever lost it does not vote.

mod support;

use std::time::Duration;

use support::{
    Cluster, Fate, config, get, get_local, lost, ms, put, put_if_absent, remove, value, won,
};
use synod::{
    Command, Event, Genesis, Node, NodeId, OnNoQuorum, Outcome, Readiness, Record, Refusal, Topic,
};

fn witnessed(members: u16) -> Cluster {
    Cluster::with(members, |config| config.genesis = Genesis::Witnessed)
}

fn genesis(genesis: Genesis) -> Cluster {
    Cluster::with(3, |config| config.genesis = genesis)
}

const BOTH: [Genesis; 2] = [Genesis::Vouched, Genesis::Witnessed];

/// P-32: chosen on 1 and 2; 1 restarts with its disk, 2 is cut off: by way of 1 and 3 the value is
/// the one that was chosen.
#[test]
fn a_restarted_acceptor_remembers_what_it_accepted() {
    for genesis_mode in BOTH {
        let mut cluster = genesis(genesis_mode);
        cluster.split(&[1, 2], &[3]);
        assert!(won(&cluster.call(1, put_if_absent("k", "a", vec![]))));
        cluster.restart(1);
        cluster.heal();
        cluster.split(&[2], &[1, 3]);
        cluster.run(ms(500));
        let other = cluster.call(3, put_if_absent("k", "b", vec![]));
        assert!(lost(&other), "{other}");
        assert_eq!(value(&other).as_deref(), Some("a"));
    }
}

/// P-32: the same with a wiped disk: the node does not vote and says why, and the choice stands.
#[test]
fn a_wiped_node_does_not_vote_and_says_why() {
    for genesis_mode in BOTH {
        let mut cluster = genesis(genesis_mode);
        cluster.split(&[1, 2], &[3]);
        assert!(won(&cluster.call(1, put_if_absent("k", "a", vec![]))));
        cluster.wipe(1);
        cluster.heal();
        cluster.split(&[2], &[1, 3]);
        cluster.start(1);
        let asked = cluster.ask(3, put_if_absent("k", "b", vec![]));
        let answer = cluster.answer(asked);
        assert!(!won(&answer), "{genesis_mode:?}: {answer}");
        let Readiness::StateLost(why) = cluster.readiness(1) else {
            panic!("{genesis_mode:?}: {}", cluster.readiness(1))
        };
        assert_eq!(why, "node 3 remembers other storage of this node");
        for command in [get("k"), put("k", "c", vec![]), get_local("k"), Command::OpenSession] {
            let what = command.to_string();
            let refused = cluster.at_once(1, command);
            let expected = Outcome::Refused(Refusal::NotReady(Readiness::StateLost(why.clone())));
            assert_eq!(refused, expected, "{what}");
        }
        cluster.heal();
        cluster.run(Duration::from_secs(5));
        assert!(matches!(cluster.readiness(1), Readiness::StateLost(_)), "and for good");
        for node in 2..=3 {
            assert_eq!(value(&cluster.call(node, get("k"))).as_deref(), Some("a"));
        }
    }
}

/// P-32: while it does not vote, a wiped node answers nothing that an acceptor would answer.
#[test]
fn a_wiped_node_answers_nothing_an_acceptor_would() {
    for genesis_mode in BOTH {
        let mut cluster = genesis(genesis_mode);
        cluster.call(1, put("k", "a", vec![]));
        cluster.wipe(1);
        cluster.start(1);
        cluster.run(Duration::from_secs(1));
        let before = cluster.log.len();
        cluster.call(2, put("k", "b", vec![]));
        cluster.call(3, get("k"));
        cluster.run(Duration::from_secs(3));
        let said: Vec<_> =
            cluster.log[before..].iter().filter(|line| line.starts_with("1->")).collect();
        let idle = said.iter().all(|line| line.contains(" Heartbeat"));
        assert!(idle, "{genesis_mode:?}: {said:?}");
    }
}

/// P-32: a client that was told nothing yet when its node is found to have lost its state is told.
#[test]
fn a_disowned_node_answers_what_it_had_begun() {
    let mut cluster = Cluster::unstarted((1..=3).map(|node| config(node, 3)));
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.run(Duration::from_secs(1));
    cluster.wipe(1);
    cluster.split(&[1], &[2, 3]);
    cluster.start(1);
    cluster.subscribe(1, 50, Topic::Quorum);
    let minute = Duration::from_secs(60);
    let write = cluster.ask_with(1, OnNoQuorum::Retry, minute, put("k", "v", vec![]));
    let host = cluster.ask_with(1, OnNoQuorum::Retry, minute, Command::OpenSession);
    cluster.run(Duration::from_secs(1));
    assert_eq!((cluster.answered(write), cluster.answered(host)), (None, None));
    cluster.heal();
    cluster.run(Duration::from_secs(1));
    let readiness = cluster.readiness(1);
    assert!(matches!(readiness, Readiness::StateLost(_)), "{readiness}");
    for asked in [write, host] {
        let expected = Outcome::Refused(Refusal::NotReady(readiness.clone()));
        assert_eq!(cluster.answered(asked), Some(&expected));
    }
    assert!(cluster.told(50).contains(&Event::Readiness(readiness)));
}

/// P-32: rolling restart of all nodes: every key is kept, and writes go on throughout.
#[test]
fn a_rolling_restart_keeps_every_key() {
    for genesis_mode in BOTH {
        let mut cluster = genesis(genesis_mode);
        for key in 0..10 {
            cluster.call(key % 3 + 1, put(&format!("k{key}"), "old", vec![]));
        }
        cluster.call(1, remove("k0"));
        for node in 1..=3 {
            cluster.crash(node);
            cluster.call(node % 3 + 1, put(&format!("during{node}"), "new", vec![]));
            cluster.start(node);
            cluster.run(Duration::from_secs(1));
            assert_eq!(cluster.readiness(node), Readiness::Ready);
        }
        for node in 1..=3 {
            assert_eq!(value(&cluster.call(node, get("k0"))), None);
            for key in 1..10 {
                let read = cluster.call(node, get(&format!("k{key}")));
                assert_eq!(value(&read).as_deref(), Some("old"), "k{key} at {node}");
            }
            for other in 1..=3 {
                let read = cluster.call(node, get(&format!("during{other}")));
                assert_eq!(value(&read).as_deref(), Some("new"));
            }
        }
    }
}

/// A-24, P-32: all nodes at once: everything acknowledged is there again.
#[test]
fn killing_all_nodes_at_once_loses_nothing_acknowledged() {
    let mut cluster = witnessed(5);
    for key in 0..10 {
        cluster.call(key % 5 + 1, put(&format!("k{key}"), "v", vec![]));
    }
    for node in 1..=5 {
        cluster.crash(node);
    }
    for node in 1..=5 {
        cluster.start(node);
    }
    cluster.run(Duration::from_secs(1));
    for key in 0..10 {
        assert_eq!(value(&cluster.call(2, get(&format!("k{key}")))).as_deref(), Some("v"));
    }
}

/// P-33: a node says that it is not ready, and refuses linearizable and local reads, until its
/// storage has been witnessed by enough peers.
#[test]
fn a_new_node_is_not_ready_before_it_is_witnessed() {
    let configs = (1..=3).map(|node| {
        let mut config = config(node, 3);
        config.genesis = Genesis::Witnessed;
        config
    });
    let mut cluster = Cluster::unstarted(configs);
    cluster.start(1);
    cluster.start(2);
    cluster.run(Duration::from_secs(5));
    for node in 1..=2 {
        assert_eq!(cluster.status(node).readiness, Readiness::Unwitnessed);
        for command in [get("k"), get_local("k"), put("k", "v", vec![])] {
            let answer = cluster.at_once(node, command);
            assert_eq!(answer, Outcome::Refused(Refusal::NotReady(Readiness::Unwitnessed)));
        }
    }
    cluster.start(3);
    cluster.run(Duration::from_secs(1));
    for node in 1..=3 {
        assert_eq!(cluster.status(node).readiness, Readiness::Ready);
    }
}

/// P-33: a node that has restarted is not ready before its own storage has answered, and says so.
#[test]
fn a_restarted_node_waits_for_its_own_storage() {
    let mut cluster = Cluster::new(3);
    cluster.crash(1);
    cluster.machine(1).slow_disk = true;
    cluster.start(1);
    assert_eq!(cluster.readiness(1), Readiness::Starting);
    let refused = cluster.at_once(1, get("k"));
    assert_eq!(refused, Outcome::Refused(Refusal::NotReady(Readiness::Starting)));
    cluster.machine(1).slow_disk = false;
    cluster.sync(1);
    assert_eq!(cluster.readiness(1), Readiness::Ready);
}

/// Nothing at all leaves a node before the record of its new life is durable: a ballot of that life
/// might otherwise be used again by the next.
#[test]
fn nothing_leaves_a_node_before_its_life_is_durable() {
    let mut cluster = Cluster::new(3);
    cluster.crash(1);
    cluster.machine(1).slow_disk = true;
    let sent =
        |cluster: &Cluster| cluster.log.iter().filter(|line| line.starts_with("1->")).count();
    let before = sent(&cluster);
    cluster.start(1);
    cluster.run(Duration::from_secs(1));
    assert_eq!(sent(&cluster), before);
    cluster.machine(1).slow_disk = false;
    cluster.sync(1);
    assert!(sent(&cluster) > before, "withheld, not forgotten");
}

/// I5, Z1: a promise that is not durable never leaves; after a crash it was never made.
#[test]
fn an_unsynced_promise_is_never_told() {
    let mut cluster = Cluster::new(3);
    cluster.machine(2).slow_disk = true;
    cluster.crash(3);
    let asked = cluster.ask(1, put("k", "v", vec![]));
    cluster.deliver_all();
    let promised = |cluster: &Cluster| {
        cluster.lines_about("k").iter().any(|line| line.starts_with("2->1 Promise"))
    };
    assert!(cluster.held(2, "k").is_some_and(|held| held.0.round > 0), "promised in memory");
    assert!(!promised(&cluster));
    cluster.sync(2);
    cluster.deliver_all();
    assert!(promised(&cluster));
    assert!(!cluster.lines_about("k").iter().any(|line| line.starts_with("2->1 Accepted")));
    assert_eq!(cluster.answered(asked), None, "one vote of three");
    cluster.sync(2);
    cluster.deliver_all();
    assert!(cluster.answered(asked).is_some());
}

/// I5, Z2: an acceptance that a crash took back was told nobody, so nothing was chosen by it.
#[test]
fn an_acceptance_lost_by_a_crash_chose_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.crash(3);
    let asked = cluster.ask(1, put_if_absent("k", "a", vec![]));
    cluster.deliver(|flight| flight.is("Prepare"));
    cluster.machine(2).slow_disk = true;
    cluster.deliver_all();
    assert!(cluster.held(2, "k").is_some_and(|held| held.2.is_some()), "accepted in memory");
    assert_eq!(cluster.answered(asked), None);
    cluster.crash(1);
    cluster.machine(2).slow_disk = false;
    cluster.restart(2);
    cluster.start(3);
    cluster.run(ms(500));
    assert!(won(&cluster.call(3, put_if_absent("k", "b", vec![]))), "the key was still free");
}

/// A crash keeps any prefix of what was not synced: whatever it keeps, the node recovers, and what
/// had been told stays true.
#[test]
fn any_prefix_of_an_unsynced_tail_can_be_recovered() {
    let mut lengths = 0;
    for kept in 0..200 {
        let mut cluster = Cluster::new(3);
        cluster.call(2, put("told", "v", vec![]));
        cluster.machine(1).slow_disk = true;
        for key in 0..5 {
            cluster.ask(2, put(&format!("k{key}"), "v", vec![]));
            cluster.deliver_all();
        }
        let tail: Vec<Record> = std::mem::take(&mut cluster.machine(1).writing)
            .into_iter()
            .flat_map(|(_, records)| records)
            .collect();
        if kept > tail.len() {
            break;
        }
        lengths += 1;
        cluster.crash(1);
        cluster.machine(1).durable.extend(tail.into_iter().take(kept));
        cluster.machine(1).slow_disk = false;
        cluster.start(1);
        cluster.crash(3);
        cluster.run(ms(500));
        for key in ["told", "k0", "k1", "k2", "k3", "k4"] {
            let read = cluster.call(1, get(key));
            assert_eq!(value(&read).as_deref(), Some("v"), "{key}, {kept} records kept");
        }
    }
    assert!(lengths > 5, "there was a tail to cut: {lengths}");
}

/// A node made to be lost says why, and never votes.
#[test]
fn a_node_known_to_have_lost_records_says_so() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("k", "v", vec![]));
    cluster.crash(3);
    let damaged = Node::lost(config(3, 3), 99, "record 7: checksum").expect("possible");
    cluster.machine(3).node = Some(damaged);
    cluster.run(Duration::from_secs(3));
    let expected = Readiness::StateLost("record 7: checksum".to_owned());
    assert_eq!(cluster.readiness(3), expected);
    let answer = cluster.at_once(3, get("k"));
    assert_eq!(answer, Outcome::Refused(Refusal::NotReady(expected)));
    cluster.crash(2);
    cluster.run(Duration::from_secs(3));
    assert_eq!(
        cluster.call(1, put("k", "w", vec![])),
        support::NO_QUORUM,
        "1 has no quorum with it"
    );
}

/// P-32: the notes that peers take of each other's storage survive their own restarts, so a wiped
/// disk is found out by a peer that has restarted since.
#[test]
fn witnesses_remember_across_restarts() {
    let mut cluster = witnessed(3);
    cluster.restart(2);
    cluster.restart(3);
    cluster.wipe(1);
    cluster.start(1);
    cluster.run(Duration::from_secs(2));
    assert!(matches!(cluster.readiness(1), Readiness::StateLost(_)), "{}", cluster.readiness(1));
}

/// P-32: two disks of five wiped at once: neither votes, and the three others still decide.
#[test]
fn as_many_disks_as_may_be_lost_can_be() {
    let mut cluster = witnessed(5);
    cluster.call(1, put("k", "a", vec![]));
    for node in [1, 2] {
        cluster.wipe(node);
        cluster.start(node);
    }
    cluster.run(Duration::from_secs(3));
    for node in [1, 2] {
        assert!(matches!(cluster.readiness(node), Readiness::StateLost(_)));
    }
    assert_eq!(value(&cluster.call(4, get("k"))).as_deref(), Some("a"));
    assert!(matches!(cluster.call(5, put("k", "b", vec![])), Outcome::Written { .. }));
}

/// P-32: a message that a wiped node's former life sent is not taken for one of the new, nor the
/// other way round.
#[test]
fn a_vote_of_a_lost_life_is_not_counted() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| {
        let vote = flight.is_about("k") && flight.from == NodeId(3) && !flight.is("Commit");
        if vote { Fate::Park } else { Fate::Deliver }
    });
    cluster.crash(2);
    let asked = cluster.ask(1, put("k", "v", vec![]));
    cluster.deliver_all();
    cluster.no_rule();
    let mut late = std::mem::take(&mut cluster.parked);
    assert_eq!(late.len(), 1, "3 has promised");
    late[0].message.life = synod::Life(12345);
    cluster.flights.extend(late.clone());
    cluster.deliver_all();
    assert!(!cluster.lines_about("k").iter().any(|line| line.contains("Accept")), "not counted");
    late[0].message.life = cluster.node(3).life();
    cluster.flights.extend(late);
    cluster.deliver_all();
    assert!(matches!(cluster.answered(asked), Some(Outcome::Written { .. })), "the real one is");
}
