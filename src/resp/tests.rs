//! Conversations with a node: what a client sends, and what it reads.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::base::{ClientId, Key, NodeId, RequestId, SessionId, TableId, Wall};
use crate::consensus::{Outcome, Request, Sent, Status};
use crate::node::{Config, Effect, Event, Input, Node, TableConfig};
use crate::primary::{Answer, Place, Reign, Schema};
use crate::{Now, Refusal};

/// A cluster of one node, and a connection to it.
struct Server {
    node: Node,
    now: Now,
    scene: Scene,
    connection: Connection,
    /// Sessions that this connection keeps.
    kept: BTreeSet<SessionId>,
    /// How long the last one was to be waited for.
    opening: Option<(Duration, crate::OnNoQuorum)>,
    /// Calls in flight, if they are to wait.
    held: Option<Vec<(CallId, Call)>>,
    closing: Option<Closing>,
}

/// What does not change with the engine.
#[derive(Default)]
struct Scene {
    members: BTreeMap<NodeId, String>,
    password: Option<&'static [u8]>,
    places: RefCell<Vec<(TableId, Key)>>,
}

struct Around<'a> {
    tables: &'a [TableConfig],
    wall: Wall,
    scene: &'a Scene,
}

impl Surroundings for Around<'_> {
    fn wall(&self) -> Wall {
        self.wall
    }
    fn node(&self) -> NodeId {
        NodeId(1)
    }
    fn tables(&self) -> Rc<[TableConfig]> {
        self.tables.into()
    }
    fn merged_defaults(&self) -> &str {
        ""
    }
    fn cluster(&self) -> &str {
        "test"
    }
    fn members(&self) -> &BTreeMap<NodeId, String> {
        &self.scene.members
    }
    fn password(&self) -> Option<&[u8]> {
        self.scene.password
    }
    fn page_max(&self) -> u32 {
        3
    }
    fn is_durable(&self) -> bool {
        true
    }
    fn info(&self, status: &Status, sections: &[String]) -> String {
        format!("node:{} {sections:?}", status.node.0)
    }
    fn clients(&self) -> String {
        "id=7\n".to_owned()
    }
    fn reconnect(&self, peer: Option<NodeId>) -> bool {
        peer.is_none_or(|peer| peer == NodeId(2))
    }
    fn remember(&self, table: TableId, after: Key) -> u64 {
        self.scene.places.borrow_mut().push((table, after));
        self.scene.places.borrow().len() as u64
    }
    fn recall(&self, cursor: u64) -> Option<(TableId, Key)> {
        self.scene.places.borrow().get(usize::try_from(cursor).ok()? - 1).cloned()
    }
}

impl Server {
    fn new() -> Self {
        Self::with(TableConfig::write_once("locks"))
    }

    /// With this table behind the first.
    fn with(table: TableConfig) -> Self {
        let mut config = Config::new(NodeId(1));
        (config.members, config.cluster_size) = (vec![NodeId(1)], 1);
        config.limits.page_max = 3;
        config.tables.push(table);
        let mut server = Self {
            node: Node::new(config, 1).expect("possible"),
            now: Now { wall: Wall(1_000_000), ..Now::default() },
            scene: Scene::default(),
            connection: Connection::new(7, ConnectionLimits::default()),
            kept: BTreeSet::new(),
            opening: None,
            held: None,
            closing: None,
        };
        server.engine(Input::Timeout);
        server.wait();
        server
    }

