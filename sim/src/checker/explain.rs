//! Explanations: the few operations of an illegal history that no order can bring together.
//!
//! An answer is *weakened* by forgetting it: a read is left out, a write becomes one of unknown
//! outcome. That only adds legal orders, so what is still illegal without an answer does not need
//! it. What is left is 1-minimal: forgetting any one more answer makes the rest legal. An
//! explanation is never a guess: each step towards it was judged illegal again.

use std::collections::BTreeSet;

use serde::Serialize;

use super::hash::FixedMap;
use super::judge::{Judge, Options, Verdict};
use crate::history::{
    Action, Binding, Binds, History, Key, Mark, MarkKind, NEVER, Operation, Outcome, Seen, Time,
    Value,
};

/// Why a history is not linearizable.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The keys concerned.
    pub keys: Vec<Key>,
    /// The operations whose answers cannot all be true, by the recorder's numbers.
    pub ops: Vec<u64>,
    /// Each of them in words.
    pub lines: Vec<String>,
    /// Why they cannot all be true.
    pub reason: String,
    /// False if the budget ended the search for a smaller set.
    pub minimal: bool,
    /// The history with every other answer forgotten.
    #[serde(skip)]
    pub core: History,
}

/// An answer, or a demand that something be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Mark(usize),
    Op(usize),
}

struct Search<'a> {
    history: &'a History,
    judge: &'a mut Judge,
    /// The operations and marks of the keys concerned.
    ops: Vec<usize>,
    marks: Vec<usize>,
    scratch: History,
    options: Options,
    checks: u32,
    gave_up: bool,
}

/// Beyond this many checks the set found so far is good enough.
const CHECKS_MAX: u32 = 4000;
/// Histories up to this size are kept whole, but for the answers forgotten.
const WHOLE_MAX: usize = 2000;

fn is_fact(op: &Operation) -> bool {
    op.outcome != Outcome::Unknown
}

