//! What replicas of primary tables must be: one order of entries, and each replica a state of it.
//!
//! An entry is known from the first replica that shows it as committed, and never forgotten here.
//! All that anybody shows, tells or acknowledges later is compared with that.
//!
//! Must never know: how replicas agree.

use std::collections::{BTreeMap, BTreeSet};

use synod::consensus::{Cell, Content};
use synod::primary::{
    Acknowledge, Answer, Call, Command, Cursor, Entry, Member, Piece, Place, ReadLevel, Record,
    Refusal, Reign, Replica, Role, Roster, Schema, What,
};
use synod::{Ballot, Key, NodeId, OpId, Outcome, Replicas, TableId, TableName, Value};

use super::Oracle;
use super::lists::Lists;
use super::wanted::Wanted;
use crate::marks::{Mark, Marks};
use crate::plan::{Nanos, Nodes, Plan};

type Rows = BTreeMap<Key, Value>;
type Wrong = (&'static str, &'static str, String);
/// The same, of what may yet become right.
type Unequal = Wrong;

/// What is seen of a replica.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) stand: Stand,
    roster: Option<Roster>,
    rows: Vec<(Key, Value)>,
    /// Those committed that it still has.
    entries: Vec<Entry>,
    /// Those that are not, and whether any of them is a client's.
    tail: Vec<Place>,
    is_writing: bool,
    /// Whether it has asked for others to be in sync, which may be decided any time.
    is_changing: bool,
}

/// How far a replica is; what is not seen in it does not change while this does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    role: Role,
    reign: Reign,
    version: Option<Ballot>,
    committed: Place,
    /// Whether it wants to be a replica.
    wanted: bool,
}

impl Stand {
    pub(crate) fn of(replica: &Replica) -> Self {
        Self {
            role: replica.role(),
            reign: replica.reign(),
            version: replica.version(),
            committed: replica.committed(),
            wanted: replica.is_wanted(),
        }
    }
}

impl Seat {
    pub(crate) fn of(replica: &Replica) -> Self {
        let stand = Stand::of(replica);
        let committed = |entry: &&Entry| entry.place.index <= stand.committed.index;
        let tail = || replica.entries().filter(|entry| !committed(entry));
        let in_sync = |roster: &Roster| roster.in_sync.clone();
        let wanted = replica.proposal().map(in_sync);
        Self {
            stand,
            roster: replica.roster().cloned(),
            rows: replica.rows().map(|(key, value)| (key.clone(), value.clone())).collect(),
            entries: replica.entries().filter(committed).cloned().collect(),
            tail: tail().map(|entry| entry.place).collect(),
            is_writing: tail().any(|entry| entry.what.op().is_some()),
            is_changing: wanted.is_some() && wanted != replica.roster().map(in_sync),
        }
    }
}

/// What is known of one node's replica.
#[derive(Clone, Debug)]
struct Known {
    stand: Option<Stand>,
    /// What it was told of whether it is to be a replica.
    wanted: Wanted,
    /// Its durable entries, up to where it has a copy of everything, and one in the making.
    disk: BTreeMap<u64, Place>,
    copied: u64,
    copying: Copying,
    /// Since when it waits, as primary, for none of those who count.
    idle: Option<Nanos>,
    /// The latest place that clients have been shown here, whichever process did it.
    shown: u64,
}

impl Known {
    fn new(wanted: bool) -> Self {
        Self {
            stand: None,
            wanted: Wanted::new(wanted),
            disk: BTreeMap::new(),
            copied: 0,
            copying: Copying::default(),
            idle: None,
            shown: 0,
        }
    }
}

/// A copy in the making, as its pieces on a disk have it.
#[derive(Clone, Debug, Default)]
struct Copying {
    cursor: Option<Cursor>,
    rows: Rows,
    remembered: BTreeSet<OpId>,
}

impl Copying {
    /// The next piece; `false` if it is one of those that are there, written again.
    fn add(&mut self, piece: &Piece) -> bool {
        if piece.after.is_none() {
            *self = Self::default();
        }
        if piece.after != self.cursor {
            return false;
        }
        for entry in piece.entries.iter().filter(|_| piece.after.is_some()) {
            change(&mut self.rows, &entry.what);
            self.remembered.extend(entry.what.op());
        }
        self.rows.extend(piece.rows.iter().cloned());
        self.remembered.extend(piece.remembered.iter().map(|remembered| remembered.op));
        self.cursor = Some(piece.upto.clone());
        true
    }
}

/// What one step does to rows.
fn change(rows: &mut Rows, what: &What) {
    match what {
        What::Put(_, key, value) => {
            rows.insert(key.clone(), value.clone());
        }
        What::Remove(_, key) => {
            rows.remove(key);
        }
        What::Begin | What::Resolve(_) => {}
    }
}

/// A reign that has begun: who is primary, and what it had.
#[derive(Clone, Debug)]
struct Crown {
    who: (usize, u32),
    committed: u64,
    tail: Vec<Place>,
}

impl Crown {
    /// Whether the primary has this one of what was committed.
    fn has(&self, place: Place) -> bool {
        place.index <= self.committed || self.tail.contains(&place)
    }
}

