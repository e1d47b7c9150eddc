//! Calls, notices, sessions given up, and what a node says of itself.

use std::time::Duration;

use synod::consensus::Readiness;
use synod::{Ending, OnNoQuorum, Request, Sent, Status, Topic};

use super::*;

/// How long these clients wait.
const PATIENCE: u64 = 200 * MILLI;

impl Rig {
    /// Node 1 handles a request at 0 on its clock.
    fn gives(&mut self, request: u64, sent: Sent, on_no_quorum: OnNoQuorum, command: Command) {
        if sent == Sent::First {
            self.asks(request, command.clone());
        }
        let request = Request {
            client: ClientId::new(1),
            id: RequestId(request),
            sent,
            patience: Duration::from_nanos(PATIENCE),
            on_no_quorum,
            command,
        };
        self.oracle.on_given(0, &request, 0);
    }

    fn gives_put(&mut self, request: u64, sent: Sent, on_no_quorum: OnNoQuorum) {
        let (table, key) = (TableId(0), Key::from("k0"));
        let command = Command::Put { table, key, value: value(request), bindings: Vec::new() };
        self.gives(request, sent, on_no_quorum, command);
    }

    fn replies(&mut self, request: u64, outcome: &Outcome, mono: u64) {
        self.oracle.on_reply(0, op(request), outcome, mono, true);
    }

    /// Node 1 has a quorum, and says so.
    fn reaches(&mut self) {
        self.passes(0, 1, 0);
        self.passes(1, 0, 0);
        self.says_quorum(0, true, 0);
    }
}

fn watch() -> Command {
    Command::Subscribe(Topic::Key(TableId(0), Key::from("k0")))
}

#[test]
fn w14_unknown_is_what_was_proposed() {
    let mut rig = Rig::new();
    rig.gives_put(1, Sent::First, OnNoQuorum::Retry);
    rig.replies(1, &Outcome::Unknown, PATIENCE);
    rig.broken("W14", "unknown though never proposed");
    rig.gives_put(2, Sent::First, OnNoQuorum::Retry);
    rig.proposes(ballot(1, 1), key(), &put(&absent(), 2, ballot(1, 1), &[]));
    rig.replies(2, &Outcome::Unknown, PATIENCE);
    rig.gives_put(1, Sent::Again, OnNoQuorum::Retry);
    rig.replies(1, &Outcome::Unknown, PATIENCE);
    rig.quiet();
    rig.gives(
        3,
        Sent::First,
        OnNoQuorum::Retry,
        Command::Fence { table: TableId(0), key: Key::from("k0") },
    );
    rig.replies(3, &Outcome::Unknown, PATIENCE);
    rig.broken("W14", "unknown though it changes nothing");
}

/// AMB (iv) is the only reason to give up before the time is up.
#[test]
fn w14_unknown_is_what_cannot_be_told() {
    let mut rig = Rig::new();
    rig.reaches();
    rig.gives_put(1, Sent::First, OnNoQuorum::Return);
    let first = put(&absent(), 1, ballot(1, 1), &[]);
    rig.proposes(ballot(1, 1), key(), &first);
    rig.replies(1, &Outcome::Unknown, 1);
    rig.broken("W14", "unknown though it could be told");
    // Overwritten twice, it is named no more.
    (2..=3).for_each(|request| rig.asks_put(request));
    let second = put(&first, 2, ballot(2, 1), &[]);
    rig.proposes(ballot(2, 1), key(), &second);
    rig.proposes(ballot(3, 1), key(), &put(&second, 3, ballot(3, 1), &[]));
    rig.gives_put(1, Sent::Again, OnNoQuorum::Return);
    rig.replies(1, &Outcome::Unknown, 1);
    rig.quiet();
}

