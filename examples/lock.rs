//! A distributed lock that hands out a fencing token.
//!
//! Holding a lock is never proof: the holder may have been paused, and its session ended, without
//! its knowing. So whoever is protected by the lock has to refuse what comes with an older token
//! than it has seen. The token is the generation of the lock's entry: higher for every later
//! holder.
//!
//! `cargo run --example lock`

use std::error::Error;
use std::sync::Mutex;

use synod::{Ballot, Change, Cluster, Session, Table};

mod three;

/// A lock held. Dropping it gives it back, and so does the death of its holder.
struct Lock {
    token: Ballot,
    _session: Session,
}

/// Waits for the lock.
async fn acquire(cluster: &Cluster, name: &str, me: &str) -> Result<Lock, synod::Error> {
    let locks: Table<String, String> = cluster.table("locks").expect("it was configured");
    let session = cluster.session().await?;
    // Watched first, tried then: an end in between is not missed.
    let mut ends = locks.watch(name).await?;
    loop {
        let taken = locks.bound_to(&session).put_if_absent(name, me).await?;
        if taken.won {
            return Ok(Lock { token: taken.entry.generation, _session: session });
        }
        println!("{me} waits for {}", taken.entry.value);
        // The life that is in the way ends; ends of earlier lives may still be on their way.
        while let Some(Change::Ended { generation, .. }) = ends.next().await {
            if generation >= taken.entry.generation {
                break;
            }
        }
    }
}

/// What the lock protects: it lets nobody write who holds an older token than somebody before.
#[derive(Default)]
struct Ledger(Mutex<(Option<Ballot>, Vec<String>)>);

impl Ledger {
    fn write(&self, token: Ballot, line: &str) -> Result<(), String> {
        let mut ledger = self.0.lock().expect("nobody panics");
        if ledger.0.is_some_and(|seen| token < seen) {
            return Err(format!("token {token} is older than one seen"));
        }
        ledger.0 = Some(token);
        ledger.1.push(line.to_owned());
        Ok(())
    }
}

pub(crate) async fn example() -> Result<(), Box<dyn Error>> {
    let nodes = three::nodes("lock-example", &["locks"]).await?;
    let ledger = Ledger::default();
    let ann = acquire(&nodes[0], "ledger", "ann").await?;
    ledger.write(ann.token, "ann was here")?;
    let stale = ann.token;
    let (bob, ()) = tokio::join!(acquire(&nodes[1], "ledger", "bob"), async {
        // Ann's process dies, or loses touch: here she only lets go.
        drop(ann);
    });
    let bob = bob?;
    assert!(bob.token > stale, "tokens only grow");
    ledger.write(bob.token, "bob was here")?;
    let refused = ledger.write(stale, "ann, who has not noticed").expect_err("an old token");
    println!("refused: {refused}");
    assert_eq!(ledger.0.lock().expect("nobody panics").1, ["ann was here", "bob was here"]);
    drop(bob);
    three::stop(nodes).await
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(example())
}
