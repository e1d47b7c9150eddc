//! Each check against a violation made by hand: a check that never fires is worth nothing.

mod calls;

use std::sync::Arc;

use synod::consensus::{Cell, Content, Lineage, Live, Message, State, Tag, Testimony};
use synod::monitor::{Cause, NodeSession};
use synod::{
    Ballot, Bind, Binding, Body, ClientId, ClusterId, Command, Ending, Entry, Epoch, Event,
    Incarnation, Key, Life, NodeId, OpId, Outcome, Previous, ReadLevel, Record, Refusal,
    RegisterId, RequestId, SessionId, TableId, Value, Wall,
};

use super::{Oracle, Orphan};
use crate::marks::Marks;
use crate::plan::{MILLI, Plan};

/// Three nodes, one table, four keys; everybody is up and votes.
struct Rig {
    oracle: Oracle,
    marks: Marks,
}

const K0: usize = 3;

fn ballot(round: u64, node: u16) -> Ballot {
    Ballot { epoch: Epoch(1), round, node: NodeId(node), incarnation: Incarnation(1), sequence: 0 }
}

fn key() -> RegisterId {
    RegisterId::Key(TableId(0), Key::from("k0"))
}

fn op(request: u64) -> OpId {
    OpId { client: ClientId::new(1), request: RequestId(request) }
}

fn absent() -> Cell {
    Cell::absent(Ballot::genesis(Epoch(1)))
}

fn value(request: u64) -> Value {
    Value::from(format!("1.{request}").as_str())
}

/// `before` after a put of `op` at `at`.
fn put(before: &Cell, request: u64, at: Ballot, bindings: &[Binding]) -> Arc<Cell> {
    let generation = before.live().map_or(at, |live| live.generation);
    let live =
        Live { generation, content: Content::Value(value(request)), bindings: bindings.to_vec() };
    Arc::new(before.changed(State::Live(live), op(request), at))
}

fn dead(before: &Cell, cause: Cause, request: u64, at: Ballot) -> Arc<Cell> {
    Arc::new(before.changed(State::Dead(cause), op(request), at))
}

fn session(number: u64, open: bool, before: &Cell, at: Ballot, client: OpId) -> Arc<Cell> {
    let live = Live {
        generation: before.live().map_or(at, |live| live.generation),
        content: Content::NodeSession(NodeSession { number, open }),
        bindings: Vec::new(),
    };
    Arc::new(before.changed(State::Live(live), client, at))
}

const TAG: Tag = Tag { incarnation: Incarnation(1), operation: 1, attempt: 1 };

impl Rig {
    fn new() -> Self {
        let mut rig = Self { oracle: Oracle::new(&Plan::default()), marks: Marks::default() };
        for node in 0..3 {
            rig.durable(
                node,
                &[
                    Record::Born {
                        cluster: ClusterId(1),
                        node: super::node_of(node),
                        life: Life(node as u64 + 1),
                    },
                    Record::Incarnation(Incarnation(1)),
                    Record::Active { epoch: Epoch(1) },
                ],
            );
        }
        rig.quiet();
        rig
    }

    fn durable(&mut self, node: usize, records: &[Record]) {
        self.oracle.on_durable(node, records);
        self.oracle.on_votes(node, records, &mut self.marks);
    }

    fn sends(&mut self, node: usize, message: Message) {
        let message = synod::Message {
            cluster: ClusterId(1),
            epoch: Epoch(1),
            life: Life(node as u64 + 1),
            incarnation: Incarnation(1),
            body: Body::Consensus(message),
        };
        let Body::Consensus(about) = &message.body else { unreachable!() };
        let slot = about.register().and_then(|register| self.oracle.slot(register));
        self.oracle.on_send(node, usize::from(node == 0), &message, slot, &mut self.marks);
    }

    /// A node tells another of the storage that it has on record.
    fn acknowledges(&mut self, node: usize, to: usize, recorded: u64) {
        let ack = synod::cluster::Message::HeartbeatAck {
            sequence: 1,
            recorded: Life(recorded),
            session: None,
        };
        let message = synod::Message {
            cluster: ClusterId(1),
            epoch: Epoch(1),
            life: Life(node as u64 + 1),
            incarnation: Incarnation(1),
            body: Body::Cluster(ack),
        };
        self.oracle.on_send(node, to, &message, None, &mut self.marks);
    }

    /// A message of any kind gets from one node to another, both of whose clocks show these.
    fn passes(&mut self, from: usize, to: usize, sent: u64) {
        let echo = self.oracle.depart(from, to, sent);
        self.oracle.arrive(from, to, echo);
    }

    fn says_quorum(&mut self, node: usize, reached: bool, mono: u64) {
        let epoch = Epoch(1);
        let event =
            if reached { Event::QuorumReached { epoch } } else { Event::QuorumLost { epoch } };
        self.oracle.on_quorum_event(node, &event, mono, &mut self.marks);
    }

    fn proposes(&mut self, at: Ballot, register: RegisterId, cell: &Arc<Cell>) {
        let node = usize::from(at.node.0) - 1;
        let cell = cell.clone();
        self.sends(node, Message::Accept { tag: TAG, register, ballot: at, cell });
    }

    fn accepts(&mut self, node: usize, register: RegisterId, at: Ballot, cell: &Arc<Cell>) {
        let record = [Record::Accepted { register, ballot: at, cell: cell.clone() }];
        self.oracle.on_persist(node, &record, 0, &mut self.marks);
        self.durable(node, &record);
    }

