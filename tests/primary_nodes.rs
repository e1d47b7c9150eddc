//! Primary tables as clients of nodes see them: one order, acknowledged when whoever counts has it
//! on disk, through the death of primaries, disks that are lost, and splits.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use support::{Cluster, cases, config, ms};
use synod::base::Replicas;
use synod::primary::{
    Acknowledge, Answer, Call, Command as Ask, Info, Place, ReadLevel, Refusal as No, Role, Schema,
};
use synod::storage::{Checkpoint, Found, Owner, Storage, Store};
use synod::{
    ClientId, Command, Config, ConfigError, Event, Impossible, Key, Node, NodeId, OnNoQuorum, OpId,
    Outcome, ReadLevel as Level, Readiness, Record, Refusal, RequestId, Sent, TableConfig, TableId,
    Ticket, Topic, Value,
};

/// Behind the default table of the other discipline.
const THINGS: TableId = TableId(1);

fn with(schema: Schema) -> impl Fn(&mut Config) {
    move |config| config.tables.push(TableConfig::primary_table("things", schema.clone()))
}

fn cluster(schema: Schema) -> Cluster {
    Cluster::with(3, with(schema))
}

fn of(call: Call) -> Command {
    Command::Primary { table: THINGS, call }
}

fn put(key: &str, value: &str) -> Ask {
    Ask::Put(Key::from(key), Value::from(value))
}

fn get(key: &str) -> Ask {
    Ask::Get(Key::from(key), ReadLevel::Committed)
}

fn here(command: Ask) -> Command {
    of(Call::ask(command))
}

fn followed(command: Ask) -> Command {
    of(Call::Ask { command, seen: 0, op: None, follow: true })
}

fn seen(command: Ask, seen: u64) -> Command {
    of(Call::Ask { command, seen, op: None, follow: false })
}

/// Where a write was committed.
#[track_caller]
fn place(outcome: &Outcome) -> Place {
    let Outcome::Primary(Answer::Committed { place, .. }) = outcome else {
        panic!("not committed: {outcome}")
    };
    *place
}

