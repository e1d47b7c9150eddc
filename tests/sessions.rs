//! What the holder of a session is told, and that it is told in time.

mod support;

use std::time::Duration;

use support::{Cluster, Fate, bound_to_key, get, ms, put, value};
use synod::{Bind, Command, Event, Input, NodeId, OnNoQuorum, Outcome, Refusal, Sent, SessionId};

/// The client that [`Cluster::open_session`] opens sessions for.
const HOLDER: u64 = 100;

#[expect(clippy::wildcard_enum_match_arm, reason = "these are all there are about sessions")]
fn story(cluster: &Cluster) -> Vec<&'static str> {
    let told = cluster.told(HOLDER).into_iter();
    told.map(|event| match event {
        Event::SessionSuspended(_) => "suspended",
        Event::SessionResumed(_) => "resumed",
        Event::SessionLost(_) => "lost",
        other => panic!("not about a session: {other}"),
    })
    .collect()
}

/// M3: a host that no quorum has heard for a while says so to its clients, and takes it back once
/// it has renewed its session. What is bound lives on.
#[test]
fn a_short_cut_suspends_and_resumes() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    cluster.split(&[1], &[2, 3]);
    cluster.run(ms(900));
    assert_eq!(story(&cluster), [""; 0], "a lost heartbeat or two is nothing");
    cluster.run(ms(500));
    assert_eq!(story(&cluster), ["suspended"]);
    cluster.heal();
    cluster.run(Duration::from_secs(1));
    assert_eq!(story(&cluster), ["suspended", "resumed"]);
    cluster.run(Duration::from_secs(10));
    assert_eq!(story(&cluster), ["suspended", "resumed"], "and nothing more");
    assert!(value(&cluster.call(2, get("k"))).is_some());
}

/// M2: the session of a node that has died is closed when it has been silent for long enough, and
/// not only with the next sweep, wherever in a sweep and between heartbeats it dies.
#[test]
fn a_dead_host_is_closed_in_its_time() {
    for phase in 0..5 {
        let mut cluster = Cluster::new(3);
        let session = cluster.open_session(1);
        cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
        cluster.run(ms(100 * phase));
        cluster.crash(1);
        let begun = cluster.now;
        while value(&cluster.call(2, get("k"))).is_some() {
            cluster.step(ms(10));
            let waited = cluster.now.since(begun);
            // Two seconds of silence, and what it takes to have it decided.
            assert!(waited < ms(2_200), "phase {phase}: not closed after {waited:?}");
        }
    }
}

/// M3: a long cut ends the session. The holder is told that it is suspended before anybody else can
/// find the key erased, and that it is lost once the host is back.
#[test]
fn a_long_cut_suspends_and_loses() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    cluster.split(&[1], &[2, 3]);
    let mut waited = Duration::ZERO;
    while value(&cluster.call(2, get("k"))).is_some() {
        cluster.step(ms(10));
        waited += ms(10);
        assert!(waited < Duration::from_secs(20), "never erased");
    }
    assert_eq!(story(&cluster), ["suspended"], "told before the key could be taken");
    cluster.heal();
    cluster.run(Duration::from_secs(2));
    assert_eq!(story(&cluster), ["suspended", "lost"]);
    assert!(!cluster.monitored.contains(&session), "nobody need watch its client any more");
    let next = cluster.open_session(1);
    assert_eq!(next.node_session, session.node_session + 1);
}

/// P-09, M4: a host that was cut off does not vouch for what it hosts before it knows again where
/// its own session stands; neither it nor anybody else binds to what was over by then.
#[test]
fn a_suspended_host_vouches_for_nobody() {
    for asked in [1, 2] {
        let mut cluster = Cluster::new(3);
        let session = cluster.open_session(1);
        cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
        cluster.split(&[1], &[2, 3]);
        while value(&cluster.call(2, get("k"))).is_some() {
            cluster.step(ms(10));
        }
        cluster.heal();
        let bound = put("j", "v", vec![Bind::Session(session)]);
        let (retry, patience) = (OnNoQuorum::Retry, Duration::from_secs(5));
        let put = cluster.ask_with(asked, retry, patience, bound);
        let answer = cluster.answer(put);
        let refused = Outcome::Refused(Refusal::InvalidBinding(Bind::Session(session)));
        assert_eq!(answer, refused, "asked at node {asked}");
    }
}

