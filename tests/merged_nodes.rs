//! Merged tables as clients of nodes see them: answered where they are asked, durable before
//! visible, equal again after a split.

mod support;

use std::time::Duration;

use support::{Cluster, Fate, config, ms, put};
use synod::merged::{
    Answer, Command as Merged, Durability, Entry, Event as TableEvent, Field, Function, Guard,
    Info, Kind, Match, Mutation, Pattern, Replicas, Row, Schema, Strategy, Table, TableCommand,
    Unfit,
};
use synod::{
    Body, Command, Config, ConfigError, Event, Foreign, Genesis, Impossible, Key, MergeEvent, Node,
    NodeId, OnNoQuorum, Outcome, Readiness, Record, RecoverError, Refusal, Sent, TableConfig,
    TableId, Topic, Value, wire,
};

/// Behind the default table of the other discipline.
const THINGS: TableId = TableId(1);

fn with(schema: Schema) -> impl Fn(&mut Config) {
    move |config| config.tables.push(TableConfig::merged("things", schema.clone()))
}

fn cluster(schema: Schema) -> Cluster {
    Cluster::with(3, with(schema))
}

fn of(command: Merged) -> Command {
    Command::Merged { table: THINGS, command }
}

fn mput(key: &str, value: &str) -> Command {
    of(Merged::write(Mutation::Put(Key::from(key), Value::from(value))))
}

fn mremove(key: &str) -> Command {
    of(Merged::write(Mutation::Remove(Key::from(key))))
}

fn mget(key: &str) -> Command {
    of(Merged::Get(Key::from(key)))
}

fn batch(mutations: Vec<Mutation>) -> Command {
    of(Merged::Write { mutations, guards: vec![] })
}

fn scan(key: Match, value: Match) -> Command {
    of(Merged::Scan { pattern: Pattern { key, value }, after: None, limit: 100 })
}

fn texts(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(ToString::to_string).collect()
}

/// The rows that a read shows, each as `key=value|value`.
fn rows(outcome: &Outcome) -> Vec<String> {
    let Outcome::Merged(Answer::Found { entries, more: None }) = outcome else {
        panic!("no whole answer to a read: {outcome}")
    };
    texts(entries)
}

fn previous(outcome: &Outcome) -> Vec<String> {
    let Outcome::Merged(Answer::Written { previous, complete: true }) = outcome else {
        panic!("no answer to a write: {outcome}")
    };
    texts(previous)
}

fn info(cluster: &mut Cluster, node: u16) -> Info {
    let outcome = cluster.at_once(node, of(Merged::Info));
    let Outcome::Merged(Answer::Info(info)) = outcome else { panic!("no info: {outcome}") };
    info
}

/// What each node shows of a key.
fn everywhere(cluster: &mut Cluster, key: &str) -> Vec<Vec<String>> {
    (1..=3).map(|node| rows(&cluster.call(node, mget(key)))).collect()
}

fn split(cluster: &mut Cluster, islands: &[&[u16]]) {
    let island = |node: u16| islands.iter().position(|island| island.contains(&node));
    let pairs = (1..=3).flat_map(|a| (1..=3).map(move |b| (a, b)));
    let apart = pairs.filter(|(a, b)| island(*a) != island(*b));
    cluster.cut = apart.map(|(a, b)| (NodeId(a), NodeId(b))).collect();
}

fn heal(cluster: &mut Cluster) {
    cluster.cut.clear();
}

/// L-08, L-10, L-42: writes are answered with what they replaced; a batch is one step; what was not
/// there is removed without an answer to tell, and an exact value only where it is.
#[test]
fn writes_say_what_they_replaced() {
    let mut cluster = cluster(Schema::default());
    assert!(previous(&cluster.at_once(1, mput("a", "1"))).is_empty(), "it is new");
    assert_eq!(previous(&cluster.at_once(1, mput("a", "2"))), ["a=1"]);
    let both = batch(vec![
        Mutation::Put("a".into(), "3".into()),
        Mutation::Put("b".into(), "3".into()),
        Mutation::Put("a".into(), "4".into()),
    ]);
    assert_eq!(previous(&cluster.at_once(1, both)), ["a=2"]);
    assert_eq!(rows(&cluster.at_once(1, mget("a"))), ["a=4"], "the last one counts");
    assert!(previous(&cluster.at_once(1, batch(vec![]))).is_empty());
    let wrong = Mutation::RemoveValue("a".into(), "3".into());
    assert!(previous(&cluster.at_once(1, batch(vec![wrong]))).is_empty());
    let right = Mutation::RemoveValue("a".into(), "4".into());
    assert_eq!(previous(&cluster.at_once(1, batch(vec![right]))), ["a=4"]);
    let all = vec![Mutation::Remove("a".into()), Mutation::Remove("b".into())];
    assert_eq!(previous(&cluster.at_once(1, batch(all))), ["b=3"]);
    assert!(previous(&cluster.at_once(1, mremove("b"))).is_empty());
}

/// L-08: nothing of a batch is written if one part of it cannot be.
#[test]
fn a_batch_that_does_not_fit_writes_nothing() {
    let field = Field::bytes(0, 2);
    let schema = Schema { strategy: Strategy::LastVersion(field), ..Schema::default() };
    let mut cluster = cluster(schema);
    let half = batch(vec![
        Mutation::Put("a".into(), "01 fits".into()),
        Mutation::Put("b".into(), "x".into()),
    ]);
    let outcome = cluster.at_once(1, half);
    assert!(matches!(outcome, Outcome::Refused(Refusal::Unfit(_))), "{outcome}");
    assert!(rows(&cluster.at_once(1, mget("a"))).is_empty());
}