    /// Proposed, and accepted by nodes 1 and 2.
    fn chooses(&mut self, at: Ballot, register: &RegisterId, cell: &Arc<Cell>) {
        self.proposes(at, register.clone(), cell);
        self.accepts(0, register.clone(), at, cell);
        self.accepts(1, register.clone(), at, cell);
    }

    fn asks(&mut self, request: u64, command: Command) {
        self.oracle.on_request(op(request), &command);
    }

    fn asks_put(&mut self, request: u64) {
        self.asks_bound(request, Vec::new());
    }

    fn asks_bound(&mut self, request: u64, bindings: Vec<Bind>) {
        let (table, key) = (TableId(0), Key::from("k0"));
        self.asks(request, Command::Put { table, key, value: value(request), bindings });
    }

    fn asks_get(&mut self, request: u64) {
        let level = ReadLevel::Linearizable;
        let command = Command::Get { table: TableId(0), key: Key::from("k0"), level };
        self.asks(request, command);
    }

    /// Node 1 answers.
    fn answers(&mut self, request: u64, outcome: &Outcome) {
        self.oracle.on_answer(op(request), 0, outcome, &mut self.marks);
    }

    fn refuses(&mut self, request: u64, bind: &Bind) {
        self.answers(request, &Outcome::Refused(Refusal::InvalidBinding(bind.clone())));
    }

    /// The put of this request, bound to `binding`, is chosen and answered.
    fn writes_bound(&mut self, request: u64, round: u64, binding: &Binding) {
        let newest = self.oracle.registers[K0].newest().map(|chosen| chosen.cell.clone());
        let before = newest.as_deref().cloned().unwrap_or_else(absent);
        let at = ballot(round, 1);
        let cell = put(&before, request, at, std::slice::from_ref(binding));
        self.chooses(at, &key(), &cell);
        let generation = cell.live().map(|live| live.generation);
        let previous = Previous::Known(found(&before).entry().cloned());
        self.answers(request, &Outcome::Written { generation, version: at, previous });
    }

    #[track_caller]
    fn quiet(&mut self) {
        assert_eq!(self.oracle.breach(), None);
    }

    #[track_caller]
    fn broken(&mut self, rule: &str, shape: &str) {
        let breach = self.oracle.breach().expect("a check must fail here");
        assert_eq!((breach.rule, breach.shape), (rule, shape), "{}", breach.message);
    }
}

fn found(cell: &Cell) -> Outcome {
    let entry = cell.live().map(|live| {
        let Content::Value(value) = &live.content else { unreachable!() };
        Entry {
            value: value.clone(),
            generation: live.generation,
            version: cell.version(),
            bindings: live.bindings.clone(),
        }
    });
    Outcome::Found { entry, version: cell.version() }
}

fn promise(at: Ballot, accepted: Ballot, cell: Option<Arc<Cell>>, chosen: bool) -> Message {
    Message::Promise {
        tag: TAG,
        register: key(),
        ballot: at,
        accepted,
        cell,
        chosen,
        suspect: false,
        testimony: Testimony { wall: Wall(0), silent: 0 },
    }
}

const fn accepted(register: RegisterId, at: Ballot) -> Message {
    Message::Accepted { tag: TAG, register, ballot: at, suspect: false }
}

#[test]
fn an_honest_run_breaks_nothing() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    let first = put(&absent(), 1, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &key(), &first);
    rig.sends(0, accepted(key(), ballot(1, 1)));
    rig.asks_put(2);
    let second = put(&first, 2, ballot(2, 2), &[]);
    rig.chooses(ballot(2, 2), &key(), &second);
    rig.asks_get(3);
    rig.answers(3, &found(&second));
    rig.sends(1, Message::Commit { register: key(), ballot: ballot(2, 2) });
    rig.quiet();
}

#[test]
fn w1_two_contents_at_one_ballot() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    rig.asks_put(2);
    rig.proposes(ballot(1, 1), key(), &put(&absent(), 1, ballot(1, 1), &[]));
    rig.quiet();
    rig.proposes(ballot(1, 1), key(), &put(&absent(), 2, ballot(1, 1), &[]));
    rig.broken("W1", "two contents at one ballot");
}

#[test]
fn w1_a_ballot_belongs_to_one_life_of_one_node() {
    let mut rig = Rig::new();
    rig.sends(1, Message::Prepare { tag: TAG, register: key(), ballot: ballot(1, 1) });
    rig.broken("W1", "ballot of another life");
    let mut at = ballot(1, 1);
    at.incarnation = Incarnation(7);
    rig.sends(0, Message::Prepare { tag: TAG, register: key(), ballot: at });
    rig.broken("W1", "ballot of another life");
    rig.durable(0, &[Record::Incarnation(Incarnation(1))]);
    rig.broken("W1", "incarnation used twice");
    rig.asks_put(1);
    rig.accepts(0, key(), ballot(5, 3), &put(&absent(), 1, ballot(5, 3), &[]));
    rig.broken("W1", "accepted what was not proposed");
}

#[test]
fn w2_a_proposal_that_forgets_the_chosen_one() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    rig.asks_put(2);
    rig.chooses(ballot(1, 1), &key(), &put(&absent(), 1, ballot(1, 1), &[]));
    rig.quiet();
    rig.proposes(ballot(2, 2), key(), &put(&absent(), 2, ballot(2, 2), &[]));
    rig.broken("W2", "proposal does not build on the chosen one");
}

