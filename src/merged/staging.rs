//! What a peer sent of a difference: set aside until all of it is there, and then put in little by
//! little, though it counts from one moment on.
//!
//! **Aside.** Each chunk is written down as it comes ([`Role::Aside`]), with the question that it
//! answers and how far the answer is ([`Progress`]). It counts for nothing yet. What a peer answers
//! depends on the question alone, so the question is taken up where it was after a link has been
//! lost for however long, and also in another life of the process. Only with the same copy: what
//! another one holds may lack what replaces something of what is here.
//!
//! **The stroke.** Once all is there one short record ([`Role::Stroke`]) says that it counts. On
//! disk there is nothing between before and after: who recovers has either what is aside, or a
//! stroke with all of it. So nothing that follows has to be written down. From then on the copy
//! *is* the merged one: what it says that it has seen, it has, and both rules of [`Table`] hold for
//! what it holds together with what is yet to be put in.
//!
//! **Putting in.** What a row comes to is a matter of its own versions, of what was seen before
//! the stroke, and of what the peer had seen; none of these changes afterwards. So rows are put in
//! one by one in any order, and it comes to the same as all at once, if nobody looks at a row
//! before it is put in. That is the one rule here: **whatever reads or changes a row puts it in
//! first.** A client's question, a write, a push and a peer's question put in the rows that they
//! touch; the rest follow in their order, a bounded number at a time. What is listed by something
//! else than rows is listed up to a place before which all rows are in.
//!
//! One stroke is put in at a time; the next waits. What is aside and what is yet to be put in takes
//! about the memory that it will take in the copy, which holds what the peer holds then.
//!
//! **Forgetting** is done little by little likewise. What is stable is so at once; what lost among
//! it is dropped when its turn comes, which nobody can tell from a copy that learnt later that it
//! is stable: nobody but who is sent everything in parts, and takes parts that agree about what is
//! stable for parts of one state. A value would come in one part, and what it lost to be gone
//! before its part is sent. So a row is forgotten before it is sent, too.
//!
//! Must never know: peers, messages, time.

use alloc::boxed::Box;
use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use bincode::{Decode, Encode};

use super::circle::Circle;
use super::table::{Applied, Change, Row, Table};
use super::version::{Actor, Dot, Version, VersionVector, is_outdated};

/// How a change is to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Role {
    /// As it is.
    #[default]
    Step,
    /// Its versions are set aside, and count for nothing yet. With what the answer that they are
    /// part of has come to.
    Aside(Box<Progress>),
    /// All that was set aside counts, together with what this says of dots.
    Stroke {
        /// Of which question.
        session: u64,
        /// How many versions were set aside for it.
        count: u64,
        /// Whether it is all that the peer holds: what is held here, and among the dots that are
        /// seen with this, and not among the versions, is over.
        full: bool,
    },
}

/// A question for what a peer has, and how much of the answer is here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Progress {
    /// Told apart from other questions by this.
    pub session: u64,
    /// Which copy was asked.
    pub peer: Actor,
    /// Whether it was asked for everything.
    pub full: bool,
    /// As whom the asker takes what it is sent.
    pub by: Actor,
    /// With whom the peer went on when it sent the first chunk.
    pub circle: Option<Circle>,
    /// What the asker had seen.
    pub have: VersionVector,
    /// What it need not be sent any more.
    pub got: VersionVector,
    /// What the peer had forgotten when it sent the first chunk.
    pub stable: Option<VersionVector>,
}

/// Versions by their rows and by their dots.
#[derive(Clone, Debug, Default)]
struct Staging {
    rows: BTreeMap<Row, Vec<Version>>,
    dots: BTreeMap<Dot, Row>,
    /// Of those, which are other writings of what was written before.
    again: BTreeSet<Dot>,
}

/// What does not count yet.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    progress: Progress,
    staging: Staging,
}

/// What counts, and of which some rows are not put in.
#[derive(Clone, Debug)]
pub(super) struct Stroke {
    staging: Staging,
    /// What was seen before it counted, and after.
    before: VersionVector,
    after: VersionVector,
    /// If it is all that the peer holds.
    sweep: Option<Sweep>,
}

