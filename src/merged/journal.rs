//! A copy as it is read back from what was written of it.
//!
//! A change that is longer than a record is written in parts, which count once all are there: what
//! a crash leaves of one is as if it had never been begun, whatever is written behind it. What a
//! peer sends of a difference is written as it comes, and counts with the stroke behind it
//! (`staging.rs`).
//!
//! Must never know: where it is written.

use alloc::vec::Vec;
use core::iter::Peekable;

use super::schema::Agreement;
use super::table::{Change, Row, Table};
use super::version::{Actor, Version};
use crate::base::Incarnation;

/// About how many bytes one record of a change holds, unless a single version is longer.
const PART_BYTES: usize = 1 << 20;

/// How many rows are put in, of a stroke that was read, with each record behind it.
const ROWS: usize = 1 << 12;

/// A copy, and the parts of a change that is not there in whole.
#[derive(Clone, Debug)]
pub struct Journal {
    table: Table,
    parts: Vec<Change>,
    /// The process life that wrote them.
    by: Incarnation,
    /// As what the copy was begun, and as whom.
    begun: (Agreement, Actor),
}

impl Journal {
    /// Of an empty copy.
    #[must_use]
    pub fn new(agreement: Agreement, actor: Actor) -> Self {
        let begun = (agreement.clone(), actor);
        let table = Table::new(agreement, actor, false);
        Self { table, parts: Vec::new(), by: Incarnation(0), begun }
    }

    /// What is written in whole.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// The copy that goes on from it, as what it is.
    #[must_use]
    pub fn into_table(self, agreement: Agreement, alone: bool) -> Table {
        let mut table = self.table;
        table.configure(agreement);
        table.begin(&Change { settled: alone, ..Change::default() });
        table
    }

    /// Takes the next record: a change, or a part of one if it is not the last.
    pub fn add(&mut self, by: Incarnation, change: Change, last: bool) {
        if by != self.by {
            // The process that wrote them has ended in between.
            self.parts.clear();
            self.by = by;
        }
        if !last {
            return self.parts.push(change);
        }
        let mut whole = change;
        for part in core::mem::take(&mut self.parts) {
            whole.versions.extend(part.versions);
        }
        self.table.begin(&whole);
        self.table.work(ROWS);
    }

    /// Records that come to the same: who wrote each, what, and whether it is a last part.
    ///
    /// Nothing is done to the whole copy at once, neither here nor where they are read back, but
    /// for what is left of a stroke that is among the last things written: each is a change by
    /// itself. What was forgotten is said first, while there is nothing yet to look through for it,
    /// and what was seen last, since what was seen before would not be taken.
    pub fn into_records(self) -> impl Iterator<Item = (Incarnation, Change, bool)> {
        let Self { mut table, parts, by, begun } = self;
        table.work_strokes();
        let becomes = table.is_changed() || *table.agreement() != begun.0;
        let first = Change {
            stable: table.forgotten.clone(),
            settled: table.is_settled(),
            becomes: becomes.then(|| table.agreement().clone()),
            anew: Some(table.actor()).filter(|actor| *actor != begun.1),
            circle: Some(table.circle().clone()).filter(|circle| !circle.is_first()),
            ..Change::default()
        };
        let (seen, stable) = (table.seen().clone(), table.stable().clone());
        let last = Change { seen, stable, ..Change::default() };
        let aside = table.take_aside(PART_BYTES);
        let mut versions = table.into_versions().peekable();
        let held = core::iter::from_fn(move || {
            let versions = part(&mut versions, PART_BYTES)?;
            Some(Change { versions, ..Change::default() })
        });
        let whole = core::iter::once(first).chain(held).chain([last]).chain(aside);
        let rest = parts.into_iter().map(move |part| (by, part, false));
        whole.map(move |change| (by, change, true)).chain(rest)
    }
}

/// The next versions that take about so many bytes together; nothing if there are none.
pub(super) fn part<I: Iterator<Item = (Row, Version)>>(
    versions: &mut Peekable<I>,
    most: usize,
) -> Option<Vec<(Row, Version)>> {
    let mut part = Vec::new();
    let mut bytes = 0;
    while let Some(entry) = versions.next_if(|entry| {
        bytes += super::exchange::size(entry);
        bytes <= most || part.is_empty()
    }) {
        part.push(entry);
    }
    (!part.is_empty()).then_some(part)
}

impl Change {
    /// The change in parts of bounded length, and whether each is the last.
    pub fn split(self) -> impl Iterator<Item = (Self, bool)> {
        let Self { versions, role, seen, stable, settled, becomes, anew, circle } = self;
        let mut versions = versions.into_iter().peekable();
        let mut parts = Vec::new();
        while let Some(versions) = part(&mut versions, PART_BYTES) {
            parts.push(Self { versions, ..Self::default() });
        }
        let versions = parts.pop().map(|last| last.versions).unwrap_or_default();
        parts.push(Self { versions, role, seen, stable, settled, becomes, anew, circle });
        let count = parts.len();
        parts.into_iter().enumerate().map(move |(place, part)| (part, place + 1 == count))
    }
}