#[test]
fn w2_also_when_the_lower_one_is_chosen_later() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    rig.asks_put(2);
    let low = put(&absent(), 1, ballot(1, 1), &[]);
    rig.proposes(ballot(1, 1), key(), &low);
    rig.proposes(ballot(2, 2), key(), &put(&absent(), 2, ballot(2, 2), &[]));
    rig.accepts(0, key(), ballot(1, 1), &low);
    rig.quiet();
    rig.accepts(2, key(), ballot(1, 1), &low);
    rig.broken("W2", "proposal does not build on the chosen one");
}

#[test]
fn w3_told_of_what_is_not_chosen() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    let cell = put(&absent(), 1, ballot(1, 1), &[]);
    rig.proposes(ballot(1, 1), key(), &cell);
    rig.accepts(0, key(), ballot(1, 1), &cell);
    rig.asks_get(2);
    rig.answers(2, &found(&cell));
    rig.broken("W3", "told of what is not chosen");
    rig.accepts(1, key(), ballot(1, 1), &cell);
    rig.asks_get(3);
    let lie = put(&absent(), 7, ballot(1, 1), &[]);
    rig.answers(3, &found(&lie));
    rig.broken("W3", "told of another content than is chosen");
    rig.oracle.on_ended(TableId(0), &Key::from("k0"), ballot(1, 1), &Ending::Unseen);
    rig.broken("W3", "told of an end that was not");
}

#[test]
fn w4_and_w5_an_acceptor_does_not_go_back() {
    let mut rig = Rig::new();
    let promised = |at| Record::Promised { register: key(), ballot: at };
    rig.durable(0, &[promised(ballot(5, 1))]);
    rig.sends(0, promise(ballot(5, 1), Ballot::genesis(Epoch(1)), None, true));
    rig.quiet();
    rig.sends(0, promise(ballot(4, 2), Ballot::genesis(Epoch(1)), None, true));
    rig.broken("W4", "promise goes back");
    rig.durable(0, &[promised(ballot(3, 1))]);
    rig.broken("W4", "record goes back");
    rig.sends(0, accepted(key(), ballot(4, 2)));
    rig.broken("W5", "accepted below the promise");
    rig.asks_put(1);
    let cell = put(&absent(), 1, ballot(2, 2), &[]);
    rig.proposes(ballot(2, 2), key(), &cell);
    rig.accepts(0, key(), ballot(2, 2), &cell);
    rig.broken("W5", "accepted below the promise");
}

#[test]
fn w4_an_acceptance_is_not_forgotten() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    let cell = put(&absent(), 1, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &key(), &cell);
    rig.sends(0, accepted(key(), ballot(1, 1)));
    rig.oracle.on_start(0, &[], 0);
    let (register, accepted) = (key(), Ballot::genesis(Epoch(1)));
    let (cell, suspect) = (None, false);
    let (chosen, testimony) = (true, Testimony { wall: Wall(0), silent: 0 });
    let reply =
        Message::ReadReply { tag: TAG, register, accepted, cell, chosen, suspect, testimony };
    rig.sends(0, reply);
    rig.broken("W4", "acceptance goes back");
}

/// A node that was away for long holds what the checks have dropped; they do not cry wolf.
#[test]
fn w1_an_old_acceptance_was_proposed_once() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    let first = put(&absent(), 1, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &key(), &first);
    rig.accepts(2, key(), ballot(1, 1), &first);
    let mut last = first.clone();
    for round in 2..1_100 {
        rig.asks_put(round);
        last = put(&last, round, ballot(round, 1), &[]);
        rig.chooses(ballot(round, 1), &key(), &last);
    }
    rig.quiet();
    rig.oracle.forget();
    assert!(rig.oracle.registers[K0].is_dropped(ballot(1, 1)));
    rig.sends(2, accepted(key(), ballot(1, 1)));
    rig.durable(2, &[Record::Promised { register: key(), ballot: ballot(2_000, 1) }]);
    rig.sends(2, promise(ballot(2_000, 1), ballot(1, 1), Some(first.clone()), true));
    rig.sends(2, accepted(key(), ballot(1, 1)));
    rig.proposes(ballot(1, 1), key(), &first);
    rig.quiet();
    rig.accepts(2, key(), ballot(1_050, 2), &first);
    rig.broken("W1", "accepted what was not proposed");
}

#[test]
fn w6_only_members_with_their_storage_vote() {
    let mut rig = Rig::new();
    rig.durable(0, &[Record::Promised { register: key(), ballot: ballot(1, 1) }]);
    rig.sends(0, promise(ballot(1, 1), Ballot::genesis(Epoch(1)), None, true));
    rig.quiet();
    rig.oracle.on_lost(0);
    rig.durable(0, &[Record::Promised { register: key(), ballot: ballot(2, 2) }]);
    rig.sends(0, promise(ballot(2, 2), Ballot::genesis(Epoch(1)), None, true));
    rig.broken("W6", "amnesiac votes");
    let mut rig = Rig { oracle: Oracle::new(&Plan::default()), marks: Marks::default() };
    rig.durable(
        0,
        &[
            Record::Born { cluster: ClusterId(1), node: NodeId(1), life: Life(1) },
            Record::Incarnation(Incarnation(1)),
            Record::Promised { register: key(), ballot: ballot(1, 1) },
        ],
    );
    rig.sends(0, promise(ballot(1, 1), Ballot::genesis(Epoch(1)), None, true));
    rig.broken("W6", "votes before active");
}

