//! A copy as it is read back from what was written of it.
//!
//! A change that is longer than a record is written in parts, which count once all are there: what
//! a crash leaves of one is as if it had never been begun, whatever is written behind it.
//!
//! Must never know: where it is written.

use alloc::vec::Vec;

use super::schema::Agreement;
use super::table::{Change, Table};
use super::version::Actor;
use crate::base::Incarnation;

/// About how many bytes one record of a change holds, unless a single version is longer.
const PART_BYTES: usize = 1 << 20;

/// How many dots one record holds at most.
const PART_DOTS: usize = 1 << 15;

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
        table.apply(&Change { settled: alone, ..Change::default() });
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
            whole.forgotten.extend(part.forgotten);
        }
        self.table.apply(&whole);
    }

    /// Records that come to the same: who wrote each, what, and whether it is a last part.
    ///
    /// Nothing is ever done to the whole copy at once, neither here nor where they are read back:
    /// each is a change by itself. What was forgotten is said first, while there is nothing yet to
    /// look through for it, and what was seen last, since what was seen before would not be taken.
    pub fn into_records(self) -> impl Iterator<Item = (Incarnation, Change, bool)> {
        let Self { table, parts, by, begun } = self;
        let becomes = table.is_changed() || *table.agreement() != begun.0;
        let first = Change {
            stable: table.stable().clone(),
            settled: table.is_settled(),
            becomes: becomes.then(|| table.agreement().clone()),
            anew: Some(table.actor()).filter(|actor| *actor != begun.1),
            circle: Some(table.circle().clone()).filter(|circle| !circle.is_first()),
            ..Change::default()
        };
        let last = Change { seen: table.seen().clone(), ..Change::default() };
        let mut versions = table.into_versions().peekable();
        let held = core::iter::from_fn(move || {
            let mut part = Change::default();
            let mut bytes = 0;
            while let Some(entry) = versions.next_if(|entry| {
                bytes += super::exchange::size(entry);
                bytes <= PART_BYTES || part.versions.is_empty()
            }) {
                part.versions.push(entry);
            }
            (!part.versions.is_empty()).then_some(part)
        });
        let whole = core::iter::once(first).chain(held).chain([last]);
        let rest = parts.into_iter().map(move |part| (by, part, false));
        whole.map(move |change| (by, change, true)).chain(rest)
    }
}

impl Change {
    /// The change in parts of bounded length, and whether each is the last.
    pub fn split(self) -> impl Iterator<Item = (Self, bool)> {
        let Self { versions, forgotten, seen, stable, settled, becomes, anew, circle } = self;
        let mut parts = alloc::vec![Self::default()];
        let mut bytes = 0;
        for entry in versions {
            bytes += super::exchange::size(&entry);
            let part = parts.last_mut().expect("one at least");
            if bytes > PART_BYTES && !part.versions.is_empty() {
                bytes = super::exchange::size(&entry);
                parts.push(Self { versions: alloc::vec![entry], ..Self::default() });
            } else {
                part.versions.push(entry);
            }
        }
        for dots in forgotten.chunks(PART_DOTS) {
            if parts.last().is_some_and(|part| !part.versions.is_empty()) {
                parts.push(Self::default());
            }
            let part = parts.last_mut().expect("one at least");
            if part.forgotten.is_empty() {
                part.forgotten = dots.to_vec();
            } else {
                parts.push(Self { forgotten: dots.to_vec(), ..Self::default() });
            }
        }
        let last = parts.last_mut().expect("one at least");
        (last.seen, last.stable, last.settled) = (seen, stable, settled);
        (last.becomes, last.anew, last.circle) = (becomes, anew, circle);
        let count = parts.len();
        parts.into_iter().enumerate().map(move |(place, part)| (part, place + 1 == count))
    }
}
