//! What a secondary that joins costs those who write: a primary table of a million keys, on two
//! nodes, and a third that joins with nothing.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::{self, JoinHandle};

use crate::load::{ORDERS, System, VALUE, fill, key, select_orders};
use crate::resp::Resp;
use crate::systems::{self, Server, in_sync, resident};
use crate::{Plan, median, mib};

/// Clients that put, and how often each does: late or not, so that what has to wait counts as long
/// as it waited.
const CLIENTS: u64 = 16;
const PERIOD: Duration = Duration::from_millis(40);
/// How long puts are measured without a join.
const CALM: Duration = Duration::from_secs(10);
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What puts came to: how many, and in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Puts {
    count: usize,
    p50: f64,
    p99: f64,
    longest: f64,
}

/// Clients that put until they are told to stop.
struct Load {
    over: Rc<Cell<bool>>,
    clients: Vec<JoinHandle<io::Result<Vec<Duration>>>>,
}

impl Load {
    async fn begin(server: SocketAddr, keys: u64) -> io::Result<Self> {
        let over = Rc::new(Cell::new(false));
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let mut resp = Resp::connect(server).await?;
            select_orders(&mut resp).await?;
            clients.push(task::spawn_local(put(resp, client, keys, over.clone())));
        }
        Ok(Self { over, clients })
    }

    async fn end(self) -> io::Result<Puts> {
        self.over.set(true);
        let mut all = Vec::new();
        for client in self.clients {
            all.append(&mut client.await.map_err(io::Error::other)??);
        }
        all.sort_unstable();
        let at = |share: f64| all[(share * (all.len() - 1) as f64) as usize].as_secs_f64() * 1e3;
        Ok(Puts { count: all.len(), p50: at(0.5), p99: at(0.99), longest: at(1.0) })
    }
}

async fn put(
    mut resp: Resp,
    client: u64,
    keys: u64,
    over: Rc<Cell<bool>>,
) -> io::Result<Vec<Duration>> {
    let mut taken = Vec::new();
    let mut due = Instant::now() + PERIOD * client as u32 / CLIENTS as u32;
    let mut draw = client.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    loop {
        tokio::time::sleep_until(due.into()).await;
        if over.get() {
            return Ok(taken);
        }
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        resp.call(&[b"SET", &key((draw >> 33) % keys), &VALUE]).await?;
        taken.push(due.elapsed());
        due += PERIOD;
    }
}

/// One join, and puts before, during and after it.
#[derive(Clone, Copy, Debug, Serialize)]
struct Round {
    before: Puts,
    during: Puts,
    after: Puts,
    joined_seconds: f64,
    resident_mib: f64,
}

pub(crate) async fn run(plan: &Plan) -> io::Result<Value> {
    println!(
        "A primary table of {} keys of 16 bytes, values of {} bytes, on two nodes; {CLIENTS} \
         clients put once in {} ms each.\nA third node joins, which has nothing of it.\n",
        plan.keys,
        VALUE.len(),
        PERIOD.as_millis(),
    );
    println!(
        "{:<6} {:^26} {:^26} {:^26} {:>8} {:>7} {:>10}",
        "", "before", "while it joins", "after", "joined", "p99", "memory"
    );
    let side = format!("{:>8} {:>8} {:>8}", "p50 ms", "p99 ms", "longest");
    println!("{:<6} {side} {side} {side} {:>8} {:>7} {:>10}", "", "after", "times", "of a node");
    let mut rounds = Vec::new();
    for number in 1..=plan.repeat.max(1) {
        let home = plan.home.join(format!("join-{number}"));
        std::fs::create_dir(&home)?;
        let servers = systems::primary(&plan.synod, &home).await?;
        let round = join(plan, &servers).await?;
        drop(servers);
        std::fs::remove_dir_all(&home)?;
        let side =
            |puts: Puts| format!("{:>8.2} {:>8.2} {:>8.1}", puts.p50, puts.p99, puts.longest);
        println!(
            "{number:<6} {} {} {} {:>6.1} s {:>7.2} {:>6.0} MiB",
            side(round.before),
            side(round.during),
            side(round.after),
            round.joined_seconds,
            round.during.p99 / round.before.p99,
            round.resident_mib,
        );
        rounds.push(round);
    }
    let times = median(rounds.iter().map(|round| round.during.p99 / round.before.p99));
    println!("median of p99 while it joins / before: {times:.2}");
    Ok(json!({ "keys": plan.keys, "p99_times": times, "rounds": rounds }))
}

async fn join(plan: &Plan, servers: &[Server]) -> io::Result<Round> {
    let server = servers[0].clients;
    fill(System::Primary, server, Some(ORDERS), plan.keys).await?;
    let load = Load::begin(server, plan.keys).await?;
    tokio::time::sleep(CALM).await;
    let before = load.end().await?;
    let load = Load::begin(server, plan.keys).await?;
    let begin = Instant::now();
    let mut joining = Resp::connect(servers[2].clients).await?;
    joining.call(&[b"SYNOD.JOIN", b"TABLE", ORDERS]).await?;
    while in_sync(&servers[0]).await != Some(3) {
        if begin.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("nobody has joined within {PATIENCE:?}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let joined_seconds = begin.elapsed().as_secs_f64();
    let during = load.end().await?;
    let load = Load::begin(server, plan.keys).await?;
    tokio::time::sleep(CALM).await;
    let after = load.end().await?;
    let resident_mib = servers.iter().map(|server| resident(server.pid())).max().map_or(0.0, mib);
    Ok(Round { before, during, after, joined_seconds, resident_mib })
}
