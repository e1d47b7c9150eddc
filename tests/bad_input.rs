//! What is wrong with an input is named, and changes nothing; no input makes a node panic.

mod support;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use support::{
    Cluster, Fate, bound_to_key, config, get, keys, ms, put, put_if_absent, register, value,
};
use synod::consensus::{self, Cell, Content, Lineage, Listed, Live, State, Tag, Testimony};
use synod::{
    Ballot, Bind, Body, ClientId, ClusterId, Command, Config, Epoch, Expect, Foreign, Incarnation,
    Input, Instant, Key, Life, Message, Node, NodeId, Now, Outcome, Record, RecoverError, Refusal,
    RegisterId, Sent, SessionId, TableConfig, TableId, Ticket, Topic, Value, Wall, cluster,
    monitor, wire,
};

// ---------------------------------------------------------------------- requests

/// Every limit: at it the command is taken, one beyond it is refused at once, with what is too
/// long, how long it is, and how long it may be.
#[test]
fn every_limit_is_refused_by_name() {
    let mut cluster = Cluster::with(3, |config| {
        config.limits.key_max = 4;
        config.limits.value_max = 5;
        config.limits.bindings_max = 2;
        config.limits.page_max = 3;
    });
    let long = "12345";
    let key = |len| ("key", len, 4);
    let parent = bound_to_key("p");
    let swap = |key: &str, value: &str| Command::CompareAndSet {
        table: support::TABLE,
        key: Key::from(key),
        expect: Expect::Absent,
        value: Value::from(value),
        bindings: vec![],
    };
    let beyond = [
        (put(long, "v", vec![]), key(5)),
        (put_if_absent(long, "v", vec![]), key(5)),
        (swap(long, "v"), key(5)),
        (get(long), key(5)),
        (support::get_local(long), key(5)),
        (support::remove(long), key(5)),
        (support::fence(long), key(5)),
        (keys(Some(long), 1), key(5)),
        (Command::Subscribe(support::topic(long)), key(5)),
        (put("k", "v", vec![bound_to_key(long)]), key(5)),
        (put("k", "123456", vec![]), ("value", 6, 5)),
        (put_if_absent("k", "123456", vec![]), ("value", 6, 5)),
        (swap("k", "123456"), ("value", 6, 5)),
        (put("k", "v", vec![parent.clone(); 3]), ("list of bindings", 3, 2)),
        (keys(None, 4), ("page", 4, 3)),
    ];
    let (sent, before) = (cluster.sent, cluster.holdings(1));
    for (command, (what, len, max)) in beyond {
        let text = command.to_string();
        let refused = Outcome::Refused(Refusal::LimitExceeded { what, len, max });
        assert_eq!(cluster.at_once(1, command), refused, "{text}");
    }
    assert_eq!((cluster.sent, cluster.holdings(1)), (sent, before), "nobody was asked anything");
    cluster.call(1, put("p", "v", vec![]));
    let taken = cluster.call(1, put("1234", "12345", vec![parent; 2]));
    assert!(matches!(taken, Outcome::Written { .. }), "{taken}");
    assert!(matches!(cluster.call(1, keys(Some("1234"), 3)), Outcome::Keys { .. }));
    let text = Refusal::LimitExceeded { what: "key", len: 5, max: 4 }.to_string();
    assert_eq!(text, "key of length 5 exceeds the limit of 4");
}

/// beyond so many requests in flight the next is told that the node is busy, and may come
/// again; what needs nobody else is answered all the same.
#[test]
fn requests_in_flight_are_bounded() {
    let mut cluster = Cluster::with(3, |config| config.limits.requests_max = 2);
    let first = cluster.ask(1, put("a", "v", vec![]));
    cluster.ask(1, put("b", "v", vec![]));
    let third = cluster.at_once(1, put("c", "v", vec![]));
    assert_eq!(third, Outcome::Refused(Refusal::Busy));
    assert!(third.is_rejected());
    assert_eq!(cluster.status(1).requests, 2);
    let again = cluster.ask_as(1, 9, 9, Sent::Again, put("c", "v", vec![]));
    assert_eq!(cluster.answered(again), Some(&Outcome::Unknown), "sent before: no definite no");
    cluster.answer(first);
    cluster.deliver_all();
    assert!(matches!(cluster.call(1, put("c", "v", vec![])), Outcome::Written { .. }));
}