/// M3: the host was not running (a pause, a suspended laptop): its first step after that tells the
/// holder before anything else can be relied on.
#[test]
fn a_pause_is_noticed_at_the_first_step() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    let paused = cluster.machine(1).node.take().expect("running");
    cluster.run(Duration::from_secs(4));
    cluster.machine(1).node = Some(paused);
    // Waiting, for the quorum is lost for a moment, too.
    let bound = put("k", "v", vec![Bind::Session(session)]);
    let asked = cluster.ask_with(1, OnNoQuorum::Retry, Duration::from_secs(5), bound);
    assert_eq!(story(&cluster), ["suspended"]);
    cluster.run(Duration::from_secs(3));
    assert_eq!(story(&cluster), ["suspended", "lost"]);
    let answer = cluster.answer(asked);
    assert!(matches!(answer, Outcome::Refused(Refusal::InvalidBinding(_))), "{answer}");
}

/// M1: a node that was paused itself accuses nobody: silence that it slept through is no evidence.
#[test]
fn a_paused_node_closes_nobodys_session() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    for _ in 0..5 {
        let asleep: Vec<_> = (2..=3)
            .map(|node| (node, cluster.machine(node).node.take().expect("running")))
            .collect();
        // Only the sleepers' clocks would show how long it was: the host is heard by nobody.
        let host = cluster.machine(1).node.take().expect("running");
        cluster.run(Duration::from_secs(10));
        cluster.machine(1).node = Some(host);
        for (node, engine) in asleep {
            cluster.machine(node).node = Some(engine);
        }
        cluster.run(Duration::from_secs(1));
    }
    assert!(value(&cluster.call(2, get("k"))).is_some());
    assert_eq!(cluster.status(1).node_session, Some(session.node_session));
}

/// L7, M2: a host that keeps reaching some quorum, though never the same one, is never closed.
#[test]
fn a_host_that_reaches_some_quorum_is_never_closed() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    for round in 0..20 {
        cluster.heal();
        cluster.split(&[1], &[2 + round % 2]);
        cluster.run(Duration::from_secs(3));
    }
    cluster.heal();
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.status(1).node_session, Some(session.node_session));
    assert!(value(&cluster.call(2, get("k"))).is_some());
    assert!(!story(&cluster).contains(&"lost"));
}

/// L8: whatever happens to the links, every suspension ends in a resumption or a loss, and a lost
/// session is never resumed.
#[test]
fn every_suspension_ends() {
    for cut in (1..12).map(|step| ms(step * 500)) {
        let mut cluster = Cluster::new(3);
        cluster.open_session(1);
        cluster.split(&[1], &[2, 3]);
        cluster.run(cut);
        cluster.heal();
        cluster.run(Duration::from_secs(5));
        let story = story(&cluster);
        let expected: [&[&str]; 3] = [&[], &["suspended", "resumed"], &["suspended", "lost"]];
        assert!(expected.contains(&&*story), "cut of {cut:?}: {story:?}");
    }
}

/// A session can be closed where it is hosted, once; nowhere else, and not one that never was.
#[test]
fn only_the_host_closes_a_session() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    let elsewhere = cluster.at_once(2, Command::CloseSession(session));
    assert_eq!(elsewhere, Outcome::Refused(Refusal::NoSuchSession(session)));
    assert_eq!(cluster.at_once(1, Command::CloseSession(session)), Outcome::Done);
    let again = cluster.at_once(1, Command::CloseSession(session));
    assert_eq!(again, Outcome::Refused(Refusal::NoSuchSession(session)));
    assert!(!cluster.monitored.contains(&session));
    let never = SessionId { host: NodeId(1), node_session: 1, number: 77 };
    let answer = cluster.at_once(1, Command::CloseSession(never));
    assert_eq!(answer, Outcome::Refused(Refusal::NoSuchSession(never)));
}