#[test]
fn w7_a_dead_life_stays_dead() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    rig.asks_put(2);
    let first = put(&absent(), 1, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &key(), &first);
    let gone = dead(&first, Cause::Removed, 5, ballot(2, 2));
    rig.chooses(ballot(2, 2), &key(), &gone);
    rig.quiet();
    // It builds on the removal, and yet claims to be the first life.
    let live =
        Live { generation: ballot(1, 1), content: Content::Value(value(2)), bindings: Vec::new() };
    let again = Arc::new(gone.changed(State::Live(live), op(2), ballot(3, 1)));
    rig.chooses(ballot(3, 1), &key(), &again);
    rig.broken("W7", "a dead life is live again");
}

#[test]
fn w8_nothing_is_erased_but_for_what_happened() {
    let host = SessionId { host: NodeId(3), node_session: 1, number: 1 };
    let cases = [
        (Binding::Session(host), "erased for a session that goes on"),
        (Binding::Node { node: NodeId(3), session: 1 }, "erased for a node session that goes on"),
        (Binding::Until(Wall(1_000)), "erased before its deadline"),
        (
            Binding::Key {
                register: RegisterId::Key(TableId(0), Key::from("k1")),
                generation: ballot(1, 1),
            },
            "erased for a key that lives",
        ),
    ];
    for (binding, shape) in cases {
        let mut rig = Rig::new();
        rig.oracle.on_session(host, ClientId::new(1));
        // One clock of three is ahead, which is no evidence.
        rig.oracle.on_clock(0, Wall(5_000));
        rig.asks_bound(
            1,
            vec![match &binding {
                Binding::Session(session) => Bind::Session(*session),
                Binding::Node { node, .. } => Bind::Node(*node),
                Binding::Until(wall) => Bind::Until(*wall),
                Binding::Key { .. } => Bind::Key { table: TableId(0), key: Key::from("k1") },
            }],
        );
        let born = put(&absent(), 1, ballot(2, 1), std::slice::from_ref(&binding));
        rig.chooses(ballot(2, 1), &key(), &born);
        rig.quiet();
        let erased = dead(&born, Cause::Erased(binding.clone()), 9, ballot(3, 2));
        rig.proposes(ballot(3, 2), key(), &erased);
        rig.broken("W8", shape);
        // The same with the truth on its side.
        rig.oracle.on_session_end(host);
        rig.oracle.on_clock(1, Wall(5_000));
        let erased = dead(&born, Cause::Erased(binding.clone()), 10, ballot(4, 2));
        if matches!(binding, Binding::Session(_) | Binding::Until(_)) {
            rig.proposes(ballot(4, 2), key(), &erased);
            rig.quiet();
        }
    }
}

#[test]
fn w8_a_node_session_is_closed_after_a_quorums_silence() {
    let register = RegisterId::NodeSession(NodeId(3));
    let own = OpId { client: ClientId::new(5), request: RequestId(1) };
    let promised =
        |at| [Record::Promised { register: RegisterId::NodeSession(NodeId(3)), ballot: at }];
    let mut rig = Rig::new();
    let open = session(1, true, &absent(), ballot(1, 3), own);
    rig.chooses(ballot(1, 3), &register, &open);
    rig.quiet();
    // Node 1 has not heard it for long, node 2 has.
    rig.oracle.on_persist(0, &promised(ballot(2, 1)), 900 * MILLI, &mut rig.marks);
    rig.oracle.on_persist(1, &promised(ballot(2, 1)), 100 * MILLI, &mut rig.marks);
    let closed = session(1, false, &open, ballot(2, 1), op(8));
    rig.proposes(ballot(2, 1), register.clone(), &closed);
    rig.broken("W8", "session closed without silence");
    rig.oracle.on_persist(0, &promised(ballot(3, 1)), 900 * MILLI, &mut rig.marks);
    rig.oracle.on_persist(1, &promised(ballot(3, 1)), 900 * MILLI, &mut rig.marks);
    let closed = session(1, false, &open, ballot(3, 1), op(9));
    rig.proposes(ballot(3, 1), register.clone(), &closed);
    rig.quiet();
    let opened = session(2, true, &open, ballot(4, 2), op(10));
    rig.proposes(ballot(4, 2), register, &opened);
    rig.broken("W8", "session opened by another node");
}

#[test]
fn w8_a_binding_is_refused_only_if_it_ended() {
    let mut rig = Rig::new();
    let host = SessionId { host: NodeId(3), node_session: 1, number: 1 };
    rig.oracle.on_session(host, ClientId::new(1));
    rig.asks_put(1);
    let bind = Bind::Session(host);
    rig.refuses(1, &bind);
    rig.broken("W8", "refused for a binding not asked for");
    rig.asks_bound(2, vec![bind.clone()]);
    rig.refuses(2, &bind);
    rig.broken("W8", "refused for a session that goes on");
    rig.oracle.on_session(host, ClientId::new(1));
    rig.broken("W8", "session number used twice");
    rig.oracle.on_session_end(host);
    rig.asks_bound(3, vec![bind.clone()]);
    rig.refuses(3, &bind);
    rig.quiet();
}

