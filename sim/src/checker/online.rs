//! The checker inside a simulator: events come one by one, and most violations stop it at once.
//!
//! Each response is held against what earlier responses prove: a value nobody wrote, a value that
//! was seen to have been followed by another one. That takes constant time, needs every value to
//! be written once, and never calls a legal history illegal: what it flags is judged before it is
//! reported. What it cannot see is found by `finish`, which judges everything.

use super::hash::FixedMap;
use super::judge::{Judge, Options, Verdict};
use super::witness::{Move, Witness, WitnessError, check_witness};
use crate::history::{
    Action, Binding, Binds, History, Key, Mark, MarkKind, Model, NEVER, OpIndex, Operation,
    Outcome, Time, Value,
};

/// What is known about a value of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    writers: u32,
    shown: bool,
    /// When it was certain that another value had followed it.
    followed: Option<Time>,
}

/// What responses so far prove about a key.
#[derive(Debug, Default)]
struct Proofs {
    /// The values shown, with the first response that showed them, in that order.
    shown: Vec<(Value, Time)>,
    /// How many of them had been shown before the call of some later operation that showed
    /// something else.
    passed: usize,
    /// The one among them that this operation itself showed.
    spared: Option<Value>,
}

/// A checker that is fed the events of a run in order.
#[derive(Default)]
pub struct Checker {
    history: History,
    judge: Judge,
    options: Options,
    known: FixedMap<(Key, Value), Known>,
    proofs: Vec<Proofs>,
    claims: Vec<(Key, u64, Move)>,
}

impl Checker {
    /// A checker of a history of this model.
    pub fn new(model: Model, options: Options) -> Self {
        Self { history: History::new(model), options, ..Self::default() }
    }

    /// Forgets everything and keeps the allocations.
    pub fn reset(&mut self) {
        self.history.clear();
        self.known.clear();
        for proofs in &mut self.proofs {
            proofs.shown.clear();
            proofs.passed = 0;
            proofs.spared = None;
        }
        self.claims.clear();
    }

    /// The history so far; operations in flight have unknown outcomes.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// The interned set of these bindings.
    pub fn bind(&mut self, bindings: &[Binding]) -> Binds {
        self.history.bind(bindings)
    }

    /// A client asks for something.
    pub fn invoke(
        &mut self,
        client: i32,
        key: Key,
        action: Action,
        binds: Binds,
        time: Time,
    ) -> OpIndex {
        let op = OpIndex::try_from(self.history.ops.len()).expect("fewer than 2^32 operations");
        if let Some(value) = action.value() {
            self.known.entry((key, value)).or_default().writers += 1;
        }
        self.history.ops.push(Operation {
            id: u64::from(op),
            client,
            key,
            binds,
            call: time,
            ret: NEVER,
            action,
            outcome: Outcome::Unknown,
        });
        op
    }

    /// The operation certainly had no effect, and told nothing.
    pub fn fail(&mut self, op: OpIndex) {
        let op = &mut self.history.ops[op as usize];
        // A read of unknown outcome demands nothing and allows nothing.
        op.action = Action::Get;
        op.outcome = Outcome::Unknown;
        op.ret = NEVER;
    }

    /// The client is answered.
    ///
    /// # Errors
    /// The verdict, if what has been answered so far is not linearizable and that shows at once.
    pub fn complete(&mut self, op: OpIndex, outcome: Outcome, time: Time) -> Result<(), Verdict> {
        if outcome == Outcome::Unknown {
            return Ok(());
        }
        let recorded = &mut self.history.ops[op as usize];
        recorded.outcome = outcome;
        recorded.ret = time;
        let recorded = *recorded;
        let mut suspicious = false;
        if let (Action::CompareAndSet { expect, .. }, Outcome::Done(_)) = (recorded.action, outcome)
        {
            // It saw what it replaced, and that is gone now.
            suspicious |= self.show(&recorded, expect, time);
        }
        if let Some(value) = recorded.shows() {
            suspicious |= self.show(&recorded, value, time);
        }
        if suspicious {
            let verdict = self.judge.check(&self.history, &self.options);
            if matches!(verdict, Verdict::NotLinearizable { .. }) {
                return Err(verdict);
            }
        }
        Ok(())
    }

