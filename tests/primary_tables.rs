//! Primary tables made and dropped while nodes run: agreed upon, so that two nodes never mean two
//! tables by one name; durable; and known to whoever is asked for them.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{Cluster, NO_QUORUM};
use synod::merged::{self, TableCommand as Merged, Unmade};
use synod::primary::{
    Answer, Call, Command as Ask, ReadLevel, Replica, Role, Schema, TableCommand,
};
use synod::{
    Command, Key, NodeId, OnNoQuorum, Outcome, Record, Refusal, Sent, TableConfig, TableId, Value,
};

fn create(name: &str, words: &str) -> Command {
    let schema = Schema::default().with_words(words).expect(words);
    Command::PrimaryTable(TableCommand::Create { name: name.into(), schema })
}

fn dropped(name: &str) -> Command {
    Command::Table(Merged::Drop { name: name.into() })
}

fn learn() -> Command {
    Command::PrimaryTable(TableCommand::Learn)
}

fn merged(name: &str) -> Command {
    let schema = merged::Schema::default();
    Command::Table(Merged::Create { name: name.into(), schema })
}

fn unmade(why: Unmade) -> Outcome {
    Outcome::Refused(Refusal::Unmade(why))
}

fn exists(what: &str) -> Outcome {
    unmade(Unmade::Exists(what.into()))
}

/// Where a node has a table, by its own count.
fn id(cluster: &Cluster, node: u16, name: &str) -> Option<TableId> {
    cluster.node(node).config().table(name)
}

#[track_caller]
fn of(cluster: &Cluster, node: u16, name: &str, call: Call) -> Command {
    let table = id(cluster, node, name).expect("the node has heard of it");
    Command::Primary { table, call }
}

fn followed(command: Ask) -> Call {
    Call::Ask { command, seen: 0, op: None, follow: true }
}

fn put(cluster: &mut Cluster, node: u16, name: &str, key: &str, value: &str) -> Outcome {
    let put = Ask::Put(Key::from(key), Value::from(value));
    let command = of(cluster, node, name, followed(put));
    cluster.call(node, command)
}

#[track_caller]
fn must_put(cluster: &mut Cluster, node: u16, name: &str, key: &str, value: &str) {
    let outcome = put(cluster, node, name, key, value);
    let is_done = matches!(outcome, Outcome::Primary(Answer::Committed { .. }));
    assert!(is_done, "{outcome}");
}

#[track_caller]
fn get(cluster: &mut Cluster, node: u16, name: &str, key: &str) -> Option<String> {
    let get = Ask::Get(Key::from(key), ReadLevel::Linearizable);
    let command = of(cluster, node, name, followed(get));
    let outcome = cluster.call(node, command);
    let Outcome::Primary(Answer::Found { value, .. }) = outcome else { panic!("{outcome}") };
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn role(cluster: &Cluster, node: u16, name: &str) -> Option<Role> {
    let table = id(cluster, node, name)?;
    cluster.node(node).replica(table).map(Replica::role)
}

fn isolate(cluster: &mut Cluster, node: u16) {
    let others: Vec<u16> = (1..=3).filter(|other| *other != node).collect();
    cluster.split(&[node], &others);
    cluster.run(Duration::from_secs(3));
}

fn heal(cluster: &mut Cluster) {
    cluster.cut.clear();
    cluster.run(Duration::from_secs(3));
}

fn restart_all(cluster: &mut Cluster) {
    (1..=3).for_each(|node| cluster.crash(node));
    (1..=3).for_each(|node| cluster.start(node));
    cluster.run(Duration::from_secs(3));
}

/// It is there when that is answered, on every node soon, alike; asked for again it is the same
/// one, and what is another is refused and told what there is.
#[test]
fn a_table_is_made_once_and_is_the_same_everywhere() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.call(1, create("orders", "quorum")), Outcome::Done);
    must_put(&mut cluster, 1, "orders", "k", "a");
    let before = cluster.node(1).tables_revision();
    cluster.run(Duration::from_secs(2));
    for node in 1..=3 {
        assert_eq!(get(&mut cluster, node, "orders", "k").as_deref(), Some("a"), "{node}");
        assert_eq!(cluster.call(node, create("orders", "quorum")), Outcome::Done, "{node}");
        assert_eq!(cluster.call(node, create("orders", "")), exists("primary+quorum"), "{node}");
    }
    assert_eq!(cluster.node(1).tables_revision(), before, "there is one");
    let leads = |node: &u16| role(&cluster, *node, "orders") == Some(Role::Primary);
    assert_eq!((1..=3).filter(leads).count(), 1);
    let table = id(&cluster, 1, "orders").expect("made");
    let config = &cluster.node(1).config().tables[usize::from(table.0)];
    assert!(config.made && config.primary().is_some(), "{config:?}");
}

