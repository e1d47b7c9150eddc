//! random operations with flaky stores, while nodes crash, join and leave every few of them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use std::format;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::world::{Store, World, key, small};
use crate::base::Value;
use crate::primary::*;

#[derive(Clone, Debug)]
enum Action {
    Answer(u16),
    Arbiter(u16),
    Ask(u8, u8, u8, u8),
    Again(u8, u16, bool),
    Close(u8),
    Crash(u8, u8),
    Decide(u16, bool),
    Deliver(u16, bool),
    HandOver(u8, u8),
    Lose(u16),
    Pass(u16),
    /// All goes well for a while.
    Peace(u8),
    Start(u8),
    Store(u8, u8),
    Tell(u16),
    Want(u8, bool),
    Wipe(u8),
}

fn action() -> impl Strategy<Value = Action> {
    let any8 = any::<u8>();
    let any16 = any::<u16>();
    prop_oneof![
        14 => any16.prop_map(Action::Answer),
        10 => any16.prop_map(Action::Arbiter),
        26 => (any8, any8, any8, any8).prop_map(|(a, b, c, d)| Action::Ask(a, b, c, d)),
        6 => (any8, any16, any::<bool>()).prop_map(|(a, b, c)| Action::Again(a, b, c)),
        2 => any8.prop_map(Action::Close),
        3 => (any8, 0..3_u8).prop_map(|(a, b)| Action::Crash(a, b)),
        10 => (any16, any::<bool>()).prop_map(|(a, b)| Action::Decide(a, b)),
        60 => (any16, prop::bool::weighted(0.15)).prop_map(|(a, b)| Action::Deliver(a, b)),
        1 => (any8, any8).prop_map(|(a, b)| Action::HandOver(a, b)),
        8 => any16.prop_map(Action::Lose),
        12 => (1..250_u16).prop_map(Action::Pass),
        6 => (1..12_u8).prop_map(Action::Peace),
        6 => any8.prop_map(Action::Start),
        30 => (any8, any8).prop_map(|(a, b)| Action::Store(a, b)),
        6 => any16.prop_map(Action::Tell),
        2 => (any8, any::<bool>()).prop_map(|(a, b)| Action::Want(a, b)),
        1 => any8.prop_map(Action::Wipe),
    ]
}

impl World {
    fn act(&mut self, action: &Action) {
        let count = self.hosts.len();
        let place = |number: &u8| usize::from(*number) % count;
        match action {
            Action::Answer(which) => self.tell_arbiter(usize::from(*which)),
            Action::Arbiter(which) => self.read_arbiter(usize::from(*which)),
            Action::Ask(to, client, what, which) => {
                let key = key(u16::from(which % 7));
                let number = self.asked.len();
                let command = match what % 16 {
                    0..7 => Command::Put(key, Value::from(format!("v{number}").as_str())),
                    7..10 => Command::Remove(key),
                    10..13 => Command::Get(key, ReadLevel::Committed),
                    13 | 14 => Command::Get(key, ReadLevel::Linearizable),
                    _ => Command::Get(key, ReadLevel::Dirty),
                };
                // Mostly to a primary, if it is known, as clients do.
                let primary = self.roster.as_ref().map(|roster| roster.primary);
                let at = self.hosts.iter().position(|host| Some(host.member) == primary);
                // And to whoever takes itself for one, which may be wrong.
                let claims = self.hosts.iter().rposition(|host| {
                    let replica = host.replica.as_ref();
                    replica.is_some_and(|replica| replica.role() == Role::Primary)
                });
                let to = match to % 4 {
                    0 => place(to),
                    1 => claims.unwrap_or_else(|| place(to)),
                    _ => at.unwrap_or_else(|| place(to)),
                };
                self.ask(to, u64::from(client % 3), command);
            }
            Action::Again(to, which, resolve) => {
                if !self.asked.is_empty() {
                    let which = usize::from(*which) % self.asked.len();
                    let which = self.asked.len() - 1 - which % 8.min(self.asked.len());
                    let mut ask = Ask { again: true, ..self.asked[which].clone() };
                    if *resolve {
                        ask.command = Command::Resolve;
                    }
                    self.ask_as(place(to), ask);
                }
            }
            Action::Close(which) => self.close(place(which)),
            Action::Crash(which, torn) => self.crash(place(which), usize::from(*torn)),
            Action::Decide(which, tells) => self.decide(usize::from(*which), *tells),
            Action::Deliver(which, again) => self.deliver(usize::from(*which), *again),
            Action::HandOver(which, to) => {
                let to = self.hosts[place(to)].member.node;
                self.handle(place(which), Input::HandOver(Some(to)));
            }
            Action::Lose(which) => self.lose(usize::from(*which)),
            Action::Pass(time) => self.pass(Duration::from_millis(u64::from(*time))),
            Action::Peace(time) => self.peace(Duration::from_millis(u64::from(*time) * 40)),
            Action::Start(which) => self.start(place(which)),
            Action::Store(which, how) => {
                let how = match how % 8 {
                    0..5 => Store::Done,
                    5 | 6 => Store::Fails,
                    _ => Store::Unconfirmed,
                };
                self.store(place(which), how);
            }
            Action::Tell(which) => self.tell_session(usize::from(*which)),
            Action::Want(which, wanted) => self.want(place(which), *wanted),
            Action::Wipe(which) => self.wipe(place(which)),
        }
    }
}

fn operations() -> impl Strategy<Value = (u16, bool, Vec<Action>)> {
    (1..6_u16, any::<bool>(), prop::collection::vec(action(), 1..500))
}

/// A world that has been through this, and has come to rest.
fn run((count, quorum, actions): (u16, bool, Vec<Action>)) -> World {
    let acknowledge = if quorum { Acknowledge::Quorum } else { Acknowledge::All };
    let mut world = World::new(count, Settings { acknowledge, ..small() });
    actions.iter().for_each(|action| world.act(action));
    world.conclude();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// whatever happens, P-I1 to P-I12 hold after every step, and when it is over
    /// all replicas are equal and nothing acknowledged is missing.
    #[test]
    fn random_operations(operations in operations()) {
        run(operations);
    }
}

/// A quiet world must not pass for a sound one.
#[test]
fn random_operations_are_not_quiet() {
    let mut runner = TestRunner::deterministic();
    let mut counts = BTreeMap::new();
    for _ in 0..80 {
        let operations = operations().new_tree(&mut runner).expect("some").current();
        for (what, count) in run(operations).counts {
            *counts.entry(what).or_insert(0) += count;
        }
    }
    for (what, least) in [
        ("committed", 500),
        ("crash", 100),
        ("found", 500),
        ("linearizable", 50),
        ("pending at a succession", 10),
        ("piece", 50),
        ("resolved", 5),
        ("shrink", 20),
        ("succession", 50),
        ("unconfirmed", 20),
        ("union needed", 20),
        ("unknown", 10),
        ("wipe", 5),
    ] {
        let count = counts.get(what).copied().unwrap_or(0);
        assert!(count >= least, "{what}: {count} times, not {least}; {counts:?}");
    }
}