    /// Hands the engine an input and whatever follows from it at once.
    fn engine(&mut self, input: Input) {
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            let mut effects = Vec::new();
            self.node.handle(inputs.remove(0), self.now, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Persist { ticket, .. } => inputs.push(Input::Persisted { ticket }),
                    Effect::Reply { request, outcome, .. } => {
                        self.answer(CallId(request.0), outcome);
                    }
                    Effect::Notify { event, .. } => self.notify(&event),
                    Effect::Send { .. } | Effect::Monitor { .. } | Effect::Demonitor { .. } => {}
                }
            }
        }
    }

    fn wait(&mut self) {
        for _ in 0..50 {
            self.now.instant = self.node.poll_timeout().expect("heartbeats");
            self.engine(Input::Timeout);
        }
    }

    fn answer(&mut self, id: CallId, outcome: Outcome) {
        if let Outcome::Session(session) = outcome {
            self.kept.insert(session);
            return self.connection.opened(id, session, 42);
        }
        let config = self.node.config();
        let around = Around { tables: &config.tables, wall: self.now.wall, scene: &self.scene };
        self.connection.answer(id, outcome, &around);
    }

    fn notify(&mut self, event: &Event) {
        let config = self.node.config();
        let around = Around { tables: &config.tables, wall: self.now.wall, scene: &self.scene };
        self.connection.notify(event, &around);
    }

    fn poll(&mut self) -> Vec<Errand> {
        let mut errands = Vec::new();
        let config = self.node.config();
        let around = Around { tables: &config.tables, wall: self.now.wall, scene: &self.scene };
        self.connection.poll(&around, &mut errands);
        errands
    }

    fn ask(&mut self, id: CallId, call: Call) {
        let client = ClientId::new(call.identity.map_or(7, |identity| identity.client));
        let again = call.identity.is_some_and(|identity| identity.again);
        self.engine(Input::Request(Request {
            client,
            id: RequestId(id.0),
            sent: if again { Sent::Again } else { Sent::First },
            patience: call.patience,
            on_no_quorum: call.on_no_quorum,
            command: call.command,
        }));
    }

    fn go_on(&mut self) {
        loop {
            let errands = self.poll();
            if errands.is_empty() {
                return;
            }
            for errand in errands {
                match errand {
                    Errand::Call(id, call) => match &mut self.held {
                        Some(held) => held.push((id, call)),
                        None => self.ask(id, call),
                    },
                    Errand::Session(id, SessionCall::Open { patience, on_no_quorum, .. }) => {
                        let command = crate::Command::OpenSession;
                        let (identity, how) = (None, How::default());
                        self.opening = Some((patience, on_no_quorum));
                        self.ask(id, Call { command, patience, on_no_quorum, identity, how });
                    }
                    Errand::Session(id, SessionCall::Follow { session }) => {
                        let no = Outcome::Refused(Refusal::NoSuchSession(session));
                        let kept = self.kept.contains(&session);
                        self.answer(id, if kept { Outcome::Done } else { no });
                    }
                    Errand::Session(id, SessionCall::Close { session, .. }) => {
                        let command = crate::Command::CloseSession(session);
                        let call = self.connection.state().call(command);
                        self.ask(id, call);
                    }
                    Errand::Session(id, SessionCall::Attach { session, .. }) => {
                        self.answer(id, Outcome::Refused(Refusal::NoSuchSession(session)));
                    }
                }
            }
        }
    }

    fn read(&mut self) -> String {
        let mut text = String::new();
        loop {
            let output = self.connection.output().split();
            if output.is_empty() {
                break;
            }
            text.push_str(&String::from_utf8_lossy(&output).replace("\r\n", " "));
            self.go_on();
        }
        self.closing = self.connection.closing().cloned();
        text.trim_end().to_owned()
    }

    /// Sends lines; answers what comes back, with spaces for line ends.
    fn say(&mut self, lines: &str) -> String {
        for line in lines.split('|') {
            self.connection.input().extend_from_slice(line.trim().as_bytes());
            self.connection.input().extend_from_slice(b"\r\n");
        }
        self.go_on();
        self.read()
    }
}

/// One line each: what is said, and what is answered.
fn conversation(server: &mut Server, lines: &[(&str, &str)]) {
    for (said, expected) in lines {
        let answer = server.say(said);
        match expected.strip_suffix('…') {
            Some(start) => assert!(answer.starts_with(start), "{said}: {answer}"),
            None => assert_eq!(&answer, expected, "{said}"),
        }
    }
}

#[test]
fn the_commands_of_redis() {
    let mut server = Server::new();
    conversation(
        &mut server,
        &[
            ("PING", "+PONG"),
            ("PING hello", "$5 hello"),
            ("ECHO x", "$1 x"),
            ("GET a", "$-1"),
            ("SET a 1", "+OK"),
            ("GET a", "$1 1"),
            ("SET a 2 NX", "$-1"),
            ("SET a 2 NX GET", "$1 1"),
            ("SET b 2 NX GET", "$-1"),
            ("SET a 3 GET", "$1 1"),
            ("SET a 4 XX", "+OK"),
            ("SET none 4 XX", "$-1"),
            ("SET a 5 XX GET", "$1 4"),
            ("SETNX a 6", ":0"),
            ("SETNX c 6", ":1"),
            ("GETSET c 7", "$1 6"),
            ("GETDEL c", "$1 7"),
            ("STRLEN a", ":1"),
            ("TYPE a", "+string"),
            ("TYPE none", "+none"),
            ("EXISTS a b none", ":2"),
            ("MGET a none b", "*3 $1 5 $-1 $1 2"),
            ("MSET a 6", "+OK"),
            ("MSET a 7 b 8", "-UNSUPPORTED MSET of several keys is atomic…"),
            ("DEL a a none", ":1"),
            ("DEL a", ":0"),
            ("TTL b", ":-1"),
            ("TTL none", ":-2"),
            ("KEYS *", "*1 $1 b"),
            ("SET", "-ERR wrong number of arguments for 'SET'; it is SET key value…"),
            ("SET a b FROB", "-ERR SET: 'FROB' is not expected here…"),
            ("INCR a", "-UNSUPPORTED INCR would not be here what it is in Redis: read the value…"),
            ("FROB a", "-ERR unknown command 'FROB'…"),
            ("INFO server", "$17 node:1 [\"server\"]…"),
            ("SELECT 1", "+OK"),
            ("SET a 1", "-WRITEONCE table locks is write-once"),
            ("SET a 1 NX", "+OK"),
            ("SELECT 2", "-NOSUCHTABLE no table '2'; there are: default locks"),
            ("SELECT default", "+OK"),
            ("CLIENT SETNAME me | CLIENT GETNAME | CLIENT ID", "+OK $2 me :7"),
            ("AUTH x", "-ERR AUTH: this node asks for no password…"),
            ("AUTH", "-ERR wrong number of arguments for 'AUTH'…"),
            ("CONFIG GET save append*", "*4 $4 save $0  $10 appendonly $3 yes"),
            ("COMMAND COUNT", ":64"),
            ("RESET", "+RESET"),
        ],
    );
}