impl Search<'_> {
    /// The history in which only these facts are remembered.
    fn build(&mut self, facts: &[Fact]) {
        let history = self.history;
        let kept: BTreeSet<usize> = facts
            .iter()
            .filter_map(|fact| match fact {
                Fact::Op(index) => Some(*index),
                Fact::Mark(_) => None,
            })
            .collect();
        self.scratch.ops.clear();
        self.scratch.marks.clear();
        let whole = self.ops.len() <= WHOLE_MAX;
        let mentioned = if whole { BTreeSet::new() } else { self.mentioned(&kept) };
        let mut alike: FixedMap<(u8, Key, Binds), usize> = FixedMap::default();
        for &index in &self.ops {
            let op = history.ops[index];
            if kept.contains(&index) {
                self.scratch.ops.push(op);
                continue;
            }
            if !writes(&op) {
                continue;
            }
            let known = op.action.value().is_some_and(|value| mentioned.contains(&value));
            if !whole && !known {
                // Writes of values nobody asks about stand in for each other, and no order needs
                // more of them than there are answers to make room for.
                let sort = match op.action {
                    Action::Put { .. } | Action::Append { .. } => 0,
                    Action::PutIfAbsent { .. } => 1,
                    Action::Remove => 2,
                    Action::CompareAndSet { expect: None, .. } => 3,
                    Action::CompareAndSet { expect: Some(value), .. } => {
                        if !mentioned.contains(&value) {
                            continue;
                        }
                        4
                    }
                    Action::Exists | Action::Get => continue,
                };
                let count = alike.entry((sort, op.key, op.binds)).or_insert(0);
                *count += 1;
                if sort != 4 && *count > kept.len() + 1 {
                    continue;
                }
            }
            self.scratch.ops.push(Operation { ret: NEVER, outcome: Outcome::Unknown, ..op });
        }
        for &index in &self.marks {
            let mark = history.marks[index];
            if mark.kind == MarkKind::Down || facts.contains(&Fact::Mark(index)) {
                self.scratch.marks.push(mark);
            }
        }
    }

    /// Every value the kept operations ask about, and what must be written before they can be.
    fn mentioned(&self, kept: &BTreeSet<usize>) -> BTreeSet<Value> {
        let mut values = BTreeSet::new();
        for &index in kept {
            let op = &self.history.ops[index];
            values.extend(op.action.value());
            if let Action::CompareAndSet { expect: Some(value), .. } = op.action {
                values.insert(value);
            }
            if let Outcome::Read(Some(value))
            | Outcome::Done(Seen::Value(value))
            | Outcome::Refused(Seen::Value(value)) = op.outcome
            {
                values.insert(value);
            }
        }
        for number in 1..=self.history.binds_len() as u32 {
            for binding in self.history.bindings(Binds(number)) {
                if let Binding::Life { birth, .. } = binding {
                    values.insert(*birth);
                }
            }
        }
        loop {
            let before = values.len();
            for &index in &self.ops {
                if let Action::CompareAndSet { expect: Some(expect), value } =
                    self.history.ops[index].action
                    && values.contains(&value)
                {
                    values.insert(expect);
                }
            }
            if values.len() == before {
                return values;
            }
        }
    }

    fn is_illegal(&mut self, facts: &[Fact]) -> bool {
        self.checks += 1;
        if self.checks > CHECKS_MAX {
            self.gave_up = true;
            return false;
        }
        self.build(facts);
        match self.judge.check(&self.scratch, &self.options) {
            Verdict::NotLinearizable { .. } => true,
            Verdict::Linearizable(_) => false,
            Verdict::Unknown { .. } => {
                self.gave_up = true;
                false
            }
        }
    }

    fn shrink(&mut self, mut facts: Vec<Fact>) -> Vec<Fact> {
        let mut size = facts.len().div_ceil(2);
        loop {
            let mut at = 0;
            let mut smaller = false;
            while at < facts.len() {
                let end = (at + size).min(facts.len());
                let mut rest = facts[..at].to_vec();
                rest.extend_from_slice(&facts[end..]);
                if self.is_illegal(&rest) {
                    facts = rest;
                    smaller = true;
                } else {
                    at = end;
                }
            }
            if size > 1 {
                size = size.div_ceil(2);
            } else if !smaller {
                return facts;
            }
        }
    }
}

const fn writes(op: &Operation) -> bool {
    !op.action.is_read() && !matches!(op.outcome, Outcome::Refused(_))
}

impl Judge {
    /// The smallest set of answers that no order explains; `None` if the history is not judged
    /// illegal.
    pub fn explain(&mut self, history: &History, options: &Options) -> Option<Explanation> {
        let Verdict::NotLinearizable { key, time, .. } = self.check(history, options) else {
            return None;
        };
        let keys = Self::keys_with(history, key);
        let of_keys = |key: Key| keys.binary_search(&key).is_ok();
        let ops: Vec<usize> = history
            .ops
            .iter()
            .enumerate()
            .filter(|(_, op)| of_keys(op.key))
            .map(|(index, _)| index)
            .collect();
        let marks: Vec<usize> = history
            .marks
            .iter()
            .enumerate()
            .filter(|(_, mark)| mark.key.is_none_or(of_keys))
            .map(|(index, _)| index)
            .collect();
        let mut facts: Vec<(Time, Fact)> = ops
            .iter()
            .filter(|&&index| is_fact(&history.ops[index]))
            .map(|&index| (history.ops[index].ret, Fact::Op(index)))
            .collect();
        for &index in &marks {
            if history.marks[index].kind == MarkKind::Gone {
                facts.push((history.marks[index].time, Fact::Mark(index)));
            }
        }
        facts.sort_by_key(|(time, _)| *time);
        let known = facts.partition_point(|(end, _)| *end <= time);
        let facts: Vec<Fact> = facts.into_iter().map(|(_, fact)| fact).collect();
        let mut search = Search {
            history,
            judge: self,
            ops,
            marks,
            scratch: history.like(),
            options: Options { budget: options.budget.min(2_000_000) },
            checks: 0,
            gave_up: false,
        };
        // Most violations show in the answers just before the one that was flagged.
        let mut start = facts.clone();
        let mut back = 16;
        while back < facts.len() {
            let from = known.saturating_sub(back);
            let to = (known + back / 2).min(facts.len());
            if search.is_illegal(&facts[from..to]) {
                start = facts[from..to].to_vec();
                break;
            }
            back *= 4;
        }
        search.gave_up = false;
        let facts = search.shrink(start);
        search.build(&facts);
        let minimal = !search.gave_up;
        let core = search.scratch;
        Some(in_words(history, &keys, &facts, minimal, core))
    }
}