/// Client sessions are bounded too.
#[test]
fn sessions_are_bounded() {
    let mut cluster = Cluster::with(3, |config| config.limits.sessions_max = 2);
    let session = cluster.open_session(1);
    cluster.open_session(1);
    assert_eq!(cluster.call(1, Command::OpenSession), Outcome::Refused(Refusal::Busy));
    cluster.call(1, Command::CloseSession(session));
    cluster.open_session(1);
}

// ---------------------------------------------------------------------- configurations

fn refusal(change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::new(NodeId(1));
    change(&mut config);
    let error = Node::new(config.clone(), 1).expect_err("impossible");
    assert_eq!(Node::lost(config.clone(), 1, "?").expect_err("impossible"), error);
    let recovered = Node::recover(config, 1, []).expect_err("impossible");
    assert_eq!(recovered, RecoverError::Config(error.clone()));
    assert_eq!(recovered.to_string(), error.to_string());
    error.to_string()
}

/// Each impossible configuration is refused when the node is made, with the field and the reason.
#[test]
fn impossible_configurations_say_what_is_wrong() {
    let zero = Duration::ZERO;
    let nobody = refusal(|config| config.members.clear());
    assert_eq!(nobody, "members: at least one node is needed");
    let twice = refusal(|config| config.members.push(NodeId(2)));
    assert_eq!(twice, "members: node 2 is listed twice");
    let small = refusal(|config| config.cluster_size = 2);
    let expected = "cluster_size: 2 is fewer than the 3 members listed; a quorum of it could be \
                    two disjoint sets";
    assert_eq!(small, expected);
    assert_eq!(refusal(|config| config.cluster_size = 0), expected.replace(": 2", ": 0"));
    let large = refusal(|config| config.cluster_size = 65);
    assert_eq!(large, "members: at most 64 seats");
    let stranger = refusal(|config| config.node = NodeId(4));
    assert_eq!(stranger, "node: 4 is not among the members");
    let table = TableConfig::write_once("default");
    let tables = refusal(|config| config.tables.push(table));
    assert_eq!(tables, "tables: two tables are named \"default\"");
    let named = |number: u32| TableConfig::consensus(number.to_string());
    let many = refusal(|config| config.tables = (0..=u32::from(u16::MAX)).map(named).collect());
    assert_eq!(many, "tables: 65536 are more than 65535");
    let heartbeat = refusal(|config| config.timing.heartbeat = zero);
    assert_eq!(heartbeat, "timing.heartbeat: must be longer than zero");
    assert_eq!(
        refusal(|config| config.timing.down = ms(999)),
        "timing.down: must be at least four heartbeats"
    );
    for (name, change) in [
        ("down", (|config| config.timing.down = Duration::ZERO) as fn(&mut Config)),
        ("sweep", |config| config.timing.sweep = Duration::ZERO),
        ("round", |config| config.timing.round = Duration::ZERO),
        ("backoff", |config| config.timing.backoff = Duration::ZERO),
        ("backoff_max", |config| config.timing.backoff_max = Duration::ZERO),
    ] {
        assert_eq!(refusal(change), format!("timing.{name}: must be longer than zero"));
    }
    let long = refusal(|config| config.limits.value_max = 16 << 20);
    let limits = "limits: value_max, key_max and bindings_max allow 16788608 bytes in one message, \
                  which may have 16777216; lower them";
    assert_eq!(long, limits);
    let page = refusal(|config| config.limits.page_max = 1 << 14);
    assert!(page.starts_with("limits: page_max and key_max allow 18"), "{page}");
    for (name, change) in [
        ("page_max", (|config| config.limits.page_max = 0) as fn(&mut Config)),
        ("requests_max", |config| config.limits.requests_max = 0),
        ("sessions_max", |config| config.limits.sessions_max = 0),
        ("subscriptions_max", |config| config.limits.subscriptions_max = 0),
    ] {
        assert_eq!(refusal(change), format!("limits.{name}: must be more than zero"));
    }
}