/// P-09: each kind of target, refused while it is good and once it is over.
#[test]
fn w8_a_key_is_refused_only_if_it_was_dead() {
    let mut rig = Rig::new();
    let k1 = RegisterId::Key(TableId(0), Key::from("k1"));
    let bind = Bind::Key { table: TableId(0), key: Key::from("k1") };
    // Nobody ever put it.
    rig.asks_bound(1, vec![bind.clone()]);
    rig.refuses(1, &bind);
    rig.quiet();
    rig.oracle.at(1);
    rig.asks_bound(2, vec![bind.clone()]);
    rig.oracle.at(2);
    let (table, name) = (TableId(0), Key::from("k1"));
    rig.asks(3, Command::Put { table, key: name, value: value(3), bindings: Vec::new() });
    let live = put(&absent(), 3, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &k1, &live);
    rig.asks_bound(4, vec![bind.clone()]);
    // It was dead when the second asked; it has been there since before the fourth.
    rig.refuses(2, &bind);
    rig.quiet();
    rig.refuses(4, &bind);
    rig.broken("W8", "refused for a key that lived");
    // Dead for a moment of the call.
    rig.oracle.at(3);
    rig.asks_bound(5, vec![bind.clone()]);
    rig.oracle.at(4);
    let gone = dead(&live, Cause::Removed, 21, ballot(2, 2));
    rig.chooses(ballot(2, 2), &k1, &gone);
    rig.oracle.at(5);
    rig.asks(
        6,
        Command::Put { table, key: Key::from("k1"), value: value(6), bindings: Vec::new() },
    );
    rig.chooses(ballot(3, 1), &k1, &put(&gone, 6, ballot(3, 1), &[]));
    rig.refuses(5, &bind);
    rig.quiet();
}

#[test]
fn w8_a_node_is_refused_only_if_no_session_of_it_lasted() {
    let mut rig = Rig::new();
    let register = RegisterId::NodeSession(NodeId(3));
    let bind = Bind::Node(NodeId(3));
    let own = |request| OpId { client: ClientId::new(5), request: RequestId(request) };
    rig.asks_bound(1, vec![bind.clone()]);
    rig.refuses(1, &bind);
    rig.quiet();
    rig.oracle.at(1);
    let first = session(1, true, &absent(), ballot(1, 3), own(1));
    rig.chooses(ballot(1, 3), &register, &first);
    rig.asks_bound(2, vec![bind.clone()]);
    rig.asks_bound(3, vec![bind.clone()]);
    // Renewed, it is the same session.
    rig.oracle.at(2);
    let again = session(1, true, &first, ballot(2, 3), own(2));
    rig.chooses(ballot(2, 3), &register, &again);
    rig.refuses(2, &bind);
    rig.broken("W8", "refused for a node session that went on");
    // Followed by another, it ended.
    let second = session(2, true, &again, ballot(3, 3), own(3));
    rig.chooses(ballot(3, 3), &register, &second);
    rig.refuses(3, &bind);
    rig.quiet();
}

#[test]
fn w8_a_deadline_is_refused_only_by_a_clock_that_shows_it() {
    let mut rig = Rig::new();
    let bind = Bind::Until(Wall(1_000));
    // Shown once, long ago, by a clock that was then set right.
    rig.oracle.on_clock(0, Wall(5_000));
    rig.asks_bound(1, vec![bind.clone()]);
    rig.oracle.on_clock(0, Wall(900));
    rig.oracle.on_clock(1, Wall(5_000));
    rig.refuses(1, &bind);
    rig.broken("W8", "refused before its deadline");
    rig.asks_bound(2, vec![bind.clone()]);
    rig.oracle.on_clock(0, Wall(1_000));
    rig.refuses(2, &bind);
    rig.quiet();
}

/// What is answered of a write that is bound to what was over before it was asked for.
const OVER: &str = "bound to what was over";

/// P-19: what was over before the call is no target for its write.
#[test]
fn lin_a_write_is_not_bound_to_a_dead_key() {
    let mut rig = Rig::new();
    let k1 = RegisterId::Key(TableId(0), Key::from("k1"));
    let (table, name) = (TableId(0), Key::from("k1"));
    let bind = Bind::Key { table, key: name.clone() };
    let binding = Binding::Key { register: k1.clone(), generation: ballot(1, 1) };
    rig.asks(1, Command::Put { table, key: name, value: value(1), bindings: Vec::new() });
    let live = put(&absent(), 1, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &k1, &live);
    rig.oracle.at(1);
    rig.asks_bound(2, vec![bind.clone()]);
    rig.oracle.at(2);
    rig.chooses(ballot(2, 2), &k1, &dead(&live, Cause::Removed, 20, ballot(2, 2)));
    // It ended while the call went on.
    rig.writes_bound(2, 1, &binding);
    rig.quiet();
    rig.oracle.at(3);
    rig.asks_bound(3, vec![bind]);
    rig.writes_bound(3, 2, &binding);
    rig.broken("LIN", OVER);
}

#[test]
fn lin_a_write_is_not_bound_to_a_session_that_its_host_ended() {
    for (host, told) in [(1, true), (1, false), (2, true)] {
        let mut rig = Rig::new();
        let session = SessionId { host: NodeId(host), node_session: 1, number: 1 };
        rig.oracle.on_session(session, ClientId::new(1));
        rig.oracle.on_session_end(session);
        if told {
            rig.oracle.on_session_told(session);
        }
        rig.oracle.at(1);
        rig.asks_bound(1, vec![Bind::Session(session)]);
        rig.writes_bound(1, 1, &Binding::Session(session));
        // Node 1 answers; it knows what it was told of its own sessions, and need not of others'.
        if (host, told) == (1, true) {
            rig.broken("LIN", OVER);
        } else {
            rig.quiet();
        }
    }
}