    /// Takes note that the key held `value` at some moment of the operation; true: it cannot have.
    fn show(&mut self, op: &Operation, value: Option<Value>, time: Time) -> bool {
        let initial = self.history.initial();
        let key = op.key as usize;
        if self.proofs.len() <= key {
            self.proofs.resize_with(key + 1, Proofs::default);
        }
        let proofs = &mut self.proofs[key];
        let mut wrong = false;
        if let Some(value) = value {
            let known = self.known.entry((op.key, value)).or_default();
            let writers = known.writers + u32::from(initial == Some(value));
            wrong =
                writers == 0 || writers == 1 && known.followed.is_some_and(|time| time < op.call);
            if !known.shown {
                known.shown = true;
                proofs.shown.push((value, time));
            }
        }
        // Everything shown before this call has been followed by what is shown now.
        let before = op.call;
        if let Some(spared) = proofs.spared
            && Some(spared) != value
        {
            proofs.spared = None;
            // Shown before some earlier call, so before this one unless calls overlap.
            let first = proofs.shown.iter().rev().find(|(shown, _)| *shown == spared);
            if first.is_some_and(|(_, first)| *first < before) {
                follow(&mut self.known, op.key, spared, time);
            } else {
                proofs.spared = Some(spared);
            }
        }
        while let Some(&(shown, first)) = proofs.shown.get(proofs.passed) {
            if first >= before {
                break;
            }
            if Some(shown) == value {
                // Followed by nothing yet; the next other value will tell.
                if proofs.spared.is_some() {
                    break;
                }
                proofs.spared = Some(shown);
            } else {
                follow(&mut self.known, op.key, shown, time);
            }
            proofs.passed += 1;
        }
        wrong
    }

    /// From now on entries with this binding may vanish; on one key, or everywhere.
    pub fn down(&mut self, binding: Binding, key: Option<Key>, time: Time) {
        self.history.marks.push(Mark { time, key, binding, kind: MarkKind::Down });
    }

    /// At this moment no live entry may have this binding.
    pub fn gone(&mut self, binding: Binding, key: Option<Key>, time: Time) {
        self.history.marks.push(Mark { time, key, binding, kind: MarkKind::Gone });
    }

    /// The engine says this was the `order`th thing to happen to the key. Nothing is trusted: the
    /// claims of a run are replayed, and only if they fail is an order searched for.
    pub fn claim(&mut self, key: Key, order: u64, step: Move) {
        self.claims.push((key, order, step));
    }

    /// Judges everything, by the claims if there are any and they hold.
    pub fn finish(&mut self) -> Verdict {
        if !self.claims.is_empty()
            && let Ok(witness) = check_claims(&self.history, &self.claims)
        {
            return Verdict::Linearizable(witness);
        }
        self.judge.check(&self.history, &self.options)
    }

    /// Why what was recorded is not linearizable, if it is not.
    pub fn explain(&mut self) -> Option<super::Explanation> {
        self.judge.explain(&self.history, &self.options)
    }
}

fn follow(known: &mut FixedMap<(Key, Value), Known>, key: Key, value: Value, time: Time) {
    let known = known.entry((key, value)).or_default();
    known.followed.get_or_insert(time);
}

/// Replays claims: `(key, order, what happened)`, in any order.
///
/// # Errors
/// The first thing found wrong with them. A wrong claim says nothing about the history.
pub fn check_claims(
    history: &History,
    claims: &[(Key, u64, Move)],
) -> Result<Witness, WitnessError> {
    let mut sorted = claims.to_vec();
    sorted.sort_by_key(|(key, order, _)| (*key, *order));
    let mut witness = Witness::default();
    for (key, _, step) in sorted {
        match witness.keys.last_mut() {
            Some((last, order)) if *last == key => order.push(step),
            Some(_) | None => witness.keys.push((key, vec![step])),
        }
    }
    check_witness(history, &witness)?;
    Ok(witness)
}
