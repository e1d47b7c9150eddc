//! One test for each rule, in worlds where one thing at a time goes wrong.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use std::format;

use super::world::{Store, World, key, member, small};
use crate::base::{ClientId, Incarnation, Instant, OpId, RequestId, Ticket, Value};
use crate::paxos::Ballot;
use crate::primary::*;

const TICK: Duration = Duration::from_millis(100);

const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn put(number: u16, value: &str) -> Command {
    Command::Put(key(number), Value::from(value))
}

fn get(number: u16) -> Command {
    Command::Get(key(number), ReadLevel::Committed)
}

fn committed(outcome: Option<&Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Committed { .. }))
}

fn found(outcome: Option<&Outcome>) -> Option<&Value> {
    match outcome {
        Some(Outcome::Found { value, .. }) => value.as_ref(),
        _ => panic!("not found out: {outcome:?}"),
    }
}

fn with(acknowledge: Acknowledge) -> Settings {
    Settings { acknowledge, ..small() }
}

/// who asks first is primary, the others follow, all by themselves.
#[test]
fn the_first_to_ask_is_primary() {
    let world = World::settled(3, small());
    let followers = world.followers();
    assert_eq!(followers.len(), 2);
    for place in followers {
        assert_eq!(world.replica(place).role(), Role::Secondary);
    }
    let lags = world.replica(world.leader()).lags(world.now);
    assert_eq!(lags.len(), 2);
    assert!(lags.iter().all(|lag| lag.in_sync && lag.behind == 0 && lag.silent <= TICK));
    let told = |role| world.roles.iter().filter(|(_, told)| *told == role).count();
    assert_eq!((told(Role::Primary), told(Role::Secondary)), (1, 2));
}

/// what is asked before the role is known is done in order; there is a bound to it.
#[test]
fn early_requests_wait_for_the_role() {
    let mut world = World::new(1, small());
    let early: Vec<OpId> = (0..5).map(|n| world.ask(0, 1, put(1, &format!("v{n}")))).collect();
    let many: Vec<OpId> = (0..40).map(|_| world.ask(0, 2, put(2, "w"))).collect();
    let busy = Some(&Outcome::Rejected(Refusal::Busy(TICK)));
    assert!(early.iter().all(|op| world.reply(*op).is_none()));
    assert_eq!(world.reply(many[39]), busy);
    world.peace(ms(500));
    assert!(early.iter().all(|op| committed(world.reply(*op))));
    let read = world.ask(0, 1, get(1));
    assert_eq!(found(world.reply(read)), Some(&Value::from("v4")));
}

/// as many as the original is tested with, of all kinds, are answered in order.
#[test]
fn ten_thousand_early_requests_are_answered() {
    let mut world = World::new(1, Settings::default());
    let early: Vec<OpId> = (0..9_995_u16)
        .map(|number| match number % 4 {
            0 | 1 => world.ask(0, 1, put(number % 700, "v")),
            2 => world.ask(0, 1, Command::Remove(key(number % 500))),
            _ => world.ask(0, 1, get(number % 300)),
        })
        .collect();
    let last: Vec<OpId> = (0..5).map(|n| world.ask(0, 1, put(999, &format!("v{n}")))).collect();
    let more = world.ask(0, 1, get(1));
    assert!(matches!(world.reply(more), Some(Outcome::Rejected(Refusal::Busy(_)))), "no more fit");
    world.peace(ms(500));
    assert!(last.iter().all(|op| committed(world.reply(*op))));
    let answered: BTreeMap<_, _> = world.replies.iter().map(|(op, reply)| (*op, reply)).collect();
    assert_eq!((answered.len(), world.replies.len()), (10_001, 10_001));
    for op in early {
        let reply = answered[&op];
        assert!(committed(Some(reply)) || matches!(reply, Outcome::Found { .. }), "{op}: {reply}");
    }
    let read = world.ask(0, 1, get(999));
    assert_eq!(found(world.reply(read)), Some(&Value::from("v4")));
}

/// it is not kept waiting for ever.
#[test]
fn early_requests_are_rejected_when_nobody_says_the_role() {
    let mut world = World::new(1, small());
    world.undecided = true;
    let op = world.ask(0, 1, put(1, "v"));
    world.peace(ms(990));
    assert_eq!(world.reply(op), None);
    world.peace(ms(20));
    assert_eq!(world.reply(op), Some(&Outcome::Rejected(Refusal::NotReady)));
}

/// P-I5: who was told in vain to wait for the role, and asks again, is answered once.
#[test]
fn early_requests_may_come_again() {
    let mut world = World::new(1, small());
    world.undecided = true;
    let first = world.ask(0, 1, put(1, "first"));
    let op = world.op(2);
    let ask = Ask { op, seen: 0, again: true, within: ms(300), command: put(1, "second") };
    world.ask_as(0, ask.clone());
    world.peace(ms(400));
    assert_eq!(world.reply(op), Some(&Outcome::Rejected(Refusal::NotReady)));
    world.replies.clear();
    world.ask_as(0, Ask { within: Duration::MAX, ..ask });
    world.undecided = false;
    world.peace(ms(200));
    assert!(committed(world.reply(first)) && committed(world.reply(op)));
    world.conclude();
}

/// a secondary says at once who does it.
#[test]
fn a_secondary_names_the_primary() {
    let mut world = World::settled(2, small());
    let (leader, follower) = (world.leader(), world.followers()[0]);
    let op = world.ask(follower, 1, put(1, "v"));
    let primary = Some(world.hosts[leader].member.node);
    assert_eq!(world.reply(op), Some(&Outcome::Rejected(Refusal::NotPrimary(primary))));
    let linearizable = Command::Get(key(1), ReadLevel::Linearizable);
    let op = world.ask(follower, 1, linearizable);
    assert_eq!(world.reply(op), Some(&Outcome::Rejected(Refusal::NotPrimary(primary))));
    let op = world.ask(follower, 1, get(1));
    assert_eq!(found(world.reply(op)), None);
}

/// writes are acknowledged, also a removal of nothing; reads work anywhere.
#[test]
fn put_remove_get() {
    let mut world = World::settled(2, small());
    let (leader, follower) = (world.leader(), world.followers()[0]);
    let mut existed = Vec::new();
    for command in
        [put(1, "a"), put(1, "b"), Command::Remove(key(2)), Command::Remove(key(1)), put(3, "c")]
    {
        let op = world.ask(leader, 1, command);
        world.peace(ms(150));
        let Some(Outcome::Committed { existed: before, .. }) = world.reply(op) else {
            panic!("not committed")
        };
        existed.push(*before);
    }
    assert_eq!(existed, [false, true, false, true, false]);
    for place in [leader, follower] {
        let (gone, there) = (world.ask(place, 1, get(1)), world.ask(place, 1, get(3)));
        world.peace(ms(150));
        assert_eq!(found(world.reply(gone)), None);
        assert_eq!(found(world.reply(there)), Some(&Value::from("c")));
    }
}

