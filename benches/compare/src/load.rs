//! The load: so many clients, each of which asks again once it is answered.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::grpc::Grpc;
use crate::resp::Resp;
use crate::systems::{Server, Usage};

/// Keys that are there, of 16 bytes.
pub(crate) const KEYS: u64 = 10_000;
/// Values have so many bytes.
pub(crate) const VALUE: [u8; 100] = [b'v'; 100];
/// Clients of etcd that share a connection, as its client library has them do.
const SHARING: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    Synod,
    /// Another build of synod.
    Before,
    Etcd,
    Redis,
    /// A primary table of synod.
    Primary,
    /// Redis with one replica, whose acknowledgement each client waits for.
    Replicated,
}

impl System {
    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Synod => "synod",
            Self::Before => "the other build",
            Self::Etcd => "etcd",
            Self::Redis => "Redis",
            Self::Primary => "synod, primary table",
            Self::Replicated => "Redis, one replica",
        }
    }
}

/// The primary table that is measured.
pub(crate) const ORDERS: &[u8] = b"orders";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Work {
    /// Overwrite.
    Put,
    /// A linearizable read.
    Get,
    /// A read that asks nobody and may be stale.
    Local,
    /// A read of what cannot change any more, which therefore needs to ask nobody.
    Permanent,
}

/// How many ask, and how much each at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shape {
    pub(crate) clients: usize,
    pub(crate) pipelined: usize,
}

/// What a load came to. Times are in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Processor time of all servers for each operation.
    pub(crate) processor: f64,
    /// Of this program.
    pub(crate) loader: f64,
    /// How often a thread of a server went to sleep for each operation.
    pub(crate) sleeps: f64,
}

pub(crate) fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key0000000000000";
    let mut rest = number;
    for digit in key[3..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Keys in an order that looks like none.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> [u8; 16] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        key(self.0 % KEYS)
    }
}

/// What the clients of a load share.
struct Run {
    work: Work,
    end: Instant,
    /// From here on latencies count, in nanoseconds.
    begin: Instant,
    latencies: RefCell<Vec<u32>>,
}

impl Run {
    fn note(&self, asked: Instant, count: usize) {
        if asked >= self.begin {
            let nanoseconds = u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX);
            let mut latencies = self.latencies.borrow_mut();
            latencies.extend(std::iter::repeat_n(nanoseconds, count));
        }
    }
}

/// Who asks: a connection, and how.
enum Client {
    Resp(Resp),
    /// Likewise; what was put is waited for with another command.
    Waiting(Resp),
    Grpc(Grpc),
}

impl Client {
    async fn run(mut self, run: Rc<Run>, pipelined: usize, seed: u64) -> io::Result<()> {
        let mut draw = Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        while Instant::now() < run.end {
            let asked = Instant::now();
            let waits = matches!(self, Self::Waiting(_)) && run.work == Work::Put;
            match &mut self {
                Self::Resp(resp) | Self::Waiting(resp) => {
                    for _ in 0..pipelined {
                        let key = draw.next();
                        match run.work {
                            Work::Put => resp.push(&[b"SET", &key, &VALUE]),
                            Work::Get | Work::Local | Work::Permanent => resp.push(&[b"GET", &key]),
                        }
                    }
                    if waits {
                        resp.push(&[b"WAIT", b"1", b"0"]);
                    }
                    resp.exchange(pipelined + usize::from(waits)).await?;
                }
                Self::Grpc(grpc) => match run.work {
                    Work::Put => grpc.put(&draw.next(), &VALUE).await?,
                    Work::Get => grpc.get(&draw.next(), false).await?,
                    Work::Local | Work::Permanent => grpc.get(&draw.next(), true).await?,
                },
            }
            run.note(asked, if matches!(self, Self::Grpc(_)) { 1 } else { pipelined });
        }
        Ok(())
    }
}

/// Has a connection ask of the primary table, and wait for as long as that may take.
pub(crate) async fn select_orders(resp: &mut Resp) -> io::Result<()> {
    resp.call(&[b"SYNOD.DEFAULTS", b"PATIENCE", b"60000"]).await?;
    resp.call(&[b"SELECT", ORDERS]).await
}

