//! A complete host of the engine: three nodes in one process, a thread each, channels for a
//! network, memory for a disk. It moves inputs, effects and time, and decides nothing.
//!
//! `cargo run --example threads`

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant as Clock, SystemTime};

use synod::{
    Bind, ClientId, Command, Config, Effect, Event, Genesis, Input, Instant, Key, Node, NodeId,
    Now, OnNoQuorum, Outcome, Request, RequestId, Sent, TableId, Topic, Value, Wall,
};

/// What the nodes tell their clients.
enum Told {
    Answer(Outcome),
    Event(Event),
}

/// Runs one node until everybody has hung up.
fn host(mut node: Node, inbox: &Receiver<Input>, peers: &[Sender<Input>], client: &Sender<Told>) {
    let id = node.config().node;
    let clock = Clock::now();
    let mut effects = Vec::new();
    let mut input = Input::Timeout;
    loop {
        let wall = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
        let now = Now { instant: Instant(clock.elapsed().as_nanos() as u64), wall: Wall(wall) };
        node.handle(input, now, &mut effects);
        let mut persisted = None;
        for effect in effects.drain(..) {
            // A channel nobody listens to any more is a network that loses: the engine expects it.
            let _ = match effect {
                Effect::Send { to, message } => peers[usize::from(to.0) - 1]
                    .send(Input::Message { from: id, message })
                    .map_err(drop),
                Effect::Persist { ticket, .. } => {
                    persisted = Some(ticket);
                    Ok(())
                }
                Effect::Reply { outcome, .. } => client.send(Told::Answer(outcome)).map_err(drop),
                Effect::Notify { event, .. } => client.send(Told::Event(event)).map_err(drop),
                // The one client of this example outlives its sessions.
                Effect::Monitor { .. } | Effect::Demonitor { .. } => Ok(()),
            };
        }
        let due = node.poll_timeout().unwrap_or(now.instant + Duration::from_secs(1));
        input = if let Some(ticket) = persisted {
            Input::Persisted { ticket }
        } else if due <= now.instant {
            Input::Timeout // However many messages wait: heartbeats must not.
        } else {
            match inbox.recv_timeout(due.since(now.instant)) {
                Ok(input) => input,
                Err(RecvTimeoutError::Timeout) => Input::Timeout,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        };
    }
}

pub(crate) fn main() {
    let (inputs, inboxes): (Vec<_>, Vec<_>) = (0..3).map(|_| channel()).unzip();
    let (client, told) = channel();
    for (place, inbox) in inboxes.into_iter().enumerate() {
        let mut config = Config::new(NodeId(place as u16 + 1));
        config.genesis = Genesis::Vouched; // Memory is always new, and we say so.
        let node = Node::new(config, place as u64).expect("a possible configuration");
        let (peers, client) = (inputs.clone(), client.clone());
        thread::spawn(move || host(node, &inbox, &peers, &client));
    }
    let mut number = 0;
    let mut ask = |node: u16, command: Command| {
        number += 1;
        println!("node {node}: {command}");
        let request = Request {
            client: ClientId::new(1),
            id: RequestId(number),
            sent: Sent::First,
            patience: Duration::from_secs(5),
            on_no_quorum: OnNoQuorum::Retry,
            command,
        };
        inputs[usize::from(node) - 1].send(Input::Request(request)).expect("the node runs");
        loop {
            match told.recv().expect("the nodes run") {
                Told::Answer(outcome) => {
                    println!("        {outcome}");
                    return outcome;
                }
                Told::Event(event) => println!("        told: {event}"),
            }
        }
    };
    let (table, key) = (TableId(0), Key::from("leader"));
    let claim = |name: &str, bindings| {
        let (key, value) = (key.clone(), Value::from(name));
        Command::PutIfAbsent { table, key, value, bindings }
    };
    // Node 1 hosts a session; whoever holds the key loses it with the session.
    let Outcome::Session(session) = ask(1, Command::OpenSession) else { panic!("no session") };
    ask(2, claim("one", vec![Bind::Session(session)]));
    ask(3, claim("two", vec![]));
    ask(3, Command::Subscribe(Topic::Key(table, key.clone())));
    ask(1, Command::CloseSession(session));
    // The key is free once a quorum has decided so, a few round trips later.
    let won = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(20));
        matches!(ask(3, claim("two", vec![])), Outcome::Chosen { won: true, .. })
    });
    assert!(won, "the key ends with its session");
}