#[test]
fn nothing_is_done_before_the_password() {
    let mut server = Server::new();
    server.scene.password = Some(b"secret");
    conversation(
        &mut server,
        &[
            ("GET a", "-NOAUTH say the password first…"),
            ("SYNOD.STATUS", "-NOAUTH…"),
            ("SUBSCRIBE quorum", "-NOAUTH…"),
            ("HELLO 3", "-NOAUTH…"),
            ("AUTH secre", "-WRONGPASS…"),
            ("AUTH secrets", "-WRONGPASS…"),
            ("AUTH root secret", "-WRONGPASS…"),
            ("HELLO 3 AUTH default wrong", "-WRONGPASS…"),
            ("FROB", "-ERR unknown command…"),
            ("GET a", "-NOAUTH…"),
            ("AUTH secret", "+OK"),
            ("GET a", "$-1"),
            ("RESET | GET a", "+RESET -NOAUTH…"),
            ("HELLO 3 AUTH default secret", "%8…"),
            ("GET a", "_"),
        ],
    );
}

#[test]
fn a_pattern_is_bounded() {
    let mut server = Server::new();
    let pattern = "*a".repeat(600);
    assert!(server.say(&format!("KEYS {pattern}")).starts_with("-LIMIT a pattern of 1200"));
    assert!(server.say(&format!("SCAN 0 MATCH {pattern}")).starts_with("-LIMIT"));
}

#[test]
fn deadlines() {
    let mut server = Server::new();
    conversation(
        &mut server,
        &[
            ("SET a 1 PX 1500", "+OK"),
            ("PTTL a", ":1500"),
            ("TTL a", ":2"),
            ("PEXPIRETIME a", ":1001500"),
            ("EXPIRETIME a", ":1002"),
            ("SET a 2 KEEPTTL", "+OK"),
            ("PTTL a", ":1500"),
            ("SET a 3", "+OK"),
            ("PTTL a", ":-1"),
            ("SET a 3 EX 10 KEEPTTL", "-ERR SET: KEEPTTL and a time exclude each other"),
            ("SET a 3 EX 0", "-ERR SET: a time cannot be '0': it is at least 1, and ends less…"),
            ("SYNOD.PUT far 1 FOR 7776000000", "*8…"),
            ("PTTL far", ":7776000000"),
            ("SYNOD.PUT a 1 FOR 9223372036854775807", "-ERR SYNOD.PUT: a time cannot be…"),
            (
                "SYNOD.PUT a 1 PATIENCE 86400001",
                "-ERR SYNOD.PUT: the patience cannot be '86400001': it is in milliseconds, 864…",
            ),
            ("SET a 3 PX 9223372036854775807", "-ERR SET: a time cannot be…"),
            ("SETEX a 10 4", "+OK"),
            ("PTTL a", ":10000"),
            ("SYNOD.PUT n 1 NODE 1", "*8 $10 generation…"),
            ("SET n 2 KEEPTTL", "-ERR SET: KEEPTTL of a key that is bound to more…"),
            ("SET a 1 PXAT 5", "-INVALIDBINDING invalid binding: until:5ms has ended"),
            ("GET a", "$1 4"),
        ],
    );
    server.now.wall = Wall(1_010_000);
    assert_eq!(server.say("GET a"), "$-1");
}

/// What `KEEPTTL` was to keep ends between the reading and the writing: there is nothing to keep.
#[test]
fn a_deadline_that_passes_meanwhile_is_not_kept() {
    let mut server = Server::new();
    assert_eq!(server.say("SET a 1 PX 1500"), "+OK");
    server.held = Some(Vec::new());
    server.say("SET a 2 KEEPTTL");
    for _ in 0..2 {
        let held = server.held.replace(Vec::new()).unwrap_or_default();
        for (id, call) in held {
            if matches!(call.command, crate::Command::CompareAndSet { .. }) {
                server.now.wall = Wall(1_010_000);
            }
            server.ask(id, call);
        }
        server.go_on();
    }
    let held = server.held.take().unwrap_or_default();
    assert_eq!(held.len(), 1, "it reads again");
    for (id, call) in held {
        server.ask(id, call);
    }
    server.go_on();
    assert_eq!(server.read(), "+OK");
    conversation(&mut server, &[("GET a", "$1 2"), ("PTTL a", ":-1")]);
}