// ---------------------------------------------------------------------- logs

const CLUSTER: ClusterId = ClusterId(1);

fn born(node: u16) -> Record {
    Record::Born { cluster: CLUSTER, node: NodeId(node), life: Life(7) }
}

const fn life(incarnation: u32) -> Record {
    Record::Incarnation(Incarnation(incarnation))
}

const ACTIVE: Record = Record::Active { epoch: Epoch(1) };

fn ballot(round: u64, node: u16) -> Ballot {
    Ballot { epoch: Epoch(1), round, node: NodeId(node), incarnation: Incarnation(1), sequence: 0 }
}

fn promised(round: u64) -> Record {
    Record::Promised { register: register("k"), ballot: ballot(round, 2) }
}

/// A cell that an operation made at `round`.
fn cell(round: u64) -> Cell {
    let op = synod::OpId { client: ClientId::new(1), request: synod::RequestId(round) };
    let live = Live {
        generation: ballot(round, 2),
        content: Content::Value(Value::from("v")),
        bindings: vec![],
    };
    Cell::absent(Ballot::genesis(Epoch(1))).changed(State::Live(live), op, ballot(round, 2))
}

fn accepted(round: u64) -> Record {
    let cell = Arc::new(cell(round));
    Record::Accepted { register: register("k"), ballot: ballot(round, 2), cell }
}

fn foreign(records: Vec<Record>) -> (usize, Foreign) {
    match Node::recover(config(1, 3), 1, records) {
        Err(RecoverError::Foreign { record, why }) => (record, why),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("recovered"),
    }
}

/// Each way in which a log can be somebody else's, or damaged, is named with the number of the
/// record; nobody votes with such a log.
#[test]
fn a_foreign_log_is_refused_at_the_record_that_gives_it_away() {
    let other = Record::Born { cluster: ClusterId(2), node: NodeId(1), life: Life(7) };
    let seen = |peer| Record::Witnessed { peer: NodeId(peer), life: Life(9) };
    let later = Record::Promised {
        register: register("k"),
        ballot: Ballot { epoch: Epoch(2), ..ballot(5, 2) },
    };
    let nowhere = Record::Promised {
        register: RegisterId::Key(TableId(9), Key::from("k")),
        ballot: ballot(5, 2),
    };
    let impossible =
        Record::Accepted { register: register("k"), ballot: ballot(4, 2), cell: Arc::new(cell(5)) };
    let start = || vec![born(1), life(1), ACTIVE];
    let with = |records: Vec<Record>| [start(), records].concat();
    let cases = [
        (vec![life(1)], (0, Foreign::NotBorn)),
        (vec![promised(1), born(1)], (0, Foreign::NotBorn)),
        (vec![born(1), life(1), born(1)], (2, Foreign::BornTwice)),
        (vec![other], (0, Foreign::Cluster)),
        (vec![born(2)], (0, Foreign::Node)),
        (vec![born(1), life(2)], (1, Foreign::Incarnation)),
        (vec![born(1), life(1), life(1)], (2, Foreign::Incarnation)),
        (vec![born(1), life(1), life(3)], (2, Foreign::Incarnation)),
        (vec![born(1), life(1), Record::Active { epoch: Epoch(2) }], (2, Foreign::Epoch)),
        (vec![born(1), life(1), promised(1)], (2, Foreign::Epoch)),
        (with(vec![later]), (3, Foreign::Epoch)),
        (with(vec![promised(5), promised(4)]), (4, Foreign::Backwards(ballot(5, 2)))),
        (with(vec![promised(5), accepted(4)]), (4, Foreign::Backwards(ballot(5, 2)))),
        (with(vec![accepted(5), promised(4)]), (4, Foreign::Backwards(ballot(5, 2)))),
        (with(vec![seen(2), seen(2)]), (4, Foreign::Peer)),
        (with(vec![seen(1)]), (3, Foreign::Peer)),
        (with(vec![seen(9)]), (3, Foreign::Peer)),
        (with(vec![nowhere]), (3, Foreign::Content)),
        (with(vec![impossible]), (3, Foreign::Content)),
    ];
    for (records, expected) in cases {
        let text: Vec<String> = records.iter().map(ToString::to_string).collect();
        assert_eq!(foreign(records), expected, "{text:?}");
    }
    let good = with(vec![seen(2), promised(4), accepted(4), promised(5), accepted(6), life(2)]);
    assert!(Node::recover(config(1, 3), 1, good).is_ok());
}

