//! What a put costs on real sockets: three nodes in this process, linked over loopback.
//!
//! `cargo bench --bench host`; on a shared machine trust the processor time, not the clock.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use synod::host::{CallOptions, Local, News};
use synod::storage::Memory;
use synod::{Cluster, Command, Key, OnNoQuorum, Outcome, State, TableId, Value};
use tokio::sync::oneshot;

/// Long enough for clock ticks of 10 ms not to matter.
const TIME: Duration = Duration::from_secs(3);

/// Where the records go.
#[derive(Clone, Copy, Debug)]
enum Where {
    /// Nowhere, on the node's thread.
    Inline,
    /// Memory, on a thread of its own, as a disk's would be.
    Thread,
}

async fn start(store: Where) -> Vec<Cluster> {
    let listeners: Vec<_> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| listener.local_addr().expect("bound").to_string())
        .collect();
    let mut nodes = Vec::new();
    for (place, listener) in listeners.into_iter().enumerate() {
        let builder = Cluster::builder("bench", place as u16 + 1).table("default").vouched();
        let builder = addresses.iter().enumerate().fold(builder, |builder, (member, address)| {
            builder.member(member as u16 + 1, address.clone())
        });
        let store = match store {
            Where::Inline => State::Memory,
            Where::Thread => State::Other(Box::new(|_| Ok(Memory::default().reopen().boxed()))),
        };
        nodes.push(builder.listener(listener).start(store).await.expect("the node starts"));
    }
    for node in &nodes {
        node.ready().await.expect("ready");
    }
    nodes
}

fn put(number: u64) -> Command {
    let key = Key::from(format!("key{:012}", number % 10_000).as_bytes());
    let value = Value::from([b'v'; 100].as_slice());
    Command::Put { table: TableId(0), key, value, bindings: Vec::new() }
}

/// As a server's connection: `window` puts in flight from the node's own thread.
fn from_its_thread(local: &Local, window: u64, done: oneshot::Sender<u64>) {
    let client = local.client();
    local.spawn(async move {
        let (start, options) = (Instant::now(), CallOptions::default());
        let (mut asked, mut answered) = (0, 0);
        while answered < asked || start.elapsed() < TIME {
            while asked < answered + window && start.elapsed() < TIME {
                client.ask(put(asked), options);
                asked += 1;
            }
            if let News::Answer(_, outcome) = client.news().await {
                assert!(matches!(outcome, Outcome::Written { .. }), "{outcome}");
                answered += 1;
            }
        }
        done.send(answered).expect("the bench waits");
    });
}

/// As an application: `callers` tasks on this thread, each with one call in flight.
async fn from_another(node: &Cluster, callers: u64) -> u64 {
    let start = Instant::now();
    let options =
        CallOptions { patience: Duration::from_secs(10), on_no_quorum: OnNoQuorum::Retry };
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let handle = node.handle().clone();
            tokio::spawn(async move {
                let mut count = 0;
                while start.elapsed() < TIME {
                    let outcome = handle.call(put(count * callers + caller), options).await;
                    assert!(matches!(outcome, Ok(Outcome::Written { .. })), "{outcome:?}");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.expect("no panic");
    }
    total
}

/// Microseconds of processor time that this process has had, in itself and in the system. The
/// split is sampled and not worth telling.
fn used() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) * 10_000.0)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        println!("store   from     in flight     put/s   us of processor per put");
        for store in [Where::Inline, Where::Thread] {
            let nodes = start(store).await;
            for window in [1, 16, 64, 256] {
                for own in [true, false] {
                    let (before, start) = (used(), Instant::now());
                    let count = if own {
                        let (done, counted) = oneshot::channel();
                        let run = move |local: &Local| from_its_thread(local, window, done);
                        nodes[0].handle().run(run).expect("it runs");
                        counted.await.expect("a count")
                    } else {
                        from_another(&nodes[0], window).await
                    };
                    let rate = count as f64 / start.elapsed().as_secs_f64();
                    let cost = before.zip(used()).map(|(before, after)| after - before);
                    let from = if own { "thread" } else { "handle" };
                    print!("{:<7} {from:<8} {window:>9} {rate:>9.0}   ", format!("{store:?}"));
                    match cost {
                        Some(cost) => println!("{:>28.1}", cost / count as f64),
                        None => println!("{:>28}", "not known on this system"),
                    }
                }
            }
            for node in nodes {
                node.shutdown().await.expect("a graceful stop");
            }
        }
    });
}