#[test]
fn our_own_commands() {
    let mut server = Server::new();
    let chosen = server.say("HELLO 3 | SYNOD.PUTIFABSENT leader me UNTIL 2000000");
    assert!(chosen.contains("$3 won #t $5 value $2 me $10 generation"), "{chosen}");
    assert!(chosen.ends_with("$8 bindings *1 *2 $5 UNTIL $7 2000000"), "{chosen}");
    conversation(
        &mut server,
        &[
            ("SYNOD.PUTIFABSENT leader you", "%6 $3 won #f $5 value $2 me…"),
            ("SYNOD.GET none", "%5 $5 value _ $10 generation _ $5 token _ $7 version…"),
            ("SYNOD.BINDING leader", "*1 *2 $5 UNTIL $7 2000000"),
            ("SYNOD.BINDING none", "_"),
            ("SYNOD.CAS leader you IF him", "%6 $7 written #f $5 value $2 me…"),
            ("SYNOD.CAS leader you IF me", "%5 $7 written #t…"),
            ("SYNOD.CAS leader x ABSENT", "%6 $7 written #f $5 value $3 you…"),
            ("SYNOD.CAS leader x IFF", "-ERR SYNOD.CAS: say what must be there…"),
            ("SYNOD.CAS leader x VERSION 1:2", "-ERR SYNOD.CAS: a version cannot be '1:2'"),
            ("SYNOD.FENCE leader", "%5 $5 value $3 you…"),
            ("SYNOD.REMOVE leader GENERATION 1:1.1.99", "%6 $7 removed #f $5 value $3 you…"),
            ("SYNOD.REMOVE leader", "%3 $7 removed #t…"),
            ("SYNOD.REMOVE leader", "%3 $7 removed #f…"),
            (
                "SYNOD.PUT k v KEY default none",
                "-INVALIDBINDING invalid binding: key:default:none has ended",
            ),
            ("SYNOD.PUT k v PATIENCE 0", "-ERR SYNOD.PUT: the patience is at least 1 ms"),
            ("SYNOD.PUT k v TABLE nowhere", "-NOSUCHTABLE…"),
            ("SYNOD.GET k AGAIN", "-ERR SYNOD.GET: AGAIN says that this REQUEST…"),
            ("SYNOD.PUT k v LOCAL", "-ERR SYNOD.PUT: 'LOCAL' is not expected here…"),
            ("SYNOD.SESSION OPEN GRACE 10", "%2 $7 session $6 s1.1.1 $6 secret $2 42"),
            ("SYNOD.PUT held v SESSION s1.1.1", "%4…"),
            ("SYNOD.SESSION CLOSE s1.1.1", "+OK"),
            ("SYNOD.SESSION CLOSE s1.1.1", "-NOSUCHSESSION…"),
            ("SYNOD.PUT held v SESSION s1.1.1", "-INVALIDBINDING…"),
            ("SYNOD.SESSION ATTACH s1.1.9 1 GRACE 5", "-NOSUCHSESSION…"),
            ("SYNOD.SESSION ATTACH s1.1.9", "-ERR SYNOD.SESSION: the secret is missing"),
            ("SYNOD.DEFAULTS TABLE locks PATIENCE 10 LOCAL", "+OK"),
            ("SYNOD.PUT a b", "-WRITEONCE table locks is write-once"),
            ("SYNOD.TABLES", "*2 %6 $4 name $7 default $6 number :0…"),
            ("SYNOD.RECONNECT", "+OK"),
            ("SYNOD.RECONNECT 2", "+OK"),
            ("SYNOD.RECONNECT 9", "-ERR SYNOD.RECONNECT: there is no such peer…"),
            ("SYNOD.RECONNECT x", "-ERR SYNOD.RECONNECT: the number of a node cannot be 'x'"),
        ],
    );
    let status = server.say("SYNOD.STATUS");
    assert!(status.contains("$5 ready #t"), "{status}");
}

/// Of a session nobody hears but the connection that keeps it, and whoever asks is told so.
#[test]
fn messages_of_sessions_are_for_their_keepers() {
    let mut server = Server::new();
    conversation(
        &mut server,
        &[
            ("SYNOD.SESSION OPEN", "*4 $7 session $6 s1.1.1…"),
            ("SUBSCRIBE session:s1.1.1", "*3 $9 subscribe $14 session:s1.1.1 :1"),
            ("SUBSCRIBE session:s1.1.9", "-NOSUCHSESSION s1.1.9 is no session of this…"),
            ("SUBSCRIBE quorum session:s2.1.1", "*3 $9 subscribe $6 quorum :2…"),
            ("UNSUBSCRIBE session:s2.1.1", "*3 $11 unsubscribe $14 session:s2.1.1 :2"),
        ],
    );
    server.notify(&Event::SessionLost(SessionId { host: NodeId(1), node_session: 1, number: 1 }));
    let answer = server.say("PING");
    assert!(answer.ends_with("*3 $7 message $14 session:s1.1.1 $4 lost"), "{answer}");
}

/// `SYNOD.DEFAULTS` are those of sessions too.
#[test]
fn sessions_are_opened_with_the_defaults() {
    let mut server = Server::new();
    server.say("SYNOD.SESSION OPEN");
    assert_eq!(server.opening, Some((Duration::from_secs(5), crate::OnNoQuorum::Return)));
    server.say("SYNOD.DEFAULTS PATIENCE 70 RETRY | SYNOD.SESSION OPEN");
    assert_eq!(server.opening, Some((Duration::from_millis(70), crate::OnNoQuorum::Retry)));
}

