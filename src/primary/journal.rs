//! A replica as it is read back from what was written of it.
//!
//! Records may be there twice, one behind the other, if a store has done what it then failed to
//! confirm; and of the last batch only some may be there. A copy in the making counts once it is
//! whole, and never before.
//!
//! Must never know: where it is written, who is primary.

use alloc::vec::Vec;
use core::fmt;

use bincode::{Decode, Encode};

use super::log::{Content, Entry, HistoryMax, Log};
use super::roster::Reign;
use super::snapshot::{Cursor, Piece, Staging};

/// About how many bytes one record holds, unless a single entry is longer.
pub(super) const RECORD_BYTES: usize = 1 << 20;

/// What is kept of committed entries: as much as a replica may want to begin with, for those who
/// lack little.
const HISTORY: HistoryMax = HistoryMax { entries: 1 << 14, bytes: 16 << 20 };

/// What is written down.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Record {
    /// Entries behind what there is. From the first on they replace what is there.
    Appended(Vec<Entry>),
    /// Everything up to this index is committed.
    Committed(u64),
    /// Nothing of an earlier reign is taken any more, and once it is sworn off, nothing of this.
    Entered {
        /// Which reign.
        reign: Reign,
        /// Whether it is sworn off, for the sake of a successor.
        sworn_off: bool,
    },
    /// The table was made while nodes ran, by this revision of the list of such tables: once that,
    /// or a later one, does not have it, what is written here is of no use to anybody.
    Made(u64),
    /// A part of a copy that replaces everything once it is whole.
    Piece(Piece),
    /// There is no such table any more: nothing that was written before this counts.
    Void,
    /// Whether an operator wants this node to be a replica, whatever the table was told.
    Wanted(bool),
}

impl Record {
    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Appended(entries) => entries.iter().map(Entry::size).sum(),
            Self::Committed(_)
            | Self::Entered { .. }
            | Self::Made(_)
            | Self::Void
            | Self::Wanted(_) => 0,
            Self::Piece(piece) => piece.size(),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appended(entries) => {
                f.write_str("appended")?;
                entries.iter().try_for_each(|entry| write!(f, " {entry}"))
            }
            Self::Committed(index) => write!(f, "committed {index}"),
            Self::Entered { reign, sworn_off } => {
                write!(f, "{} {reign}", if *sworn_off { "sworn off" } else { "entered" })
            }
            Self::Made(number) => write!(f, "made {number}"),
            Self::Void => f.write_str("void"),
            Self::Wanted(wanted) => f.write_str(if *wanted { "joins" } else { "leaves" }),
            Self::Piece(piece) => {
                let (rows, entries) = (piece.rows.len(), piece.entries.len());
                write!(f, "piece to {} rows {rows} entries {entries}", piece.upto.place)
            }
        }
    }
}

/// Why records are no record of a replica. Nothing of them is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Foreign {
    /// What is committed is not there, or is said to have been replaced.
    Committed,
    /// Entries do not follow what there is.
    Gap,
    /// A part of a copy does not follow the one before.
    Piece,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "an entry that was committed is missing or replaced",
            Self::Gap => "entries are missing in between",
            Self::Piece => "a part of a copy does not follow the one before",
        })
    }
}

/// What was written, so far.
#[derive(Clone, Debug)]
pub struct Journal {
    log: Log,
    reign: Reign,
    sworn_off: bool,
    /// Of a copy in the making: what was written of it, and what that comes to.
    parts: Vec<Piece>,
    staging: Staging,
    /// Whether it will not be finished.
    is_given_up: bool,
    remembered_max: usize,
    made: Option<u64>,
    is_void: bool,
    wanted: Option<bool>,
}

impl Journal {
    /// Of a replica that has written nothing yet and remembers this many requests.
    #[must_use]
    pub const fn new(remembered_max: usize) -> Self {
        let log = Log::new(Content::new(remembered_max), HISTORY);
        let staging = Staging::new(remembered_max);
        Self {
            log,
            reign: Reign::NONE,
            sworn_off: false,
            parts: Vec::new(),
            staging,
            is_given_up: false,
            remembered_max,
            made: None,
            is_void: false,
            wanted: None,
        }
    }

    /// Which revision of the list has made the table, if it was made while nodes ran.
    #[must_use]
    pub const fn made(&self) -> Option<u64> {
        self.made
    }

    /// What an operator has said last of whether this node is to be a replica.
    #[must_use]
    pub const fn wanted(&self) -> Option<bool> {
        self.wanted
    }

