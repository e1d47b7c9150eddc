//! Nodes on real sockets: what the host and the embedding API promise beside the engine.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use synod::host::{HostConfig, LinkOptions, Reconnect, Running, Syncing, entropy};
use synod::node::{Body, Message};
use synod::storage::{Found, Memory, Opened, Storage, StorageError, Volatile};
use synod::{
    Bind, Builder, Change, Cluster, ClusterStatus, Codec, Config, Ending, Error, Exchanged,
    Genesis, Key, NodeId, Outcome, QuorumChange, Readiness, Refusal, Rejection, SessionState,
    State, Table, Timing, Value,
};

/// Far more than anything here takes, on a machine that does ten other things.
const LONG: Duration = Duration::from_secs(60);

/// Runs a test; one that hangs fails.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let bounded = async { tokio::time::timeout(LONG, test).await.expect("an end in time") };
    runtime.expect("a runtime").block_on(bounded)
}

/// Sockets on ports that the system chooses, and the addresses of all.
struct Ports(BTreeMap<u16, (TcpListener, String)>);

impl Ports {
    fn new(nodes: u16) -> Self {
        let port = |node| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("bound").to_string();
            (node, (listener, address))
        };
        Self((1..=nodes).map(port).collect())
    }

    fn address(&self, node: u16) -> &str {
        &self.0[&node].1
    }

    /// A node of the cluster, listening where the others expect it.
    fn builder(&self, name: &str, node: u16) -> Builder {
        let builder = Cluster::builder(name, node)
            .table("default")
            .write_once_table("once")
            .listener(self.0[&node].0.try_clone().expect("another socket"));
        self.0.iter().fold(builder, |builder, (&node, (_, address))| builder.member(node, address))
    }

    /// Vouched for, so that those that are there need not wait for the others.
    async fn start(&self, name: &str, node: u16) -> Cluster {
        self.builder(name, node).vouched().start(State::Memory).await.expect("the node starts")
    }

    /// All of them, ready.
    async fn start_all(&self, name: &str) -> Vec<Cluster> {
        let mut nodes = Vec::new();
        for &node in self.0.keys() {
            nodes.push(self.start(name, node).await);
        }
        for node in &nodes {
            node.ready().await.expect("ready");
        }
        nodes
    }
}

fn texts(node: &Cluster) -> Table<String, String> {
    node.table("default").expect("the table")
}

async fn value(table: &Table<String, String>, key: &str) -> Option<String> {
    table.get(key).await.expect("an answer").map(|entry| entry.value)
}