/// What was sent on trust in a `MULTI` is not done in part.
#[test]
fn nothing_behind_a_refused_multi_is_done() {
    let mut server = Server::new();
    for end in ["EXEC", "DISCARD"] {
        let answer = server.say(&format!("SET a 1|multi|SET a 2|DEL a|FROB|SELECT 1|{end}|GET a"));
        let (errors, rest) = answer.split_at(answer.find("$1").expect("a value"));
        assert!(errors.starts_with("+OK -UNSUPPORTED MULTI would not be here"), "{answer}");
        assert_eq!(errors.matches("-UNSUPPORTED it was not done, for it is behind").count(), 4);
        assert!(errors.contains(&format!("-UNSUPPORTED {end} would not")), "{answer}");
        assert!(errors.contains("pipeline(transaction=False)"), "{answer}");
        assert_eq!(rest, "$1 1");
    }
    let answer = server.say("MULTI|SET a 2|RESET|GET a");
    assert!(answer.ends_with("+RESET $1 1"), "{answer}");
    conversation(
        &mut server,
        &[
            ("UNWATCH", "-UNSUPPORTED UNWATCH would not be here…"),
            ("EXEC", "-UNSUPPORTED EXEC would not be here…"),
            ("SET a 3", "+OK"),
            ("MULTI", "-UNSUPPORTED MULTI…"),
            ("MULTI", "-UNSUPPORTED MULTI…"),
        ],
    );
    // Whoever never ends it is not heard for ever.
    let set = request(&[Bytes::from("SET"), Bytes::from("a"), Bytes::from("4")]);
    let mut refused = 0;
    while server.closing.is_none() {
        server.connection.input().extend_from_slice(&set.repeat(1_000));
        server.go_on();
        refused += server.read().matches("-UNSUPPORTED it was not done").count();
    }
    assert_eq!(refused, usize::try_from(State::BEHIND_MULTI_MAX).unwrap());
    assert_eq!(server.closing, Some(Closing::Refused));
}

#[test]
fn listings_go_on_page_after_page() {
    let mut server = Server::new();
    for letter in ["a", "b", "c", "d", "e", "f", "g"] {
        assert_eq!(server.say(&format!("SET {letter} x")), "+OK");
    }
    conversation(
        &mut server,
        &[
            ("KEYS [a-f]", "*6 $1 a $1 b $1 c $1 d $1 e $1 f"),
            ("SCAN 0 COUNT 3 MATCH [bf]", "*2 $1 1 *1 $1 b"),
            ("SCAN 1 COUNT 100", "*2 $1 2 *3 $1 d $1 e $1 f"),
            ("SCAN 2", "*2 $1 0 *1 $1 g"),
            ("SCAN 0 TYPE list", "*2 $1 0 *0"),
            ("SCAN 99", "-ERR SCAN: this node does not know the cursor…"),
            ("SYNOD.KEYS AFTER e LIMIT 1", "*4 $4 keys *1 $1 f $4 more $1 f"),
            ("SYNOD.KEYS AFTER f LIMIT 3", "*4 $4 keys *1 $1 g $4 more $-1"),
            ("SYNOD.KEYS LIMIT 4", "-LIMIT…"),
            ("SYNOD.KEYS LIMIT 0", "-ERR SYNOD.KEYS: the limit cannot be '0'"),
            ("SYNOD.CONFLICTS LIMIT 0", "-ERR SYNOD.CONFLICTS: the limit cannot be '0'"),
        ],
    );
}

/// To compare keys with a long pattern takes longer, so fewer are compared at a time.
#[test]
fn a_long_pattern_makes_short_pages() {
    let mut server = Server::new();
    for letter in ["a", "b", "c", "d", "e", "f", "g"] {
        assert_eq!(server.say(&format!("SET {letter} x")), "+OK");
    }
    let pattern = "*?".repeat(100);
    server.held = Some(Vec::new());
    server.say(&format!("KEYS {pattern}|SCAN 0 COUNT 100 MATCH {pattern}"));
    let limits: Vec<u32> =
        server.held.iter().flatten().filter_map(|(_, call)| limit(call)).collect();
    assert_eq!(limits, [1]);
    for (id, call) in server.held.take().unwrap_or_default() {
        server.ask(id, call);
    }
    server.go_on();
    assert_eq!(server.read(), "*0 *2 $1 1 *0");
    let any = "*".repeat(200);
    let all = "*7 $1 a $1 b $1 c $1 d $1 e $1 f $1 g";
    assert_eq!(server.say(&format!("KEYS {any}")), all);
}

fn limit(call: &Call) -> Option<u32> {
    let crate::Command::Keys { limit, .. } = &call.command else { return None };
    Some(*limit)
}

#[test]
fn who_is_refused_is_subscribed_to_nothing() {
    let mut server = Server::new();
    conversation(
        &mut server,
        &[
            ("SUBSCRIBE quorum news", "-UNSUPPORTED there are no channels to publish to…"),
            ("UNSUBSCRIBE", "*3 $11 unsubscribe $-1 :0"),
        ],
    );
}

/// Nobody tries passwords for long.
#[test]
fn who_says_wrong_passwords_is_disconnected() {
    let mut server = Server::new();
    server.scene.password = Some(b"right");
    for _ in 1..State::WRONG_PASSWORDS_MAX {
        assert!(server.say("AUTH wrong").starts_with("-WRONGPASS "));
        assert_eq!(server.closing, None);
    }
    // What is pipelined behind it is not even looked at.
    let answer = server.say("HELLO 3 AUTH default wrong|AUTH right|GET a");
    assert!(answer.starts_with("-WRONGPASS ") && !answer.contains('$'), "{answer}");
    assert_eq!(server.closing, Some(Closing::WrongPasswords));
}