/// And so is a log that is not there at all: a lost disk must not pass for a new one unnoticed.
#[test]
fn an_empty_log_is_not_recovered() {
    let error = Node::recover(config(1, 3), 1, []).expect_err("empty");
    assert_eq!(error, RecoverError::Empty);
    assert_eq!(error.to_string(), "the log is empty; start the node as a new one");
    let error = RecoverError::Foreign { record: 3, why: Foreign::Backwards(ballot(5, 2)) };
    assert_eq!(error.to_string(), "record 3: goes back behind ballot 1:5.2.1");
}

// ---------------------------------------------------------------------- messages

/// A prepare as node 2 would send it.
fn prepare(cluster: &Cluster, round: u64) -> Message {
    let tag = Tag { incarnation: Incarnation(1), operation: 1, attempt: 1 };
    let body =
        consensus::Message::Prepare { tag, register: register("k"), ballot: ballot(round, 2) };
    from_two(cluster, body)
}

fn from_two(cluster: &Cluster, body: consensus::Message) -> Message {
    Message {
        cluster: CLUSTER,
        epoch: Epoch(1),
        life: cluster.node(2).life(),
        incarnation: Incarnation(1),
        body: Body::Consensus(body),
    }
}

/// Whether a message to node 1 leaves it as it was and makes it say nothing.
fn is_ignored(cluster: &mut Cluster, from: u16, message: Message) -> bool {
    let before = (cluster.holdings(1), cluster.sent, cluster.machine(1).durable.len());
    let replies = cluster.replies.clone();
    cluster.input(1, Input::Message { from: NodeId(from), message });
    before == (cluster.holdings(1), cluster.sent, cluster.machine(1).durable.len())
        && replies == cluster.replies
}

/// A0: messages of another cluster, epoch or storage life, from a stranger or from the node itself,
/// change nothing; the same from the right one does.
#[test]
fn a_message_that_is_not_for_this_node_changes_nothing() {
    let mut cluster = Cluster::new(3);
    let good = prepare(&cluster, 50);
    let wrong = [
        (2, Message { cluster: ClusterId(2), ..good.clone() }),
        (2, Message { epoch: Epoch(2), ..good.clone() }),
        (2, Message { epoch: Epoch(0), ..good.clone() }),
        (2, Message { life: Life(1), ..good.clone() }),
        (4, good.clone()),
        (0, good.clone()),
        (1, good.clone()),
    ];
    for (from, message) in wrong {
        assert!(is_ignored(&mut cluster, from, message.clone()), "from {from}: {message:?}");
    }
    assert!(!is_ignored(&mut cluster, 2, good));
}

/// Ballots that nobody who keeps the rules could have made are not followed: of another epoch, of
/// no round, of a stranger, or of a round so far ahead that following it would use up the rounds
/// (Z66). A cluster that has been told of one goes on as before.
#[test]
fn an_impossible_ballot_is_not_followed() {
    let mut cluster = Cluster::new(3);
    let tag = Tag { incarnation: Incarnation(1), operation: 1, attempt: 1 };
    let ballots = [
        Ballot { epoch: Epoch(2), ..ballot(50, 2) },
        Ballot { epoch: Epoch(0), ..ballot(50, 2) },
        Ballot::genesis(Epoch(1)),
        ballot(50, 9),
        ballot(50, 0),
        ballot(u64::MAX, 2),
        ballot(1 << 50, 2),
    ];
    for ballot in ballots {
        let register = register("k");
        let prepare = consensus::Message::Prepare { tag, register: register.clone(), ballot };
        let message = from_two(&cluster, prepare);
        assert!(is_ignored(&mut cluster, 2, message), "prepare {ballot}");
        let accept = consensus::Message::Accept { tag, register, ballot, cell: Arc::new(cell(40)) };
        let message = from_two(&cluster, accept);
        assert!(is_ignored(&mut cluster, 2, message), "accept {ballot}");
    }
    let written = cluster.call(1, put("k", "v", vec![]));
    let Outcome::Written { version, .. } = written else { panic!("{written}") };
    assert!(version.round < 100, "nobody's rounds were poisoned: {version}");
}