fn in_words(
    history: &History,
    keys: &[Key],
    facts: &[Fact],
    minimal: bool,
    core: History,
) -> Explanation {
    let mut ops: Vec<&Operation> = Vec::new();
    let mut marks: Vec<&Mark> = Vec::new();
    for fact in facts {
        match *fact {
            Fact::Op(index) => ops.push(&history.ops[index]),
            Fact::Mark(index) => marks.push(&history.marks[index]),
        }
    }
    ops.sort_by_key(|op| (op.ret, op.call));
    let mut lines: Vec<String> =
        ops.iter().map(|op| describe(history, op, keys.len() > 1)).collect();
    for mark in marks {
        let binding = show_binding(history, mark.binding);
        lines.push(format!("at {} nothing may be bound to {binding} any more", mark.time));
    }
    let reason = reason(history, &ops, keys);
    let ops = ops.iter().map(|op| op.id).collect();
    Explanation { keys: keys.to_vec(), ops, lines, reason, minimal, core }
}

fn show_binding(history: &History, binding: Binding) -> String {
    match binding {
        Binding::Thing(thing) => format!("thing {thing}"),
        Binding::Life { key, birth } => {
            let key = history.key_name(key);
            format!("the life of key {key} that began with {}", history.show_value(birth))
        }
    }
}

fn show_seen(history: &History, seen: Seen) -> String {
    match seen {
        Seen::Absent => " and saw it absent before".to_owned(),
        Seen::Nothing => String::new(),
        Seen::Present => " and saw it live before".to_owned(),
        Seen::Value(value) => format!(" and saw {} before", history.show_value(value)),
    }
}

fn name(op: &Operation) -> String {
    let name = match op.action {
        Action::Append { .. } => "append",
        Action::CompareAndSet { .. } => "compare_and_set",
        Action::Exists => "exists",
        Action::Get => "get",
        Action::Put { .. } => "put",
        Action::PutIfAbsent { .. } => "put_if_absent",
        Action::Remove => "remove",
    };
    format!("{name}#{}", op.id)
}

fn show_maybe(history: &History, value: Option<Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| history.show_value(value))
}

fn describe(history: &History, op: &Operation, with_key: bool) -> String {
    let mut text = name(op);
    if with_key {
        text += &format!(" on key {}", history.key_name(op.key));
    }
    match op.action {
        Action::CompareAndSet { expect, value } => {
            let expect = show_maybe(history, expect);
            text += &format!(" from {expect} to {}", history.show_value(value));
        }
        Action::Append { value } | Action::Put { value } | Action::PutIfAbsent { value } => {
            text += &format!(" of {}", history.show_value(value));
        }
        Action::Exists | Action::Get | Action::Remove => {}
    }
    if op.binds != Binds::NONE {
        let bindings = history.bindings(op.binds).iter();
        let bindings: Vec<String> =
            bindings.map(|binding| show_binding(history, *binding)).collect();
        text += &format!(" bound to {}", bindings.join(" and "));
    }
    text += &match op.outcome {
        Outcome::Done(seen) => format!(" took effect{}", show_seen(history, seen)),
        Outcome::Exists(true) => " found the key live".to_owned(),
        Outcome::Exists(false) => " found the key absent".to_owned(),
        Outcome::InvalidBinding => " was refused because of a binding".to_owned(),
        Outcome::Read(value) => format!(" returned {}", show_maybe(history, value)),
        Outcome::Refused(seen) => format!(" was refused{}", show_seen(history, seen)),
        Outcome::Unknown => " has an unknown outcome".to_owned(),
    };
    format!("{text} (called at {}, answered at {})", op.call, op.ret)
}