/// Clients that are connected and set up for the work.
async fn connect(
    system: System,
    server: SocketAddr,
    work: Work,
    shape: Shape,
) -> io::Result<Vec<Client>> {
    let mut clients = Vec::new();
    if system == System::Etcd {
        // Pipelining is what HTTP/2 does by itself: each request in flight is a stream.
        let streams = shape.clients * shape.pipelined;
        let mut connection = Grpc::connect(server).await?;
        for number in 0..streams {
            if number > 0 && number % SHARING == 0 {
                connection = Grpc::connect(server).await?;
            }
            clients.push(Client::Grpc(connection.clone()));
        }
        return Ok(clients);
    }
    for _ in 0..shape.clients {
        let mut resp = Resp::connect(server).await?;
        match (system, work) {
            (System::Synod | System::Before, Work::Local) => {
                resp.call(&[b"SYNOD.DEFAULTS", b"LOCAL"]).await?
            }
            (System::Synod | System::Before, Work::Permanent) => {
                resp.call(&[b"SELECT", b"once"]).await?
            }
            (System::Primary, _) => select_orders(&mut resp).await?,
            _ => {}
        }
        clients.push(match system {
            System::Replicated => Client::Waiting(resp),
            _ => Client::Resp(resp),
        });
    }
    Ok(clients)
}

/// Runs the load on the first of `servers` for `time`, after a warm-up of a quarter of that.
pub(crate) async fn measure(
    system: System,
    servers: &[Server],
    work: Work,
    shape: Shape,
    time: Duration,
) -> io::Result<Figures> {
    let clients = connect(system, servers[0].clients, work, shape).await?;
    let begin = Instant::now() + time / 4;
    let run = Rc::new(Run { work, begin, end: begin + time, latencies: RefCell::default() });
    let tasks: Vec<_> = clients
        .into_iter()
        .zip(1..)
        .map(|(client, seed)| {
            tokio::task::spawn_local(client.run(run.clone(), shape.pipelined, seed))
        })
        .collect();
    let usage = || {
        let servers = Usage::of(servers.iter().map(Server::pid));
        (servers, Usage::of([std::process::id()]))
    };
    tokio::time::sleep_until(begin.into()).await;
    let before = usage();
    tokio::time::sleep_until(run.end.into()).await;
    let after = usage();
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    let mut latencies = run.latencies.take();
    latencies.sort_unstable();
    if latencies.is_empty() {
        return Err(io::Error::other("nothing was answered in time"));
    }
    let count = latencies.len() as f64;
    let quantile = |share: f64| f64::from(latencies[(share * (count - 1.0)) as usize]) / 1_000.0;
    let used = after.0.since(before.0);
    Ok(Figures {
        rate: count / time.as_secs_f64(),
        p50: quantile(0.5),
        p99: quantile(0.99),
        processor: used.processor / count,
        loader: after.1.since(before.1).processor / count,
        sleeps: used.sleeps / count,
    })
}

/// Puts keys `0..count`, so that every read finds one; says how long that took.
pub(crate) async fn fill(
    system: System,
    server: SocketAddr,
    table: Option<&'static [u8]>,
    count: u64,
) -> io::Result<Duration> {
    let since = Instant::now();
    let next = Rc::new(RefCell::new(0..count));
    let lanes = if system == System::Etcd { 256 } else { 8 };
    let mut tasks = Vec::new();
    let mut shared = None;
    for lane in 0..lanes {
        if system == System::Etcd && lane % SHARING == 0 {
            shared = Some(Grpc::connect(server).await?);
        }
        let (next, shared) = (next.clone(), shared.clone());
        tasks.push(tokio::task::spawn_local(async move {
            if let Some(grpc) = shared {
                loop {
                    let Some(number) = next.borrow_mut().next() else { return Ok(()) };
                    grpc.put(&key(number), &VALUE).await?;
                }
            }
            let mut resp = Resp::connect(server).await?;
            match table {
                Some(ORDERS) => select_orders(&mut resp).await?,
                Some(table) => resp.call(&[b"SELECT", table]).await?,
                None => {}
            }
            loop {
                let chunk: Vec<u64> = next.borrow_mut().by_ref().take(64).collect();
                if chunk.is_empty() {
                    return Ok::<_, io::Error>(());
                }
                for &number in &chunk {
                    let command: &[u8] = if table == Some(b"once") { b"SETNX" } else { b"SET" };
                    resp.push(&[command, &key(number), &VALUE]);
                }
                resp.exchange(chunk.len()).await?;
            }
        }));
    }
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    Ok(since.elapsed())
}
