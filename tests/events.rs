//! What a node tells without being asked: quorum, reachability, readiness.

mod support;

use std::time::Duration;

use support::{Cluster, config, get, ms, put, remove, topic};
use synod::{Event, Input, NodeId, Outcome, Readiness, Refusal, Topic};

/// The events about the quorum alone: `true` is reached.
fn quorum(cluster: &Cluster, client: u64) -> Vec<bool> {
    let told = cluster.told(client).into_iter();
    told.filter_map(|event| {
        let reached = matches!(event, Event::QuorumReached { .. });
        let lost = matches!(event, Event::QuorumLost { .. });
        (reached || lost).then_some(reached)
    })
    .collect()
}

fn alternates(events: &[bool]) -> bool {
    events.windows(2).all(|pair| pair[0] != pair[1])
}

/// P-25: down to one of three is exactly one `QuorumLost`; back is exactly one `QuorumReached`; the
/// first event tells the state at the subscription.
#[test]
fn losing_and_reaching_a_quorum_are_one_event_each() {
    let mut cluster = Cluster::new(3);
    cluster.subscribe(1, 50, Topic::Quorum);
    assert_eq!(quorum(&cluster, 50), [true], "as it is");
    cluster.crash(2);
    cluster.run(Duration::from_secs(10));
    assert_eq!(quorum(&cluster, 50), [true], "two of three are enough");
    cluster.crash(3);
    cluster.run(Duration::from_secs(10));
    assert_eq!(quorum(&cluster, 50), [true, false]);
    cluster.start(2);
    cluster.run(Duration::from_secs(10));
    assert_eq!(quorum(&cluster, 50), [true, false, true]);
    cluster.start(3);
    cluster.run(Duration::from_secs(10));
    assert_eq!(quorum(&cluster, 50), [true, false, true]);
}

/// P-25: a subscription in the minority begins with the loss.
#[test]
fn a_subscription_begins_with_the_state_as_it_is() {
    let mut cluster = Cluster::unstarted((1..=3).map(|node| config(node, 3)));
    cluster.start(1);
    cluster.subscribe(1, 50, Topic::Quorum);
    assert_eq!(quorum(&cluster, 50), [false]);
    cluster.start(2);
    cluster.run(Duration::from_secs(1));
    assert_eq!(quorum(&cluster, 50), [false, true]);
}

/// P-25: flapping links give alternating events, never two equal in a row, whatever the rhythm.
#[test]
fn flapping_gives_alternating_events() {
    for rhythm in [300, 700, 1_900, 2_100, 2_600, 4_000] {
        let mut cluster = Cluster::new(3);
        for node in 1..=3 {
            cluster.subscribe(node, 50 + u64::from(node), Topic::Quorum);
        }
        for round in 0..12u16 {
            cluster.heal();
            if round % 2 == 0 {
                cluster.split(&[1], &[2, 3]);
            } else if round % 3 == 0 {
                cluster.split(&[2], &[1, 3]);
            }
            cluster.run(ms(rhythm));
        }
        cluster.heal();
        cluster.run(Duration::from_secs(3));
        for client in 51..=53 {
            let events = quorum(&cluster, client);
            assert!(alternates(&events), "{rhythm} ms, {client}: {events:?}");
            assert_eq!(events.last(), Some(&true), "L5: and the last one is true");
        }
    }
}

/// P-25: two subscribers each get their own alternating sequence; one may be another's client; one
/// that has unsubscribed, or whose node is gone, is told nothing.
#[test]
fn each_subscriber_has_its_own_sequence() {
    let mut cluster = Cluster::new(3);
    cluster.subscribe(1, 50, Topic::Quorum);
    cluster.split(&[1], &[2, 3]);
    cluster.run(Duration::from_secs(3));
    cluster.subscribe(1, 51, Topic::Quorum);
    cluster.subscribe(1, 51, Topic::Quorum);
    cluster.unsubscribe(1, 50, Topic::Quorum);
    cluster.heal();
    cluster.run(Duration::from_secs(3));
    assert_eq!(quorum(&cluster, 50), [true, false], "nothing behind the unsubscription");
    assert_eq!(quorum(&cluster, 51), [false, true], "subscribing twice is subscribing once");
    cluster.unsubscribe(1, 51, Topic::Quorum);
    cluster.unsubscribe(1, 51, Topic::Quorum);
    cluster.split(&[1], &[2, 3]);
    cluster.run(Duration::from_secs(3));
    assert_eq!(quorum(&cluster, 51).len(), 2);
}

/// P-25: a subscriber of one key hears of that key only, and of nothing once it has unsubscribed.
#[test]
fn a_watcher_hears_of_its_key_only() {
    let mut cluster = Cluster::new(3);
    for key in ["watched", "other"] {
        cluster.call(1, put(key, "v", vec![]));
    }
    cluster.subscribe(2, 50, topic("watched"));
    cluster.run(ms(100));
    cluster.call(1, remove("other"));
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.told(50), []);
    cluster.unsubscribe(2, 50, topic("watched"));
    cluster.call(1, remove("watched"));
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.told(50), []);
}