/// Of two nodes that make a table of one name at once, as the same thing or as different ones, no
/// two make two.
#[test]
fn made_at_once_on_two_nodes_it_is_one_table() {
    let mut cluster = Cluster::new(3);
    let one = cluster.ask(1, create("same", "quorum"));
    let other = cluster.ask(2, create("same", "quorum"));
    cluster.run(Duration::from_secs(2));
    let told = |cluster: &Cluster, asked| cluster.replies[&asked].clone();
    assert_eq!((told(&cluster, one), told(&cluster, other)), (Outcome::Done, Outcome::Done));
    let one = cluster.ask(1, create("other", "quorum"));
    let other = cluster.ask(2, create("other", "all"));
    cluster.run(Duration::from_secs(2));
    let both = [told(&cluster, one), told(&cluster, other)];
    let expected = [[Outcome::Done, exists("primary+quorum")], [exists("primary"), Outcome::Done]];
    assert!(expected.contains(&both), "{both:?}");
    // Of two tables made at once neither is lost.
    let one = cluster.ask(1, create("left", ""));
    let other = cluster.ask(2, create("right", ""));
    cluster.run(Duration::from_secs(2));
    assert_eq!((told(&cluster, one), told(&cluster, other)), (Outcome::Done, Outcome::Done));
    for name in ["same", "other", "left", "right"] {
        must_put(&mut cluster, 1, name, "k", "a");
        assert_eq!(get(&mut cluster, 3, name, "k").as_deref(), Some("a"));
    }
}

/// Where there is no quorum nothing is made, and that is said, in time; and nothing that a minority
/// was asked for comes up later unless it was `Unknown`.
#[test]
fn a_minority_makes_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.run(Duration::from_secs(1));
    isolate(&mut cluster, 1);
    let refused = cluster.ask_with(1, OnNoQuorum::Return, Duration::from_secs(1), create("a", ""));
    assert_eq!(cluster.replies[&refused], NO_QUORUM);
    let waits = cluster.ask(1, create("a", "quorum"));
    cluster.run(Duration::from_secs(15));
    assert_eq!(cluster.replies[&waits], NO_QUORUM, "it was never proposed");
    assert_eq!(cluster.call(2, create("a", "all")), Outcome::Done);
    must_put(&mut cluster, 2, "a", "k", "majority");
    assert_eq!(id(&cluster, 1, "a"), None);
    heal(&mut cluster);
    assert_eq!(get(&mut cluster, 1, "a", "k").as_deref(), Some("majority"));
    assert_eq!(cluster.call(1, create("a", "quorum")), exists("primary"));
}

/// A node that has not heard of a table finds out that there is one before it says that there is
/// none.
#[test]
fn a_node_that_has_not_heard_finds_out() {
    let mut cluster = Cluster::new(3);
    cluster.run(Duration::from_secs(1));
    // Nothing that tells it by itself.
    cluster.rule(|flight| {
        let tells = flight.is_heartbeat() || flight.is("Commit");
        if tells && flight.to == NodeId(3) { support::Fate::Lose } else { support::Fate::Deliver }
    });
    assert_eq!(cluster.call(1, create("orders", "")), Outcome::Done);
    assert_eq!(id(&cluster, 3, "orders"), None, "it has not heard");
    assert_eq!(cluster.call(3, learn()), Outcome::Done);
    assert!(id(&cluster, 3, "orders").is_some());
}