/// Registers that cannot exist here are not made by a message about them.
#[test]
fn a_message_makes_no_impossible_register() {
    let mut cluster = Cluster::new(3);
    let tag = Tag { incarnation: Incarnation(1), operation: 1, attempt: 1 };
    let long = "x".repeat(2_000);
    let registers = [
        RegisterId::Key(TableId(9), Key::from("k")),
        RegisterId::Key(TableId(0), Key::from(long.as_str())),
        RegisterId::NodeSession(NodeId(9)),
    ];
    for register in registers {
        let ballot = ballot(50, 2);
        let read = consensus::Message::Read { tag, register: register.clone() };
        let commit = consensus::Message::Commit { register: register.clone(), ballot };
        let prepare = consensus::Message::Prepare { tag, register, ballot };
        for body in [read, commit, prepare] {
            let message = from_two(&cluster, body);
            assert!(is_ignored(&mut cluster, 2, message.clone()), "{message}");
        }
    }
}

/// Content that cannot have been accepted where it says: a history from the future or out of order,
/// another kind of content than the register's. Believing it could break the at-most-once rule.
#[test]
fn impossible_content_is_not_accepted() {
    let mut cluster = Cluster::new(3);
    let tag = Tag { incarnation: Incarnation(1), operation: 1, attempt: 1 };
    let session = |cell: &Cell| {
        let session = monitor::NodeSession { number: 1, open: true };
        let live = Live {
            generation: ballot(40, 2),
            content: Content::NodeSession(session),
            bindings: vec![],
        };
        Cell { state: State::Live(live), ..cell.clone() }
    };
    let future = cell(60);
    let truncated = Cell { truncated: ballot(45, 2), ..cell(40) };
    let unborn = Cell { lineage: Lineage::default(), ..cell(60) };
    let key = register("k");
    let own = RegisterId::NodeSession(NodeId(3));
    let cases = [
        (key.clone(), future),
        (key.clone(), truncated),
        (key.clone(), unborn),
        (key.clone(), session(&cell(40))),
        (own, cell(40)),
    ];
    for (register, cell) in cases {
        let body = consensus::Message::Accept {
            tag,
            register,
            ballot: ballot(50, 2),
            cell: Arc::new(cell.clone()),
        };
        let message = from_two(&cluster, body);
        assert!(is_ignored(&mut cluster, 2, message), "{cell:?}");
    }
    let body = consensus::Message::Accept {
        tag,
        register: key,
        ballot: ballot(50, 2),
        cell: Arc::new(cell(40)),
    };
    let message = from_two(&cluster, body);
    assert!(!is_ignored(&mut cluster, 2, message), "what is possible is accepted");
}

/// I1: a second content for a ballot that was accepted already gets no vote.
#[test]
fn a_second_content_for_one_ballot_gets_no_vote() {
    let mut cluster = Cluster::new(3);
    let tag = Tag { incarnation: Incarnation(1), operation: 1, attempt: 1 };
    let accept = |cell: Cell| consensus::Message::Accept {
        tag,
        register: register("k"),
        ballot: ballot(50, 2),
        cell: Arc::new(cell),
    };
    let first = from_two(&cluster, accept(cell(40)));
    assert!(!is_ignored(&mut cluster, 2, first.clone()));
    let second = from_two(&cluster, accept(cell(41)));
    assert!(is_ignored(&mut cluster, 2, second));
    let sent = cluster.sent;
    cluster.input(1, Input::Message { from: NodeId(2), message: first });
    assert_eq!(cluster.sent, sent + 1, "a duplicate of the first is voted for again");
}

