//! Clients: who waits for what, and that each is answered once and in time.
//!
//! Must never know: how what they wait for comes about.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::command::{Ask, Command, Outcome, ReadLevel, Refusal};
use super::log::{Fate, Remembered, What};
use super::replica::{Effect, Part, Replica};
use crate::base::{Instant, Key, OpId};

/// What a request waits for.
#[derive(Debug)]
enum Waiting {
    /// That this replica knows what it is.
    Role(Ask),
    /// That it is committed.
    Write,
    /// That what its client has seen is here.
    Read { key: Key, seen: u64 },
    /// A proof that this was still the primary after the request had come: by those who follow it,
    /// in this round, or by the arbiter, at this look.
    Proof { key: Key, seen: u64, round: u64, look: Option<u64> },
}

/// Requests that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Asks {
    waiting: BTreeMap<OpId, (Instant, Waiting)>,
    /// In the order in which they came: all have the same time.
    deadlines: VecDeque<(Instant, OpId)>,
    /// Before the role is known.
    early: VecDeque<OpId>,
    early_bytes: usize,
    reads: BTreeSet<OpId>,
    round_wanted: u64,
    looked: u64,
}

impl Asks {
    /// When the next of them must be answered.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    pub(super) const fn round_wanted(&self) -> u64 {
        self.round_wanted
    }

    /// The arbiter was read after this look.
    pub(super) fn on_looked(&mut self, asked: u64) {
        self.looked = self.looked.max(asked);
    }

    fn wait(&mut self, op: OpId, deadline: Instant, waiting: Waiting) {
        if matches!(waiting, Waiting::Read { .. } | Waiting::Proof { .. }) {
            self.reads.insert(op);
        }
        if self.waiting.insert(op, (deadline, waiting)).is_none() {
            self.deadlines.push_back((deadline, op));
        }
    }

    /// Nothing waits for it any more; `None` if nothing did.
    fn end(&mut self, op: &OpId) -> Option<Waiting> {
        self.reads.remove(op);
        self.waiting.remove(op).map(|(_, waiting)| waiting)
    }
}

/// About how many bytes a request takes.
fn size(ask: &Ask) -> usize {
    64 + match &ask.command {
        Command::Get(key, _) | Command::Remove(key) => key.len(),
        Command::Put(key, value) => key.len() + value.len(),
        Command::Resolve => 0,
    }
}

impl Replica {
    /// A client asks. What is being answered already is not asked a second time.
    pub(super) fn on_ask(&mut self, ask: Ask, now: Instant, effects: &mut Vec<Effect>) {
        if self.asks.waiting.contains_key(&ask.op) {
            return;
        }
        let limits = &self.settings.limits;
        let deadline = now + self.settings.answer_within;
        let busy = Refusal::Busy(self.settings.retry);
        if size(&ask) > 64 + limits.write_bytes {
            return reject(ask.op, Refusal::TooLarge, effects);
        }
        if self.asks.waiting.len() >= limits.waiting {
            return reject(ask.op, busy, effects);
        }
        if !matches!(self.part, Part::Waiting) {
            return self.take(ask, deadline, now, effects);
        }
        let bytes = self.asks.early_bytes + size(&ask);
        if bytes > limits.tail_bytes || self.asks.early.len() >= limits.tail {
            return reject(ask.op, busy, effects);
        }
        self.asks.early_bytes = bytes;
        self.asks.early.push_back(ask.op);
        self.asks.wait(ask.op, deadline, Waiting::Role(ask));
    }

    /// Answers a request, or has it wait, now that the role is known.
    fn take(&mut self, ask: Ask, deadline: Instant, now: Instant, effects: &mut Vec<Effect>) {
        let Ask { op, seen, again, command } = ask;
        let what = match command {
            Command::Get(key, level) => return self.read(op, key, level, seen, deadline, effects),
            Command::Put(key, value) => What::Put(op, key, value),
            Command::Remove(key) => What::Remove(op, key),
            Command::Resolve => What::Resolve(op),
        };
        match &self.part {
            Part::Lead(_) => {}
            Part::Outside => return reject(op, Refusal::NotReplica(self.primary()), effects),
            Part::Follow(_) | Part::Waiting => {
                return reject(op, Refusal::NotPrimary(self.primary()), effects);
            }
        }
        let memory = &self.log.content().memory;
        if let Some(remembered) = memory.find(&op) {
            return reply(op, told(remembered), effects);
        }
        if self.log.pending(&op).is_some() {
            return self.asks.wait(op, deadline, Waiting::Write);
        }
        if (again || matches!(what, What::Resolve(_))) && memory.floor() > seen {
            // It may have been done, so long ago that it is forgotten.
            return reply(op, Outcome::Unknown, effects);
        }
        let limits = &self.settings.limits;
        if self.is_handing_over()
            || self.log.tail().len() >= limits.tail
            || self.log.tail_bytes() >= limits.tail_bytes
        {
            return reject(op, Refusal::Busy(self.settings.retry), effects);
        }
        self.order(what, now);
        self.asks.wait(op, deadline, Waiting::Write);
    }

