//! A request takes effect once at most, whoever retries it, wherever, and however it was lost.

mod support;

use std::time::Duration;

use support::{
    Cluster, Fate, NO_QUORUM, compare_and_set, fence, get, lives, lost, ms, put, put_if_absent,
    remove, value, won,
};
use synod::{Ballot, Command, Expect, NodeId, Outcome, Previous, Record, Refusal, Sent, Value};

/// The client whose request is lost and sent again.
const CLIENT: u64 = 7;

/// Gives the client's first request to node 1, lets the accept reach only `holders`, crashes 1.
fn lose(cluster: &mut Cluster, holders: &[u16], command: Command) {
    let wanted: Vec<NodeId> = holders.iter().map(|holder| NodeId(*holder)).collect();
    cluster.rule(move |flight| {
        let lost = flight.is("Accepted") || flight.is("Accept") && !wanted.contains(&flight.to);
        if lost { Fate::Lose } else { Fate::Deliver }
    });
    cluster.machine(1).slow_disk = true;
    let asked = cluster.ask_as(1, CLIENT, 1, Sent::First, command);
    cluster.deliver_all();
    assert_eq!(cluster.answered(asked), None);
    cluster.crash(1);
    cluster.machine(1).slow_disk = false;
    cluster.no_rule();
}

/// How often the register of `key` was changed to this value, over all accepts ever sent.
fn births(cluster: &Cluster, key: &str, value: &str) -> usize {
    let wanted = support::register(key);
    let mut versions: Vec<Ballot> = cluster
        .machines
        .values()
        .flat_map(|machine| &machine.durable)
        .filter_map(|record| {
            let Record::Accepted { register, cell, .. } = record else { return None };
            let meant = *register == wanted && cell.to_string() == value;
            meant.then(|| cell.version())
        })
        .collect();
    versions.sort_unstable();
    versions.dedup();
    versions.len()
}

/// AMB (i): a put that one acceptor took, its proposer dead: sent again elsewhere it
/// takes effect once, whether or not the quorum that answers has seen it.
#[test]
fn a_put_sent_again_takes_effect_exactly_once() {
    for cut in [None, Some(2), Some(3)] {
        let mut cluster = Cluster::new(5);
        lose(&mut cluster, &[2], put("k", "v", vec![]));
        if let Some(cut) = cut {
            let others: Vec<u16> = (3..=5).filter(|node| *node != cut).collect();
            cluster.split(&[cut], &others);
        }
        let again = cluster.call_as(4, CLIENT, 1, Sent::Again, put("k", "v", vec![]));
        assert!(matches!(again, Outcome::Written { .. }), "{cut:?}: {again}");
        cluster.heal();
        cluster.start(1);
        cluster.run(Duration::from_secs(1));
        let third = cluster.call_as(5, CLIENT, 1, Sent::Again, put("k", "v", vec![]));
        let Outcome::Written { version, .. } = third else { panic!("{third}") };
        let now = cluster.call(3, get("k"));
        assert_eq!(lives(&now).map(|lives| lives.1), Some(version), "{cut:?}: one change");
    }
}

/// A-15, P4: a put that others of its round follow is not named in the cell. Sent again elsewhere
/// it cannot be told, and is not applied again.
#[test]
fn a_put_that_others_follow_is_not_done_again() {
    let mut cluster = Cluster::new(3);
    let mine = cluster.ask_as(1, CLIENT, 1, Sent::First, put("k", "mine", vec![]));
    cluster.ask(1, put("k", "theirs", vec![]));
    cluster.deliver_all();
    assert!(matches!(cluster.answered(mine), Some(Outcome::Written { .. })));
    let again = cluster.call_as(2, CLIENT, 1, Sent::Again, put("k", "mine", vec![]));
    assert_eq!(again, Outcome::Unknown);
    assert_eq!(births(&cluster, "k", "mine"), 1);
    assert_eq!(value(&cluster.call(3, get("k"))).as_deref(), Some("theirs"));
}

