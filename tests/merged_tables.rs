//! Merged tables made, changed and dropped while nodes run: there at once where that was asked, on
//! the others as soon as they hear of it, and the same everywhere after a split.

mod support;

use std::time::Duration;

use support::{Cluster, ms};
use synod::merged::{
    Answer, CATALOGUE, Command as Merged, Durability, Entry, Info, Journal, Kind, Mutation,
    Replicas, Role, Schema, Strategy, TableCommand, TableName, Unmade, Writer,
};
use synod::{
    Body, Command, Incarnation, Key, MergeEvent, NodeId, OnNoQuorum, Outcome, Record, Refusal,
    Sent, TableConfig, TableId, Topic, Value,
};

fn words(words: &str) -> Schema {
    Schema::default().with_words(words).expect(words)
}

fn create(name: &str, what: &str) -> Command {
    Command::Table(TableCommand::Create { name: name.into(), schema: words(what) })
}

fn add_replica(name: &str, node: u16) -> Command {
    Command::Table(TableCommand::AddReplica { name: name.into(), node: NodeId(node) })
}

fn dropped(name: &str) -> Command {
    Command::Table(TableCommand::Drop { name: name.into() })
}

fn unmade(why: Unmade) -> Outcome {
    Outcome::Refused(Refusal::Unmade(why))
}

/// Where a node has a table, by its own count.
fn id(cluster: &Cluster, node: u16, name: &str) -> Option<TableId> {
    cluster.node(node).config().table(name)
}

fn of(cluster: &Cluster, node: u16, name: &str, command: Merged) -> Command {
    let table = id(cluster, node, name).expect("the node has heard of it");
    Command::Merged { table, command }
}

fn put(cluster: &mut Cluster, node: u16, name: &str, key: &str, value: &str) {
    let mutation = Mutation::Put(Key::from(key), Value::from(value));
    let command = of(cluster, node, name, Merged::write(mutation));
    let outcome = cluster.call(node, command);
    assert!(matches!(outcome, Outcome::Merged(Answer::Written { .. })), "{outcome}");
}

/// What a node shows of a key.
fn get(cluster: &mut Cluster, node: u16, name: &str, key: &str) -> Vec<String> {
    let command = of(cluster, node, name, Merged::Get(Key::from(key)));
    let outcome = cluster.call(node, command);
    let Outcome::Merged(Answer::Found { entries, .. }) = outcome else { panic!("{outcome}") };
    entries.iter().map(Entry::to_string).collect()
}

fn info(cluster: &mut Cluster, node: u16, name: &str) -> Info {
    let command = of(cluster, node, name, Merged::Info);
    let outcome = cluster.call(node, command);
    let Outcome::Merged(Answer::Info(info)) = outcome else { panic!("{outcome}") };
    info
}

fn isolate(cluster: &mut Cluster, node: u16) {
    let others = (1..=3).filter(|other| *other != node);
    let links = others.flat_map(|other| [(node, other), (other, node)]);
    cluster.cut = links.map(|(from, to)| (NodeId(from), NodeId(to))).collect();
    cluster.run(Duration::from_secs(3));
}

fn heal(cluster: &mut Cluster) {
    cluster.cut.clear();
    cluster.run(Duration::from_secs(2));
}

/// L-02, L-03, L-20: there is none before it is asked for; it is usable on return; asked for again,
/// here or there, it is the same one; the others have it soon. It is there after all have stopped.
#[test]
fn a_table_is_there_when_its_making_is_answered() {
    let mut cluster = Cluster::new(3);
    assert_eq!(id(&cluster, 1, CATALOGUE), None, "no table that nobody asked for");
    for _ in 0..3 {
        assert_eq!(cluster.at_once(1, create("carts", "bag")), Outcome::Done);
    }
    put(&mut cluster, 1, "carts", "k", "a");
    let before = cluster.node(1).tables_revision();
    cluster.run(Duration::from_secs(1));
    for node in 1..=3 {
        assert_eq!(cluster.at_once(node, create("carts", "bag")), Outcome::Done, "{node}");
        assert_eq!(get(&mut cluster, node, "carts", "k"), ["k:a=a"], "{node}");
    }
    assert_eq!(cluster.node(1).tables_revision(), before, "there is one");
    let other = cluster.at_once(2, create("carts", "set"));
    assert_eq!(other, unmade(Unmade::Exists("bag, siblings, later_wins".into())));
    let other = cluster.at_once(2, create("carts", "bag+memory"));
    assert_eq!(other, unmade(Unmade::Exists("kept on disk".into())));
    let other = cluster.at_once(2, create("carts", "bag+retention@60000"));
    assert_eq!(other, unmade(Unmade::Exists("one of retention@86400000".into())));
    let other = cluster.at_once(2, create("default", "set"));
    assert_eq!(other, unmade(Unmade::Exists("no merged table".into())));
    for node in 1..=3 {
        cluster.crash(node);
    }
    for node in 1..=3 {
        cluster.start(node);
        assert_eq!(get(&mut cluster, node, "carts", "k"), ["k:a=a"], "{node}");
        put(&mut cluster, node, "carts", "k", &node.to_string());
    }
    cluster.run(Duration::from_secs(3));
    for node in 1..=3 {
        assert_eq!(get(&mut cluster, node, "carts", "k"), ["k:1=1", "k:2=2", "k:3=3", "k:a=a"]);
    }
}