    pub(super) const fn reign(&self) -> (Reign, bool) {
        (self.reign, self.sworn_off)
    }

    #[cfg(test)]
    pub(super) const fn log(&self) -> &Log {
        &self.log
    }

    pub(super) fn into_log(self) -> Log {
        self.log
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// If no replica can have written it here.
    pub fn add(&mut self, record: Record) -> Result<(), Foreign> {
        match record {
            Record::Appended(entries) => entries.into_iter().try_for_each(|entry| self.put(entry)),
            Record::Committed(index) => {
                self.log.commit(index);
                let there = self.log.committed().index >= index;
                there.then_some(()).ok_or(Foreign::Committed)
            }
            Record::Entered { reign, sworn_off } => {
                if reign > self.reign {
                    (self.reign, self.sworn_off) = (reign, sworn_off);
                    // It is begun again in each reign. What is written twice finds it here still.
                    self.is_given_up = true;
                } else if reign == self.reign {
                    self.sworn_off |= sworn_off;
                }
                Ok(())
            }
            Record::Made(number) => {
                self.made = Some(number);
                Ok(())
            }
            Record::Piece(piece) => self.stage(piece),
            Record::Void => {
                *self = Self { is_void: true, ..Self::new(self.remembered_max) };
                Ok(())
            }
            Record::Wanted(wanted) => {
                self.wanted = Some(wanted);
                Ok(())
            }
        }
    }

    fn put(&mut self, entry: Entry) -> Result<(), Foreign> {
        let (index, committed) = (entry.place.index, self.log.committed());
        if index <= committed.index {
            // Written again, and committed in between.
            let same = index < committed.index || entry.place == committed;
            return same.then_some(()).ok_or(Foreign::Committed);
        }
        if index > self.log.last().index + 1 {
            return Err(Foreign::Gap);
        }
        self.log.truncate(index - 1);
        if entry.place.reign < self.log.last().reign {
            return Err(Foreign::Gap);
        }
        self.log.append(entry);
        Ok(())
    }

    fn stage(&mut self, piece: Piece) -> Result<(), Foreign> {
        if self.parts.last() == Some(&piece) {
            return Ok(());
        }
        if piece.after.is_none() {
            self.is_given_up = false;
            self.parts.clear();
            self.staging = Staging::new(self.remembered_max);
        }
        let before = self.parts.last().map(|part| &part.upto);
        if before != piece.after.as_ref() {
            // The last part, written again after it had made the copy whole.
            let whole = before.is_none() && piece.upto.place.index <= self.log.committed().index;
            return whole.then_some(()).ok_or(Foreign::Piece);
        }
        if !self.staging.fits(&piece) {
            return Err(Foreign::Piece);
        }
        self.staging.add(&piece);
        if self.staging.whole().is_none() {
            self.parts.push(piece);
            return Ok(());
        }
        self.parts.clear();
        let staging = core::mem::replace(&mut self.staging, Staging::new(self.remembered_max));
        self.log = Log::new(staging.into_content(), HISTORY);
        Ok(())
    }

    /// Records that come to the same, for a store that wants to be rid of the old ones. What there
    /// is of the replica goes with them, little by little.
    pub fn into_records(self) -> impl Iterator<Item = Record> {
        // A beginning that was written elsewhere may have to be ended again.
        let first = self.is_void.then_some(Record::Void).into_iter();
        let first = first.chain(self.made.map(Record::Made));
        let first = first.chain(self.wanted.map(Record::Wanted));
        let is_blank = self.is_void && self.reign == Reign::NONE;
        let Self { mut log, reign, sworn_off, parts, is_given_up, .. } = self;
        let parts = if is_given_up { Vec::new() } else { parts };
        let mut next = log.committed().index;
        let mut cursor: Option<Cursor> = None;
        let mut entered = (!is_blank).then_some(Record::Entered { reign, sworn_off });
        let held = core::iter::from_fn(move || {
            if !cursor.as_ref().is_some_and(Cursor::is_whole)
                && let Some(piece) =
                    log.content().piece(cursor.as_ref(), log.history(), RECORD_BYTES)
            {
                log.let_go(&piece);
                cursor = Some(piece.upto.clone());
                return Some(Record::Piece(piece));
            }
            if entered.is_some() {
                return entered.take();
            }
            let entries = log.after(next, RECORD_BYTES)?;
            next = entries.last()?.place.index;
            Some(Record::Appended(entries))
        });
        first.chain(held).chain(parts.into_iter().map(Record::Piece))
    }
}