/// L-09, L-21: writing what is there changes no version, writes no record and sends nothing.
#[test]
fn an_equal_value_is_no_write() {
    let mut cluster = cluster(Schema::default());
    cluster.at_once(1, mput("a", "1"));
    cluster.run(ms(600));
    let entry = |cluster: &mut Cluster| {
        let outcome = cluster.at_once(1, mget("a"));
        let Outcome::Merged(Answer::Found { entries, .. }) = outcome else { panic!("{outcome}") };
        entries[0].values[0].clone()
    };
    let before = (entry(&mut cluster), cluster.machine(1).durable.len(), cluster.sent);
    assert_eq!(previous(&cluster.at_once(1, mput("a", "1"))), Vec::<String>::new());
    assert_eq!(previous(&cluster.at_once(1, mremove("never"))), Vec::<String>::new());
    assert_eq!((entry(&mut cluster), cluster.machine(1).durable.len(), cluster.sent), before);
}

/// L-24, L-31, L-44, M-05, M-34, M-40, U-08: three islands of one go on, each reads its own writes,
/// and within a second after the links work all nodes show the same, without a restart: no write is
/// lost, no removal undone. Who asked is told when peers go, when they are back, and what a merge
/// did.
#[test]
fn a_minority_of_one_goes_on_and_heals_within_a_second() {
    let mut cluster = cluster(Schema::default());
    for key in ["key1", "key2", "key5"] {
        cluster.at_once(1, mput(key, "old"));
    }
    cluster.run(Duration::from_secs(2));
    cluster.subscribe(1, 50, Topic::Merges);
    let lives: Vec<_> = (1..=3).map(|node| cluster.node(node).incarnation()).collect();
    split(&mut cluster, &[&[1], &[2], &[3]]);
    // Before anybody can have noticed (M-08), and long after.
    assert_eq!(previous(&cluster.at_once(1, mremove("key1"))), ["key1=old"]);
    cluster.run(Duration::from_secs(5));
    cluster.at_once(1, mput("key3", "left"));
    cluster.at_once(2, mput("rkey1", "right"));
    cluster.at_once(3, mremove("key5"));
    assert_eq!(rows(&cluster.at_once(2, mget("key1"))), ["key1=old"], "its own copy");
    cluster.run(Duration::from_secs(5));
    heal(&mut cluster);
    cluster.run(Duration::from_secs(1));
    for node in 1..=3 {
        let all = rows(&cluster.at_once(node, scan(Match::Any, Match::Any)));
        assert_eq!(all, ["key2=old", "key3=left", "rkey1=right"], "node {node}");
    }
    let after: Vec<_> = (1..=3).map(|node| cluster.node(node).incarnation()).collect();
    assert_eq!(lives, after, "L-29: nobody restarted");
    let told: Vec<MergeEvent> = cluster.told(50).into_iter().filter_map(merge).collect();
    for peer in [NodeId(2), NodeId(3)] {
        let events: Vec<&str> = told.iter().filter_map(|event| about(event, peer)).collect();
        assert_eq!(events, ["lost", "back", "started", "finished"], "{told:?}");
    }
    let copied: u64 = told.iter().map(|event| totals(event).0).sum();
    let deleted: u64 = told.iter().map(|event| totals(event).1).sum();
    assert_eq!((copied, deleted), (1, 1), "rkey1 came, key5 went, each counted once");
}

fn merge(event: Event) -> Option<MergeEvent> {
    if let Event::Merge(event) = event { Some(event) } else { None }
}

fn about(event: &MergeEvent, whom: NodeId) -> Option<&'static str> {
    match event {
        MergeEvent::PeerLost(peer) => (*peer == whom).then_some("lost"),
        MergeEvent::PeerBack(peer) => (*peer == whom).then_some("back"),
        MergeEvent::Table { event: TableEvent::MergeStarted { peer }, .. } => {
            (*peer == whom).then_some("started")
        }
        MergeEvent::Table { event: TableEvent::MergeFinished { peer, .. }, .. } => {
            (*peer == whom).then_some("finished")
        }
        MergeEvent::Table { .. }
        | MergeEvent::Cleared { .. }
        | MergeEvent::Lost { .. }
        | MergeEvent::Raised { .. } => None,
    }
}

fn totals(event: &MergeEvent) -> (u64, u64) {
    let MergeEvent::Table { event: TableEvent::MergeFinished { totals, .. }, .. } = event else {
        return (0, 0);
    };
    (totals.copied, totals.deleted)
}

/// L-26, L-28, M-15, M-16, M-17, M-20: values written apart are shown together on every node, with
/// one alarm each; the write that ends the conflict takes it down everywhere.
#[test]
fn a_conflict_is_raised_once_and_ends_with_a_write() {
    let mut cluster = cluster(Schema::default());
    for node in 1..=3 {
        cluster.subscribe(node, 50 + u64::from(node), Topic::Merges);
    }
    split(&mut cluster, &[&[1], &[2, 3]]);
    cluster.at_once(1, mput("a", "left"));
    cluster.run(ms(5));
    cluster.at_once(2, mput("a", "right"));
    cluster.run(Duration::from_secs(4));
    heal(&mut cluster);
    cluster.run(Duration::from_secs(2));
    assert_eq!(
        everywhere(&mut cluster, "a"),
        [["a=right|left"], ["a=right|left"], ["a=right|left"]]
    );
    for node in 1..=3 {
        let listed = of(Merged::Conflicts { after: None, limit: 10 });
        assert_eq!(rows(&cluster.at_once(node, listed)), ["a=right|left"]);
        assert_eq!(info(&mut cluster, node).conflicts, 1);
    }
    cluster.at_once(3, mput("a", "settled"));
    cluster.run(Duration::from_secs(1));
    assert_eq!(everywhere(&mut cluster, "a"), [["a=settled"], ["a=settled"], ["a=settled"]]);
    let row = Row { key: "a".into(), element: None };
    let up = Event::Merge(MergeEvent::Raised { table: THINGS, row: row.clone() });
    let down = Event::Merge(MergeEvent::Cleared { table: THINGS, row });
    for node in 1..=3 {
        let told = cluster.told(50 + node);
        let alarms: Vec<&Event> =
            told.iter().filter(|event| [&up, &down].contains(event)).collect();
        assert_eq!(alarms, [&up, &down], "node {node}");
    }
}