/// L-03, P-32: what is answered is durable, and nothing is before that.
#[test]
fn the_making_of_a_table_is_answered_when_it_is_durable() {
    let mut cluster = Cluster::new(3);
    cluster.machine(1).slow_disk = true;
    let asked = cluster.ask_with(1, OnNoQuorum::Return, ms(5_000), create("carts", ""));
    cluster.run(ms(100));
    assert_eq!(cluster.answered(asked), None);
    cluster.crash(1);
    cluster.machine(1).slow_disk = false;
    cluster.start(1);
    assert_eq!(id(&cluster, 1, "carts"), None, "it was never said");
    assert_eq!(cluster.at_once(1, create("carts", "")), Outcome::Done);
    cluster.restart(1);
    put(&mut cluster, 1, "carts", "k", "a");
}

/// L-06, M-03: one that was made on both sides of a split is one; so is one made by all at once.
#[test]
fn tables_made_on_both_sides_of_a_split_are_one() {
    let mut cluster = Cluster::new(3);
    isolate(&mut cluster, 1);
    for node in [1, 2] {
        assert_eq!(cluster.at_once(node, create("carts", "")), Outcome::Done);
        put(&mut cluster, node, "carts", &format!("k{node}"), "a");
    }
    cluster.at_once(1, create("own", "last-modified"));
    put(&mut cluster, 1, "own", "k", "b");
    heal(&mut cluster);
    for node in 1..=3 {
        for key in ["k1", "k2"] {
            assert_eq!(get(&mut cluster, node, "carts", key), [format!("{key}=a")], "{node}");
        }
        assert_eq!(get(&mut cluster, node, "own", "k"), ["k=b"], "{node}");
        assert_eq!(info(&mut cluster, node, CATALOGUE).conflicts, 0);
        assert!(info(&mut cluster, node, "carts").settled, "{node}");
    }
    let all: Vec<_> = (1..=3)
        .map(|node| cluster.ask_with(node, OnNoQuorum::Return, ms(900), create("more", "bag")))
        .collect();
    for asked in all {
        assert_eq!(cluster.answer(asked), Outcome::Done);
    }
    cluster.run(Duration::from_secs(1));
    put(&mut cluster, 3, "more", "k", "c");
    cluster.run(Duration::from_secs(1));
    assert_eq!(get(&mut cluster, 1, "more", "k"), ["k:c=c"]);
}

