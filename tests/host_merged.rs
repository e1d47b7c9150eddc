//! Merged tables in an application: typed calls, updates, resolvers that fail.

use std::future::Future;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use synod::merged::{
    Action, BATCH_MAX, Conflict, Durability, Event, Field, Kind, Match, MergeContext, Pattern,
    Resolver, Schema, Strategy,
};
use synod::{Cluster, Error, MergedTable, Refusal, Rejection, Retries, State, Timing};

/// Far more than anything here takes, on a machine that does ten other things.
const LONG: Duration = Duration::from_secs(60);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let bounded = async { tokio::time::timeout(LONG, test).await.expect("an end in time") };
    runtime.expect("a runtime").block_on(bounded)
}

async fn node(number: u16, listeners: &[TcpListener], schema: &Schema, state: State) -> Cluster {
    node_with(number, listeners, schema, state, Timing::default()).await
}

async fn node_with(
    number: u16,
    listeners: &[TcpListener],
    schema: &Schema,
    state: State,
    timing: Timing,
) -> Cluster {
    let mut builder = Cluster::builder("merged-host", number)
        .merged_table("things", schema.clone())
        .timing(timing);
    for (place, listener) in listeners.iter().enumerate() {
        let address = listener.local_addr().expect("bound").to_string();
        builder = builder.member(place as u16 + 1, address);
    }
    let own = listeners[usize::from(number) - 1].try_clone().expect("another socket");
    builder.listener(own).start(state).await.expect("the node starts")
}

