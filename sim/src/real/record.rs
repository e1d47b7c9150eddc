//! What clients asked and were told, and what they knew of the ends of things, as a history for the
//! judge.
//!
//! Times are nanoseconds of one monotonic clock, the rig's. Where the rig cannot know when something
//! ended it takes the earliest moment that is possible: the judge then allows more, and what it
//! refuses is refused for certain. Must never know: how anything is asked.

use std::collections::{BTreeMap, HashMap};

use crate::checker::{Judge, Options, Verdict};
use crate::history::{Action, Binding, History, Mark, MarkKind, Model, Operation, Outcome};

/// Nanoseconds since the rig began.
pub type Nanos = u64;

/// A thing that a key's life can be bound to, by its place in [`Book::things`].
pub type ThingId = usize;

/// What ends by itself, or with its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A time on the wall clocks, as the rig's clock showed it.
    Deadline(Nanos),
    /// A session, or a node's membership: it may end when its host is disturbed.
    Hosted {
        /// By which node.
        host: u16,
        /// The number of the host's own session that it hangs on, if it was told.
        life: Option<u64>,
        /// It had not ended yet at this moment.
        proven: Nanos,
        /// From this moment on its owner may have ended it.
        closed: Option<Nanos>,
    },
}

/// One question and its answer.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asked.
    pub client: u32,
    /// Its number with that client.
    pub number: u64,
    /// About which key, by its place in [`Book::keys`].
    pub key: u32,
    /// What was asked.
    pub action: Action,
    /// What the entry written is bound to.
    pub bound_to: Option<ThingId>,
    /// When.
    pub call: Nanos,
    /// When it was answered, or [`NEVER`](crate::history::NEVER).
    pub ret: Nanos,
    /// What was answered.
    pub outcome: Outcome,
}

/// What a node answered without asking anybody.
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    /// About which key.
    pub key: u32,
    /// Which node.
    pub node: u16,
    /// The value, if there was one.
    pub value: u64,
    /// When it was answered.
    pub ret: Nanos,
}

/// The times during which a node may have been given up by others, each from its beginning on.
#[derive(Clone, Debug, Default)]
pub struct Disturbances(BTreeMap<u16, Vec<(Nanos, Nanos)>>);

impl Disturbances {
    /// Something began that can make others give up a node; until `end` it may show.
    pub fn note(&mut self, node: u16, start: Nanos, end: Nanos) {
        self.0.entry(node).or_default().push((start, end));
    }

    /// The first moment from `from` on at which a node may have been given up.
    fn first(&self, node: u16, from: Nanos) -> Option<Nanos> {
        let all = self.0.get(&node)?;
        all.iter().filter(|(_, end)| *end >= from).map(|(start, _)| (*start).max(from)).min()
    }
}

/// Everything that was recorded.
#[derive(Debug, Default)]
pub struct Book {
    /// The names of keys, by number.
    pub keys: Vec<String>,
    /// What entries were bound to.
    pub things: Vec<Thing>,
    /// Questions and answers.
    pub calls: Vec<Call>,
    /// Local reads.
    pub glances: Vec<Glance>,
    /// Who was given up when.
    pub disturbances: Disturbances,
    /// The numbers of the nodes' own sessions at the end, where they could be asked.
    pub lives: BTreeMap<u16, u64>,
}

impl Book {
    /// From when on a thing may be treated as ended; `None` if it must not have.
    fn down(&self, thing: &Thing) -> Option<Nanos> {
        match thing {
            Thing::Deadline(time) => Some(*time),
            Thing::Hosted { host, life, proven, closed } => {
                let disturbed = self.disturbances.first(*host, *proven);
                let known = [*closed, disturbed].into_iter().flatten().min();
                // A host that was given up although nothing had been done to it (a machine that is
                // too busy): nobody knows when.
                let stays = life.is_some() && *life == self.lives.get(host).copied();
                let given_up = (!stays).then_some(*proven);
                [known, given_up].into_iter().flatten().min().map(|time| time.max(*proven))
            }
        }
    }