/// with a dead store the answer is `Unknown`, after one second and once; the same
/// batch is tried every 100 ms under the same ticket.
#[test]
fn a_dead_store_is_told_after_a_second() {
    let mut world = World::settled(1, small());
    world.stuck.insert(0);
    let op = world.ask(0, 1, put(1, "v"));
    let batch = world.hosts[0].batch.clone().expect("handed over");
    let mut tries = 0;
    for _ in 0..9 {
        world.store(0, Store::Fails);
        world.pass(TICK);
        let again = world.hosts[0].batch.clone();
        assert!(again.is_none_or(|again| again == batch), "the same, under the same name");
        tries += u32::from(world.hosts[0].batch.is_some());
    }
    assert!(tries >= 8, "{tries}");
    world.pass(ms(99));
    assert_eq!(world.reply(op), None);
    world.pass(ms(2));
    assert_eq!(world.reply(op), Some(&Outcome::Unknown));
    world.stuck.clear();
    world.peace(ms(500));
    assert_eq!(world.reply(op), Some(&Outcome::Unknown), "no second answer (A-16)");
}

/// what was not confirmed is never half done. It can be resolved, and
/// then everybody agrees on it.
#[test]
fn an_unknown_is_resolved_by_its_id() {
    let mut world = World::settled(2, small());
    let leader = world.leader();
    let first = world.ask(leader, 1, put(1, "one"));
    world.peace(ms(150));
    assert!(committed(world.reply(first)));
    world.cut.extend([0, 1]);
    let second = world.ask(leader, 1, put(1, "two"));
    world.peace(ms(1_005));
    assert_eq!(world.reply(second), Some(&Outcome::Unknown));
    let read = world.ask(leader, 1, get(1));
    assert_eq!(found(world.reply(read)), Some(&Value::from("one")), "never absent");
    world.cut.clear();
    world.replies.clear();
    let ask = world.asked.iter().find(|ask| ask.op == second).cloned().expect("asked");
    world.ask_as(leader, Ask { again: true, command: Command::Resolve, ..ask });
    world.peace(ms(300));
    assert!(committed(world.reply(second)), "{:?}", world.reply(second));
    for place in [0, 1] {
        let read = world.ask(place, 1, get(1));
        world.peace(ms(150));
        assert_eq!(found(world.reply(read)), Some(&Value::from("two")));
    }
}

/// what is resolved before it arrives is never done, whoever is asked.
#[test]
fn what_is_resolved_first_is_never_done() {
    let mut world = World::settled(2, small());
    let leader = world.leader();
    let op = world.op(1);
    let ask = Ask { op, seen: 0, again: true, within: Duration::MAX, command: Command::Resolve };
    world.ask_as(leader, ask.clone());
    world.peace(ms(150));
    assert_eq!(world.reply(op), Some(&Outcome::Rejected(Refusal::Resolved)));
    world.replies.clear();
    world.crash(leader, 0);
    world.close(leader);
    world.peace(ms(1_000));
    let next = world.leader();
    assert_ne!(next, leader);
    world.ask_as(next, Ask { command: put(1, "late"), ..ask });
    world.peace(ms(150));
    assert_eq!(world.reply(op), Some(&Outcome::Rejected(Refusal::Resolved)));
    world.conclude();
}

/// not before the primary has it on disk, nor before the last secondary has.
#[test]
fn everybody_in_sync_has_it_on_disk_first() {
    let mut world = World::settled(3, small());
    let leader = world.leader();
    for last in [world.followers()[0], world.followers()[1], leader] {
        world.stuck = [last].into();
        let op = world.ask(leader, 1, put(1, "v"));
        world.peace(ms(200));
        assert_eq!(world.reply(op), None, "without {last}");
        world.stuck.clear();
        world.peace(ms(200));
        assert!(committed(world.reply(op)));
    }
}

/// whom a write waits for is the table's choice.
#[test]
fn the_policy_decides_whom_to_wait_for() {
    for (acknowledge, silent, done) in [
        (Acknowledge::All, 0, true),
        (Acknowledge::All, 1, false),
        (Acknowledge::Quorum, 1, true),
        (Acknowledge::Quorum, 2, false),
        (Acknowledge::Primary, 2, true),
    ] {
        let mut world = World::settled(3, with(acknowledge));
        let followers = world.followers();
        world.cut.extend(followers.iter().take(silent));
        let op = world.ask(world.leader(), 1, put(1, "v"));
        world.peace(ms(995));
        assert_eq!(committed(world.reply(op)), done, "{acknowledge:?} without {silent}");
        world.peace(ms(10));
        assert_eq!(world.reply(op) == Some(&Outcome::Unknown), !done);
    }
}

/// a secondary tries as long as it takes.
#[test]
fn a_secondary_writes_until_it_is_written() {
    let patience = Duration::from_secs(60);
    let mut world = World::settled(2, Settings { patience, ..small() });
    let follower = world.followers()[0];
    world.stuck.insert(follower);
    world.ask(world.leader(), 1, put(1, "v"));
    world.peace(ms(200));
    let batch = world.hosts[follower].batch.clone().expect("handed over");
    for _ in 0..30 {
        world.store(follower, Store::Fails);
        world.peace(TICK + TICK);
        assert_eq!(world.hosts[follower].batch.as_ref(), Some(&batch));
    }
    world.conclude();
}

/// A secondary on its own, in reign 1 of member 1, with everything it wants done taken from it.
struct Lone {
    replica: Replica,
    now: Instant,
    effects: Vec<Effect>,
}

impl Lone {
    fn new() -> Self {
        let replica = Replica::new(member(2, 1), Incarnation(1), small());
        let mut lone = Self { replica, now: Instant(1), effects: Vec::new() };
        let in_sync = [member(1, 1), member(2, 1)].into();
        let joining = [].into();
        let roster = Roster {
            reign: Reign(1),
            primary: member(1, 1),
            acknowledge: Acknowledge::All,
            in_sync,
            joining,
        };
        let version = Ballot { round: 1, ..Ballot::ZERO };
        lone.handle(Input::Arbiter { asked: 0, version, roster: Some(roster) });
        lone.persist();
        lone.effects.clear();
        lone
    }

    fn handle(&mut self, input: Input) {
        self.replica.handle(input, self.now, &mut self.effects);
    }

    /// The arbiter says that member 1 has begun this reign.
    fn reign(&mut self, reign: u64) {
        let roster = self.replica.roster().cloned().expect("a roster");
        let roster = Some(Roster { reign: Reign(reign), ..roster });
        let version = Ballot { round: reign, ..Ballot::ZERO };
        self.handle(Input::Arbiter { asked: 0, version, roster });
        self.persist();
    }

    /// The primary says this.
    fn say(&mut self, reign: u64, body: Body) {
        let message = Message { reign: Reign(reign), body };
        self.handle(Input::Message { from: member(1, 1), message });
    }

    fn append(&mut self, reign: u64, prev: u64, count: u64) {
        let place = |index| Place { reign: Reign(if index == 0 { 0 } else { reign }), index };
        let entry = |index| Entry { place: place(index), what: What::Begin };
        let entries = (prev + 1..=prev + count).map(entry).collect();
        let body = Body::Append { prev: place(prev), entries, committed: 0, round: 0 };
        self.say(reign, body);
    }

    fn persist(&mut self) {
        let tickets = self.effects.iter().rev().filter_map(|effect| {
            if let Effect::Persist { ticket, .. } = effect { Some(*ticket) } else { None }
        });
        let ticket = tickets.max().expect("something to write");
        self.handle(Input::Persisted(ticket));
    }

    /// What it has acknowledged since it was last asked.
    fn acks(&mut self) -> Vec<u64> {
        let ack = |effect: Effect| {
            let Effect::Send { message: Message { body, .. }, .. } = effect else { return None };
            if let Body::Ack { index, .. } = body { Some(index) } else { None }
        };
        self.effects.drain(..).filter_map(ack).collect()
    }
}