#[track_caller]
fn value(outcome: &Outcome) -> Option<String> {
    let Outcome::Primary(Answer::Found { value, .. }) = outcome else {
        panic!("no answer to a read: {outcome}")
    };
    value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

const fn refused(why: No) -> Outcome {
    Outcome::Refused(Refusal::Primary(why))
}

fn info(cluster: &mut Cluster, node: u16) -> Info {
    let outcome = cluster.at_once(node, of(Call::Info));
    let Outcome::Primary(Answer::Info(info)) = outcome else { panic!("no info: {outcome}") };
    info
}

fn role(cluster: &Cluster, node: u16) -> Option<Role> {
    let node = cluster.machines[&NodeId(node)].node.as_ref()?;
    node.replica(THINGS).map(synod::primary::Replica::role)
}

#[track_caller]
fn leader(cluster: &Cluster) -> u16 {
    let leads = |node: &u16| role(cluster, *node) == Some(Role::Primary);
    let leaders: Vec<u16> = (1..=3).filter(leads).collect();
    assert_eq!(leaders.len(), 1, "one primary: {leaders:?}");
    leaders[0]
}

fn others(leader: u16) -> [u16; 2] {
    let others: Vec<u16> = (1..=3).filter(|node| *node != leader).collect();
    [others[0], others[1]]
}

fn rows(cluster: &Cluster, node: u16) -> Vec<String> {
    let replica = cluster.node(node).replica(THINGS).expect("a replica");
    replica.rows().map(|(key, value)| format!("{key}={value}")).collect()
}

/// All are in sync, and equal.
#[track_caller]
fn equal(cluster: &mut Cluster) -> Vec<String> {
    let leader = leader(cluster);
    let info = info(cluster, leader);
    let roster = info.roster.expect("a roster");
    assert_eq!(roster.in_sync.len(), 3, "{roster}");
    let all: Vec<_> = (1..=3).map(|node| rows(cluster, node)).collect();
    assert!(all.iter().all(|rows| *rows == all[0]), "P-I10: {all:?}");
    all.into_iter().next().expect("three")
}

fn isolate(cluster: &mut Cluster, node: u16) {
    cluster.split(&[node], &others(node));
}

/// L-41: without being told to, one leads and the others follow, are in sync, and
/// whoever wants to know is told.
#[test]
fn one_leads_and_the_others_follow_by_themselves() {
    let mut cluster = cluster(Schema::default());
    let leader = leader(&cluster);
    for node in others(leader) {
        assert_eq!(role(&cluster, node), Some(Role::Secondary));
    }
    let info = info(&mut cluster, leader);
    assert_eq!((info.role, info.lags.len()), (Role::Primary, 2), "{info}");
    assert!(info.lags.iter().all(|lag| lag.in_sync && lag.behind == 0), "{info:?}");
    cluster.subscribe(leader, 50, Topic::Roles);
    let event = Event::Role {
        table: THINGS,
        role: Role::Primary,
        reign: info.roster.expect("a roster").reign,
        primary: Some(NodeId(leader)),
    };
    assert_eq!(cluster.told(50), [event], "as it is when one begins to listen");
}

/// writes and reads; a secondary reads, and refuses writes at once,
/// naming the primary.
#[test]
fn writes_go_to_the_primary_and_reads_anywhere() {
    let mut cluster = cluster(Schema::default());
    let leader = leader(&cluster);
    let [second, third] = others(leader);
    let first = place(&cluster.call(leader, here(put("a", "1"))));
    let outcome = cluster.call(leader, here(put("a", "2")));
    let Outcome::Primary(Answer::Committed { place: next, existed: true }) = outcome else {
        panic!("{outcome}")
    };
    assert!(next > first);
    let missing = cluster.call(leader, here(Ask::Remove("never".into())));
    assert!(matches!(missing, Outcome::Primary(Answer::Committed { existed: false, .. })));
    for node in [leader, second, third] {
        let read = cluster.call(node, seen(get("a"), next.index));
        assert_eq!(value(&read), Some("2".into()), "n{node} reads what was written");
        assert_eq!(value(&cluster.call(node, here(get("b")))), None);
    }
    let refusal = cluster.at_once(second, here(put("a", "3")));
    assert_eq!(refusal, refused(No::NotPrimary(Some(NodeId(leader)))));
    let scan = Ask::Scan { after: None, limit: 10 };
    let outcome = cluster.call(third, seen(scan, next.index));
    let Outcome::Primary(Answer::Rows { rows, more: false, .. }) = outcome else {
        panic!("{outcome}")
    };
    assert_eq!(rows, [(Key::from("a"), Value::from("2"))]);
}

/// a node that is asked to see to it passes a write on, and a read that only a primary
/// answers; one that keeps no copy passes on all reads.
#[test]
fn a_node_follows_the_primary_for_its_client() {
    let replicas = Replicas::Only(vec![NodeId(1), NodeId(2)]);
    let mut cluster = cluster(Schema { replicas, ..Schema::default() });
    assert_eq!(role(&cluster, 3), Some(Role::Outside));
    let done = place(&cluster.call(3, followed(put("a", "1"))));
    let linearizable = || Ask::Get("a".into(), ReadLevel::Linearizable);
    for node in 1..=3 {
        assert_eq!(value(&cluster.call(node, followed(linearizable()))), Some("1".into()));
    }
    assert_eq!(value(&cluster.call(3, followed(get("a")))), Some("1".into()));
    let not_here = cluster.at_once(3, here(get("a")));
    assert!(matches!(not_here, Outcome::Refused(Refusal::Primary(No::NotReplica(Some(_))))));
    // An operator has it join: then it has a copy as well.
    assert_eq!(cluster.at_once(3, of(Call::Join(true))), Outcome::Primary(Answer::Done));
    cluster.run(Duration::from_secs(1));
    assert_eq!(role(&cluster, 3), Some(Role::Secondary));
    assert_eq!(value(&cluster.call(3, seen(get("a"), done.index))), Some("1".into()));
}

/// what is not on every disk is not acknowledged, and that is told
/// once, after a second; what became of it can be asked.
#[test]
fn an_acknowledgement_waits_for_every_disk() {
    let mut cluster = cluster(Schema { patience: Duration::from_secs(9), ..Schema::default() });
    let leader = leader(&cluster);
    let [second, _] = others(leader);
    cluster.call(leader, here(put("a", "old")));
    cluster.machine(second).slow_disk = true;
    let id = OpId { client: ClientId::new(7), request: RequestId(1) };
    let write = Call::Ask { command: put("a", "new"), seen: 0, op: Some(id), follow: false };
    let asked = cluster.ask(leader, of(write));
    cluster.run(ms(980));
    assert_eq!(cluster.answered(asked), None, "not before a second");
    assert_eq!(value(&cluster.call(leader, here(get("a")))), Some("old".into()), "A-30");
    let dirty = Ask::Get("a".into(), ReadLevel::Dirty);
    assert_eq!(value(&cluster.call(leader, here(dirty))), Some("new".into()));
    cluster.run(ms(50));
    assert_eq!(cluster.answered(asked), Some(&Outcome::Unknown));
    cluster.machine(second).slow_disk = false;
    cluster.sync(second);
    let resolve = Call::Ask { command: Ask::Resolve, seen: 0, op: Some(id), follow: false };
    let found = place(&cluster.call(leader, of(resolve.clone())));
    assert_eq!(place(&cluster.call(leader, of(resolve))), found, "A-41: remembered");
    assert_eq!(value(&cluster.call(leader, here(get("a")))), Some("new".into()));
    // The other way round: what is resolved first is never done.
    let late = OpId { request: RequestId(2), ..id };
    let resolve = Call::Ask { command: Ask::Resolve, seen: 0, op: Some(late), follow: true };
    assert_eq!(cluster.call(second, of(resolve)), refused(No::Resolved));
    let write = Call::Ask { command: put("a", "late"), seen: 0, op: Some(late), follow: true };
    assert_eq!(cluster.call(second, of(write)), refused(No::Resolved));
}

/// a client that waits for less is answered by then.
#[test]
fn patience_is_kept_to() {
    let mut cluster = cluster(Schema::default());
    let leader = leader(&cluster);
    isolate(&mut cluster, leader);
    let write = here(put("a", "1"));
    let asked = cluster.ask_with(leader, OnNoQuorum::Return, ms(300), write);
    cluster.run(ms(320));
    assert_eq!(cluster.answered(asked), Some(&Outcome::Unknown));
    // Also one that is answered together with another.
    let id = OpId { client: ClientId::new(7), request: RequestId(1) };
    let as_one = |command| of(Call::Ask { command, seen: 0, op: Some(id), follow: false });
    let write = cluster.ask(leader, as_one(put("a", "2")));
    let resolve = cluster.ask_with(leader, OnNoQuorum::Return, ms(300), as_one(Ask::Resolve));
    cluster.run(ms(320));
    assert_eq!(cluster.answered(resolve), Some(&Outcome::Unknown));
    assert_eq!(cluster.answered(write), None, "it has more time");
    cluster.run(ms(700));
    assert_eq!(cluster.answered(write), Some(&Outcome::Unknown));
}

/// under other policies a silent disk does not count, and what the configuration says is
/// agreed upon.
#[test]
fn the_policy_is_what_the_table_was_told() {
    for (acknowledge, stuck, done) in [
        (Acknowledge::All, 1, false),
        (Acknowledge::Quorum, 1, true),
        (Acknowledge::Quorum, 2, false),
        (Acknowledge::Primary, 2, true),
    ] {
        let mut cluster = cluster(Schema { acknowledge, ..Schema::default() });
        let leader = leader(&cluster);
        let roster = info(&mut cluster, leader).roster.expect("a roster");
        assert_eq!((roster.acknowledge, roster.in_sync.len()), (acknowledge, 3));
        for node in others(leader).into_iter().take(stuck) {
            cluster.machine(node).slow_disk = true;
        }
        let asked = cluster.ask(leader, here(put("a", "1")));
        cluster.run(ms(900));
        let answered = cluster.answered(asked).is_some();
        assert_eq!(answered, done, "{acknowledge} with {stuck} stuck");
    }
}

/// who is configured otherwise than was agreed upon does not act on it alone; when all hold
/// what was acknowledged, the new rule is agreed upon.
#[test]
fn another_policy_begins_when_everybody_can_keep_it() {
    let mut cluster = cluster(Schema { acknowledge: Acknowledge::Quorum, ..Schema::default() });
    let before = leader(&cluster);
    let [second, third] = others(before);
    cluster.machine(third).slow_disk = true;
    place(&cluster.call(before, here(put("a", "of two"))));
    cluster.crash(before);
    cluster.machine(before).config.tables[1] =
        TableConfig::primary_table("things", Schema::default());
    cluster.start(before);
    cluster.run(ms(500));
    let policy =
        |cluster: &mut Cluster| info(cluster, before).roster.expect("a roster").acknowledge;
    assert_eq!(role(&cluster, before), Some(Role::Primary), "it was back before anybody noticed");
    assert_eq!(policy(&mut cluster), Acknowledge::Quorum, "one of three lacks the write");
    cluster.machine(third).slow_disk = false;
    cluster.sync(third);
    cluster.run(Duration::from_secs(1));
    assert_eq!(policy(&mut cluster), Acknowledge::All);
    assert_eq!(value(&cluster.call(second, here(get("a")))), Some("of two".into()));
}

/// A-39, P-I4, P-I7: when the primary dies, another that has everything takes its place; nothing
/// acknowledged is lost, its session's end is enough, and it comes back as one of the others.
#[test]
fn a_dead_primary_is_succeeded() {
    let mut cluster = cluster(Schema::default());
    let old = leader(&cluster);
    let [second, third] = others(old);
    cluster.subscribe(second, 50, Topic::Roles);
    for number in 0..20 {
        place(&cluster.call(old, here(put(&format!("k{number}"), "v"))));
    }
    let reign = info(&mut cluster, old).roster.expect("a roster").reign;
    // One more that it may have put on its own disk alone.
    cluster.split(&[old], &[second, third]);
    cluster.ask(old, here(put("alone", "lost")));
    cluster.crash(old);
    cluster.heal();
    let begun = cluster.now;
    let asked = cluster.ask_with(
        second,
        OnNoQuorum::Retry,
        Duration::from_secs(10),
        followed(put("after", "1")),
    );
    let after = cluster.answer(asked);
    assert!(place(&after).reign > reign);
    assert!(cluster.now.since(begun) < Duration::from_secs(5), "{:?}", cluster.now.since(begun));
    let new = leader(&cluster);
    assert_ne!(new, old);
    let told = cluster.told(50);
    let last = told.last().expect("an event");
    assert!(
        matches!(last, Event::Role { primary: Some(primary), .. } if *primary == NodeId(new)),
        "{told:?}"
    );
    cluster.start(old);
    cluster.run(Duration::from_secs(3));
    assert_eq!(role(&cluster, old), Some(Role::Secondary));
    let rows = equal(&mut cluster);
    assert_eq!(rows.len(), 21, "20 acknowledged, one after; not the one that was alone: {rows:?}");
}

/// P-I8: a primary that is cut off acknowledges nothing and proves nothing, while another is
/// chosen; when it is back it follows.
#[test]
fn a_primary_that_is_cut_off_acknowledges_nothing() {
    let mut cluster = cluster(Schema::default());
    let old = leader(&cluster);
    let [second, _] = others(old);
    place(&cluster.call(old, here(put("a", "before"))));
    isolate(&mut cluster, old);
    let mut asked = Vec::new();
    for number in 0..10 {
        asked.push(cluster.ask(old, here(put("a", &format!("alone{number}")))));
        let read = here(Ask::Get("a".into(), ReadLevel::Linearizable));
        asked.push(cluster.ask(old, read));
        cluster.run(ms(500));
    }
    let taken = place(&cluster.call(second, followed(put("a", "taken over"))));
    cluster.run(Duration::from_secs(1));
    for (number, asked) in asked.iter().enumerate() {
        let answer = cluster.answered(*asked).expect("answered in time");
        let is_no = matches!(answer, Outcome::Unknown | Outcome::Refused(_));
        assert!(is_no, "{number}: {answer}");
    }
    cluster.heal();
    cluster.run(Duration::from_secs(3));
    assert_eq!(equal(&mut cluster), ["a=taken\\x20over"]);
    assert_eq!(value(&cluster.call(old, seen(get("a"), taken.index))), Some("taken over".into()));
}

/// a dead secondary is counted out by decision and holds up writes for no longer; back,
/// it catches up and counts again.
#[test]
fn a_dead_secondary_is_counted_out_and_comes_back() {
    let mut cluster = cluster(Schema::default());
    let leader = leader(&cluster);
    let [second, third] = others(leader);
    cluster.crash(second);
    assert_eq!(cluster.call(leader, here(put("a", "1"))), Outcome::Unknown, "it counts still");
    cluster.run(Duration::from_secs(3));
    let roster = info(&mut cluster, leader).roster.expect("a roster");
    assert_eq!(roster.in_sync.len(), 2, "{roster}");
    place(&cluster.call(leader, here(put("b", "2"))));
    assert_eq!(role(&cluster, third), Some(Role::Secondary));
    cluster.start(second);
    cluster.run(Duration::from_secs(2));
    assert_eq!(equal(&mut cluster), ["a=1", "b=2"]);
}

/// after all have stopped everything acknowledged is there, and who restarts follows or
/// leads again, in a reign of its own.
#[test]
fn everything_is_there_after_all_have_stopped() {
    let mut cluster = cluster(Schema::default());
    let old = leader(&cluster);
    for number in 0..50 {
        place(&cluster.call(old, here(put(&format!("k{number:02}"), "v"))));
    }
    let reign = info(&mut cluster, old).roster.expect("a roster").reign;
    (1..=3).for_each(|node| cluster.crash(node));
    (1..=3).for_each(|node| cluster.start(node));
    cluster.run(Duration::from_secs(4));
    assert_eq!(equal(&mut cluster).len(), 50);
    let new = leader(&cluster);
    assert!(info(&mut cluster, new).roster.expect("a roster").reign > reign, "P-I1");
    place(&cluster.call(new, here(put("more", "v"))));
}

/// a node that comes late is given everything while writes go on, and counts then.
#[test]
fn a_late_joiner_is_given_everything() {
    let mut cluster = Cluster::unstarted((1..=3).map(|node| {
        let mut config = config(node, 3);
        with(Schema::default())(&mut config);
        config
    }));
    cluster.start(1);
    cluster.start(2);
    cluster.run(Duration::from_secs(2));
    let leader = leader(&cluster);
    for number in 0..200 {
        place(&cluster.call(leader, here(put(&format!("k{number:03}"), "v"))));
    }
    cluster.start(3);
    for number in 200..220 {
        place(&cluster.call(leader, here(put(&format!("k{number:03}"), "v"))));
    }
    cluster.run(Duration::from_secs(2));
    assert_eq!(equal(&mut cluster).len(), 220);
}

/// an operator has the primary hand over, a replica leave, and join again.
#[test]
fn operators_hand_over_and_take_out() {
    let mut cluster = cluster(Schema::default());
    let old = leader(&cluster);
    let [second, third] = others(old);
    let hand = |to: u16| of(Call::HandOver(Some(NodeId(to))));
    assert_eq!(cluster.at_once(second, hand(third)), refused(No::NotPrimary(Some(NodeId(old)))));
    assert_eq!(cluster.at_once(old, hand(9)), refused(No::NoSuccessor));
    assert_eq!(cluster.call(old, hand(third)), Outcome::Primary(Answer::Done));
    cluster.run(ms(500));
    assert_eq!(leader(&cluster), third);
    place(&cluster.call(second, followed(put("a", "1"))));
    assert_eq!(cluster.at_once(second, of(Call::Join(false))), Outcome::Primary(Answer::Done));
    cluster.run(Duration::from_secs(1));
    assert_eq!(role(&cluster, second), Some(Role::Outside));
    place(&cluster.call(third, here(put("b", "2"))));
    cluster.at_once(second, of(Call::Join(true)));
    cluster.run(Duration::from_secs(1));
    assert_eq!(equal(&mut cluster), ["a=1", "b=2"]);
}

/// P-I4, Z80: if all who counted have lost their disks, nobody is elected, whatever others hold,
/// until an operator says whose copy is to go on.
#[test]
fn without_its_disks_a_table_goes_on_only_by_force() {
    let replicas = Replicas::Only(vec![NodeId(1)]);
    let mut cluster = cluster(Schema { replicas, ..Schema::default() });
    assert_eq!(leader(&cluster), 1);
    cluster.at_once(2, of(Call::Join(true)));
    cluster.run(Duration::from_secs(1));
    place(&cluster.call(1, here(put("a", "of both"))));
    cluster.run(ms(300));
    cluster.at_once(2, of(Call::Join(false)));
    cluster.run(Duration::from_secs(1));
    assert_eq!(role(&cluster, 2), Some(Role::Outside));
    place(&cluster.call(1, here(put("b", "of one"))));
    let force = of(Call::Force);
    assert_eq!(cluster.at_once(2, force.clone()), refused(No::NotGone(NodeId(1))));
    cluster.wipe(1);
    cluster.start(1);
    cluster.run(Duration::from_secs(20));
    assert!(matches!(cluster.node(1).readiness(), Readiness::StateLost(_)));
    assert_eq!((role(&cluster, 2), role(&cluster, 3)), (Some(Role::Outside), Some(Role::Outside)));
    assert_eq!(cluster.call(2, force.clone()), Outcome::Primary(Answer::Done));
    assert_eq!(cluster.call(2, force), Outcome::Primary(Answer::Done), "it is by now");
    place(&cluster.call(3, followed(put("c", "after"))));
    assert_eq!(rows(&cluster, 2), ["a=of\\x20both", "c=after"], "b is lost, as the operator chose");
}

/// P-25 and the seam: no client can name the engine's own table, whatever it asks.
#[test]
fn clients_cannot_name_the_arbiter() {
    let mut cluster = cluster(Schema::default());
    let leader = leader(&cluster);
    let (table, key) = (TableId::ROSTERS, Key::from("things"));
    let commands = [
        Command::Get { table, key: key.clone(), level: Level::Linearizable },
        Command::Get { table, key: key.clone(), level: Level::Local },
        Command::Put { table, key: key.clone(), value: "x".into(), bindings: vec![] },
        Command::Remove { table, key: key.clone(), generation: None },
        Command::Keys { table, after: None, limit: 10 },
        Command::Subscribe(Topic::Key(table, key.clone())),
        Command::Primary { table, call: Call::Info },
    ];
    for command in commands {
        let outcome = cluster.at_once(leader, command);
        assert_eq!(outcome, Outcome::Refused(Refusal::NoSuchTable(table)));
    }
    for (table, command) in [
        (THINGS, Command::Get { table: THINGS, key, level: Level::Local }),
        (TableId(0), Command::Primary { table: TableId(0), call: Call::Info }),
    ] {
        assert_eq!(cluster.at_once(1, command), Outcome::Refused(Refusal::Discipline(table)));
    }
}

/// an id is its client's; what is asked again under it, at any node, is done once.
#[test]
fn a_request_is_done_once_wherever_it_is_asked() {
    let mut cluster = cluster(Schema::default());
    let old = leader(&cluster);
    let [second, _] = others(old);
    let id = |client| Some(OpId { client: ClientId::new(client), request: RequestId(1) });
    let write = |client, value: &str| {
        of(Call::Ask { command: put("a", value), seen: 0, op: id(client), follow: true })
    };
    let first = place(&cluster.call(old, write(1, "of one")));
    let other = place(&cluster.call(second, write(2, "of another")));
    assert_ne!(first, other, "the same number, of another client");
    assert_eq!(place(&cluster.call(second, write(1, "of one"))), first);
    cluster.crash(old);
    let asked =
        cluster.ask_with(second, OnNoQuorum::Retry, Duration::from_secs(10), write(1, "of one"));
    assert_eq!(place(&cluster.answer(asked)), first, "also by the next primary");
    let new = leader(&cluster);
    assert_eq!(value(&cluster.call(new, here(get("a")))), Some("of another".into()));
}

/// What recovers from a log recovers from what the log is folded to: the same replica.
#[test]
fn a_folded_log_is_the_same_replica() {
    let mut cluster = cluster(Schema::default());
    let leader = leader(&cluster);
    let big = "x".repeat(60_000);
    for number in 0..60 {
        place(&cluster.call(leader, here(put(&format!("k{}", number % 20), &big))));
        place(&cluster.call(leader, here(Ask::Remove(format!("k{}", number % 7).as_str().into()))));
    }
    let [second, _] = others(leader);
    assert_eq!(cluster.call(second, of(Call::Join(false))), Outcome::Primary(Answer::Done));
    cluster.run(ms(500));
    for node in 1..=3 {
        let machine = cluster.machine(node);
        let (config, log) = (machine.config.clone(), machine.durable.clone());
        let mut checkpoint = Checkpoint::default();
        checkpoint.extend(log.clone());
        let folded: Vec<Record> = checkpoint.records().collect();
        assert!(folded.len() < log.len() / 2, "{} of {}", folded.len(), log.len());
        let shown = |records: Vec<Record>| {
            let node = Node::recover(config.clone(), 1, records).expect("its own log");
            let replica = node.replica(THINGS).expect("a replica");
            let rows: Vec<_> =
                replica.rows().map(|(key, value)| (key.clone(), value.clone())).collect();
            assert_eq!(replica.is_wanted(), node.config().node.0 != second, "who left stays away");
            (replica.committed(), replica.last(), replica.reign(), rows)
        };
        assert_eq!(shown(folded), shown(log.clone()));
        if node == 1 {
            for store in [Store::Log, Store::Sqlite] {
                assert_eq!(shown(through(store, &config, &log)), shown(log.clone()), "{store}");
            }
        }
    }
}

/// What a store gives back of what it was given, compacted in between.
fn through(store: Store, config: &Config, log: &[Record]) -> Vec<Record> {
    let folder = tempfile::tempdir().expect("a folder");
    let owner = Owner::of(config, "things");
    let mut storage = store.open(folder.path(), &owner).expect("a new store").storage;
    let mut ticket = 0;
    for (place, records) in log.chunks(5).enumerate() {
        ticket += 1;
        storage.append(Ticket(ticket), records).expect("appended");
        storage.sync().expect("synced");
        if place % 20 == 10 {
            storage.compact().expect("compacted");
        }
    }
    drop(storage);
    let Found::Records(records) = store.open(folder.path(), &owner).expect("a store").found else {
        panic!("nothing was found")
    };
    records.into_iter().collect()
}

/// who wants to know how many have a write waits for so many, and no longer than it says; who
/// is not primary knows of nobody.
#[test]
fn a_client_waits_for_as_many_disks_as_it_likes() {
    let (acknowledge, patience) = (Acknowledge::Primary, Duration::from_secs(9));
    let mut cluster = cluster(Schema { acknowledge, patience, ..Schema::default() });
    let leader = leader(&cluster);
    let [second, third] = others(leader);
    let wait = |place, replicas| of(Call::Wait { place, replicas });
    let holders = |outcome: Option<&Outcome>, place| match outcome {
        Some(Outcome::Primary(Answer::Info(info))) => info.holders(place),
        other => panic!("no info: {other:?}"),
    };
    cluster.machine(third).slow_disk = true;
    let place = place(&cluster.call(leader, here(put("k", "v"))));
    let one = cluster.ask_with(leader, OnNoQuorum::Return, ms(5_000), wait(place, 1));
    let two = cluster.ask_with(leader, OnNoQuorum::Return, ms(300), wait(place, 2));
    let both = cluster.ask_with(leader, OnNoQuorum::Return, ms(5_000), wait(place, 2));
    cluster.run(ms(200));
    assert_eq!(holders(cluster.answered(one), place), 1);
    assert_eq!(cluster.answered(two), None, "it waits for the other");
    cluster.run(ms(120));
    assert_eq!(holders(cluster.answered(two), place), 1, "its time is up");
    assert_eq!(cluster.answered(both), None);
    cluster.machine(third).slow_disk = false;
    cluster.sync(third);
    cluster.run(ms(500));
    assert_eq!(holders(cluster.answered(both), place), 2);
    let elsewhere = cluster.at_once(second, wait(place, 0));
    assert_eq!(elsewhere, refused(No::NotPrimary(Some(NodeId(leader)))));
    // Who has led and does no longer knows of nobody either.
    let asked = cluster.ask_with(leader, OnNoQuorum::Return, ms(5_000), wait(place, 3));
    assert_eq!(
        cluster.call(leader, of(Call::HandOver(Some(NodeId(second))))),
        Outcome::Primary(Answer::Done)
    );
    cluster.run(ms(500));
    let answer = cluster.answered(asked);
    assert!(matches!(answer, Some(Outcome::Refused(Refusal::Primary(No::NotPrimary(_))))));
    // What another primary has at that place need not be this, at this policy.
    let reign = info(&mut cluster, second).roster.map(|roster| roster.reign);
    assert_ne!(reign, Some(place.reign));
    assert_eq!(info(&mut cluster, second).holders(place), 0);
}

/// What cannot be kept is refused when the node is made.
#[test]
fn impossible_declarations_are_refused() {
    let check = |name: &str, schema: Schema| {
        let mut config = config(1, 3);
        config.tables.push(TableConfig::primary_table(name, schema));
        config.check().map(|_| ())
    };
    let long = "x".repeat(2_000);
    let on = |nodes: &[u16]| Schema {
        replicas: Replicas::Only(nodes.iter().copied().map(NodeId).collect()),
        ..Schema::default()
    };
    let soon = Schema { answer_within: Duration::ZERO, ..Schema::default() };
    for (name, schema, expected) in [
        ("t", on(&[]), Impossible::NoReplica),
        ("t", on(&[1, 1]), Impossible::ReplicaTwice(NodeId(1))),
        ("t", on(&[7]), Impossible::ReplicaUnknown(NodeId(7))),
        ("t", soon, Impossible::NoTime),
        (long.as_str(), Schema::default(), Impossible::NameTooLong),
    ] {
        let Err(ConfigError::Primary { why, .. }) = check(name, schema) else {
            panic!("{expected}")
        };
        assert_eq!(why, expected);
    }
    assert_eq!(check("t", Schema::default()), Ok(()));
}

/// A node that has lost its storage is none of a table's replicas, and says why.
#[test]
fn a_node_without_its_storage_answers_for_no_table() {
    let mut cluster = cluster(Schema::default());
    let leader = leader(&cluster);
    let [second, _] = others(leader);
    place(&cluster.call(leader, here(put("a", "1"))));
    cluster.wipe(second);
    cluster.start(second);
    cluster.run(Duration::from_secs(5));
    assert!(matches!(cluster.node(second).readiness(), Readiness::StateLost(_)));
    let outcome = cluster.at_once(second, here(get("a")));
    assert!(matches!(outcome, Outcome::Refused(Refusal::NotReady(_))), "{outcome}");
    let roster = info(&mut cluster, leader).roster.expect("a roster");
    assert!(!roster.in_sync.iter().any(|member| member.node == NodeId(second)), "{roster}");
    place(&cluster.call(leader, here(put("b", "2"))));
}

// ---------------------------------------------------------------------- at random

#[derive(Clone, Debug)]
enum Act {
    Crash(u16),
    Cut(u16),
    HandOver(u16),
    Heal,
    Pass(u64),
    Read(u16, u8),
    Slow(u16, bool),
    Start(u16),
    Want(u16, bool),
    Write(u16, u8, bool),
}

fn act() -> impl Strategy<Value = Act> {
    let node = 1..4_u16;
    prop_oneof![
        2 => node.clone().prop_map(Act::Crash),
        2 => node.clone().prop_map(Act::Cut),
        1 => node.clone().prop_map(Act::HandOver),
        3 => Just(Act::Heal),
        10 => (1..1500_u64).prop_map(Act::Pass),
        6 => (node.clone(), 0..4_u8).prop_map(|(node, key)| Act::Read(node, key)),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, slow)| Act::Slow(node, slow)),
        4 => node.clone().prop_map(Act::Start),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, wanted)| Act::Want(node, wanted)),
        20 => (node, 0..4_u8, any::<bool>()).prop_map(|(a, b, c)| Act::Write(a, b, c)),
    ]
}