/// What a client asked, and what was so when it first did.
#[derive(Clone, Debug)]
struct Asked {
    command: Command,
    /// Whose fate it asks for.
    of: OpId,
    seen: u64,
    acknowledged: u64,
    /// Whether an attempt of it may have been done that was not answered.
    again: bool,
    /// Whether the node that is asked answers from its own copy, whatever it is.
    is_local: bool,
}

/// One primary table. Of a name that clients make and drop there are several, one after another.
#[derive(Clone, Debug)]
pub(super) struct Primary {
    /// The place of its name in the plan.
    table: TableId,
    name: TableName,
    register: Key,
    /// By what it is listed, if it is made while nodes run.
    listed: Option<(String, u64)>,
    /// Whether it was there and is no more. Nothing is promised of it then.
    dropped: bool,
    acknowledge: Acknowledge,
    /// Who is a replica, if nobody says otherwise.
    replicas: Replicas,
    /// How long a node may take to answer.
    answer_within: Nanos,
    /// What is committed, in order.
    truth: Vec<Entry>,
    /// What is on disks behind that.
    written: BTreeMap<(u64, Reign), Entry>,
    /// Where each request was done.
    done: BTreeMap<OpId, u64>,
    /// The values of each key, by where they were written.
    values: BTreeMap<Key, BTreeMap<u64, Option<Value>>>,
    /// Up to where anything was acknowledged.
    acknowledged: u64,
    roster: Option<(Ballot, Roster)>,
    /// How many rosters came after another.
    rosters: u64,
    crowns: BTreeMap<Reign, Crown>,
    asked: BTreeMap<OpId, Asked>,
    /// What was refused for good.
    never: BTreeSet<OpId>,
    nodes: Vec<Known>,
}