#[test]
fn w14_no_quorum_is_said_for_want_of_one() {
    let refused = Outcome::Refused(Refusal::NoQuorum);
    let mut rig = Rig::new();
    rig.gives_put(1, Sent::First, OnNoQuorum::Retry);
    rig.replies(1, &refused, PATIENCE - 1);
    rig.broken("W14", "impatient for want of a quorum");
    rig.gives_put(2, Sent::First, OnNoQuorum::Retry);
    rig.replies(2, &refused, PATIENCE);
    rig.quiet();
    rig.reaches();
    rig.gives_put(3, Sent::First, OnNoQuorum::Return);
    rig.replies(3, &refused, PATIENCE - 1);
    rig.broken("W14", "no quorum though one is reached");
    rig.says_quorum(0, false, MILLI);
    rig.gives_put(4, Sent::First, OnNoQuorum::Return);
    rig.replies(4, &refused, 2 * MILLI);
    rig.quiet();
    let starting = Outcome::Refused(Refusal::NotReady(Readiness::Starting));
    rig.gives_put(5, Sent::First, OnNoQuorum::Return);
    rig.replies(5, &starting, MILLI);
    rig.broken("W14", "not ready though it is");
}

/// P-07, P-35: every call ends by its deadline, and one that waits for no quorum without it.
#[test]
fn w14_calls_end_in_time() {
    let mut rig = Rig::new();
    rig.gives_put(1, Sent::First, OnNoQuorum::Retry);
    rig.oracle.check_calls(0, PATIENCE - 1);
    rig.oracle.check_calls(1, PATIENCE);
    rig.quiet();
    rig.oracle.check_calls(0, PATIENCE);
    rig.broken("W14", "patience outlasted");
    let mut rig = Rig::new();
    rig.says_quorum(0, false, 0);
    rig.gives_put(1, Sent::First, OnNoQuorum::Retry);
    rig.oracle.check_calls(0, PATIENCE - 1);
    rig.quiet();
    rig.gives_put(2, Sent::First, OnNoQuorum::Return);
    rig.oracle.check_calls(0, 0);
    rig.broken("W14", "waits without a quorum");
    // Nobody has to answer for a process that is gone.
    rig.oracle.on_start(0, &[], 0);
    rig.oracle.check_calls(0, PATIENCE);
    rig.quiet();
}

#[test]
fn w14_refusals_have_their_reasons() {
    let own = SessionId { host: NodeId(1), node_session: 1, number: 1 };
    let (len, max) = (9, 8);
    for refusal in [
        Refusal::Busy,
        Refusal::LimitExceeded { what: "key", len, max },
        Refusal::NoSuchTable(TableId(0)),
        Refusal::WriteOnce(TableId(0)),
        Refusal::NoSuchSession(own),
    ] {
        let mut rig = Rig::new();
        rig.asks_put(1);
        rig.answers(1, &Outcome::Refused(refusal));
        rig.broken("W14", "refused without a reason");
    }
    let mut rig = Rig::new();
    let refused = Outcome::Refused(Refusal::NoSuchSession(own));
    rig.oracle.on_session(own, ClientId::new(1));
    rig.asks(1, Command::CloseSession(own));
    rig.answers(1, &refused);
    rig.broken("W14", "refused without a reason");
    rig.oracle.on_session_left(own);
    rig.answers(1, &refused);
    let other = SessionId { number: 2, ..own };
    rig.oracle.on_session(other, ClientId::new(2));
    rig.asks(2, Command::CloseSession(other));
    rig.answers(2, &Outcome::Refused(Refusal::NoSuchSession(other)));
    rig.quiet();
}

#[test]
fn w8_a_session_is_given_up_when_it_is_over() {
    let own = |number| SessionId { host: NodeId(1), node_session: 1, number };
    let mut rig = Rig::new();
    (1..=3).for_each(|number| rig.oracle.on_session(own(number), ClientId::new(1)));
    rig.oracle.on_session_left(own(1));
    rig.oracle.on_session_lost(own(1), false);
    rig.oracle.on_session_lost(own(2), true);
    rig.quiet();
    rig.oracle.on_session_lost(own(3), false);
    rig.broken("W8", "session lost that goes on");
}