/// A node that was away, for however long, hears of what was made and dropped.
#[test]
fn a_node_that_was_away_hears_of_it() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.call(1, create("old", "")), Outcome::Done);
    cluster.run(Duration::from_secs(2));
    must_put(&mut cluster, 1, "old", "k", "a");
    cluster.crash(3);
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.call(1, dropped("old")), Outcome::Done);
    assert_eq!(cluster.call(1, create("new", "")), Outcome::Done);
    must_put(&mut cluster, 2, "new", "k", "b");
    cluster.start(3);
    cluster.run(Duration::from_secs(4));
    assert_eq!(id(&cluster, 3, "old"), None);
    assert_eq!(get(&mut cluster, 3, "new", "k").as_deref(), Some("b"));
    assert_eq!(role(&cluster, 3, "new"), Some(Role::Secondary));
    // What it had of the other is gone from its disk as well.
    let void = |record: &&Record| {
        matches!(record, Record::Replica { record: synod::primary::Record::Void, .. })
    };
    assert_eq!(cluster.machines[&NodeId(3)].durable.iter().filter(void).count(), 1);
}

/// It is not in any configuration, and is there with all that it held after all have stopped.
#[test]
fn what_was_made_is_there_after_all_have_stopped() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.call(2, create("orders", "quorum")), Outcome::Done);
    must_put(&mut cluster, 1, "orders", "k", "a");
    restart_all(&mut cluster);
    for node in 1..=3 {
        assert_eq!(get(&mut cluster, node, "orders", "k").as_deref(), Some("a"), "{node}");
    }
    must_put(&mut cluster, 3, "orders", "k", "b");
    assert_eq!(cluster.call(1, create("orders", "")), exists("primary+quorum"));
}

/// What is dropped does not come back; one made again of its name is another, which has nothing of
/// the old, whoever was away meanwhile, and after restarts as well.
#[test]
fn a_table_made_again_has_nothing_of_the_old() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.call(1, create("orders", "")), Outcome::Done);
    must_put(&mut cluster, 1, "orders", "k", "old");
    cluster.run(Duration::from_secs(2));
    let old = id(&cluster, 2, "orders").expect("heard");
    cluster.crash(3);
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.call(2, dropped("orders")), Outcome::Done);
    assert_eq!(cluster.call(2, dropped("orders")), unmade(Unmade::NoSuchTable));
    let again = cluster.ask_as(2, 7, 7, Sent::Again, dropped("orders"));
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.replies[&again], Outcome::Unknown, "it may have been this very request");
    assert_eq!(cluster.call(1, create("orders", "quorum")), Outcome::Done);
    assert_eq!(get(&mut cluster, 1, "orders", "k"), None);
    let get_old = Command::Primary { table: old, call: Call::ask(Ask::Resolve) };
    assert_eq!(cluster.at_once(2, get_old), Outcome::Refused(Refusal::NoSuchTable(old)));
    cluster.start(3);
    cluster.run(Duration::from_secs(4));
    assert_eq!(get(&mut cluster, 3, "orders", "k"), None);
    must_put(&mut cluster, 3, "orders", "k", "new");
    restart_all(&mut cluster);
    for node in 1..=3 {
        assert_eq!(get(&mut cluster, node, "orders", "k").as_deref(), Some("new"), "{node}");
    }
}