impl Primary {
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        // Each time that it is dropped it may be made again, and both are revisions of the list.
        let drops = plan.drops() as u64;
        let mut all = Vec::new();
        for (table, place) in plan.tables.iter().zip(0..) {
            let Some(schema) = table.primary() else { continue };
            let one = |name: &str, listed| Self::new(plan, TableId(place), (name, listed), schema);
            if table.is_made() {
                let listed = |number: u64| {
                    let name = format!("${number}/{}", table.name);
                    one(&name, Some((table.name.clone(), number)))
                };
                all.extend((1..=1 + 2 * drops).map(listed));
            } else {
                all.push(one(&table.name, None));
            }
        }
        all
    }

    fn new(
        plan: &Plan,
        table: TableId,
        (name, listed): (&str, Option<(String, u64)>),
        schema: &Schema,
    ) -> Self {
        let nodes = (1..=plan.cluster.nodes).map(NodeId);
        Self {
            table,
            name: TableName::of(name),
            register: Key::from(name),
            listed,
            dropped: false,
            acknowledge: schema.acknowledge,
            replicas: schema.replicas.clone(),
            answer_within: Nanos::try_from(schema.answer_within.as_nanos()).unwrap_or(Nanos::MAX),
            truth: Vec::new(),
            written: BTreeMap::new(),
            done: BTreeMap::new(),
            values: BTreeMap::new(),
            acknowledged: 0,
            roster: None,
            rosters: 0,
            crowns: BTreeMap::new(),
            asked: BTreeMap::new(),
            never: BTreeSet::new(),
            nodes: nodes.map(|node| Known::new(schema.replicas.contains(node))).collect(),
        }
    }

    /// It is listed, as these words have it, or is no more.
    fn on_list(&mut self, lists: &Lists) {
        let Some((name, number)) = &self.listed else { return };
        let Some(words) = lists.had(name, *number) else { return };
        self.dropped = !lists.has(name, *number);
        let words = words.strip_prefix("primary").unwrap_or(words).trim_start_matches('+');
        let Ok(schema) = Schema::default().with_words(words) else { return };
        self.acknowledge = schema.acknowledge;
        let within = Nanos::try_from(schema.answer_within.as_nanos());
        self.answer_within = within.unwrap_or(Nanos::MAX);
        if self.replicas != schema.replicas {
            self.replicas = schema.replicas;
            (0..self.nodes.len()).for_each(|node| self.forget(node));
        }
    }

    /// Which register says who is primary.
    pub(super) fn register(&self) -> Key {
        self.register.clone()
    }

    pub(super) fn is_named(&self, register: &Key) -> bool {
        self.register == *register
    }

    fn len(&self) -> u64 {
        self.truth.len() as u64
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        self.truth.get(usize::try_from(index).ok()?.checked_sub(1)?)
    }

    /// What a key has behind an entry.
    fn value(&self, key: &Key, index: u64) -> Option<&Value> {
        let values = self.values.get(key)?;
        values.range(..=index).next_back().and_then(|(_, value)| value.as_ref())
    }

    fn rows(&self, index: u64) -> Rows {
        let keys = self.values.keys();
        keys.filter_map(|key| Some((key.clone(), self.value(key, index)?.clone()))).collect()
    }

    // ---- what replicas do -----------------------------------------------------------------

    /// The next entry is committed, in a reign that may be a later one than that in which it was
    /// put there: a primary may lack what its successor has from before, as long as neither that
    /// nor anything of its own is committed.
    fn push(&mut self, node: usize, reign: Reign, entry: &Entry) -> Result<(), Wrong> {
        if self.truth.last().is_some_and(|last| last.place.reign > entry.place.reign) {
            let text = format!("n{} commits {entry}, of an earlier reign", node + 1);
            return Err(("I3", "an earlier reign goes on", text));
        }
        let index = entry.place.index;
        let later = self.crowns.range(reign.next()..);
        if let Some((later, crown)) = later.into_iter().find(|(_, it)| !it.has(entry.place)) {
            let who = crown.who.0 + 1;
            let text = format!("n{} commits {entry}, which n{who} had not at {later}", node + 1);
            return Err(("I8", "committed by the deposed", text));
        }
        if let Some(op) = entry.what.op() {
            let is_asked = self.asked.contains_key(&op);
            if !is_asked && !self.asked.values().any(|asked| asked.of == op) {
                let text = format!("n{} commits {entry}, which this table was not asked", node + 1);
                return Err(("I3", "done and never asked", text));
            }
            if let Some(before) = self.done.insert(op, index) {
                let text = format!("n{} commits {entry}; it was done at {before}", node + 1);
                return Err(("I3", "done twice", text));
            }
            if self.never.contains(&op) && !matches!(entry.what, What::Resolve(_)) {
                let text = format!("n{} commits {entry}, which was refused", node + 1);
                return Err(("I5", "refused and yet done", text));
            }
        }
        if let What::Put(_, key, _) | What::Remove(_, key) = &entry.what {
            let value = if let What::Put(_, _, value) = &entry.what { Some(value) } else { None };
            self.values.entry(key.clone()).or_default().insert(index, value.cloned());
        }
        self.truth.push(entry.clone());
        self.written = self.written.split_off(&(index + 1, Reign::default()));
        Ok(())
    }

    /// What a node is taken to commit at an index: what its own disk has there, or, if that is
    /// behind, what the latest reign has put there.
    fn written(&self, node: usize, index: u64) -> Option<Entry> {
        let own = self.nodes[node].disk.get(&index);
        let own = own.and_then(|place| self.written.get(&(index, place.reign)));
        let mut all = self.written.range((index, Reign::default())..(index + 1, Reign::default()));
        own.or_else(|| all.next_back().map(|(_, entry)| entry)).cloned()
    }

    /// I1, I3, I7, I11, I12: a replica has taken a step.
    fn on_step(
        &mut self,
        (node, boots): (usize, u32),
        seat: &Seat,
        marks: &mut Marks,
    ) -> Result<(), Wrong> {
        let stand = seat.stand;
        let before = self.nodes[node].stand.replace(stand);
        if !self.nodes[node].wanted.may_be(stand.wanted) {
            let what = if stand.wanted { "be" } else { "not be" };
            let text = format!("n{} wants to {what} a replica, and was told otherwise", node + 1);
            return Err(("I9", "wants what it was not told", text));
        }
        let committed = stand.committed.index;
        if before.is_some_and(|before| before.committed.index > committed) {
            let text = format!("n{} goes back to {}", node + 1, stand.committed);
            return Err(("I3", "goes back", text));
        }
        // What was committed in one step may be more than is kept of it.
        let kept = seat.entries.first().map_or(u64::MAX, |entry| entry.place.index);
        for index in self.len() + 1..kept.min(committed + 1) {
            let Some(entry) = self.written(node, index) else { break };
            self.push(node, stand.reign, &entry)?;
        }
        for entry in &seat.entries {
            match self.entry(entry.place.index) {
                Some(known) if known == entry => {}
                Some(known) => {
                    let text = format!("n{} has {entry} committed, not {known}", node + 1);
                    return Err(("I3", "another order", text));
                }
                None if entry.place.index == self.len() + 1 => {
                    self.push(node, stand.reign, entry)?
                }
                None => {}
            }
        }
        if committed > 0 && self.entry(committed).map(|it| it.place) != Some(stand.committed) {
            let text =
                format!("n{} has {} committed, which nobody put there", node + 1, stand.committed);
            return Err(("I3", "committed from nowhere", text));
        }
        if !seat.rows.iter().cloned().eq(self.rows(committed)) {
            let text = format!("n{} shows other rows than those of {}", node + 1, stand.committed);
            // What it has not gone through one by one came as a copy.
            let begin = seat.entries.first().map_or(u64::MAX, |entry| entry.place.index);
            let copied = before.is_none_or(|before| begin > before.committed.index + 1);
            let rule = if copied { "I6" } else { "I12" };
            return Err((rule, "other rows", text));
        }
        if stand.role == Role::Primary {
            let is_ahead = before.is_some_and(|before| before.committed.index < committed);
            if seat.is_changing && is_ahead {
                marks.hit(Mark::HeldByBoth);
            }
            self.crown((node, boots), seat, marks)?;
        }
        self.learn_roster(node, seat, marks)
    }

    /// I1, I4: a reign may have begun.
    fn crown(&mut self, who: (usize, u32), seat: &Seat, marks: &mut Marks) -> Result<(), Wrong> {
        let (node, reign) = (who.0, seat.stand.reign);
        if let Some(crown) = self.crowns.get(&reign) {
            if crown.who != who {
                let text =
                    format!("n{} and n{} are both primary in {reign}", crown.who.0 + 1, node + 1);
                return Err(("I1", "two primaries", text));
            }
            return Ok(());
        }
        let crown = Crown { who, committed: seat.stand.committed.index, tail: seat.tail.clone() };
        let promised = self.acknowledge != Acknowledge::Primary;
        let missing = self.truth.iter().find(|entry| promised && !crown.has(entry.place));
        if let Some(entry) = missing {
            let text = format!("n{} begins {reign} without {entry}", node + 1);
            return Err(("I4", "a successor without what is committed", text));
        }
        let last = self.crowns.last_key_value();
        if last.is_none() && self.listed.as_ref().is_some_and(|(_, number)| *number > 1) {
            marks.hit(Mark::PrimaryMadeAgain);
        }
        if seat.is_writing && last.is_some_and(|(_, last)| last.who.0 != node) {
            marks.hit(Mark::SucceededPending);
        }
        self.crowns.insert(reign, crown);
        Ok(())
    }

    /// I9: a primary that knows that all who count hold what it has not committed waits for
    /// somebody who does not count, if it still does so a moment later.
    #[cfg(not(madsim))]
    fn on_pending(&mut self, node: usize, replica: &Replica, now: Nanos) -> Result<(), Wrong> {
        let held = self.held(node, replica).filter(|held| *held > replica.committed());
        let idle = &mut self.nodes[node].idle;
        let Some(held) = held else {
            *idle = None;
            return Ok(());
        };
        if *idle.get_or_insert(now) < now {
            let text = format!("n{} has not committed {held}, which all who count hold", node + 1);
            return Err(("I9", "waits for who does not count", text));
        }
        Ok(())
    }

    /// Up to where a primary knows that enough of those in sync hold its log, if it asks for no
    /// change of who that is.
    #[cfg(not(madsim))]
    fn held(&self, node: usize, replica: &Replica) -> Option<Place> {
        let (last, committed) = (replica.last(), replica.committed());
        if replica.role() != Role::Primary || last == committed || replica.proposal().is_some() {
            return None;
        }
        // Who is about to count is waited for, for a moment.
        if replica.is_admitting() {
            return None;
        }
        let roster = replica.roster()?;
        let disk = &self.nodes[node].disk;
        let written = |place: &Place| disk.get(&place.index) == Some(place);
        let tail = || replica.entries().map(|it| it.place).filter(|it| it.index > committed.index);
        let own = tail().take_while(written).last()?.index;
        // When they were heard does not matter to what they have acknowledged.
        let lags = replica.lags(synod::Instant::ZERO);
        let counting = lags.iter().filter(|lag| lag.in_sync);
        let mut positions: Vec<u64> = counting.map(|lag| last.index - lag.behind).collect();
        positions.push(own);
        positions.sort_unstable_by_key(|position| std::cmp::Reverse(*position));
        let enough = match roster.acknowledge {
            Acknowledge::All => *positions.last()?,
            Acknowledge::Primary => own,
            Acknowledge::Quorum => positions[positions.len() / 2],
        };
        tail().find(|place| place.index == enough.min(own) && place.reign == roster.reign)
    }

    pub(super) const fn rosters(&self) -> u64 {
        self.rosters
    }

    fn learn_roster(&mut self, node: usize, seat: &Seat, marks: &mut Marks) -> Result<(), Wrong> {
        let (Some(version), Some(roster)) = (seat.stand.version, &seat.roster) else {
            return Ok(());
        };
        match &self.roster {
            Some((known, same)) if *known == version && same != roster => {
                let text = format!("n{} knows {roster} at {version}, not {same}", node + 1);
                return Err(("I11", "two rosters", text));
            }
            Some((known, _)) if *known >= version => return Ok(()),
            Some((_, before)) => {
                self.rosters += 1;
                if before.primary.node != roster.primary.node {
                    marks.hit(Mark::Succeeded);
                }
                if roster.in_sync.len() > before.in_sync.len() {
                    marks.hit(Mark::CountedIn);
                    if seat.stand.role == Role::Primary && seat.is_writing {
                        marks.hit(Mark::CountedInPending);
                    }
                }
                if roster.in_sync.len() < before.in_sync.len() {
                    marks.hit(Mark::CountedOut);
                }
            }
            None => {}
        }
        self.roster = Some((version, roster.clone()));
        Ok(())
    }

    /// I6: a copy counts once it is whole, and then it is the table as of its place.
    fn on_record(&mut self, node: usize, record: &Record) -> Result<(), Wrong> {
        let known = &mut self.nodes[node];
        match record {
            Record::Appended(entries) => {
                if let Some(first) = entries.first() {
                    known.disk.split_off(&first.place.index);
                }
                known.disk.extend(entries.iter().map(|entry| (entry.place.index, entry.place)));
                let done = self.truth.len() as u64;
                let open = entries.iter().filter(|entry| entry.place.index > done);
                let open = open.map(|it| ((it.place.index, it.place.reign), it.clone()));
                self.written.extend(open);
            }
            Record::Piece(piece) => {
                let is_next = known.copying.add(piece);
                if is_next && piece.upto.mark == synod::primary::Mark::Whole {
                    known.disk.clear();
                    known.copied = piece.upto.place.index;
                    let copy = std::mem::take(&mut known.copying);
                    return self.check_copy(node, &copy, piece);
                }
            }
            Record::Committed(_) | Record::Entered { .. } | Record::Made(_) | Record::Wanted(_) => {
            }
            Record::Void => {
                self.forget(node);
                if self.listed.is_some() && !self.dropped {
                    let text = format!("n{} gives {} up, which is listed", node + 1, self.register);
                    return Err(("I4", "given up and not dropped", text));
                }
            }
        }
        Ok(())
    }

    /// Nothing is left of a node's replica.
    fn forget(&mut self, node: usize) {
        self.nodes[node] = Known::new(self.replicas.contains(super::node_of(node)));
    }

    fn check_copy(&self, node: usize, copy: &Copying, last: &Piece) -> Result<(), Wrong> {
        let place = last.upto.place;
        if copy.rows != self.rows(place.index) {
            let text = format!("n{} has a copy that is not the table at {place}", node + 1);
            return Err(("I6", "another copy", text));
        }
        let held = self.truth.iter().take_while(|entry| entry.place <= place);
        let mut kept = held.filter(|entry| entry.place.index > last.floor);
        let forgotten =
            |entry: &&Entry| entry.what.op().is_some_and(|op| !copy.remembered.contains(&op));
        if let Some(entry) = kept.find(forgotten) {
            let text = format!("n{} has a copy as of {place} that forgets {entry}", node + 1);
            return Err(("I6", "a copy that forgets", text));
        }
        Ok(())
    }

    /// Whether a member's disk has this entry, as far as can be seen; one that is gone may have
    /// had it.
    fn holds(&self, member: &Member, place: Place, life: impl Fn(usize) -> Option<u64>) -> bool {
        let node = usize::from(member.node.0).wrapping_sub(1);
        let Some(known) = self.nodes.get(node) else { return false };
        let held = known.disk.get(&place.index) == Some(&place) || known.copied >= place.index;
        held || life(node) != Some(member.life.0)
    }

    // ---- what clients are told ------------------------------------------------------------

    fn on_asked(&mut self, op: OpId, node: usize, call: &Call) {
        if let Call::Join(wanted) = call {
            self.nodes[node].wanted.ask(op, *wanted);
        }
        let Call::Ask { command, seen, op: of, follow } = call else { return };
        let known = self.asked.entry(op).and_modify(|asked| asked.again = true);
        known.or_insert_with(|| Asked {
            command: command.clone(),
            of: of.unwrap_or(op),
            seen: *seen,
            acknowledged: self.acknowledged,
            again: false,
            is_local: !follow,
        });
    }

    /// Whoever is told that there is no such table any more has had nothing done there.
    fn on_answer_of_dropped(
        &mut self,
        op: OpId,
        asked: &Asked,
        outcome: &Outcome,
        marks: &mut Marks,
    ) -> Result<(), Wrong> {
        if matches!(outcome, Outcome::Refused(synod::Refusal::NoSuchTable(_))) {
            return self.on_refused(op, asked, Refusal::NotPrimary(None), marks);
        }
        Ok(())
    }

    /// A client is answered: what it is shown is so, and what it is told of is on disks.
    fn on_answer(
        &mut self,
        (op, node): (OpId, usize),
        outcome: &Outcome,
        marks: &mut Marks,
        life: impl Fn(usize) -> Option<u64>,
    ) -> Result<(), Wrong> {
        let Some(asked) = self.asked.get(&op).cloned() else { return Ok(()) };
        if self.dropped {
            return self.on_answer_of_dropped(op, &asked, outcome, marks);
        }
        match outcome {
            Outcome::Primary(Answer::Committed { place, existed }) => {
                self.on_committed(op, &asked, (*place, *existed), life)
            }
            Outcome::Primary(Answer::Found { value, place }) => {
                let Command::Get(key, level) = &asked.command else {
                    return Err(("I5", "another answer", format!("{op} is told of a key")));
                };
                if *level == ReadLevel::Dirty {
                    return Ok(());
                }
                self.check_place((op, node), &asked, *place)?;
                if self.value(key, place.index) != value.as_ref() {
                    let text = format!("{op} is shown {value:?} of {key} as of {place}");
                    return Err(("I12", "another value", text));
                }
                if *level == ReadLevel::Linearizable && place.index < asked.acknowledged {
                    let text =
                        format!("{op} is shown {place}; {} was acknowledged", asked.acknowledged);
                    let newer = self.entry(asked.acknowledged).map(|entry| entry.place.reign);
                    let rule = if newer > Some(place.reign) { "I8" } else { "I4" };
                    return Err((rule, "stale read", text));
                }
                Ok(())
            }
            Outcome::Primary(Answer::Rows { rows, more, place }) => {
                self.check_place((op, node), &asked, *place)?;
                let all = self.rows(place.index);
                let wanted: Vec<_> = all.into_iter().take(rows.len()).collect();
                let whole = *more || wanted.len() == self.rows(place.index).len();
                if *rows != wanted || !whole {
                    return Err((
                        "I12",
                        "other rows",
                        format!("{op} is shown other rows than at {place}"),
                    ));
                }
                Ok(())
            }
            Outcome::Refused(synod::Refusal::Primary(refusal)) => {
                self.on_refused(op, &asked, *refusal, marks)
            }
            Outcome::Chosen { .. }
            | Outcome::Done
            | Outcome::Found { .. }
            | Outcome::Keys { .. }
            | Outcome::Merged(_)
            | Outcome::Mismatch { .. }
            | Outcome::Primary(Answer::Done | Answer::Info(_))
            | Outcome::Refused(_)
            | Outcome::Removed { .. }
            | Outcome::Session(_)
            | Outcome::Status(_)
            | Outcome::Unknown
            | Outcome::Written { .. } => Ok(()),
        }
    }

    fn check_place(
        &mut self,
        (op, node): (OpId, usize),
        asked: &Asked,
        place: Place,
    ) -> Result<(), Wrong> {
        let is_known =
            place.index == 0 || self.entry(place.index).map(|it| it.place) == Some(place);
        if !is_known {
            return Err(("I3", "shown and never committed", format!("{op} is shown {place}")));
        }
        if place.index < asked.seen {
            let text = format!("{op} is shown {place}, and had seen {}", asked.seen);
            return Err(("I3", "a session goes back", text));
        }
        // What only the primary had on disk may be lost with it, if that is all that was promised.
        if asked.is_local && self.acknowledge != Acknowledge::Primary {
            let shown = &mut self.nodes[node].shown;
            if place.index < *shown {
                let text = format!("n{} shows {op} {place}, and had shown {shown}", node + 1);
                return Err(("I3", "shows less than before", text));
            }
            *shown = place.index;
        }
        Ok(())
    }

    /// I2, I4, I8: what is acknowledged is committed, and on the disks that count.
    fn on_committed(
        &mut self,
        op: OpId,
        asked: &Asked,
        (place, existed): (Place, bool),
        life: impl Fn(usize) -> Option<u64>,
    ) -> Result<(), Wrong> {
        let entry = self.entry(place.index).filter(|entry| entry.place == place);
        let fits = entry.is_some_and(|entry| match (&asked.command, &entry.what) {
            (Command::Put(key, value), What::Put(by, at, what)) => {
                *by == asked.of && at == key && what == value
            }
            (Command::Remove(key), What::Remove(by, at)) => *by == asked.of && at == key,
            (Command::Resolve, what) => what.op() == Some(asked.of),
            _ => false,
        });
        let Some(entry) = entry.filter(|_| fits) else {
            let text = format!("{op} {} is acknowledged at {place}", asked.command);
            return Err(("I4", "acknowledged and not committed", text));
        };
        if let What::Put(_, key, _) | What::Remove(_, key) = &entry.what
            && self.value(key, place.index - 1).is_some() != existed
        {
            let text =
                format!("{op} is told that {key} had {}a value", if existed { "" } else { "not " });
            return Err(("I12", "another value before it", text));
        }
        self.acknowledged = self.acknowledged.max(place.index);
        let Some((_, roster)) = &self.roster else { return Ok(()) };
        let holding = roster.in_sync.iter().filter(|it| self.holds(it, place, &life)).count();
        let enough = match self.acknowledge {
            Acknowledge::All => roster.in_sync.len(),
            Acknowledge::Primary => 1,
            Acknowledge::Quorum => roster.in_sync.len() / 2 + 1,
        };
        if holding < enough {
            let text =
                format!("{op} is acknowledged at {place}; {holding} of {roster} have it on disk");
            return Err(("I2", "acknowledged and not on disk", text));
        }
        Ok(())
    }

    fn on_refused(
        &mut self,
        op: OpId,
        asked: &Asked,
        refusal: Refusal,
        marks: &mut Marks,
    ) -> Result<(), Wrong> {
        if !asked.command.writes() {
            return Ok(());
        }
        if matches!(asked.command, Command::Resolve) {
            if refusal != Refusal::Resolved {
                return Ok(());
            }
            marks.hit(Mark::ResolvedUndone);
        } else if asked.again {
            // It speaks of this attempt alone.
            return Ok(());
        }
        let of = asked.of;
        let done = self.done.get(&of).and_then(|index| self.entry(*index));
        if let Some(entry) = done.filter(|entry| !matches!(entry.what, What::Resolve(_))) {
            let text = format!("{op} is refused ({refusal}), and {entry} is committed");
            return Err(("I5", "refused and yet done", text));
        }
        self.never.insert(of);
        Ok(())
    }

    // ---- after healing --------------------------------------------------------------------

    /// I9, I10: what is not yet as it must be among these nodes, if they have what it takes.
    fn unequal(
        &self,
        nodes: Nodes,
        is_there: bool,
        life: impl Fn(usize) -> Option<u64>,
    ) -> Option<Unequal> {
        let unequal = |text| Some(("I10", "replicas unequal", text));
        if self.listed.is_some() && !is_there {
            let mut known = self.nodes.iter().zip(1..).filter(|(_, node)| nodes.has(*node));
            let (_, node) = known.find(|(known, _)| known.stand.is_some())?;
            let text = format!("n{node} goes on with {}, which is dropped", self.register);
            return Some(("I10", "dropped and still there", text));
        }
        let Some((_, roster)) = &self.roster else {
            let mut known = self.nodes.iter().zip(1..).filter(|(_, node)| nodes.has(*node));
            let wanted = known.any(|(known, _)| known.stand.is_none_or(|stand| stand.wanted));
            return if wanted { unequal("nobody is primary".to_owned()) } else { None };
        };
        let is_here = |member: &&Member| {
            let node = usize::from(member.node.0).wrapping_sub(1);
            nodes.has(member.node.0) && life(node) == Some(member.life.0)
        };
        let there = roster.in_sync.iter().filter(is_here).count();
        let count = roster.in_sync.len();
        let needed = if self.acknowledge == Acknowledge::Quorum { count - count / 2 } else { 1 };
        if there < needed {
            // Nobody can be primary; who wants to be a replica asks the arbiter all the same.
            let mut known = self.nodes.iter().zip(1..).filter(|(_, node)| nodes.has(*node));
            let (_, node) = known.find(|(known, node)| {
                let is_named = roster.in_sync.iter().chain(&roster.joining);
                let is_out = !is_named.map(|member| member.node.0).any(|named| named == *node);
                known.stand.is_none_or(|stand| stand.wanted) && is_out
            })?;
            return unequal(format!("n{node} has not joined, says {roster}"));
        }
        let primary = self.nodes.iter().zip(1..).find(|(known, node)| {
            let stand = known.stand.filter(|_| nodes.has(*node));
            stand.is_some_and(|it| it.role == Role::Primary && it.reign == roster.reign)
        });
        if primary.is_none() {
            return unequal(format!("nobody is primary, says {roster}"));
        }
        if let Some(gone) = roster.in_sync.iter().find(|member| !is_here(member)) {
            return unequal(format!("{gone} is gone, and counts, says {roster}"));
        }
        // Who wants to leave goes on for as long as there is nobody else.
        let stand = |member: &Member| self.nodes[usize::from(member.node.0) - 1].stand;
        let leaves = |member: &&Member| stand(member).is_some_and(|it| !it.wanted);
        if let Some(leaving) = roster.in_sync.iter().find(leaves).filter(|_| count > 1) {
            let text = format!("{leaving} wants to leave, and counts, says {roster}");
            return Some(("I9", "counts though it left", text));
        }
        let counts = |node: u16| roster.in_sync.iter().any(|member| member.node.0 == node);
        let behind = self.nodes.iter().zip(1..).find(|(known, node)| {
            let at = known.stand.map_or(0, |stand| stand.committed.index);
            let is_behind = at < self.len() || !counts(*node);
            nodes.has(*node) && known.stand.is_none_or(|it| it.wanted) && is_behind
        });
        if self.truth.last().map(|entry| entry.place.reign) != Some(roster.reign) {
            return unequal(format!("nothing of {} is committed", roster.reign));
        }
        let (known, node) = behind?;
        let at = known.stand.map(|stand| stand.committed).unwrap_or_default();
        unequal(format!("n{node} is at {at}; {} entries are committed", self.len()))
    }
}

