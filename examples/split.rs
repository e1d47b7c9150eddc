//! Merged tables in a cluster that is split, written on both sides, and healed.
//!
//! Three members on real sockets; between each two stands a relay that can be cut.
//!
//! `cargo run --example split`

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use synod::merged::{Conflict, Pattern, Resolver, Schema, Strategy};
use synod::{Cluster, MergeChange, MergeEvent, MergedTable, State};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

type Carts = MergedTable<String, String>;

/// Lets through whatever goes over one link, as long as nobody cuts it.
async fn relay(listener: TcpListener, to: SocketAddr, cut: watch::Receiver<bool>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let mut cut = cut.clone();
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(to).await else { return };
            tokio::select! {
                biased;
                _ = cut.wait_for(|cut| *cut) => {}
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            }
        });
    }
}

/// Three members, each of which reaches the others over relays, and what cuts member 1 off.
async fn members() -> Result<(Vec<Cluster>, watch::Sender<bool>), Box<dyn Error>> {
    let (cut, is_cut) = watch::channel(false);
    let mut listeners = BTreeMap::new();
    for number in 1..=3_u16 {
        listeners.insert(number, std::net::TcpListener::bind("127.0.0.1:0")?);
    }
    let prices = Schema { strategy: Strategy::LastModified, ..Schema::default() };
    let mut nodes = Vec::new();
    for (number, listener) in &listeners {
        let mut builder = Cluster::builder("shop", *number)
            .listener(listener.try_clone()?)
            .merged_table("carts", Schema::default())
            .merged_table("prices", prices.clone());
        for (other, target) in &listeners {
            let target = target.local_addr()?;
            let apart = (*number == 1) != (*other == 1);
            let address = if apart {
                let over = TcpListener::bind("127.0.0.1:0").await?;
                let address = over.local_addr()?;
                tokio::spawn(relay(over, target, is_cut.clone()));
                address
            } else {
                target
            };
            builder = builder.member(*other, address.to_string());
        }
        nodes.push(builder.start(State::Memory).await?);
    }
    for node in &nodes {
        node.ready().await?;
    }
    Ok((nodes, cut))
}

async fn show(what: &str, tables: &[Carts]) -> Result<Vec<Vec<String>>, Box<dyn Error>> {
    println!("{what}");
    let mut all = Vec::new();
    for (place, table) in tables.iter().enumerate() {
        let rows = table.scan(Pattern::default()).await?;
        let row = |row: &synod::Shows<String, String>| {
            let values: Vec<&str> = row.values.iter().map(|it| it.value.as_str()).collect();
            format!("{}={}", row.key, values.join(" | "))
        };
        let rows: Vec<String> = rows.iter().map(row).collect();
        println!("  node {}: {}", place + 1, rows.join(", "));
        all.push(rows);
    }
    Ok(all)
}

/// Has both lists of what is in a cart, each thing once.
struct Together;

impl Resolver for Together {
    fn resolve(&mut self, conflict: &Conflict) -> Result<Vec<synod::merged::Action>, String> {
        use synod::merged::Action::{WriteLocal, WriteRemote};
        let text = |value: &synod::Value| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let all = std::iter::once(&conflict.local).chain(&conflict.remote).map(text);
        let all: Vec<String> = all.collect();
        let mut things: Vec<&str> = all.iter().flat_map(|list| list.split('+')).collect();
        things.sort_unstable();
        things.dedup();
        let value = synod::Value::from(things.join("+").as_str());
        Ok(vec![WriteLocal(value.clone()), WriteRemote(value)])
    }
}

/// Waits until all three show the same, and says for how long.
async fn equal(tables: &[Carts]) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    loop {
        let mut all = Vec::new();
        for table in tables {
            all.push(table.scan(Pattern::default()).await?);
        }
        if all.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until node 1 is told that a peer is, or is not, there.
async fn wait(watch: &mut synod::Watch<MergeChange>, back: bool) {
    while let Some(event) = watch.next().await {
        if let MergeChange::Event(event) = event {
            println!("  node 1 is told: {event}");
            if matches!(event, MergeEvent::PeerBack(_)) && back
                || matches!(event, MergeEvent::PeerLost(_)) && !back
            {
                return;
            }
        }
    }
}

pub(crate) async fn example() -> Result<(), Box<dyn Error>> {
    let (nodes, cut) = members().await?;
    let table = |node: &Cluster| node.merged_table::<String, String>("carts");
    let carts: Vec<Carts> = nodes.iter().map(table).collect::<Result<_, _>>()?;
    let mut watch = carts[0].watch().await?;

    carts[0].put_many([("ann", "tea"), ("bob", "salt"), ("cleo", "rice")]).await?;
    equal(&carts).await?;
    show("together:", &carts).await?;

    println!("cut: node 1 is alone");
    cut.send_replace(true);
    carts[0].put("ann", "tea+milk").await?;
    carts[0].remove("bob").await?;
    carts[2].put("ann", "tea+bread").await?;
    carts[2].put("dan", "eggs").await?;
    wait(&mut watch, false).await;
    show("apart, all go on:", &carts).await?;

    println!("healed");
    cut.send_replace(false);
    wait(&mut watch, true).await;
    let took = equal(&carts).await?;
    let rows = show(&format!("equal, {took:.0?} after node 1 heard a peer again:"), &carts).await?;
    let latest = &rows[0];
    assert_eq!(latest.len(), 3, "bob is gone, dan is there");
    assert_eq!(carts[1].conflicts().await?.len(), 1, "ann's carts are both kept");

    println!("a resolver puts both carts together");
    let resolved: Vec<_> = carts
        .iter()
        .map(|table| {
            let table = table.clone();
            tokio::spawn(async move { table.resolve_with(Together).await })
        })
        .collect();
    loop {
        equal(&carts).await?;
        if carts[1].conflicts().await?.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let rows = show("no conflict any more:", &carts).await?;
    assert_eq!(rows[1][0], "ann=bread+milk+tea");
    for node in nodes {
        node.shutdown().await?;
    }
    for task in resolved {
        task.await??;
    }
    Ok(())
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(example())
}
