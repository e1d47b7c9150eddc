//! One copy of a merged table.
//!
//! Everything that alters a copy is a [`Change`], applied in one step and written down as it is: a
//! client's write, what a peer sent, and what all copies may forget. So what recovers from a log is
//! what wrote it.
//!
//! Two rules carry the rest (`docs/MERGED.md`):
//!
//! - **Exact**: each dot that a copy has *seen* names a write of which it holds a writing, or one
//!   that was replaced, or one that lost where every copy knew all that it could lose to.
//! - **Closed**: with a version, a copy has seen everything that version replaces.
//!
//! Must never know: peers, messages, time.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound;

use bincode::{Decode, Encode};

use super::circle::Circle;
use super::command::Unfit;
use super::field::Field;
use super::schema::{Agreement, Kind, Strategy};
use super::staging::{Aside, Role, Stroke};
use super::version::{
    Actor, Content, Dot, Origin, Stamp, Version, VersionVector, is_outdated, join,
};
use super::view::view;
use crate::base::{Key, NodeId, Value, Wall};

/// What versions are kept by: a key, and in a bag an element of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Row {
    /// The key.
    pub key: Key,
    /// In a bag, what tells the element from others of its key; otherwise nothing.
    pub element: Option<Value>,
}

/// A step of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Change {
    /// Versions to be put in, in any order.
    pub versions: Vec<(Row, Version)>,
    /// How they are taken.
    pub role: Role,
    /// Dots that are seen then.
    pub seen: VersionVector,
    /// Dots that every copy has seen then, and everything that was written without knowledge of
    /// them: what lost among these can be forgotten.
    pub stable: VersionVector,
    /// Whether the copy knows from then on all that others may have forgotten.
    pub settled: bool,
    /// What the table is from then on, if it is something else than before. What others forgot of
    /// it while it was that may not be forgotten here, so the copy is settled no more.
    pub becomes: Option<Agreement>,
    /// As whom the copy goes on, if it begins anew: of what it held nothing stays, and what it has
    /// seen is what the change says.
    pub anew: Option<Actor>,
    /// With whom it goes on from then on, without the others.
    pub circle: Option<Circle>,
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows that show something else than before, and something.
    pub copied: u64,
    /// Rows that show nothing any more.
    pub deleted: u64,
    /// Rows that are in conflict now and were not.
    pub raised: Vec<Row>,
    /// Rows that were in conflict and are not now.
    pub cleared: Vec<Row>,
    /// Values that a removal or another value came to stay instead of, though neither knew of the
    /// other: what the strategy or the policy decided here.
    pub lost: Vec<(Row, Value)>,
    /// Versions that no copy that keeps the rules can have sent, and that were left out.
    pub skipped: u64,
}

/// What clients do to a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Mutation {
    /// In a set: overwrite. In a bag: have this element.
    Put(Key, Value),
    /// Remove the key, with all its elements.
    Remove(Key),
    /// Remove this exact value, if it is there (L-42).
    RemoveValue(Key, Value),
}

/// One copy.
#[derive(Clone, Debug)]
pub struct Table {
    agreement: Agreement,
    actor: Actor,
    rows: BTreeMap<Row, Vec<Version>>,
    /// Every version held, by its dot.
    pub(super) index: BTreeMap<Dot, Row>,
    seen: VersionVector,
    stable: VersionVector,
    settled: bool,
    circle: Circle,
    /// Whether it became something else since it was last settled.
    changed: bool,
    conflicts: BTreeSet<Row>,
    /// How many of the versions held are tombstones.
    tombstones: usize,
    /// What does not count yet.
    pub(super) aside: Option<Aside>,
    /// What counts, and is not put in yet.
    pub(super) stroke: Option<Stroke>,
    /// Of what is stable, of what it is forgotten already what lost.
    pub(super) forgotten: VersionVector,
}

