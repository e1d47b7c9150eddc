//! What happens while no quorum can be had: who waits, who is refused, and what may be believed.

mod support;

use std::time::Duration;

use support::{
    Cluster, Fate, NO_QUORUM, bound_to_key, config, fence, get, keys, ms, put, put_if_absent,
    remove, value, won,
};
use synod::{Command, OnNoQuorum, Outcome, Readiness, Refusal, RequestId, Sent};

const PATIENT: Duration = Duration::from_secs(60);

/// A cluster of three whose first node has been alone for long enough to know it.
fn minority() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.split(&[1], &[2, 3]);
    cluster.run(Duration::from_secs(3));
    assert!(!cluster.status(1).has_quorum);
    cluster
}

/// P-07, P-08: by default a call in a minority is refused at once, without a message about it.
#[test]
fn a_minority_refuses_at_once_by_default() {
    let mut cluster = minority();
    assert_eq!(OnNoQuorum::default(), OnNoQuorum::Return);
    let before = (cluster.holdings(1), cluster.sent);
    let commands = [
        put_if_absent("k", "v", vec![]),
        put("k", "v", vec![]),
        remove("k"),
        get("k"),
        fence("k"),
        keys(None, 10),
    ];
    for command in commands {
        let what = command.to_string();
        assert_eq!(cluster.at_once(1, command), NO_QUORUM, "{what}");
    }
    assert_eq!((cluster.holdings(1), cluster.sent), before, "nothing was asked or changed");
}

/// P-07: a caller that retries is answered when the quorum is back, five seconds later.
#[test]
fn a_retrying_call_completes_when_the_quorum_returns() {
    let mut cluster = minority();
    let retrying = cluster.ask_with(1, OnNoQuorum::Retry, PATIENT, put_if_absent("k", "v", vec![]));
    let reading = cluster.ask_with(1, OnNoQuorum::Retry, PATIENT, get("other"));
    cluster.run(Duration::from_secs(5));
    assert_eq!((cluster.answered(retrying), cluster.answered(reading)), (None, None));
    cluster.heal();
    cluster.run(Duration::from_secs(1));
    let answer = cluster.answered(retrying).expect("answered soon after healing");
    assert!(won(answer), "{answer}");
    assert!(matches!(cluster.answered(reading), Some(Outcome::Found { entry: None, .. })));
}

/// P-07: a retrying caller is not kept beyond its patience, and is told that nothing happened.
#[test]
fn a_retrying_call_ends_at_its_deadline() {
    let mut cluster = minority();
    let patience = Duration::from_secs(4);
    let commands = [
        put_if_absent("k", "v", vec![]),
        put("k", "v", vec![bound_to_key("parent")]),
        remove("k"),
        get("k"),
        fence("k"),
        keys(None, 10),
        Command::OpenSession,
    ];
    let asked: Vec<_> = commands
        .into_iter()
        .map(|command| {
            (command.to_string(), cluster.ask_with(1, OnNoQuorum::Retry, patience, command))
        })
        .collect();
    let end = cluster.now + patience;
    while cluster.now < end {
        for (what, asked) in &asked {
            assert_eq!(cluster.answered(*asked), None, "{what} at {}", cluster.now);
        }
        cluster.step(ms(10));
    }
    for (what, asked) in asked {
        assert_eq!(cluster.answered(asked), Some(&NO_QUORUM), "{what}");
    }
}

/// P-07, A-15: what was refused for want of a quorum never takes effect, whatever comes later.
#[test]
fn a_definite_no_quorum_never_takes_effect() {
    let mut cluster = Cluster::new(3);
    // The quorum is lost and the node does not know it yet: its prepare goes out, and is lost.
    cluster.split(&[1], &[2, 3]);
    let asked = cluster.ask(1, put("k", "v", vec![]));
    assert_eq!(cluster.answer(asked), NO_QUORUM, "phase 1 asks nobody to accept anything");
    cluster.heal();
    cluster.run(Duration::from_secs(5));
    for node in 1..=3 {
        assert_eq!(value(&cluster.call(node, get("k"))), None);
        assert_eq!(cluster.held(node, "k").and_then(|(.., cell)| cell), None, "nowhere accepted");
    }
}

/// P-07, A-15: once an acceptor may have been asked to accept, no quorum means `Unknown`, whether
/// the caller waits or not.
#[test]
fn an_accept_that_left_makes_the_answer_unknown() {
    for on_no_quorum in [OnNoQuorum::Return, OnNoQuorum::Retry] {
        let mut cluster = Cluster::new(3);
        let asked =
            cluster.ask_with(1, on_no_quorum, Duration::from_secs(6), put("k", "v", vec![]));
        cluster.deliver(|flight| flight.is("Prepare"));
        cluster.deliver(|flight| flight.is("Promise"));
        assert!(cluster.flights.iter().any(|flight| flight.is("Accept")));
        cluster.split(&[1], &[2, 3]);
        let before = cluster.now;
        assert_eq!(cluster.answer(asked), Outcome::Unknown, "{on_no_quorum:?}");
        let took = cluster.now.since(before);
        let expected = if on_no_quorum == OnNoQuorum::Return { 3 } else { 6 };
        assert!(took <= Duration::from_secs(expected) + ms(50), "{on_no_quorum:?}: {took:?}");
    }
}