/// What one key's only writer knows: each write has a greater number than the one before, and is
/// made when the one before was answered.
#[derive(Debug, Default)]
struct Writer {
    under_way: Option<(ClientId, RequestId, u16)>,
    number: u64,
    /// The last one acknowledged, and those of which nothing is known: a message that carries one
    /// may outlive the node that has sent it, and come behind later ones.
    acknowledged: u64,
    unknown: BTreeSet<u64>,
}

impl Writer {
    /// Whether the key may have this.
    fn allows(&self, found: u64) -> bool {
        found == self.acknowledged || self.unknown.contains(&found)
    }
}

struct Writers {
    keys: BTreeMap<u8, Writer>,
    unknown: u64,
    done: u64,
}

impl Writers {
    fn look(&mut self, cluster: &Cluster) {
        for writer in self.keys.values_mut() {
            let Some((client, id, node)) = writer.under_way else { continue };
            let running = cluster.machines[&NodeId(node)].node.is_some();
            match cluster.answered((client, id)) {
                Some(Outcome::Primary(Answer::Committed { .. })) => {
                    writer.acknowledged = writer.number;
                    self.done += 1;
                }
                Some(Outcome::Refused(_)) => {}
                Some(Outcome::Unknown) => {
                    writer.unknown.insert(writer.number);
                    self.unknown += 1;
                }
                Some(other) => panic!("no answer to a write: {other}"),
                None if running => continue,
                None => {
                    writer.unknown.insert(writer.number);
                }
            }
            writer.under_way = None;
        }
    }
}