/// L-15, L-16: what was read, changed and written back is written only if it was not changed in
/// between; one step may do so for many keys.
#[test]
fn a_guarded_write_does_not_overwrite_what_it_did_not_see() {
    let mut cluster = cluster(Schema::default());
    let guarded = |value: &str, guards: Vec<Guard>| {
        of(Merged::Write { mutations: vec![Mutation::Put("n".into(), value.into())], guards })
    };
    let absent = vec![Guard { key: "n".into(), shows: vec![] }];
    assert!(previous(&cluster.at_once(1, guarded("1", absent.clone()))).is_empty());
    let changed = Outcome::Merged(Answer::Changed);
    assert_eq!(cluster.at_once(1, guarded("again", absent)), changed);
    let Outcome::Merged(Answer::Found { entries, .. }) = cluster.at_once(1, mget("n")) else {
        panic!("no answer")
    };
    let seen = vec![Guard { key: "n".into(), shows: vec![entries[0].values[0].dot] }];
    assert_eq!(previous(&cluster.at_once(1, guarded("2", seen.clone()))), ["n=1"]);
    assert_eq!(cluster.at_once(1, guarded("lost update", seen)), changed);
    assert_eq!(rows(&cluster.at_once(1, mget("n"))), ["n=2"]);
}

/// L-13, L-14, M-26: patterns are a type of their own, rows come in the order of keys, and pages
/// leave nothing out.
#[test]
fn scans_take_patterns_and_come_in_pages() {
    let mut cluster = cluster(Schema { kind: Kind::OrderedSet, ..Schema::default() });
    for (key, value) in [("_", "x"), ("$1", "y"), ("b1", "x"), ("b2", "y"), ("a", "x")] {
        cluster.at_once(2, mput(key, value));
    }
    let mut all = |key: Match, value: Match| rows(&cluster.at_once(2, scan(key, value)));
    let bytes = |text: &str| text.as_bytes().to_vec();
    assert_eq!(all(Match::Any, Match::Any), ["$1=y", "_=x", "a=x", "b1=x", "b2=y"]);
    assert_eq!(all(Match::Prefix(bytes("b")), Match::Any), ["b1=x", "b2=y"]);
    assert_eq!(all(Match::Any, Match::Exactly(bytes("y"))), ["$1=y", "b2=y"]);
    assert_eq!(all(Match::Prefix(bytes("b")), Match::Exactly(bytes("y"))), ["b2=y"]);
    assert_eq!(all(Match::Exactly(bytes("_")), Match::Any), ["_=x"]);
    let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = Merged::Scan { pattern: Pattern::default(), after, limit: 2 };
        let Outcome::Merged(Answer::Found { entries, more }) = cluster.at_once(2, of(page)) else {
            panic!("no page")
        };
        pages += 1;
        found.extend(texts(&entries));
        after = more;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found.len(), pages), (5, 3));
}

/// What a write answered for, and what a read showed, survives; what did not reach the disk was
/// shown to nobody.
#[test]
fn nothing_is_shown_that_could_be_forgotten() {
    let mut cluster = cluster(Schema::default());
    cluster.at_once(1, mput("a", "kept"));
    cluster.run(Duration::from_secs(1));
    cluster.machine(1).slow_disk = true;
    let write = cluster.ask(1, mput("a", "torn"));
    let read = cluster.ask(1, mget("a"));
    cluster.run(Duration::from_secs(1));
    assert_eq!((cluster.answered(write), cluster.answered(read)), (None, None));
    assert_eq!(rows(&cluster.at_once(2, mget("a"))), ["a=kept"], "it was not sent either");
    cluster.crash(1);
    cluster.machine(1).slow_disk = false;
    cluster.start(1);
    cluster.run(Duration::from_secs(1));
    assert_eq!(everywhere(&mut cluster, "a"), [["a=kept"], ["a=kept"], ["a=kept"]]);
}

/// L-40, L-43: copies on disk are there after all nodes have stopped; a node that was away learns
/// what was written and removed meanwhile.
#[test]
fn copies_on_disk_survive_and_learn_what_they_missed() {
    let mut cluster = cluster(Schema::default());
    cluster.at_once(1, mput("a", "1"));
    cluster.at_once(1, mput("b", "1"));
    cluster.run(Duration::from_secs(2));
    cluster.crash(3);
    cluster.at_once(1, mput("a", "2"));
    cluster.at_once(2, mremove("b"));
    cluster.run(Duration::from_secs(3));
    cluster.start(3);
    cluster.run(Duration::from_secs(1));
    assert_eq!(rows(&cluster.at_once(3, scan(Match::Any, Match::Any))), ["a=2"]);
    for node in 1..=3 {
        cluster.crash(node);
    }
    for node in 1..=3 {
        cluster.start(node);
        assert_eq!(rows(&cluster.at_once(node, scan(Match::Any, Match::Any))), ["a=2"]);
    }
}

/// L-40, L-43, Z69: a copy in memory writes nothing down, and is had from the others after a
/// restart; what it writes then is not taken for what it wrote before.
#[test]
fn copies_in_memory_are_had_from_the_others() {
    let mut cluster = cluster(Schema { durability: Durability::Memory, ..Schema::default() });
    let before = cluster.machine(1).durable.len();
    cluster.at_once(1, mput("a", "1"));
    cluster.at_once(1, mput("b", "1"));
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.machine(1).durable.len(), before);
    cluster.restart(1);
    assert!(rows(&cluster.at_once(1, mget("a"))).is_empty(), "nothing is left");
    cluster.at_once(1, mput("c", "2"));
    cluster.run(Duration::from_secs(1));
    for node in 1..=3 {
        let all = rows(&cluster.at_once(node, scan(Match::Any, Match::Any)));
        assert_eq!(all, ["a=1", "b=1", "c=2"], "node {node}");
    }
}

