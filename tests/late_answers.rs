//! Answers to heartbeats that arrive after the life they were meant for.

mod support;

use std::time::Duration;

use support::{Cluster, Fate, config, ms, put_if_absent, value, won};
use synod::{Genesis, Input, NodeId, Readiness};

/// P-32, W6: peers that took note of the old storage do not vouch for the new, however late their
/// answers come. Two values were chosen once.
#[test]
fn a_wiped_node_does_not_vote_on_what_its_old_life_was_told() {
    let configs = (1..=5).map(|node| {
        let mut c = config(node, 5);
        c.genesis = Genesis::Witnessed;
        c
    });
    let mut cluster = Cluster::unstarted(configs);
    // 5 has never heard 1
    cluster.split(&[5], &[1]);
    for n in 1..=5 {
        cluster.start(n);
    }
    cluster.rule(|f| {
        if f.is("HeartbeatAck") && f.to == NodeId(1) && f.message.to_string() != "HeartbeatAck 1" {
            Fate::Park
        } else {
            Fate::Deliver
        }
    });
    cluster.run(Duration::from_secs(1));
    cluster.no_rule();
    cluster.run(Duration::from_secs(1));
    let parked = std::mem::take(&mut cluster.parked);
    assert_eq!(cluster.readiness(1), Readiness::Ready);
    assert!(!parked.is_empty(), "answers to its first life are still on their way");
    // chosen on 1,2,3
    cluster.heal();
    cluster.split(&[1, 2, 3], &[4, 5]);
    assert!(won(&cluster.call(1, put_if_absent("k", "a", vec![]))));
    cluster.wipe(1);
    cluster.heal();
    cluster.split(&[2, 3], &[1, 4, 5]);
    cluster.split(&[1], &[2, 3, 4]);
    cluster.start(1);
    cluster.step(ms(10));
    cluster.run(Duration::from_secs(4));
    for f in parked {
        cluster.input(1, Input::Message { from: f.from, message: f.message });
        cluster.deliver_all();
    }
    cluster.run(Duration::from_secs(1));
    let b = cluster.call(5, put_if_absent("k", "b", vec![]));
    assert_ne!(value(&b).as_deref(), Some("b"));
    assert_ne!(cluster.readiness(1), Readiness::Ready);
}

/// P-24: who is reachable is what was heard in this life.
#[test]
fn an_answer_to_an_earlier_process_life_proves_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|f| {
        if f.is("HeartbeatAck") && f.to == NodeId(1) { Fate::Park } else { Fate::Deliver }
    });
    cluster.run(Duration::from_secs(1));
    cluster.crash(1);
    cluster.no_rule();
    cluster.split(&[1], &[2, 3]);
    cluster.run(Duration::from_secs(3));
    cluster.start(1);
    cluster.run(ms(3_500));
    let parked = std::mem::take(&mut cluster.parked);
    assert!(!parked.is_empty());
    for f in parked {
        cluster.input(1, Input::Message { from: f.from, message: f.message });
    }
    assert_eq!(cluster.status(1).reachable, [NodeId(1)]);
}
