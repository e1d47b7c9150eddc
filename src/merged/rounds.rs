//! Which conflicts a resolver is asked about, and when: what a node runs beside its copy.
//!
//! A round takes the conflicts that there are and gives the answers to be written. Each conflict is
//! left to one of the nodes that wrote what is in it, and to a second one if the first does not
//! answer; neither is asked about it again, whatever its resolver made of it, until a node comes
//! back. So a collision costs two calls at most, and one more of each with every healing (C6,
//! M-25).
//!
//! Must never know: how conflicts are listed and answers written, how harm is kept from who does.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::command::{Command, Entry};
use super::resolver::{Action, Conflict, MergeContext, Resolver, Verdict, turn};
use super::table::Row;
use super::version::Dot;
use crate::base::Value;

/// The rounds of one resolver.
#[derive(Debug)]
pub struct Rounds {
    context: MergeContext,
    patience: Duration,
    /// The conflicts that the resolver was asked about, in rows that are in conflict.
    asked: BTreeMap<Collision, Asked>,
    /// The conflicts that are left to another node, and since when.
    left: BTreeMap<Collision, Duration>,
}

/// What is in conflict: the writes that are shown. What else the row holds is no part of it, so it
/// stays the same when a tombstone comes or is forgotten.
type Collision = Vec<Dot>;

/// What the resolver was asked about.
#[derive(Debug)]
struct Asked {
    row: Row,
    /// What it wants there, if it has decided: nothing, or a value.
    decided: Option<Option<Value>>,
    /// Whether the row has shown anything else since. If it comes to show this again, because what
    /// joined the conflict was removed, what was decided still has to be written.
    gone: bool,
}

/// What a round came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Round {
    /// What is to be written, in this order. Of a row that has changed meanwhile nothing comes; its
    /// conflict is another one then.
    pub answers: Vec<Command>,
    /// When the next round is due at the latest: something is left to another node until then, or a
    /// conflict may be another by then, which is not told anew. Nothing if there was none.
    pub next: Option<Duration>,
}

impl Rounds {
    /// The second node in turn leaves a conflict to the first for as long as `patience`.
    #[must_use]
    pub const fn new(context: MergeContext, patience: Duration) -> Self {
        Self { context, patience, asked: BTreeMap::new(), left: BTreeMap::new() }
    }

    /// A node is back: the resolver is to be asked about everything that is left.
    pub fn begin_anew(&mut self) {
        self.asked.clear();
        self.left.clear();
    }

    /// A round about all the conflicts that there are. `now` is any time that goes on evenly. What
    /// the resolver answers with an error stays as it is; its panics are the caller's to contain.
    pub fn hold(
        &mut self,
        resolver: &mut impl Resolver,
        conflicts: Vec<Entry>,
        now: Duration,
    ) -> Round {
        let there: BTreeSet<Collision> = conflicts.iter().map(Entry::writes).collect();
        let rows: BTreeSet<&Row> = conflicts.iter().map(|entry| &entry.row).collect();
        self.asked.retain(|collision, asked| {
            asked.gone |= !there.contains(collision);
            rows.contains(&asked.row)
        });
        self.left.retain(|left, _| there.contains(left));
        let mut next = (!conflicts.is_empty()).then_some(now + self.patience);
        let (mut due, mut answers) = (Vec::new(), Vec::new());
        for entry in conflicts {
            if let Some(asked) = self.asked.get_mut(&entry.writes()) {
                if core::mem::take(&mut asked.gone)
                    && let Some(value) = asked.decided.clone()
                {
                    let Entry { row, dots, .. } = entry;
                    answers.push(Command::Resolve { row, dots, value });
                }
                continue;
            }
            let at = match turn(&entry, self.context.node) {
                None => continue,
                Some(0) => now,
                Some(_) => *self.left.entry(entry.writes()).or_insert(now) + self.patience,
            };
            if at <= now {
                due.push(entry);
            } else {
                next = next.min(Some(at));
            }
        }
        if !due.is_empty() {
            self.ask(resolver, due, &mut answers);
        }
        Round { answers, next }
    }

