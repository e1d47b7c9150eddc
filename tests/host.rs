//! Nodes on real sockets: what the host promises beside the engine.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::TcpListener;

use synod::host::{CallOptions, Handle, HostConfig, LinkOptions, Running, Syncing, entropy};
use synod::storage::{Found, Opened, Volatile};
use synod::{Command, Config, Genesis, Key, NodeId, Outcome, ReadLevel, TableId, Value};

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

fn get(key: &str) -> Command {
    Command::Get { table: TableId(0), key: Key::from(key), level: ReadLevel::Linearizable }
}

fn put(key: &str, value: &str) -> Command {
    let (key, value) = (Key::from(key), Value::from(value));
    Command::Put { table: TableId(0), key, value, bindings: Vec::new() }
}

fn call(handle: &Handle, command: Command) -> Outcome {
    wait(handle.call(command, CallOptions::default())).expect("the node runs")
}

/// Three nodes on ports that the system chooses, with memory for storage.
fn cluster(name: &str) -> Vec<Running> {
    let ids = [1, 2, 3].map(NodeId);
    let listeners = ids.map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let addresses: BTreeMap<NodeId, String> = ids
        .into_iter()
        .zip(&listeners)
        .map(|(node, listener)| (node, listener.local_addr().expect("bound").to_string()))
        .collect();
    let start = |(node, listener)| {
        let opened = Opened { storage: Volatile::default(), found: Found::New }.boxed();
        let mut config = Config::new(node);
        config.genesis = Genesis::Vouched;
        let config = HostConfig {
            name: name.to_owned(),
            node: config,
            links: LinkOptions::default(),
            seed: entropy().expect("entropy"),
            syncing: Syncing::Inline,
            services: Vec::new(),
        };
        Running::start(config, listener, addresses.clone(), opened).expect("the node starts")
    };
    ids.into_iter().zip(listeners).map(start).collect()
}

/// P-28, P-34: three nodes find each other, and what one is told the others know.
#[test]
fn three_nodes_over_tcp_agree() {
    let nodes = cluster("three");
    let written = call(nodes[0].handle(), put("a", "1"));
    assert!(matches!(written, Outcome::Written { .. }), "{written}");
    for node in &nodes {
        let found = call(node.handle(), get("a"));
        assert_eq!(found.entry().map(|entry| &entry.value), Some(&Value::from("1")), "{found}");
    }
    for node in nodes {
        node.stop().expect("a graceful stop");
    }
}