#[test]
fn w8_no_session_is_opened_over_one_that_is_open() {
    let register = RegisterId::NodeSession(NodeId(1));
    let own = |request| OpId { client: ClientId::new(5), request: RequestId(request) };
    let hosted = SessionId { host: NodeId(1), node_session: 1, number: 1 };
    for closed in [false, true] {
        let mut rig = Rig::new();
        let mut cell = session(1, true, &absent(), ballot(1, 1), own(1));
        rig.chooses(ballot(1, 1), &register, &cell);
        rig.oracle.on_session(hosted, ClientId::new(1));
        if closed {
            cell = session(1, false, &cell, ballot(2, 1), own(2));
            rig.chooses(ballot(2, 1), &register, &cell);
        }
        let next = session(2, true, &cell, ballot(3, 1), own(3));
        rig.proposes(ballot(3, 1), register.clone(), &next);
        if closed {
            rig.quiet();
        } else {
            rig.broken("W8", "session opened over one that is open");
        }
    }
}

/// P-25: nobody hears what he does not listen to.
#[test]
fn w14_nobody_is_told_unasked() {
    let mut rig = Rig::new();
    let reached = Event::QuorumReached { epoch: Epoch(1) };
    rig.oracle.on_notice(0, ClientId::new(1), &reached);
    rig.broken("W14", "told unasked");
    rig.gives(1, Sent::First, OnNoQuorum::Return, Command::Subscribe(Topic::Quorum));
    rig.oracle.on_notice(0, ClientId::new(1), &reached);
    rig.replies(1, &Outcome::Done, 0);
    rig.oracle.on_notice(0, ClientId::new(1), &reached);
    rig.quiet();
    rig.gives(2, Sent::First, OnNoQuorum::Return, Command::Unsubscribe(Topic::Quorum));
    rig.replies(2, &Outcome::Done, 0);
    rig.oracle.on_notice(0, ClientId::new(1), &reached);
    rig.broken("W14", "told unasked");
    let own = SessionId { host: NodeId(1), node_session: 1, number: 1 };
    rig.oracle.on_session(own, ClientId::new(2));
    rig.oracle.on_notice(0, ClientId::new(1), &Event::SessionSuspended(own));
    rig.broken("W14", "told unasked");
}

/// P-16: the end of a life is told, and as it was.
#[test]
fn l10_ends_are_told_as_they_were() {
    let mut rig = Rig::new();
    rig.gives(1, Sent::First, OnNoQuorum::Return, watch());
    rig.replies(1, &Outcome::Done, 0);
    rig.asks_put(2);
    let live = put(&absent(), 2, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &key(), &live);
    rig.asks_get(3);
    rig.answers(3, &found(&live));
    rig.oracle.at(1);
    let everybody = crate::plan::Nodes::first(3);
    assert_eq!(rig.oracle.untold(everybody), None);
    rig.chooses(ballot(2, 2), &key(), &dead(&live, Cause::Removed, 20, ballot(2, 2)));
    assert!(rig.oracle.untold(everybody).is_some());
    assert_eq!(rig.oracle.untold(crate::plan::Nodes::default()), None, "gone for good");
    let ended = |ending| Event::Ended {
        table: TableId(0),
        key: Key::from("k0"),
        generation: ballot(1, 1),
        ending,
    };
    let mut tells = |ending| {
        rig.oracle.on_notice(0, ClientId::new(1), &ended(ending));
        rig.oracle.breach().map(|breach| breach.shape)
    };
    assert_eq!(tells(Ending::Removed), None);
    let another = Some("told of another end than it had");
    assert_eq!(tells(Ending::Unseen), another);
    assert_eq!(tells(Ending::Erased(Binding::Until(Wall(1)))), another);
    assert_eq!(rig.oracle.untold(everybody), None);
}