/// Asks until it is so.
async fn until(node: &Cluster, what: impl Fn(&ClusterStatus) -> bool) {
    while !what(&node.status().await.expect("a status")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn up(status: &ClusterStatus) -> usize {
    status.links.iter().filter(|link| link.up).count()
}

/// P-28, P-34: a call made before the second node is there ends when it is; then every node knows.
#[test]
fn nodes_find_each_other_and_agree() {
    run(async {
        let ports = Ports::new(3);
        let first = ports.start("agree", 1).await;
        let table = texts(&first);
        let early = tokio::spawn(async move { table.patience(LONG).put("a", "1").await });
        until(&first, |status| status.node.requests > 0).await;
        let others = [ports.start("agree", 2).await, ports.start("agree", 3).await];
        early.await.expect("no panic").expect("the cluster is up");
        for node in &others {
            assert_eq!(value(&texts(node), "a").await.as_deref(), Some("1"));
        }
        until(&first, |status| up(status) == 2).await;
        for node in others {
            node.shutdown().await.expect("a graceful stop");
        }
        first.shutdown().await.expect("a graceful stop");
    });
}

/// Memory that nobody vouches for may have been lost: it votes only once its peers know it.
#[test]
fn memory_is_not_vouched_for() {
    run(async {
        let ports = Ports::new(3);
        let start = async |node| {
            let builder = ports.builder("unvouched", node);
            builder.start(State::Memory).await.expect("the node starts")
        };
        let mut nodes = vec![start(1).await, start(2).await];
        until(&nodes[0], |status| status.node.has_quorum).await;
        let readiness = nodes[0].status().await.expect("a status").node.readiness;
        assert_eq!(readiness, Readiness::Unwitnessed);
        nodes.push(start(3).await);
        for node in &nodes {
            node.ready().await.expect("all three are there");
        }
    });
}

/// A codec whose values cannot be read back.
struct OneWay;

impl Codec for OneWay {
    type Borrowed = str;
    type Owned = String;

    fn encode(value: &str) -> Result<Vec<u8>, synod::host::embed::Unreadable> {
        String::encode(value)
    }

    fn decode(_: &[u8]) -> Result<String, synod::host::embed::Unreadable> {
        u64::decode(b"no number").map(|_| String::new())
    }
}

/// What would win and could not be told is refused before anything is asked.
#[test]
fn a_rejected_put_if_absent_has_put_nothing() {
    run(async {
        let nodes = Ports::new(3).start_all("one-way").await;
        let table: Table<String, OneWay> = nodes[0].table("default").expect("the table");
        let error = table.put_if_absent("k", "v").await.expect_err("it cannot be read back");
        assert!(matches!(error, Error::Rejected(Rejection::Unreadable(_))), "{error}");
        assert_eq!(value(&texts(&nodes[0]), "k").await, None);
    });
}

/// Every method of a table says what the engine says, in the table's types.
#[test]
fn a_table_has_all_commands() {
    run(async {
        let nodes = Ports::new(3).start_all("commands").await;
        let table = texts(&nodes[0]);
        let put = table.put("k", "one").await.expect("put");
        let found = table.get("k").await.expect("get").expect("there");
        assert_eq!((found.value.as_str(), found.version), ("one", put.version));
        let taken = table.put_if_absent("k", "two").await.expect("put_if_absent");
        assert!(!taken.won && taken.entry.value == "one");
        let stale = table.compare_and_set("k", None, "x").await.expect("an answer");
        assert!(matches!(stale, Exchanged::Mismatch { entry: Some(_), .. }), "{stale:?}");
        let done = table.compare_and_set("k", Some(put.version), "three").await.expect("an answer");
        assert!(matches!(done, Exchanged::Done(_)), "{done:?}");
        assert_eq!(table.get_local("k").await.expect("local").expect("there").value, "three");
        assert_eq!(table.fence("k").await.expect("fenced").expect("there").value, "three");
        table.put("l", "four").await.expect("put");
        let page = table.keys(1).await.expect("keys");
        assert_eq!(page.keys, ["k"]);
        let rest = table.keys_after(page.more.expect("more"), 10).await.expect("keys");
        assert_eq!(rest.keys, ["l"]);
        let never = table.remove_generation("k", synod::Ballot::ZERO).await.expect("an answer");
        assert!(matches!(never, Exchanged::Mismatch { .. }), "{never:?}");
        table.remove("k").await.expect("removed");
        assert_eq!(value(&table, "k").await, None);

        let numbers: Table<u64, Vec<u8>> = nodes[1].table("default").expect("the table");
        numbers.put(&7, &[0, 255]).await.expect("put");
        assert_eq!(numbers.get(&7).await.expect("get").expect("there").value, [0, 255]);
        let missing = nodes[0].table::<String, String>("nowhere").expect_err("no such table");
        assert!(missing.to_string().contains("nowhere"), "{missing}");
    });
}

/// What is refused is definite, what cannot be read is not garbage, and the two are told apart.
#[test]
fn errors_are_typed() {
    run(async {
        let ports = Ports::new(3);
        let nodes = ports.start_all("errors").await;
        let once: Table<String, Vec<u8>> = nodes[0].table("once").expect("the table");
        let refused = once.put("k", b"v").await;
        let refused = refused.expect_err("a write-once table");
        assert!(
            matches!(refused, Error::Rejected(Rejection::Refused(Refusal::WriteOnce(_)))),
            "{refused}"
        );
        once.put_if_absent("k", &[0xff]).await.expect("put");
        let as_text: Table<String, String> = nodes[0].table("once").expect("the table");
        let unreadable = as_text.get("k").await.expect_err("not UTF-8");
        assert!(matches!(unreadable, Error::Rejected(Rejection::Unreadable(_))), "{unreadable}");

        let mut nodes = nodes.into_iter();
        let (first, second, third) = (nodes.next(), nodes.next(), nodes.next());
        second.expect("a node").shutdown().await.expect("a graceful stop");
        third.expect("a node").shutdown().await.expect("a graceful stop");
        let first = first.expect("a node");
        until(&first, |status| !status.node.has_quorum).await;
        let alone = texts(&first).impatient().put("k", "v").await.expect_err("no quorum");
        assert_eq!(alone, Error::Rejected(Rejection::Refused(Refusal::NoQuorum)));
        let soon = Duration::from_millis(50);
        texts(&first).patience(soon).get("k").await.expect_err("no quorum within the deadline");
        let table = texts(&first);
        first.shutdown().await.expect("a graceful stop");
        let stopped = table.get("k").await.expect_err("the node has stopped");
        assert_eq!(stopped, Error::Rejected(Rejection::Stopped));
    });
}

/// P-14, P-16: what is bound to a session ends with it, dropped or closed, and a watcher is told.
#[test]
fn sessions_end_on_drop() {
    run(async {
        let nodes = Ports::new(3).start_all("sessions").await;
        for explicitly in [false, true] {
            let session = nodes[0].session().await.expect("a session");
            assert_eq!(session.state(), SessionState::Open);
            let mut watch = texts(&nodes[2]).watch("leader").await.expect("a watch");
            let bound = texts(&nodes[1]).bound_to(&session);
            let taken = bound.put_if_absent("leader", "me").await.expect("put");
            assert!(taken.won);
            // It may have been seen by the watching node or not: a read makes it known.
            assert_eq!(value(&texts(&nodes[2]), "leader").await.as_deref(), Some("me"));
            let id = session.id();
            if explicitly {
                session.close().await.expect("closed");
            } else {
                drop(session);
            }
            let ended = loop {
                match watch.next().await.expect("an event") {
                    Change::Ended { generation, ending }
                        if generation == taken.entry.generation =>
                    {
                        break ending;
                    }
                    Change::Ended { .. } | Change::Missed => {}
                }
            };
            assert_eq!(ended, Ending::Erased(synod::Binding::Session(id)));
            assert_eq!(value(&texts(&nodes[2]), "leader").await, None);
            let late = texts(&nodes[1]).bound_to(Bind::Session(id)).put("leader", "x").await;
            let late = late.expect_err("the session has ended");
            assert!(
                matches!(late, Error::Rejected(Rejection::Refused(Refusal::InvalidBinding(_)))),
                "{late}"
            );
        }
        until(&nodes[0], |status| status.node.sessions == 0).await;
    });
}

/// A guard is told when its session is over because the node is.
#[test]
fn a_session_does_not_outlive_its_node() {
    run(async {
        let mut nodes = Ports::new(3).start_all("outlive").await;
        let mut session = nodes[0].session().await.expect("a session");
        nodes.remove(0).shutdown().await.expect("a graceful stop");
        assert_eq!(session.changed().await, SessionState::Lost);
        assert_eq!(session.state(), SessionState::Lost);
    });
}

/// P-25, P-26: exactly one event for each change of quorum; a watcher that is dropped is forgotten.
#[test]
fn quorum_is_watched() {
    run(async {
        let ports = Ports::new(3);
        let first = ports.start("quorum", 1).await;
        let mut watch = first.watch_quorum().await.expect("a watch");
        let transition = async |watch: &mut synod::Watch<QuorumChange>| loop {
            match watch.next().await.expect("an event") {
                change @ (QuorumChange::Reached(_) | QuorumChange::Lost(_)) => break change,
                QuorumChange::Reachable { .. }
                | QuorumChange::Readiness(_)
                | QuorumChange::Missed => {}
            }
        };
        assert!(matches!(transition(&mut watch).await, QuorumChange::Lost(_)));
        let second = ports.start("quorum", 2).await;
        assert!(matches!(transition(&mut watch).await, QuorumChange::Reached(_)));
        second.shutdown().await.expect("a graceful stop");
        assert!(matches!(transition(&mut watch).await, QuorumChange::Lost(_)));
        first.shutdown().await.expect("a graceful stop");
        assert_eq!(watch.next().await, None);
    });
}

/// P-28, P-29: two clusters in one process share nothing, and a stray of one is refused by the
/// other.
#[test]
fn two_clusters_in_one_process() {
    run(async {
        let (red, blue) = (Ports::new(3), Ports::new(3));
        let (red, blue) = (red.start_all("red").await, blue.start_all("blue").await);
        texts(&red[0]).put("k", "red").await.expect("put");
        texts(&blue[0]).put("k", "blue").await.expect("put");
        assert_eq!(value(&texts(&red[1]), "k").await.as_deref(), Some("red"));
        assert_eq!(value(&texts(&blue[1]), "k").await.as_deref(), Some("blue"));
    });
}

/// A node of another cluster, or of another configuration, is never linked; the others go on.
#[test]
fn strangers_are_refused() {
    run(async {
        let ports = Ports::new(3);
        let one = ports.start("right", 1).await;
        let three = ports.start("right", 3).await;
        one.ready().await.expect("ready");
        for attempt in ["wrong", "right"] {
            // The second is of the right cluster, but believes in another table.
            let builder = ports.builder(attempt, 2).table("another");
            let stray = builder.start(State::Memory).await.expect("it runs, alone");
            let mut tries = 0;
            while tries < 3 {
                stray.reconnect().expect("it runs");
                let status = stray.status().await.expect("a status");
                assert_eq!((up(&status), status.node.reachable.len()), (0, 1), "{status:?}");
                texts(&one).put("k", attempt).await.expect("the others go on");
                tries += 1;
            }
            stray.shutdown().await.expect("a graceful stop");
        }
        assert_eq!(value(&texts(&three), "k").await.as_deref(), Some("right"));
    });
}

/// Opens a stream to a peer port, sends `bytes`, and reads until the node hangs up.
fn provoke(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    // The node may hang up before all is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("the node does not hang up: {error}"),
        }
    }
}