/// Whoever waits for something of a table that is dropped is told, once.
#[test]
fn whoever_waits_for_a_dropped_table_is_told() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.call(1, create("orders", "")), Outcome::Done);
    cluster.run(Duration::from_secs(2));
    // Nothing of it is replicated any more, so nothing is committed.
    cluster.rule(|flight| {
        let is_it = matches!(flight.message.body, synod::Body::Primary(_));
        if is_it { support::Fate::Lose } else { support::Fate::Deliver }
    });
    let mut asked = Vec::new();
    for node in 1..=3 {
        let write = Ask::Put(Key::from("k"), Value::from("a"));
        let command = of(&cluster, node, "orders", followed(write));
        asked.push(cluster.ask(node, command));
        let read = Ask::Get(Key::from("k"), ReadLevel::Linearizable);
        let command = of(&cluster, node, "orders", followed(read));
        asked.push(cluster.ask(node, command));
    }
    assert_eq!(cluster.call(1, dropped("orders")), Outcome::Done);
    cluster.run(Duration::from_secs(15));
    for asked in asked {
        let outcome = &cluster.replies[&asked];
        let is_done = matches!(outcome, Outcome::Primary(Answer::Committed { .. }));
        assert!(!is_done, "{outcome}");
    }
}

/// Names are shared by tables of all kinds.
#[test]
fn a_name_is_of_one_table() {
    let mut cluster = Cluster::with(3, |config| {
        config.tables.push(TableConfig::primary_table("fixed", Schema::default()));
    });
    assert_eq!(cluster.call(1, create("default", "")), unmade(Unmade::Declared));
    assert_eq!(cluster.call(1, create("fixed", "")), unmade(Unmade::Declared));
    assert_eq!(cluster.call(1, dropped("fixed")), unmade(Unmade::Declared));
    assert_eq!(cluster.call(1, create("", "")), unmade(Unmade::Name));
    assert_eq!(cluster.call(1, create("a b", "")), unmade(Unmade::Name));
    assert_eq!(cluster.call(1, merged("carts")), Outcome::Done);
    assert_eq!(cluster.call(1, create("carts", "")), exists("a merged table"));
    assert_eq!(cluster.call(1, create("orders", "")), Outcome::Done);
    assert_eq!(cluster.call(1, merged("orders")), exists("a primary table"));
    let strange = cluster.call(1, create("more", "on@9"));
    assert!(matches!(strange, Outcome::Refused(Refusal::Unmade(Unmade::Impossible(_)))));
    let strange = cluster.call(1, create("more", "answer@0"));
    assert!(matches!(strange, Outcome::Refused(Refusal::Unmade(Unmade::Impossible(_)))));
}

/// One made merged in a minority, and primary by the others, is both; on each node the name means
/// one of them, and what both hold is kept until one is dropped.
#[test]
fn a_name_that_is_of_two_tables_loses_neither() {
    let mut cluster = Cluster::new(3);
    cluster.run(Duration::from_secs(1));
    isolate(&mut cluster, 1);
    assert_eq!(cluster.call(1, merged("carts")), Outcome::Done);
    assert_eq!(cluster.call(2, create("carts", "")), Outcome::Done);
    must_put(&mut cluster, 2, "carts", "k", "a");
    heal(&mut cluster);
    assert!(role(&cluster, 1, "carts").is_none(), "it means the merged one");
    assert_eq!(get(&mut cluster, 3, "carts", "k").as_deref(), Some("a"));
    let leader = (2..=3).find(|node| role(&cluster, *node, "carts") == Some(Role::Primary));
    let leader = leader.expect("one leads");
    let command = of(&cluster, leader, "carts", Call::Info);
    let Outcome::Primary(Answer::Info(info)) = cluster.at_once(leader, command) else {
        panic!("no info")
    };
    assert_eq!(
        info.roster.expect("a roster").in_sync.len(),
        3,
        "its replica is there all the same"
    );
    assert_eq!(cluster.call(1, dropped("carts")), Outcome::Done);
    assert_eq!(get(&mut cluster, 1, "carts", "k").as_deref(), Some("a"));
}

