//! Leader election, and a registry of services: entries that live as long as who wrote them.
//!
//! `cargo run --example leader`

use std::error::Error;

use synod::{Change, Cluster, Session, SessionState, Table};

mod three;

/// One process of the service: its place in the cluster, and the session that is its life.
struct Worker {
    name: String,
    session: Session,
    leaders: Table<String, String>,
    services: Table<String, String>,
}

impl Worker {
    /// Begins to live, and says where it is to be found for as long as it does.
    async fn join(cluster: &Cluster, name: &str) -> Result<Self, Box<dyn Error>> {
        let session = cluster.session().await?;
        let (leaders, services) = (cluster.table("leaders")?, cluster.table("services")?);
        let worker = Self { name: name.to_owned(), session, leaders, services };
        let services = worker.services.bound_to(&worker.session);
        services.put(name, &format!("http://{name}.example:8080")).await?;
        Ok(worker)
    }

    /// Runs for leader; says who is.
    async fn elect(&self) -> Result<String, synod::Error> {
        let leaders = self.leaders.bound_to(&self.session);
        Ok(leaders.put_if_absent("leader", &self.name).await?.entry.value)
    }

    /// Whether it may act as the leader now. What it acts on should check its token all the same,
    /// as the example `lock` shows.
    async fn leads(&self) -> Result<bool, synod::Error> {
        let leader = self.leaders.get("leader").await?;
        let me = leader.is_some_and(|leader| leader.value == self.name);
        Ok(me && self.session.state() == SessionState::Open)
    }
}

pub(crate) async fn example() -> Result<(), Box<dyn Error>> {
    let nodes = three::nodes("leader-example", &["leaders", "services"]).await?;
    let red = Worker::join(&nodes[0], "red").await?;
    let blue = Worker::join(&nodes[1], "blue").await?;
    assert_eq!(red.elect().await?, "red");
    assert_eq!(blue.elect().await?, "red");
    assert!(red.leads().await? && !blue.leads().await?);
    println!("services: {:?}", blue.services.keys(100).await?.keys);

    let mut ends = blue.leaders.watch("leader").await?;
    // Red's process dies; here its life ends in an orderly way.
    red.session.close().await?;
    while blue.elect().await? != "blue" {
        match ends.next().await {
            Some(Change::Ended { ending, .. }) => println!("the leader is gone: {ending:?}"),
            Some(Change::Missed) | None => {}
        }
    }
    assert!(blue.leads().await?);
    // Its service goes with it, within a few round trips; watched, nobody has to ask.
    let mut ends = blue.services.watch("red").await?;
    while blue.services.get("red").await?.is_some() {
        ends.next().await;
    }
    assert_eq!(blue.services.keys(100).await?.keys, ["blue"]);
    drop(blue);
    three::stop(nodes).await
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(example())
}