#[test]
fn lin_a_write_is_not_bound_to_a_closed_node_session() {
    let mut rig = Rig::new();
    let register = RegisterId::NodeSession(NodeId(3));
    let own = |request| OpId { client: ClientId::new(5), request: RequestId(request) };
    let first = session(1, true, &absent(), ballot(1, 3), own(1));
    rig.chooses(ballot(1, 3), &register, &first);
    rig.asks_bound(1, vec![Bind::Node(NodeId(3))]);
    rig.oracle.at(1);
    rig.chooses(ballot(2, 3), &register, &session(2, true, &first, ballot(2, 3), own(2)));
    rig.writes_bound(1, 1, &Binding::Node { node: NodeId(3), session: 1 });
    rig.quiet();
    rig.asks_bound(2, vec![Bind::Node(NodeId(3))]);
    rig.writes_bound(2, 2, &Binding::Node { node: NodeId(3), session: 1 });
    rig.broken("LIN", OVER);
    // Nor to what was hosted in it, though its host may not know yet.
    let hosted = SessionId { host: NodeId(3), node_session: 1, number: 1 };
    rig.oracle.on_session(hosted, ClientId::new(1));
    rig.asks_bound(3, vec![Bind::Session(hosted)]);
    rig.writes_bound(3, 3, &Binding::Session(hosted));
    rig.broken("LIN", OVER);
}

#[test]
fn lin_a_write_is_not_bound_to_a_deadline_past() {
    // Past by the clock of who answers, all the while; and not.
    for (before, broken) in [(1_000, true), (999, false)] {
        let mut rig = Rig::new();
        rig.asks_bound(1, vec![Bind::Until(Wall(1_000))]);
        rig.oracle.on_clock(0, Wall(before));
        rig.oracle.on_clock(0, Wall(1_000));
        rig.writes_bound(1, 1, &Binding::Until(Wall(1_000)));
        if broken {
            rig.broken("LIN", OVER);
        } else {
            rig.quiet();
        }
    }
}

#[test]
fn w9_said_chosen_what_is_not() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    let cell = put(&absent(), 1, ballot(1, 1), &[]);
    rig.proposes(ballot(1, 1), key(), &cell);
    rig.accepts(0, key(), ballot(1, 1), &cell);
    rig.sends(0, Message::Commit { register: key(), ballot: ballot(1, 1) });
    rig.broken("W9", "commit of what is not chosen");
    rig.durable(0, &[Record::Promised { register: key(), ballot: ballot(2, 2) }]);
    rig.sends(0, promise(ballot(2, 2), ballot(1, 1), Some(cell), true));
    rig.broken("W9", "said chosen what is not");
}

#[test]
fn w10_an_operation_takes_effect_once() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    let first = put(&absent(), 1, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &key(), &first);
    rig.quiet();
    rig.chooses(ballot(2, 2), &key(), &put(&first, 1, ballot(2, 2), &[]));
    rig.broken("W10", "operation applied twice");
}

/// A change that was never chosen itself took effect all the same if what is chosen builds on it.
#[test]
fn w10_counts_what_was_adopted() {
    let mut rig = Rig::new();
    (1..=3).for_each(|request| rig.asks_put(request));
    let first = put(&absent(), 1, ballot(1, 1), &[]);
    rig.proposes(ballot(1, 1), key(), &first);
    let second = put(&first, 2, ballot(2, 2), &[]);
    rig.chooses(ballot(2, 2), &key(), &second);
    assert!(rig.oracle.registers[K0].version(ballot(1, 1)).is_some());
    rig.quiet();
    rig.chooses(ballot(3, 1), &key(), &put(&second, 1, ballot(3, 1), &[]));
    rig.broken("W10", "operation applied twice");
}

#[test]
fn w12_nothing_is_said_before_it_is_durable() {
    let mut rig = Rig::new();
    rig.sends(0, promise(ballot(1, 1), Ballot::genesis(Epoch(1)), None, true));
    rig.broken("W12", "promise not durable");
    rig.asks_put(1);
    let cell = put(&absent(), 1, ballot(1, 1), &[]);
    rig.proposes(ballot(1, 1), key(), &cell);
    rig.sends(1, accepted(key(), ballot(1, 1)));
    rig.broken("W12", "acceptance not durable");
    let (register, suspect) = (key(), false);
    let reply = Message::ReadReply {
        tag: TAG,
        register,
        accepted: ballot(1, 1),
        cell: Some(cell),
        chosen: false,
        suspect,
        testimony: Testimony { wall: Wall(0), silent: 0 },
    };
    rig.sends(2, reply);
    rig.broken("W12", "told what is not durable");
    rig.oracle.truths[0].incarnation = None;
    rig.sends(0, Message::Read { tag: TAG, register: key() });
    rig.broken("W12", "message from a life that is not durable");
}

/// P-32: who counts its witnesses relies on them never to forget it.
#[test]
fn w12_a_witness_has_it_on_disk() {
    let mut rig = Rig::new();
    rig.acknowledges(0, 1, 2);
    rig.broken("W12", "witness not durable");
    rig.durable(0, &[Record::Witnessed { peer: NodeId(2), life: Life(2) }]);
    rig.acknowledges(0, 1, 2);
    rig.quiet();
    rig.acknowledges(0, 1, 7);
    rig.broken("W12", "witness not durable");
    rig.oracle.on_start(0, &[], 0);
    rig.acknowledges(0, 1, 2);
    rig.broken("W12", "witness not durable");
}