    fn read(
        &mut self,
        op: OpId,
        key: Key,
        level: ReadLevel,
        seen: u64,
        deadline: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let waiting = match (level, &self.part) {
            (_, Part::Outside | Part::Waiting) => {
                return reject(op, Refusal::NotReplica(self.primary()), effects);
            }
            (ReadLevel::Committed, _) => Waiting::Read { key, seen },
            (ReadLevel::Dirty, _) => {
                let value = self.log.find_dirty(&key).cloned();
                let place = self.log.committed();
                return reply(op, Outcome::Found { value, place }, effects);
            }
            (ReadLevel::Linearizable, Part::Lead(lead)) => {
                let round = lead.round + 1;
                self.asks.round_wanted = round;
                Waiting::Proof { key, seen, round, look: None }
            }
            (ReadLevel::Linearizable, Part::Follow(_)) => {
                return reject(op, Refusal::NotPrimary(self.primary()), effects);
            }
        };
        self.asks.wait(op, deadline, waiting);
    }

    /// What became of a request that has been committed here.
    pub(super) fn answer_write(&mut self, done: &Remembered, effects: &mut Vec<Effect>) {
        if self.asks.end(&done.op).is_some() {
            reply(done.op, told(done), effects);
        }
    }

    /// This is not the primary any more, so it will not learn what becomes of them.
    pub(super) fn fail_writes(&mut self, effects: &mut Vec<Effect>) {
        let refusal = Refusal::NotPrimary(None);
        self.asks.waiting.retain(|op, (_, waiting)| match waiting {
            Waiting::Role(_) | Waiting::Read { .. } => true,
            Waiting::Write => {
                reply(*op, Outcome::Unknown, effects);
                false
            }
            Waiting::Proof { .. } => {
                self.asks.reads.remove(op);
                reject(*op, refusal, effects);
                false
            }
        });
        self.asks.round_wanted = 0;
    }

    /// Answers what can be answered by now, and what must be.
    pub(super) fn answer(&mut self, ticked: bool, now: Instant, effects: &mut Vec<Effect>) {
        while !matches!(self.part, Part::Waiting) {
            let Some(op) = self.asks.early.pop_front() else { break };
            if let Some((deadline, Waiting::Role(ask))) = self.asks.waiting.remove(&op) {
                self.asks.early_bytes -= size(&ask);
                // Its deadline stays where it is in the queue.
                self.take(ask, deadline, now, effects);
            }
        }
        self.answer_reads(effects);
        if ticked {
            self.look_for_proof(effects);
        }
        self.expire(now, effects);
    }

    fn answer_reads(&mut self, effects: &mut Vec<Effect>) {
        let place = self.log.committed();
        let begun = matches!(&self.part, Part::Lead(lead) if place.index >= lead.begin);
        let reads: Vec<OpId> = self.asks.reads.iter().copied().collect();
        for op in reads {
            let ready = match self.asks.waiting.get(&op) {
                Some((_, Waiting::Read { seen, .. })) => place.index >= *seen,
                Some((_, Waiting::Proof { seen, round, look, .. })) => {
                    let looked = look.is_some_and(|look| look <= self.asks.looked);
                    begun && place.index >= *seen && (looked || self.is_proved(*round))
                }
                Some((_, Waiting::Role(_) | Waiting::Write)) | None => false,
            };
            if ready
                && let Some(Waiting::Read { key, .. } | Waiting::Proof { key, .. }) =
                    self.asks.end(&op)
            {
                let value = self.log.find(&key).cloned();
                reply(op, Outcome::Found { value, place }, effects);
            }
        }
    }

    /// Whoever should follow has not said so for a while: the arbiter can prove it as well.
    fn look_for_proof(&mut self, effects: &mut Vec<Effect>) {
        let mut wanted = false;
        let next = self.looks + 1;
        for op in &self.asks.reads {
            if let Some((_, Waiting::Proof { look, .. })) = self.asks.waiting.get_mut(op) {
                look.get_or_insert(next);
                wanted = true;
            }
        }
        if wanted {
            self.look(effects);
        }
    }

    /// when the time is up there is an answer, and it is the only one.
    fn expire(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while let Some((deadline, op)) = self.asks.deadlines.front().copied() {
            let still = self.asks.waiting.get(&op).is_some_and(|(until, _)| *until == deadline);
            if still && now < deadline {
                break;
            }
            self.asks.deadlines.pop_front();
            if !still {
                continue;
            }
            let outcome = match self.asks.end(&op) {
                Some(Waiting::Write) => Outcome::Unknown,
                Some(Waiting::Role(ask)) => {
                    self.asks.early_bytes -= size(&ask);
                    self.asks.early.retain(|early| *early != op);
                    Outcome::Rejected(Refusal::NotReady)
                }
                Some(Waiting::Read { .. } | Waiting::Proof { .. }) | None => {
                    Outcome::Rejected(Refusal::NotInTime)
                }
            };
            reply(op, outcome, effects);
        }
    }
}

/// What the client of a remembered request is told.
const fn told(remembered: &Remembered) -> Outcome {
    match remembered.fate {
        Fate::Done { existed } => Outcome::Committed { place: remembered.place, existed },
        Fate::Resolved => Outcome::Rejected(Refusal::Resolved),
    }
}

fn reply(op: OpId, outcome: Outcome, effects: &mut Vec<Effect>) {
    effects.push(Effect::Reply { op, outcome });
}

fn reject(op: OpId, refusal: Refusal, effects: &mut Vec<Effect>) {
    reply(op, Outcome::Rejected(refusal), effects);
}