#[test]
fn messages_come_behind_the_confirmation() {
    let mut server = Server::new();
    conversation(
        &mut server,
        &[
            ("SET a 1", "+OK"),
            ("SUBSCRIBE quorum", "*3 $9 subscribe $6 quorum :1 *3 $7 message $6 quorum $7 reached"),
            ("SYNOD.WATCH a", "+OK"),
            ("PING", "*2 $4 pong $0"),
            ("SUBSCRIBE news", "-UNSUPPORTED there are no channels to publish to…"),
        ],
    );
    let answer = server.say("DEL a");
    assert!(answer.starts_with(":1 *3 $7 message $13 key:default:a $"), "{answer}");
    assert!(answer.contains("removed 1:"), "{answer}");
    conversation(
        &mut server,
        &[
            ("SYNOD.UNWATCH a", "+OK"),
            ("UNSUBSCRIBE", "*3 $11 unsubscribe $6 quorum :0"),
            ("UNSUBSCRIBE", "*3 $11 unsubscribe $-1 :0"),
            ("SET a 1 | DEL a", "+OK :1"),
            ("HELLO 3 | SYNOD.WATCH a", "%8…"),
        ],
    );
    assert!(server.say("SET a 1 | DEL a").contains(">3 $7 message"));
    conversation(&mut server, &[("SET b 1 | SYNOD.PUT a 1 KEY default b", "+OK %4…")]);
    server.say("DEL b");
    server.wait();
    let answer = server.say("PING");
    assert!(answer.contains("key:default:a $") && answer.contains(" key:default:b@1:"), "{answer}");
}

/// What is pipelined takes effect in order for each key; what is about other keys overtakes it.
#[test]
fn nothing_overtakes_what_it_must_not() {
    let mut server = Server::new();
    server.held = Some(Vec::new());
    assert_eq!(
        server.say("SET a 1|GET a|GET b|GET b|SET b 1|SYNOD.PUT c 1 KEY default a|GET c"),
        ""
    );
    let shown = |server: &Server| -> Vec<String> {
        let held = server.held.as_ref().expect("held");
        held.iter().map(|(_, call)| call.command.to_string()).collect()
    };
    assert_eq!(shown(&server), ["put t0/a 1", "get t0/b", "get t0/b"]);
    let mut seen = Vec::new();
    while let Some(held) = server.held.replace(Vec::new()).filter(|held| !held.is_empty()) {
        let mut held = held.into_iter();
        if let Some((id, call)) = held.next() {
            seen.push(call.command.to_string());
            server.held = Some(held.collect());
            server.ask(id, call);
            server.go_on();
        }
    }
    let place = |what: &str| seen.iter().position(|seen| seen.starts_with(what)).expect(what);
    assert!(place("put t0/a") < place("get t0/a"));
    assert!(place("put t0/a") < place("put t0/c") && place("put t0/c") < place("get t0/c"));
    assert_eq!(place("put t0/b"), place("get t0/b").max(place("put t0/b")));
    server.held = None;
    let answer = server.read();
    assert!(answer.starts_with("+OK $1 1 $-1 $-1 +OK *8"), "{answer}");
    assert!(answer.ends_with("$1 1"), "{answer}");
}

#[test]
fn a_listing_waits_for_everything_and_everything_for_it() {
    let mut server = Server::new();
    server.held = Some(Vec::new());
    server.say("SET a 1|SET b 1|KEYS *|SET c 1|GET d");
    assert_eq!(server.held.as_ref().map(Vec::len), Some(2));
    let held = server.held.take().unwrap_or_default();
    for (id, call) in held {
        server.ask(id, call);
    }
    server.go_on();
    assert_eq!(server.read(), "+OK +OK *2 $1 a $1 b +OK $-1");
}

#[test]
fn an_unknown_outcome_is_neither_success_nor_failure() {
    let mut server = Server::new();
    for command in ["SET a 1", "SET a 1 NX", "DEL a", "SYNOD.PUT a 1", "MGET a b", "SET a 1 XX"] {
        server.held = Some(Vec::new());
        server.say(command);
        for (id, _) in server.held.take().unwrap_or_default() {
            server.answer(id, Outcome::Unknown);
        }
        server.go_on();
        let answer = server.read();
        assert!(answer.starts_with("-UNKNOWN "), "{command}: {answer}");
    }
}

