//! One replica's copy: what is committed, and behind it the tail of what is not yet.
//!
//! Reads of what is committed never see the tail, so a tail that is dropped was never shown
//! . Two logs that have an entry at the same place are the same up to there: a reign has one
//! primary, and whoever follows it checks the place before.
//!
//! Must never know: who else has a copy, what is on disk, time.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound;

use bincode::{Decode, Encode};

use super::roster::Reign;
use super::snapshot::Piece;
use crate::base::{Key, OpId, Value};

/// Where an entry is: counted through all reigns, and in which reign it was put there.
///
/// Of two logs, the one that ends at the greater place holds all that was ever acknowledged to
/// hold by the other's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Place {
    /// In which reign.
    pub reign: Reign,
    /// The first is 1.
    pub index: u64,
}

impl Place {
    /// Before everything.
    pub const ZERO: Self = Self { reign: Reign::NONE, index: 0 };

    /// Whether it may be one of this reign or of an earlier one; no table has as many steps as
    /// would take half the numbers there are.
    pub(super) fn is_of(self, reign: Reign) -> bool {
        self.reign <= reign && self.index <= u64::MAX >> 1
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.reign)
    }
}

/// One step of the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Entry {
    /// Where.
    pub place: Place,
    /// What.
    pub what: What,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum What {
    /// A reign begins. Once this is committed, so is all before it.
    Begin,
    /// A key is set.
    Put(OpId, Key, Value),
    /// A key is removed.
    Remove(OpId, Key),
    /// A request that has not been done never will be.
    Resolve(OpId),
}

impl What {
    /// Whose request it is.
    #[must_use]
    pub const fn op(&self) -> Option<OpId> {
        match self {
            Self::Begin => None,
            Self::Put(op, ..) | Self::Remove(op, _) | Self::Resolve(op) => Some(*op),
        }
    }
}

impl Entry {
    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        64 + match &self.what {
            What::Begin | What::Resolve(_) => 0,
            What::Put(_, key, value) => key.len() + value.len(),
            What::Remove(_, key) => key.len(),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.place)?;
        match &self.what {
            What::Begin => f.write_str("begin"),
            What::Put(op, key, value) => write!(f, "{op} {key}={value}"),
            What::Remove(op, key) => write!(f, "{op} -{key}"),
            What::Resolve(op) => write!(f, "{op} resolved"),
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Fate {
    /// It was done.
    Done {
        /// Whether the key had a value before.
        existed: bool,
    },
    /// It was not done, and never will be.
    Resolved,
}

/// A request that has been committed, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Remembered {
    /// Where.
    pub place: Place,
    /// Which.
    pub op: OpId,
    /// What became of it.
    pub fate: Fate,
}

/// The latest requests, so that one that comes again is answered and not done again.
/// Every replica remembers, so a successor does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    ops: BTreeMap<OpId, Remembered>,
    order: BTreeMap<u64, OpId>,
    /// What was committed up to here may be forgotten.
    floor: u64,
    max: usize,
}

impl Memory {
    pub(super) fn find(&self, op: &OpId) -> Option<&Remembered> {
        self.ops.get(op)
    }

    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// Those behind `index`, in order.
    pub(super) fn after(&self, index: u64) -> impl Iterator<Item = &Remembered> {
        self.order.range((Bound::Excluded(index), Bound::Unbounded)).map(|(_, op)| &self.ops[op])
    }

    pub(super) fn add(&mut self, remembered: Remembered) {
        if let Some(before) = self.ops.insert(remembered.op, remembered) {
            self.order.remove(&before.place.index);
        }
        self.order.insert(remembered.place.index, remembered.op);
        while self.order.len() > self.max {
            let (index, op) = self.order.pop_first().expect("more than none");
            self.ops.remove(&op);
            self.raise_floor(index);
        }
    }
}

/// A table as of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) rows: BTreeMap<Key, Value>,
    pub(super) memory: Memory,
    pub(super) place: Place,
}

impl Content {
    pub(super) const fn new(remembered_max: usize) -> Self {
        let memory =
            Memory { ops: BTreeMap::new(), order: BTreeMap::new(), floor: 0, max: remembered_max };
        Self { rows: BTreeMap::new(), memory, place: Place::ZERO }
    }

    /// Does one step to the rows; says whether there was a value before.
    pub(super) fn change(&mut self, what: &What) -> bool {
        match what {
            What::Put(_, key, value) => self.rows.insert(key.clone(), value.clone()).is_some(),
            What::Remove(_, key) => self.rows.remove(key).is_some(),
            What::Begin | What::Resolve(_) => false,
        }
    }

