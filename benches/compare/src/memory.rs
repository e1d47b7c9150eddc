//! Memory while something does not keep up: a peer that is stopped, a client that never reads.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{KEYS, Shape, System, Work, fill, measure};
use crate::resp::Resp;
use crate::systems::{self, Server, answers_resp, resident};
use crate::{Plan, mib};

/// So many samples of each phase.
const SAMPLES: u32 = 10;

pub(crate) async fn run(plan: &Plan) -> io::Result<Value> {
    let home = plan.home.join("memory");
    std::fs::create_dir(&home)?;
    let servers = systems::synod(&plan.synod, &home).await?;
    fill(System::Synod, servers[0].clients, None, KEYS).await?;
    println!("resident memory in MiB of nodes 1, 2, 3 while 64 clients put at node 1\n");
    let time = Duration::from_secs(plan.watch);
    // Until buffers and the log's caches have their size.
    let before = watch("all are well", &servers, time).await?;
    servers[2].signal("STOP")?;
    let stalled = watch("node 3 is stopped", &servers, time).await?;
    servers[2].signal("CONT")?;
    let back = answers_resp(&servers[2], &[b"GET", &crate::load::key(0)]).await?;
    println!("node 3 answers {:.0} ms after it goes on", back.as_secs_f64() * 1e3);
    let deaf = async {
        let mut tasks = Vec::new();
        for _ in 0..16 {
            let mut client = Resp::connect(servers[0].clients).await?;
            tasks.push(tokio::task::spawn_local(async move {
                // Its end is that it was disconnected, as it should be.
                drop(client.flood(&[b"GET", &crate::load::key(1)]).await);
            }));
        }
        // Until nothing more goes into their connections, they keep the node busy for others too.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let unread = watch("16 clients ask and never read", &servers, time).await?;
        let left = tasks.iter().filter(|task| !task.is_finished()).count();
        println!("{left} of the clients that never read are still connected");
        tasks.iter().for_each(|task| task.abort());
        Ok::<_, io::Error>(unread)
    };
    let unread = deaf.await?;
    Ok(json!({
        "seconds_each": plan.watch,
        "well_mib": before,
        "stalled_peer_mib": stalled,
        "peer_back_ms": back.as_secs_f64() * 1e3,
        "unread_mib": unread,
    }))
}

async fn watch(what: &str, servers: &[Server], time: Duration) -> io::Result<Vec<Vec<f64>>> {
    let shape = Shape { clients: 64, pipelined: 1 };
    let samples = async {
        let mut samples = Vec::new();
        for _ in 0..SAMPLES {
            tokio::time::sleep(time / SAMPLES).await;
            let now: Vec<f64> =
                servers.iter().map(|server| mib(resident(server.pid())).round()).collect();
            samples.push(now);
        }
        samples
    };
    let load = measure(System::Synod, servers, Work::Put, shape, time.mul_f64(0.8));
    let (load, samples) = tokio::join!(load, samples);
    println!("{what}: {:.0} put/s", load?.rate);
    for (place, _) in servers.iter().enumerate() {
        let line: Vec<String> =
            samples.iter().map(|sample| format!("{:>5.0}", sample[place])).collect();
        println!("  node {}  {}", place + 1, line.join(""));
    }
    Ok(samples)
}