/// L-27: one that was made as different things raises an alarm on all nodes and loses nothing; each
/// node goes on with what it has, also after a restart. Dropping it ends the alarm.
#[test]
fn a_table_made_as_two_things_is_told_and_loses_nothing() {
    let mut cluster = Cluster::new(3);
    isolate(&mut cluster, 1);
    for (node, what, value) in [(1, "bag", "one"), (2, "last-modified", "two")] {
        assert_eq!(cluster.at_once(node, create("carts", what)), Outcome::Done);
        put(&mut cluster, node, "carts", "k", value);
    }
    cluster.run(Duration::from_secs(1));
    cluster.subscribe(3, 50, Topic::Merges);
    heal(&mut cluster);
    let raised = cluster.told(50).into_iter().any(|event| {
        let synod::Event::Merge(MergeEvent::Raised { row, .. }) = event else { return false };
        row.key == Key::from("carts")
    });
    assert!(raised, "the alarm is up");
    for _ in 0..2 {
        for (node, shown) in [(1, "k:one=one"), (2, "k=two"), (3, "k=two")] {
            assert_eq!(get(&mut cluster, node, "carts", "k"), [shown], "{node}");
            assert_eq!(info(&mut cluster, node, CATALOGUE).conflicts, 1, "{node}");
        }
        for node in 1..=3 {
            cluster.restart(node);
        }
        cluster.run(Duration::from_secs(3));
    }
    let disagrees = info(&mut cluster, 1, "carts").peers;
    assert!(disagrees.iter().all(|peer| peer.agrees == Some(false)), "{disagrees:?}");
    let other = cluster.at_once(1, create("carts", "last-modified"));
    assert!(matches!(other, Outcome::Refused(Refusal::Unmade(Unmade::Exists(_)))), "{other}");
    assert_eq!(cluster.at_once(1, dropped("carts")), Outcome::Done);
    cluster.run(Duration::from_secs(1));
    for node in 1..=3 {
        assert_eq!(id(&cluster, node, "carts"), None, "{node}");
        assert_eq!(info(&mut cluster, node, CATALOGUE).conflicts, 0, "{node}");
    }
}

/// M-03: one that is dropped is gone everywhere, also where somebody writes to it or was away; one
/// of its name that is made later has nothing of it.
#[test]
fn a_dropped_table_does_not_come_back() {
    let mut cluster = Cluster::new(3);
    cluster.at_once(1, create("carts", ""));
    put(&mut cluster, 1, "carts", "k", "old");
    cluster.run(Duration::from_secs(1));
    isolate(&mut cluster, 3);
    put(&mut cluster, 3, "carts", "k", "away");
    assert_eq!(cluster.at_once(1, dropped("carts")), Outcome::Done);
    assert_eq!(cluster.call(1, dropped("carts")), unmade(Unmade::NoSuchTable));
    cluster.run(Duration::from_secs(1));
    assert_eq!(id(&cluster, 2, "carts"), None);
    assert_eq!(cluster.at_once(2, create("carts", "bag")), Outcome::Done);
    put(&mut cluster, 2, "carts", "n", "new");
    put(&mut cluster, 3, "carts", "k", "away still");
    heal(&mut cluster);
    for node in 1..=3 {
        cluster.restart(node);
    }
    cluster.run(Duration::from_secs(3));
    for node in 1..=3 {
        assert!(get(&mut cluster, node, "carts", "k").is_empty(), "{node}");
        assert_eq!(get(&mut cluster, node, "carts", "n"), ["n:new=new"], "{node}");
    }
}

/// Has a node start again with the table in its configuration.
fn declare(cluster: &mut Cluster, node: u16, name: &str) {
    cluster.machine(node).config.tables.push(TableConfig::merged(name, words("")));
    cluster.restart(node);
}

/// M-03: one that was dropped and made again goes on as what it is when it is declared, on one node
/// after the other.
#[test]
fn a_table_made_again_may_be_declared() {
    let mut cluster = Cluster::new(3);
    cluster.at_once(1, create("carts", ""));
    put(&mut cluster, 1, "carts", "old", "a");
    assert_eq!(cluster.at_once(1, dropped("carts")), Outcome::Done);
    assert_eq!(cluster.at_once(1, create("carts", "")), Outcome::Done);
    put(&mut cluster, 1, "carts", "k", "a");
    cluster.run(Duration::from_secs(1));
    for node in 1..=3 {
        declare(&mut cluster, node, "carts");
        assert_eq!(get(&mut cluster, node, "carts", "k"), ["k=a"], "{node}");
        put(&mut cluster, node, "carts", &format!("k{node}"), "b");
        cluster.run(Duration::from_secs(1));
        for other in 1..=3 {
            let key = format!("k{node}");
            assert_eq!(get(&mut cluster, other, "carts", &key), [format!("{key}=b")], "{other}");
        }
    }
    assert_eq!(cluster.at_once(1, dropped("carts")), unmade(Unmade::Declared));
    assert!(get(&mut cluster, 2, "carts", "old").is_empty());
}