#[test]
fn w14_a_node_is_right_about_itself() {
    let right = Status {
        node: NodeId(1),
        epoch: Epoch(1),
        cluster_size: 3,
        quorum_size: 2,
        reachable: vec![NodeId(1), NodeId(2)],
        has_quorum: true,
        readiness: Readiness::Ready,
        node_session: None,
        sessions: 0,
        requests: 0,
        registers: 0,
    };
    let mut rig = Rig::new();
    rig.reaches();
    let mut says = |status: Status| {
        rig.gives(1, Sent::First, OnNoQuorum::Return, Command::Status);
        rig.replies(1, &Outcome::Status(status), MILLI);
        rig.oracle.breach().map(|breach| breach.shape)
    };
    assert_eq!(says(right.clone()), None);
    for wrong in [
        Status { cluster_size: 5, ..right.clone() },
        Status { quorum_size: 3, ..right.clone() },
        Status { has_quorum: false, ..right.clone() },
        Status { reachable: vec![NodeId(1), NodeId(3)], ..right.clone() },
        Status { requests: 1, ..right.clone() },
        Status { node_session: Some(1), ..right },
    ] {
        assert_eq!(says(wrong), Some("wrong about itself"));
    }
}

#[test]
fn l5_nobody_is_reached_who_does_not_answer() {
    let mut rig = Rig::new();
    rig.reaches();
    rig.oracle.on_reachable(0, 2, 3, MILLI);
    rig.quiet();
    for (nodes, size) in [(2, 3), (3, 3), (1, 4)] {
        rig.oracle.on_reachable(0, nodes, size, MILLI);
        rig.broken("L5", "reaches others than it says");
        rig.oracle.on_reachable(0, 1, 3, MILLI);
        let _ = rig.oracle.breach();
        rig.oracle.on_reachable(0, 2, 3, MILLI);
        let _ = rig.oracle.breach();
    }
}

/// A process does not forget what it has told.
#[test]
fn lin_local_reads_do_not_go_back() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    rig.asks_put(2);
    let first = put(&absent(), 1, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &key(), &first);
    let second = put(&first, 2, ballot(2, 2), &[]);
    rig.chooses(ballot(2, 2), &key(), &second);
    let local = Command::Get { table: TableId(0), key: Key::from("k0"), level: ReadLevel::Local };
    rig.asks(3, local.clone());
    rig.answers(3, &found(&first));
    rig.asks_get(4);
    rig.answers(4, &found(&second));
    rig.quiet();
    rig.asks(5, local.clone());
    rig.answers(5, &found(&first));
    rig.broken("LIN", "local read goes back");
    rig.oracle.on_start(0, &[], 0);
    rig.asks(6, local);
    rig.answers(6, &found(&first));
    rig.quiet();
}

/// What was under way when a fence was asked for has happened by its answer, or never does.
#[test]
fn lin_nothing_takes_effect_across_a_fence() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    rig.asks_put(2);
    rig.proposes(ballot(1, 1), key(), &put(&absent(), 1, ballot(1, 1), &[]));
    rig.asks(3, Command::Fence { table: TableId(0), key: Key::from("k0") });
    let version = Ballot::genesis(Epoch(1));
    rig.answers(3, &Outcome::Found { entry: None, version });
    rig.chooses(ballot(2, 2), &key(), &put(&absent(), 2, ballot(2, 2), &[]));
    rig.quiet();
    let mut rig = Rig::new();
    rig.asks_put(1);
    let late = put(&absent(), 1, ballot(1, 1), &[]);
    rig.proposes(ballot(1, 1), key(), &late);
    rig.asks(3, Command::Fence { table: TableId(0), key: Key::from("k0") });
    rig.answers(3, &Outcome::Found { entry: None, version });
    rig.accepts(0, key(), ballot(1, 1), &late);
    rig.accepts(1, key(), ballot(1, 1), &late);
    rig.broken("LIN", "took effect across a fence");
}

#[test]
fn lin_nothing_is_bound_to_itself() {
    let mut rig = Rig::new();
    let bind = Bind::Key { table: TableId(0), key: Key::from("k0") };
    rig.asks_bound(1, vec![bind]);
    let own = Binding::Key { register: key(), generation: ballot(1, 1) };
    rig.proposes(ballot(2, 1), key(), &put(&absent(), 1, ballot(2, 1), &[own]));
    rig.broken("LIN", "bound to itself");
}