    fn ask(&mut self, resolver: &mut impl Resolver, due: Vec<Entry>, answers: &mut Vec<Command>) {
        let MergeContext { table, node, .. } = &self.context;
        let node = *node;
        let asked = |entry: &Entry| {
            let asked = Asked { row: entry.row.clone(), decided: None, gone: false };
            (entry.writes(), asked)
        };
        if let Err(why) = resolver.init(&self.context) {
            tracing::warn!(node = node.0, table, %why, "resolver refuses to begin");
            self.asked.extend(due.iter().map(asked));
            return;
        }
        for entry in due {
            let (collision, mut asked) = asked(&entry);
            let Some(conflict) = Conflict::of(&entry, node) else { continue };
            let Entry { row, dots, .. } = entry;
            let actions = match resolver.resolve(&conflict) {
                Ok(actions) => actions,
                Err(why) => {
                    tracing::warn!(node = node.0, table, %row, %why, "resolver failed");
                    self.asked.insert(collision, asked);
                    continue;
                }
            };
            match conflict.verdict(&actions) {
                Verdict::Value(value) => asked.decided = Some(Some(value)),
                Verdict::Removed => asked.decided = Some(None),
                Verdict::Inconsistent(why) => {
                    tracing::warn!(node = node.0, table, %row, %why, "not resolved");
                }
            }
            if let Some(value) = asked.decided.clone() {
                answers.push(Command::Resolve { row, dots, value });
            }
            self.asked.insert(collision, asked);
            if actions.contains(&Action::Stop) {
                break;
            }
        }
        resolver.done();
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use super::*;
    use crate::base::{Incarnation, Key, Life, NodeId, Value};
    use crate::merged::{Actor, Row, Schema, Shown, Stamp};

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Answers with the local value, unless it is to fail; counts its calls.
    struct Counting {
        fails: bool,
        calls: usize,
        rounds: usize,
    }

    impl Resolver for Counting {
        fn resolve(&mut self, conflict: &Conflict) -> Result<Vec<Action>, String> {
            self.calls += 1;
            if self.fails {
                return Err(String::from("no"));
            }
            Ok(vec![Action::WriteRemote(conflict.local.clone())])
        }

        fn done(&mut self) {
            self.rounds += 1;
        }
    }

    fn rounds(node: u16) -> Rounds {
        let agreement = Schema::default().agreement();
        let context = MergeContext { table: String::from("t"), agreement, node: NodeId(node) };
        Rounds::new(context, PATIENCE)
    }

    /// A conflict between these nodes.
    fn conflict(key: &str, nodes: &[u16]) -> Entry {
        let dot = |node: &u16| {
            let (node, life) = (NodeId(*node), Life(1));
            // One write, one row.
            let number = u64::from(key.as_bytes()[0]);
            Dot { actor: Actor { node, life, incarnation: Incarnation(0), anew: 0 }, number }
        };
        let shown = |node: &u16| Shown {
            value: Value::from(&node.to_be_bytes()[..]),
            dot: dot(node),
            modified: Stamp::default(),
        };
        Entry {
            row: Row { key: Key::from(key), element: None },
            values: nodes.iter().map(shown).collect(),
            dots: nodes.iter().map(dot).collect(),
        }
    }

    #[test]
    fn the_first_answers_and_the_second_only_when_it_has_waited() {
        let mut resolver = Counting { fails: false, calls: 0, rounds: 0 };
        let (mut first, mut second, mut third) = (rounds(1), rounds(2), rounds(3));
        let all = || vec![conflict("a", &[1, 2, 3])];
        assert_eq!(first.hold(&mut resolver, all(), Duration::ZERO).answers.len(), 1);
        let round = second.hold(&mut resolver, all(), Duration::ZERO);
        assert_eq!(round, Round { answers: vec![], next: Some(PATIENCE) });
        // Whatever happens meanwhile, its turn comes when it was to come.
        let round = second.hold(&mut resolver, all(), PATIENCE / 2);
        assert_eq!(round, Round { answers: vec![], next: Some(PATIENCE) });
        assert_eq!(second.hold(&mut resolver, all(), PATIENCE).answers.len(), 1);
        let round = third.hold(&mut resolver, all(), PATIENCE * 8);
        assert_eq!(round, Round { answers: vec![], next: Some(PATIENCE * 9) });
        assert_eq!((resolver.calls, resolver.rounds), (2, 2));
    }

    #[test]
    fn what_failed_is_asked_about_again_only_when_somebody_is_back() {
        let mut resolver = Counting { fails: true, calls: 0, rounds: 0 };
        let mut first = rounds(1);
        for _ in 0..3 {
            let round = first.hold(&mut resolver, vec![conflict("a", &[1, 2])], Duration::ZERO);
            assert_eq!(round, Round { answers: vec![], next: Some(PATIENCE) });
        }
        assert_eq!(resolver.calls, 1);
        // Another key is none of its business.
        let both = || vec![conflict("a", &[1, 2]), conflict("b", &[1, 2])];
        resolver.fails = false;
        assert_eq!(first.hold(&mut resolver, both(), Duration::ZERO).answers.len(), 1);
        first.begin_anew();
        assert_eq!(first.hold(&mut resolver, both(), Duration::ZERO).answers.len(), 2);
        assert_eq!(resolver.calls, 4);
    }

    /// A removal that lost is forgotten by itself, when all have seen it.
    #[test]
    fn a_conflict_is_the_same_without_the_tombstones_of_its_row() {
        let mut resolver = Counting { fails: true, calls: 0, rounds: 0 };
        let (mut first, mut second) = (rounds(1), rounds(2));
        let bare = || vec![conflict("a", &[1, 2])];
        let mut with_tombstone = bare();
        with_tombstone[0].dots.push(conflict("a", &[3]).dots[0]);
        for (conflicts, now) in [(bare(), 0), (with_tombstone, 1), (bare(), 2)] {
            let now = PATIENCE * now;
            first.hold(&mut resolver, conflicts.clone(), now);
            second.hold(&mut resolver, conflicts, now);
        }
        assert_eq!(resolver.calls, 2, "once each");
    }

    /// What joined the conflict before the answer came, and was removed then.
    #[test]
    fn a_conflict_that_is_back_is_answered_as_before() {
        let mut resolver = Counting { fails: false, calls: 0, rounds: 0 };
        let mut first = rounds(1);
        let two = || vec![conflict("a", &[1, 2])];
        let answered = first.hold(&mut resolver, two(), Duration::ZERO).answers;
        first.hold(&mut resolver, vec![conflict("a", &[1, 2, 3])], Duration::ZERO);
        assert_eq!(resolver.calls, 2);
        for again in [answered, Vec::new()] {
            assert_eq!(first.hold(&mut resolver, two(), Duration::ZERO).answers, again);
        }
        assert_eq!(resolver.calls, 2, "it has been asked about both");
    }

    #[test]
    fn what_is_over_is_not_remembered() {
        let mut resolver = Counting { fails: true, calls: 0, rounds: 0 };
        let mut second = rounds(2);
        second.hold(&mut resolver, vec![conflict("a", &[2, 3]), conflict("b", &[1, 2])], PATIENCE);
        assert_eq!((second.asked.len(), second.left.len()), (1, 1));
        let round = second.hold(&mut resolver, Vec::new(), PATIENCE);
        assert_eq!(round, Round { answers: vec![], next: None });
        assert_eq!((second.asked.len(), second.left.len()), (0, 0));
    }
}