/// M-03: what is declared after it was dropped has nothing of what was dropped, also where somebody
/// was away meanwhile and is told so late.
#[test]
fn a_table_declared_after_it_was_dropped_is_a_new_one() {
    let mut cluster = Cluster::new(3);
    cluster.at_once(1, create("carts", ""));
    put(&mut cluster, 1, "carts", "k", "old");
    cluster.run(Duration::from_secs(1));
    isolate(&mut cluster, 3);
    put(&mut cluster, 3, "carts", "j", "away");
    assert_eq!(cluster.at_once(1, dropped("carts")), Outcome::Done);
    cluster.run(Duration::from_secs(1));
    for node in 1..=3 {
        declare(&mut cluster, node, "carts");
        put(&mut cluster, node, "carts", &format!("k{node}"), "new");
    }
    heal(&mut cluster);
    put(&mut cluster, 3, "carts", "k4", "new");
    cluster.run(Duration::from_secs(2));
    for _ in 0..2 {
        for node in 1..=3 {
            assert!(get(&mut cluster, node, "carts", "k").is_empty(), "{node}");
            assert!(get(&mut cluster, node, "carts", "j").is_empty(), "{node}");
            for key in ["k1", "k2", "k4"] {
                assert_eq!(get(&mut cluster, node, "carts", key), [format!("{key}=new")], "{node}");
            }
        }
        for node in 1..=3 {
            cluster.restart(node);
        }
        cluster.run(Duration::from_secs(2));
    }
}

/// What is declared is not dropped by a node that lacks it in its configuration: that one has it
/// again as soon as it hears of it.
#[test]
fn a_declared_table_is_dropped_by_nobody() {
    let mut cluster = Cluster::new(3);
    for node in 1..=2 {
        declare(&mut cluster, node, "carts");
    }
    put(&mut cluster, 1, "carts", "k", "a");
    assert_eq!(cluster.at_once(3, create("carts", "")), Outcome::Done);
    cluster.run(Duration::from_secs(1));
    assert_eq!(get(&mut cluster, 3, "carts", "k"), ["k=a"]);
    assert_eq!(cluster.at_once(3, dropped("carts")), Outcome::Done);
    cluster.run(Duration::from_secs(2));
    for node in 1..=3 {
        cluster.restart(node);
    }
    cluster.run(Duration::from_secs(2));
    for node in 1..=3 {
        assert_eq!(get(&mut cluster, node, "carts", "k"), ["k=a"], "{node}");
    }
}

/// M-03: nobody who asks for what is no more brings a node down, nor does one that drops it amid a
/// merge.
#[test]
fn what_is_asked_of_a_dropped_table_is_refused() {
    let mut cluster = Cluster::new(3);
    cluster.at_once(1, create("carts", "on@1.2"));
    cluster.run(Duration::from_secs(1));
    let (ask, table) = (Merged::Get(Key::from("k")), id(&cluster, 3, "carts").expect("heard"));
    // Passed on, and never answered.
    cluster.rule(|flight| {
        let asks = matches!(flight.message.body, Body::Remote(_));
        if asks { support::Fate::Lose } else { support::Fate::Deliver }
    });
    let command = Command::Merged { table, command: ask };
    let asked = cluster.ask_with(3, OnNoQuorum::Retry, Duration::from_secs(60), command.clone());
    cluster.run(ms(100));
    assert_eq!(cluster.at_once(2, dropped("carts")), Outcome::Done);
    let refused = Outcome::Refused(Refusal::NoSuchTable(table));
    assert_eq!(cluster.answer(asked), refused);
    assert_eq!(cluster.at_once(3, command), refused);
    cluster.no_rule();

    // A long difference is on its way when the table goes.
    cluster.at_once(1, create("long", ""));
    cluster.run(Duration::from_secs(1));
    isolate(&mut cluster, 1);
    let value = "x".repeat(100_000);
    for number in 0..20 {
        put(&mut cluster, 1, "long", &format!("k{number}"), &value);
    }
    cluster.cut.clear();
    let mut chunks = 0;
    while chunks == 0 {
        cluster.run(ms(1));
        chunks = cluster.log.iter().filter(|line| line.contains("Chunk")).count();
    }
    assert_eq!(cluster.at_once(2, dropped("long")), Outcome::Done);
    cluster.run(Duration::from_secs(2));
    for node in 1..=3 {
        assert_eq!(id(&cluster, node, "long"), None, "{node}");
    }
}

