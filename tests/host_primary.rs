//! Primary tables in an application: typed calls that follow the primary, over real sockets and
//! disks, through the death of nodes.

use std::future::Future;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use synod::primary::{Acknowledge, ReadLevel, Role, Schema};
use synod::{
    Cluster, Error, NodeId, PrimaryTable, Refusal, Rejection, Resolved, RoleChange, State, Timing,
    primary,
};

/// Far more than anything here takes, on a machine that does ten other things.
const LONG: Duration = Duration::from_secs(60);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let bounded = async { tokio::time::timeout(LONG, test).await.expect("an end in time") };
    runtime.expect("a runtime").block_on(bounded)
}

type Things = PrimaryTable<String, String>;

/// Three nodes of one table, each with a directory, on ports of their own.
struct Nodes {
    listeners: Vec<TcpListener>,
    running: Vec<Option<Cluster>>,
    folder: PathBuf,
    schema: Schema,
}

impl Nodes {
    async fn start(name: &str, schema: Schema) -> Self {
        let folder = std::env::temp_dir().join(format!("synod-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let port = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let listeners = (0..3).map(|_| port()).collect();
        let mut nodes = Self { listeners, running: Vec::new(), folder, schema };
        for number in 1..=3 {
            let cluster = nodes.node(number).await;
            nodes.running.push(Some(cluster));
        }
        for cluster in nodes.running.iter().flatten() {
            cluster.ready().await.expect("it takes part");
        }
        nodes
    }

    async fn node(&self, number: u16) -> Cluster {
        let timing = Timing {
            heartbeat: Duration::from_millis(100),
            down: Duration::from_millis(1_000),
            ..Timing::default()
        };
        let mut builder = Cluster::builder("primary-host", number)
            .primary_table("things", self.schema.clone())
            .timing(timing);
        for (place, listener) in self.listeners.iter().enumerate() {
            let address = listener.local_addr().expect("bound").to_string();
            builder = builder.member(place as u16 + 1, address);
        }
        let own = self.listeners[usize::from(number) - 1].try_clone().expect("another socket");
        let state = State::Directory(self.directory(number));
        builder.listener(own).start(state).await.expect("the node starts")
    }

    fn directory(&self, number: u16) -> PathBuf {
        Path::new(&self.folder).join(number.to_string())
    }

    fn table(&self, number: u16) -> Things {
        let cluster = self.running[usize::from(number) - 1].as_ref().expect("running");
        cluster.primary_table("things").expect("it was declared")
    }

    async fn stop(&mut self, number: u16) {
        let cluster = self.running[usize::from(number) - 1].take().expect("running");
        cluster.shutdown().await.expect("it stops");
    }

    async fn again(&mut self, number: u16) {
        let cluster = self.node(number).await;
        self.running[usize::from(number) - 1] = Some(cluster);
    }

    /// Waits until so many are in sync, and says who is primary.
    async fn settled(&self, count: usize) -> u16 {
        loop {
            for number in 1..=3 {
                if self.running[usize::from(number) - 1].is_none() {
                    continue;
                }
                let info = self.table(number).info().await.expect("info");
                let in_sync = info.roster.map_or(0, |roster| roster.in_sync.len());
                if info.role == Role::Primary && in_sync == count {
                    return number;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(mut self) {
        for cluster in self.running.iter_mut().filter_map(Option::take) {
            cluster.shutdown().await.expect("it stops");
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const fn others(number: u16) -> [u16; 2] {
    match number {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    }
}

const fn refused(error: &Error) -> Option<&primary::Refusal> {
    if let Error::Rejected(Rejection::Refused(Refusal::Primary(refusal))) = error {
        Some(refusal)
    } else {
        None
    }
}

/// writes and reads at any node; each client reads what it
/// wrote, also when it goes on at another node.
#[test]
fn any_node_serves_a_client() {
    run(async {
        let nodes = Nodes::start("primary-any", Schema::default()).await;
        let leader = nodes.settled(3).await;
        let tables: Vec<Things> = (1..=3).map(|number| nodes.table(number)).collect();
        let mut seen = 0;
        for (place, table) in tables.iter().enumerate() {
            table.see(seen);
            let put = table.put("who", &place.to_string()).await.expect("put");
            assert_eq!(put.existed, place > 0);
            let read = table.get("who").await.expect("get");
            assert_eq!(read, Some(place.to_string()), "it reads what it wrote");
            seen = table.seen();
        }
        for table in &tables {
            table.see(seen);
            assert_eq!(table.get("who").await.expect("get").as_deref(), Some("2"));
            let proven = table.reading(ReadLevel::Linearizable).get("who").await.expect("get");
            assert_eq!(proven.as_deref(), Some("2"));
            assert_eq!(table.rows().await.expect("rows"), [("who".into(), "2".into())]);
        }
        assert!(tables[0].remove("who").await.expect("removed").existed);
        assert!(!tables[1].remove("who").await.expect("removed").existed);
        let info = nodes.table(leader).info().await.expect("info");
        assert_eq!((info.role, info.lags.len()), (Role::Primary, 2));
        nodes.end().await;
    });
}

/// a write under an id is done once however often and wherever it is asked, and it can
/// be asked what became of it.
#[test]
fn a_write_with_an_id_is_done_once_and_resolved() {
    run(async {
        let nodes = Nodes::start("primary-ids", Schema::default()).await;
        nodes.settled(3).await;
        let (one, two) = (nodes.table(1), nodes.table(2));
        let id = one.write_id().await.expect("an id");
        let first = one.put_as(id, "a", "1").await.expect("put");
        two.put("a", "2").await.expect("put");
        assert_eq!(two.put_as(id, "a", "1").await.expect("put"), first, "not done again");
        assert_eq!(two.get("a").await.expect("get").as_deref(), Some("2"));
        assert_eq!(two.resolve(id).await.expect("resolved"), Resolved::Done(first));
        let never = two.write_id().await.expect("an id");
        assert_eq!(one.resolve(never).await.expect("resolved"), Resolved::Never);
        let late = two.put_as(never, "a", "late").await.expect_err("resolved before");
        assert_eq!(refused(&late), Some(&primary::Refusal::Resolved));
        nodes.end().await;
    });
}

/// the primary's node goes away; the same clients go on at the others, nothing that was
/// acknowledged is missing, and it comes back and follows.
#[test]
fn clients_go_on_when_the_primary_is_gone() {
    run(async {
        let mut nodes = Nodes::start("primary-failover", Schema::default()).await;
        let old = nodes.settled(3).await;
        let [second, third] = others(old);
        let table = nodes.table(second);
        let mut watch = table.watch().await.expect("told of roles");
        for number in 0..50 {
            table.put(&format!("k{number:02}"), "v").await.expect("put");
        }
        nodes.stop(old).await;
        // Without another word of the caller's.
        table.put("after", "v").await.expect("put");
        let rows = nodes.table(third);
        rows.see(table.seen());
        assert_eq!(rows.rows().await.expect("rows").len(), 51);
        loop {
            match watch.next().await.expect("told") {
                RoleChange::Is { primary: Some(primary), .. } if primary != NodeId(old) => break,
                RoleChange::Is { .. } | RoleChange::Missed => {}
            }
        }
        nodes.again(old).await;
        let new = nodes.settled(3).await;
        assert_ne!(new, old);
        let back = nodes.table(old);
        back.see(table.seen());
        assert_eq!(back.rows().await.expect("rows").len(), 51);
        // An operator wants it back where it was.
        nodes.table(new).hand_over(Some(NodeId(old))).await.expect("handed over");
        assert_eq!(nodes.settled(3).await, old);
        let refusal = nodes.table(new).hand_over(None).await.expect_err("it is not primary");
        assert_eq!(refused(&refusal), Some(&primary::Refusal::NotPrimary(Some(NodeId(old)))));
        nodes.end().await;
    });
}

/// all stop, and all that was acknowledged is there when they are back.
#[test]
fn what_was_acknowledged_outlives_all_processes() {
    run(async {
        let schema = Schema { acknowledge: Acknowledge::Quorum, ..Schema::default() };
        let mut nodes = Nodes::start("primary-restart", schema).await;
        nodes.settled(3).await;
        let table = nodes.table(1);
        let long = "x".repeat(10_000);
        for number in 0..40 {
            table.put(&format!("k{number:02}"), &long).await.expect("put");
        }
        drop(table);
        for number in 1..=3 {
            nodes.stop(number).await;
        }
        for number in 1..=3 {
            nodes.again(number).await;
        }
        nodes.settled(3).await;
        let table = nodes.table(2).reading(ReadLevel::Linearizable);
        assert_eq!(table.get("k39").await.expect("get"), Some(long));
        assert_eq!(nodes.table(2).rows().await.expect("rows").len(), 40);
        nodes.end().await;
    });
}