/// What may happen, and its consequences for what the writers know.
struct Random {
    cluster: Cluster,
    writers: Writers,
    requests: u64,
}

impl Random {
    fn is_up(&self, node: u16) -> bool {
        self.cluster.machines[&NodeId(node)].node.is_some()
    }

    fn act(&mut self, act: &Act) {
        match act {
            // A majority decides, so one at a time.
            Act::Crash(node) => {
                if (1..=3).all(|node| self.is_up(node)) {
                    self.cluster.crash(*node);
                }
            }
            Act::Cut(node) => isolate(&mut self.cluster, *node),
            Act::HandOver(node) if self.is_up(*node) => {
                self.cluster.ask(*node, of(Call::HandOver(None)));
            }
            Act::Heal => self.cluster.heal(),
            Act::Pass(time) => self.cluster.run(ms(*time)),
            Act::Read(node, key) if self.is_up(*node) => self.read(*node, *key),
            Act::Slow(node, slow) => {
                self.cluster.machine(*node).slow_disk = *slow;
                self.cluster.sync(*node);
            }
            Act::Start(node) if !self.is_up(*node) => self.cluster.start(*node),
            Act::Want(node, wanted) if self.is_up(*node) => {
                self.cluster.ask(*node, of(Call::Join(*wanted)));
            }
            Act::Write(node, key, follow) if self.is_up(*node) => self.write(*node, *key, *follow),
            Act::HandOver(_) | Act::Read(..) | Act::Start(_) | Act::Want(..) | Act::Write(..) => {}
        }
        self.writers.look(&self.cluster);
    }

