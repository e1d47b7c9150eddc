//! What copies of merged tables must show: the full causal history of everything written to them.
//!
//! Each write is known from the step in which a copy made it, with all that the copy had seen then,
//! and is never forgotten here. From that and from what a copy says that it has seen follows what
//! it must show: nothing of a copy's own past vectors, tombstones or stability is believed.
//!
//! Must never know: how copies exchange what they hold.

use std::collections::{BTreeMap, BTreeSet};

use synod::merged::{
    Agreement, Answer, Body, Command, Content, Contest, Dot, Durability, Entry, Event, Field,
    Message, Origin, Pattern, Pull, Row, Schema, Strategy, Table, TableName, Version,
    VersionVector,
};
use synod::{Key, MergeEvent, NodeId, OpId, TableId, Value};

use super::Oracle;
use crate::marks::{Mark, Marks};
use crate::plan::{Nodes, Plan};

/// A write: to which row, by whom and when, and what its writer had seen.
#[derive(Clone, Debug)]
struct Write {
    row: Row,
    version: Version,
    past: VersionVector,
    /// Which write it is, if it was written once more: what is known of that is known of this.
    of: Dot,
    /// What the writer of that had seen.
    knew: VersionVector,
    /// At which event.
    step: u64,
}

/// What is known of one node's copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Copy {
    /// Whether the node is to keep one, and whether it does.
    is_replica: bool,
    pub(super) is_there: bool,
    seen: VersionVector,
    stable: VersionVector,
    held: usize,
    tombstones: usize,
    is_putting_in: bool,
    /// What somebody was told that it has seen, of the present copy.
    pub(super) told: VersionVector,
    name: Option<synod::merged::Actor>,
    /// What it shows.
    shown: BTreeMap<Row, Vec<Value>>,
    /// The rows in conflict.
    conflicts: BTreeSet<Row>,
    /// The alarms that are up, once somebody listens.
    raised: Option<BTreeSet<Row>>,
    met: BTreeSet<NodeId>,
    /// Whether it was told to merge and to keep one side's values, in this process life.
    keeps: bool,
    /// The versions that it shows, and at which event it showed those that it shows no more.
    shows: BTreeSet<Dot>,
    showed: BTreeMap<Dot, u64>,
    /// Whom it asks for what it lacks, by which question, and since which event.
    asks: Option<(usize, u64, u64)>,
}

/// What a request must be answered with.
#[derive(Clone, Debug)]
enum Wanted {
    /// These rows with these values.
    Rows(Vec<(Row, Vec<Value>)>),
    /// That it was written: over what.
    Written(Vec<(Row, Vec<Value>)>),
    /// That something has changed.
    Changed,
    /// The same, as the resolver has not seen all that is in conflict.
    Missed,
    /// That, or that it was written.
    Resolved,
}

/// One merged table.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    pub(super) table: TableId,
    /// Which of the plan's it is, if it was made while nodes ran.
    pub(super) number: Option<u16>,
    pub(super) name: TableName,
    schema: Schema,
    writes: BTreeMap<Dot, Write>,
    rows: BTreeMap<Row, BTreeSet<Dot>>,
    pub(super) copies: Vec<Copy>,
    /// Whether a copy was given up and has begun anew.
    begun_anew: bool,
    /// Of requests that a node has.
    wanted: BTreeMap<(usize, OpId), Wanted>,
    /// The last of what a request wrote.
    made: BTreeMap<OpId, Dot>,
}

/// Why a copy did what it did in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergedCause {
    /// A client asked for it.
    Asked(OpId),
    /// A node without a copy asked for it.
    AskedFor,
    /// Neither.
    Other,
}

type Wrong = (&'static str, &'static str, String);