fn on_two() -> Schema {
    Schema { replicas: Replicas::Only(vec![NodeId(1), NodeId(2)]), ..Schema::default() }
}

/// L-05, L-41: a node that keeps no copy reads and writes all the same, through one that does, and
/// says so if it reaches none. What cannot be told is unknown.
#[test]
fn a_node_without_a_copy_uses_the_table() {
    let mut cluster = cluster(on_two());
    assert!(cluster.node(3).merged(THINGS).is_none());
    assert!(previous(&cluster.call(3, mput("a", "1"))).is_empty());
    assert_eq!(previous(&cluster.call(3, mput("a", "2"))), ["a=1"]);
    assert_eq!(rows(&cluster.call(3, mget("a"))), ["a=2"]);
    cluster.crash(1);
    cluster.run(Duration::from_secs(3));
    assert_eq!(rows(&cluster.call(3, mget("a"))), ["a=2"], "the other one has it too");
    split(&mut cluster, &[&[1, 2], &[3]]);
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.call(3, mget("a")), Outcome::Refused(Refusal::NoReplica(THINGS)));
}

/// A-16, L-05: a write that was passed on and whose answer is lost may have been done: the answer
/// is unknown, and it is done once, however often the message arrives.
#[test]
fn a_write_passed_on_is_done_once() {
    let mut cluster = cluster(on_two());
    cluster.crash(2);
    cluster.run(Duration::from_secs(3));
    cluster.rule(|flight| if flight.is("Answer") { Fate::Lose } else { Fate::Deliver });
    let asked = cluster.ask_with(3, OnNoQuorum::Retry, ms(900), mput("a", "1"));
    let question = cluster.flights.iter().find(|flight| flight.is("Ask")).expect("asked").clone();
    assert_eq!(cluster.answer(asked), Outcome::Unknown);
    cluster.no_rule();
    assert_eq!(previous(&cluster.call(1, mput("a", "2"))), ["a=1"]);
    cluster.flights.push(question.clone());
    cluster.run(ms(100));
    assert_eq!(rows(&cluster.call(1, mget("a"))), ["a=2"], "not done again");
    cluster.restart(1);
    cluster.flights.push(question);
    cluster.run(ms(100));
    assert_eq!(rows(&cluster.call(1, mget("a"))), ["a=2"], "nor by another process");
}

/// L-05: writes that wait for a replica are done once one is heard, each once, in whichever order
/// their turns come, and in whichever order they arrive.
#[test]
fn writes_that_wait_for_a_replica_are_all_done() {
    let mut cluster = cluster(on_two());
    cluster.crash(2);
    split(&mut cluster, &[&[1], &[3]]);
    cluster.run(Duration::from_secs(3));
    let patience = Duration::from_secs(15);
    let mut waiting = Vec::new();
    for number in 0..12 {
        let write = mput(&format!("k{number:02}"), "1");
        waiting.push(cluster.ask_with(3, OnNoQuorum::Retry, patience, write));
        cluster.run(ms(70));
    }
    heal(&mut cluster);
    cluster.run(Duration::from_secs(3));
    for asked in waiting {
        let outcome = cluster.answered(asked).expect("an answer");
        assert!(matches!(outcome, Outcome::Merged(Answer::Written { .. })), "{outcome}");
    }
    cluster.rule(|flight| if flight.is("Ask") { Fate::Park } else { Fate::Deliver });
    let late = ["a", "b", "c"].map(|value| cluster.ask(3, mput(&format!("k{value}"), value)));
    cluster.no_rule();
    cluster.parked.reverse();
    let again = cluster.parked.clone();
    cluster.unpark();
    cluster.run(ms(500));
    assert!(late.iter().all(|asked| cluster.answered(*asked).is_some()));
    assert_eq!(rows(&cluster.call(1, scan(Match::Any, Match::Any))).len(), 15);
    cluster.call(1, mremove("ka"));
    cluster.flights.extend(again);
    cluster.run(ms(500));
    assert!(rows(&cluster.call(1, mget("ka"))).is_empty(), "none is done twice");
}

/// What a node has asked is counted for as long as its process lives, and from the start by the
/// next one; what comes of an earlier process is late, and so is what comes long after the latest.
#[test]
fn what_is_passed_on_is_counted_for_as_long_as_a_process_lives() {
    let mut cluster = cluster(on_two());
    cluster.crash(2);
    cluster.run(Duration::from_secs(3));
    cluster.rule(|flight| if flight.is("Ask") { Fate::Park } else { Fate::Deliver });
    for value in ["many", "latest", "late"] {
        let asked = cluster.ask_with(3, OnNoQuorum::Retry, ms(100), mput("a", value));
        assert_eq!(cluster.answer(asked), Outcome::Unknown);
    }
    cluster.no_rule();
    let asked = std::mem::take(&mut cluster.parked);
    let arrive = |cluster: &mut Cluster, which: usize, numbers: std::ops::Range<u64>| {
        for number in numbers {
            let mut question = asked[which].clone();
            let Body::Remote(remote) = &mut question.message.body else { panic!("no question") };
            remote.number = number;
            cluster.flights.push(question);
        }
        cluster.run(ms(10));
    };
    let a = |cluster: &mut Cluster| rows(&cluster.call(1, mget("a")));
    let long_after = 5 << 32;
    arrive(&mut cluster, 0, long_after..long_after + 2_000);
    arrive(&mut cluster, 1, long_after + 2_000..long_after + 2_001);
    assert_eq!(a(&mut cluster), ["a=latest"]);
    arrive(&mut cluster, 2, long_after..long_after + 100);
    assert_eq!(a(&mut cluster), ["a=latest"], "it may have been done");
    cluster.restart(3);
    cluster.run(Duration::from_secs(1));
    assert_eq!(previous(&cluster.call(3, mput("a", "next"))), ["a=latest"]);
    arrive(&mut cluster, 1, long_after + 3_000..long_after + 3_001);
    assert_eq!(a(&mut cluster), ["a=next"]);
}