/// A session is its client's: another that has learned its id cannot end it, nor learn by trying
/// whether it goes on.
#[test]
fn only_its_client_closes_a_session() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    cluster.call(2, put("k", "v", vec![Bind::Session(session)]));
    let stranger = cluster.call_as(1, 7, 1, Sent::First, Command::CloseSession(session));
    assert_eq!(stranger, Outcome::Refused(Refusal::NoSuchSession(session)));
    cluster.run(Duration::from_secs(2));
    assert!(cluster.monitored.contains(&session));
    assert!(value(&cluster.call(3, get("k"))).is_some());
    assert_eq!(cluster.at_once(1, Command::CloseSession(session)), Outcome::Done);
}

/// A host's news of a session that it does not host, or no longer, changes nothing.
#[test]
fn down_for_an_unknown_session_is_harmless() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    for node in 2..=3 {
        cluster.input(node, Input::Down { session });
    }
    let other = SessionId { number: 77, ..session };
    cluster.input(1, Input::Down { session: other });
    cluster.run(Duration::from_secs(2));
    assert!(value(&cluster.call(3, get("k"))).is_some(), "M4: only its host can say");
}

/// Sessions of one host are independent: one ends, the other's keys live on.
#[test]
fn sessions_of_one_host_end_one_by_one() {
    let mut cluster = Cluster::new(3);
    let (one, other) = (cluster.open_session(1), cluster.open_session(1));
    cluster.call(2, put("one", "v", vec![Bind::Session(one)]));
    cluster.call(2, put("other", "v", vec![Bind::Session(other)]));
    assert_eq!(cluster.status(1).sessions, 2);
    cluster.call(1, Command::CloseSession(one));
    cluster.run(Duration::from_secs(2));
    assert_eq!(value(&cluster.call(3, get("one"))), None);
    assert!(value(&cluster.call(3, get("other"))).is_some());
    assert_eq!(cluster.status(1).sessions, 1);
}

/// P-21: a write that began to resolve its bindings anew counts no finding twice. A late answer to
/// the first inquiry once stood in for one of the second, and the write went out without a binding.
#[test]
fn a_late_finding_drops_no_binding() {
    let cut_off = || {
        let mut cluster = Cluster::new(3);
        let session = cluster.open_session(2);
        cluster.call(1, put("parent", "p", vec![]));
        cluster.run(ms(1000));
        cluster.split(&[1], &[2, 3]);
        (cluster, session)
    };
    let (mut cluster, _) = cut_off();
    let lost = (1..1_000).find(|_| {
        cluster.step(ms(10));
        !cluster.status(1).has_quorum
    });
    let lost = lost.expect("a node alone has no quorum");
    for early in [1, 3, 5, 7, 9] {
        let (mut cluster, session) = cut_off();
        (0..lost - early).for_each(|_| cluster.step(ms(10)));
        assert!(cluster.status(1).has_quorum);
        let binds = vec![bound_to_key("parent"), Bind::Session(session)];
        let put = put("child", "v", binds);
        cluster.ask_with(1, OnNoQuorum::Return, Duration::from_secs(20), put);
        (0..101).for_each(|_| cluster.step(ms(1)));
        cluster.rule(|flight| if flight.is_about("parent") { Fate::Lose } else { Fate::Deliver });
        cluster.heal();
        cluster.input(1, Input::Link { peer: NodeId(2), up: true });
        cluster.deliver_all();
        (0..40).for_each(|_| cluster.step(ms(1)));
        cluster.no_rule();
        cluster.run(ms(3_000));
        let got = cluster.call(2, get("child"));
        assert!(got.entry().is_none_or(|entry| entry.bindings.len() == 2), "{got}");
    }
}