/// what comes next is acknowledged once it is on disk; what came before is
/// acknowledged again, but no sooner; what comes too early is as if it had not come.
#[test]
fn a_secondary_acknowledges_what_it_has_on_disk() {
    let mut lone = Lone::new();
    lone.append(1, 0, 2);
    lone.append(1, 0, 2);
    let ticket = Ticket(2);
    assert!(lone.effects.iter().any(|effect| matches!(
        effect, Effect::Persist { ticket: handed, .. } if *handed == ticket
    )));
    assert_eq!(lone.acks(), [0, 0], "nothing is on disk yet");
    lone.handle(Input::Persisted(Ticket(7)));
    assert!(lone.acks().is_empty(), "of something else");
    lone.handle(Input::Persisted(ticket));
    assert_eq!(lone.acks(), [2]);
    lone.append(1, 0, 1);
    assert_eq!(lone.acks(), [2], "again");
    lone.append(1, 3, 1);
    assert_eq!(lone.replica.last().index, 2, "a gap");
    lone.append(1, 2, 2);
    lone.persist();
    assert_eq!(lone.acks().last(), Some(&4));
}

/// What no primary can have said is not done, whatever it says: nothing is cut, nothing is written
/// down, and it does not stop the replica.
#[test]
fn a_secondary_believes_no_nonsense() {
    let mut lone = Lone::new();
    lone.append(1, 0, 10);
    lone.persist();
    lone.reign(3);
    let at = |reign, index| Place { reign: Reign(reign), index };
    let begin = |reign, index| Entry { place: at(reign, index), what: What::Begin };
    let append = |prev, entries| Body::Append { prev, entries, committed: 0, round: 0 };
    lone.say(3, append(at(1, 10), [begin(3, 11)].to_vec()));
    let last = lone.replica.last();
    assert_eq!(last, at(3, 11));
    lone.effects.clear();
    for body in [
        append(at(1, 11), [begin(1, 12)].to_vec()),
        append(at(1, 11), [begin(3, 12)].to_vec()),
        append(at(3, 5), [begin(3, 6)].to_vec()),
        append(at(1, 9), [begin(1, 10), begin(4, 11)].to_vec()),
        append(at(1, 9), [begin(2, 10)].to_vec()),
        append(at(1, u64::MAX), [begin(3, u64::MAX)].to_vec()),
    ] {
        lone.say(3, body.clone());
        assert_eq!(lone.replica.last(), last, "{body:?}");
    }
    lone.say(u64::MAX, append(last, Vec::new()));
    assert_eq!(lone.replica.reign(), Reign(3), "the arbiter says whose reign it is");
    let looks = |effect: &Effect| matches!(effect, Effect::Look { .. });
    let writes = |effect: &Effect| matches!(effect, Effect::Persist { .. });
    assert!(lone.effects.iter().any(looks), "and is asked");
    assert!(!lone.effects.iter().any(writes), "{:?}", lone.effects);
    // A copy from a reign to come, or of more than there can be.
    for upto in [at(4, 20), at(3, u64::MAX)] {
        let mut lone = Lone::new();
        lone.reign(3);
        let greeting = lone.replica.greeting;
        lone.say(3, Body::Behind { greeting, cursor: None });
        let upto = Cursor { place: upto, mark: Mark::Whole };
        let (entries, rows, remembered) = (Vec::new(), Vec::new(), Vec::new());
        let piece = Piece { after: None, entries, rows, remembered, floor: 0, upto };
        lone.say(3, Body::Piece { greeting, piece });
        assert_eq!(lone.replica.last(), Place::ZERO);
    }
}

/// a copy is shown once it is on disk: a process that showed it sooner could show less
/// after a crash.
#[test]
fn a_copy_is_shown_once_it_is_on_disk() {
    let mut lone = Lone::new();
    lone.append(1, 0, 1);
    lone.persist();
    let greeting = lone.replica.greeting;
    lone.say(1, Body::Behind { greeting, cursor: None });
    let place = Place { reign: Reign(1), index: 20 };
    let upto = Cursor { place, mark: Mark::Whole };
    let rows = [(key(1), Value::from("v"))].to_vec();
    let (entries, remembered) = (Vec::new(), Vec::new());
    let piece = Piece { after: None, entries, rows, remembered, floor: 0, upto };
    lone.say(1, Body::Piece { greeting, piece });
    assert_eq!(lone.replica.committed(), place);
    lone.effects.retain(|effect| matches!(effect, Effect::Persist { .. }));
    let op = OpId { client: ClientId::new(1), request: RequestId(1) };
    let within = Duration::from_secs(1);
    let ask = Ask { op, seen: 0, again: false, within, command: get(1) };
    lone.handle(Input::Ask(ask));
    let reply = |effect: &Effect| matches!(effect, Effect::Reply { .. });
    assert!(!lone.effects.iter().any(reply), "{:?}", lone.effects);
    lone.persist();
    assert!(lone.effects.iter().any(reply), "{:?}", lone.effects);
}

/// that something is committed is told at once if nothing follows that would tell it, so who
/// reads its own write elsewhere does not wait for the next retry.
#[test]
fn what_is_committed_is_told_at_once() {
    let mut world = World::settled(3, small());
    let write = world.ask(world.leader(), 1, put(1, "v"));
    world.peace(ms(30));
    assert!(committed(world.reply(write)));
    let reads: Vec<OpId> =
        world.followers().into_iter().map(|place| world.ask(place, 1, get(1))).collect();
    assert!(world.settings.retry > ms(50), "no retry meanwhile");
    for read in reads {
        assert_eq!(found(world.reply(read)), Some(&Value::from("v")));
    }
}

/// Neither is what no secondary can have said.
#[test]
fn a_primary_believes_no_nonsense() {
    let mut world = World::settled(2, small());
    let (leader, from) = (world.leader(), world.hosts[world.followers()[0]].member);
    let op = world.ask(leader, 1, put(1, "v"));
    world.peace(ms(200));
    assert!(committed(world.reply(op)));
    let reign = world.replica(leader).reign();
    let end = Place { reign, index: u64::MAX };
    let cursor = |mark| Cursor { place: world.replica(leader).committed(), mark };
    let pull = |mark| Body::Pull { greeting: 0, after: Some(cursor(mark)) };
    for body in [
        Body::Ack { index: u64::MAX, round: u64::MAX },
        Body::Hello { greeting: 0, ends: [end, end, Place::ZERO, end].to_vec() },
        pull(Mark::Remembered(u64::MAX)),
        pull(Mark::Whole),
        Body::Sworn(end),
    ] {
        world.handle(leader, Input::Message { from, message: Message { reign, body } });
    }
    let message = Message { reign: Reign(u64::MAX), body: Body::Leave };
    world.handle(leader, Input::Message { from, message });
    assert_eq!(world.replica(leader).reign(), reign);
    world.conclude();
}

/// P-I3, P-I7: what an earlier reign left behind goes when something else takes its place, and
/// having been on disk does not count for that.
#[test]
fn a_suffix_of_an_earlier_reign_is_cut() {
    let mut lone = Lone::new();
    lone.append(1, 0, 3);
    lone.persist();
    assert_eq!(lone.acks().last(), Some(&3));
    // Reign 2 begins behind the first entry.
    let begin = Entry { place: Place { reign: Reign(2), index: 2 }, what: What::Begin };
    let prev = Place { reign: Reign(1), index: 1 };
    let append = |entries| Body::Append { prev, entries, committed: 0, round: 0 };
    lone.reign(2);
    lone.say(2, append(Vec::new()));
    lone.say(2, append(alloc::vec![begin]));
    assert_eq!(lone.replica.last(), Place { reign: Reign(2), index: 2 });
    assert!(lone.acks().iter().all(|index| *index <= 1));
    lone.handle(Input::Persisted(Ticket(4)));
    assert_eq!(lone.acks().last(), Some(&2));
    lone.append(1, 3, 1);
    assert_eq!(lone.replica.last().index, 2, "the reign before has nothing to say (Z77)");
}