/// As whom a copy writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    /// What its clock shows.
    pub wall: Wall,
    /// How many replicas of the table it hears, itself among them.
    pub heard: u16,
    /// The lowest node of those.
    pub oldest: NodeId,
}

fn tombstones(versions: &[Version]) -> usize {
    versions.iter().filter(|version| version.value().is_none()).count()
}

/// What is written down beside a value, since whoever merges could not find it. Nothing of who
/// wrote it, if that is not known any more.
fn written(agreement: &Agreement, value: &Value, writer: Option<Writer>) -> Option<Value> {
    // The greater stays.
    let of_island = match agreement.strategy {
        Strategy::LargestIsland => Some(writer.map(|writer| writer.heard)),
        Strategy::OldestIsland => Some(writer.map(|writer| !writer.oldest.0)),
        Strategy::Custom
        | Strategy::Ignore
        | Strategy::LastModified
        | Strategy::LastVersion(_)
        | Strategy::Manual
        | Strategy::Siblings => None,
    };
    if let Some(island) = of_island {
        return island.map(|island| Value::from(&island.to_be_bytes()[..]));
    }
    let field = agreement.decisive().filter(|field| field.is_written())?;
    field.of(value).map(|found| Value::from(&*found))
}

/// Of versions that do not replace each other, those with a value that is not over and not shown.
fn unshown<'a>(versions: &'a [Version], shown: &[&Version]) -> Vec<&'a Version> {
    let is_shown = |version: &&Version| shown.iter().any(|other| other.content == version.content);
    let unshown = versions.iter().filter(|version| version.value().is_some());
    unshown.filter(|version| !is_shown(version) && !is_outdated(version, versions)).collect()
}

impl Applied {
    /// Adds what another did.
    pub(super) fn add(&mut self, other: Self) {
        self.copied += other.copied;
        self.deleted += other.deleted;
        self.raised.extend(other.raised);
        self.cleared.extend(other.cleared);
        self.lost.extend(other.lost);
        self.skipped += other.skipped;
    }

    /// Whether the copy shows anything else than before.
    #[must_use]
    pub const fn shows_change(&self) -> bool {
        self.copied + self.deleted > 0 || !self.raised.is_empty() || !self.cleared.is_empty()
    }
}

impl Row {
    /// The row that a value of a key belongs to; nothing if it lacks the field that says which.
    pub(super) fn of(kind: &Kind, key: &Key, value: &Value) -> Option<Self> {
        let element = match kind {
            Kind::Bag { secondary: None } => Some(value.clone()),
            Kind::Bag { secondary: Some(field) } => Some(field.identity(value)?),
            Kind::OrderedSet | Kind::Set => None,
        };
        Some(Self { key: key.clone(), element })
    }
}

impl Mutation {
    /// The key that it is about.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Remove(key) | Self::RemoveValue(key, _) => key,
        }
    }
}

impl Table {
    /// An empty copy. `alone`: no other copy exists, so there is nobody who could have forgotten
    /// anything.
    #[must_use]
    pub fn new(agreement: Agreement, actor: Actor, alone: bool) -> Self {
        Self {
            agreement,
            actor,
            rows: BTreeMap::new(),
            index: BTreeMap::new(),
            seen: VersionVector::EMPTY,
            stable: VersionVector::EMPTY,
            settled: alone,
            circle: Circle::default(),
            changed: false,
            conflicts: BTreeSet::new(),
            tombstones: 0,
            aside: None,
            stroke: None,
            forgotten: VersionVector::EMPTY,
        }
    }