/// Answers that nobody asked for, or that are not what was asked, count for nothing.
#[test]
fn an_answer_to_nothing_counts_for_nothing() {
    let mut cluster = Cluster::new(5);
    cluster.rule(|flight| if flight.is_heartbeat() { Fate::Deliver } else { Fate::Park });
    let asked = cluster.ask(1, put("k", "v", vec![]));
    cluster.deliver_all();
    let prepare = cluster.parked.iter().find(|flight| flight.is("Prepare")).expect("sent");
    let Some(consensus::Message::Prepare { tag, ballot: own, .. }) = prepare.consensus() else {
        panic!("not a prepare")
    };
    let (tag, own) = (*tag, *own);
    let floor = Ballot::genesis(Epoch(1));
    let promise = |tag, register, promised, accepted| consensus::Message::Promise {
        tag,
        register,
        ballot: promised,
        accepted,
        cell: None,
        chosen: false,
        suspect: false,
        testimony: Testimony::default(),
    };
    let key = || register("k");
    let accepted = |tag| consensus::Message::Accepted {
        tag,
        register: register("k"),
        ballot: own,
        suspect: false,
    };
    let answers = [
        promise(Tag { attempt: tag.attempt + 1, ..tag }, key(), own, floor),
        promise(Tag { operation: tag.operation + 1, ..tag }, key(), own, floor),
        promise(Tag { incarnation: Incarnation(9), ..tag }, key(), own, floor),
        promise(tag, register("other"), own, floor),
        promise(tag, key(), Ballot { round: own.round + 1, ..own }, floor),
        // I1: accepted at or above our own ballot, which nobody was asked for.
        promise(tag, key(), own, own),
        promise(tag, key(), own, Ballot { round: own.round + 1, ..own }),
        accepted(tag),
        consensus::Message::Listing { tag, items: vec![], more: false },
    ];
    for answer in answers {
        for from in [2, 3, 4] {
            let message =
                Message { life: cluster.node(from).life(), ..from_two(&cluster, answer.clone()) };
            cluster.input(1, Input::Message { from: NodeId(from), message });
        }
        let asked_to_accept = cluster.parked.iter().any(|flight| flight.is("Accept"));
        assert!(!asked_to_accept, "counted: {answer}");
    }
    for from in [2, 3] {
        let body = promise(tag, key(), own, floor);
        let message = Message { life: cluster.node(from).life(), ..from_two(&cluster, body) };
        cluster.input(1, Input::Message { from: NodeId(from), message });
    }
    assert!(cluster.parked.iter().any(|flight| flight.is("Accept")), "real ones are counted");
    assert_eq!(cluster.answered(asked), None);
}

/// A page that is not in order, or longer than any page may be, is not taken for one.
#[test]
fn an_impossible_page_is_not_believed() {
    let mut cluster = Cluster::with(3, |config| config.limits.page_max = 2);
    cluster.call(1, put("a", "v", vec![]));
    cluster.deliver_all();
    cluster.crash(3);
    let asked = cluster.ask(1, keys(None, 2));
    let list = cluster.flights.iter().find(|flight| flight.is("List")).expect("sent");
    let Some(consensus::Message::List { tag, .. }) = list.consensus() else { panic!("no list") };
    let tag = *tag;
    cluster.lose(|flight| flight.is("List"));
    let item = |key: &str| Listed {
        key: Key::from(key),
        accepted: ballot(1, 2),
        live: true,
        chosen: true,
        suspect: false,
    };
    for items in [
        vec![item("b"), item("a")],
        vec![item("a"), item("a")],
        vec![item("a"), item("b"), item("c")],
    ] {
        let body = consensus::Message::Listing { tag, items, more: false };
        let message = from_two(&cluster, body);
        cluster.input(1, Input::Message { from: NodeId(2), message });
        assert_eq!(cluster.answered(asked), None);
    }
    let answer = cluster.answer(asked);
    assert_eq!(answer.to_string(), "keys a", "asked again, and answered by the real one");
}