/// with three of ten messages lost either way everything arrives.
#[test]
fn losses_are_made_up_for() {
    let mut world = World::settled(3, small());
    let leader = world.leader();
    let mut ops = Vec::new();
    for round in 0..60_usize {
        if round % 3 == 0 {
            ops.push(world.ask(leader, 1, put(round as u16 % 5, &format!("v{round}"))));
        }
        let count = world.network.len();
        (0..count).filter(|place| (place * 7 + round) % 10 < 3).for_each(|place| world.lose(place));
        world.peace(ms(25));
    }
    world.peace(ms(300));
    assert!(ops.iter().all(|op| committed(world.reply(*op))));
    world.conclude();
}

/// to who takes its time, the first of what it owes is sent again, not all of it, and after a
/// while more rarely; the rest goes on once that is there.
#[test]
fn who_is_slow_is_not_flooded() {
    let patience = Duration::from_secs(60);
    let mut world = World::settled(2, Settings { patience, ..small() });
    let (leader, slow) = (world.leader(), world.followers()[0]);
    world.stuck.insert(slow);
    for number in 0..20 {
        world.ask(leader, 1, put(number, "something of some length"));
    }
    world.peace(ms(90));
    let batches = |world: &World| world.counts["batch"];
    let before = batches(&world);
    world.peace(ms(800));
    let prompt = batches(&world) - before;
    assert!((4..=9).contains(&prompt), "once each 100 ms: {prompt}");
    world.peace(ms(1_000));
    let before = batches(&world);
    world.peace(ms(2_000));
    let rare = batches(&world) - before;
    assert!((1..=3).contains(&rare), "once a second: {rare}");
    world.stuck.clear();
    world.peace(ms(1_500));
    assert_eq!(world.replica(slow).committed(), world.replica(leader).last());
    world.conclude();
}

/// what is not committed is shown to those alone who ask for it.
#[test]
fn reads_show_what_is_committed() {
    let mut world = World::settled(2, small());
    let leader = world.leader();
    world.cut.extend([0, 1]);
    let write = world.ask(leader, 1, put(1, "v"));
    world.peace(ms(50));
    let clean = world.ask(leader, 1, get(1));
    let dirty = world.ask(leader, 1, Command::Get(key(1), ReadLevel::Dirty));
    assert_eq!(found(world.reply(clean)), None);
    assert_eq!(found(world.reply(dirty)), Some(&Value::from("v")));
    assert_eq!(world.reply(write), None);
}

/// who has seen something is shown nothing older, wherever it asks; and reads
/// what it wrote.
#[test]
fn a_session_never_goes_back() {
    let mut world = World::settled(3, with(Acknowledge::Quorum));
    let (leader, slow) = (world.leader(), world.followers()[1]);
    world.cut.insert(slow);
    let write = world.ask(leader, 1, put(1, "v"));
    world.peace(ms(200));
    assert!(committed(world.reply(write)));
    let (mine, others) = (world.ask(slow, 1, get(1)), world.ask(slow, 2, get(1)));
    assert_eq!(found(world.reply(others)), None, "an older state is a state");
    assert_eq!(world.reply(mine), None, "not for who knows better");
    world.peace(ms(1_005));
    assert_eq!(world.reply(mine), Some(&Outcome::Rejected(Refusal::NotInTime)));
    let mine = world.ask(slow, 1, get(1));
    world.cut.clear();
    world.peace(ms(500));
    assert_eq!(found(world.reply(mine)), Some(&Value::from("v")));
}

/// P-I3, A-24, A-30: what a replica has shown it shows again after a restart, or nothing until it
/// can, though that it is committed may not be on its disk.
#[test]
fn a_replica_that_restarts_does_not_go_back() {
    for together in [false, true] {
        let mut world = World::settled(3, small());
        for value in ["4", "5"] {
            let op = world.ask(world.leader(), 1, put(1, value));
            world.peace(ms(300));
            assert!(committed(world.reply(op)));
        }
        for place in 0..3 {
            let read = world.ask(place, 2, get(1));
            assert_eq!(found(world.reply(read)), Some(&Value::from("5")));
        }
        let restarted = if together { [0, 1, 2].to_vec() } else { world.followers() };
        world.cut.extend(0..3);
        restarted.iter().for_each(|place| world.crash(*place, 0));
        restarted.iter().for_each(|place| world.start(*place));
        world.peace(ms(100));
        // Of clients who have seen nothing yet.
        let reads: Vec<OpId> =
            restarted.iter().map(|place| world.ask(*place, 3 + *place as u64, get(1))).collect();
        world.peace(ms(100));
        assert!(reads.iter().all(|op| world.reply(*op).is_none()), "nobody says what is committed");
        world.cut.clear();
        world.peace(ms(500));
        for op in reads {
            assert_eq!(found(world.reply(op)), Some(&Value::from("5")));
        }
        world.conclude();
    }
}

/// P-I6: who comes late gets everything, in pieces, while writes go on without waiting.
#[test]
fn late_joiners_catch_up() {
    let (waiting, tail, tail_bytes) = (300, 300, 40_000);
    let limits = Limits { batch_bytes: 2_000, waiting, tail, tail_bytes, ..small().limits };
    let settings = Settings { limits, patience: Duration::from_secs(60), ..small() };
    let mut world = World::new(6, settings);
    let late = 2..6;
    late.clone().for_each(|place| world.crash(place, 0));
    world.peace(ms(1_000));
    let leader = world.leader();
    for number in 0..5_000 {
        world.ask(leader, 1, put(number, "some value that is not quite short"));
        if number % 250 == 249 {
            world.peace(ms(250));
        }
    }
    assert_eq!(world.hosts[leader].replica.as_ref().map(|it| it.rows().count()), Some(5_000));
    late.clone().for_each(|place| world.start(place));
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for number in 0..100_u16 {
        reads.push(world.ask(3, 1_000 + u64::from(number), get(4_000)));
        let joining = world.roster.as_ref().map_or(0, |roster| roster.joining.len());
        let op = world.ask(leader, 1, put(number % 50, "another"));
        world.peace(ms(15));
        writes.push((op, joining));
    }
    world.peace(ms(2_000));
    assert!(writes.iter().any(|(_, joining)| *joining > 0), "some were made meanwhile");
    assert!(writes.iter().all(|(op, _)| committed(world.reply(*op))), "none failed");
    // Whoever asks one of them meanwhile is told to ask another, not that there is nothing.
    let answers = reads.iter().map(|op| world.reply(*op).expect("an answer"));
    let (shown, refused): (Vec<_>, Vec<_>) =
        answers.partition(|answer| matches!(answer, Outcome::Found { .. }));
    let elsewhere =
        |answer: &&Outcome| matches!(answer, Outcome::Rejected(Refusal::NotReplica(Some(_))));
    assert!(refused.iter().filter(|it| elsewhere(it)).count() > 10, "{refused:?}");
    assert!(shown.iter().all(|answer| found(Some(answer)).is_some()), "{shown:?}");
    for place in late {
        let pieces = world.pieces.get(&world.hosts[place].member).copied().unwrap_or(0);
        assert!(pieces > 50, "{place} was given {pieces} pieces");
    }
    assert_eq!(world.roster.as_ref().map(|roster| roster.in_sync.len()), Some(6));
    world.conclude();
}