/// A put that was refused because of its binding may have been born, but then it is buried.
#[test]
fn w13_what_a_binding_forbids_is_never_seen() {
    let host = SessionId { host: NodeId(3), node_session: 1, number: 1 };
    let refused = |rig: &mut Rig| {
        rig.oracle.on_session(host, ClientId::new(1));
        rig.oracle.on_session_end(host);
        rig.asks_bound(1, vec![Bind::Session(host)]);
    };
    let born = put(&absent(), 1, ballot(1, 1), &[Binding::Session(host)]);
    let gone = dead(&born, Cause::Erased(Binding::Session(host)), 20, ballot(2, 2));
    // Chosen, and visible, after the answer.
    let mut rig = Rig::new();
    refused(&mut rig);
    rig.refuses(1, &Bind::Session(host));
    rig.quiet();
    rig.chooses(ballot(1, 1), &key(), &born);
    rig.broken("W13", "rejected and yet done");
    // Visible when it is answered.
    let mut rig = Rig::new();
    refused(&mut rig);
    rig.chooses(ballot(1, 1), &key(), &born);
    rig.refuses(1, &Bind::Session(host));
    rig.broken("W13", "rejected and yet done");
    // Born and buried in one (E4), after the answer; and both before it.
    let mut rig = Rig::new();
    refused(&mut rig);
    rig.proposes(ballot(1, 1), key(), &born);
    rig.refuses(1, &Bind::Session(host));
    rig.chooses(ballot(2, 2), &key(), &gone);
    rig.quiet();
    let mut rig = Rig::new();
    refused(&mut rig);
    rig.chooses(ballot(1, 1), &key(), &born);
    rig.chooses(ballot(2, 2), &key(), &gone);
    rig.refuses(1, &Bind::Session(host));
    rig.quiet();
}

#[test]
fn w13_what_is_rejected_never_happens() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    rig.answers(1, &Outcome::Refused(Refusal::NoQuorum));
    rig.quiet();
    let cell = put(&absent(), 1, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &key(), &cell);
    rig.broken("W13", "rejected and yet done");
    rig.asks_put(2);
    rig.chooses(ballot(2, 2), &key(), &put(&cell, 2, ballot(2, 2), &[]));
    rig.answers(2, &Outcome::Refused(Refusal::NoQuorum));
    rig.broken("W13", "rejected and yet done");
}

#[test]
fn lin_answers_follow_real_time() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    let first = put(&absent(), 1, ballot(1, 1), &[]);
    rig.chooses(ballot(1, 1), &key(), &first);
    rig.asks_put(2);
    let second = put(&first, 2, ballot(2, 2), &[]);
    rig.chooses(ballot(2, 2), &key(), &second);
    rig.asks_get(3);
    rig.asks_get(4);
    rig.answers(3, &found(&second));
    // Asked before that answer: the older state is fine. Asked after it: it is not.
    rig.answers(4, &found(&first));
    rig.quiet();
    rig.asks_get(5);
    rig.answers(5, &found(&first));
    rig.broken("LIN", "stale answer");
    let written = |previous: &Cell| Outcome::Written {
        generation: Some(ballot(1, 1)),
        version: ballot(2, 2),
        previous: Previous::Known(found(previous).entry().cloned()),
    };
    rig.answers(2, &written(&absent()));
    rig.broken("LIN", "told of another predecessor");
    rig.answers(1, &written(&first));
    rig.broken("LIN", "told of another's change");
}

#[test]
fn lin_a_write_holds_what_was_asked() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    let mut cell = (*put(&absent(), 1, ballot(1, 1), &[])).clone();
    if let State::Live(live) = &mut cell.state {
        live.content = Content::Value(Value::from("1.999"));
    }
    rig.proposes(ballot(1, 1), key(), &Arc::new(cell));
    rig.broken("LIN", "put what was not asked");
    // The value asked for, bound to what was not.
    let bound = put(&absent(), 1, ballot(2, 2), &[Binding::Until(Wall(9))]);
    rig.proposes(ballot(2, 2), key(), &bound);
    rig.broken("LIN", "put what was not asked");
}

#[test]
fn lin_listings_hold_what_was_there_all_the_while() {
    let mut rig = Rig::new();
    rig.asks_put(1);
    rig.oracle.at(5);
    rig.chooses(ballot(1, 1), &key(), &put(&absent(), 1, ballot(1, 1), &[]));
    rig.oracle.at(9);
    let list = Command::Keys { table: TableId(0), after: None, limit: 100 };
    let keys = |names: &[&str]| Outcome::Keys {
        keys: names.iter().map(|name| Key::from(*name)).collect(),
        more: None,
    };
    rig.asks(2, list.clone());
    rig.answers(2, &keys(&["k0"]));
    rig.quiet();
    rig.asks(3, list.clone());
    rig.answers(3, &keys(&[]));
    rig.broken("LIN", "key not listed");
    rig.asks(4, list.clone());
    rig.answers(4, &keys(&["k0", "k1"]));
    rig.broken("LIN", "absent key listed");
    rig.asks(5, list);
    rig.answers(5, &keys(&["k1", "k0"]));
    rig.broken("LIN", "keys out of order");
}

#[test]
fn l5_quorum_events_alternate() {
    let mut rig = Rig::new();
    rig.passes(0, 1, 0);
    rig.passes(1, 0, 0);
    rig.says_quorum(0, true, MILLI);
    rig.says_quorum(0, false, MILLI);
    rig.says_quorum(0, true, MILLI);
    rig.quiet();
    rig.says_quorum(0, true, MILLI);
    rig.broken("L5", "quorum events do not alternate");
}