/// L-05: the answer to what was passed on goes through a message: what there is no room for is left
/// out, and that is said.
#[test]
fn an_answer_passed_on_fits_a_message() {
    let schema = Schema { kind: Kind::Bag { secondary: None }, ..on_two() };
    let mut cluster = cluster(schema);
    cluster.crash(2);
    cluster.run(Duration::from_secs(3));
    let element = |number: u8| Value::from(vec![number; 1_000_000]);
    for number in 0..18 {
        cluster.call(1, batch(vec![Mutation::Put("bag".into(), element(number))]));
    }
    cluster.rule(|flight| {
        let fits = || wire::encode(&flight.message, &mut Vec::new()).is_ok();
        assert!(!matches!(flight.message.body, Body::Remote(_)) || fits(), "{}", flight.kind());
        Fate::Deliver
    });
    let outcome = cluster.call(3, mremove("bag"));
    let Outcome::Merged(Answer::Written { previous, complete }) = outcome else {
        panic!("{}", &outcome.to_string()[..100])
    };
    assert_eq!((previous.len(), complete), (4, false), "each takes twice its size");
    assert_eq!(previous[0].values[0].value, element(0));
    assert!(rows(&cluster.call(3, mget("bag"))).is_empty(), "all of it was removed");
}

/// L-05: what a replica declines another one is asked for. The client is told why, at once, when
/// none is left.
#[test]
fn what_is_declined_elsewhere_is_told_at_once() {
    let mut cluster = Cluster::with(3, |config| {
        with(on_two())(config);
        if config.node == NodeId(1) {
            config.limits.value_max = 4;
        }
    });
    assert!(previous(&cluster.call(3, mput("a", "short"))).is_empty(), "the other one does it");
    assert_eq!(rows(&cluster.call(2, mget("a"))), ["a=short"]);
    cluster.crash(2);
    cluster.run(Duration::from_secs(3));
    let asked = cluster.ask_with(3, OnNoQuorum::Retry, Duration::from_secs(10), mput("a", "other"));
    cluster.run(ms(200));
    let outcome = cluster.answered(asked).expect("an answer at once");
    let said = outcome.to_string();
    assert!(matches!(outcome, Outcome::Refused(Refusal::Unfit(Unfit::Elsewhere { .. }))), "{said}");
    assert!(said.contains("n1") && said.contains('4'), "{said}");
}

/// What was declined is not done when the question comes once more and could be done then.
#[test]
fn what_was_declined_is_never_done() {
    let mut cluster = Cluster::with(3, |config| {
        with(on_two())(config);
        if config.node == NodeId(1) {
            config.limits.requests_max = 1;
        }
    });
    cluster.crash(2);
    cluster.run(Duration::from_secs(3));
    cluster.rule(|flight| {
        if flight.is("Ask") || flight.is("Declined") { Fate::Deliver } else { Fate::Lose }
    });
    let pending = cluster.ask_with(1, OnNoQuorum::Retry, ms(500), put("x", "1", vec![]));
    let asked = cluster.ask_with(3, OnNoQuorum::Retry, Duration::from_secs(10), mput("a", "1"));
    let question = cluster.flights.iter().find(|flight| flight.is("Ask")).expect("asked").clone();
    assert_eq!(cluster.answer(asked), Outcome::Refused(Refusal::Busy));
    cluster.no_rule();
    cluster.answer(pending);
    cluster.flights.push(question);
    cluster.run(ms(100));
    assert!(rows(&cluster.call(1, mget("a"))).is_empty());
}

/// A request sent again may have been done before: nothing else can be said of a write.
#[test]
fn a_write_sent_again_is_unknown() {
    let mut cluster = cluster(Schema::default());
    let again = cluster.call_as(1, 7, 1, Sent::Again, mput("a", "1"));
    assert_eq!(again, Outcome::Unknown);
    assert!(rows(&cluster.call_as(1, 7, 2, Sent::Again, mget("a"))).is_empty());
}

/// U-09: a write that was lost on the way arrives although nobody has noticed anything.
#[test]
fn a_cut_that_nobody_notices_heals_too() {
    let mut cluster = cluster(Schema::default());
    cluster.subscribe(1, 50, Topic::Merges);
    cluster.at_once(1, mput("a", "1"));
    let lost = cluster.lose(|flight| flight.is("Push"));
    assert_eq!(lost, 2);
    cluster.run(Duration::from_secs(1));
    assert_eq!(everywhere(&mut cluster, "a"), [["a=1"], ["a=1"], ["a=1"]]);
    assert!(cluster.told(50).is_empty());
}

/// L-06, L-27: a table that nodes have made by themselves is one table by its name, wherever it is
/// in their lists; those that have made different things of it are told, and lose nothing.
#[test]
fn tables_made_apart_are_one_by_name() {
    let mut configs: Vec<Config> = (1..=3).map(|node| config(node, 3)).collect();
    for (place, config) in configs.iter_mut().enumerate() {
        if place == 1 {
            config.tables.insert(1, TableConfig::consensus("other"));
        }
        let strategy = if place == 2 { Strategy::LastModified } else { Strategy::Siblings };
        let schema = Schema { strategy, ..Schema::default() };
        config.tables.push(TableConfig::merged("things", schema));
    }
    let mut cluster = Cluster::unstarted(configs);
    for node in 1..=3 {
        cluster.start(node);
        cluster.subscribe(node, 50 + u64::from(node), Topic::Merges);
    }
    cluster.at_once(1, mput("a", "one"));
    cluster.at_once(3, mput("c", "three"));
    cluster.run(Duration::from_secs(2));
    let second = Command::Merged { table: TableId(2), command: Merged::Get("a".into()) };
    assert_eq!(rows(&cluster.at_once(2, second)), ["a=one"]);
    assert_eq!(rows(&cluster.at_once(3, scan(Match::Any, Match::Any))), ["c=three"]);
    assert!(rows(&cluster.at_once(1, mget("c"))).is_empty());
    let disagreed = |event: &MergeEvent| {
        matches!(event, MergeEvent::Table { event: TableEvent::Disagreed { .. }, .. })
    };
    for (node, peers) in [(1, 1), (2, 1), (3, 2)] {
        let told = cluster.told(50 + node).into_iter().filter_map(merge);
        assert_eq!(told.filter(disagreed).count(), peers, "node {node}");
    }
    let peers = info(&mut cluster, 1).peers;
    let agree: Vec<_> = peers.iter().map(|peer| (peer.node.0, peer.agrees)).collect();
    assert_eq!(agree, [(2, Some(true)), (3, Some(false))]);
}