/// who is far away is counted in under steady writes, though there is always something on its
/// way to it; writers wait for a moment at most, and none fails.
#[test]
fn a_distant_joiner_is_counted_in() {
    let limits =
        Limits { window: 40, window_bytes: 1 << 20, tail: 300, waiting: 300, ..small().limits };
    let limits = Limits { history: 100, history_bytes: 1 << 20, tail_bytes: 1 << 20, ..limits };
    let mut world = World::settled(3, Settings { limits, ..small() });
    let (leader, far) = (world.leader(), world.followers()[0]);
    world.crash(far, 0);
    world.close(far);
    world.peace(ms(500));
    world.far.insert(far);
    world.start(far);
    let counts = |world: &World| {
        let member = world.hosts[far].member;
        world.roster.as_ref().is_some_and(|roster| roster.in_sync.contains(&member))
    };
    let begun = world.now;
    let mut writes = Vec::new();
    while !counts(&world) {
        assert!(world.now.since(begun) < ms(3_000), "{}", world.show());
        writes.push(world.ask(leader, 1, put(writes.len() as u16 % 7, "v")));
        world.peace(ms(5));
    }
    world.peace(ms(500));
    assert!(writes.iter().all(|op| committed(world.reply(*op))), "none failed");
    world.conclude();
}

/// who catches up is not waited for, and not elected (Z78).
#[test]
fn who_catches_up_does_not_count() {
    let mut world = World::settled(2, small());
    let leader = world.leader();
    let follower = world.followers()[0];
    world.crash(follower, 0);
    world.close(follower);
    world.ask(leader, 1, put(1, "u"));
    world.peace(ms(300));
    // It comes back, is joining, and its store does not work.
    world.stuck.insert(follower);
    world.start(follower);
    world.peace(ms(300));
    let roster = world.roster.clone().expect("a roster");
    assert!(roster.joining.contains(&world.hosts[follower].member), "{roster}");
    let op = world.ask(leader, 1, put(1, "v"));
    world.peace(ms(100));
    assert!(committed(world.reply(op)));
    world.stuck.clear();
    world.cut.insert(follower);
    world.crash(leader, 0);
    world.close(leader);
    world.peace(ms(3_000));
    assert_eq!(world.replica(follower).role(), Role::Secondary, "it lacks what was acknowledged");
    world.conclude();
}

/// P-I9: a secondary that leaves owes nothing any more, once the arbiter has said so.
#[test]
fn leaving_waives_what_is_owed() {
    let mut world = World::settled(3, small());
    let (leader, leaves) = (world.leader(), world.followers()[0]);
    world.stuck.insert(leaves);
    let op = world.ask(leader, 1, put(1, "v"));
    world.peace(ms(100));
    assert_eq!(world.reply(op), None);
    world.undecided = true;
    world.want(leaves, false);
    world.peace(ms(300));
    assert_eq!(world.reply(op), None, "not by its own wish (P-I11)");
    world.undecided = false;
    world.peace(ms(200));
    assert!(committed(world.reply(op)));
    world.peace(ms(500));
    assert_eq!(world.replica(leaves).role(), Role::Outside);
    world.network.clear();
    world.peace(ms(300));
    let gone = world.hosts[leaves].member;
    assert!(world.network.iter().all(|(_, to, _)| *to != gone), "nothing more is sent to it");
    let read = world.ask(leaves, 2, get(1));
    assert!(matches!(world.reply(read), Some(Outcome::Rejected(Refusal::NotReplica(_)))));
    world.conclude();
}

/// A-38, P-I11: who owes for too long is counted out, only by the arbiter, and comes back.
#[test]
fn a_silent_secondary_is_counted_out() {
    let mut world = World::settled(3, small());
    let (leader, silent) = (world.leader(), world.followers()[0]);
    let who = world.hosts[silent].member;
    world.undecided = true;
    world.cut.insert(silent);
    let op = world.ask(leader, 1, put(1, "v"));
    world.peace(ms(900));
    let lags = world.replica(leader).lags(world.now);
    let lag = lags.iter().find(|lag| lag.member == who).expect("known");
    assert!(lag.behind == 1 && lag.silent > ms(800) && lag.in_sync, "seen before: {lag:?}");
    world.peace(ms(3_000));
    assert_eq!(world.reply(op), Some(&Outcome::Unknown));
    assert!(world.roster.as_ref().is_some_and(|roster| roster.in_sync.contains(&who)));
    let op = world.ask(leader, 1, put(1, "w"));
    world.peace(ms(100));
    assert_eq!(world.reply(op), None, "asking to shrink is not enough");
    world.undecided = false;
    world.peace(ms(200));
    assert!(committed(world.reply(op)));
    world.cut.clear();
    world.conclude();
}

/// a primary that was stopped for a while has not read what others said meanwhile. Nobody was
/// silent, and nobody is counted out; who is silent from then on is.
#[test]
fn a_primary_that_was_paused_counts_nobody_out() {
    let patience = ms(500);
    for first_read in [false, true] {
        let mut world = World::settled(3, Settings { patience, ..small() });
        let leader = world.leader();
        let op = world.ask(leader, 1, put(1, "v"));
        world.now = world.now + ms(900);
        let before = world.network.len();
        if first_read {
            world.deliver(0, false);
        } else {
            world.handle(leader, Input::Timeout);
        }
        assert!(before > 0 && world.proposals.is_empty(), "{:?}", world.proposals);
        world.peace(ms(80));
        let counting = |world: &World| world.roster.as_ref().map(|roster| roster.in_sync.len());
        assert_eq!(counting(&world), Some(3), "{}", world.show());
        assert!(committed(world.reply(op)));
        world.cut.insert(world.followers()[0]);
        world.peace(ms(800));
        assert_eq!(counting(&world), Some(2));
        world.conclude();
    }
}

/// P-I2: while it may be decided any time who is in sync, both answers are waited for.
#[test]
fn a_change_in_flight_needs_both_sets() {
    let mut world = World::new(2, small());
    world.crash(1, 0);
    world.peace(ms(500));
    world.start(1);
    // Up to the proposal that it be in sync, which is decided without a word.
    let joins =
        |world: &World| world.proposals.iter().any(|(_, _, roster)| roster.in_sync.len() == 2);
    for _ in 0..400 {
        if joins(&world) {
            break;
        }
        let count = world.network.len();
        (0..count).for_each(|_| world.deliver(0, false));
        (0..2).for_each(|place| world.store(place, Store::Done));
        (0..world.tells.len()).for_each(|_| world.tell_session(0));
        if !joins(&world) {
            (0..world.proposals.len()).for_each(|_| world.decide(0, true));
            (0..world.looks.len()).for_each(|_| world.read_arbiter(0));
            (0..world.answers.len()).for_each(|_| world.tell_arbiter(0));
        }
        world.pass(ms(5));
    }
    assert!(joins(&world), "{}", world.show());
    world.undecided = true;
    world.stuck.insert(1);
    let op = world.ask(0, 1, put(1, "v"));
    world.peace(ms(300));
    assert_eq!(world.reply(op), None, "the newcomer may count already");
    world.stuck.clear();
    world.peace(ms(200));
    assert!(committed(world.reply(op)));
    world.conclude();
}