/// Whatever arrives at the peer port, the node hangs up and serves on.
#[test]
fn garbage_on_the_peer_port_is_refused() {
    run(async {
        let ports = Ports::new(3);
        let nodes = ports.start_all("garbage").await;
        let magic = b"\x89synod\r\n";
        let version = [magic.as_slice(), &2_u16.to_le_bytes()].concat();
        let preface = [magic.as_slice(), &1_u16.to_le_bytes()].concat();
        let huge = [preface.as_slice(), &u32::MAX.to_le_bytes(), &[0; 4]].concat();
        let long = [preface.as_slice(), &100_000_u32.to_le_bytes(), &[0; 4]].concat();
        let broken = [preface.as_slice(), &4_u32.to_le_bytes(), &[1; 4], b"abcd"].concat();
        let noise: Vec<u8> =
            (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let all = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), noise, version, huge, long, broken];
        for bytes in all {
            let address = ports.address(1).to_owned();
            let answer = tokio::task::spawn_blocking(move || provoke(&address, &bytes)).await;
            assert_eq!(answer.expect("no panic"), b"", "a stranger learns nothing");
            texts(&nodes[0]).put("k", "v").await.expect("service is unaffected");
        }
    });
}

/// Connections that say nothing, or begin and never end, are bounded, and cost nobody anything.
#[test]
fn idle_strangers_do_not_stop_service() {
    run(async {
        let ports = Ports::new(3);
        let links = LinkOptions { handshake: Duration::from_millis(500), ..LinkOptions::default() };
        let one = ports.builder("idle", 1).vouched().links(links);
        let one = one.start(State::Memory).await.expect("the node starts");
        let two = ports.start("idle", 2).await;
        let mut idle = Vec::new();
        for place in 0..400 {
            let mut stream = TcpStream::connect(ports.address(1)).expect("connected");
            if place % 2 == 0 {
                let _ = stream.write_all(b"\x89syn");
            }
            idle.push(stream);
        }
        // A node that comes while they sit there is let in.
        let three = ports.start("idle", 3).await;
        until(&three, |status| up(status) == 2).await;
        texts(&one).put("k", "v").await.expect("service is unaffected");
        // And all of them are hung up on.
        for mut stream in idle {
            let hung_up = tokio::task::spawn_blocking(move || {
                stream.set_read_timeout(Some(LONG)).expect("a timeout");
                let read = stream.read(&mut [0; 1]);
                read.map_or_else(|why| why.kind() == ErrorKind::ConnectionReset, |count| count == 0)
            });
            assert!(hung_up.await.expect("no panic"));
        }
        drop(two);
    });
}

