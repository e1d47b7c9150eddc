//! Rounds that no proposer reached, from peers that keep no rules.

mod support;

use support::{Cluster, put};
use synod::{
    Ballot, Body, ClusterId, Epoch, Incarnation, Input, Message, NodeId, Outcome, consensus,
};

fn from_two(cluster: &Cluster, body: consensus::Message) -> Message {
    Message {
        cluster: ClusterId(1),
        epoch: Epoch(1),
        life: cluster.node(2).life(),
        incarnation: Incarnation(1),
        body: Body::Consensus(body),
    }
}

fn ballot(round: u64, node: u16) -> Ballot {
    Ballot { epoch: Epoch(1), round, node: NodeId(node), incarnation: Incarnation(1), sequence: 0 }
}

/// Z66: a poisoned round in a rejection leads the proposer nowhere, and it gets through.
#[test]
fn a_poisoned_rejection_costs_nothing() {
    let mut cluster = Cluster::new(3);
    let asked = cluster.ask(1, put("k", "v", vec![]));
    let prepare = cluster.flights.iter().find(|flight| flight.is("Prepare")).expect("sent");
    let Some(consensus::Message::Prepare { tag, register, ballot: asked_for }) =
        prepare.consensus()
    else {
        panic!("not a prepare")
    };
    let reject = consensus::Message::Reject {
        tag: *tag,
        register: register.clone(),
        ballot: *asked_for,
        promised: ballot(u64::MAX, 2),
    };
    let message = from_two(&cluster, reject);
    cluster.input(1, Input::Message { from: NodeId(2), message });
    let answer = cluster.answer(asked);
    assert!(matches!(answer, Outcome::Written { .. }), "{answer}");
    assert!(matches!(cluster.call(3, put("k", "w", vec![])), Outcome::Written { .. }));
}