/// `Unknown` is an answer like any other: when the write takes effect after all, the
/// client is not told a second time, and can find out by asking.
#[test]
fn an_unknown_write_may_take_effect_and_is_answered_once() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| if flight.is("Accept") { Fate::Park } else { Fate::Deliver });
    let asked = cluster.ask_as(1, 7, 1, Sent::First, put("k", "v", vec![]));
    assert_eq!(cluster.answer(asked), Outcome::Unknown);
    cluster.no_rule();
    cluster.unpark();
    cluster.deliver_all();
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.answered(asked), Some(&Outcome::Unknown), "and nothing else came");
    assert_eq!(value(&cluster.call(2, get("k"))).as_deref(), Some("v"), "it took effect late");
    let again = cluster.call_as(3, 7, 1, Sent::Again, put("k", "v", vec![]));
    assert!(matches!(again, Outcome::Written { .. }), "asked by its number: {again}");
}

/// every answer is one of three kinds, and a rejection is never the fate of a write that
/// took effect.
#[test]
fn rejected_unknown_and_done_do_not_mix() {
    assert!(NO_QUORUM.is_rejected());
    assert!(Outcome::Refused(Refusal::Busy).is_rejected());
    assert!(!Outcome::Unknown.is_rejected());
    assert!(!Outcome::Done.is_rejected());
    let mut cluster = Cluster::new(3);
    let put = cluster.call(1, put("k", "v", vec![]));
    assert!(!put.is_rejected() && put != Outcome::Unknown, "{put}");
}

/// P-34: calls made before the second node is up complete when it comes, whatever they are about.
#[test]
fn calls_wait_for_the_cluster_to_come_up() {
    let mut cluster = Cluster::unstarted((1..=3).map(|node| config(node, 3)));
    cluster.start(1);
    let retry = OnNoQuorum::Retry;
    let put = cluster.ask_with(1, retry, PATIENT, put_if_absent("k", "v", vec![]));
    let session = cluster.ask_with(1, retry, PATIENT, Command::OpenSession);
    let listing = cluster.ask_with(1, retry, PATIENT, keys(None, 10));
    cluster.run(Duration::from_secs(10));
    for asked in [put, session, listing] {
        assert_eq!(cluster.answered(asked), None);
    }
    cluster.start(2);
    cluster.run(Duration::from_secs(2));
    assert!(cluster.answered(put).is_some_and(won));
    assert!(matches!(cluster.answered(session), Some(Outcome::Session(_))));
    assert!(matches!(cluster.answered(listing), Some(Outcome::Keys { .. })));
}

/// P-34: the same where new storage has to be witnessed by peers that are not there yet.
#[test]
fn calls_wait_for_witnesses() {
    let configs = (1..=3).map(|node| {
        let mut config = config(node, 3);
        config.genesis = synod::Genesis::Witnessed;
        config
    });
    let mut cluster = Cluster::unstarted(configs);
    cluster.start(1);
    assert_eq!(cluster.readiness(1), Readiness::Unwitnessed);
    let waiting = cluster.ask_with(1, OnNoQuorum::Retry, PATIENT, put_if_absent("k", "v", vec![]));
    let refused = cluster.at_once(1, put_if_absent("k", "w", vec![]));
    assert_eq!(refused, Outcome::Refused(Refusal::NotReady(Readiness::Unwitnessed)));
    cluster.start(2);
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.answered(waiting), None, "one witness of two is not enough");
    cluster.start(3);
    cluster.run(Duration::from_secs(2));
    assert!(cluster.answered(waiting).is_some_and(won));
}

/// a request repeated while it is in flight is the same request: executed once,
/// answered once.
#[test]
fn a_repeat_in_flight_is_the_same_request() {
    let mut cluster = Cluster::new(3);
    let first = cluster.ask_as(1, 7, 1, Sent::First, put("k", "v", vec![]));
    let sent = cluster.sent;
    let second = cluster.ask_as(1, 7, 1, Sent::Again, put("k", "v", vec![]));
    assert_eq!((first, cluster.sent), (second, sent), "the repeat starts nothing");
    assert!(matches!(cluster.answer(first), Outcome::Written { .. }));
    cluster.run(Duration::from_secs(2));
    assert_eq!(first.1, RequestId(1));
}