/// Who left stays away when it starts again, until it is told to join.
#[test]
fn who_left_stays_away_after_a_restart() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.call(1, create("orders", "")), Outcome::Done);
    cluster.run(Duration::from_secs(2));
    let leader = (1..=3).find(|node| role(&cluster, *node, "orders") == Some(Role::Primary));
    let away = leader.expect("one leads") % 3 + 1;
    let command = of(&cluster, away, "orders", Call::Join(false));
    assert_eq!(cluster.call(away, command), Outcome::Primary(Answer::Done));
    cluster.run(Duration::from_secs(2));
    assert_eq!(role(&cluster, away, "orders"), Some(Role::Outside));
    cluster.crash(away);
    cluster.start(away);
    cluster.run(Duration::from_secs(5));
    assert_eq!(role(&cluster, away, "orders"), Some(Role::Outside));
    restart_all(&mut cluster);
    assert_eq!(role(&cluster, away, "orders"), Some(Role::Outside));
    let command = of(&cluster, away, "orders", Call::Join(true));
    assert_eq!(cluster.call(away, command), Outcome::Primary(Answer::Done));
    cluster.run(Duration::from_secs(3));
    assert_eq!(role(&cluster, away, "orders"), Some(Role::Secondary));
}

#[track_caller]
fn reply(cluster: &Cluster, asked: (synod::ClientId, synod::RequestId)) -> Outcome {
    cluster.answered(asked).expect("answered").clone()
}

fn is_about_list(flight: &support::Flight) -> bool {
    flight.message.to_string().contains("$tables")
}

fn voids(cluster: &Cluster, node: u16) -> usize {
    let void = |record: &&Record| {
        matches!(record, Record::Replica { record: synod::primary::Record::Void, .. })
    };
    cluster.machines[&NodeId(node)].durable.iter().filter(void).count()
}

/// A node that goes on from its disk hears late of a list that is older than one of its tables. It
/// has to read the list itself before it takes anything to be gone.
#[test]
fn an_older_list_that_comes_late_takes_nothing_away() {
    let mut cluster = Cluster::new(3);
    cluster.run(Duration::from_secs(1));
    cluster.rule(|flight| {
        let late = flight.is("Commit") && flight.to == NodeId(3) && is_about_list(flight);
        if late { support::Fate::Park } else { support::Fate::Deliver }
    });
    assert_eq!(cluster.call(1, create("first", "")), Outcome::Done);
    cluster.run(Duration::from_secs(1));
    assert!(!cluster.parked.is_empty());
    cluster.rule(|flight| {
        let is_told = flight.is("Commit") || flight.is("Accept");
        let misses = is_told && flight.to == NodeId(3) && is_about_list(flight);
        if misses { support::Fate::Lose } else { support::Fate::Deliver }
    });
    assert_eq!(cluster.call(1, create("orders", "")), Outcome::Done);
    cluster.run(Duration::from_secs(3));
    must_put(&mut cluster, 1, "orders", "k", "a");
    assert_eq!(get(&mut cluster, 3, "orders", "k").as_deref(), Some("a"), "it has read of it");
    cluster.crash(3);
    // Its own reading takes time.
    cluster.rule(|flight| {
        let reads = (flight.is("Read") || flight.is("ReadReply")) && is_about_list(flight);
        if reads { support::Fate::Lose } else { support::Fate::Deliver }
    });
    cluster.start(3);
    cluster.run(Duration::from_secs(1));
    cluster.unpark();
    cluster.run(Duration::from_secs(1));
    assert_eq!((id(&cluster, 3, "orders"), voids(&cluster, 3)), (None, 0));
    cluster.no_rule();
    cluster.run(Duration::from_secs(3));
    assert_eq!(voids(&cluster, 3), 0);
    let dirty = Ask::Get(Key::from("k"), ReadLevel::Dirty);
    let command = of(&cluster, 3, "orders", followed(dirty));
    let Outcome::Primary(Answer::Found { value, .. }) = cluster.call(3, command) else { panic!() };
    assert_eq!(value, Some(Value::from("a")));
}