/// what took effect once and was then overwritten is not applied again by a repeat.
#[test]
fn a_put_sent_again_never_undoes_what_came_after() {
    let mut cluster = Cluster::new(3);
    lose(&mut cluster, &[2], put("k", "mine", vec![]));
    assert_eq!(value(&cluster.call(2, get("k"))).as_deref(), Some("mine"), "completed by a read");
    cluster.call(3, put("k", "theirs", vec![]));
    let again = cluster.call_as(3, CLIENT, 1, Sent::Again, put("k", "mine", vec![]));
    let Outcome::Written { previous, .. } = &again else { panic!("{again}") };
    assert_eq!(*previous, Previous::Unknown, "this node did not see what it replaced");
    assert_eq!(value(&cluster.call(2, get("k"))).as_deref(), Some("theirs"));
    assert_eq!(births(&cluster, "k", "mine"), 1);
}

/// A-15, AMB (iv): overwritten so often that nobody remembers it: the answer is `Unknown`, and it
/// is not applied a second time.
#[test]
fn a_put_forgotten_by_the_lineage_is_unknown_and_not_repeated() {
    let mut cluster = Cluster::new(3);
    lose(&mut cluster, &[2], put("k", "mine", vec![]));
    assert_eq!(value(&cluster.call(2, get("k"))).as_deref(), Some("mine"));
    cluster.call(3, put("k", "second", vec![]));
    cluster.call(2, put("k", "third", vec![]));
    for node in 2..=3 {
        let again = cluster.call_as(node, CLIENT, 1, Sent::Again, put("k", "mine", vec![]));
        assert_eq!(again, Outcome::Unknown, "at {node}");
    }
    assert_eq!(value(&cluster.call(2, get("k"))).as_deref(), Some("third"));
    assert_eq!(births(&cluster, "k", "mine"), 1);
}

/// AMB (iv): the same where the put never took effect. "Unknown" is honest: nobody can tell.
#[test]
fn a_lost_put_behind_a_truncated_lineage_is_unknown() {
    let mut cluster = Cluster::new(3);
    for text in ["a", "b", "c"] {
        cluster.call(2, put("k", text, vec![]));
    }
    lose(&mut cluster, &[], put("k", "mine", vec![]));
    let again = cluster.call_as(3, CLIENT, 1, Sent::Again, put("k", "mine", vec![]));
    assert_eq!(again, Outcome::Unknown);
    assert_eq!(value(&cluster.call(2, get("k"))).as_deref(), Some("c"));
}

/// AMB (iii): where the whole history is remembered and lacks the put, it never took effect and
/// never will: it is evaluated afresh.
#[test]
fn a_lost_put_on_a_remembered_register_is_evaluated_afresh() {
    let mut cluster = Cluster::new(3);
    lose(&mut cluster, &[], put_if_absent("k", "mine", vec![]));
    cluster.call(2, put("k", "other", vec![]));
    let again = cluster.call_as(3, CLIENT, 1, Sent::Again, put_if_absent("k", "mine", vec![]));
    assert!(lost(&again), "{again}");
    assert_eq!(value(&again).as_deref(), Some("other"));
}

/// F4: a value erased or removed after it took effect is not put back by its own retry.
#[test]
fn a_retry_does_not_bring_back_what_was_removed() {
    let mut cluster = Cluster::new(3);
    lose(&mut cluster, &[2], put_if_absent("k", "mine", vec![]));
    let removed = cluster.call(3, remove("k"));
    assert!(
        matches!(&removed, Outcome::Removed { previous: Previous::Known(Some(_)), .. }),
        "{removed}"
    );
    let again = cluster.call_as(2, CLIENT, 1, Sent::Again, put_if_absent("k", "mine", vec![]));
    assert!(won(&again), "it won, and was removed since: {again}");
    assert_eq!(value(&cluster.call(3, get("k"))), None);
    assert_eq!(births(&cluster, "k", "mine"), 1);
}

/// F5: a compare-and-set whose own earlier accept is what it now finds has won, not lost.
#[test]
fn a_compare_and_set_recognises_its_own_change() {
    let mut cluster = Cluster::new(3);
    cluster.call(2, put("k", "x", vec![]));
    let swap = || compare_and_set("k", Expect::Value(Value::from("x")), "y");
    lose(&mut cluster, &[3], swap());
    let again = cluster.call_as(2, CLIENT, 1, Sent::Again, swap());
    assert!(matches!(again, Outcome::Written { .. }), "{again}");
    let other = cluster.call(3, swap());
    assert!(matches!(other, Outcome::Mismatch { .. }), "a new request has lost: {other}");
}