/// L-02, L-19, L-22, M-27: there is no way to a table but its own commands, and no table but those
/// that were asked for; what is wrong is said.
#[test]
fn commands_of_the_other_discipline_are_refused() {
    let mut cluster = cluster(Schema::default());
    assert_eq!(Config::new(NodeId(1)).tables.iter().filter_map(TableConfig::schema).count(), 0);
    let wrong = Command::Merged { table: TableId(0), command: Merged::Info };
    assert_eq!(cluster.at_once(1, wrong), Outcome::Refused(Refusal::Discipline(TableId(0))));
    let key = Key::from("a");
    let (value, level) = (Value::from("1"), synod::ReadLevel::Local);
    let consensus = [
        Command::Put { table: THINGS, key: key.clone(), value, bindings: vec![] },
        Command::Get { table: THINGS, key, level },
    ];
    for command in consensus {
        let refused = cluster.at_once(1, command);
        assert_eq!(refused, Outcome::Refused(Refusal::Discipline(THINGS)));
    }
    let nowhere = Command::Merged { table: TableId(9), command: Merged::Get("a".into()) };
    assert_eq!(cluster.at_once(1, nowhere), Outcome::Refused(Refusal::NoSuchTable(TableId(9))));
    let long = mput(&"k".repeat(2_000), "v");
    let refused = cluster.at_once(1, long);
    assert!(matches!(refused, Outcome::Refused(Refusal::LimitExceeded { .. })), "{refused}");
    let wide = of(Merged::Scan { pattern: Pattern::default(), after: None, limit: 1_000_000 });
    let refused = cluster.at_once(1, wide);
    assert!(matches!(refused, Outcome::Refused(Refusal::LimitExceeded { .. })), "{refused}");
}

/// L-01, M-38: a node that has never met anybody, and may not vote, keeps its merged tables; what
/// it had before it met the others is had by all.
#[test]
fn a_node_that_may_not_vote_yet_keeps_its_tables() {
    let configs = (1..=3).map(|node| {
        let mut config = config(node, 3);
        config.genesis = Genesis::Witnessed;
        with(Schema::default())(&mut config);
        config
    });
    let mut cluster = Cluster::unstarted(configs);
    cluster.start(1);
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.readiness(1), Readiness::Unwitnessed);
    cluster.at_once(1, mput("a", "1"));
    assert_eq!(rows(&cluster.at_once(1, mget("a"))), ["a=1"]);
    cluster.start(2);
    cluster.start(3);
    cluster.run(Duration::from_secs(2));
    assert_eq!(everywhere(&mut cluster, "a"), [["a=1"], ["a=1"], ["a=1"]]);
    let all_ready = (1..=3).all(|node| cluster.readiness(node) == Readiness::Ready);
    assert!(all_ready);
}

/// A batch longer than a record is written in parts, each within a frame. A crash in the middle
/// leaves the copy as it was, whatever is written behind it.
#[test]
fn a_long_batch_is_written_in_parts_that_count_together() {
    let mut cluster = cluster(Schema::default());
    split(&mut cluster, &[&[1, 2], &[3]]);
    cluster.run(Duration::from_secs(1));
    cluster.machine(3).slow_disk = true;
    let value = "v".repeat(1 << 10);
    let puts = (0..3_000).map(|number| {
        let key = format!("{:03}/{}", number / 50, number % 50);
        Mutation::Put(Key::from(key.as_str()), value.as_str().into())
    });
    let asked = cluster.ask(3, batch(puts.collect()));
    let is_part = |record: &Record| matches!(record, Record::Changed { last: false, .. });
    cluster.step(ms(10));
    assert_eq!(cluster.answered(asked), None);
    let machine = cluster.machine(3);
    let writing: Vec<Record> = machine.writing.iter().flat_map(|(_, all)| all.clone()).collect();
    let parts = writing.iter().filter(|record| is_part(record)).count();
    assert!(parts > 1, "{parts} parts");
    for record in &writing {
        let mut frame = Vec::new();
        wire::encode(record, &mut frame).expect("within a frame");
    }
    // Of what was being written, the first part only is there after the crash.
    let kept = writing.iter().position(is_part).expect("a part") + 1;
    machine.durable.extend_from_slice(&writing[..kept]);
    machine.slow_disk = false;
    cluster.crash(3);
    split(&mut cluster, &[&[1, 2], &[3]]);
    cluster.start(3);
    assert!(rows(&cluster.at_once(3, mget("000/0"))).is_empty(), "as it was");
    cluster.at_once(3, mput("z", "behind"));
    cluster.restart(3);
    assert!(rows(&cluster.at_once(3, mget("000/0"))).is_empty(), "still");
    heal(&mut cluster);
    cluster.run(Duration::from_secs(3));
    assert_eq!(info(&mut cluster, 1).versions, 1);
    assert_eq!(rows(&cluster.at_once(1, mget("z"))), ["z=behind"]);
}