/// what `UNKNOWN` and `DISCIPLINE` advise to do is something that a primary table does.
#[test]
fn what_is_unknown_of_a_primary_table_can_be_resolved() {
    let mut server = Server::with(TableConfig::primary_table("accounts", Schema::default()));
    assert_eq!(server.say("SELECT accounts"), "+OK");
    let mut asked = |said: &str, outcome: &Outcome| {
        server.held = Some(Vec::new());
        server.say(said);
        for (id, _) in server.held.take().unwrap_or_default() {
            server.answer(id, outcome.clone());
        }
        server.go_on();
        server.read()
    };
    for (said, advice) in [
        ("SYNOD.PUT a 1 REQUEST 77 1", "SYNOD.RESOLVE 77 1 TABLE accounts tells"),
        ("SYNOD.REMOVE a REQUEST 77 2 AGAIN SEEN 5", "SYNOD.RESOLVE 77 2 SEEN 5 TABLE accounts"),
        ("SET a 1", "REQUEST client number, SYNOD.RESOLVE tells"),
        ("DEL a b", "REQUEST client number, SYNOD.RESOLVE tells"),
        ("SYNOD.RESOLVE 77 1", "ask again, with SEEN"),
        ("SYNOD.HANDOVER", "SYNOD.PRIMARY tells"),
    ] {
        let answer = asked(said, &Outcome::Unknown);
        assert!(answer.starts_with("-UNKNOWN ") && answer.contains(advice), "{said}: {answer}");
        assert!(!answer.contains("FENCE"), "{said}: {answer}");
    }
    // What was shown before it was sent first is behind nothing that it did.
    let place = Place { reign: Reign(1), index: 7 };
    let found = Outcome::Primary(Answer::Found { value: None, place });
    assert_eq!(asked("GET a", &found), "$-1");
    let answer = asked("SYNOD.PUT a 1 REQUEST 77 3", &Outcome::Unknown);
    assert!(answer.contains("SYNOD.RESOLVE 77 3 SEEN 7 "), "{answer}");
    let answer = asked("SYNOD.PUT a 1 REQUEST 77 3 AGAIN SEEN 5", &Outcome::Unknown);
    assert!(answer.contains("SYNOD.RESOLVE 77 3 SEEN 5 "), "{answer}");
    let answer = server.say("SYNOD.FENCE a");
    assert!(answer.starts_with("-DISCIPLINE table accounts is a primary table"), "{answer}");
    assert!(answer.contains("SYNOD.RESOLVE"), "{answer}");
}

/// A primary table is made, had, and dropped by its name.
#[test]
fn primary_tables_are_made_while_nodes_run() {
    let mut server = Server::new();
    let missing = "-NOSUCHTABLE no table 'orders'; there are: default locks";
    assert_eq!(server.say("SELECT orders"), missing);
    assert_eq!(server.say("SYNOD.CREATE orders AS primary+quorum"), "+OK");
    assert_eq!(server.say("SYNOD.CREATE orders AS primary+quorum"), "+OK");
    let other = "-UNMADE there is a table of this name, which is primary+quorum";
    assert_eq!(server.say("SYNOD.CREATE orders AS primary"), other);
    let other = "-UNMADE there is a table of this name, which is a primary table";
    assert_eq!(server.say("SYNOD.CREATE orders AS set"), other);
    let answer = server.say("SYNOD.CREATE orders AS quorum+primary");
    assert!(answer.ends_with("the first word is 'primary': primary+quorum"), "{answer}");
    assert_eq!(server.say("SYNOD.CREATE locks AS primary").split(' ').next(), Some("-UNMADE"));
    assert_eq!(server.say("SELECT orders"), "+OK");
    assert_eq!(server.say("SYNOD.DROP orders"), "+OK");
    assert!(server.say("SYNOD.DROP orders").starts_with("-UNMADE there is no table"));
    assert_eq!(server.say("SELECT orders"), missing);
}

/// `WAIT` tells how many others have what was written, and where there is nothing to wait for
/// says so.
#[test]
fn wait_counts_replicas_of_primary_tables_alone() {
    let mut server = Server::with(TableConfig::primary_table("accounts", Schema::default()));
    conversation(
        &mut server,
        &[
            (
                "WAIT 0 0",
                "-UNSUPPORTED WAIT is for primary tables, and table default is consensus…",
            ),
            ("SELECT accounts", "+OK"),
            ("WAIT", "-ERR wrong number of arguments…"),
            ("WAIT x 0", "-ERR WAIT: how many replicas cannot be 'x'"),
            ("WAIT 0 -1", "-ERR WAIT: the timeout cannot be '-1'…"),
            ("SET a 1 | WAIT 0 0", "+OK :0"),
            ("WAIT 0 1", ":0"),
            // Nobody else is there: it waits, and what is behind it waits with it.
            ("WAIT 1 10 | GET a", ""),
        ],
    );
    server.wait();
    server.go_on();
    assert_eq!(server.read(), ":0 $1 1");
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let mut server = Server::new();
    let value = "x".repeat(100_000);
    let set = request(&[Bytes::from("SET"), Bytes::from("a"), Bytes::from(value)]);
    server.connection.input().extend_from_slice(&set);
    server.go_on();
    assert_eq!(server.read(), "+OK");
    let get = request(&[Bytes::from("GET"), Bytes::from("a")]);
    let mut sent = 0;
    while server.connection.wants_input() && sent < 100_000 {
        for _ in 0..50 {
            server.connection.input().extend_from_slice(&get);
            sent += 1;
        }
        server.go_on();
    }
    assert!(sent < 2_000, "it went on reading: {sent}");
    assert!(server.connection.output().len() < (1 << 20) + 200_000);
    // As it reads, everything is answered.
    let answers = server.read();
    assert_eq!(answers.matches("$100000 x").count(), sent);
    assert!(server.connection.wants_input());
}

/// Sends this for as long as it is read; what is in flight is not answered.
fn flood(server: &mut Server, request: &dyn Fn(usize) -> Bytes) -> usize {
    server.held = Some(Vec::new());
    let mut sent = 0;
    while server.connection.wants_input() && sent < 2_000 {
        let request = request(sent);
        server.connection.input().extend_from_slice(&request);
        server.go_on();
        sent += 1;
    }
    sent
}

