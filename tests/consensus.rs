//! What a consensus table promises, seen through the public seam.

mod support;

use std::time::Duration;

use support::{Cluster, get, get_local, put, put_if_absent, remove, value};
use synod::{Bind, Command, NodeId, Outcome, Refusal, Wall};

/// P-04, P-05: the first value chosen wins for ever, and every node says so.
#[test]
fn the_first_value_chosen_wins_for_ever() {
    let mut cluster = Cluster::new(3);
    let first = cluster.call(1, put_if_absent("k", "a", vec![]));
    assert!(matches!(&first, Outcome::Chosen { won: true, .. }), "{first}");
    for node in 1..=3 {
        let later = cluster.call(node, put_if_absent("k", "b", vec![]));
        assert!(matches!(&later, Outcome::Chosen { won: false, .. }), "{later}");
        assert_eq!(value(&later).as_deref(), Some("a"));
        assert_eq!(value(&cluster.call(node, get("k"))).as_deref(), Some("a"));
    }
}

/// P-13: what is removed stays removed, and the key is free.
#[test]
fn a_removed_value_never_comes_back() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("k", "a", vec![]));
    cluster.split(&[1, 2], &[3]);
    cluster.call(1, remove("k"));
    cluster.heal();
    for node in 1..=3 {
        assert_eq!(value(&cluster.call(node, get("k"))), None);
    }
    let again = cluster.call(3, put_if_absent("k", "b", vec![]));
    assert!(matches!(again, Outcome::Chosen { won: true, .. }));
}

/// P-14, P-15, P-16: the end of a session erases what is bound to it, everywhere.
#[test]
fn a_key_ends_with_its_session() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(2);
    let bound = cluster.call(1, put_if_absent("lock", "me", vec![Bind::Session(session)]));
    assert!(matches!(bound, Outcome::Chosen { won: true, .. }), "{bound}");
    cluster.call(2, Command::CloseSession(session));
    cluster.run(Duration::from_secs(2));
    for node in 1..=3 {
        assert_eq!(value(&cluster.call(node, get_local("lock"))), None);
    }
    let again = cluster.call(3, put_if_absent("lock", "you", vec![Bind::Session(session)]));
    assert!(matches!(again, Outcome::Refused(Refusal::InvalidBinding(_))), "{again}");
}

/// P-18: a key bound to a node ends when a quorum has not heard the node for long enough.
#[test]
fn a_key_ends_with_its_node() {
    let mut cluster = Cluster::new(3);
    let bound = cluster.call(1, put("k", "v", vec![Bind::Node(NodeId(3))]));
    assert!(matches!(bound, Outcome::Written { .. }), "{bound}");
    cluster.split(&[1, 2], &[3]);
    cluster.run(Duration::from_millis(1500));
    assert!(value(&cluster.call(1, get("k"))).is_some(), "a short cut ends nothing");
    cluster.run(Duration::from_secs(5));
    assert_eq!(value(&cluster.call(1, get("k"))), None);
}

/// P-19: chains end from the top down.
#[test]
fn dependent_keys_end_in_cascade() {
    let mut cluster = Cluster::new(3);
    let key = |name: &str| Bind::Key { table: support::TABLE, key: synod::Key::from(name) };
    cluster.call(1, put_if_absent("a", "1", vec![]));
    cluster.call(2, put_if_absent("b", "2", vec![key("a")]));
    cluster.call(3, put_if_absent("c", "3", vec![key("b")]));
    assert!(value(&cluster.call(1, get("c"))).is_some());
    cluster.call(2, remove("a"));
    cluster.run(Duration::from_secs(2));
    for name in ["a", "b", "c"] {
        assert_eq!(value(&cluster.call(3, get_local(name))), None, "{name}");
    }
    let orphan = cluster.call(1, put_if_absent("d", "4", vec![key("a")]));
    assert!(matches!(orphan, Outcome::Refused(Refusal::InvalidBinding(_))), "{orphan}");
}

/// P-20: a deadline is over when a quorum of clocks says so, whatever one clock says.
#[test]
fn one_fast_clock_ends_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.machine(3).wall_ahead = 3_600_000;
    let until = Wall(1_000_000 + cluster.now.0 / 1_000_000 + 10_000);
    cluster.call(1, put("k", "v", vec![Bind::Until(until)]));
    cluster.run(Duration::from_secs(3));
    assert!(value(&cluster.call(3, get("k"))).is_some(), "the reader's own clock is fast");
    cluster.run(Duration::from_secs(9));
    assert_eq!(value(&cluster.call(1, get("k"))), None);
}