/// A-39, P-I4, P-I8: when the primary dies another one has everything; the old one, still alive,
/// can have nothing more acknowledged.
#[test]
fn a_dead_primary_is_succeeded() {
    let mut world = World::settled(3, small());
    let old = world.leader();
    let op = world.ask(old, 1, put(1, "v"));
    world.peace(ms(200));
    assert!(committed(world.reply(op)));
    world.cut.insert(old);
    world.close(old);
    let late = world.ask(old, 1, put(1, "late"));
    // It hears nothing, not even from the arbiter.
    world.tells.retain(|(place, _)| *place != old);
    let begun = world.now;
    let leads =
        |world: &World, place: usize| world.replica(place).role() == Role::Primary && place != old;
    while !(0..3).any(|place| leads(&world, place)) {
        world.peace(ms(5));
        world.answers.clear();
        assert!(world.now.since(begun) < ms(500), "within half a second of the news");
    }
    let new = (0..3).find(|place| leads(&world, *place)).expect("there is");
    let op = world.ask(new, 1, put(2, "new"));
    world.peace(ms(300));
    assert!(committed(world.reply(op)));
    world.peace(ms(1_000));
    assert_eq!(world.reply(late), Some(&Outcome::Unknown));
    let read = world.ask(new, 1, get(1));
    assert_eq!(found(world.reply(read)), Some(&Value::from("v")));
    world.conclude();
}

/// A majority's word is kept: a successor waits until it has heard of enough of them.
#[test]
fn a_successor_of_a_majority_hears_enough() {
    let mut world = World::settled(3, with(Acknowledge::Quorum));
    let old = world.leader();
    let [has, lacks] = world.followers()[..] else { panic!("three") };
    world.cut.insert(lacks);
    let op = world.ask(old, 1, put(1, "v"));
    world.peace(ms(100));
    assert!(committed(world.reply(op)));
    // Who has it can neither be heard nor swear anything off.
    world.cut = [has].into();
    world.stuck = [has].into();
    world.crash(old, 0);
    world.close(old);
    world.peace(ms(1_500));
    assert!(world.replica(lacks).sworn_off);
    assert_ne!(world.replica(lacks).role(), Role::Primary, "it lacks what was acknowledged");
    world.cut.clear();
    world.stuck.clear();
    world.peace(ms(500));
    assert_eq!(world.replica(has).role(), Role::Primary);
    world.conclude();
}

/// P-I1: a primary that starts again begins another reign, with everything that was on
/// its disk; so does a table of which everybody starts again.
#[test]
fn a_primary_that_restarts_begins_another_reign() {
    let mut world = World::settled(3, small());
    let leader = world.leader();
    let op = world.ask(leader, 1, put(1, "v"));
    world.peace(ms(200));
    assert!(committed(world.reply(op)));
    let reign = world.replica(leader).reign();
    (0..3).for_each(|place| world.crash(place, 0));
    (0..3).for_each(|place| world.start(place));
    world.peace(ms(500));
    assert!(world.replica(world.leader()).reign() > reign);
    let read = world.ask(world.leader(), 1, get(1));
    assert_eq!(found(world.reply(read)), Some(&Value::from("v")));
    world.conclude();
}

/// a primary that restarts still has what was committed last as entries, so whoever lacks
/// little of it needs no copy of the whole.
#[test]
fn who_lacks_little_needs_no_copy_of_a_primary_that_restarted() {
    let mut world = World::settled(3, small());
    let (leader, away) = (world.leader(), world.followers()[0]);
    world.crash(away, 0);
    world.close(away);
    world.peace(ms(300));
    for number in 0..3 {
        let op = world.ask(leader, 1, put(number, "v"));
        world.peace(ms(150));
        assert!(committed(world.reply(op)));
    }
    let pieces = |world: &World| world.counts.get("piece").copied().unwrap_or(0);
    let before = pieces(&world);
    world.crash(leader, 0);
    world.start(leader);
    world.start(away);
    world.conclude();
    assert_eq!(pieces(&world), before, "entries were enough");
}

/// P-I6: a copy that was given up is not carried along for ever.
#[test]
fn a_copy_that_was_given_up_is_let_go() {
    let upto =
        Cursor { place: Place { reign: Reign(1), index: 9 }, mark: Mark::Rows(Some(key(1))) };
    let (entries, remembered) = (Vec::new(), Vec::new());
    let rows = [(key(1), Value::from("v"))].to_vec();
    let piece = Piece { after: None, entries, rows, remembered, floor: 0, upto };
    let mut journal = Journal::new(10);
    assert_eq!(journal.add(Record::Piece(piece.clone())), Ok(()));
    let parts = |journal: &Journal| {
        let part = |record: &Record| *record == Record::Piece(piece.clone());
        journal.clone().into_records().filter(part).count()
    };
    assert_eq!(parts(&journal), 1);
    assert_eq!(journal.add(Record::Entered { reign: Reign(2), sworn_off: false }), Ok(()));
    assert_eq!(parts(&journal), 0);
}

/// a secondary that leaves and comes back, and one that restarts, in either order.
#[test]
fn secondaries_come_and_go() {
    for restarts_first in [false, true] {
        let mut world = World::settled(2, small());
        let (leader, other) = (world.leader(), world.followers()[0]);
        for round in 0..4 {
            if (round % 2 == 0) == restarts_first {
                world.crash(other, 0);
                world.start(other);
            } else {
                world.want(other, false);
                world.peace(ms(500));
                world.want(other, true);
            }
            world.peace(ms(600));
            let op = world.ask(leader, 1, put(1, &format!("v{round}")));
            world.peace(ms(300));
            assert!(committed(world.reply(op)), "{}", world.show());
            assert!(world.replica(other).rows().eq(world.replica(leader).rows()));
        }
        world.conclude();
    }
}

/// ids are their clients'; what is asked again is done once and answered the same, also by
/// the next primary.
#[test]
fn requests_are_done_once() {
    let mut world = World::settled(2, small());
    let leader = world.leader();
    let ids = [1, 2].map(|client| OpId { client: ClientId::new(client), request: RequestId(0) });
    let ask = |op, value| Ask {
        op,
        seen: 0,
        again: false,
        within: Duration::MAX,
        command: put(1, value),
    };
    world.ask_as(leader, ask(ids[0], "a"));
    world.ask_as(leader, ask(ids[1], "b"));
    world.ask_as(leader, ask(ids[1], "b"));
    world.peace(ms(200));
    let first = world.reply(ids[0]).cloned();
    assert!(committed(first.as_ref()) && committed(world.reply(ids[1])));
    world.crash(leader, 0);
    world.close(leader);
    world.peace(ms(1_000));
    world.replies.clear();
    world.ask_as(world.leader(), Ask { again: true, ..ask(ids[0], "a") });
    world.peace(ms(200));
    assert_eq!(world.reply(ids[0]), first.as_ref());
}