impl Oracle {
    /// Which table stands at this place of a node.
    fn seat(&self, node: usize, table: TableId) -> Option<usize> {
        let mut seats = self.seats.get(node)?.iter();
        seats.find(|(known, _)| *known == table).map(|(_, primary)| *primary)
    }

    /// Those that nodes are configured with stand at the same place of each.
    pub(super) fn seats(primary: &[Primary]) -> Vec<(TableId, usize)> {
        let declared = primary.iter().enumerate().filter(|(_, it)| it.listed.is_none());
        declared.map(|(place, it)| (it.table, place)).collect()
    }

    /// A node has a replica at this place of its tables, by this name. A place is never another's
    /// while the process lives.
    fn take_seat(&mut self, node: usize, table: TableId, name: TableName) -> Option<usize> {
        if let Some(place) = self.seat(node, table) {
            return Some(place);
        }
        let place = self.primary.iter().position(|primary| primary.name == name);
        let listed = place.and_then(|place| self.primary[place].listed.as_ref());
        let was = |(name, number): &(String, u64)| self.lists.had(name, *number).is_some();
        if !listed.is_some_and(was) {
            let text = format!("n{} has made a table at {table} that no list names", node + 1);
            self.breaks("W3", "made and not listed", text);
            return None;
        }
        self.seats[node].push((table, place?));
        place
    }