    /// Under which name this copy writes.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        self.actor
    }

    /// What it must have in common with other copies.
    #[must_use]
    pub const fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Takes it for what is configured: the same, with functions where only their names were
    /// written down.
    pub(super) fn configure(&mut self, agreement: Agreement) {
        debug_assert_eq!(self.agreement, agreement);
        self.agreement = agreement;
    }

    /// The dots that it has seen.
    #[must_use]
    pub const fn seen(&self) -> &VersionVector {
        &self.seen
    }

    /// The dots of which it has forgotten whatever lost.
    #[must_use]
    pub const fn stable(&self) -> &VersionVector {
        &self.stable
    }

    /// Whether it knows all that others may have forgotten.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.settled
    }

    /// With whom it goes on.
    #[must_use]
    pub const fn circle(&self) -> &Circle {
        &self.circle
    }

    /// Whether it has seen nothing but its own writes, and those without knowledge of others.
    pub(super) fn is_blank(&self) -> bool {
        !self.settled && self.seen.iter().all(|(actor, _)| actor == self.actor)
    }

    /// Whether it became something else, and has not been compared with all others since.
    #[must_use]
    pub const fn is_changed(&self) -> bool {
        self.changed
    }

    /// Whether what is held can go on as something else: rows keep their elements, and what decides
    /// about versions that are there is found again, which takes a function that is at hand.
    #[must_use]
    pub fn may_become(&self, agreement: &Agreement) -> bool {
        let is_set = |kind: &Kind| matches!(kind, Kind::OrderedSet | Kind::Set);
        let (kind, other) = (&self.agreement.kind, &agreement.kind);
        let function = |of: &Agreement| matches!(of.decisive(), Some(Field::Function(_)));
        (kind == other || is_set(kind) && is_set(other))
            && !function(&self.agreement)
            && !function(agreement)
    }

    fn become_other(&mut self, agreement: Agreement) {
        self.agreement = agreement;
        (self.settled, self.changed) = (false, true);
        for versions in self.rows.values_mut() {
            for version in versions {
                version.field =
                    version.value().and_then(|value| written(&self.agreement, value, None));
            }
        }
        let conflict = |versions: &[Version]| view(&self.agreement, versions).len() > 1;
        let rows = self.rows.iter().filter(|(_, versions)| conflict(versions));
        self.conflicts = rows.map(|(row, _)| row.clone()).collect();
    }

    /// Every version held, tombstones too, in the order of rows.
    pub fn versions(&self) -> impl Iterator<Item = (&Row, &Version)> {
        self.rows.iter().flat_map(|(row, all)| all.iter().map(move |version| (row, version)))
    }

    /// The same, taken out: what there is of the copy goes with them, little by little.
    pub(super) fn into_versions(self) -> impl Iterator<Item = (Row, Version)> {
        let mut index = self.index.into_iter();
        let rows = self.rows.into_iter();
        rows.flat_map(|(row, all)| all.into_iter().map(move |version| (row.clone(), version)))
            .inspect(move |_| drop(index.next()))
    }

    /// The versions of one row that do not replace each other.
    #[must_use]
    pub fn row(&self, row: &Row) -> &[Version] {
        self.rows.get(row).map_or(&[], |versions| versions)
    }

    /// How many versions are held, tombstones too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// How many of them are tombstones.
    #[must_use]
    pub const fn tombstones(&self) -> usize {
        self.tombstones
    }

    /// Whether nothing is held, not even a tombstone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The rows in conflict, in order.
    #[must_use]
    pub const fn conflicts(&self) -> &BTreeSet<Row> {
        &self.conflicts
    }

    /// Versions held that `known` does not hold, in the order of their dots.
    pub fn unknown_to<'a>(
        &'a self,
        known: &'a VersionVector,
    ) -> impl Iterator<Item = (&'a Row, &'a Version)> + 'a {
        let news = self.seen.iter().flat_map(move |(actor, last)| {
            let first = Dot { actor, number: known.last(&actor).saturating_add(1) };
            let last = Dot { actor, number: last };
            let some = first <= last;
            some.then(|| self.index.range(first..=last)).into_iter().flatten()
        });
        news.filter_map(move |(dot, row)| self.find(row, dot).map(|version| (row, version)))
    }

    /// The version that one write made, if it is held.
    #[must_use]
    pub fn version(&self, dot: &Dot) -> Option<&Version> {
        self.find(self.index.get(dot)?, dot)
    }

    /// The latest write of a copy of which something is held.
    #[must_use]
    pub fn latest_of(&self, actor: Actor) -> Option<&Version> {
        let all = Dot { actor, number: 1 }..=Dot { actor, number: u64::MAX };
        self.version(self.index.range(all).next_back()?.0)
    }

    fn find(&self, row: &Row, dot: &Dot) -> Option<&Version> {
        self.row(row).iter().find(|version| version.dot == *dot)
    }

    // ------------------------------------------------------------------ reading

    /// What a row shows: nothing, one version, or several in conflict, the latest first.
    #[must_use]
    pub fn shown(&self, row: &Row) -> Vec<&Version> {
        view(&self.agreement, self.row(row))
    }

    /// The rows of a key, whether they show anything or not.
    fn rows_of<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = (&'a Row, &'a Vec<Version>)> {
        let first = Row { key: key.clone(), element: None };
        self.rows.range(first..).take_while(move |(row, _)| row.key == *key)
    }

    /// What a key shows, row by row; rows that show nothing are left out.
    pub fn get<'a>(
        &'a self,
        key: &'a Key,
    ) -> impl Iterator<Item = (&'a Row, Vec<&'a Version>)> + 'a {
        self.rows_of(key).filter_map(|(row, versions)| self.visible(row, versions))
    }

    /// What the rows behind a key show, in order; from the first key on without one.
    pub fn scan<'a>(
        &'a self,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Row, Vec<&'a Version>)> + 'a {
        // The first row there can be: no key lies between a key and itself with a zero behind it.
        let first = after.map_or_else(Vec::new, |key| [key.as_bytes(), &[0]].concat());
        let range = self.rows.range(Row { key: Key::from(first), element: None }..);
        range.filter_map(|(row, versions)| self.visible(row, versions))
    }

    /// The rows from a place on, whether they show anything or not.
    pub(super) fn rows_from(&self, start: Bound<&Row>) -> impl Iterator<Item = &Row> {
        self.rows.range::<Row, _>((start, Bound::Unbounded)).map(|(row, _)| row)
    }

    fn visible<'a>(
        &self,
        row: &'a Row,
        versions: &'a [Version],
    ) -> Option<(&'a Row, Vec<&'a Version>)> {
        let shown = view(&self.agreement, versions);
        (!shown.is_empty()).then_some((row, shown))
    }

    // ------------------------------------------------------------------ writing

    /// What a batch of a client's writes comes to: all of it or nothing. Nothing is changed yet.
    ///
    /// Of several writes to one row the last counts. Writing what is there, and removing what is
    /// not, is no write at all (L-09, L-10).
    ///
    /// # Errors
    /// If a value lacks a field that the table needs.
    pub fn write(&self, mutations: &[Mutation], writer: Writer) -> Result<Change, Unfit> {
        let mut wanted: BTreeMap<Row, Content> = BTreeMap::new();
        for mutation in mutations {
            match mutation {
                Mutation::Put(key, value) => {
                    let fits = self.agreement.fields().all(|field| field.of(value).is_some());
                    let row = Row::of(&self.agreement.kind, key, value).filter(|_| fits);
                    let row = row.ok_or_else(|| Unfit::NoField { key: key.clone() })?;
                    wanted.insert(row, Content::Live(value.clone()));
                }
                Mutation::Remove(key) => {
                    for (row, _) in self.rows_of(key) {
                        wanted.insert(row.clone(), Content::Dead);
                    }
                    let first = Row { key: key.clone(), element: None };
                    let of_key = wanted.range_mut(first..);
                    for (_, content) in of_key.take_while(|(row, _)| row.key == *key) {
                        *content = Content::Dead;
                    }
                }
                Mutation::RemoveValue(key, value) => {
                    let Some(row) = Row::of(&self.agreement.kind, key, value) else { continue };
                    let there = wanted.get(&row).cloned().or_else(|| self.content(&row));
                    if there == Some(Content::Live(value.clone())) {
                        wanted.insert(row, Content::Dead);
                    }
                }
            }
        }
        Ok(self.written(wanted, writer))
    }

    /// What a row holds, if it holds one thing and is in no conflict.
    fn content(&self, row: &Row) -> Option<Content> {
        match &self.shown(row)[..] {
            [only] => Some(only.content.clone()),
            _ => None,
        }
    }

    fn written(&self, wanted: BTreeMap<Row, Content>, writer: Writer) -> Change {
        let mut change = Change::default();
        let origin = self.origin(Origin::Written);
        let mut number = self.seen.last(&self.actor);
        for (row, content) in wanted {
            let same = match &self.shown(&row)[..] {
                [] => content == Content::Dead,
                [only] => only.content == content,
                [_, ..] => false,
            };
            if same {
                continue;
            }
            number += 1;
            let dot = Dot { actor: self.actor, number };
            let version = self.successor(&row, dot, writer, origin, content);
            change.versions.push((row, version));
        }
        if !change.versions.is_empty() {
            change.seen.insert(Dot { actor: self.actor, number });
        }
        change
    }

    /// How a version comes to be that is made here and now.
    const fn origin(&self, origin: Origin) -> Origin {
        if self.settled { origin } else { Origin::Late }
    }

    /// A version that replaces all that the row holds, and whatever it held and forgot.
    fn successor(
        &self,
        row: &Row,
        dot: Dot,
        writer: Writer,
        origin: Origin,
        content: Content,
    ) -> Version {
        let mut past = self.stable.clone();
        let mut latest = Stamp::default();
        for known in self.row(row) {
            past.join(&known.past);
            past.insert(known.dot);
            past.insert(known.write());
            latest = latest.max(known.stamp);
        }
        let field = match &content {
            Content::Live(value) => written(&self.agreement, value, Some(writer)),
            Content::Dead => None,
        };
        let stamp = latest.next(writer.wall);
        Version { dot, past, stamp, origin, content, field, first: None }
    }

    /// What an answer of a resolver comes to: one version that replaces exactly those that it was
    /// asked about. Nothing if the row holds others by now; it is asked again about those.
    #[must_use]
    pub fn resolve(
        &self,
        row: &Row,
        dots: &[Dot],
        value: Option<&Value>,
        writer: Writer,
    ) -> Option<Change> {
        let held = self.row(row).iter().map(|version| &version.dot);
        if !self.conflicts.contains(row) || !held.eq(dots.iter()) {
            return None;
        }
        if let Some(value) = value {
            let fits = self.agreement.fields().all(|field| field.of(value).is_some());
            if !fits || Row::of(&self.agreement.kind, &row.key, value).as_ref() != Some(row) {
                return None;
            }
        }
        let dot = Dot { actor: self.actor, number: self.seen.last(&self.actor) + 1 };
        let content = value.map_or(Content::Dead, |value| Content::Live(value.clone()));
        let origin = self.origin(Origin::Resolved);
        let version = self.successor(row, dot, writer, origin, content);
        let mut change =
            Change { versions: alloc::vec![(row.clone(), version)], ..Change::default() };
        change.seen.insert(dot);
        Some(change)
    }

    // ------------------------------------------------------------------ changing

    /// Takes a step. Whatever the change is, taking it twice is taking it once.
    pub fn apply(&mut self, change: &Change) -> Applied {
        let mut applied = self.begin(change);
        applied.add(self.work(usize::MAX));
        applied
    }

    /// The same, but that what a stroke puts in and what is forgotten for good is left to
    /// [`Table::work`], as far as nobody touches it.
    pub fn begin(&mut self, change: &Change) -> Applied {
        let mut applied = Applied::default();
        match &change.role {
            Role::Aside(progress) => {
                self.set_aside(progress, &change.versions);
                return applied;
            }
            Role::Step => {}
            &Role::Stroke { session, count, full } => {
                applied.add(self.work_strokes());
                self.strike(session, count, full, &change.seen);
            }
        }
        if let Some(agreement) = &change.becomes {
            applied.add(self.work_strokes());
            // It was sent as what the table was, with the fields that decided then.
            self.drop_aside();
            self.become_other(agreement.clone());
        }
        if change.anew.is_some() {
            applied.add(self.work_strokes());
        }
        change.versions.iter().for_each(|(row, _)| self.put_in_row(row, &mut applied));
        let mut before: BTreeMap<Row, Vec<Version>> = BTreeMap::new();
        if let Some(actor) = change.anew {
            before = core::mem::take(&mut self.rows);
            self.index.clear();
            (self.seen, self.stable) = (VersionVector::EMPTY, VersionVector::EMPTY);
            (self.aside, self.forgotten) = (None, VersionVector::EMPTY);
            (self.actor, self.settled, self.tombstones) = (actor, false, 0);
        }
        if let Some(circle) = &change.circle {
            self.circle = circle.clone();
        }
        for (row, version) in &change.versions {
            // What was seen and is not here was replaced, or lost: it does not come back (C3).
            if self.seen.contains(&version.dot) {
                continue;
            }
            if !before.contains_key(row) {
                before.insert(row.clone(), self.row(row).to_vec());
            }
            self.join_row(row, version);
        }
        self.seen.join(&change.seen);
        self.settled |= change.settled;
        self.changed &= !change.settled;
        self.stable.join(&change.stable);
        for (row, before) in before {
            self.compare_row(&row, &before, &mut applied);
        }
        applied
    }

    /// What a copy comes to that begins anew as `actor` from what another one holds and has seen.
    ///
    /// What that one has not seen in any writing is written once more, as late. Each such write
    /// replaces what the one before it replaced, and all else that could be forgotten there; not
    /// what is shown there and was not known of. What is shown there and is over here is removed.
    #[must_use]
    pub fn begun_anew(
        &self,
        actor: Actor,
        theirs: Vec<(Row, Version)>,
        seen: &VersionVector,
        stable: &VersionVector,
    ) -> Change {
        let mut rows: BTreeMap<Row, Vec<Version>> = BTreeMap::new();
        for (row, version) in theirs {
            join(rows.entry(row).or_default(), version);
        }
        let mut number = self.seen.last(&actor).max(seen.last(&actor));
        let mut again: Vec<(Row, Version)> = Vec::new();
        let all: BTreeSet<&Row> = self.rows.keys().chain(rows.keys()).collect();
        for row in all {
            let there = rows.get(row).map_or(&[][..], |versions| versions);
            for (version, past) in self.own_anew(row, there, seen, stable) {
                number += 1;
                again.push((row.clone(), version.again(Dot { actor, number }, past)));
            }
        }
        let mut change = Change { anew: Some(actor), stable: stable.clone(), ..Change::default() };
        change.seen = self.seen.clone();
        change.seen.join(seen);
        // What was forgotten here, and not there, others hear of as of anything that was forgotten.
        change.stable.join(&self.stable);
        change.seen.insert(Dot { actor, number });
        let theirs = rows.into_iter().flat_map(|(row, versions)| {
            versions.into_iter().map(move |version| (row.clone(), version))
        });
        change.versions = theirs.chain(again).collect();
        change
    }

    /// What is to be written once more of a row by a copy that begins anew, and what each of it
    /// replaces. What is over, here or there, is not: but no name of what is held here is left that
    /// is unknown there and replaced by nothing.
    fn own_anew(
        &self,
        row: &Row,
        there: &[Version],
        seen: &VersionVector,
        stable: &VersionVector,
    ) -> Vec<(Version, VersionVector)> {
        let shown = view(&self.agreement, there);
        let over: Vec<&Version> =
            shown.iter().copied().filter(|version| self.is_over(row, version)).collect();
        let held = self.row(row);
        let is_gone = |version: &Version| {
            let is_of_it = |it: &&Version| it.write() == version.write();
            let mut writings = there.iter().filter(is_of_it);
            is_outdated(version, held)
                || seen.contains(&version.write()) && writings.all(|it| is_outdated(it, there))
        };
        let own = held.iter().filter(|version| !seen.contains(&version.dot)).cloned();
        let (gone, mut own): (Vec<Version>, Vec<Version>) = own.partition(is_gone);
        if own.is_empty() && !(over.is_empty() && gone.is_empty()) {
            let stamps = there.iter().chain(&gone).map(|version| version.stamp);
            let stamp = stamps.max().unwrap_or_default().next(Wall(0));
            let dot = Dot { actor: self.actor, number: 0 };
            let (past, content, origin) = (VersionVector::EMPTY, Content::Dead, Origin::Late);
            own.push(Version { dot, past, stamp, origin, content, field: None, first: None });
        }
        let replacing = |version: Version| {
            let mut knew = version.known();
            gone.iter().for_each(|gone| knew.join(&gone.known()));
            // By the name of the write: of those that were written once more together each later
            // one's name stands for the earlier ones', which it did not know.
            let is_known = |it: &Version| knew.contains(&it.write());
            let is_beside =
                |it: &&&Version| !is_known(it) && !over.iter().any(|over| over.dot == it.dot);
            let beside: Vec<&Version> = shown.iter().filter(is_beside).copied().collect();
            let mut past = knew.clone();
            past.join(stable);
            for known in there.iter().filter(|it| !beside.iter().any(|shown| shown.dot == it.dot)) {
                past.join(&known.past);
                past.insert(known.dot);
            }
            over.iter().for_each(|over| past.insert(over.write()));
            let beside: Vec<Dot> = beside.iter().flat_map(|it| [it.dot, it.write()]).collect();
            past.limit(&beside);
            (version, past)
        };
        own.into_iter().map(replacing).collect()
    }

    /// Whether a version that another copy holds is over here: it was seen in some writing, and
    /// none of it is held any more that is not over itself. So it was replaced, or lost.
    pub(super) fn is_over(&self, row: &Row, version: &Version) -> bool {
        let held = self.row(row);
        let is_of_it = |held: &&Version| held.write() == version.write();
        let has_seen = |dot: &Dot| self.seen.contains(dot);
        (has_seen(&version.dot) || has_seen(&version.write()))
            && held.iter().filter(is_of_it).all(|it| is_outdated(it, held))
    }

    /// Puts a version among those of its row.
    pub(super) fn join_row(&mut self, row: &Row, version: &Version) {
        let versions = self.rows.entry(row.clone()).or_default();
        let (added, replaced) = join(versions, version.clone());
        self.tombstones -= tombstones(&replaced);
        if added {
            self.tombstones += usize::from(version.value().is_none());
            self.index.insert(version.dot, row.clone());
        }
        for gone in replaced {
            self.index.remove(&gone.dot);
        }
    }

    /// Keeps some of the versions of a row.
    pub(super) fn drop_versions(&mut self, row: &Row, keep: impl Fn(&Version) -> bool) {
        let Some(versions) = self.rows.get_mut(row) else { return };
        let (index, count) = (&mut self.index, &mut self.tombstones);
        versions.retain(|version| {
            let stays = keep(version);
            if !stays {
                index.remove(&version.dot);
                *count -= usize::from(version.value().is_none());
            }
            stays
        });
        if versions.is_empty() {
            self.rows.remove(row);
        }
    }

    /// Forgets of a row, if it holds nothing but stable versions, those that are not to be seen;
    /// and what stable versions replaced. No copy holds any of it, or ever will again, without
    /// losing it in the same way.
    pub(super) fn forget_row(&mut self, row: &Row) {
        let Some(versions) = self.rows.get(row) else { return };
        let is_stable = |version: &Version| self.stable.contains(&version.dot);
        if versions.iter().all(is_stable) {
            let shown: Vec<Dot> =
                view(&self.agreement, versions).iter().map(|version| version.dot).collect();
            self.drop_versions(row, |version| shown.contains(&version.dot));
        } else if versions.iter().any(|version| is_outdated(version, versions)) {
            // What it is over by says so for as long as it is held.
            return;
        }
        for version in self.rows.get_mut(row).into_iter().flatten() {
            if self.stable.contains(&version.dot) {
                version.past = VersionVector::EMPTY;
            }
        }
    }

    /// Says what a row shows that it did not show `before`, and keeps the list of conflicts.
    pub(super) fn compare_row(&mut self, row: &Row, before: &[Version], applied: &mut Applied) {
        let old = view(&self.agreement, before);
        let new = view(&self.agreement, self.row(row));
        let same = old.iter().map(|v| &v.content).eq(new.iter().map(|v| &v.content));
        if !same && new.is_empty() {
            applied.deleted += 1;
        } else if !same {
            applied.copied += 1;
        }
        let conflict = new.len() > 1;
        let lost = unshown(before, &old);
        for version in unshown(self.row(row), &new) {
            if !lost.iter().any(|other| other.dot == version.dot) {
                applied.lost.extend(version.value().map(|value| (row.clone(), value.clone())));
            }
        }
        if conflict && self.conflicts.insert(row.clone()) {
            applied.raised.push(row.clone());
        } else if !conflict && self.conflicts.remove(row) {
            applied.cleared.push(row.clone());
        }
    }

    /// What is wrong with the copy, if anything is: for tests and for the simulator.
    ///
    /// # Errors
    /// Says which rule is broken, and where.
    pub fn check(&self) -> Result<(), &'static str> {
        let mut count = 0;
        for (row, versions) in &self.rows {
            count += versions.len();
            if versions.is_empty() {
                return Err("an empty row is kept");
            }
            if (view(&self.agreement, versions).len() > 1) != self.conflicts.contains(row) {
                return Err("the list of conflicts is wrong");
            }
            for version in versions {
                if !self.seen.contains(&version.dot) {
                    return Err("a version is held that was not seen");
                }
                if !version.is_among(&self.seen) {
                    return Err("a version is held whose past was not seen");
                }
                if self.index.get(&version.dot) != Some(row) {
                    return Err("the index misses a version");
                }
                if versions.iter().any(|other| other.replaces(version)) {
                    return Err("a version is held that another replaces");
                }
            }
        }
        let dead = self.versions().filter(|(_, version)| version.value().is_none());
        if self.tombstones != dead.count() {
            return Err("the number of tombstones is wrong");
        }
        if count != self.index.len() {
            return Err("the index holds more than the rows");
        }
        if !self.seen.covers(&self.stable) {
            return Err("something is stable that was not seen");
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.element {
            Some(element) => write!(f, "{}:{element}", self.key),
            None => write!(f, "{}", self.key),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (row, version)) in self.versions.iter().enumerate() {
            write!(f, "{}{row}={version}", if place == 0 { "" } else { " " })?;
        }
        match &self.role {
            Role::Aside(progress) => {
                return write!(f, " aside for {} got {}", progress.session, progress.got);
            }
            Role::Step => {}
            Role::Stroke { session, count, full } => {
                write!(f, " all {count} of {session}{}", if *full { " in full" } else { "" })?;
            }
        }
        write!(f, " seen {}", self.seen)?;
        if let Some(agreement) = &self.becomes {
            write!(f, " becomes {agreement}")?;
        }
        if !self.stable.is_empty() {
            write!(f, " stable {}", self.stable)?;
        }
        if let Some(actor) = &self.anew {
            write!(f, " anew as {actor}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(key, value) => write!(f, "put {key} {value}"),
            Self::Remove(key) => write!(f, "remove {key}"),
            Self::RemoveValue(key, value) => write!(f, "remove {key} {value}"),
        }
    }
}