/// L-05: copies are where they were asked for; one more node keeps one when told, as often as it is
/// told, and has what was written before. Two told on two sides of a split both do.
#[test]
fn a_replica_is_added_while_nodes_run() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.at_once(1, create("carts", "on@1")), Outcome::Done);
    put(&mut cluster, 1, "carts", "k", "a");
    cluster.run(Duration::from_secs(1));
    let keeps = |cluster: &Cluster, node| {
        let table = id(cluster, node, "carts").expect("heard");
        cluster.node(node).merged(table).is_some()
    };
    assert!(keeps(&cluster, 1) && !keeps(&cluster, 2) && !keeps(&cluster, 3));
    assert_eq!(get(&mut cluster, 3, "carts", "k"), ["k=a"], "asked elsewhere");
    isolate(&mut cluster, 3);
    for _ in 0..2 {
        assert_eq!(cluster.at_once(2, add_replica("carts", 2)), Outcome::Done);
        assert_eq!(cluster.at_once(3, add_replica("carts", 3)), Outcome::Done);
    }
    assert!(keeps(&cluster, 2) && keeps(&cluster, 3));
    put(&mut cluster, 3, "carts", "j", "b");
    heal(&mut cluster);
    for node in 1..=3 {
        assert!(keeps(&cluster, node), "{node}");
        assert_eq!(get(&mut cluster, node, "carts", "k"), ["k=a"], "{node}");
        assert_eq!(get(&mut cluster, node, "carts", "j"), ["j=b"], "{node}");
        let info = info(&mut cluster, node, "carts");
        assert!(info.settled && info.peers.len() == 2, "{node}: {:?}", info.peers);
    }
    let catalogue = info(&mut cluster, 2, CATALOGUE);
    assert_eq!(catalogue.conflicts, 0, "what comes to one is written as one");
    let strange = cluster.at_once(1, add_replica("carts", 9));
    assert!(matches!(strange, Outcome::Refused(Refusal::Unmade(Unmade::Impossible(_)))));
    assert_eq!(cluster.at_once(1, add_replica("none", 2)), unmade(Unmade::NoSuchTable));
    assert_eq!(cluster.at_once(1, add_replica("default", 2)), unmade(Unmade::NoSuchTable));
}

/// L-40: one in memory is on the list, which is on disk, and is had from the others.
#[test]
fn a_table_in_memory_is_remembered_by_name() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.at_once(1, create("carts", "memory")), Outcome::Done);
    put(&mut cluster, 1, "carts", "k", "a");
    cluster.run(Duration::from_secs(1));
    cluster.restart(1);
    assert_eq!(info(&mut cluster, 1, "carts").durability, Durability::Memory);
    assert!(get(&mut cluster, 1, "carts", "k").is_empty());
    cluster.run(Duration::from_secs(1));
    assert_eq!(get(&mut cluster, 1, "carts", "k"), ["k=a"]);
}

/// L-22, M-28: a declared table is changed in the configuration; the list is not written by hand;
/// names and descriptions that cannot be are refused.
#[test]
fn what_cannot_be_made_is_refused() {
    let mut cluster = Cluster::with(3, |config| {
        config.tables.push(TableConfig::merged("fixed", words("on@1.2")));
    });
    assert_eq!(cluster.at_once(1, create("fixed", "on@1")), Outcome::Done, "it is there");
    assert_eq!(cluster.at_once(1, add_replica("fixed", 3)), unmade(Unmade::Declared));
    assert_eq!(cluster.at_once(1, dropped("fixed")), unmade(Unmade::Declared));
    for name in ["", "$tables", "a b", &"x".repeat(65)] {
        assert_eq!(cluster.at_once(1, create(name, "")), unmade(Unmade::Name), "{name}");
    }
    for what in ["on@9", "retention@1", "bag+last-version@0:4", "last-version@0:0"] {
        let outcome = cluster.at_once(1, create("a", what));
        assert!(matches!(outcome, Outcome::Refused(Refusal::Unmade(Unmade::Impossible(_)))));
    }
    assert_eq!(cluster.at_once(1, create("a", "")), Outcome::Done);
    let write = Merged::write(Mutation::Put(Key::from("b"), Value::from("0:bag")));
    let catalogue = id(&cluster, 1, CATALOGUE).expect("begun");
    let by_hand = of(&cluster, 1, CATALOGUE, write);
    assert_eq!(cluster.at_once(1, by_hand), Outcome::Refused(Refusal::Discipline(catalogue)));
    assert_eq!(cluster.call_as(1, 7, 1, Sent::Again, dropped("b")), Outcome::Unknown);
    assert_eq!(get(&mut cluster, 1, CATALOGUE, "a"), ["a=0:set"], "it can be read");
    let schema = cluster.node(1).config().tables[usize::from(catalogue.0) + 1].schema().cloned();
    let expected = Schema { kind: Kind::Set, strategy: Strategy::Siblings, ..Schema::default() };
    assert_eq!(schema, Some(Schema { replicas: Replicas::All, ..expected }));
}