impl Merged {
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        let tables = plan.tables.iter().zip(0..).filter_map(|(table, place)| {
            let schema = table.schema().filter(|_| !table.is_listed())?.clone();
            let (name, nodes) = (TableName::of(&table.name), usize::from(plan.cluster.nodes));
            let mut merged = Self::of(TableId(place), None, name, schema, nodes);
            merged.copies.iter_mut().for_each(|copy| copy.is_there = copy.is_replica);
            Some(merged)
        });
        tables.collect()
    }

    /// One of which no node has a copy yet.
    pub(super) fn of(
        table: TableId,
        number: Option<u16>,
        name: TableName,
        schema: Schema,
        nodes: usize,
    ) -> Self {
        let is_replica = |node| schema.replicas.contains(super::node_of(node));
        let copy = |node| Copy { is_replica: is_replica(node), ..Copy::default() };
        Self {
            table,
            number,
            name,
            copies: (0..nodes).map(copy).collect(),
            begun_anew: false,
            schema,
            writes: BTreeMap::new(),
            rows: BTreeMap::new(),
            wanted: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    /// What copies of it must have in common.
    pub(super) fn agreement(&self) -> Agreement {
        self.schema.agreement()
    }

    /// A node has a copy that it had not.
    pub(super) fn begin_copy(&mut self, node: usize, is_watched: bool, step: u64) {
        let copy = &mut self.copies[node];
        let (is_replica, met) = (copy.is_replica, std::mem::take(&mut copy.met));
        let raised = is_watched.then(BTreeSet::new);
        // What the one before showed may be on its way to who asked it.
        let mut showed = std::mem::take(&mut copy.showed);
        showed.extend(copy.shows.iter().map(|dot| (*dot, step)));
        *copy = Copy { is_replica, is_there: true, met, raised, showed, ..Copy::default() };
    }

    pub(super) const fn is_durable(&self) -> bool {
        matches!(self.schema.durability, Durability::Disk)
    }

    /// Whether history says what must be shown. Where a copy was given up, removals that were
    /// forgotten by some take nothing away any more from what they did not know of, so it does only
    /// where nothing is taken away without being known of. Elsewhere it says what must not be
    /// shown, and what must be whatever was forgotten.
    fn is_exact(&self) -> bool {
        !(self.begun_anew && self.loses())
    }

    /// Whether there are values that something comes to stay instead of without knowing of them.
    fn loses(&self) -> bool {
        self.schema.strategy != Strategy::Siblings || self.schema.contest != Contest::UpdateWins
    }

    // ---- what must be shown ---------------------------------------------------------------

    /// What a copy that has seen so much knows of a row: writes that none of them replaces.
    fn newest(&self, row: &Row, seen: &VersionVector) -> Vec<&Write> {
        let dots = self.rows.get(row).into_iter().flatten();
        let known: Vec<&Write> =
            dots.filter(|dot| seen.contains(dot)).map(|dot| &self.writes[dot]).collect();
        let newest = |write: &&&Write| {
            let is_again = write.of != write.version.dot;
            !known.iter().any(|other| {
                other.past.contains(&write.version.dot)
                    || is_again && other.knew.contains(&write.of)
            })
        };
        known.iter().filter(newest).copied().collect()
    }

    /// What is to be seen of a row: the latest first.
    fn shown(&self, row: &Row, seen: &VersionVector) -> Vec<&Write> {
        let newest = self.newest(row, seen);
        let latest = |write: &Write| (write.version.stamp, write.version.dot);
        let removed = newest.iter().filter(|write| {
            write.version.content == Content::Dead && write.version.origin != Origin::Late
        });
        let removed = removed.map(|write| latest(write)).max();
        let mut live: Vec<&Write> = newest
            .into_iter()
            .filter(|write| write.version.content != Content::Dead)
            .filter(|write| match (removed, self.schema.contest) {
                (None, _) | (_, Contest::UpdateWins) => true,
                // Whoever could not know of removals is not taken away by them.
                _ if write.version.origin == Origin::Late => true,
                (Some(_), Contest::DeleteWins) => false,
                (Some(removed), Contest::LaterWins) => latest(write) > removed,
            })
            .collect();
        live.sort_by_key(|write| std::cmp::Reverse(latest(write)));
        if self.schema.strategy == Strategy::Custom {
            let is_answer = |write: &Write| write.version.origin == Origin::Resolved;
            let last = live.iter().find(|write| is_answer(write)).map(|write| write.version.dot);
            live.retain(|write| !is_answer(write) || Some(write.version.dot) == last);
        }
        let mut values = BTreeSet::new();
        live.retain(|write| values.insert(write.version.value().cloned()));
        let settled = match &self.schema.strategy {
            Strategy::LargestIsland | Strategy::OldestIsland => {
                live.sort_by_key(|write| std::cmp::Reverse(write.version.field.clone()));
                true
            }
            Strategy::LastModified => true,
            Strategy::LastVersion(field) => {
                let Field::Bytes { offset, len } = *field else {
                    unreachable!("no plan has other fields")
                };
                let of = |write: &&Write| {
                    let value = write.version.value().map_or(&[][..], Value::as_bytes);
                    let start = offset as usize;
                    std::cmp::Reverse(value[start..start + len as usize].to_vec())
                };
                live.sort_by_key(of);
                true
            }
            Strategy::Custom | Strategy::Ignore | Strategy::Manual | Strategy::Siblings => false,
        };
        if settled {
            live.truncate(1);
        }
        live
    }

    /// What is to be seen of a row whatever was forgotten, and by whom: nothing that was ever seen
    /// there can have taken it away.
    fn surely_shown(&self, row: &Row, seen: &VersionVector) -> Vec<&Write> {
        let dots = self.rows.get(row).into_iter().flatten();
        let all: Vec<&Write> =
            dots.filter(|dot| seen.contains(dot)).map(|dot| &self.writes[dot]).collect();
        let settles = self.settles();
        // What was written once more as late may have lost before, as what it was written first.
        let was_late = |write: &Write| {
            let first = self.writes.get(&write.of).unwrap_or(write);
            first.version.origin == Origin::Late
        };
        let takes_away = |other: &Write, write: &Write| {
            let (other_is, is) = (&other.version, &write.version);
            let is_later = (other_is.stamp, other_is.dot) > (is.stamp, is.dot);
            match other_is.content {
                Content::Dead if was_late(other) => false,
                Content::Dead => match self.schema.contest {
                    Contest::DeleteWins => !was_late(write),
                    Contest::LaterWins => !was_late(write) && is_later,
                    // What it removed may have taken this away before.
                    Contest::UpdateWins => settles,
                },
                Content::Live(_) => {
                    let resolved = other_is.origin == Origin::Resolved;
                    settles || resolved && is.origin == Origin::Resolved
                }
            }
        };
        let is_free = |write: &&Write| {
            let mut concurrent = all.iter().filter(|other| {
                other.version.dot != write.version.dot && !write.knew.contains(&other.version.dot)
            });
            !concurrent.any(|other| takes_away(other, write))
        };
        let newest = self.newest(row, seen).into_iter();
        newest.filter(|write| write.version.content != Content::Dead).filter(is_free).collect()
    }

    /// Whether of values in conflict one stays.
    const fn settles(&self) -> bool {
        match self.schema.strategy {
            Strategy::LargestIsland
            | Strategy::LastModified
            | Strategy::LastVersion(_)
            | Strategy::OldestIsland => true,
            Strategy::Custom | Strategy::Ignore | Strategy::Manual | Strategy::Siblings => false,
        }
    }

    fn values(&self, row: &Row, seen: &VersionVector) -> Vec<Value> {
        let shown = self.shown(row, seen).into_iter();
        shown.filter_map(|write| write.version.value().cloned()).collect()
    }

    /// The rows that fit, with what they show.
    fn listed(&self, seen: &VersionVector, fits: impl Fn(&Key) -> bool) -> Vec<(Row, Vec<Value>)> {
        let rows = self.rows.keys().filter(|row| fits(&row.key));
        let rows = rows.map(|row| (row.clone(), self.values(row, seen)));
        rows.filter(|(_, values)| !values.is_empty()).collect()
    }

    fn dots(&self, key: &Key, seen: &VersionVector) -> BTreeSet<Dot> {
        let rows = self.rows.keys().filter(|row| row.key == *key);
        rows.flat_map(|row| self.shown(row, seen)).map(|write| write.version.dot).collect()
    }

    // ---- what copies do -------------------------------------------------------------------

    /// What a request is to be answered with, as the copy is before it.
    fn on_asked(&mut self, node: usize, op: OpId, command: &Command) {
        let seen = &self.copies[node].seen;
        let wanted = match command {
            Command::Get(key) => Wanted::Rows(self.listed(seen, |other| other == key)),
            Command::Scan { pattern, after: None, .. } if *pattern == Pattern::default() => {
                Wanted::Rows(self.listed(seen, |_| true))
            }
            Command::Write { guards, .. } => {
                let holds = guards.iter().all(|guard| {
                    self.dots(&guard.key, seen) == guard.shows.iter().copied().collect()
                });
                if holds { Wanted::Written(Vec::new()) } else { Wanted::Changed }
            }
            Command::Resolve { row, dots, .. } => {
                let shown = self.shown(row, seen);
                let is_seen = shown.iter().all(|write| dots.contains(&write.version.dot));
                if is_seen { Wanted::Resolved } else { Wanted::Missed }
            }
            Command::Conflicts { .. }
            | Command::Info
            | Command::Merge { .. }
            | Command::Scan { .. } => return,
        };
        // What comes twice is answered once, as it was when it first came.
        self.wanted.entry((node, op)).or_insert(wanted);
    }

    /// A copy begins, or goes on from what its node recovered.
    fn on_start(
        &mut self,
        node: usize,
        copy: &Table,
        is_lost: bool,
        step: u64,
    ) -> Result<(), Wrong> {
        let durable = self.is_durable();
        self.wanted.retain(|(at, _), _| *at != node);
        let known = &mut self.copies[node];
        let before = (known.name.replace(copy.actor()), std::mem::take(&mut known.told));
        if let (Some(name), told) = before
            && durable
            && !is_lost
        {
            if !copy.seen().covers(&told) && name != copy.actor() {
                let text = format!("n{} begins anew what others know of", node + 1);
                return Err(("C2", "a copy forgotten", text));
            }
            if !copy.seen().covers(&told) {
                let text = format!("n{} has forgotten what it told of", node + 1);
                return Err(("C2", "told and not durable", text));
            }
            known.told = told;
        }
        known.raised = None;
        known.keeps = false;
        known.seen = copy.seen().clone();
        // What it wrote and lost, nobody was told of: it may name something else by it.
        let (actor, last) = (copy.actor(), copy.seen().last(&copy.actor()));
        let is_own = |dot: &Dot| dot.actor.node == actor.node && dot.actor.life == actor.life;
        let is_lost = |dot: &Dot| {
            is_own(dot) && (dot.actor > actor || dot.actor == actor && dot.number > last)
        };
        self.writes.retain(|dot, _| !is_lost(dot));
        self.rows.values_mut().for_each(|dots| dots.retain(|dot| !is_lost(dot)));
        self.check(node, copy, step)
    }

    /// A copy has done something.
    fn on_step(
        &mut self,
        node: usize,
        copy: &Table,
        cause: MergedCause,
        step: u64,
        marks: &mut Marks,
    ) -> Result<(), Wrong> {
        let known = &mut self.copies[node];
        let was_putting_in = known.is_putting_in;
        // Alarms are told as rows are put in.
        (known.is_putting_in, known.conflicts) = (copy.is_putting_in(), copy.conflicts().clone());
        known.tombstones = copy.tombstones();
        let is_same = known.name == Some(copy.actor())
            && known.seen == *copy.seen()
            && known.held == copy.len()
            && known.stable == *copy.stable();
        if is_same {
            return Ok(());
        }
        let (before, held) = (known.seen.clone(), known.held);
        let begins_anew = known.name.is_some_and(|name| name != copy.actor());
        self.learn_writes(node, copy, cause, step, marks)?;
        if let Some((actor, _)) = copy.seen().iter().find(|(actor, last)| {
            let last = Dot { actor: *actor, number: *last };
            !self.writes.contains_key(&last)
        }) {
            let text = format!("n{} has seen of {actor} what nobody wrote", node + 1);
            return Err(("C2", "seen and never written", text));
        }
        if copy.seen() == &before && copy.len() < held && !was_putting_in {
            marks.hit(Mark::Forgotten);
        }
        self.mark(&before, copy, marks);
        self.copies[node].seen = copy.seen().clone();
        self.check(node, copy, step)?;
        if begins_anew { self.check_anew(node, copy) } else { Ok(()) }
    }

    /// C3: what had lost does not come back with a copy that begins anew. It shows what it writes
    /// once more, and of the rest what is shown where it has that from.
    fn check_anew(&self, node: usize, copy: &Table) -> Result<(), Wrong> {
        let Some((peer, _, since)) = self.copies[node].asks else { return Ok(()) };
        let peer = &self.copies[peer];
        let is_shown = |dot: &Dot| {
            peer.shows.contains(dot) || peer.showed.get(dot).is_some_and(|step| *step >= since)
        };
        let mut shows = self.copies[node].shows.iter();
        match shows.find(|dot| dot.actor != copy.actor() && !is_shown(dot)) {
            Some(dot) => {
                let Write { row, version, .. } = &self.writes[dot];
                let text = format!("n{} shows {row}={version} as it begins anew", node + 1);
                Err(("C3", "what had lost is back", text))
            }
            None => Ok(()),
        }
    }

    /// Takes down what a copy has written in this step.
    fn learn_writes(
        &mut self,
        node: usize,
        copy: &Table,
        cause: MergedCause,
        step: u64,
        marks: &mut Marks,
    ) -> Result<(), Wrong> {
        let actor = copy.actor();
        if self.copies[node].name.replace(actor).is_some_and(|before| before != actor) {
            marks.hit(Mark::BegunAnew);
            self.begun_anew = true;
        }
        let past = self.copies[node].seen.clone();
        let (first, last) = (past.last(&actor) + 1, copy.seen().last(&actor));
        if first > last {
            return Ok(());
        }
        let own = copy.versions().filter(|(_, version)| version.dot.actor == actor);
        let own: BTreeMap<u64, _> = own.map(|own| (own.1.dot.number, own)).collect();
        let mut over = Vec::new();
        for number in first..=last {
            let dot = Dot { actor, number };
            let Some((row, version)) = own.get(&number) else {
                let text = format!("n{} wrote {dot}, and holds it nowhere", node + 1);
                return Err(("C2", "written and gone", text));
            };
            let past = if cause == MergedCause::Other {
                self.unasked(node, row, version, copy.seen(), marks)?
            } else {
                // Of what it replaces it knows at least what is shown, and comes after that.
                let over_it = self.shown(row, &past);
                let mut stamps = over_it.iter().map(|write| write.version.stamp);
                if self.is_exact() && stamps.any(|stamp| stamp >= version.stamp) {
                    let text = format!("n{} stamps {row}={version} too early", node + 1);
                    return Err(("C12", "stamped before what it replaced", text));
                }
                let shown = self.values(row, &past);
                if !shown.is_empty() {
                    over.push(((*row).clone(), shown));
                }
                past.clone()
            };
            if version.origin == Origin::Late {
                marks.hit(Mark::LateWrite);
            }
            let again = self.before(row, version).filter(|_| cause == MergedCause::Other);
            let of = again.map_or(dot, |before| before.of);
            let known = self.writes.get(&of).filter(|_| of != dot);
            let knew = known.map_or_else(|| past.clone(), |write| write.knew.clone());
            let (row, version) = ((*row).clone(), (*version).clone());
            let write = Write { row: row.clone(), version, past, of, knew, step };
            if self.writes.insert(dot, write).is_some() {
                let text = format!("n{} names {row}={dot} as another write", node + 1);
                return Err(("C3", "dot used twice", text));
            }
            self.rows.entry(row).or_default().insert(dot);
        }
        if let MergedCause::Asked(op) = cause {
            self.made.insert(op, Dot { actor, number: last });
            if let Some(Wanted::Written(previous)) = self.wanted.get_mut(&(node, op)) {
                *previous = over;
            }
        }
        Ok(())
    }

    /// Of what nobody asked for: what its writer knew.
    fn unasked(
        &self,
        node: usize,
        row: &Row,
        version: &Version,
        seen: &VersionVector,
        marks: &mut Marks,
    ) -> Result<VersionVector, Wrong> {
        let past = if let Some(past) = self.again(row, version, &self.copies[node].seen) {
            // What it wrote in ignorance is written once more.
            marks.hit(Mark::WrittenAgain);
            Some(past)
        } else {
            marks.hit(Mark::SideKept);
            self.kept(node, row, version, seen)
        };
        past.ok_or_else(|| {
            let text = format!("n{} wrote {row}={version}, unasked", node + 1);
            ("C2", "written unasked", text)
        })
    }

    /// What a version is another writing of, whatever it says itself.
    fn before(&self, row: &Row, version: &Version) -> Option<&Write> {
        let dots = self.rows.get(row)?.iter();
        let mut before = dots.map(|dot| &self.writes[dot]).filter(|write| {
            write.version.content == version.content
                && write.version.stamp == version.stamp
                && version.past.contains(&write.version.dot)
        });
        before.next_back()
    }

    /// What was seen by who wrote something without being asked: of a version that was written
    /// before under another dot, what that one replaced, and it; of a removal, what it says, if
    /// what it takes away of what was shown is over by what somebody wrote. Whoever begins anew
    /// says what else it replaces.
    fn again(&self, row: &Row, version: &Version, seen: &VersionVector) -> Option<VersionVector> {
        let mut past = match self.before(row, version) {
            Some(before) => {
                let mut past = before.past.clone();
                past.insert(before.version.dot);
                past
            }
            None if version.content == Content::Dead => {
                let shown = self.shown(row, seen);
                let takes = |write: &&&Write| {
                    let is_again = write.of != write.version.dot;
                    version.past.contains(&write.version.dot)
                        || is_again && version.past.contains(&write.of)
                };
                let is_over = |write: &Write| {
                    let mut others = self.rows[row].iter().map(|dot| &self.writes[dot]);
                    others.any(|other| other.knew.contains(&write.of))
                };
                let is_right = shown.iter().filter(takes).all(|write| is_over(write));
                (is_right || !self.is_exact()).then(|| version.past.clone())?
            }
            None => return None,
        };
        if version.dot.actor.anew > 0 {
            past.join(&version.past);
        }
        Some(past)
    }

    /// Of a version that ends a conflict for one of the sides that somebody had merged: what was
    /// seen before it.
    fn kept(
        &self,
        node: usize,
        row: &Row,
        version: &Version,
        seen: &VersionVector,
    ) -> Option<VersionVector> {
        let before = |(actor, number)| match version.dot {
            dot if dot.actor == actor => Dot { actor, number: dot.number - 1 },
            _ => Dot { actor, number },
        };
        let past: VersionVector = seen.iter().map(before).collect();
        let shown = self.shown(row, &past);
        let is_one = shown.iter().any(|write| write.version.content == version.content);
        (self.copies[node].keeps && shown.len() > 1 && is_one).then_some(past)
    }

    /// What of this was worth doing.
    fn mark(&self, before: &VersionVector, copy: &Table, marks: &mut Marks) {
        let after = copy.seen();
        let news = self.writes.iter().filter(|(dot, _)| {
            after.contains(dot) && !before.contains(dot) && dot.actor != copy.actor()
        });
        let rows: BTreeSet<&Row> = news.map(|(_, write)| &write.row).collect();
        for row in rows {
            let newest = self.newest(row, after);
            let dead = newest.iter().filter(|it| it.version.content == Content::Dead).count();
            if dead > 0 && dead < newest.len() {
                marks.hit(Mark::RemovedAndWritten);
            }
            let shown = self.shown(row, after);
            if shown.len() > 1 && self.shown(row, before).len() < 2 {
                marks.hit(Mark::TrueConflict);
            }
            let decided = shown.len() == 1 && newest.len() - dead > 1;
            if decided && newest.iter().any(|other| other.step > shown[0].step) {
                marks.hit(Mark::ClockLied);
            }
        }
    }

    /// C1 to C5, C11: a copy shows what the history of all that it has seen says. What is yet to be
    /// put in is as if it were: a client is not to find out, which is judged by answers.
    fn check(&mut self, node: usize, copy: &Table, step: u64) -> Result<(), Wrong> {
        let whole = if copy.has_work() { &copy.put_in() } else { copy };
        let seen = copy.seen();
        for (row, version) in whole.versions() {
            let known = self.writes.get(&version.dot);
            let is_known = known.is_some_and(|write| {
                let of =
                    |version: &Version| (version.content.clone(), version.stamp, version.origin);
                write.row == *row && of(&write.version) == of(version)
            });
            if !is_known || !seen.contains(&version.dot) {
                let text = format!("n{} holds {row}={version}, which nobody wrote so", node + 1);
                return Err(("C3", "held and never written", text));
            }
        }
        let mut conflicts = BTreeSet::new();
        let mut all = BTreeMap::new();
        let mut shows = BTreeSet::new();
        for row in self.rows.keys() {
            let wanted = self.shown(row, seen);
            let found = whole.shown(row);
            shows.extend(found.iter().map(|version| version.dot));
            let listed: Vec<Value> =
                found.iter().filter_map(|version| version.value().cloned()).collect();
            if !listed.is_empty() {
                all.insert(row.clone(), listed);
            }
            let count = if self.is_exact() { wanted.len() } else { found.len() };
            if count > 1 {
                conflicts.insert(row.clone());
            }
            let same = wanted.len() == found.len()
                && wanted
                    .iter()
                    .zip(&found)
                    .all(|(wanted, found)| wanted.version.value() == found.value());
            if same {
                continue;
            }
            match self.is_exact() {
                true => self.check_exactly(node, row, &wanted, &found)?,
                false => self.check_loosely(node, row, &found)?,
            }
        }
        let known = &mut self.copies[node];
        if conflicts != *whole.conflicts() {
            let text = format!("n{} lists other conflicts than there are", node + 1);
            return Err(("C4", "conflicts listed wrongly", text));
        }
        known.shown = all;
        for gone in known.shows.difference(&shows) {
            known.showed.insert(*gone, step);
        }
        known.shows = shows;
        (known.is_putting_in, known.conflicts) = (copy.is_putting_in(), copy.conflicts().clone());
        (known.held, known.stable) = (copy.len(), copy.stable().clone());
        known.tombstones = copy.versions().filter(|(_, it)| it.value().is_none()).count();
        Ok(())
    }

    /// A row shows another thing than it should: by which rule that is wrong.
    fn check_exactly(
        &self,
        node: usize,
        row: &Row,
        wanted: &[&Write],
        found: &[&Version],
    ) -> Result<(), Wrong> {
        let values = |of: &[&Version]| {
            let values: Vec<String> =
                of.iter().filter_map(|it| Some(it.value()?.to_string())).collect();
            values.join(" | ")
        };
        let found_values = values(found);
        let wanted: Vec<&Version> = wanted.iter().map(|write| &write.version).collect();
        let wanted_values = values(&wanted);
        let newest = self.newest(row, &self.copies[node].seen);
        let replaced = found
            .iter()
            .find(|version| newest.iter().all(|write| write.version.dot != version.dot));
        let (rule, shape) = match (replaced, wanted.len(), found.len()) {
            (Some(_), ..) => ("C3", "what was replaced is back"),
            (None, wanted, found) if wanted > found => ("C2", "a write is lost"),
            (None, wanted, found) if wanted < found => ("C4", "no true conflict"),
            (None, ..) => ("C4", "another outcome"),
        };
        let text = format!("n{} shows {row}={found_values}, not {wanted_values}", node + 1);
        Err((rule, shape, text))
    }

    /// The same of a row of which history does not say all: nothing is shown that was replaced, and
    /// all is that nothing can have taken away.
    fn check_loosely(&self, node: usize, row: &Row, found: &[&Version]) -> Result<(), Wrong> {
        let seen = &self.copies[node].seen;
        let newest = self.newest(row, seen);
        let is_newest =
            |version: &Version| newest.iter().any(|write| write.version.dot == version.dot);
        if let Some(back) = found.iter().find(|version| !is_newest(version)) {
            let text = format!("n{} shows {row}={back}, which was replaced", node + 1);
            return Err(("C3", "what was replaced is back", text));
        }
        let sure = self.surely_shown(row, seen);
        let is_found =
            |write: &&Write| found.iter().any(|shown| shown.value() == write.version.value());
        if let Some(lost) = sure.iter().find(|write| !is_found(write)) {
            let text = format!("n{} does not show {row}={}", node + 1, lost.version);
            return Err(("C2", "a write is lost", text));
        }
        if self.settles() && found.len() > 1 {
            let text = format!("n{} shows {} values of {row}", node + 1, found.len());
            return Err(("C4", "no true conflict", text));
        }
        Ok(())
    }

    // ---- what copies say ------------------------------------------------------------------

    fn on_send(
        &mut self,
        (node, to): (usize, usize),
        message: &Message,
        step: u64,
        marks: &mut Marks,
    ) -> Result<(), Wrong> {
        if self.schema.strategy == Strategy::Ignore {
            let text = format!("n{} sends {message} of a table that is not exchanged", node + 1);
            return Err(("C9", "exchanged", text));
        }
        if let Body::Pull(Pull { session, .. }) = &message.body {
            let asks = &mut self.copies[node].asks;
            let is_it = |asks: &(usize, u64, u64)| (asks.0, asks.1) == (to, *session);
            *asks = asks.filter(is_it).or(Some((to, *session, step)));
        }
        let told = &mut self.copies[node].told;
        match &message.body {
            // What the asker has got is not what this one has seen, but for the last chunk.
            Body::Chunk(chunk) if chunk.complete => told.join(&chunk.upto),
            Body::Chunk(chunk) => chunk.versions.iter().for_each(|(_, it)| told.insert(it.dot)),
            Body::Digest(digest) => told.join(&digest.seen),
            Body::Pull(pull) => {
                told.join(&pull.have);
                if pull.full {
                    marks.hit(Mark::WholeCopy);
                }
            }
            Body::Push(versions) => versions.iter().for_each(|(_, it)| told.insert(it.dot)),
            Body::Resync { .. } => {}
        }
        Ok(())
    }

    fn on_answer(
        &mut self,
        node: usize,
        op: OpId,
        answer: &Answer,
        marks: &mut Marks,
    ) -> Result<(), Wrong> {
        let told = &mut self.copies[node].told;
        if let Answer::Found { entries, .. } | Answer::Written { previous: entries, .. } = answer {
            entries.iter().flat_map(|entry| &entry.dots).for_each(|dot| told.insert(*dot));
        }
        if let Some(made) = self.made.remove(&op) {
            told.insert(made);
        }
        let Some(wanted) = self.wanted.remove(&(node, op)) else { return Ok(()) };
        if !self.is_exact() {
            return Ok(());
        }
        let rows = |entries: &[Entry]| -> Vec<(Row, Vec<Value>)> {
            let of = |entry: &Entry| {
                (entry.row.clone(), entry.values.iter().map(|it| it.value.clone()).collect())
            };
            entries.iter().map(of).collect()
        };
        let is_right = match (&wanted, answer) {
            (Wanted::Rows(wanted), Answer::Found { entries, more }) => {
                let found = rows(entries);
                wanted.starts_with(&found) && (more.is_some() || found.len() == wanted.len())
            }
            (Wanted::Written(wanted), Answer::Written { previous, complete: true }) => {
                let mut found = rows(previous);
                found.sort();
                found == *wanted
            }
            (Wanted::Changed, Answer::Changed) => {
                marks.hit(Mark::GuardBroken);
                true
            }
            (Wanted::Missed | Wanted::Resolved, Answer::Changed) => {
                marks.hit(Mark::ResolveMissed);
                true
            }
            (Wanted::Resolved, Answer::Written { .. }) => true,
            _ => false,
        };
        if !is_right {
            let text = format!("n{} answers {op} with {answer}, not with {wanted:?}", node + 1);
            return Err(("C2", "another answer", text));
        }
        Ok(())
    }

    fn on_event(
        &mut self,
        node: usize,
        event: &MergeEvent,
        marks: &mut Marks,
    ) -> Result<(), Wrong> {
        let copy = &mut self.copies[node];
        let (row, is_up) = match event {
            MergeEvent::Raised { row, .. } => (row, true),
            MergeEvent::Cleared { row, .. } => (row, false),
            MergeEvent::Table { event: Event::MergeStarted { peer }, .. } => {
                if !copy.met.insert(*peer) {
                    marks.hit(Mark::SplitAgain);
                }
                return Ok(());
            }
            MergeEvent::Table { event: Event::Apart { .. }, .. } => {
                marks.hit(Mark::LeftApart);
                return Ok(());
            }
            MergeEvent::Lost { row, value, .. } => {
                marks.hit(Mark::ValueLost);
                return self.on_lost(node, row, value);
            }
            MergeEvent::PeerBack(_) | MergeEvent::PeerLost(_) | MergeEvent::Table { .. } => {
                return Ok(());
            }
        };
        let Some(raised) = &mut copy.raised else { return Ok(()) };
        let is_news = if is_up { raised.insert(row.clone()) } else { raised.remove(row) };
        if !is_up {
            marks.hit(Mark::ConflictEnded);
        }
        if !is_news {
            let text = format!("n{} tells twice: {event}", node + 1);
            return Err(("C10", "an alarm twice", text));
        }
        Ok(())
    }

    /// A copy says that a value has lost to what it did not know of.
    fn on_lost(&self, node: usize, row: &Row, value: &Value) -> Result<(), Wrong> {
        let mut dots = self.rows.get(row).into_iter().flatten();
        if !self.loses() {
            let text = format!("n{} says that {row}={value} has lost, where all stays", node + 1);
            return Err(("C4", "said to have lost", text));
        }
        if !dots.any(|dot| self.writes[dot].version.value() == Some(value)) {
            let text = format!("n{} says that {row}={value} has lost, unwritten", node + 1);
            return Err(("C4", "said to have lost", text));
        }
        Ok(())
    }

    /// C1: what is not yet equal among these nodes.
    fn unequal(&self, nodes: Nodes) -> Option<(&'static str, String)> {
        if self.schema.strategy == Strategy::Ignore {
            return None;
        }
        let copies = self.copies.iter().enumerate().filter(|(_, copy)| copy.is_there);
        let there = |place: usize| nodes.has(super::node_of(place).0);
        let mut among = copies.clone().filter(|(place, _)| there(*place));
        let (first, one) = among.next()?;
        for (place, other) in among {
            if one.seen != other.seen {
                let text = format!("n{} and n{} have seen different writes", first + 1, place + 1);
                return Some(("copies unequal", text));
            }
            if one.shown != other.shown {
                let text = format!("n{} and n{} show different values", first + 1, place + 1);
                return Some(("copies unequal", text));
            }
        }
        let mut all = self.copies.iter().enumerate().filter(|(_, copy)| copy.is_replica);
        if all.all(|(place, _)| there(place))
            && let Some((place, copy)) =
                self.copies.iter().enumerate().find(|(_, copy)| copy.tombstones > 0)
        {
            let text = format!("n{} keeps {} tombstones", place + 1, copy.tombstones);
            return Some(("tombstones kept", text));
        }
        None
    }
}

impl Oracle {
    pub(super) fn judge(&mut self, table: TableId, judged: Result<(), Wrong>) {
        if let Err((rule, shape, text)) = judged {
            self.breaks(rule, shape, format!("{table}: {text}"));
        }
    }

    fn copy_of(&mut self, table: TableId) -> Option<&mut Merged> {
        self.merged.iter_mut().find(|merged| merged.table == table)
    }

    /// Whether a node keeps a copy of a merged table.
    pub(super) fn keeps_copy(&self, node: usize, table: TableId) -> bool {
        self.merged.iter().any(|merged| merged.table == table && merged.copies[node].is_there)
    }

    /// A client's request is given to a node that may keep a copy.
    pub(crate) fn on_merged_asked(
        &mut self,
        node: usize,
        op: OpId,
        (table, what): (TableId, &Command),
        marks: &mut Marks,
    ) {
        if let Some(merged) = self.copy_of(table)
            && merged.copies[node].is_there
        {
            if merged.copies[node].is_putting_in {
                marks.hit(Mark::AskedAmidPutting);
            }
            merged.on_asked(node, op, what);
        }
    }

    /// A node is told to merge its copy, and whose values stay.
    pub(crate) fn on_keep(&mut self, node: usize, table: TableName) {
        if let Some(merged) = self.merged.iter_mut().find(|it| it.name == table) {
            merged.copies[node].keeps = true;
        }
    }

    /// A node has started, with this copy.
    pub(crate) fn on_copy_start(&mut self, node: usize, table: TableId, copy: &Table, lost: bool) {
        let step = self.step;
        if let Some(merged) = self.copy_of(table) {
            let judged = merged.on_start(node, copy, lost, step);
            self.judge(table, judged);
        }
    }

    /// A node has taken a step.
    pub(crate) fn on_copy_step(
        &mut self,
        node: usize,
        table: TableId,
        copy: &Table,
        cause: MergedCause,
        marks: &mut Marks,
    ) {
        let step = self.step;
        if let Some(merged) = self.copy_of(table) {
            let judged = merged.on_step(node, copy, cause, step, marks);
            self.judge(table, judged);
        }
    }

    /// A copy speaks.
    pub(super) fn on_merged(&mut self, way: (usize, usize), message: &Message, marks: &mut Marks) {
        let step = self.step;
        let is_it = |it: &&mut Merged| it.name == message.table && it.copies[way.0].is_there;
        if let Some(merged) = self.merged.iter_mut().find(is_it) {
            let (table, judged) = (merged.table, merged.on_send(way, message, step, marks));
            self.judge(table, judged);
        }
    }

    /// A client is answered by a node that keeps a copy.
    pub(super) fn on_merged_answer(
        &mut self,
        node: usize,
        op: OpId,
        table: TableId,
        answer: Option<&Answer>,
        marks: &mut Marks,
    ) {
        let Some(table) = self.meant(node, op, table) else { return };
        let Some(merged) = self.copy_of(table) else { return };
        let Some(answer) = answer else {
            merged.wanted.remove(&(node, op));
            return;
        };
        if !merged.copies[node].is_there {
            return marks.hit(Mark::AskedElsewhere);
        }
        let judged = merged.on_answer(node, op, answer, marks);
        self.judge(table, judged);
    }

    /// Somebody listens at a node from now on.
    pub(crate) fn on_merges_watched(&mut self, node: usize, table: TableId) {
        if let Some(merged) = self.copy_of(table) {
            let copy = &mut merged.copies[node];
            copy.raised = Some(copy.conflicts.clone());
        }
    }

    /// C10: everything that a step had to tell is told.
    pub(crate) fn check_alarms(&mut self, node: usize, table: TableId) {
        let Some(merged) = self.copy_of(table) else { return };
        let copy = &merged.copies[node];
        if copy.raised.as_ref().is_some_and(|raised| *raised != copy.conflicts) {
            let text = format!("n{} has other alarms up than there are conflicts", node + 1);
            self.judge(table, Err(("C10", "alarms wrong", text)));
        }
    }

    /// A node tells of merges.
    pub(crate) fn on_merge_event(
        &mut self,
        node: usize,
        table: TableId,
        event: &MergeEvent,
        marks: &mut Marks,
    ) {
        if let Some(merged) = self.copy_of(table) {
            let judged = merged.on_event(node, event, marks);
            self.judge(table, judged);
        }
    }

    /// What is not equal yet among these nodes.
    pub(crate) fn unequal(&self, nodes: Nodes) -> Option<(&'static str, String)> {
        let unequal = |merged: &Merged| {
            let (shape, text) = merged.unequal(nodes)?;
            Some((shape, format!("{}: {text}", merged.table)))
        };
        self.unequal_tables(nodes).or_else(|| self.merged.iter().find_map(unequal))
    }
}
