//! Registers with distinct values that are only read and overwritten: near-linear, exact.
//!
//! All that happened to one value is a cluster. If its first end comes before its last call, the
//! value was held all the time between: a pinned zone. Otherwise it fits into one moment anywhere
//! between its last call and its first end. Legal if and only if no two pinned zones overlap and
//! no cluster of the second sort lies wholly inside a pinned zone (Gibbons and Korach 1997; Golab,
//! Li and Shah 2011). Anything conditional or vanishing is not for this module, nor are values that
//! were seen before they were written.

use super::case::{ABSENT, Case, Duty, Effect, Guard, JUNK, NONE};
use super::witness::Move;
use crate::history::{OpIndex, Time};

/// What the zones say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zoned {
    /// The value of this operation cannot have been held when it was.
    Illegal(OpIndex),
    /// The order was written down.
    Legal,
    /// Not a history of this sort.
    NotMine,
}

#[derive(Clone, Copy)]
struct Cluster {
    /// Where it starts in the order: its first end if pinned, else its last call.
    start: Time,
    end: Time,
    pinned: bool,
    val: u32,
    /// The write, `NONE` for the initial value.
    writer: u32,
}

/// The tables, reused.
#[derive(Default)]
pub(super) struct Zones {
    clusters: Vec<Cluster>,
    heads: Vec<u32>,
    next: Vec<u32>,
    waiting: Vec<Cluster>,
}

impl Zones {
    /// Judges the case if it is of this sort; a legal order is left in `order`.
    pub(super) fn judge(&mut self, case: &Case, order: &mut Vec<Move>) -> Zoned {
        if case.erasable || case.tracked || case.appends || !case.deadlines.is_empty() {
            return Zoned::NotMine;
        }
        for step in &case.steps {
            let fits = match (step.effect, step.guard, step.duty) {
                (Effect::Keep, Guard::Is(val), Duty::Must) => {
                    val != ABSENT && case.vals[val as usize].unique
                        || val == ABSENT && case.vals[ABSENT as usize].unique
                }
                (Effect::Set(state), Guard::Any, Duty::Must | Duty::May(_)) => {
                    let val = case.states[state as usize].val;
                    val == JUNK || val != ABSENT && case.vals[val as usize].unique
                }
                _ => false,
            };
            if !fits {
                return Zoned::NotMine;
            }
        }
        self.gather(case);
        self.sweep(case, order)
    }

    /// One cluster a value, one more for each write nobody saw.
    fn gather(&mut self, case: &Case) {
        self.clusters.clear();
        self.heads.clear();
        self.heads.resize(case.vals.len(), NONE);
        self.next.clear();
        self.next.resize(case.steps.len(), NONE);
        for (number, step) in case.steps.iter().enumerate().rev() {
            if let (Effect::Keep, Guard::Is(val)) = (step.effect, step.guard) {
                self.next[number] = std::mem::replace(&mut self.heads[val as usize], number as u32);
            }
        }
        let initial = case.states[case.initial as usize].val;
        let seen = &case.vals[initial as usize];
        self.clusters.push(Cluster {
            start: 0,
            end: seen.lo,
            pinned: true,
            val: initial,
            writer: NONE,
        });
        for (number, step) in case.steps.iter().enumerate() {
            let Effect::Set(state) = step.effect else { continue };
            if step.duty != Duty::Must {
                continue;
            }
            let val = case.states[state as usize].val;
            let (lo, hi) = match val {
                JUNK => (step.call, step.end),
                val => {
                    let seen = &case.vals[val as usize];
                    (seen.lo.max(step.call), seen.hi.min(step.end))
                }
            };
            let pinned = hi < lo;
            self.clusters.push(Cluster {
                start: lo.min(hi),
                end: lo.max(hi),
                pinned,
                val,
                writer: number as u32,
            });
        }
    }

    fn sweep(&mut self, case: &Case, order: &mut Vec<Move>) -> Zoned {
        self.clusters.sort_unstable_by_key(|cluster| {
            (cluster.start, cluster.pinned, cluster.writer.wrapping_add(1))
        });
        order.clear();
        self.waiting.clear();
        let mut pinned_until = 0;
        let mut pinned_by = NONE;
        for cluster in &self.clusters {
            if cluster.start >= pinned_until {
                for waiting in self.waiting.drain(..) {
                    emit(case, &self.heads, &self.next, waiting, order);
                }
            } else if cluster.pinned || cluster.end < pinned_until {
                // The pinning operation whose call came last cannot have seen its value.
                return Zoned::Illegal(last_seen(case, &self.heads, &self.next, pinned_by));
            } else {
                self.waiting.push(*cluster);
                continue;
            }
            if cluster.pinned {
                pinned_until = cluster.end;
                pinned_by = cluster.val;
            }
            emit(case, &self.heads, &self.next, *cluster, order);
        }
        for waiting in self.waiting.drain(..) {
            emit(case, &self.heads, &self.next, waiting, order);
        }
        Zoned::Legal
    }
}

fn emit(case: &Case, heads: &[u32], next: &[u32], cluster: Cluster, order: &mut Vec<Move>) {
    if cluster.writer != NONE {
        order.push(Move::Op(case.steps[cluster.writer as usize].op));
    }
    if cluster.val == JUNK {
        return;
    }
    let mut at = heads[cluster.val as usize];
    while at != NONE {
        order.push(Move::Op(case.steps[at as usize].op));
        at = next[at as usize];
    }
}

fn last_seen(case: &Case, heads: &[u32], next: &[u32], val: u32) -> OpIndex {
    let mut last = case.vals[val as usize].writer;
    let mut at = heads[val as usize];
    while at != NONE {
        last = at;
        at = next[at as usize];
    }
    case.steps[last as usize].op
}