/// A stream to a node's port that a test can hold back: a proxy that passes bytes on, or does not.
struct Proxy {
    address: String,
    open: std::sync::Arc<tokio::sync::watch::Sender<bool>>,
}

impl Proxy {
    /// Passes on to `target`, in both directions, while it is open.
    async fn start(target: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let open = std::sync::Arc::new(tokio::sync::watch::Sender::new(true));
        let gate = open.clone();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let Ok(to) = tokio::net::TcpStream::connect(&target).await else { continue };
                let ((from_in, from_out), (to_in, to_out)) = (from.into_split(), to.into_split());
                tokio::spawn(pass(from_in, to_out, gate.subscribe()));
                tokio::spawn(pass(to_in, from_out, gate.subscribe()));
            }
        });
        Self { address, open }
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut open: tokio::sync::watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 4096];
    loop {
        let Ok(_) = open.wait_for(|open| *open).await else { return };
        let Ok(count) = from.read(&mut buffer).await else { return };
        let Ok(_) = open.wait_for(|open| *open).await else { return };
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// A peer that reads nothing: what waits for it is bounded, more is lost, the link is given up, and
/// comes back when the peer does.
#[test]
fn a_stalled_peer_has_bounded_memory() {
    run(async {
        let ports = Ports::new(3);
        let proxy = Proxy::start(ports.address(1).to_owned()).await;
        let queue_max = 256 << 10;
        let options =
            || LinkOptions { queue_max, idle: Duration::from_secs(5), ..LinkOptions::default() };
        let one = ports.builder("stall", 1).vouched().links(options());
        let one = one.start(State::Memory).await.expect("the node starts");
        // Node 2 dials node 1 through the proxy.
        let two = ports.builder("stall", 2).vouched().links(options());
        let two = two.member(1, proxy.address.clone());
        let two = two.start(State::Memory).await.expect("the node starts");
        let three = ports.start("stall", 3).await;
        until(&two, |status| up(status) == 2).await;
        until(&three, |status| up(status) == 2).await;
        proxy.open.send_replace(false);
        let (table, value) = (texts(&two), "x".repeat(64 << 10));
        let to_one = |status: &ClusterStatus| status.links[0];
        assert_eq!(to_one(&two.status().await.expect("a status")).peer, NodeId(1));
        let (mut most, mut lost) = (0, 0);
        while lost == 0 {
            table.put("k", &value).await.expect("two of three go on");
            let link = to_one(&two.status().await.expect("a status"));
            most = most.max(link.queued);
            lost = link.dropped;
        }
        let room = queue_max + 2 * value.len();
        assert!(most <= room, "{most} bytes waited where {room} are allowed");
        until(&two, |status| !to_one(status).up).await;
        assert_eq!(to_one(&two.status().await.expect("a status")).queued, 0);
        proxy.open.send_replace(true);
        until(&two, |status| to_one(status).up).await;
        until(&one, |status| up(status) == 2).await;
    });
}

/// M-29, M-30: a policy of `Never` dials no more; told to, a node dials at once, and one that may
/// not dial has its peer do so.
#[test]
fn reconnecting_follows_the_policy() {
    run(async {
        let ports = Ports::new(3);
        let never = || LinkOptions { reconnect: Reconnect::Never, ..LinkOptions::default() };
        let start = async |node| {
            let builder = ports.builder("policy", node).links(never());
            builder.start(State::Memory).await.expect("the node starts")
        };
        // Node 3 looks for the others before they listen to anybody of their own.
        let strays = [Ports::new(3), Ports::new(3)];
        let wrong = [strays[0].address(1).to_owned(), strays[1].address(2).to_owned()];
        drop(strays);
        let three = ports.builder("policy", 3).links(never());
        let three = three.member(1, wrong[0].clone()).member(2, wrong[1].clone());
        let three = three.start(State::Memory).await.expect("the node starts");
        let two = start(2).await;
        let one = start(1).await;
        // Two and one came later: node 2 could reach nobody when it started, or could.
        two.reconnect().expect("it runs");
        until(&one, |status| up(status) >= 1).await;
        // Whatever they do, node 3 has tried once, and tries no more until it is told.
        let status = three.status().await.expect("a status");
        assert_eq!(up(&status), 0, "{status:?}");
        // Node 1 cannot dial node 3, but it can ask to be dialled.
        drop(three);
        let three = start(3).await;
        until(&three, |status| up(status) == 2).await;
        drop(one);
        until(&three, |status| up(status) == 1).await;
    });
}

/// Every default and every fixed interval brings a link back without being told (M-29).
#[test]
fn links_come_back_by_themselves() {
    run(async {
        for reconnect in [Reconnect::default(), Reconnect::Every(Duration::from_millis(50))] {
            let ports = Ports::new(3);
            let links = LinkOptions { reconnect, ..LinkOptions::default() };
            let proxy = Proxy::start(ports.address(1).to_owned()).await;
            let one = ports.start("back", 1).await;
            let two = ports.builder("back", 2).vouched().links(links);
            let two = two.member(1, proxy.address.clone());
            let two = two.start(State::Memory).await.expect("the node starts");
            until(&two, |status| status.links[0].up).await;
            one.shutdown().await.expect("a graceful stop");
            until(&two, |status| !status.links[0].up).await;
            // Memory was lost, so the node that comes back does not vote; its link is up.
            let one = ports.start("back", 1).await;
            until(&two, |status| status.links[0].up).await;
            until(&one, |status| matches!(status.node.readiness, Readiness::StateLost(_))).await;
            let why = one.ready().await.expect_err("its state is lost").to_string();
            assert!(why.contains("not be ready"), "{why}");
        }
    });
}

/// P-32: with storage, every node may be restarted, and nothing is lost.
#[test]
fn a_rolling_restart_loses_nothing() {
    run(async {
        let ports = Ports::new(3);
        let stores: Vec<Memory> = (0..3).map(|_| Memory::default()).collect();
        let start = async |node: u16| {
            let opened = stores[usize::from(node) - 1].reopen().boxed();
            let state = State::Other(Box::new(move |_| Ok(opened)));
            let builder = ports.builder("rolling", node).timing(quick());
            builder.start(state).await.expect("the node starts")
        };
        let mut nodes = Vec::new();
        for node in 1..=3 {
            nodes.push(start(node).await);
        }
        for round in 0..6_u16 {
            for node in &nodes {
                node.ready().await.expect("ready");
            }
            let key = format!("k{round}");
            texts(&nodes[usize::from(round % 3)]).put(&key, "kept").await.expect("put");
            nodes.remove(0).shutdown().await.expect("a graceful stop");
            nodes.push(start(round % 3 + 1).await);
            nodes[2].ready().await.expect("ready");
            for earlier in 0..=round {
                let key = format!("k{earlier}");
                assert_eq!(value(&texts(&nodes[2]), &key).await.as_deref(), Some("kept"), "{key}");
            }
        }
    });
}

/// P-32: a directory is a node's own; started again on it, the node goes on.
#[test]
fn a_directory_outlives_its_node() {
    run(async {
        let home = std::env::temp_dir().join(format!("synod-host-{}", std::process::id()));
        let ports = Ports::new(3);
        let start = async |name: &str, node: u16| {
            let directory = State::Directory(home.join(node.to_string()));
            ports.builder(name, node).timing(quick()).start(directory).await
        };
        for round in 0..2 {
            let mut nodes = Vec::new();
            for node in 1..=3 {
                nodes.push(start("disk", node).await.expect("the node starts"));
            }
            for node in &nodes {
                node.ready().await.expect("ready");
            }
            let twice = start("disk", 1).await.expect_err("the directory is in use");
            assert!(twice.to_string().contains("in use"), "{twice}");
            if round == 0 {
                texts(&nodes[0]).put("k", "kept").await.expect("put");
            }
            assert_eq!(value(&texts(&nodes[2]), "k").await.as_deref(), Some("kept"));
            for node in nodes {
                node.shutdown().await.expect("a graceful stop");
            }
        }
        let foreign = start("another", 1).await.expect_err("another cluster's directory");
        assert!(foreign.to_string().contains("belongs to"), "{foreign}");
        std::fs::remove_dir_all(home).expect("removed");
    });
}

fn quick() -> Timing {
    Timing { heartbeat: Duration::from_millis(50), ..Timing::default() }
}

/// A store whose syncs fail from some moment on.
/// A store in memory, with something done before each sync.
struct Hooked<F> {
    inner: Volatile,
    before_sync: F,
}

impl<F: FnMut() -> Result<(), StorageError> + Send> Storage for Hooked<F> {
    fn append(
        &mut self,
        ticket: synod::Ticket,
        records: &[synod::Record],
    ) -> Result<(), StorageError> {
        self.inner.append(ticket, records)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        (self.before_sync)()
    }

    fn compact(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// The state of a new node in such a store.
fn hooked(before_sync: impl FnMut() -> Result<(), StorageError> + Send + 'static) -> State {
    let storage = Hooked { inner: Volatile::default(), before_sync };
    let opened = Opened { storage, found: Found::New }.boxed();
    State::Other(Box::new(move |_| Ok(opened)))
}

/// A failed sync ends the node, and whoever waits is told; the others go on.
#[test]
fn a_node_stops_when_its_storage_fails() {
    run(async {
        let ports = Ports::new(3);
        let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let failing = fails.clone();
        let state = hooked(move || {
            if failing.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(StorageError::Io {
                    doing: "sync",
                    path: "a test's".into(),
                    error: std::io::Error::other("no more"),
                });
            }
            Ok(())
        });
        let one = ports.builder("failing", 1).vouched();
        let mut one = one.start(state).await.expect("the node starts");
        let others = [ports.start("failing", 2).await, ports.start("failing", 3).await];
        one.ready().await.expect("ready");
        texts(&one).put("k", "before").await.expect("put");
        fails.store(true, std::sync::atomic::Ordering::SeqCst);
        let table = texts(&one);
        // The others are a quorum: they may be faster than the news of the failure.
        let after = loop {
            if let Err(error) = table.put("k", "after").await {
                break error;
            }
        };
        assert!(matches!(after, Error::Unknown | Error::Rejected(Rejection::Stopped)), "{after}");
        let why = one.stopped().await.expect_err("its storage has failed").to_string();
        assert!(why.contains("no more"), "{why}");
        texts(&others[0]).put("k", "others").await.expect("a quorum goes on");
    });
}

/// What syncs wait for until somebody opens it.
#[derive(Default)]
struct Gate {
    /// Whether it is closed, and how many wait before it.
    state: std::sync::Mutex<(bool, usize)>,
    opened: std::sync::Condvar,
}

impl Gate {
    fn close(&self) {
        self.state.lock().expect("no panic").0 = true;
    }

    fn open(&self) {
        self.state.lock().expect("no panic").0 = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().expect("no panic");
        state.1 += 1;
        let mut state = self.opened.wait_while(state, |state| state.0).expect("no panic");
        state.1 -= 1;
    }

    fn is_waited_at(&self) -> bool {
        self.state.lock().expect("no panic").1 > 0
    }
}

/// State behind a gate, which is open.
fn gated() -> (State, std::sync::Arc<Gate>) {
    let gate = std::sync::Arc::<Gate>::default();
    let passed = gate.clone();
    let state = hooked(move || {
        passed.pass();
        Ok(())
    });
    (state, gate)
}

/// Passes on to `target` what whoever dials says, and notes the messages in it.
async fn overheard(target: String) -> (String, std::sync::Arc<std::sync::Mutex<Vec<Message>>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let heard = std::sync::Arc::<std::sync::Mutex<Vec<Message>>>::default();
    let notes = heard.clone();
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            let Ok(to) = tokio::net::TcpStream::connect(&target).await else { continue };
            let ((mut from, back), (answers, mut to)) = (from.into_split(), to.into_split());
            let always = tokio::sync::watch::Sender::new(true);
            tokio::spawn(pass(answers, back, always.subscribe()));
            let notes = notes.clone();
            tokio::spawn(async move {
                let (mut bytes, mut greeted) = (Vec::new(), false);
                while from.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
                    // A preface of ten bytes, the frame of a handshake, and messages.
                    if !greeted && bytes.len() >= 18 {
                        let len = u32::from_le_bytes(bytes[10..14].try_into().expect("four"));
                        let end = 18 + usize::try_from(len).expect("small");
                        assert!(to.write_all(&bytes[..end]).await.is_ok());
                        (bytes, greeted) = (bytes.split_off(end), true);
                    }
                    while greeted && let Ok((message, len)) = synod::wire::decode(&bytes) {
                        notes.lock().expect("no panic").push(message);
                        if to.write_all(&bytes[..len]).await.is_err() {
                            return;
                        }
                        bytes.drain(..len);
                    }
                }
            });
        }
    });
    (address, heard)
}