/// A stroke that concerns every row.
#[derive(Clone, Debug)]
struct Sweep {
    /// What the peer had seen.
    theirs: VersionVector,
    /// Rows up to here are in.
    upto: Option<Row>,
    /// Rows behind it that are.
    early: BTreeSet<Row>,
}

impl Staging {
    /// One write is of one row: of two that a peer sends by one name the first is taken.
    fn add(&mut self, row: &Row, version: &Version) {
        if let Entry::Vacant(place) = self.dots.entry(version.dot) {
            place.insert(row.clone());
            if version.first.is_some() {
                self.again.insert(version.dot);
            }
            self.rows.entry(row.clone()).or_default().push(version.clone());
        }
    }

    fn take(&mut self, row: &Row) -> Option<Vec<Version>> {
        let versions = self.rows.remove(row)?;
        for version in &versions {
            self.dots.remove(&version.dot);
            self.again.remove(&version.dot);
        }
        Some(versions)
    }

    fn first_after(&self, after: Option<&Row>) -> Option<&Row> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range::<Row, _>((start, Bound::Unbounded)).next().map(|(row, _)| row)
    }
}

impl Sweep {
    fn is_in(&self, row: &Row) -> bool {
        self.upto.as_ref().is_some_and(|upto| row <= upto) || self.early.contains(row)
    }
}

impl Stroke {
    /// What is to be put in of a row; nothing if it is in.
    fn take(&mut self, row: &Row) -> Option<Vec<Version>> {
        let Some(sweep) = &mut self.sweep else { return self.staging.take(row) };
        if sweep.is_in(row) {
            return None;
        }
        sweep.early.insert(row.clone());
        Some(self.staging.take(row).unwrap_or_default())
    }
}