    fn read(&mut self, node: u16, key: u8) {
        let read = Ask::Get(format!("k{key}").as_str().into(), ReadLevel::Linearizable);
        self.writers.look(&self.cluster);
        let writer = self.writers.keys.entry(key).or_default();
        // A write that is under way may be ordered before or behind the read.
        let (before, during) = (writer.acknowledged, writer.under_way.is_some());
        let outcome = self.cluster.call(node, here(read));
        self.writers.look(&self.cluster);
        let writer = &self.writers.keys[&key];
        if let Outcome::Primary(Answer::Found { value, .. }) = outcome {
            let found = value.map_or(0, |value| value.to_string().parse().expect("a number"));
            let either = during && (found == before || found == writer.number);
            assert!(writer.allows(found) || either, "P-I8: k{key} is {found}: {writer:?}");
        }
    }

    fn write(&mut self, node: u16, key: u8, follow: bool) {
        let writer = self.writers.keys.entry(key).or_default();
        if writer.under_way.is_some() {
            return;
        }
        writer.number += 1;
        self.requests += 1;
        let command = put(&format!("k{key}"), &writer.number.to_string());
        let write = Call::Ask { command, seen: 0, op: None, follow };
        let (client, id) = (ClientId::new(u64::from(key) + 1), RequestId(self.requests));
        writer.under_way = Some((client, id, node));
        let (patience, retry) = (Duration::from_secs(5), OnNoQuorum::Retry);
        self.cluster.give(node, client, id, Sent::First, retry, patience, of(write));
    }