/// M4: only the host of a session can say that it has ended.
#[test]
fn nobody_but_its_host_ends_a_session() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(3);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    let ended = monitor::Message::Sessions(vec![(session, true)]);
    let message = Message { body: Body::Monitor(ended), ..prepare(&cluster, 50) };
    cluster.input(1, Input::Message { from: NodeId(2), message });
    cluster.run(Duration::from_secs(2));
    assert!(value(&cluster.call(1, get("k"))).is_some());
}

/// An answer to a heartbeat that was never sent says nothing about who is there.
#[test]
fn an_answer_to_no_heartbeat_reaches_nobody() {
    let mut cluster = Cluster::new(3);
    cluster.split(&[1], &[2, 3]);
    cluster.run(Duration::from_secs(3));
    for sequence in [0, 1, u64::MAX] {
        let ack = cluster::Message::HeartbeatAck {
            sequence,
            recorded: cluster.node(1).life(),
            session: None,
        };
        let message = Message { body: Body::Cluster(ack), ..prepare(&cluster, 50) };
        cluster.input(1, Input::Message { from: NodeId(2), message });
    }
    assert_eq!(cluster.status(1).reachable, [NodeId(1)]);
}

/// A host's mistakes are harmless: tickets that were never given out, or come twice, late or early;
/// timeouts at any time; clocks that go backwards.
#[test]
fn a_hosts_mistakes_release_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.machine(2).slow_disk = true;
    cluster.crash(3);
    cluster.ask(1, put("k", "v", vec![]));
    cluster.deliver_all();
    for ticket in [0, 1] {
        cluster.input(2, Input::Persisted { ticket: Ticket(ticket) });
    }
    cluster.deliver_all();
    assert!(!cluster.lines_about("k").iter().any(|line| line.starts_with("2->1 Promise")));
    let now = cluster.now;
    for instant in [0, u64::MAX / 4, 1, now.0] {
        cluster.now = Instant(instant);
        for _ in 0..3 {
            cluster.input(1, Input::Timeout);
            cluster.input(1, Input::Persisted { ticket: Ticket(u64::MAX) });
        }
    }
    let next = cluster.at_once(1, Command::Status);
    assert!(matches!(next, Outcome::Status(_)), "{next}");
}

// ---------------------------------------------------------------------- anything at all

#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Splice(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(place, bits)| Damage::Flip(place, bits)),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(place, bytes)| Damage::Splice(place, bytes)),
    ]
}

fn damaged(message: &Message, damage: &Damage) -> Option<Message> {
    let mut bytes = Vec::new();
    wire::encode(message, &mut bytes).expect("fits");
    let mut body = bytes.split_off(wire::HEADER);
    match damage {
        Damage::Flip(place, bits) => {
            let place = place % body.len();
            body[place] ^= bits;
        }
        Damage::Cut(place) => body.truncate(place % body.len()),
        Damage::Splice(place, with) => {
            let place = place % body.len();
            let end = (place + with.len()).min(body.len());
            body.splice(place..end, with.iter().copied());
        }
    }
    wire::decode_body(&body).ok()
}

/// Something of everything that is said in a cluster, caught on its way to node 1.
fn conversation() -> (Cluster, Vec<support::Flight>) {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(2);
    cluster.call(1, put("p", "v", vec![Bind::Session(session)]));
    cluster.call(2, put("k", "v", vec![bound_to_key("p"), Bind::Until(Wall(9_000_000))]));
    let caught = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let catching = caught.clone();
    cluster.rule(move |flight| {
        if flight.to == NodeId(1) {
            catching.borrow_mut().push(flight.clone());
        }
        Fate::Deliver
    });
    cluster.call(2, put("k", "w", vec![]));
    cluster.call(3, get("k"));
    cluster.call(1, keys(None, 10));
    cluster.call(1, put("k", "x", vec![Bind::Node(NodeId(2))]));
    cluster.call(2, Command::CloseSession(session));
    cluster.run(Duration::from_secs(1));
    cluster.no_rule();
    cluster.ask(1, put("k", "y", vec![]));
    cluster.ask(1, get("p"));
    let caught = caught.borrow().clone();
    (cluster, caught)
}