    /// Takes the next step.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<Remembered> {
        assert_eq!(entry.place.index, self.place.index + 1, "P-I3: step by step");
        self.place = entry.place;
        let existed = self.change(&entry.what);
        let fate = match entry.what {
            What::Resolve(_) => Fate::Resolved,
            What::Begin | What::Put(..) | What::Remove(..) => Fate::Done { existed },
        };
        let remembered = Remembered { place: entry.place, op: entry.what.op()?, fate };
        self.memory.add(remembered);
        Some(remembered)
    }
}

/// How much of what is committed is kept as entries too, for those who lack little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HistoryMax {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

/// A copy of the table.
#[derive(Clone, Debug)]
pub(super) struct Log {
    content: Content,
    /// Behind what is committed.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    /// Requests in the tail.
    pending: BTreeMap<OpId, u64>,
    /// The last of what is committed.
    history: VecDeque<Entry>,
    history_bytes: usize,
    history_max: HistoryMax,
}

impl Log {
    pub(super) const fn new(content: Content, history_max: HistoryMax) -> Self {
        Self {
            content,
            tail: VecDeque::new(),
            tail_bytes: 0,
            pending: BTreeMap::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            history_max,
        }
    }

    /// The same copy, which keeps this much from now on.
    pub(super) fn keeping(mut self, history_max: HistoryMax) -> Self {
        self.history_max = history_max;
        self.trim();
        self
    }

    pub(super) const fn content(&self) -> &Content {
        &self.content
    }

    pub(super) const fn tail(&self) -> &VecDeque<Entry> {
        &self.tail
    }

    pub(super) const fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    pub(super) const fn history(&self) -> &VecDeque<Entry> {
        &self.history
    }

    /// Frees the rows that were handed over: the log is on its way to its end.
    pub(super) fn let_go(&mut self, piece: &Piece) {
        for (key, _) in &piece.rows {
            self.content.rows.remove(key);
        }
    }

    /// Where the log ends.
    pub(super) fn last(&self) -> Place {
        self.tail.back().map_or(self.content.place, |entry| entry.place)
    }

    /// Up to where it is committed.
    pub(super) const fn committed(&self) -> Place {
        self.content.place
    }

    /// Where this request is in the tail.
    pub(super) fn pending(&self, op: &OpId) -> Option<u64> {
        self.pending.get(op).copied()
    }

    /// The entry at this index, if it is still kept.
    fn entry(&self, index: u64) -> Option<&Entry> {
        let committed = self.content.place.index;
        if index > committed {
            return self.tail.get(usize::try_from(index - committed - 1).ok()?);
        }
        let back = usize::try_from(committed - index).ok()?;
        self.history.get(self.history.len().checked_sub(back + 1)?)
    }

    /// In which reign the entry at this index was put there, if that is still known.
    pub(super) fn reign_at(&self, index: u64) -> Option<Reign> {
        if index == self.content.place.index {
            return Some(self.content.place.reign);
        }
        if index == 0 {
            return Some(Reign::NONE);
        }
        self.entry(index).map(|entry| entry.place.reign)
    }

    /// Whether this is a place of this log.
    pub(super) fn has(&self, place: Place) -> bool {
        self.reign_at(place.index) == Some(place.reign)
    }

    /// Up to where it is committed, and where each reign ends behind that.
    pub(super) fn ends(&self) -> Vec<Place> {
        let mut ends = alloc::vec![self.committed()];
        for entry in &self.tail {
            // The first is where it is committed, also if the reign goes on.
            match ends.get_mut(1..).and_then(<[Place]>::last_mut) {
                Some(end) if end.reign == entry.place.reign => *end = entry.place,
                _ => ends.push(entry.place),
            }
        }
        ends
    }

    /// The last place that is also one of a log with these ends, as far as this one is still kept.
    pub(super) fn common(&self, ends: &[Place]) -> Option<u64> {
        let committed = *ends.first()?;
        for run in ends.windows(2).rev() {
            let (begin, end) = (run[0].index.saturating_add(1), run[1]);
            for kept in [&self.tail, &self.history] {
                let first = kept.partition_point(|entry| entry.place.reign < end.reign);
                let behind = kept.partition_point(|entry| entry.place.reign <= end.reign);
                let mut same = kept.range(first..behind).map(|entry| entry.place.index);
                let (Some(first), last) = (same.next(), same.next_back()) else { continue };
                let index = last.unwrap_or(first).min(end.index);
                if index >= first.max(begin) {
                    return Some(index);
                }
            }
        }
        self.has(committed).then_some(committed.index)
    }