#[test]
fn l5_a_quorum_is_heard_and_hears() {
    let down = Plan::default().cluster.down;
    let mut rig = Rig::new();
    // Both others are heard; neither has heard anything.
    rig.passes(1, 0, 5 * MILLI);
    rig.passes(2, 0, 5 * MILLI);
    rig.says_quorum(0, true, 6 * MILLI);
    rig.broken("L5", "quorum reached that is not");
    rig.says_quorum(0, false, 6 * MILLI);
    // One has heard it, and says so by whatever it says.
    rig.passes(0, 2, 7 * MILLI);
    rig.passes(2, 0, 8 * MILLI);
    rig.says_quorum(0, true, 9 * MILLI);
    rig.says_quorum(0, false, 9 * MILLI);
    rig.quiet();
    // That is long ago, though it has been heard since.
    rig.passes(2, 0, 7 * MILLI + down);
    rig.says_quorum(0, true, 7 * MILLI + down);
    rig.broken("L5", "quorum reached that is not");
    rig.says_quorum(0, false, 7 * MILLI + down);
    // What was heard of a former life says nothing of this one.
    rig.passes(0, 1, 8 * MILLI + down);
    rig.oracle.on_start(0, &[], 0);
    rig.passes(1, 0, 9 * MILLI + down);
    rig.says_quorum(0, true, 9 * MILLI + down);
    rig.broken("L5", "quorum reached that is not");
}

#[test]
fn l2_orphans_are_seen() {
    let mut rig = Rig::new();
    let host = SessionId { host: NodeId(3), node_session: 1, number: 1 };
    rig.oracle.on_session(host, ClientId::new(1));
    rig.asks_bound(1, vec![Bind::Session(host)]);
    let born = put(&absent(), 1, ballot(1, 1), &[Binding::Session(host)]);
    rig.chooses(ballot(1, 1), &key(), &born);
    let (none, now) = (crate::plan::Nodes::default(), Wall(0));
    assert_eq!(rig.oracle.orphan(none, now, |_, _, _| true), None);
    rig.oracle.on_session_end(host);
    let orphan = rig.oracle.orphan(none, now, |_, _, _| true);
    let binding = Binding::Session(host);
    assert_eq!(orphan, Some(Orphan { register: key(), binding, late: false }));
    // A burial that every reader would complete is as good as done.
    assert_eq!(rig.oracle.orphan(none, now, |_, _, _| false), None);
}

/// What a deadline has ended, itself or through others, is late; anything else is not, and is
/// named first.
#[test]
fn l2_only_deadlines_are_late() {
    let mut rig = Rig::new();
    let host = SessionId { host: NodeId(3), node_session: 1, number: 1 };
    rig.oracle.on_session(host, ClientId::new(1));
    let register = |number: u16| RegisterId::Key(TableId(0), Key::from(&*format!("k{number}")));
    let bound = |round: u64, bindings: &[Binding]| put(&absent(), 1, ballot(round, 1), bindings);
    let until = Binding::Until(Wall(1_000));
    let to =
        |number, round| Binding::Key { register: register(number), generation: ballot(round, 1) };
    for (number, round, binding) in
        [(3, 4, Binding::Session(host)), (2, 3, to(1, 2)), (1, 2, to(0, 1)), (0, 1, until.clone())]
    {
        let (table, key) = (TableId(0), Key::from(&*format!("k{number}")));
        let request = u64::from(number) + 1;
        rig.asks(request, Command::Put { table, key, value: value(1), bindings: Vec::new() });
        rig.chooses(ballot(round, 1), &register(number), &bound(round, &[binding]));
        let _ = rig.oracle.breach();
    }
    let none = crate::plan::Nodes::default();
    let orphan = |rig: &Rig, now| rig.oracle.orphan(none, Wall(now), |_, _, _| true);
    assert_eq!(orphan(&rig, 999), None);
    let late = |number, binding| Some(Orphan { register: register(number), binding, late: true });
    assert_eq!(orphan(&rig, 1_000), late(0, until.clone()));
    assert_eq!(rig.oracle.deadlines_to_come(), (vec![Wall(1_000)], 2));
    // Its dependants follow, and theirs.
    for (number, round, cause) in [(0, 1, until), (1, 2, to(0, 1))] {
        let Some(live) = rig.oracle.registers[K0 + usize::from(number)].newest() else { panic!() };
        let cell = dead(&live.cell.clone(), Cause::Erased(cause), 20 + round, ballot(9, 2));
        rig.oracle.on_clock(0, Wall(1_000));
        rig.oracle.on_clock(1, Wall(1_000));
        rig.chooses(ballot(9, 2), &register(number), &cell);
        rig.quiet();
        assert_eq!(orphan(&rig, 1_000), late(number + 1, to(number, round)));
    }
    rig.oracle.on_session_end(host);
    let orphan = orphan(&rig, 1_000);
    let binding = Binding::Session(host);
    assert_eq!(orphan, Some(Orphan { register: register(3), binding, late: false }));
}

#[test]
fn lineage_stays_the_default_length() {
    // The checks count on a lineage that names at least the last change.
    assert_eq!(Lineage::default().iter().count(), 0);
    assert!(put(&absent(), 1, ballot(1, 1), &[]).lineage.last().is_some());
}