/// a remove sent again finds that it removed, not that there was nothing.
#[test]
fn a_remove_recognises_its_own_change() {
    let mut cluster = Cluster::new(3);
    cluster.call(2, put("k", "x", vec![]));
    lose(&mut cluster, &[3], remove("k"));
    let again = cluster.call_as(3, CLIENT, 1, Sent::Again, remove("k"));
    assert!(
        matches!(&again, Outcome::Removed { previous: Previous::Unknown, .. }),
        "by the earlier attempt: {again}"
    );
    cluster.call(2, put("k", "new", vec![]));
    let third = cluster.call_as(3, CLIENT, 1, Sent::Again, remove("k"));
    assert!(matches!(third, Outcome::Removed { .. }), "{third}");
    assert_eq!(value(&cluster.call(2, get("k"))).as_deref(), Some("new"));
}

/// AMB on one node: preempted between its two phases, the proposer finds its own value completed by
/// the one that preempted it, and does not put it a second time.
#[test]
fn a_preempted_proposer_finds_its_own_value() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| {
        let lost =
            flight.is("Accept") && flight.goes(1, 3) || flight.is("Accepted") && flight.goes(2, 1);
        if lost { Fate::Lose } else { Fate::Deliver }
    });
    cluster.machine(1).slow_disk = true;
    let asked = cluster.ask_as(1, CLIENT, 1, Sent::First, put_if_absent("k", "mine", vec![]));
    cluster.deliver_all();
    cluster.no_rule();
    let other = cluster.call(3, put_if_absent("k", "other", vec![]));
    assert_eq!(value(&other).as_deref(), Some("mine"), "the other completes it");
    cluster.machine(1).slow_disk = false;
    cluster.sync(1);
    assert!(won(&cluster.answer(asked)), "and it was node 1's");
    assert_eq!(births(&cluster, "k", "mine"), 1);
}

/// W13: preempted by a value that was put first, the proposer says so, and its own late accepts
/// never count.
#[test]
fn a_definite_failure_never_takes_effect() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| {
        let late = flight.is("Accept") && flight.from == NodeId(1);
        if late { Fate::Park } else { Fate::Deliver }
    });
    cluster.machine(1).slow_disk = true;
    let asked = cluster.ask(1, put_if_absent("k", "mine", vec![]));
    cluster.deliver_all();
    assert!(won(&cluster.call(3, put_if_absent("k", "theirs", vec![]))));
    cluster.no_rule();
    cluster.machine(1).slow_disk = false;
    cluster.sync(1);
    let answer = cluster.answer(asked);
    assert!(lost(&answer), "{answer}");
    cluster.unpark();
    cluster.deliver_all();
    cluster.run(Duration::from_secs(1));
    for node in 1..=3 {
        assert_eq!(value(&cluster.call(node, get("k"))).as_deref(), Some("theirs"));
    }
    assert!(
        !cluster
            .lines_about("k")
            .iter()
            .any(|line| line.contains("Commit") && line.contains("mine"))
    );
}

/// Resolving `Unknown`: after a fence at another node, what a read shows is final.
#[test]
fn after_a_fence_the_fate_of_an_unknown_write_is_settled() {
    for reached in [vec![], vec![2]] {
        let mut cluster = Cluster::new(3);
        cluster.rule(|flight| if flight.is("Accept") { Fate::Park } else { Fate::Deliver });
        cluster.machine(1).slow_disk = true;
        cluster.ask_as(1, CLIENT, 1, Sent::First, put("k", "mine", vec![]));
        cluster.deliver_all();
        cluster.no_rule();
        cluster.crash(1);
        let (now, late): (Vec<_>, Vec<_>) = std::mem::take(&mut cluster.parked)
            .into_iter()
            .partition(|flight| reached.contains(&flight.to.0));
        cluster.flights.extend(now);
        cluster.deliver_all();
        let fenced = value(&cluster.call(3, fence("k")));
        cluster.flights.extend(late);
        cluster.deliver_all();
        for node in 2..=3 {
            assert_eq!(value(&cluster.call(node, get("k"))), fenced, "{reached:?}");
        }
    }
}

