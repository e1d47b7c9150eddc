//! What one copy answers.
//!
//! Must never know: peers, messages, time.

use alloc::vec::Vec;
use core::ops::Bound;

use super::command::{Answer, Entry, Guard, Match, Pattern, Shown};
use super::table::{Applied, Change, Mutation, Row, Table};
use super::version::{Dot, Version};
use crate::base::Key;

/// How many rows are looked at for one page: one that nothing fits ends early, and goes on with the
/// next question.
pub(super) const ROWS_MAX: usize = 10_000;

/// A page ends when its entries come to this many bytes.
const PAGE_BYTES: usize = 1 << 20;

impl Answer {
    /// The same, as far as there is room for so many bytes. Of a write what it replaced is left
    /// out behind that, of a read it can be asked for: nothing if the first row is too long.
    pub(crate) fn within(self, most: usize) -> Option<Self> {
        let fitting = |entries: &[Entry]| {
            let mut bytes = 0;
            let fits = entries.iter().take_while(|entry| {
                bytes += entry.size();
                bytes <= most
            });
            fits.count()
        };
        match self {
            Self::Found { mut entries, more } => {
                let fits = fitting(&entries);
                if fits == entries.len() {
                    return Some(Self::Found { entries, more });
                }
                entries.truncate(fits);
                let more = entries.last()?.row.clone();
                Some(Self::Found { entries, more: Some(more) })
            }
            Self::Written { mut previous, complete } => {
                let fits = fitting(&previous);
                if fits == previous.len() {
                    return Some(Self::Written { previous, complete });
                }
                previous.truncate(fits.max(1));
                // That there was something is told in any case.
                let first = previous.first_mut().filter(|_| fits == 0);
                first.into_iter().for_each(|entry| entry.values.truncate(1));
                Some(Self::Written { previous, complete: false })
            }
            Self::Changed | Self::Info(_) => Some(self),
        }
    }
}

impl Table {
    fn entry(&self, row: &Row, shown: &[&Version]) -> Entry {
        let values = shown.iter().filter_map(|version| {
            let value = version.value()?.clone();
            Some(Shown { value, dot: version.dot, modified: version.stamp })
        });
        let dots = self.row(row).iter().map(|version| version.dot).collect();
        Entry { row: row.clone(), values: values.collect(), dots }
    }

    /// The rows that a key shows.
    #[must_use]
    pub fn found(&mut self, key: &Key, limit: usize, applied: &mut Applied) -> Answer {
        let key = Match::Exactly(key.as_bytes().to_vec());
        let pattern = Pattern { key, ..Pattern::default() };
        self.page(&pattern, None, limit, ROWS_MAX, applied)
    }

    /// The rows behind `after` that show something that fits. So many are put in first at most, if
    /// any have to be; then the page ends with them.
    #[must_use]
    pub fn page(
        &mut self,
        pattern: &Pattern,
        after: Option<&Row>,
        limit: usize,
        most: usize,
        applied: &mut Applied,
    ) -> Answer {
        let start = Row { key: Key::from(pattern.key.start()), element: None };
        let start = match after {
            Some(after) if *after >= start => Bound::Excluded(after),
            _ => Bound::Included(&start),
        };
        // Keys that fit stand together: nothing behind the first that does not need be looked at.
        let among = |row: &Row| pattern.key.fits(row.key.as_bytes());
        let until = self.put_in_rows(start, among, most, applied);
        let rows = self.rows_from(start).take_while(|row| among(row));
        self.listed(rows, until, limit, |shown| {
            let mut values = shown.iter().filter_map(|version| version.value());
            values.any(|value| pattern.value.fits(value.as_bytes()))
        })
    }

    /// The rows behind `after` that are in conflict. As for a page, so many are put in at most.
    #[must_use]
    pub fn conflicts_page(
        &mut self,
        after: Option<&Row>,
        limit: usize,
        most: usize,
        applied: &mut Applied,
    ) -> Answer {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let until = self.put_in_rows(start, |_| true, most, applied);
        let rows = self.conflicts().range::<Row, _>((start, Bound::Unbounded));
        self.listed(rows, until, limit, |_| true)
    }

    /// Puts in the rows that a write is about.
    pub(super) fn put_in_written(
        &mut self,
        mutations: &[Mutation],
        guards: &[Guard],
        applied: &mut Applied,
    ) {
        if !self.is_putting_in() {
            return;
        }
        let mut whole: Vec<&Key> = guards.iter().map(|guard| &guard.key).collect();
        for mutation in mutations {
            match mutation {
                Mutation::Put(key, value) | Mutation::RemoveValue(key, value) => {
                    if let Some(row) = Row::of(&self.agreement().kind, key, value) {
                        self.put_in_row(&row, applied);
                    }
                }
                Mutation::Remove(key) => whole.push(key),
            }
        }
        for key in whole {
            let first = Row { key: key.clone(), element: None };
            let of_key = |row: &Row| row.key == *key;
            self.put_in_rows(Bound::Included(&first), of_key, usize::MAX, applied);
        }
    }

    /// The rows that fit, up to a limit, or to the row `until`.
    fn listed<'a>(
        &self,
        rows: impl Iterator<Item = &'a Row>,
        until: Option<Row>,
        limit: usize,
        fits: impl Fn(&[&Version]) -> bool,
    ) -> Answer {
        let rows = rows.take_while(|row| until.as_ref().is_none_or(|until| *row <= until));
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut rows = rows.peekable();
        let mut looked = 0;
        while let Some(row) = rows.next() {
            looked += 1;
            let shown = self.shown(row);
            if !shown.is_empty() && fits(&shown) {
                let entry = self.entry(row, &shown);
                bytes += entry.size();
                entries.push(entry);
            }
            let full = entries.len() >= limit.max(1) || bytes >= PAGE_BYTES || looked >= ROWS_MAX;
            if full && rows.peek().is_some() {
                return Answer::Found { entries, more: Some(row.clone()) };
            }
        }
        drop(rows);
        Answer::Found { entries, more: until }
    }

    /// Whether every key shows what it should.
    #[must_use]
    pub fn holds(&self, guards: &[Guard]) -> bool {
        guards.iter().all(|guard| {
            let shown = self.get(&guard.key).flat_map(|(_, shown)| shown);
            let mut shows: Vec<Dot> = shown.map(|version| version.dot).collect();
            let mut wanted = guard.shows.clone();
            shows.sort_unstable();
            wanted.sort_unstable();
            shows == wanted
        })
    }

    /// What the rows that a change is going to write show now.
    #[must_use]
    pub fn before(&self, change: &Change) -> Vec<Entry> {
        let rows = change.versions.iter().map(|(row, _)| (row, self.shown(row)));
        rows.filter(|(_, shown)| !shown.is_empty())
            .map(|(row, shown)| self.entry(row, &shown))
            .collect()
    }
}
