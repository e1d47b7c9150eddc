//! How a whole copy is handed over, a bounded piece at a time, while its owner goes on writing.
//!
//! A [`Cursor`] says of a copy in the making: these rows, as of this index. Each piece brings the
//! entries committed since, and further rows as of the end of those; so rows taken before and rows
//! taken now are of one moment again, and when the last is there the copy is exact. What is asked
//! for depends on the question alone: a piece that is lost is asked for again, and nobody keeps a
//! frozen copy for somebody slow (A-34, A-35, P-I6).
//!
//! Must never know: who asks, what is on disk, when.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Bound;

use bincode::{Decode, Encode};

use super::log::{Content, Entry, Place, Remembered};
use super::roster::Reign;
use crate::base::{Key, Value};

/// How far a copy in the making is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Cursor {
    /// As of when it is.
    pub place: Place,
    /// What there is of it.
    pub mark: Mark,
}

impl Cursor {
    pub(super) fn is_whole(&self) -> bool {
        self.mark == Mark::Whole
    }
}

/// How much of a copy there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Mark {
    /// The rows up to this key.
    Rows(Option<Key>),
    /// All rows, and the requests remembered from up to this index.
    Remembered(u64),
    /// Everything.
    Whole,
}

/// A part of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Piece {
    /// What it continues; nothing, if it is the first.
    pub after: Option<Cursor>,
    /// What was committed since.
    pub entries: Vec<Entry>,
    /// Further rows, in order.
    pub rows: Vec<(Key, Value)>,
    /// Further requests remembered, in order.
    pub remembered: Vec<Remembered>,
    /// Requests committed up to here may be forgotten.
    pub floor: u64,
    /// How far the copy is with it.
    pub upto: Cursor,
}

impl Piece {
    /// Whether the primary of this reign can have made it.
    pub(super) fn is_of(&self, reign: Reign) -> bool {
        let places = self.entries.iter().map(|entry| entry.place);
        places.chain([self.upto.place]).all(|place| place.is_of(reign))
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        let entries = self.entries.iter().map(Entry::size).sum::<usize>();
        let rows = self.rows.iter().map(|(key, value)| key.len() + value.len() + 16);
        entries + rows.sum::<usize>() + self.remembered.len() * 40
    }
}

impl Content {
    /// What follows `after`, about so many bytes of it. `history` has what was committed last;
    /// `None` if it does not reach back to when the copy in the making is of.
    pub(super) fn piece(
        &self,
        after: Option<&Cursor>,
        history: &VecDeque<Entry>,
        bytes_max: usize,
    ) -> Option<Piece> {
        let start = Cursor { place: self.place, mark: Mark::Rows(None) };
        let cursor = after.unwrap_or(&start);
        let mut bytes = 0;
        let mut entries: Vec<Entry> = Vec::new();
        let lacking = self.place.index.checked_sub(cursor.place.index)?;
        let first = history.len().checked_sub(usize::try_from(lacking).ok()?)?;
        if lacking == 0 && cursor.place != self.place {
            return None;
        }
        let mut piece = Piece {
            after: after.cloned(),
            entries: Vec::new(),
            rows: Vec::new(),
            remembered: Vec::new(),
            floor: self.memory.floor(),
            upto: cursor.clone(),
        };
        for entry in history.range(first..) {
            bytes += entry.size();
            if bytes > bytes_max && !entries.is_empty() {
                piece.upto.place = entries[entries.len() - 1].place;
                piece.entries = entries;
                return Some(piece);
            }
            entries.push(entry.clone());
        }
        piece.entries = entries;
        piece.upto.place = self.place;
        self.fill(&mut piece, bytes_max.saturating_sub(bytes));
        Some(piece)
    }

    /// Rows first: once they are all there, entries tell exactly what became of requests.
    fn fill(&self, piece: &mut Piece, bytes_max: usize) {
        let mut bytes = 0;
        if let Mark::Rows(upto) = &piece.upto.mark {
            let from = upto.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut rest = self.rows.range::<Key, _>((from, Bound::Unbounded)).peekable();
            while let Some((key, value)) = rest.peek() {
                bytes += key.len() + value.len() + 16;
                if bytes > bytes_max && !(piece.rows.is_empty() && piece.entries.is_empty()) {
                    break;
                }
                piece.rows.push(((*key).clone(), (*value).clone()));
                rest.next();
            }
            let upto = piece.rows.last().map(|(key, _)| key).or(upto.as_ref()).cloned();
            let whole = rest.peek().is_none();
            piece.upto.mark = if whole { Mark::Remembered(0) } else { Mark::Rows(upto) };
        }
        if let Mark::Remembered(upto) = &mut piece.upto.mark {
            for remembered in self.memory.after(*upto) {
                bytes += 40;
                let none = piece.rows.is_empty() && piece.entries.is_empty();
                if bytes > bytes_max && !(piece.remembered.is_empty() && none) {
                    return;
                }
                *upto = remembered.place.index;
                piece.remembered.push(*remembered);
            }
            piece.upto.mark = Mark::Whole;
        }
    }
}

/// A copy in the making. It counts for nothing until it is whole.
#[derive(Clone, Debug)]
pub(super) struct Staging {
    content: Content,
    cursor: Option<Cursor>,
}

impl Staging {
    pub(super) const fn new(remembered_max: usize) -> Self {
        Self { content: Content::new(remembered_max), cursor: None }
    }

    /// How far it is.
    pub(super) const fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Whether the piece continues it.
    pub(super) fn fits(&self, piece: &Piece) -> bool {
        let begin = piece.after.as_ref().unwrap_or(&piece.upto).place.index;
        let mut last = Some(begin);
        let mut counted = |entry: &Entry| {
            let next = last.and_then(|last| last.checked_add(1));
            last = next;
            next == Some(entry.place.index)
        };
        piece.after == self.cursor
            && !self.cursor.as_ref().is_some_and(Cursor::is_whole)
            && piece.entries.iter().all(&mut counted)
            && last == Some(piece.upto.place.index)
    }

    /// Takes the next piece.
    pub(super) fn add(&mut self, piece: &Piece) {
        assert!(self.fits(piece), "pieces follow each other");
        let content = &mut self.content;
        match &self.cursor {
            None => content.place = piece.upto.place,
            Some(Cursor { mark: Mark::Rows(_), .. }) => {
                piece.entries.iter().for_each(|entry| {
                    content.change(&entry.what);
                });
                content.place = piece.upto.place;
            }
            Some(_) => piece.entries.iter().for_each(|entry| {
                content.apply(entry);
            }),
        }
        content.rows.extend(piece.rows.iter().cloned());
        piece.remembered.iter().for_each(|remembered| content.memory.add(*remembered));
        content.memory.raise_floor(piece.floor);
        self.cursor = Some(piece.upto.clone());
    }

    /// The copy, once it is whole.
    pub(super) fn whole(&self) -> Option<&Content> {
        self.cursor.as_ref().is_some_and(Cursor::is_whole).then_some(&self.content)
    }

    pub(super) fn into_content(self) -> Content {
        self.content
    }
}
