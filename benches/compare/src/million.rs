//! A million small keys: how long they take to load, what they take, how long a restart takes.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{System, VALUE, fill, key};
use crate::systems::{self, Server, answers_grpc, answers_resp, disk_bytes, resident};
use crate::{Plan, mib};

pub(crate) async fn run(plan: &Plan) -> io::Result<Value> {
    let home = plan.home.join("million");
    std::fs::create_dir(&home)?;
    println!("{} keys of 16 bytes, values of {} bytes; per node\n", plan.keys, VALUE.len());
    println!(
        "{:<8} {:>9} {:>9} {:>9} {:>11} {:>9}",
        "", "load", "memory", "disk", "restart", "memory"
    );
    let mut all = serde_json::Map::new();
    for system in [System::Synod, System::Etcd] {
        let mut servers = match system {
            System::Synod => systems::synod(&plan.synod, &home).await?,
            _ => systems::etcd(&plan.etcd, &home).await?,
        };
        let load = fill(system, servers[0].clients, None, plan.keys).await?;
        let memory = largest(&servers, |server| resident(server.pid()));
        let disk = largest(&servers, |server| disk_bytes(&server.data));
        // Not the one that leads etcd: that would be an election on top.
        let node = servers.last_mut().expect("three");
        node.restart()?;
        let wanted = key(plan.keys - 1);
        let restart = match system {
            System::Synod => answers_resp(node, &[b"GET", &wanted]).await?,
            _ => answers_grpc(node, &wanted).await?,
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = resident(node.pid());
        let name = if system == System::Synod { "synod" } else { "etcd" };
        println!(
            "{name:<8} {:>7.1} s {:>5.0} MiB {:>5.0} MiB {:>8.0} ms {:>5.0} MiB",
            load.as_secs_f64(),
            mib(memory),
            mib(disk),
            restart.as_secs_f64() * 1e3,
            mib(after),
        );
        let figures = json!({
            "keys": plan.keys,
            "load_seconds": load.as_secs_f64(),
            "resident_mib": mib(memory),
            "disk_mib": mib(disk),
            "restart_to_linearizable_read_ms": restart.as_secs_f64() * 1e3,
            "resident_after_restart_mib": mib(after),
        });
        all.insert(name.to_owned(), figures);
    }
    Ok(Value::Object(all))
}

fn largest(servers: &[Server], of: impl Fn(&Server) -> u64) -> u64 {
    servers.iter().map(of).max().unwrap_or(0)
}