/// to one that was sent before, no quorum is no definite answer; to a read it is.
#[test]
fn a_repeat_is_never_refused_for_want_of_a_quorum() {
    let mut cluster = Cluster::new(3);
    cluster.split(&[1], &[2, 3]);
    cluster.run(Duration::from_secs(3));
    for command in [
        put("k", "v", vec![]),
        put_if_absent("k", "v", vec![]),
        remove("k"),
        compare_and_set("k", Expect::Absent, "v"),
    ] {
        let what = command.to_string();
        let again = cluster.call_as(1, CLIENT, 1, Sent::Again, command);
        assert_eq!(again, Outcome::Unknown, "{what}");
    }
    assert_eq!(cluster.call_as(1, CLIENT, 2, Sent::Again, get("k")), NO_QUORUM);
}

/// A-15, P-09: a repeat whose binding has ended since may have been put while it had not: `Unknown`
/// rather than a refusal.
#[test]
fn a_repeat_is_never_refused_for_its_binding() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(3);
    let bound = || put("k", "v", vec![synod::Bind::Session(session)]);
    lose(&mut cluster, &[2], bound());
    cluster.call(3, Command::CloseSession(session));
    cluster.run(Duration::from_secs(2));
    let again = cluster.call_as(2, CLIENT, 1, Sent::Again, bound());
    assert_eq!(again, Outcome::Unknown);
    let fresh = cluster.call(2, bound());
    assert!(matches!(fresh, Outcome::Refused(Refusal::InvalidBinding(_))), "{fresh}");
    assert_eq!(value(&cluster.call(3, get("k"))), None);
}

/// I1: a ballot is never used by two lives of a node, so a restarted proposer's old accepts and new
/// ones are never taken for each other.
#[test]
fn a_restarted_proposer_uses_new_ballots() {
    let mut cluster = Cluster::new(3);
    let mut seen: Vec<Ballot> = Vec::new();
    for attempt in 0..4 {
        let written = cluster.call(1, put("k", &format!("v{attempt}"), vec![]));
        let Outcome::Written { version, .. } = written else { panic!("{written}") };
        assert!(seen.iter().all(|before| *before < version), "{version} after {seen:?}");
        seen.push(version);
        cluster.restart(1);
        cluster.run(ms(500));
    }
    assert_eq!(seen.last().map(|ballot| ballot.incarnation.0), Some(4), "each life of its own");
}

/// A promise or an acceptance for the previous life of a proposer finds nobody to count it.
#[test]
fn replies_to_an_earlier_life_are_not_counted() {
    let mut cluster = Cluster::new(5);
    cluster.rule(|flight| {
        let reply = flight.is("Accepted") && flight.is_about("k");
        if reply { Fate::Park } else { Fate::Deliver }
    });
    cluster.ask(1, put("k", "old", vec![]));
    cluster.deliver_all();
    let late = std::mem::take(&mut cluster.parked);
    assert_eq!(late.len(), 4);
    cluster.restart(1);
    cluster.run(ms(300));
    // The new life proposes too, but its own accepts get nowhere.
    cluster.rule(|flight| if flight.is("Accept") { Fate::Lose } else { Fate::Deliver });
    let asked = cluster.ask(1, put("k", "new", vec![]));
    cluster.deliver_all();
    cluster.flights.extend(late);
    cluster.deliver_all();
    assert_eq!(
        cluster.answered(asked),
        None,
        "votes for the old life elect nothing in the new one"
    );
}

/// W1, Z9: the same acceptance twice is one vote.
#[test]
fn duplicated_votes_count_once() {
    let mut cluster = Cluster::new(5);
    let asked = cluster.ask(1, put("k", "v", vec![]));
    cluster.deliver(|flight| flight.is("Prepare"));
    let promises: Vec<_> = cluster.flights.iter().filter(|f| f.is("Promise")).cloned().collect();
    let one = promises.first().expect("a promise").clone();
    cluster.lose(|flight| flight.is("Promise"));
    for _ in 0..4 {
        cluster.flights.push(one.clone());
    }
    cluster.deliver_all();
    assert!(!cluster.log.iter().any(|line| line.starts_with("1->2 Accept t0/k")), "two promises");
    cluster.rule(|flight| match flight.kind().as_str() {
        "Accept" if flight.to != NodeId(2) => Fate::Lose,
        "Accepted" => Fate::Park,
        _ => Fate::Deliver,
    });
    cluster.flights.extend(promises);
    cluster.deliver_all();
    let vote = cluster.parked.first().expect("2 has accepted").clone();
    cluster.flights.extend(vec![vote; 4]);
    cluster.deliver_all();
    assert_eq!(cluster.answered(asked), None, "one's own vote and one other's are two of five");
}