    /// How far a node's replica was when it was last looked at.
    #[cfg(not(madsim))]
    pub(crate) fn stand(&self, node: usize, table: TableId) -> Option<Stand> {
        self.primary[self.seat(node, table)?].nodes[node].stand
    }

    /// Whether a table is made while nodes run.
    pub(super) fn is_made(&self, table: TableId) -> bool {
        self.primary.iter().any(|primary| primary.table == table && primary.listed.is_some())
    }

    /// Whether any that was made is no more.
    pub(crate) fn is_any_dropped(&self) -> bool {
        self.primary.iter().any(|primary| primary.dropped)
    }

    /// A list of tables is chosen.
    pub(super) fn on_list_chosen(&mut self, cell: &Cell, marks: &mut Marks) {
        let Some(Content::Value(value)) = cell.live().map(|live| &live.content) else { return };
        let judged = self.lists.on_chosen(&String::from_utf8_lossy(value.as_bytes()));
        if let Err((rule, shape, text)) = judged {
            return self.breaks(rule, shape, text);
        }
        for (place, primary) in self.primary.iter_mut().enumerate() {
            let was_there = !primary.dropped;
            primary.on_list(&self.lists);
            let pending = |op: &OpId| {
                self.asked_of_primary.get(op) == Some(&place)
                    && primary.asked.get(op).is_some_and(|asked| asked.command.writes())
            };
            if was_there && primary.dropped && self.calls.iter().any(|call| pending(&call.op)) {
                marks.hit(Mark::DroppedPending);
            }
        }
    }