/// As many tables may be made as are allowed and no more, counting those that are there; what is
/// refused leaves nothing behind.
#[test]
fn so_many_tables_may_be_made() {
    let mut cluster = Cluster::new(1);
    for number in 0..1_024 {
        let outcome = cluster.at_once(1, create(&format!("t{number}"), "memory"));
        assert_eq!(outcome, Outcome::Done, "{number}");
    }
    assert_eq!(cluster.at_once(1, create("more", "memory")), unmade(Unmade::TooMany));
    assert_eq!(id(&cluster, 1, "more"), None);
    assert_eq!(cluster.at_once(1, create("t7", "memory")), Outcome::Done, "it is there");
    assert_eq!(cluster.at_once(1, dropped("t7")), Outcome::Done);
    assert_eq!(cluster.at_once(1, create("more", "memory")), Outcome::Done);
    assert_eq!(cluster.at_once(1, create("t7", "memory")), unmade(Unmade::TooMany));
}

/// Has the list of a node that is down name so many tables that were dropped.
fn list_dropped(cluster: &mut Cluster, node: u16, count: usize) {
    let list = TableName::of(CATALOGUE);
    let records = &mut cluster.machine(node).durable;
    let mut journal = None;
    for record in records.iter() {
        if let Record::Begun { table, actor, agreement } = record
            && *table == list
        {
            journal = Some(Journal::new(agreement.clone(), *actor));
        }
        if let Record::Changed { table, by, change, last } = record
            && *table == list
        {
            journal.as_mut().expect("begun").add(*by, change.clone(), *last);
        }
    }
    let name = |number: usize| Key::from(format!("t{number}").as_str());
    let drops = (1..=count).map(|number| Mutation::Put(name(number), "0:dropped".into()));
    let drops: Vec<Mutation> = drops.collect();
    let change = journal.expect("begun").table().write(&drops, Writer::default()).expect("it fits");
    records.push(Record::Changed { table: list, by: Incarnation(1), change, last: true });
}

/// The names of dropped tables are remembered, up to a bound: then only they can be used.
#[test]
fn so_many_names_may_be_used() {
    let mut cluster = Cluster::new(1);
    assert_eq!(cluster.at_once(1, create("first", "")), Outcome::Done);
    cluster.crash(1);
    list_dropped(&mut cluster, 1, 16_383);
    cluster.start(1);
    assert_eq!(cluster.at_once(1, create("another", "")), unmade(Unmade::TooMany));
    assert_eq!(cluster.at_once(1, create("t5", "")), Outcome::Done);
    assert_eq!(get(&mut cluster, 1, CATALOGUE, "t5"), ["t5=1:set"]);
}

/// A node that stops when it has just learnt of a long list has all of it when it starts again.
#[test]
fn a_long_list_is_read_whole_at_the_start() {
    let mut cluster = Cluster::new(3);
    cluster.crash(2);
    assert_eq!(cluster.at_once(1, create("zz", "")), Outcome::Done);
    cluster.crash(1);
    list_dropped(&mut cluster, 1, 6_000);
    cluster.start(1);
    cluster.start(2);
    cluster.run(Duration::from_secs(2));
    assert!(id(&cluster, 2, "zz").is_some(), "it has heard of it");
    cluster.crash(2);
    let list = TableName::of(CATALOGUE);
    let records = &mut cluster.machine(2).durable;
    let is_stroke = |record: &Record| {
        matches!(record, Record::Changed { table, change, .. }
            if *table == list && matches!(change.role, Role::Stroke { count, .. } if count > 4_096))
    };
    let stroke = records.iter().position(is_stroke).expect("it came in chunks");
    records.truncate(stroke + 1);
    cluster.crash(1);
    cluster.start(2);
    assert!(id(&cluster, 2, "zz").is_some(), "what counts is read");
    assert_eq!(get(&mut cluster, 2, CATALOGUE, "t6000"), ["t6000=0:dropped"]);
}