    /// The history of everything but local reads.
    #[must_use]
    pub fn history(&self) -> History {
        let mut history = History::new(Model::Kv);
        for (number, name) in self.keys.iter().enumerate() {
            history.name_key(number as u32, name);
        }
        for call in &self.calls {
            let bindings: Vec<Binding> =
                call.bound_to.iter().map(|thing| Binding::Thing(*thing as u32)).collect();
            let binds = history.bind(&bindings);
            history.ops.push(Operation {
                id: call.number,
                client: call.client as i32,
                key: call.key,
                binds,
                call: call.call,
                ret: call.ret,
                action: call.action,
                outcome: call.outcome,
            });
        }
        for (place, thing) in self.things.iter().enumerate() {
            if let Some(time) = self.down(thing) {
                let binding = Binding::Thing(place as u32);
                history.marks.push(Mark { time, key: None, binding, kind: MarkKind::Down });
            }
        }
        history
    }

    /// How many outcomes are not known.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.calls.iter().filter(|call| call.outcome == Outcome::Unknown).count() as u64
    }

    /// A local read may tell of the past. It must not tell a value that nobody had begun to write,
    /// nor one whose write was answered with a definite no.
    #[must_use]
    pub fn invented(&self) -> Vec<String> {
        let mut tried: HashMap<(u32, u64), (Nanos, bool)> = HashMap::new();
        for call in &self.calls {
            if let Some(value) = call.action.value() {
                let refused = matches!(call.outcome, Outcome::Refused(_));
                tried.insert((call.key, value), (call.call, refused));
            }
        }
        let mut invented = Vec::new();
        for glance in &self.glances {
            let why = match tried.get(&(glance.key, glance.value)) {
                None => "which nobody wrote there",
                Some((_, true)) => "whose write had been refused",
                Some((call, _)) if *call > glance.ret => "before anybody wrote it",
                Some(_) => continue,
            };
            let key = &self.keys[glance.key as usize];
            invented.push(format!(
                "a local read of {key} at node {} told {}, {why}",
                glance.node,
                show(glance.value)
            ));
        }
        invented
    }
}

/// The values of clients: each its own, so that a value names its write.
#[must_use]
pub const fn value_of(client: u32, number: u64) -> u64 {
    (client as u64) << 36 | number
}

/// A value for people: client and number.
#[must_use]
pub fn show(value: u64) -> String {
    format!("{}.{}", value >> 36, value & ((1 << 36) - 1))
}

/// What the judge says of it, in a word and, if it is no pass, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    Violated(String),
    /// The judge could not tell.
    Undecided(String),
}

/// Rather long than undecided: this is done once.
const BUDGET: u64 = 300_000_000;