    /// A node's process begins.
    pub(super) fn forget_replicas(&mut self, node: usize) {
        self.seats[node] = Self::seats(&self.primary);
        for primary in &mut self.primary {
            primary.nodes[node].stand = None;
            primary.nodes[node].idle = None;
            primary.nodes[node].wanted.restart();
        }
    }

    /// A node's disk is gone.
    pub(super) fn lose_replicas(&mut self, node: usize) {
        for primary in &mut self.primary {
            primary.forget(node);
        }
    }

    pub(super) fn on_replica_record(&mut self, node: usize, table: TableName, record: &Record) {
        if let Some(primary) = self.primary.iter_mut().find(|primary| primary.name == table) {
            let (table, judged) = (primary.table, primary.on_record(node, record));
            // What became of it since it was dropped is not known.
            if !primary.dropped {
                self.judge(table, judged);
            }
        }
    }

    /// I5: how long a node may take to answer.
    pub(super) fn answer_within(&self, node: usize, command: &synod::Command) -> Nanos {
        let synod::Command::Primary { table, call: Call::Ask { follow: false, .. } } = command
        else {
            return Nanos::MAX;
        };
        let known = self.seat(node, *table);
        known.map_or(Nanos::MAX, |place| self.primary[place].answer_within)
    }

    /// A node's replica has taken a step that may leave something pending.
    #[cfg(not(madsim))]
    pub(crate) fn on_replica_pending(
        &mut self,
        node: usize,
        table: TableId,
        replica: &Replica,
        now: Nanos,
    ) {
        let Some(place) = self.seat(node, table) else { return };
        let primary = &mut self.primary[place];
        if !primary.dropped {
            let judged = primary.on_pending(node, replica, now);
            self.judge(table, judged);
        }
    }

