//! What the examples stand on: a cluster of three in one process. An application is one member, on
//! one machine, with [`synod::State::Directory`].

use std::error::Error;
use std::net::TcpListener;

use synod::{Cluster, State};

/// Three ready members, with memory for storage.
pub(crate) async fn nodes(name: &str, tables: &[&str]) -> Result<Vec<Cluster>, Box<dyn Error>> {
    let mut listeners = Vec::new();
    for number in 1..=3 {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        listeners.push((number, listener, address));
    }
    let mut nodes = Vec::new();
    for (number, listener, _) in &listeners {
        let mut builder = Cluster::builder(name, *number).listener(listener.try_clone()?);
        for (member, _, address) in &listeners {
            builder = builder.member(*member, address.clone());
        }
        for table in tables {
            builder = builder.table(*table);
        }
        nodes.push(builder.start(State::Memory).await?);
    }
    for node in &nodes {
        node.ready().await?;
    }
    Ok(nodes)
}

/// Stops them all, gracefully.
pub(crate) async fn stop(nodes: Vec<Cluster>) -> Result<(), Box<dyn Error>> {
    for node in nodes {
        node.shutdown().await?;
    }
    Ok(())
}