impl Table {
    /// The question that is being answered, and how far.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.aside.as_ref().map(|aside| &aside.progress)
    }

    /// How many versions are set aside.
    #[must_use]
    pub fn aside(&self) -> usize {
        self.aside.as_ref().map_or(0, |aside| aside.staging.dots.len())
    }

    /// Whether there are rows yet to be put in.
    #[must_use]
    pub const fn is_putting_in(&self) -> bool {
        self.stroke.is_some()
    }

    /// Whether there is anything that [`Table::work`] would do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.is_putting_in() || !self.forgotten.covers(self.stable())
    }

    /// The same copy with everything put in, and everything forgotten that may be.
    #[must_use]
    pub fn put_in(&self) -> Self {
        let mut whole = self.clone();
        whole.work(usize::MAX);
        whole
    }

    /// Sets versions aside; what was so for another question is dropped.
    pub(super) fn set_aside(&mut self, progress: &Progress, versions: &[(Row, Version)]) {
        let same = |aside: &Aside| aside.progress.session == progress.session;
        let staging = self.aside.take().filter(same).map(|aside| aside.staging);
        let mut staging = staging.unwrap_or_default();
        versions.iter().for_each(|(row, version)| staging.add(row, version));
        self.aside = Some(Aside { progress: progress.clone(), staging });
    }

    /// Drops what is aside: the question is not gone on with.
    pub(super) fn drop_aside(&mut self) {
        self.aside = None;
    }

    /// What is aside for a question, taken out.
    pub(super) fn take_staged(&mut self, session: u64) -> Vec<(Row, Version)> {
        let of_it = |aside: &Aside| aside.progress.session == session;
        let rows = self.aside.take().filter(of_it).into_iter().flat_map(|it| it.staging.rows);
        rows.flat_map(|(row, all)| all.into_iter().map(move |it| (row.clone(), it))).collect()
    }

    /// What is aside that is another writing of what is over here, and says nothing of that.
    pub(super) fn over_aside(&self) -> impl Iterator<Item = (&Row, &Version)> {
        let staging = self.aside.iter().map(|aside| &aside.staging);
        let again = staging.flat_map(|staging| {
            staging.again.iter().filter_map(|dot| {
                let row = staging.dots.get(dot)?;
                Some((row, staging.rows.get(row)?.iter().find(|version| version.dot == *dot)?))
            })
        });
        again.filter(|(row, version)| {
            version.value().is_some()
                && !self.seen().contains(&version.dot)
                && self.is_over(row, version)
                && !is_outdated(version, self.row(row))
        })
    }

    /// Whether a version held here is another writing of what is over in a copy of which all is
    /// aside, and which has seen so much.
    pub(super) fn is_over_there(&self, row: &Row, version: &Version, seen: &VersionVector) -> bool {
        let aside = self.aside.as_ref().and_then(|aside| aside.staging.rows.get(row));
        let aside = aside.map_or(&[][..], |versions| versions);
        let is_of_it = |it: &&Version| it.write() == version.write();
        version.first.is_some()
            && version.value().is_some()
            && seen.contains(&version.write())
            && aside.iter().filter(is_of_it).all(|it| is_outdated(it, aside))
            && !is_outdated(version, aside)
            && !is_outdated(version, self.row(row))
    }

    /// Has what is aside count, as a change says.
    ///
    /// # Panics
    /// If not all of it is there.
    pub(super) fn strike(&mut self, session: u64, count: u64, full: bool, seen: &VersionVector) {
        let of_it = |aside: &Aside| aside.progress.session == session;
        let staging =
            self.aside.take().filter(of_it).map_or_else(Staging::default, |it| it.staging);
        assert_eq!(staging.dots.len() as u64, count, "a stroke without all that belongs to it");
        let before = self.seen().clone();
        let mut after = before.clone();
        after.join(seen);
        let sweep =
            full.then(|| Sweep { theirs: seen.clone(), upto: None, early: BTreeSet::new() });
        if full || !staging.rows.is_empty() {
            self.stroke = Some(Stroke { staging, before, after, sweep });
        }
    }

    /// Puts in what is still to be put in of a row.
    pub(super) fn put_in_row(&mut self, row: &Row, applied: &mut Applied) {
        let Some(mut stroke) = self.stroke.take() else { return };
        if let Some(mut versions) = stroke.take(row) {
            let count = versions.len();
            let after = &stroke.after;
            versions.retain(|it| it.is_among(after));
            applied.skipped += (count - versions.len()) as u64;
            let before = self.row(row).to_vec();
            for version in &versions {
                if !stroke.before.contains(&version.dot) {
                    self.join_row(row, version);
                }
            }
            if let Some(sweep) = &stroke.sweep {
                let sent = |dot: &Dot| versions.iter().any(|version| version.dot == *dot);
                self.drop_versions(row, |it| !sweep.theirs.contains(&it.dot) || sent(&it.dot));
            }
            self.compare_row(row, &before, applied);
        }
        if stroke.sweep.is_some() || !stroke.staging.rows.is_empty() {
            self.stroke = Some(stroke);
        }
    }

    /// The next row behind `after` that may still have to be put in.
    fn next_due(&self, after: Option<&Row>) -> Option<&Row> {
        let stroke = self.stroke.as_ref()?;
        let staged = stroke.staging.first_after(after);
        let Some(sweep) = &stroke.sweep else { return staged };
        let start = after.max(sweep.upto.as_ref()).map_or(Bound::Unbounded, Bound::Excluded);
        let mut held = self.rows_from(start).filter(|row| !sweep.early.contains(row));
        match (staged, held.next()) {
            (Some(staged), Some(held)) => Some(staged.min(held)),
            (staged, held) => staged.or(held),
        }
    }

    /// Puts in rows from a place on, for as long as they fit, and so many at most. If there are
    /// more, says which row was the last.
    pub(super) fn put_in_rows(
        &mut self,
        first: Bound<&Row>,
        fits: impl Fn(&Row) -> bool,
        most: usize,
        applied: &mut Applied,
    ) -> Option<Row> {
        if let Bound::Included(row) = first
            && self.is_putting_in()
            && fits(row)
        {
            self.put_in_row(row, applied);
        }
        let mut last = match first {
            Bound::Excluded(row) | Bound::Included(row) => Some(row.clone()),
            Bound::Unbounded => None,
        };
        for count in 0.. {
            let next = self.next_due(last.as_ref()).filter(|row| fits(row)).cloned();
            let Some(row) = next else { break };
            if count >= most.max(1) {
                return last;
            }
            self.put_in_row(&row, applied);
            last = Some(row);
        }
        None
    }

    /// Puts in the rows of the versions that `known` does not hold, in the order of their dots, and
    /// forgets of them what may be forgotten, of so many bytes and so many rows. If there are more,
    /// says which dot was the last.
    pub(super) fn put_in_unknown_to(
        &mut self,
        known: &VersionVector,
        (bytes, rows): (usize, usize),
        applied: &mut Applied,
    ) -> Option<Dot> {
        if !self.has_work() {
            return None;
        }
        let none = Staging::default();
        let staging = self.stroke.as_ref().map_or(&none, |stroke| &stroke.staging);
        let (mut due, mut size, mut last) = (Vec::new(), 0, None);
        'all: for (actor, end) in self.seen().iter() {
            let first = Dot { actor, number: known.last(&actor).saturating_add(1) };
            let range = first..=Dot { actor, number: end };
            if range.is_empty() {
                continue;
            }
            let mut held = self.index.range(range.clone()).peekable();
            let mut staged = staging.dots.range(range).peekable();
            loop {
                let is_held = match (held.peek(), staged.peek()) {
                    (Some((held, _)), Some((staged, _))) => held <= staged,
                    (held, _) => held.is_some(),
                };
                let next = if is_held { held.next() } else { staged.next() };
                let Some((dot, row)) = next else { break };
                let found = if is_held { self.row(row) } else { &staging.rows[row][..] };
                let version = found.iter().find(|version| version.dot == *dot);
                size += row.key.len() + version.and_then(Version::value).map_or(0, |it| it.len());
                due.push(row.clone());
                last = Some(*dot);
                if size > bytes || due.len() >= rows.max(1) {
                    break 'all;
                }
            }
            // All there is of this one.
            last = None;
        }
        for row in &due {
            self.put_in_row(row, applied);
            self.forget_row(row);
        }
        last
    }

    /// Puts in so many rows at most, and then forgets in so many rows what may be forgotten. Says
    /// what that did.
    pub fn work(&mut self, mut rows: usize) -> Applied {
        let mut applied = Applied::default();
        while rows > 0 && self.is_putting_in() {
            let next = self.next_due(None).cloned();
            let Some(row) = next else {
                self.stroke = None;
                break;
            };
            self.put_in_row(&row, &mut applied);
            if let Some(sweep) = self.stroke.as_mut().and_then(|stroke| stroke.sweep.as_mut()) {
                // What was put in early and lies before this row need not be remembered.
                sweep.early = sweep.early.split_off(&row);
                sweep.early.remove(&row);
                sweep.upto = Some(row);
            }
            rows -= 1;
        }
        while rows > 0 && !self.is_putting_in() && self.forget_next() {
            rows -= 1;
        }
        applied
    }

    /// Puts in all that is to be put in.
    pub(super) fn work_strokes(&mut self) -> Applied {
        let mut applied = Applied::default();
        while self.is_putting_in() {
            applied.add(self.work(1 << 10));
        }
        applied
    }

    /// Forgets what may be forgotten of one more row; says whether there was one.
    fn forget_next(&mut self) -> bool {
        let stable = self.stable();
        let behind = stable.iter().find(|(actor, last)| self.forgotten.last(actor) < *last);
        let Some((actor, number)) = behind else { return false };
        let first = Dot { actor, number: self.forgotten.last(&actor) + 1 };
        let last = Dot { actor, number };
        let found = self.index.range(first..=last).next().map(|(dot, row)| (*dot, row.clone()));
        let Some((dot, row)) = found else {
            self.forgotten.insert(last);
            return true;
        };
        self.forgotten.insert(dot);
        self.forget_row(&row);
        true
    }

    /// What is aside, taken out, as changes that set it aside again.
    pub(super) fn take_aside(&mut self, bytes: usize) -> impl Iterator<Item = Change> + use<> {
        let aside = self.aside.take();
        aside.into_iter().flat_map(move |Aside { progress, staging }| {
            let rows = staging.rows.into_iter();
            let mut versions = rows
                .flat_map(|(row, all)| all.into_iter().map(move |it| (row.clone(), it)))
                .peekable();
            core::iter::from_fn(move || {
                let versions = super::journal::part(&mut versions, bytes)?;
                let role = Role::Aside(Box::new(progress.clone()));
                Some(Change { versions, role, ..Change::default() })
            })
        })
    }
}