fn ports(count: usize) -> Vec<TcpListener> {
    (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect()
}

type Things = MergedTable<String, String>;

async fn alone(schema: Schema) -> (Cluster, Things) {
    let cluster = node(1, &ports(1), &schema, State::Memory).await;
    let table = cluster.merged_table("things").expect("it was declared");
    (cluster, table)
}

fn values(shown: &[synod::Versioned<String>]) -> Vec<&str> {
    shown.iter().map(|version| version.value.as_str()).collect()
}

/// L-08, L-10, L-11, L-13, L-20, L-42: typed calls say what they replaced; one key and many keys
/// are different calls.
#[test]
fn typed_calls_say_what_they_replaced() {
    run(async {
        let (cluster, table) = alone(Schema { kind: Kind::OrderedSet, ..Schema::default() }).await;
        assert!(table.put("a", "1").await.expect("put").is_empty());
        let previous = table.put_many([("b", "1"), ("a", "2"), ("c", "3")]).await.expect("put");
        assert_eq!((previous.len(), values(&previous[0].values)), (1, vec!["1"]));
        assert_eq!(values(&table.get("a").await.expect("get")), ["2"]);
        assert!(!table.remove_if("b", "2").await.expect("removed"));
        assert!(table.remove_if("b", "1").await.expect("removed"));
        let some = Pattern { value: Match::Exactly(b"3".to_vec()), ..Pattern::default() };
        assert_eq!(table.scan(some).await.expect("scan")[0].key, "c");
        assert_eq!(table.remove_many(["a", "c", "never"]).await.expect("removed").len(), 2);
        assert!(table.remove("a").await.expect("removed").is_empty());
        assert_eq!(table.info().await.expect("info").conflicts, 0);
        assert!(cluster.merged_table::<String, String>("default").is_err());
        cluster.shutdown().await.expect("it stops");
    });
}

/// L-15, L-16, L-17, L-18: a function changes one key, also where nothing is, and is called again
/// if somebody has written in between; over the whole table it is called once for each key, all in
/// one step.
#[test]
fn nothing_is_left_out_for_being_much() {
    run(async {
        let kind = Kind::Bag { secondary: None };
        let (_cluster, table) = alone(Schema { kind, ..Schema::default() }).await;
        let elements: Vec<String> = (0..10_500).map(|number| format!("{number:05}")).collect();
        let all = elements.iter().map(|element| ("k", element.as_str()));
        table.put_many(all.chain([("l", "other")])).await.expect("put");
        assert_eq!(values(&table.get("k").await.expect("get")), elements);

        let (_cluster, table) = alone(Schema::default()).await;
        let keys: Vec<String> = (0..=BATCH_MAX).map(|number| number.to_string()).collect();
        for keys in keys.chunks(BATCH_MAX) {
            table.put_many(keys.iter().map(|key| (key.as_str(), "v"))).await.expect("put");
        }
        let refused = table.update_all(|_, _| panic!("it is known that this fails")).await;
        let refused = refused.expect_err("too many").to_string();
        assert!(refused.contains("batch of length 65537 exceeds the limit of 65536"), "{refused}");
    });
}

#[test]
fn functions_update_one_key_or_all() {
    run(async {
        let (cluster, table) = alone(Schema::default()).await;
        let updated =
            table.update("n", |old| old.or_else(|| Some("0".into()))).await.expect("update");
        assert_eq!((updated.old.len(), updated.new.as_deref()), (0, Some("0")));
        let more = |old: Option<String>| {
            let number: u32 = old.expect("there").parse().expect("a number");
            Some((number + 1).to_string())
        };
        let many = (0..20).map(|_| table.retries(Retries { count: 100, ..Retries::default() }));
        let all = many.map(|table| tokio::spawn(async move { table.update("n", more).await }));
        for one in all.collect::<Vec<_>>() {
            one.await.expect("no panic").expect("update");
        }
        assert_eq!(values(&table.get("n").await.expect("get")), ["20"]);
        let gone = table.update("n", |_| None).await.expect("update");
        assert_eq!((gone.old, gone.new), (vec!["20".to_owned()], None));
        let nothing = table.update("n", |old| old).await.expect("update");
        assert_eq!((nothing.old.len(), nothing.new), (0, None));

        table.put_many([("a", "1"), ("b", "2"), ("c", "3")]).await.expect("put");
        let mut calls = 0;
        let changed = table
            .update_all(|key, value| {
                calls += 1;
                (key != "b").then(|| format!("{value}{value}"))
            })
            .await;
        assert_eq!((changed.expect("update"), calls), (3, 3));
        let rows = table.scan(Pattern::default()).await.expect("scan");
        let rows: Vec<_> = rows.iter().map(|row| (&*row.key, values(&row.values))).collect();
        assert_eq!(rows, [("a", vec!["11"]), ("c", vec!["33"])]);
        let other = table.clone();
        let task = tokio::spawn(async move {
            other.update_all(|key, _| if key == "c" { panic!("midway") } else { None }).await
        });
        assert!(task.await.is_err(), "it panicked");
        assert_eq!(values(&table.get("a").await.expect("get")), ["11"], "nothing was changed");
        let never = table.retries(Retries { count: 0, pause: Duration::ZERO });
        let handle = table.clone();
        let refused = never
            .update("a", |old| {
                // Somebody else writes in between, every time.
                let handle = handle.clone();
                let write = async move { handle.put("a", "theirs").await.map(|_| ()) };
                let thread = std::thread::spawn(move || run(write));
                thread.join().expect("no panic").expect("put");
                old.map(|old| old + "mine")
            })
            .await;
        assert_eq!(refused, Err(Error::Rejected(Rejection::Refused(Refusal::Busy))));
        cluster.shutdown().await.expect("it stops");
    });
}

/// Counts its calls, and fails on purpose.
#[derive(Clone, Default)]
struct Counted(Arc<Mutex<Vec<String>>>);

impl Counted {
    fn note(&self, what: String) {
        self.0.lock().expect("nobody panics while holding it").push(what);
    }

    fn noted(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics while holding it").clone()
    }
}

impl Resolver for Counted {
    fn init(&mut self, context: &MergeContext) -> Result<(), String> {
        self.note(format!("init {} {}", context.table, context.agreement.strategy));
        Ok(())
    }

    fn resolve(&mut self, conflict: &Conflict) -> Result<Vec<Action>, String> {
        let key = String::from_utf8_lossy(conflict.key.as_bytes()).into_owned();
        self.note(key.clone());
        let remote = conflict.remote[0].clone();
        match &*key {
            "delete" => Ok(vec![Action::DeleteLocal, Action::DeleteRemote]),
            "error" => Err("cannot".to_owned()),
            "half" => Ok(vec![Action::WriteLocal("mine alone".into())]),
            "inconsistent" => Ok(vec![Action::Inconsistent("asked for".to_owned())]),
            "local" => Ok(vec![Action::WriteRemote(conflict.local.clone())]),
            "nothing" => Ok(vec![]),
            "panic" => panic!("on purpose"),
            "remote" => Ok(vec![Action::WriteLocal(remote)]),
            other => panic!("no conflict was made about {other}"),
        }
    }

    fn done(&mut self) {
        self.note("done".to_owned());
    }
}

/// L-26, L-29, M-20, M-22, M-23, M-24, M-25, U-02, U-03: a resolver is asked in three phases, and
/// its answers are folded into one outcome; what it leaves, or fails on, stays in conflict on both
/// nodes, and nobody restarts.
#[test]
fn a_resolver_that_fails_harms_its_own_keys_only() {
    run(async {
        let schema = Schema { strategy: Strategy::Custom, ..Schema::default() };
        let listeners = ports(2);
        let directory = tempfile::tempdir().expect("a directory");
        let state = |node: &str| State::Directory(directory.path().join(node));
        let keys =
            ["delete", "error", "half", "inconsistent", "local", "nothing", "panic", "remote"];
        // Each has been running while the other was not.
        for (number, name) in [(1, "one"), (2, "two")] {
            let cluster = node(number, &listeners, &schema, state(name)).await;
            let table: Things = cluster.merged_table("things").expect("declared");
            for key in keys {
                table.put(key, name).await.expect("put");
            }
            cluster.shutdown().await.expect("it stops");
        }
        let first = node(1, &listeners, &schema, state("one")).await;
        let second = node(2, &listeners, &schema, state("two")).await;
        let one: Things = first.merged_table("things").expect("declared");
        let two: Things = second.merged_table("things").expect("declared");
        while one.conflicts().await.expect("conflicts").len() < keys.len()
            || two.conflicts().await.expect("conflicts").len() < keys.len()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let resolver = Counted::default();
        let (told, table) = (resolver.clone(), one.clone());
        let resolving = tokio::spawn(async move { table.resolve_with(told).await });
        let left = ["error", "half", "inconsistent", "nothing", "panic"];
        for table in [&one, &two] {
            loop {
                let conflicts = table.conflicts().await.expect("conflicts");
                if conflicts.iter().map(|row| &*row.key).eq(left) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(table.get("delete").await.expect("get").is_empty());
            assert_eq!(values(&table.get("local").await.expect("get")), ["one"]);
            assert_eq!(values(&table.get("remote").await.expect("get")), ["two"]);
        }
        let noted = resolver.noted();
        let begun = noted.iter().position(|what| what == "init things custom").expect("begun");
        assert_eq!(noted[begun + 1..][..keys.len()], keys.map(str::to_owned));
        assert_eq!(noted[begun + 1 + keys.len()], "done");
        first.shutdown().await.expect("it stops");
        resolving.await.expect("no panic").expect("it ends with the node");
        second.shutdown().await.expect("it stops");
    });
}

/// Fails, and counts how often it is asked.
#[derive(Clone, Default)]
struct Failing(Arc<AtomicUsize>);

impl Resolver for Failing {
    fn resolve(&mut self, _: &Conflict) -> Result<Vec<Action>, String> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err("no".to_owned())
    }
}

/// C6: a merge that leaves more in conflict than there may be events waiting has each asked about
/// once here all the same.
#[test]
fn a_merge_with_thousands_of_conflicts_asks_about_each_once() {
    const KEYS: usize = 3_000;
    run(async {
        let schema = Schema { strategy: Strategy::Custom, ..Schema::default() };
        let listeners = ports(2);
        let directory = tempfile::tempdir().expect("a directory");
        let state = |node: &str| State::Directory(directory.path().join(node));
        let keys: Vec<String> = (0..KEYS).map(|key| format!("{key:05}")).collect();
        for (number, name) in [(1, "one"), (2, "two")] {
            let cluster = node(number, &listeners, &schema, state(name)).await;
            let table: Things = cluster.merged_table("things").expect("declared");
            table.put_many(keys.iter().map(|key| (&**key, name))).await.expect("put");
            cluster.shutdown().await.expect("it stops");
        }
        // Each is asked about once more when a node is back: neither may take the other for gone.
        let timing = Timing { down: LONG, ..Timing::default() };
        let first = node_with(1, &listeners, &schema, state("one"), timing.clone()).await;
        let one: Things = first.merged_table("things").expect("declared");
        let resolver = Failing::default();
        let (told, table) = (resolver.clone(), one.clone());
        let resolving = tokio::spawn(async move { table.resolve_with(told).await });
        let second = node_with(2, &listeners, &schema, state("two"), timing).await;
        while resolver.0.load(Ordering::Relaxed) < KEYS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(resolver.0.load(Ordering::Relaxed), KEYS);
        first.shutdown().await.expect("it stops");
        resolving.await.expect("no panic").expect("it ends with the node");
        second.shutdown().await.expect("it stops");
    });
}

/// M-18: elements of a bag by a field; the value that a codec writes decides.
#[test]
fn a_bag_holds_elements_by_themselves() {
    run(async {
        let kind = Kind::Bag { secondary: Some(Field::bytes(0, 1)) };
        let (cluster, table) = alone(Schema { kind, ..Schema::default() }).await;
        table.put_many([("k", "a1"), ("k", "b1"), ("k", "a2")]).await.expect("put");
        assert_eq!(values(&table.get("k").await.expect("get")), ["a2", "b1"]);
        cluster.shutdown().await.expect("it stops");
    });
}

/// L-06, L-27, L-40, M-03: what a merged table is may differ from node to node, and so may whether
/// there is one: nodes are linked all the same. Copies that disagree say so, and lose nothing;
/// those that agree are merged, one on disk with one in memory.
#[test]
fn copies_that_disagree_are_told_apart() {
    run(async {
        let listeners = ports(2);
        let directory = tempfile::tempdir().expect("a directory");
        let builder = |number: u16| {
            let mut builder = Cluster::builder("merged-host", number);
            for (place, listener) in listeners.iter().enumerate() {
                let address = listener.local_addr().expect("bound").to_string();
                builder = builder.member(place as u16 + 1, address);
            }
            let own = listeners[usize::from(number) - 1].try_clone().expect("another socket");
            builder.listener(own)
        };
        let latest = Schema { strategy: Strategy::LastModified, ..Schema::default() };
        let loose = Schema { durability: Durability::Memory, ..Schema::default() };
        let first = builder(1)
            .merged_table("things", Schema::default())
            .merged_table("both", Schema::default())
            .start(State::Directory(directory.path().join("one")));
        let second = builder(2)
            .merged_table("other", Schema::default())
            .merged_table("both", loose)
            .merged_table("things", latest)
            .start(State::Memory);
        let first = first.await.expect("the node starts");
        let second = second.await.expect("the node starts");
        let one: Things = first.merged_table("things").expect("declared");
        let two: Things = second.merged_table("things").expect("declared");
        one.put("k", "one").await.expect("put");
        two.put("k", "two").await.expect("put");
        let both: Things = first.merged_table("both").expect("declared");
        both.put("k", "shared").await.expect("put");
        let both: Things = second.merged_table("both").expect("declared");
        while both.get("k").await.expect("get").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (table, value) in [(&one, "one"), (&two, "two")] {
            while table.info().await.expect("info").peers[0].agrees != Some(false) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let history = table.info().await.expect("info").history;
            assert!(history.iter().any(|(_, event)| matches!(event, Event::Disagreed { .. })));
            assert_eq!(values(&table.get("k").await.expect("get")), [value]);
        }
        first.shutdown().await.expect("it stops");
        second.shutdown().await.expect("it stops");
    });
}

/// L-03, L-20, M-03: a table made while nodes run is had like any other, by whoever asks for it;
/// what is dropped is refused.
#[test]
fn tables_are_made_while_the_node_runs() {
    run(async {
        let listeners = ports(1);
        let address = listeners[0].local_addr().expect("bound").to_string();
        let own = listeners[0].try_clone().expect("another socket");
        let builder = Cluster::builder("merged-host", 1).member(1, address).listener(own);
        let node = builder.merged_table("fixed", Schema::default()).start(State::Memory);
        let node = node.await.expect("the node starts");
        assert!(node.merged_table::<String, String>("made").is_err());
        let schema = Schema { kind: Kind::OrderedSet, ..Schema::default() };
        let made: Things = node.create_merged_table("made", schema.clone()).await.expect("made");
        made.put("k", "v").await.expect("put");
        let same: Things = node.create_merged_table("made", schema).await.expect("it is there");
        let found: Things = node.merged_table("made").expect("made");
        assert_eq!((same.id(), found.id()), (made.id(), made.id()));
        assert_eq!(values(&found.get("k").await.expect("get")), ["v"]);
        assert_eq!(node.tables(), ["fixed", "$tables", "made"]);
        let other = node.create_merged_table::<String, String>("made", Schema::default()).await;
        let other = other.expect_err("it is something else");
        assert!(other.to_string().contains("which is ordered_set"), "{other}");
        let node_9 = node.add_replica("made", 9).await.expect_err("no such node");
        assert!(node_9.to_string().contains("replica 9"), "{node_9}");
        node.add_replica("made", 1).await.expect("it keeps one");
        node.drop_table("made").await.expect("dropped");
        assert!(made.get("k").await.is_err(), "it is gone");
        assert_eq!(node.tables(), ["fixed", "$tables"]);
        node.shutdown().await.expect("it stops");
    });
}