#[test]
fn what_waits_for_an_answer_is_held_for_the_client_and_bounded() {
    const MIB: usize = 1 << 20;
    let (value, slow) = (Bytes::from(vec![b'x'; MIB]), Bytes::from("slow"));
    let set = |key: Bytes| request(&[Bytes::from("SET"), key, value.clone()]);
    let echo = request(&[Bytes::from("ECHO"), value.clone()]);
    let small = request(&[Bytes::from("ECHO"), Bytes::from("y")]);
    // One register, so that all but the first wait; many, so that all are in flight; answers that
    // wait for an older one; and small ones that share memory with large requests.
    let floods: [&dyn Fn(usize) -> Bytes; 4] = [
        &|_| set(slow.clone()),
        &|place| set(Bytes::from(place.to_string())),
        &|place| if place == 0 { set(slow.clone()) } else { echo.clone() },
        &|place| [set(Bytes::from(place.to_string())), small.clone()].concat().into(),
    ];
    for (place, flood_with) in floods.iter().enumerate() {
        let mut server = Server::new();
        let sent = flood(&mut server, *flood_with);
        assert!((8..=16).contains(&sent), "{place}: {sent} requests of a mebibyte were read");
        let held = server.connection.held();
        assert!((sent * MIB..40 * MIB).contains(&held), "{place}: {held} for {sent}");
        for (id, call) in server.held.take().expect("calls") {
            server.ask(id, call);
        }
        server.go_on();
        server.read();
        assert!(server.connection.is_idle() && server.connection.wants_input(), "{place}");
        assert!(server.connection.held() < 8 * MIB, "{place}: {}", server.connection.held());
    }
}

#[test]
fn a_reply_is_bounded() {
    let mut server = Server::new();
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    let set = request(&[Bytes::from("SET"), Bytes::from("big"), value]);
    server.connection.input().extend_from_slice(&set);
    server.go_on();
    assert_eq!(server.read(), "+OK");
    assert!(server.say(&format!("MGET{}", " big".repeat(16))).starts_with("*16 $1048576"));
    let answer = server.say(&format!("MGET{}", " big".repeat(1_000)));
    assert!(answer.starts_with("-LIMIT ") && answer.contains("reply"), "{:.100}", answer);
    // What tells no values has no such bound.
    assert_eq!(server.say(&format!("EXISTS{}", " big".repeat(1_000))), ":1000");
    assert!(server.connection.held() < 32 << 20, "{}", server.connection.held());
}

#[test]
fn a_client_that_does_not_read_messages_is_dropped() {
    let mut server = Server::new();
    server.say("SUBSCRIBE quorum");
    let event = Event::QuorumLost { epoch: crate::Epoch(1) };
    for _ in 0..10_000 {
        server.notify(&event);
    }
    assert_eq!(server.connection.closing(), Some(&Closing::TooManyMessages));
}

#[test]
fn what_is_no_request_is_answered_once_and_the_connection_closed() {
    let mut server = Server::new();
    server
        .connection
        .input()
        .extend_from_slice(b"*1\r\n$4\r\nPING\r\n*1\r\n:5\r\n*1\r\n$4\r\nPING\r\n");
    server.go_on();
    assert_eq!(server.read(), "+PONG -ERR Protocol error: expected '$'");
    assert!(matches!(server.closing, Some(Closing::Protocol(_))));
    assert!(!server.connection.wants_input());
    let mut server = Server::new();
    assert_eq!(server.say("PING|QUIT|PING"), "+PONG +OK");
    assert_eq!(server.closing, Some(Closing::Quit));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every command of the table, with any arguments: answered once, in order, never a panic.
    #[test]
    fn any_arguments_are_answered(
        requests in prop::collection::vec(
            (0..COMMANDS.len(), prop::collection::vec(prop_oneof![
                any::<Vec<u8>>(),
                "[a-c]".prop_map(String::into_bytes),
                "(NX|XX|GET|PX|EX|KEEPTTL|TABLE|LIMIT|AFTER|IF|ABSENT|VERSION|OPEN|GRACE|NODE|KEY|\
                  FOR|UNTIL|SESSION|REQUEST|AGAIN|LOCAL|RETRY|quorum|key:default:a|0|1|3|s1.1.1)"
                    .prop_map(String::into_bytes),
            ], 0..6)), 1..12),
    ) {
        let mut server = Server::new();
        let mut asked = 0;
        for (place, arguments) in requests {
            let name = COMMANDS[place].name;
            if ["QUIT", "SUBSCRIBE", "UNSUBSCRIBE", "SYNOD.WATCH"].contains(&name) {
                continue;
            }
            let mut words = vec![Bytes::from(name)];
            words.extend(arguments.into_iter().map(Bytes::from));
            server.connection.input().extend_from_slice(&request(&words));
            asked += 1;
        }
        server.go_on();
        let mut output = server.connection.output().split().freeze();
        let mut answered = 0;
        while !output.is_empty() {
            let (_, rest) = resp_rs::resp3::parse_frame(output).expect("a reply");
            output = rest;
            answered += 1;
        }
        prop_assert_eq!(answered, asked);
        prop_assert_eq!(server.connection.unanswered(), 0);
    }
}
