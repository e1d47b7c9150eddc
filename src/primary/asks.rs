//! Clients: who waits for what, and that each is answered once and in time.
//!
//! Must never know: how what they wait for comes about.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::ops::Bound;

use super::command::{Ask, Command, Outcome, ReadLevel, Refusal};
use super::log::{Fate, Log, Remembered, What};
use super::replica::{Effect, Part, Replica};
use crate::base::{Instant, Key, OpId, Value};

/// What a request waits for.
#[derive(Debug)]
enum Waiting {
    /// That this replica knows what it is.
    Role(Ask),
    /// That it is committed.
    Write,
    /// That what its client has seen is here, and what anybody was shown here before.
    Read { what: Wanted, seen: u64 },
    /// A proof that this was still the primary after the request had come: by those who follow it,
    /// in this round, or by the arbiter, at this look.
    Proof { what: Wanted, seen: u64, number: u64, round: u64, look: Option<u64> },
}

/// What a read shows.
#[derive(Debug)]
enum Wanted {
    Key(Key),
    Rows { after: Option<Key>, limit: u32 },
}

/// About how many bytes of rows one answer has at most, unless one row alone is longer.
const ROWS_BYTES: usize = 1 << 20;

/// Requests that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Asks {
    waiting: BTreeMap<OpId, (Instant, Waiting)>,
    deadlines: BTreeSet<(Instant, OpId)>,
    /// Before the role is known. Some may wait for it no more.
    early: VecDeque<OpId>,
    early_bytes: usize,
    /// Reads, by what their clients have seen.
    reads: BTreeSet<(u64, OpId)>,
    /// Reads that need a proof, in the order in which they came: so whatever proves one proves all
    /// before it.
    proofs: BTreeSet<(u64, OpId)>,
    number: u64,
    round_wanted: u64,
    looked: u64,
}

impl Asks {
    /// When the next of them must be answered.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(super) const fn round_wanted(&self) -> u64 {
        self.round_wanted
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn has(&self, op: &OpId) -> bool {
        self.waiting.contains_key(op)
    }

    /// The arbiter was read after this look.
    pub(super) fn on_looked(&mut self, asked: u64) {
        self.looked = self.looked.max(asked);
    }

    fn is_early(&self, op: &OpId) -> bool {
        matches!(self.waiting.get(op), Some((_, Waiting::Role(_))))
    }

    fn wait(&mut self, op: OpId, deadline: Instant, waiting: Waiting) {
        match &waiting {
            Waiting::Read { seen, .. } => {
                self.reads.insert((*seen, op));
            }
            Waiting::Proof { number, .. } => {
                self.proofs.insert((*number, op));
            }
            Waiting::Role(_) | Waiting::Write => {}
        }
        self.deadlines.insert((deadline, op));
        self.waiting.insert(op, (deadline, waiting));
    }

    /// Nothing waits for it any more; until when something did, and for what.
    fn end(&mut self, op: &OpId) -> Option<(Instant, Waiting)> {
        let (deadline, waiting) = self.waiting.remove(op)?;
        self.deadlines.remove(&(deadline, *op));
        match &waiting {
            Waiting::Role(ask) => self.early_bytes -= size(ask),
            Waiting::Read { seen, .. } => {
                self.reads.remove(&(*seen, *op));
            }
            Waiting::Proof { number, .. } => {
                self.proofs.remove(&(*number, *op));
            }
            Waiting::Write => {}
        }
        Some((deadline, waiting))
    }
}