/// P-24: what a node says of its cluster is right before and after members come and go, and
/// `has_quorum` is false within the detection bound of losing it.
#[test]
fn status_tells_who_is_there() {
    let mut cluster = Cluster::new(5);
    let all: Vec<NodeId> = (1..=5).map(NodeId).collect();
    for node in 1..=5 {
        let status = cluster.status(node);
        assert_eq!((status.node, status.epoch.0), (NodeId(node), 1));
        assert_eq!((status.cluster_size, status.quorum_size), (5, 3));
        assert_eq!((status.reachable, status.has_quorum), (all.clone(), true));
        assert_eq!((status.readiness, status.node_session), (Readiness::Ready, Some(1)));
        assert_eq!((status.sessions, status.requests), (0, 0));
        assert_eq!(status.registers, 5, "the session of each");
    }
    cluster.crash(4);
    cluster.crash(5);
    cluster.run(ms(2_300));
    let status = cluster.status(1);
    assert_eq!((status.reachable, status.has_quorum), (all[..3].to_vec(), true));
    cluster.crash(3);
    let bound = ms(2_000 + 250 + 10);
    cluster.run(bound);
    let status = cluster.status(1);
    assert_eq!(
        (status.reachable, status.has_quorum),
        (all[..2].to_vec(), false),
        "within {bound:?}"
    );
    assert_eq!(status.node_session, None, "and its own session is not to be relied on");
    cluster.start(5);
    cluster.run(ms(300));
    let status = cluster.status(1);
    let expected = vec![NodeId(1), NodeId(2), NodeId(5)];
    assert_eq!((status.reachable, status.has_quorum), (expected, true));
}

/// P-24: sessions, requests and registers are counted.
#[test]
fn status_counts_what_the_node_holds() {
    let mut cluster = Cluster::new(3);
    cluster.open_session(1);
    cluster.open_session(1);
    cluster.call(1, put("k", "v", vec![]));
    cluster.ask(1, put("k", "w", vec![]));
    cluster.ask(1, get("k"));
    let status = cluster.status(1);
    assert_eq!((status.sessions, status.requests, status.registers), (2, 2, 4));
    cluster.deliver_all();
    assert_eq!(cluster.status(1).requests, 0);
}

/// P-25, Z67: a link that works one way only is no link.
#[test]
fn a_one_way_link_counts_as_lost() {
    for towards in [true, false] {
        let mut cluster = Cluster::new(3);
        for other in 2..=3 {
            let (one, two) = (NodeId(1), NodeId(other));
            cluster.cut.push(if towards { (one, two) } else { (two, one) });
        }
        cluster.run(Duration::from_secs(3));
        let status = cluster.status(1);
        assert_eq!((status.reachable, status.has_quorum), (vec![NodeId(1)], false));
        assert_eq!(cluster.call(1, put("k", "v", vec![])), support::NO_QUORUM);
    }
}

/// P-25: a quorum must have been heard for `up` before it counts as reached.
#[test]
fn a_quorum_counts_only_after_it_has_lasted() {
    let mut cluster = Cluster::with(3, |config| config.timing.up = Duration::from_secs(1));
    cluster.subscribe(1, 50, Topic::Quorum);
    cluster.split(&[1], &[2, 3]);
    cluster.run(Duration::from_secs(3));
    for _ in 0..4 {
        cluster.heal();
        cluster.run(ms(300));
        cluster.split(&[1], &[2, 3]);
        cluster.run(Duration::from_secs(3));
    }
    let events = quorum(&cluster, 50);
    assert!(alternates(&events) && events.len() <= 10, "{events:?}");
    cluster.heal();
    cluster.run(ms(700));
    assert!(!cluster.status(1).has_quorum, "not yet");
    cluster.run(ms(700));
    assert!(cluster.status(1).has_quorum);
}

/// A hint that a link is up is no evidence: it makes the node try, and nothing else.
#[test]
fn a_link_hint_is_no_evidence() {
    let mut cluster = Cluster::new(3);
    cluster.split(&[1], &[2, 3]);
    cluster.run(Duration::from_secs(3));
    for peer in [2, 3, 1, 99] {
        cluster.input(1, Input::Link { peer: NodeId(peer), up: true });
    }
    assert!(!cluster.status(1).has_quorum);
    cluster.heal();
    for peer in [2, 3] {
        cluster.input(1, Input::Link { peer: NodeId(peer), up: false });
    }
    cluster.input(1, Input::Link { peer: NodeId(2), up: true });
    cluster.deliver_all();
    assert!(cluster.status(1).has_quorum, "tried at once, no time has passed");
}

/// Bounded: subscriptions are refused beyond the limit, also to one topic, and room is made by
/// unsubscribing.
#[test]
fn subscriptions_are_bounded() {
    let mut cluster = Cluster::with(3, |config| config.limits.subscriptions_max = 3);
    cluster.subscribe(1, 50, Topic::Quorum);
    cluster.subscribe(1, 50, topic("a"));
    cluster.subscribe(1, 51, topic("a"));
    for wanted in [topic("a"), topic("b")] {
        let refused = cluster.at_once(1, synod::Command::Subscribe(wanted));
        assert_eq!(refused, Outcome::Refused(Refusal::Busy));
    }
    cluster.unsubscribe(1, 51, topic("a"));
    cluster.unsubscribe(1, 51, topic("a"));
    cluster.subscribe(1, 50, topic("b"));
    cluster.subscribe(1, 50, topic("b"));
    let refused = cluster.at_once(1, synod::Command::Subscribe(topic("c")));
    assert_eq!(refused, Outcome::Refused(Refusal::Busy));
}

/// Bounded: subscribing to a key over and over asks the others about it once at a time.
#[test]
fn a_watched_key_is_looked_at_once_at_a_time() {
    let mut cluster = Cluster::new(3);
    cluster.subscribe(1, 50, topic("a"));
    let sent = cluster.sent;
    for _ in 0..100 {
        cluster.unsubscribe(1, 50, topic("a"));
        cluster.subscribe(1, 50, topic("a"));
    }
    assert_eq!(cluster.sent, sent, "the first look is under way");
}