/// Whether it tells of something that its sender made durable for it.
fn is_pledge(message: &Message) -> bool {
    use synod::consensus::Message::{Accepted, Promise};
    matches!(message.body, Body::Consensus(Accepted { .. } | Promise { .. }))
}

/// While the disk has not synced, no promise and no acceptance leaves, and nobody is answered.
#[test]
fn nothing_is_said_before_it_is_durable() {
    run(async {
        let ports = Ports::new(2);
        let one = ports.builder("gate", 1).vouched().start(State::Memory).await.expect("starts");
        let (address, heard) = overheard(ports.address(1).to_owned()).await;
        let (state, gate) = gated();
        // It dials node 1, and what it says there is overheard.
        let two = ports.builder("gate", 2).vouched().member(1, address);
        let two = two.start(state).await.expect("the node starts");
        one.ready().await.expect("ready");
        two.ready().await.expect("ready");
        texts(&one).put("before", "x").await.expect("both are there");
        gate.close();
        let begun = heard.lock().expect("no panic").len();
        let puts = [(&one, "asked of the other"), (&two, "asked of it")].map(|(node, key)| {
            let table = texts(node).patience(LONG);
            tokio::spawn(async move { table.put(key, "x").await })
        });
        let wait = async |ready: &dyn Fn() -> bool| {
            while !ready() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        wait(&|| gate.is_waited_at()).await;
        let then = heard.lock().expect("no panic").len();
        // It goes on saying that it lives, behind whatever it has said too early.
        wait(&|| heard.lock().expect("no panic").len() > then + 3).await;
        let early: Vec<String> = heard.lock().expect("no panic")[begun..]
            .iter()
            .filter(|message| is_pledge(message))
            .map(ToString::to_string)
            .collect();
        assert!(early.is_empty(), "said before it was durable: {early:?}");
        assert!(puts.iter().all(|put| !put.is_finished()), "answered before it was durable");
        gate.open();
        for put in puts {
            put.await.expect("no panic").expect("it is durable");
        }
        assert!(heard.lock().expect("no panic")[then..].iter().any(is_pledge));
    });
}

/// What waits for a disk that does nothing is bounded: more from peers is dropped, more from
/// clients refused, and all goes on when the disk does.
#[test]
fn a_stalled_disk_has_bounded_memory() {
    run(async {
        let ports = Ports::new(3);
        let (state, gate) = gated();
        let three = ports.builder("disk", 3).start(state).await.expect("the node starts");
        let others = [ports.start("disk", 1).await, ports.start("disk", 2).await];
        let disk = async || three.status().await.expect("a status").disk;
        for node in others.iter().chain([&three]) {
            node.ready().await.expect("ready");
        }
        gate.close();
        let (most, mib) = (64 << 20, 1 << 20);
        let (table, value) = (texts(&others[0]).patience(LONG), "x".repeat(mib));
        let mut written = 0;
        while disk().await.dropped == 0 {
            table.put("k", &value).await.expect("two of three go on");
            written += 1;
            assert!(written < 200, "{:?}", disk().await);
        }
        let full = disk().await;
        assert!((most..most + 4 * mib).contains(&full.waiting_bytes), "{full:?}");
        assert!(full.waiting_records > 0 && full.stalled > Duration::ZERO, "{full:?}");
        let refused = texts(&three).put("mine", "x").await.expect_err("the disk is full");
        assert_eq!(refused, Error::Rejected(Rejection::Refused(Refusal::Busy)));
        assert_eq!(disk().await.refused, 1);
        // Reading needs no disk.
        assert_eq!(value_len(&three, "k").await, Some(mib));
        gate.open();
        while disk().await.waiting_bytes > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        texts(&three).patience(LONG).put("mine", "x").await.expect("there is room");
    });
}

async fn value_len(node: &Cluster, key: &str) -> Option<usize> {
    value(&texts(node), key).await.map(|value| value.len())
}

/// two clients of one node number their requests alike and get their own answers.
#[test]
fn clients_on_the_nodes_thread_get_their_own_answers() {
    use synod::host::{CallOptions, News};
    run(async {
        let nodes = Ports::new(3).start_all("local").await;
        let (tell, told) = tokio::sync::oneshot::channel();
        let table = texts(&nodes[0]).id();
        let ask = move |local: &synod::host::Local| {
            let clients = [local.client(), local.client()];
            assert_ne!(clients[0].id(), clients[1].id());
            local.spawn(async move {
                let mut answers = Vec::new();
                for (place, client) in clients.iter().enumerate() {
                    let value = Value::from(format!("client {place}").as_bytes());
                    let key = Key::from(format!("{place}").as_bytes());
                    let (bindings, options) = (Vec::new(), CallOptions::default());
                    let put = synod::Command::PutIfAbsent { table, key, value, bindings };
                    assert_eq!(client.ask(put, options), synod::RequestId(1));
                }
                for client in &clients {
                    answers.push(client.news().await);
                }
                drop(tell.send(answers));
            });
        };
        nodes[0].handle().run(ask).expect("it runs");
        for (place, news) in told.await.expect("answers").into_iter().enumerate() {
            let News::Answer(_, Outcome::Chosen { entry, won: true }) = news else {
                panic!("{news:?}")
            };
            assert_eq!(entry.value, Value::from(format!("client {place}").as_bytes()));
        }
    });
}

/// A session outlives its connection by its grace time, and only whoever knows its first client
/// can take it over.
#[test]
fn a_session_can_be_handed_on() {
    use synod::host::{CallOptions, News};
    run(async {
        let nodes = Ports::new(3).start_all("handed").await;
        let (tell, told) = tokio::sync::oneshot::channel();
        let hand_on = |local: &synod::host::Local| {
            let local = local.clone();
            local.clone().spawn(async move {
                let (first, stranger) = (local.client(), local.client());
                first.set_grace(LONG);
                first.ask(synod::Command::OpenSession, CallOptions::default());
                let News::Answer(_, Outcome::Session(session)) = first.news().await else {
                    panic!("a session")
                };
                let opener = first.id();
                drop(first);
                let refused = !stranger.attach(session, stranger.id());
                let second = local.client();
                let attached = second.attach(session, opener);
                let ended = !stranger.end(session) && second.end(session);
                tell.send([refused, attached, ended]).expect("the test waits");
            });
        };
        nodes[0].handle().run(hand_on).expect("it runs");
        assert_eq!(told.await.expect("an answer"), [true; 3]);
        until(&nodes[0], |status| status.node.sessions == 0).await;
    });
}

/// A configuration that cannot work is refused with what is wrong, before anything is started.
#[test]
fn impossible_configurations_are_refused() {
    run(async {
        let alone = Cluster::builder("x", 4).member(1, "127.0.0.1:0").start(State::Memory).await;
        let why = alone.expect_err("node 4 is no member").to_string();
        assert!(why.contains("not among the members"), "{why}");
        let nowhere = Cluster::builder("x", 1).member(1, "not an address").start(State::Memory);
        let why = nowhere.await.expect_err("no address").to_string();
        assert!(why.contains("not an address"), "{why}");
    });
}

/// Bytes to values and back, and what is not a value is told.
#[test]
fn codecs_are_total() {
    assert_eq!(u64::decode(&u64::encode(&7).expect("bytes")), Ok(7));
    assert!(u64::decode(b"seven").is_err());
    assert!(String::decode(&[0xff]).is_err());
    assert!(synod::Json::<Vec<u32>>::decode(b"[1, 2").is_err());
    let json = synod::Json::<Vec<u32>>::encode(&vec![1, 2]).expect("bytes");
    assert_eq!(synod::Json::<Vec<u32>>::decode(&json), Ok(vec![1, 2]));
}

/// What the server is built on: a node that is given everything, and answers an untyped call.
#[test]
fn a_node_of_one_runs_without_a_cluster_of_names() {
    run(async {
        let mut config = Config::new(NodeId(1));
        (config.members, config.cluster_size) = (vec![NodeId(1)], 1);
        config.genesis = Genesis::Vouched;
        let config = HostConfig {
            name: String::from("one"),
            node: config,
            links: LinkOptions::default(),
            seed: entropy().expect("entropy"),
            syncing: Syncing::Thread,
            services: Vec::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let opened = Memory::default().reopen().boxed();
        let running = Running::start(config, listener, BTreeMap::new(), opened);
        let running = running.await.expect("the node starts");
        let status = running.handle().call(synod::Command::Status, Default::default()).await;
        let Ok(Outcome::Status(status)) = status else { panic!("{status:?}") };
        assert_eq!(status.reachable, [NodeId(1)]);
        running.shutdown().await.expect("a graceful stop");
    });
}