    /// Entries behind `index`, at least one if there is one, of about so many bytes at most; `None`
    /// if they are not kept any more.
    pub(super) fn after(&self, index: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        let last = self.last().index;
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in index + 1..=last {
            let entry = self.entry(index)?;
            bytes += entry.size();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Some(found)
    }

    pub(super) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.place.index, self.last().index + 1, "P-I3: no gap, nothing twice");
        assert!(entry.place.reign >= self.last().reign, "reigns follow each other");
        if let Some(op) = entry.what.op() {
            self.pending.insert(op, entry.place.index);
        }
        self.tail_bytes += entry.size();
        self.tail.push_back(entry);
    }

    /// Drops what is behind `index` (P-I7).
    pub(super) fn truncate(&mut self, index: u64) {
        assert!(index >= self.committed().index, "P-I4: what is committed stays");
        while self.last().index > index {
            let entry = self.tail.pop_back().expect("behind what is committed");
            self.tail_bytes -= entry.size();
            if let Some(op) = entry.what.op()
                && self.pending.get(&op) == Some(&entry.place.index)
            {
                self.pending.remove(&op);
            }
        }
    }

    /// Commits up to `index`, or to the end of the tail; tells what became of whose requests.
    pub(super) fn commit(&mut self, index: u64) -> Vec<Remembered> {
        let mut done = Vec::new();
        while self.committed().index < index {
            let Some(entry) = self.tail.pop_front() else { break };
            self.tail_bytes -= entry.size();
            if let Some(remembered) = self.content.apply(&entry) {
                self.pending.remove(&remembered.op);
                done.push(remembered);
            }
            self.history_bytes += entry.size();
            self.history.push_back(entry);
        }
        self.trim();
        done
    }

    fn trim(&mut self) {
        while self.history.len() > self.history_max.entries
            || self.history_bytes > self.history_max.bytes
        {
            let Some(entry) = self.history.pop_front() else { break };
            self.history_bytes -= entry.size();
        }
    }

    pub(super) fn find(&self, key: &Key) -> Option<&Value> {
        self.content.rows.get(key)
    }

    /// What the key will have if all of the tail is committed.
    pub(super) fn find_dirty(&self, key: &Key) -> Option<&Value> {
        let latest = self.tail.iter().rev().find_map(|entry| match &entry.what {
            What::Put(_, put, value) => (put == key).then_some(Some(value)),
            What::Remove(_, removed) => (removed == key).then_some(None),
            What::Begin | What::Resolve(_) => None,
        });
        latest.unwrap_or_else(|| self.find(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClientId, RequestId};

    const KEEP: HistoryMax = HistoryMax { entries: 2, bytes: 1 << 20 };

    fn op(request: u64) -> OpId {
        OpId { client: ClientId::new(1), request: RequestId(request) }
    }

    fn put(reign: u64, index: u64, value: &str) -> Entry {
        let what = What::Put(op(index), Key::from("k"), Value::from(value));
        Entry { place: Place { reign: Reign(reign), index }, what }
    }

    fn log() -> Log {
        let mut log = Log::new(Content::new(2), KEEP);
        for index in 1..=5 {
            log.append(put(1, index, "v"));
        }
        log
    }

    /// the tail is seen by dirty reads alone, and leaves no trace when it goes.
    #[test]
    fn what_is_not_committed_is_not_shown() {
        let key = Key::from("k");
        let mut log = log();
        assert_eq!((log.find(&key), log.find_dirty(&key)), (None, Some(&Value::from("v"))));
        log.truncate(3);
        assert_eq!(log.pending(&op(4)), None);
        log.append(Entry {
            place: Place { reign: Reign(2), index: 4 },
            what: What::Remove(op(9), key.clone()),
        });
        log.commit(3);
        assert_eq!((log.find(&key), log.find_dirty(&key)), (Some(&Value::from("v")), None));
    }

    #[test]
    #[should_panic(expected = "P-I4")]
    fn what_is_committed_is_never_cut() {
        let mut log = log();
        log.commit(4);
        log.truncate(3);
    }

    /// both memories are bounded, and what is forgotten is known to be.
    #[test]
    fn the_latest_are_remembered() {
        let mut log = log();
        let done = log.commit(4);
        assert_eq!(done.len(), 4);
        assert_eq!(done[0].fate, Fate::Done { existed: false });
        assert_eq!(done[3].fate, Fate::Done { existed: true });
        let memory = &log.content().memory;
        assert_eq!(memory.find(&op(2)), None);
        assert_eq!(memory.find(&op(3)), Some(&done[2]));
        assert_eq!(memory.floor(), 2);
        assert_eq!(log.reign_at(2), None);
        assert_eq!(log.reign_at(3), Some(Reign(1)));
        assert!(log.after(1, 1 << 20).is_none(), "not kept");
        assert_eq!(log.after(2, 1 << 20).map(|entries| entries.len()), Some(3));
        assert_eq!(log.after(2, 1).map(|entries| entries.len()), Some(1));
    }
}