/// Judges a history.
#[must_use]
pub fn judge(history: &History) -> Ruling {
    let options = Options { budget: BUDGET };
    let mut judge = Judge::new();
    match judge.check(history, &options) {
        Verdict::Linearizable(_) => Ruling::Linearizable,
        Verdict::NotLinearizable { key, .. } => {
            let mut text = format!("{}: no order explains the answers", history.key_name(key));
            if let Some(explanation) = judge.explain(history, &options) {
                text = format!("{}: {}", history.key_name(key), explanation.reason);
                for line in &explanation.lines {
                    text.push_str("\n    ");
                    text.push_str(line);
                }
            }
            Ruling::Violated(text)
        }
        Verdict::Unknown { key, budget, .. } => Ruling::Undecided(format!(
            "{}: undecided after {budget} configurations",
            history.key_name(key)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{NEVER, Seen};

    /// What a cluster of one key could have answered, a line a call: value, begin, end.
    fn book(calls: &[(Action, Outcome, Nanos, Nanos)]) -> Book {
        let mut book = Book { keys: vec!["k0".to_owned()], ..Book::default() };
        for (number, &(action, outcome, call, ret)) in calls.iter().enumerate() {
            book.calls.push(Call {
                client: 1,
                number: number as u64,
                key: 0,
                action,
                bound_to: None,
                call,
                ret,
                outcome,
            });
        }
        book
    }

    const PUT: Action = Action::Put { value: 1 };
    const SECOND: Action = Action::Put { value: 2 };
    const DONE: Outcome = Outcome::Done(Seen::Nothing);

    #[test]
    fn an_acknowledged_write_that_is_gone_is_a_violation() {
        let read = |value| (Action::Get, Outcome::Read(value), 30, 40);
        let right = book(&[(PUT, DONE, 10, 20), read(Some(1))]);
        assert_eq!(judge(&right.history()), Ruling::Linearizable);
        let lost = book(&[(PUT, DONE, 10, 20), read(None)]);
        assert!(matches!(judge(&lost.history()), Ruling::Violated(_)));
        let stale = book(&[(PUT, DONE, 1, 2), (SECOND, DONE, 10, 20), read(Some(1))]);
        assert!(matches!(judge(&stale.history()), Ruling::Violated(_)));
        let unknown = book(&[(PUT, Outcome::Unknown, 10, NEVER), read(None)]);
        assert_eq!(judge(&unknown.history()), Ruling::Linearizable);
        assert_eq!(unknown.unknown(), 1);
    }

    /// An entry may vanish when its session may have ended, and not before.
    #[test]
    fn an_entry_that_vanishes_before_its_session_ends_is_a_violation() {
        let calls = [(PUT, DONE, 10, 20), (Action::Get, Outcome::Read(None), 50, 60)];
        let bound = |closed, disturbed: Option<(Nanos, Nanos)>, life| {
            let mut book = book(&calls);
            let thing = Thing::Hosted { host: 2, life: Some(1), proven: 10, closed };
            book.things.push(thing);
            book.calls[0].bound_to = Some(0);
            book.lives.insert(2, life);
            if let Some((start, end)) = disturbed {
                book.disturbances.note(2, start, end);
            }
            judge(&book.history())
        };
        assert!(matches!(bound(None, None, 1), Ruling::Violated(_)), "it lives on");
        assert!(matches!(bound(Some(70), None, 1), Ruling::Violated(_)), "closed too late");
        assert_eq!(bound(Some(40), None, 1), Ruling::Linearizable);
        assert_eq!(bound(None, Some((40, 90)), 1), Ruling::Linearizable);
        assert_eq!(bound(None, Some((5, 90)), 1), Ruling::Linearizable);
        assert!(matches!(bound(None, Some((1, 5)), 1), Ruling::Violated(_)), "long over");
        assert!(matches!(bound(None, Some((61, 90)), 1), Ruling::Violated(_)), "not yet");
        assert_eq!(bound(None, None, 2), Ruling::Linearizable, "its host was given up");
    }

    #[test]
    fn an_entry_that_vanishes_before_its_deadline_is_a_violation() {
        let calls = [(PUT, DONE, 10, 20), (Action::Get, Outcome::Read(None), 50, 60)];
        for (time, expected) in [(55, true), (61, false)] {
            let mut book = book(&calls);
            book.things.push(Thing::Deadline(time));
            book.calls[0].bound_to = Some(0);
            assert_eq!(judge(&book.history()) == Ruling::Linearizable, expected, "{time}");
        }
    }

    #[test]
    fn a_local_read_must_not_invent() {
        let refused = (SECOND, Outcome::Refused(Seen::Value(1)), 30, 40);
        let mut book = book(&[(PUT, DONE, 10, 20), refused]);
        for (value, ret, expected) in [
            (1, 15, None),
            (1, 5, Some("before anybody")),
            (2, 50, Some("refused")),
            (3, 50, Some("nobody wrote")),
        ] {
            book.glances = vec![Glance { key: 0, node: 1, value, ret }];
            match (book.invented().as_slice(), expected) {
                ([], None) => {}
                ([text], Some(part)) => assert!(text.contains(part), "{text}"),
                (found, _) => panic!("{value} at {ret}: {found:?}"),
            }
        }
    }
}