    /// All is well again, and everything is as it must be.
    fn conclude(mut self) -> Writers {
        self.cluster.heal();
        for node in 1..=3 {
            self.cluster.machine(node).slow_disk = false;
            self.cluster.sync(node);
            if !self.is_up(node) {
                self.cluster.start(node);
            }
            self.cluster.ask(node, of(Call::Join(true)));
        }
        self.cluster.run(Duration::from_secs(15));
        self.writers.look(&self.cluster);
        let rows = equal(&mut self.cluster);
        for (key, writer) in &self.writers.keys {
            assert!(writer.under_way.is_none(), "A-16: k{key} was never answered");
            let prefix = format!("k{key}=");
            let found = rows.iter().find_map(|row| row.strip_prefix(&prefix));
            let found: u64 = found.map_or(0, |value| value.parse().expect("a number"));
            assert!(writer.allows(found), "P-I4: k{key} is {found}: {writer:?}");
        }
        let leader = leader(&self.cluster);
        place(&self.cluster.call(leader, here(put("the end", "1"))));
        self.writers
    }
}

fn run(acts: &[Act], acknowledge: Acknowledge) -> Writers {
    let cluster = cluster(Schema { acknowledge, ..Schema::default() });
    let writers = Writers { keys: BTreeMap::new(), unknown: 0, done: 0 };
    let mut random = Random { cluster, writers, requests: 0 };
    acts.iter().for_each(|act| random.act(act));
    random.conclude()
}

proptest! {
    #![proptest_config(cases(40))]

    /// whatever happens to one node at a time, nothing acknowledged is lost, nothing
    /// refused is done, no proven read goes back, and in the end all are equal.
    #[test]
    fn random_operations(acts in prop::collection::vec(act(), 1..80), quorum in any::<bool>()) {
        run(&acts, if quorum { Acknowledge::Quorum } else { Acknowledge::All });
    }
}

/// A quiet world must not pass for a sound one.
#[test]
fn random_operations_are_not_quiet() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut done, mut unknown) = (0, 0);
    for _ in 0..12 {
        let acts = prop::collection::vec(act(), 80).new_tree(&mut runner).expect("some").current();
        let writers = run(&acts, Acknowledge::All);
        (done, unknown) = (done + writers.done, unknown + writers.unknown);
    }
    assert!(done >= 50 && unknown >= 5, "{done} done, {unknown} unknown");
}