/// L-35, L-36: a long difference comes in chunks no faster than it may, which are kept on disk as
/// they come; a node that stops goes on from what it has, and what counts is put in while others
/// read.
#[test]
fn a_long_difference_comes_in_its_time_and_is_kept_as_it_comes() {
    let slow = |config: &mut Config| {
        with(Schema::default())(config);
        config.limits.merge_rate = 1 << 20;
        config.limits.merge_rows = 20;
        config.limits.merge_chunk = 64 << 10;
    };
    let mut cluster = Cluster::with(3, slow);
    cluster.crash(3);
    let value = "v".repeat(1 << 10);
    for number in 0..60 {
        let puts = (0..50).map(|place| {
            Mutation::Put(Key::from(format!("{number:03}/{place}").as_str()), value.as_str().into())
        });
        cluster.at_once(1, batch(puts.collect()));
        cluster.run(ms(20));
    }
    cluster.start(3);
    cluster.run(Duration::from_secs(1));
    let aside = |cluster: &mut Cluster| cluster.node(3).merged(THINGS).map_or(0, Table::aside);
    let had = aside(&mut cluster);
    assert!((500..2_000).contains(&had), "{had} versions in a second of three");
    cluster.restart(3);
    assert!(aside(&mut cluster) >= had, "what was had is kept");
    let mut amid = 0;
    for _ in 0..1_000 {
        cluster.run(ms(5));
        if cluster.node(3).merged(THINGS).is_some_and(Table::is_putting_in) {
            amid += 1;
            let key = format!("{:03}/{}", 59 - amid % 60, amid % 50);
            assert_eq!(rows(&cluster.at_once(3, mget(&key))).len(), 1, "{key}");
        } else if amid > 0 {
            break;
        }
    }
    assert!(amid > 20, "{amid} steps");
    assert_eq!(info(&mut cluster, 3).versions, 3_000);
}

/// L-39: a log whose table was of another kind is refused, and says what to do.
#[test]
fn a_table_that_was_something_else_is_refused() {
    let mut cluster = cluster(Schema::default());
    cluster.at_once(1, mput("a", "1"));
    let records = cluster.machine(1).durable.clone();
    let mut config = config(1, 3);
    with(Schema { kind: Kind::Bag { secondary: None }, ..Schema::default() })(&mut config);
    let refused = Node::recover(config, 1, records.clone()).expect_err("it was a set");
    let RecoverError::Foreign { why: Foreign::Agreement, .. } = refused else {
        panic!("{refused}")
    };
    assert!(refused.to_string().contains("another name"), "{refused}");
    // In memory it is another copy, under another name; and on disk again, another one again.
    let mut memory = support::config(1, 3);
    with(Schema { durability: Durability::Memory, ..Schema::default() })(&mut memory);
    let node = Node::recover(memory, 1, records).expect("begun anew");
    assert!(node.merged(THINGS).expect("a copy").is_empty());
}

/// L-39: what was set aside of a table, before anything of it counted, does not keep a node from
/// starting with another table of that name.
#[test]
fn what_was_only_set_aside_is_no_table_yet() {
    let slow = |config: &mut Config| {
        with(Schema::default())(config);
        config.limits.merge_rate = 1 << 20;
        config.limits.merge_chunk = 64 << 10;
    };
    let mut cluster = Cluster::with(3, slow);
    cluster.crash(3);
    let value = "v".repeat(16 << 10);
    for number in 0..150 {
        cluster.at_once(1, mput(&format!("{number:03}"), &value));
    }
    cluster.run(Duration::from_secs(1));
    cluster.start(3);
    cluster.run(Duration::from_secs(1));
    let copy = cluster.node(3).merged(THINGS).expect("a copy");
    assert!(copy.aside() > 0 && copy.seen().is_empty(), "{} aside", copy.aside());
    let records = cluster.machine(3).durable.clone();
    let recovered = |schema: Schema| {
        let mut config = config(3, 3);
        with(schema)(&mut config);
        let node = Node::recover(config, 3, records.clone()).expect("it is no other table yet");
        node.merged(THINGS).map(Table::aside)
    };
    let aside = cluster.node(3).merged(THINGS).map(Table::aside);
    assert_eq!(recovered(Schema::default()), aside, "it goes on from there");
    let bag = Schema { kind: Kind::Bag { secondary: None }, ..Schema::default() };
    assert_eq!(recovered(bag), Some(0));
}

/// M-01, M-12, M-18, M-21, M-28: a table needs nothing but its name; what cannot work is found when
/// the node is configured.
#[test]
fn what_cannot_work_is_found_before_it_runs() {
    let check = |schema: Schema| {
        let mut config = config(1, 3);
        with(schema)(&mut config);
        config.check().map(|_| ())
    };
    assert_eq!(check(Schema::default()), Ok(()));
    let field = |offset, len| Field::bytes(offset, len);
    let wrong = [
        (
            Schema { retention: Duration::from_millis(100), ..Schema::default() },
            Impossible::RetentionTooShort,
        ),
        (
            Schema { strategy: Strategy::LastVersion(field(0, 0)), ..Schema::default() },
            Impossible::Field,
        ),
        (
            Schema { strategy: Strategy::LastVersion(field(u32::MAX, 9)), ..Schema::default() },
            Impossible::Field,
        ),
        (
            Schema {
                kind: Kind::Bag { secondary: None },
                strategy: Strategy::LastVersion(field(0, 4)),
                ..Schema::default()
            },
            Impossible::NoSecondary,
        ),
        (Schema { replicas: Replicas::Only(vec![]), ..Schema::default() }, Impossible::NoReplica),
        (
            Schema { replicas: Replicas::Only(vec![NodeId(9)]), ..Schema::default() },
            Impossible::ReplicaUnknown(NodeId(9)),
        ),
        (
            Schema { replicas: Replicas::Only(vec![NodeId(1), NodeId(1)]), ..Schema::default() },
            Impossible::ReplicaTwice(NodeId(1)),
        ),
    ];
    for (schema, expected) in wrong {
        let Err(ConfigError::Merged { table, why }) = check(schema) else { panic!("{expected}") };
        assert_eq!((table.as_str(), why), ("things", expected));
    }
}