/// Once everybody knows the list nobody asks for it, whatever was accepted on the way.
#[test]
fn nobody_reads_the_list_for_ever() {
    for lost in ["Commit", "Accepted", "Accept"] {
        let mut cluster = Cluster::new(3);
        cluster.run(Duration::from_secs(1));
        assert_eq!(cluster.call(3, create("before", "")), Outcome::Done);
        let mut count = 0;
        cluster.rule(move |flight| {
            let is_it = flight.is(lost) && is_about_list(flight);
            count += usize::from(is_it);
            if is_it && count % 2 == 1 { support::Fate::Lose } else { support::Fate::Deliver }
        });
        let one = cluster.ask(1, create("same", ""));
        let other = cluster.ask(2, create("same", ""));
        cluster.run(Duration::from_secs(8));
        assert_eq!((reply(&cluster, one), reply(&cluster, other)), (Outcome::Done, Outcome::Done));
        cluster.no_rule();
        cluster.run(Duration::from_secs(2));
        let before = cluster.log.len();
        cluster.run(Duration::from_secs(1));
        let asked = cluster.log[before..].iter().filter(|line| line.contains("$tables"));
        assert_eq!(asked.collect::<Vec<_>>(), Vec::<&String>::new(), "{lost}");
    }
}

/// A list in words of a later version: whoever wants something of it is told that, at once, and
/// nothing is written over it.
#[test]
fn a_list_that_cannot_be_read_is_left_alone() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.call(1, create("orders", "")), Outcome::Done);
    cluster.run(Duration::from_secs(2));
    cluster.rule(|flight| {
        let is_it = flight.is("Accept") && is_about_list(flight);
        if is_it { support::Fate::Park } else { support::Fate::Deliver }
    });
    cluster.ask(1, create("more", ""));
    cluster.deliver_all();
    let strange = Value::from("R2 of another make");
    for flight in &mut cluster.parked {
        let synod::Body::Consensus(synod::consensus::Message::Accept { cell, .. }) =
            &mut flight.message.body
        else {
            panic!("parked")
        };
        let synod::consensus::State::Live(live) = &mut Arc::make_mut(cell).state else {
            panic!("live")
        };
        live.content = synod::consensus::Content::Value(strange.clone());
    }
    cluster.no_rule();
    cluster.unpark();
    cluster.deliver_all();
    cluster.crash(1);
    for _ in 0..2 {
        for command in [create("other", ""), dropped("orders"), dropped("none"), learn()] {
            assert_eq!(cluster.call(2, command), unmade(Unmade::Illegible));
        }
        cluster.restart(3);
        cluster.run(Duration::from_secs(5));
    }
    assert!(id(&cluster, 2, "orders").is_some(), "what stands goes on");
    assert_eq!(voids(&cluster, 3), 0);
}

/// What was made and dropped is not made again for the one who waited all the time.
#[test]
fn a_table_is_not_made_twice_for_one_request() {
    let mut cluster = Cluster::new(3);
    cluster.run(Duration::from_secs(1));
    cluster.rule(|flight| {
        let is_lost = flight.to == NodeId(1) && flight.is("Accepted");
        if is_lost { support::Fate::Lose } else { support::Fate::Deliver }
    });
    let asked = cluster.ask_with(1, OnNoQuorum::Retry, Duration::from_secs(60), create("t", ""));
    cluster.deliver_all();
    isolate(&mut cluster, 1);
    cluster.no_rule();
    assert_eq!(cluster.call(2, learn()), Outcome::Done);
    assert!(id(&cluster, 2, "t").is_some(), "it has taken effect");
    assert_eq!(cluster.call(2, dropped("t")), Outcome::Done);
    for number in 0..3 {
        assert_eq!(cluster.call(2, create(&format!("t{number}"), "")), Outcome::Done);
    }
    heal(&mut cluster);
    cluster.run(Duration::from_secs(5));
    assert_eq!(reply(&cluster, asked), Outcome::Unknown);
    assert_eq!((id(&cluster, 1, "t"), id(&cluster, 2, "t")), (None, None));
}