    /// A node's replica has taken a step.
    pub(crate) fn on_replica_step(
        &mut self,
        who: (usize, u32),
        (table, name): (TableId, TableName),
        seat: &Seat,
        marks: &mut Marks,
    ) {
        let Some(place) = self.take_seat(who.0, table, name) else { return };
        let primary = &mut self.primary[place];
        if primary.dropped {
            primary.nodes[who.0].stand = Some(seat.stand);
            return;
        }
        let (table, judged) = (primary.table, primary.on_step(who, seat, marks));
        self.judge(table, judged);
    }

    /// A client asks a node, for the first time or again.
    pub(crate) fn on_primary_asked(
        &mut self,
        (op, node): (OpId, usize),
        table: TableId,
        call: &Call,
    ) {
        let seat = self.seat(node, table);
        if let Some(place) = seat {
            self.primary[place].on_asked(op, node, call);
            self.asked_of_primary.insert(op, place);
        } else {
            self.asked_of_primary.remove(&op);
        }
    }

    pub(super) fn on_primary_answer(
        &mut self,
        (op, node): (OpId, usize),
        outcome: &Outcome,
        marks: &mut Marks,
    ) {
        let Some(&place) = self.asked_of_primary.get(&op) else { return };
        let lives: Vec<Option<u64>> = self.truths.iter().map(|truth| truth.life).collect();
        let primary = &mut self.primary[place];
        primary.nodes[node].wanted.answer(op, outcome);
        let life = |node: usize| lives.get(node).copied().flatten();
        let judged = primary.on_answer((op, node), outcome, marks, life);
        let table = primary.table;
        self.judge(table, judged);
    }

    /// I9, I10: what of primary tables is not yet as it must be among these nodes.
    pub(crate) fn unequal_replicas(&self, nodes: Nodes) -> Option<Unequal> {
        let life = |node: usize| self.truths.get(node).and_then(|truth| truth.life);
        self.primary.iter().find_map(|primary| {
            let listed = primary.listed.as_ref();
            let is_there = listed.is_none_or(|(name, number)| self.lists.has(name, *number));
            let (rule, shape, text) = primary.unequal(nodes, is_there, life)?;
            Some((rule, shape, format!("{}: {text}", primary.table)))
        })
    }
}
