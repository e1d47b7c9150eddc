//! A primary table whose primary is stopped: its client goes on at another node, and nothing that
//! was acknowledged is missing.
//!
//! Three members on real sockets, each with a directory.
//!
//! `cargo run --example failover`

use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use synod::primary::{ReadLevel, Role, Schema};
use synod::{Cluster, NodeId, PrimaryTable, Resolved, State, Timing};

type Accounts = PrimaryTable<String, String>;

struct Bank {
    listeners: BTreeMap<u16, TcpListener>,
    running: BTreeMap<u16, Cluster>,
    folder: tempfile::TempDir,
}

impl Bank {
    async fn open() -> Result<Self, Box<dyn Error>> {
        let mut listeners = BTreeMap::new();
        for number in 1..=3 {
            listeners.insert(number, TcpListener::bind("127.0.0.1:0")?);
        }
        let (running, folder) = (BTreeMap::new(), tempfile::tempdir()?);
        let mut bank = Self { listeners, running, folder };
        for number in 1..=3 {
            bank.start(number).await?;
        }
        for node in bank.running.values() {
            node.ready().await?;
        }
        Ok(bank)
    }

    async fn start(&mut self, number: u16) -> Result<(), Box<dyn Error>> {
        // A node that is silent for so long is given up.
        let down = Duration::from_secs(1);
        let timing = Timing { heartbeat: Duration::from_millis(100), down, ..Timing::default() };
        let mut builder = Cluster::builder("bank", number)
            .listener(self.listeners[&number].try_clone()?)
            .primary_table("accounts", Schema::default())
            .timing(timing);
        for (other, listener) in &self.listeners {
            builder = builder.member(*other, listener.local_addr()?.to_string());
        }
        let directory = self.folder.path().join(number.to_string());
        self.running.insert(number, builder.start(State::Directory(directory)).await?);
        Ok(())
    }

    fn accounts(&self, number: u16) -> Result<Accounts, Box<dyn Error>> {
        Ok(self.running[&number].primary_table("accounts")?)
    }

    /// The primary, once so many replicas count.
    async fn primary(&self, in_sync: usize) -> Result<u16, Box<dyn Error>> {
        loop {
            for number in self.running.keys() {
                let info = self.accounts(*number)?.info().await?;
                let counts = info.roster.map_or(0, |roster| roster.in_sync.len());
                if info.role == Role::Primary && counts == in_sync {
                    return Ok(*number);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) async fn example() -> Result<(), Box<dyn Error>> {
    let mut bank = Bank::open().await?;
    let first = bank.primary(3).await?;
    let other = if first == 1 { 2 } else { 1 };
    println!("node {first} is primary; a client writes at node {other}, which passes it on");
    let accounts = bank.accounts(other)?;
    for number in 0..100 {
        accounts.put(&format!("account{number:02}"), "10").await?;
    }
    let id = accounts.write_id().await?;
    accounts.put_as(id, "account00", "20").await?;

    println!("node {first} stops");
    let begun = Instant::now();
    bank.running.remove(&first).ok_or("it ran")?.shutdown().await?;
    accounts.put("account01", "30").await?;
    println!("  the next write took {:.1?}, and was done", begun.elapsed());
    let second = bank.primary(2).await?;
    println!("  node {second} is primary");
    assert_ne!(second, first);

    // Whoever was not told what became of a write can ask, and asking again does it only once.
    assert!(matches!(accounts.resolve(id).await?, Resolved::Done(_)));
    accounts.put_as(id, "account00", "20").await?;
    let rows = accounts.rows().await?;
    let written = |key: &str| rows.iter().find(|(found, _)| found == key).map(|(_, it)| &**it);
    assert_eq!(
        (rows.len(), written("account00"), written("account01")),
        (100, Some("20"), Some("30"))
    );
    println!("  all {} accounts are there", rows.len());

    println!("node {first} comes back, catches up, and is handed the table");
    bank.start(first).await?;
    bank.primary(3).await?;
    bank.accounts(second)?.hand_over(Some(NodeId(first))).await?;
    assert_eq!(bank.primary(3).await?, first);
    let proven = bank.accounts(first)?.reading(ReadLevel::Linearizable);
    assert_eq!(proven.get("account01").await?.as_deref(), Some("30"));
    for node in bank.running.into_values() {
        node.shutdown().await?;
    }
    Ok(())
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(example())
}