/// M-27: a table that is ignored is neither sent nor asked for; each node has its own.
#[test]
fn an_ignored_table_makes_no_traffic() {
    let mut cluster = cluster(Schema { strategy: Strategy::Ignore, ..Schema::default() });
    cluster.rule(|flight| {
        assert!(!matches!(flight.message.body, Body::Merged(_)), "sent {}", flight.message);
        Fate::Deliver
    });
    cluster.at_once(1, mput("a", "1"));
    cluster.run(Duration::from_secs(2));
    assert_eq!(rows(&cluster.at_once(1, mget("a"))), ["a=1"]);
    assert!(rows(&cluster.at_once(2, mget("a"))).is_empty());
}

/// M-33: over a link that flaps it is merged once for each debounce, not at every flap; and not
/// never, though the link never stays up for as long.
#[test]
fn a_flapping_link_does_not_merge_at_every_flap() {
    let mut cluster = Cluster::with(3, |config| {
        config.timing.debounce = Duration::from_secs(8);
        with(Schema::default())(config);
    });
    cluster.run(Duration::from_secs(9));
    let mut merged_at = Vec::new();
    for flap in 0..10 {
        split(&mut cluster, &[&[1, 2], &[3]]);
        cluster.at_once(1, mput("a", &format!("{flap}")));
        cluster.run(ms(2_200));
        heal(&mut cluster);
        let pulls =
            |cluster: &Cluster| cluster.log.iter().filter(|line| line.contains("Pull")).count();
        let before = pulls(&cluster);
        cluster.run(ms(600));
        if pulls(&cluster) > before {
            merged_at.push(flap);
        }
    }
    assert!((1..=3).contains(&merged_at.len()), "in 28 s, at {merged_at:?}");
    assert!(merged_at[0] > 1, "not before the first debounce has gone by");
    cluster.run(Duration::from_secs(10));
    assert_eq!(rows(&cluster.at_once(3, mget("a"))), ["a=9"]);
}

/// M-18: a table goes by a function of the application, also after a restart; such a table cannot
/// be made while nodes run, since the others could not know the function.
#[test]
fn a_function_decides_also_after_a_restart() {
    let len = |value: &Value| Some(vec![u8::try_from(value.len()).unwrap_or(u8::MAX)]);
    let longest = Field::Function(Function::new("length", len));
    let schema = Schema { strategy: Strategy::LastVersion(longest), ..Schema::default() };
    let mut cluster = cluster(schema.clone());
    cluster.at_once(1, mput("a", "1"));
    for node in 1..=3 {
        cluster.restart(node);
    }
    split(&mut cluster, &[&[1], &[2, 3]]);
    cluster.run(Duration::from_secs(3));
    cluster.at_once(1, mput("a", "longest"));
    cluster.at_once(2, mput("a", "long"));
    heal(&mut cluster);
    cluster.run(Duration::from_secs(2));
    assert_eq!(everywhere(&mut cluster, "a"), [["a=longest"], ["a=longest"], ["a=longest"]]);
    for node in 1..=3 {
        cluster.restart(node);
    }
    assert_eq!(everywhere(&mut cluster, "a"), [["a=longest"], ["a=longest"], ["a=longest"]]);
    let create = TableCommand::Create { name: "made".into(), schema };
    let outcome = cluster.at_once(1, Command::Table(create));
    assert!(outcome.to_string().contains("goes by a function"), "{outcome}");
}

/// M-03, M-27: a strategy is changed by configuration and restarts, one node after the other, amid
/// writes. Copies that differ meanwhile are left apart and say so; in the end all are equal, and
/// what a copy forgot under the strategy before is forgotten by all.
#[test]
fn a_strategy_is_changed_by_restarting_one_node_after_the_other() {
    let begin =
        [Strategy::LastModified, Strategy::Ignore, Strategy::LastVersion(Field::bytes(0, 1))];
    for before in begin {
        let mut cluster = cluster(Schema { strategy: before.clone(), ..Schema::default() });
        split(&mut cluster, &[&[1], &[2, 3]]);
        cluster.run(Duration::from_secs(3));
        cluster.at_once(1, mput("a", "1"));
        cluster.at_once(2, mput("a", "2"));
        cluster.at_once(3, mput("b", "3"));
        heal(&mut cluster);
        cluster.run(Duration::from_secs(2));
        let after = Strategy::LastVersion(Field::Json(String::new() + "/v"));
        for (strategy, kind) in [(Strategy::Siblings, Kind::OrderedSet), (after, Kind::Set)] {
            for node in 1..=3 {
                let schema =
                    Schema { strategy: strategy.clone(), kind: kind.clone(), ..Schema::default() };
                let tables = &mut cluster.machine(node).config.tables;
                tables[1] = TableConfig::merged("things", schema);
                cluster.restart(node);
                cluster.at_once(node, mput(&format!("k{node}"), r#"{"v":1}"#));
                cluster.run(Duration::from_secs(1));
            }
            cluster.run(Duration::from_secs(2));
            let all: Vec<_> = (1..=3)
                .map(|node| rows(&cluster.at_once(node, scan(Match::Any, Match::Any))))
                .collect();
            assert_eq!(all[0], all[1], "{before} to {strategy}");
            assert_eq!(all[0], all[2], "{before} to {strategy}");
            let a = rows(&cluster.at_once(1, mget("a")));
            let both = before == Strategy::Ignore && strategy == Strategy::Siblings;
            assert_eq!(a.len(), 1);
            assert_eq!(a[0].contains('|'), both, "{before} to {strategy}: {a:?}");
            for node in 1..=3 {
                let info = info(&mut cluster, node);
                assert!(info.settled && info.peers.iter().all(|peer| peer.agrees == Some(true)));
                assert_eq!(info.conflicts, u64::from(both));
                cluster.restart(node);
            }
            cluster.run(Duration::from_secs(2));
        }
        assert_eq!(everywhere(&mut cluster, "k3"), [[r#"k3={"v":1}"#]; 3]);
    }
}