/// Who is asked again to drop a table may mean one that is gone, and not the one that stands.
#[test]
fn what_is_dropped_again_is_not_another() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.call(1, create("t", "")), Outcome::Done);
    let again = cluster.ask_as(1, 7, 7, Sent::Again, dropped("t"));
    cluster.run(Duration::from_secs(1));
    assert_eq!(reply(&cluster, again), Outcome::Unknown);
    assert!(id(&cluster, 1, "t").is_some());
}

/// A name is not of two primaries: a declaration means the table that was made. A node that has
/// never had that serves neither, and says so. When it is dropped, the declared one is there.
#[test]
fn what_was_made_is_not_declared_as_well() {
    for had_it in [true, false] {
        let mut cluster = Cluster::new(3);
        cluster.run(Duration::from_secs(1));
        if !had_it {
            cluster.crash(3);
            cluster.run(Duration::from_secs(5));
        }
        assert_eq!(cluster.call(1, create("orders", "")), Outcome::Done);
        must_put(&mut cluster, 1, "orders", "k", "a");
        if had_it {
            cluster.run(Duration::from_secs(2));
            cluster.crash(3);
        }
        let declared = TableConfig::primary_table("orders", Schema::default());
        cluster.machine(3).config.tables.push(declared);
        cluster.start(3);
        cluster.run(Duration::from_secs(5));
        let dirty = followed(Ask::Get(Key::from("k"), ReadLevel::Dirty));
        let command = of(&cluster, 3, "orders", dirty);
        if had_it {
            assert_eq!(get(&mut cluster, 3, "orders", "k").as_deref(), Some("a"));
            assert_eq!(cluster.call(3, create("orders", "")), Outcome::Done);
        } else {
            assert_eq!(cluster.call(3, command.clone()), unmade(Unmade::DeclaredToo));
            assert_eq!(cluster.call(3, create("orders", "")), unmade(Unmade::Declared));
        }
        assert_eq!(get(&mut cluster, 1, "orders", "k").as_deref(), Some("a"));
        assert_eq!(cluster.call(3, dropped("orders")), Outcome::Done);
        cluster.run(Duration::from_secs(5));
        assert_eq!(id(&cluster, 1, "orders"), None);
        assert_eq!(get(&mut cluster, 3, "orders", "k"), None, "it is another");
        assert_eq!(cluster.call(3, dropped("orders")), unmade(Unmade::Declared));
    }
}

/// The primary table of a name goes, and the merged one of the same name is shown; before that, a
/// node that starts again means by the name what it meant.
#[test]
fn a_merged_table_is_shown_when_its_name_is_free() {
    let is_merged = |cluster: &Cluster, node: u16| {
        let table = id(cluster, node, "carts")?;
        Some(cluster.node(node).config().tables[usize::from(table.0)].schema().is_some())
    };
    let mut cluster = Cluster::new(3);
    cluster.run(Duration::from_secs(1));
    isolate(&mut cluster, 1);
    assert_eq!(cluster.call(1, merged("carts")), Outcome::Done);
    assert_eq!(cluster.call(2, create("carts", "")), Outcome::Done);
    must_put(&mut cluster, 2, "carts", "k", "a");
    heal(&mut cluster);
    cluster.crash(2);
    cluster.start(2);
    assert_eq!(is_merged(&cluster, 2), None, "it does not know yet");
    cluster.run(Duration::from_secs(3));
    assert_eq!((is_merged(&cluster, 1), is_merged(&cluster, 2)), (Some(true), Some(false)));
    assert_eq!(get(&mut cluster, 2, "carts", "k").as_deref(), Some("a"));
    assert_eq!(cluster.call(1, create("carts", "")), exists("a merged table"));
    assert_eq!(cluster.call(2, dropped("carts")), Outcome::Done);
    cluster.run(Duration::from_secs(2));
    for node in 1..=3 {
        assert_eq!(is_merged(&cluster, node), Some(true), "{node}");
    }
}