/// How many damaged messages each run feeds to a node: most are decoded to something that a node
/// could be sent by a peer gone mad.
const BLOWS: usize = 200;

proptest! {
    #![proptest_config(support::cases(48))]

    /// Whatever a peer sends, the node neither panics nor breaks an invariant of its own (checked
    /// after every step), and still answers.
    #[test]
    fn no_message_makes_a_node_panic(
        blows in prop::collection::vec((any::<usize>(), damage(), 0u16..5), BLOWS),
    ) {
        let (mut cluster, caught) = conversation();
        let mut decoded = 0;
        for (which, damage, from) in blows {
            let flight = &caught[which % caught.len()];
            let Some(message) = damaged(&flight.message, &damage) else { continue };
            decoded += 1;
            cluster.input(1, Input::Message { from: NodeId(from), message });
            cluster.input(1, Input::Timeout);
        }
        prop_assert!(decoded > BLOWS / 10, "the blows must hit: {decoded}");
        let status = cluster.at_once(1, Command::Status);
        prop_assert!(matches!(status, Outcome::Status(_)));
    }

    /// Whatever a client asks, the answer is an answer.
    #[test]
    fn no_request_makes_a_node_panic(
        key in prop::collection::vec(any::<u8>(), 0..1_100),
        limit in any::<u32>(),
        table in any::<u16>(),
        number in any::<u64>(),
        node in any::<u16>(),
        patience in any::<u64>(),
    ) {
        let mut cluster = Cluster::new(3);
        let key = Key::from(key);
        let table = TableId(table % 2);
        let session = SessionId { host: NodeId(node), node_session: number, number };
        let generation = Some(ballot(number, node));
        let bindings = vec![
            Bind::Key { table, key: key.clone() }, Bind::Node(NodeId(node)),
            Bind::Session(session), Bind::Until(Wall(number)),
        ];
        let commands = [
            Command::CloseSession(session),
            Command::Keys { table, after: Some(key.clone()), limit },
            Command::Subscribe(Topic::Key(table, key.clone())),
            Command::Unsubscribe(Topic::Key(table, key.clone())),
            Command::Remove { table, key: key.clone(), generation },
            Command::Put { table, key: Key::from("k"), value: Value::from("v"), bindings },
            Command::CompareAndSet {
                table, key, expect: Expect::Version(ballot(number, node)),
                value: Value::from("v"), bindings: vec![],
            },
        ];
        for (place, command) in commands.into_iter().enumerate() {
            let (client, id) = (ClientId::new(number), synod::RequestId(place as u64));
            let patience = Duration::from_nanos(patience);
            cluster.give(
                1, client, id, Sent::First, synod::OnNoQuorum::Return, patience, command,
            );
            cluster.run(ms(20));
        }
        cluster.run(Duration::from_secs(3));
    }

    /// Whatever bytes a disk or a wire holds, decoding them is a value or an error.
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = wire::decode::<Message>(&bytes);
        let _ = wire::decode_body::<Message>(&bytes);
        if let Ok(record) = wire::decode_body::<Record>(&bytes) {
            let recovered = Node::recover(config(1, 3), 1, [born(1), life(1), ACTIVE, record]);
            if let Ok(mut node) = recovered {
                node.handle(Input::Timeout, Now::default(), &mut Vec::new());
                prop_assert!(node.check_invariants().is_ok());
            }
        }
    }
}

/// Vacant seats leave too few witnesses: that is said at once, not found out by waiting for ever.
#[test]
fn a_cluster_that_could_never_start_is_refused() {
    let mut config = config(1, 3);
    config.cluster_size = 5;
    config.genesis = synod::Genesis::Witnessed;
    let error = Node::new(config, 1).expect_err("two peers cannot be three witnesses");
    assert_eq!(
        error.to_string(),
        "genesis: 3 witnesses are needed where 2 peers are listed; list more members, or vouch for \
         new storage"
    );
}
