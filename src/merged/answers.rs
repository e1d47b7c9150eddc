//! What one copy answers.
//!
//! Must never know: peers, messages, time.

use alloc::vec::Vec;
use core::ops::Bound;

use super::command::{Answer, Entry, Guard, Pattern, Shown};
use super::table::{Change, Row, Table};
use super::version::{Dot, Version};
use crate::base::Key;

/// How many rows are looked at for one page: one that nothing fits ends early, and goes on with the
/// next question.
const ROWS_MAX: usize = 10_000;

/// A page ends when its entries come to this many bytes.
const PAGE_BYTES: usize = 1 << 20;

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
    pub fn found(&self, key: &Key, limit: usize) -> Answer {
        let pattern = Pattern {
            key: super::command::Match::Exactly(key.as_bytes().to_vec()),
            ..Pattern::default()
        };
        self.page(&pattern, None, limit)
    }

    /// The rows behind `after` that show something that fits.
    #[must_use]
    pub fn page(&self, pattern: &Pattern, after: Option<&Row>, limit: usize) -> Answer {
        let start = Row { key: Key::from(pattern.key.start()), element: None };
        let start = match after {
            Some(after) if *after >= start => Bound::Excluded(after),
            _ => Bound::Included(&start),
        };
        let rows = self.rows_from(start);
        // Keys that fit stand together: nothing behind the first that does not need be looked at.
        let rows = rows.take_while(|row| pattern.key.fits(row.key.as_bytes()));
        self.listed(rows, limit, |shown| {
            let mut values = shown.iter().filter_map(|version| version.value());
            values.any(|value| pattern.value.fits(value.as_bytes()))
        })
    }

    /// The rows behind `after` that are in conflict.
    #[must_use]
    pub fn conflicts_page(&self, after: Option<&Row>, limit: usize) -> Answer {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.conflicts().range::<Row, _>((start, Bound::Unbounded));
        self.listed(rows, limit, |_| true)
    }

    fn listed<'a>(
        &self,
        rows: impl Iterator<Item = &'a Row>,
        limit: usize,
        fits: impl Fn(&[&Version]) -> bool,
    ) -> Answer {
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
        Answer::Found { entries, more: None }
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