/// what is too long ago is forgotten, and that is not mistaken for never.
#[test]
fn what_is_forgotten_is_unknown() {
    let mut world = World::settled(1, small());
    let first = world.ask(0, 1, put(1, "v"));
    world.peace(ms(50));
    for _ in 0..20 {
        world.ask(0, 2, put(2, "w"));
        world.peace(ms(20));
    }
    world.replies.clear();
    world.ask_as(
        0,
        Ask { op: first, seen: 0, again: true, within: Duration::MAX, command: put(1, "v") },
    );
    assert_eq!(world.reply(first), Some(&Outcome::Unknown));
    let fresh = world.op(1);
    let seen = world.history.len() as u64;
    world.ask_as(
        0,
        Ask { op: fresh, seen, again: true, within: Duration::MAX, command: put(1, "x") },
    );
    world.peace(ms(50));
    assert!(committed(world.reply(fresh)), "nothing since is forgotten");
}

/// what is too much is refused, with the time to come back.
#[test]
fn there_is_an_end_to_what_may_wait() {
    let mut world = World::settled(2, small());
    let leader = world.leader();
    world.cut.extend([0, 1]);
    let ops: Vec<OpId> = (0..60).map(|_| world.ask(leader, 1, put(1, "v"))).collect();
    let busy = Outcome::Rejected(Refusal::Busy(TICK));
    let refused = ops.iter().filter(|op| world.reply(**op) == Some(&busy)).count();
    assert_eq!(refused, 60 - small().limits.tail);
    let long = Value::from(alloc::vec![0; 200]);
    let op = world.ask(leader, 1, Command::Put(key(1), long));
    assert_eq!(world.reply(op), Some(&Outcome::Rejected(Refusal::TooLarge)));
    world.cut.clear();
    world.conclude();
}

/// A linearizable read needs a proof: from those who follow, or from the arbiter.
#[test]
fn a_primary_proves_that_it_is_one() {
    let mut world = World::settled(2, small());
    let leader = world.leader();
    let read = || Command::Get(key(1), ReadLevel::Linearizable);
    let op = world.ask(leader, 1, read());
    assert_eq!(world.reply(op), None);
    world.undecided = true;
    world.peace(ms(30));
    assert_eq!(found(world.reply(op)), None, "by who follows");
    world.cut.extend([0, 1]);
    let op = world.ask(leader, 1, read());
    world.peace(ms(300));
    assert_eq!(world.reply(op), None);
    world.undecided = false;
    world.peace(ms(300));
    assert_eq!(found(world.reply(op)), None, "by the arbiter");
    world.undecided = true;
    let op = world.ask(leader, 1, read());
    world.peace(ms(1_005));
    assert_eq!(world.reply(op), Some(&Outcome::Rejected(Refusal::NotInTime)), "by nobody");
}

/// P-I6: what a crash leaves of a copy in the making is not believed, nor is what no replica wrote.
#[test]
fn a_journal_believes_nothing_torn() {
    let place = |index| Place { reign: Reign(1), index };
    let entry = |index| Entry { place: place(index), what: What::Begin };
    let piece = |after: Option<Cursor>, mark| Piece {
        after,
        entries: Vec::new(),
        rows: alloc::vec![(key(1), Value::from("v"))],
        remembered: Vec::new(),
        floor: 0,
        upto: Cursor { place: place(9), mark },
    };
    let part = Mark::Rows(Some(key(1)));
    let cursor = Cursor { place: place(9), mark: part.clone() };
    let mut journal = Journal::new(10);
    let mut add = |record| journal.add(record);
    assert_eq!(add(Record::Appended(alloc::vec![entry(1), entry(2)])), Ok(()));
    assert_eq!(add(Record::Appended(alloc::vec![entry(4)])), Err(Foreign::Gap));
    assert_eq!(add(Record::Committed(3)), Err(Foreign::Committed));
    let orphan = Record::Piece(piece(Some(cursor), Mark::Whole));
    assert_eq!(add(orphan.clone()), Err(Foreign::Piece));
    let mut journal = Journal::new(10);
    assert_eq!(journal.add(Record::Appended(alloc::vec![entry(1)])), Ok(()));
    assert_eq!(journal.add(Record::Piece(piece(None, part))), Ok(()));
    let replica = Replica::recover(member(1, 1), Incarnation(2), small(), journal.clone());
    assert_eq!((replica.last().index, replica.rows().count()), (1, 0), "as if it had not begun");
    assert_eq!(journal.add(orphan.clone()), Ok(()));
    assert_eq!(journal.add(orphan), Ok(()), "written again");
    let replica = Replica::recover(member(1, 1), Incarnation(3), small(), journal);
    assert_eq!((replica.committed(), replica.rows().count()), (place(9), 1));
}

/// Z80: the last replica that comes back without what it had is another one, and is not elected.
#[test]
fn the_last_one_without_its_disk_is_nobody() {
    let mut world = World::settled(1, small());
    let op = world.ask(0, 1, put(1, "v"));
    world.peace(ms(100));
    assert!(committed(world.reply(op)));
    world.crash(0, 0);
    world.close(0);
    world.hosts[0].member.life.0 += 1;
    world.start(0);
    world.peace(ms(5_000));
    assert_eq!(world.replica(0).role(), Role::Secondary, "it waits for a primary");
    let op = world.ask(0, 1, put(1, "w"));
    assert_eq!(world.reply(op), Some(&Outcome::Rejected(Refusal::NotPrimary(None))));
}

/// An operator may ask for another primary; nothing acknowledged is lost, and it takes no time-out.
#[test]
fn a_primary_hands_over() {
    let mut world = World::settled(3, small());
    let (old, to) = (world.leader(), world.followers()[1]);
    let op = world.ask(old, 1, put(1, "v"));
    let node = world.hosts[to].member.node;
    world.handle(old, Input::HandOver(Some(node)));
    let refused = world.ask(old, 1, put(1, "w"));
    assert_eq!(world.reply(refused), Some(&Outcome::Rejected(Refusal::Busy(TICK))));
    world.peace(ms(400));
    assert!(committed(world.reply(op)));
    assert_eq!(world.leader(), to);
    assert_eq!(world.replica(old).role(), Role::Secondary);
    world.want(to, false);
    world.peace(ms(1_000));
    assert_ne!(world.leader(), to, "a primary that leaves hands over first");
    assert_eq!(world.replica(to).role(), Role::Outside);
    world.conclude();
}

/// A primary that wants to leave, and can hand over to nobody because the other disk is stuck, goes
/// on between its attempts.
#[test]
fn a_primary_that_cannot_hand_over_goes_on() {
    let mut world = World::settled(2, with(Acknowledge::Primary));
    let leader = world.leader();
    world.stuck.extend(world.followers());
    let first = world.ask(leader, 1, put(1, "v"));
    world.peace(ms(50));
    assert!(committed(world.reply(first)));
    world.want(leader, false);
    world.peace(ms(200));
    let busy = world.ask(leader, 1, put(1, "w"));
    assert_eq!(world.reply(busy), Some(&Outcome::Rejected(Refusal::Busy(TICK))));
    world.peace(world.settings.answer_within);
    let second = world.ask(leader, 1, put(1, "x"));
    world.peace(ms(50));
    assert!(committed(world.reply(second)), "{:?}", world.reply(second));
}

/// of two that want to leave neither hands over to the other: nobody else would catch up with
/// either.
#[test]
fn two_that_leave_do_not_hand_over_to_each_other() {
    let mut world = World::settled(3, with(Acknowledge::Quorum));
    let (leader, others) = (world.leader(), world.followers());
    world.stuck.insert(others[1]);
    let write = world.ask(leader, 1, put(1, "v"));
    world.peace(ms(50));
    assert!(committed(world.reply(write)));
    let reign = world.replica(leader).reign();
    world.want(others[0], false);
    world.peace(ms(200));
    world.want(leader, false);
    world.peace(ms(500));
    assert_eq!(world.replica(leader).reign(), reign);
    world.stuck.clear();
    world.peace(ms(2_000));
    assert_eq!(world.leader(), others[1]);
    assert_eq!(world.roster.as_ref().map(|roster| roster.in_sync.len()), Some(1));
    world.conclude();
}