/// One sentence for the violations that have one.
fn reason(history: &History, ops: &[&Operation], keys: &[Key]) -> String {
    let writers = |key: Key, value: Value| {
        let writes = history
            .ops
            .iter()
            .filter(move |op| op.key == key && op.action.value() == Some(value) && writes(op));
        writes.collect::<Vec<_>>()
    };
    let show = |value| show_maybe(history, value);
    for op in ops {
        if let Outcome::Read(Some(value)) | Outcome::Refused(Seen::Value(value)) = op.outcome
            && history.initial() != Some(value)
        {
            let writers = writers(op.key, value);
            if writers.is_empty() {
                return format!("{} saw {}, but nothing wrote it", name(op), show(Some(value)));
            }
            if writers.iter().all(|writer| writer.call > op.ret) {
                return format!(
                    "{} saw {} and was answered at {}, but {} of it was only called at {}",
                    name(op),
                    show(Some(value)),
                    op.ret,
                    name(writers[0]),
                    writers[0].call,
                );
            }
        }
    }
    let winners: Vec<&&Operation> = ops
        .iter()
        .filter(|op| {
            matches!(op.action, Action::CompareAndSet { .. })
                && matches!(op.outcome, Outcome::Done(_))
        })
        .collect();
    for (place, a) in winners.iter().enumerate() {
        for b in &winners[place + 1..] {
            if let (
                Action::CompareAndSet { expect: Some(x), .. },
                Action::CompareAndSet { expect: Some(y), .. },
            ) = (a.action, b.action)
                && x == y
                && a.key == b.key
                && writers(a.key, x).len() <= 1
            {
                let base = show(Some(x));
                return format!(
                    "{} and {} both replaced {base}, which was written only once: one of the \
                     updates is lost",
                    name(a),
                    name(b)
                );
            }
        }
    }
    for late in ops.iter().rev().filter(|op| op.shows() == Some(None)) {
        let lasting = history.marks.is_empty()
            && !history.ops.iter().any(|op| op.key == late.key && op.action == Action::Remove);
        let live = ops.iter().find(|op| {
            op.key == late.key && op.ret < late.call && matches!(op.shows(), Some(Some(_)))
        });
        if let (true, Some(live)) = (lasting, live) {
            return format!(
                "{} found the key absent at {}, but {} showed {} and was answered at {}, and \
                 nothing ever removes this key",
                name(late),
                late.ret,
                name(live),
                show(live.shows().flatten()),
                live.ret,
            );
        }
    }
    for late in ops.iter().rev() {
        let Some(Some(value)) = late.shows() else { continue };
        let initial = usize::from(history.initial() == Some(value));
        if writers(late.key, value).len() + initial != 1 {
            continue;
        }
        for middle in ops.iter().filter(|op| op.key == late.key && op.ret < late.call) {
            let Some(other) = middle.shows() else { continue };
            let early = ops.iter().any(|op| {
                op.key == late.key && op.ret < middle.call && op.shows() == Some(Some(value))
            });
            // What was seen replaced the value, so it had been there before.
            let replaced = other.is_some_and(|other| {
                writers(late.key, other).iter().any(|op| {
                    matches!(op.action, Action::CompareAndSet { expect, .. } if expect == Some(value))
                })
            });
            if other == Some(value) || !early && !replaced && initial == 0 {
                continue;
            }
            return format!(
                "{} saw {} at {}, but {} showed {} and was answered at {}, and nothing wrote {} \
                 after",
                name(late),
                show(Some(value)),
                late.ret,
                name(middle),
                show(other),
                middle.ret,
                show(Some(value)),
            );
        }
    }
    let of = if keys.len() > 1 { "these keys" } else { "this key" };
    format!(
        "no order of these {} answers is possible, whatever the other writes of {of} did",
        ops.len()
    )
}