/// About how many bytes a request takes.
fn size(ask: &Ask) -> usize {
    64 + match &ask.command {
        Command::Get(key, _) | Command::Remove(key) => key.len(),
        Command::Put(key, value) => key.len() + value.len(),
        Command::Scan { after, .. } => after.as_ref().map_or(0, Key::len),
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
        let deadline = now + self.settings.answer_within.min(ask.within);
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
        let Ask { op, seen, again, command, .. } = ask;
        let what = match command {
            Command::Get(key, level) => {
                return self.read(op, Wanted::Key(key), level, seen, deadline, effects);
            }
            Command::Scan { after, limit } => {
                let rows = Wanted::Rows { after, limit };
                return self.read(op, rows, ReadLevel::Committed, seen, deadline, effects);
            }
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
        what: Wanted,
        level: ReadLevel,
        seen: u64,
        deadline: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let waiting = match (level, &self.part) {
            (_, Part::Outside | Part::Waiting) => {
                return reject(op, Refusal::NotReplica(self.primary()), effects);
            }
            (ReadLevel::Committed | ReadLevel::Dirty, _) if !self.may_show() => {
                return reject(op, Refusal::NotReplica(self.primary()), effects);
            }
            (ReadLevel::Committed, _) => Waiting::Read { what, seen },
            (ReadLevel::Dirty, _) => {
                let outcome = self.show(&what, Log::find_dirty);
                return reply(op, outcome, effects);
            }
            (ReadLevel::Linearizable, Part::Lead(lead)) => {
                let round = lead.round + 1;
                self.asks.round_wanted = round;
                self.asks.number += 1;
                let number = self.asks.number;
                Waiting::Proof { what, seen, number, round, look: None }
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
        let writes = self.asks.waiting.iter();
        let writes = writes.filter(|(_, (_, waiting))| matches!(waiting, Waiting::Write));
        for op in writes.map(|(op, _)| *op).collect::<Vec<_>>() {
            self.asks.end(&op);
            reply(op, Outcome::Unknown, effects);
        }
        self.fail_proofs(effects);
    }

    /// The reign has ended in which they were to be proved.
    pub(super) fn fail_proofs(&mut self, effects: &mut Vec<Effect>) {
        while let Some((_, op)) = self.asks.proofs.first().copied() {
            self.asks.end(&op);
            reject(op, Refusal::NotPrimary(None), effects);
        }
        self.asks.round_wanted = 0;
    }

    /// Answers what can be answered by now, and what must be.
    pub(super) fn answer(&mut self, ticked: bool, now: Instant, effects: &mut Vec<Effect>) {
        while !matches!(self.part, Part::Waiting) {
            let Some(op) = self.asks.early.pop_front() else { break };
            if self.asks.is_early(&op)
                && let Some((deadline, Waiting::Role(ask))) = self.asks.end(&op)
            {
                self.take(ask, deadline, now, effects);
            }
        }
        self.answer_reads(effects);
        if ticked {
            self.look_for_proof(effects);
        }
        self.expire(now, effects);
    }

    /// Reads wait in the order in which they can be answered: no more of them are looked at than
    /// are.
    fn answer_reads(&mut self, effects: &mut Vec<Effect>) {
        if !self.has_caught_up() {
            return;
        }
        let place = self.log.committed();
        let begun = matches!(&self.part, Part::Lead(lead) if place.index >= lead.begin);
        while begun && let Some((_, op)) = self.asks.proofs.first().copied() {
            let Some((_, Waiting::Proof { round, look, .. })) = self.asks.waiting.get(&op) else {
                unreachable!("it waits for a proof")
            };
            if !(look.is_some_and(|look| look <= self.asks.looked) || self.is_proved(*round)) {
                break;
            }
            if let Some((deadline, Waiting::Proof { what, seen, .. })) = self.asks.end(&op) {
                self.asks.wait(op, deadline, Waiting::Read { what, seen });
            }
        }
        while let Some((seen, op)) = self.asks.reads.first().copied() {
            if place.index < seen {
                break;
            }
            if let Some((_, Waiting::Read { what, .. })) = self.asks.end(&op) {
                let outcome = self.show(&what, Log::find);
                reply(op, outcome, effects);
            }
        }
    }

    /// What is committed; of one key, what `find` finds.
    fn show(
        &self,
        what: &Wanted,
        find: impl for<'a> Fn(&'a Log, &Key) -> Option<&'a Value>,
    ) -> Outcome {
        let place = self.log.committed();
        let (after, limit) = match what {
            Wanted::Key(key) => {
                return Outcome::Found { value: find(&self.log, key).cloned(), place };
            }
            Wanted::Rows { after, limit } => (after, *limit as usize),
        };
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.log.content().rows.range::<Key, _>((from, Bound::Unbounded));
        let (mut rows, mut bytes, mut more) = (Vec::new(), 0, false);
        for (key, value) in rest {
            bytes += key.len() + value.len();
            more = rows.len() >= limit.max(1) || bytes > ROWS_BYTES && !rows.is_empty();
            if more {
                break;
            }
            rows.push((key.clone(), value.clone()));
        }
        Outcome::Rows { rows, more, place }
    }

    /// Whoever should follow has not said so for a while: the arbiter can prove it as well.
    fn look_for_proof(&mut self, effects: &mut Vec<Effect>) {
        let mut wanted = false;
        let next = self.looks + 1;
        for (_, op) in &self.asks.proofs {
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
        while let Some((deadline, op)) = self.asks.deadlines.first().copied() {
            if now < deadline {
                break;
            }
            let outcome = match self.asks.end(&op) {
                Some((_, Waiting::Write)) => Outcome::Unknown,
                Some((_, Waiting::Role(_))) => Outcome::Rejected(Refusal::NotReady),
                Some((_, Waiting::Read { .. } | Waiting::Proof { .. })) | None => {
                    Outcome::Rejected(Refusal::NotInTime)
                }
            };
            reply(op, outcome, effects);
        }
        while self.asks.early.front().is_some_and(|op| !self.asks.is_early(op)) {
            self.asks.early.pop_front();
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