/// A primary, and a replica that has sworn off its reign and hears nobody, while the reign goes on.
fn sworn_off() -> (World, usize, usize) {
    let mut world = World::settled(2, with(Acknowledge::Quorum));
    let (leader, other) = (world.leader(), world.followers()[0]);
    let (version, roster) = (world.version, world.roster.clone());
    world.handle(other, Input::Arbiter { asked: 0, version, roster });
    // Who has no session either cannot be the successor.
    for place in [other, leader] {
        world.close(place);
        let member = world.hosts[place].member;
        world.handle(other, Input::Session { member, open: false });
    }
    world.cut.insert(other);
    world.peace(ms(500));
    assert!(world.replica(other).sworn_off, "{}", world.show());
    (world, leader, other)
}

/// Who has sworn off a reign that goes on without it follows in the next one.
#[test]
fn a_primary_begins_anew_for_who_has_sworn_it_off() {
    let (mut world, leader, _) = sworn_off();
    assert!(world.roster.as_ref().is_some_and(|roster| roster.in_sync.len() == 1));
    world.conclude();
    assert_eq!((world.leader(), world.replica(leader).reign()), (leader, Reign(2)));
}

/// A primary that begins anew goes on with what it has not committed yet.
#[test]
fn writes_outlive_a_reign_of_the_same_primary() {
    let (mut world, leader, other) = sworn_off();
    world.stuck.insert(leader);
    let op = world.ask(leader, 1, put(1, "v"));
    world.cut.clear();
    for place in [other, leader] {
        let member = world.hosts[place].member;
        world.closed.remove(&member);
        world.handle(leader, Input::Session { member, open: true });
        world.handle(other, Input::Session { member, open: true });
    }
    world.peace(ms(400));
    assert_eq!((world.roster.as_ref().map(|roster| roster.reign)), Some(Reign(2)));
    assert_eq!(world.reply(op), None, "{}", world.show());
    world.stuck.clear();
    world.peace(ms(400));
    assert!(committed(world.reply(op)));
    world.conclude();
}

/// P-I4, P-I8: who has sworn off a reign takes nothing more of it and acknowledges nothing, also
/// after a restart; and says so once that is on disk.
#[test]
fn who_has_sworn_off_takes_nothing_more() {
    let mut lone = Lone::new();
    lone.append(1, 0, 1);
    lone.persist();
    lone.acks();
    let from = member(3, 1);
    let message = Message { reign: Reign(1), body: Body::SwearOff };
    lone.handle(Input::Message { from, message });
    let sworn = |lone: &Lone| {
        lone.effects.iter().any(|effect| {
            matches!(effect, Effect::Send { to, message: Message { body: Body::Sworn(last), .. } }
                if *to == from && last.index == 1)
        })
    };
    assert!(!sworn(&lone), "not on disk yet");
    lone.append(1, 1, 1);
    lone.persist();
    assert!(sworn(&lone));
    lone.append(1, 1, 2);
    assert_eq!(lone.replica.last().index, 1);
    assert!(lone.acks().is_empty());
    let mut journal = Journal::new(10);
    let entered = Record::Entered { reign: Reign(1), sworn_off: true };
    assert_eq!(journal.add(entered), Ok(()));
    let replica = Replica::recover(member(2, 1), Incarnation(2), small(), journal);
    assert!(replica.sworn_off && replica.reign() == Reign(1));
}

/// P-I4: those who hold what a majority acknowledged are not counted out before others hold it.
#[test]
fn a_majority_does_not_shrink_to_who_lacks_something() {
    let mut world = World::settled(3, with(Acknowledge::Quorum));
    let leader = world.leader();
    let [has, lacks] = world.followers()[..] else { panic!("three") };
    world.cut.insert(lacks);
    let op = world.ask(leader, 1, put(1, "v"));
    world.peace(ms(100));
    assert!(committed(world.reply(op)));
    world.crash(has, 0);
    world.close(has);
    world.peace(ms(1_000));
    let counts = |world: &World, place: usize| {
        let member = world.hosts[place].member;
        world.roster.as_ref().is_some_and(|roster| roster.in_sync.contains(&member))
    };
    assert!(counts(&world, has) && counts(&world, lacks));
    world.cut.clear();
    world.peace(ms(500));
    assert!(!counts(&world, has) && counts(&world, lacks), "now it may go");
    world.conclude();
}

/// What earlier reigns left may be replaced by a later one for as long as only a majority has it:
/// it counts once something of this reign is behind it.
#[test]
fn what_earlier_reigns_left_is_committed_with_this_one() {
    let mut world = World::settled(3, with(Acknowledge::Quorum));
    let (leader, followers) = (world.leader(), world.followers());
    world.stuck.extend(followers.iter().copied());
    world.ask(leader, 1, put(1, "left"));
    world.peace(ms(50));
    let left = world.replica(leader).last();
    // One follower has it on disk as well, and cannot say so before the next reign.
    let follower = followers[0];
    world.cut.insert(leader);
    world.store(follower, Store::Done);
    world.crash(leader, 0);
    world.start(leader);
    world.cut.clear();
    world.peace(ms(300));
    assert_eq!(world.replica(leader).role(), Role::Primary);
    let begin = world.replica(leader).last();
    assert!(begin.reign > left.reign && begin.index > left.index);
    let member = world.hosts[follower].member;
    let mut only_what_was_left = false;
    for _ in 0..10 {
        world.peace(ms(150));
        let on_disk = world.disks[&member].log().last();
        let committed = world.replica(leader).committed();
        if on_disk < begin {
            only_what_was_left |= on_disk >= left;
            assert!(committed < left, "{committed} with no more than {on_disk} of a majority");
        }
        world.store(follower, Store::Done);
    }
    assert!(only_what_was_left, "that is what it is about");
    assert!(world.replica(leader).committed() >= begin);
}

/// If all who counted have lost their disks, an operator can have another copy go on; not before.
#[test]
fn by_force_a_copy_that_did_not_count_goes_on() {
    let mut world = World::settled(3, small());
    let (leader, followers) = (world.leader(), world.followers());
    let away = followers[0];
    world.ask(leader, 1, put(1, "of all"));
    world.peace(ms(200));
    world.crash(away, 0);
    world.close(away);
    world.peace(ms(500));
    world.start(away);
    world.handle(away, Input::Join(false));
    let member = world.hosts[away].member;
    assert!(!world.roster.as_ref().expect("a roster").in_sync.contains(&member));
    world.handle(away, Input::Force);
    world.peace(ms(300));
    assert_ne!(world.roster.as_ref().expect("a roster").primary, member, "others are there");
    for place in [leader, followers[1]] {
        world.crash(place, 0);
        world.close(place);
    }
    world.peace(ms(300));
    assert_eq!(world.replica(away).check_force(), Ok(()));
    world.forced = true;
    world.handle(away, Input::Force);
    world.peace(ms(500));
    assert_eq!(world.replica(away).role(), Role::Primary);
    let op = world.ask(away, 1, put(2, "after"));
    world.peace(ms(300));
    assert!(committed(world.reply(op)));
}
