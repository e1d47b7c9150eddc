//! Who wrote what, and what the writer had seen: dots, version vectors, stamps.
//!
//! Must never know: tables, peers, strategies.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use bincode::de::{BorrowDecode, BorrowDecoder, Decoder};
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use super::field::Field;
use crate::base::{Incarnation, Life, NodeId, Value, Wall};

/// One life of one node's copy of a table. A copy on disk lives as long as the disk; one in memory
/// as long as the process. Whatever a copy forgets, it forgets under a name that is never used
/// again, so no [`Dot`] is given out twice (Z69).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Actor {
    /// Whose copy.
    pub node: NodeId,
    /// In which storage life.
    pub life: Life,
    /// In which process life it was begun.
    pub incarnation: Incarnation,
    /// How often it has begun anew since, having been given up by the others.
    pub anew: u16,
}

impl Actor {
    /// As whom this copy begins anew; nothing if it has done so as often as it can.
    pub(crate) fn next(self) -> Option<Self> {
        Some(Self { anew: self.anew.checked_add(1)?, ..self })
    }
}

/// Names one write, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Dot {
    /// Who wrote.
    pub actor: Actor,
    /// Its how many-th write to the table, from 1.
    pub number: u64,
}

/// No copy comes to as many writes. A number beyond this is no copy's that keeps the rules; taken
/// for true, it would leave none for the next write of who is named.
const NUMBER_MAX: u64 = 1 << 62;

/// A set of dots that holds, with each dot, all earlier ones of its actor.
///
/// Order of [`Actor`]s, without zeros: equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode)]
pub struct VersionVector(Vec<(Actor, u64)>);

impl VersionVector {
    /// No dots.
    pub const EMPTY: Self = Self(Vec::new());

    fn place(&self, actor: &Actor) -> Result<usize, usize> {
        self.0.binary_search_by(|(found, _)| found.cmp(actor))
    }

    /// The latest number of this actor; zero if there is none.
    #[must_use]
    pub fn last(&self, actor: &Actor) -> u64 {
        self.place(actor).map_or(0, |place| self.0[place].1)
    }

    /// Whether the dot is among them.
    #[must_use]
    pub fn contains(&self, dot: &Dot) -> bool {
        dot.number <= self.last(&dot.actor)
    }

    /// Whether all of the other's are among them.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(actor, last)| *last <= self.last(actor))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether copies that keep the rules can have written them.
    pub(crate) fn is_sound(&self) -> bool {
        self.0.iter().all(|(_, number)| *number <= NUMBER_MAX)
    }

    /// Adds a dot and all earlier ones of its actor.
    pub fn insert(&mut self, dot: Dot) {
        if dot.number == 0 {
            return;
        }
        match self.place(&dot.actor) {
            Ok(place) => self.0[place].1 = self.0[place].1.max(dot.number),
            Err(place) => self.0.insert(place, (dot.actor, dot.number)),
        }
    }

    /// Adds the other's.
    pub fn join(&mut self, other: &Self) {
        for &(actor, number) in &other.0 {
            self.insert(Dot { actor, number });
        }
    }

    /// Leaves out these dots, and all later ones of their actors.
    pub(crate) fn limit(&mut self, without: &[Dot]) {
        for (actor, last) in &mut self.0 {
            let dots = without.iter().filter(|dot| dot.actor == *actor);
            *last = dots.map(|dot| dot.number - 1).fold(*last, u64::min);
        }
        self.0.retain(|(_, last)| *last > 0);
    }

    /// What both hold.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let common = self.0.iter().map(|(actor, last)| (*actor, (*last).min(other.last(actor))));
        Self(common.filter(|(_, last)| *last > 0).collect())
    }

    /// Each actor with its latest number, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Actor, u64)> {
        self.0.iter().copied()
    }
}

impl FromIterator<Dot> for VersionVector {
    fn from_iter<T: IntoIterator<Item = Dot>>(dots: T) -> Self {
        let mut vector = Self::EMPTY;
        dots.into_iter().for_each(|dot| vector.insert(dot));
        vector
    }
}

/// Whatever the bytes say, what is decoded is ordered and has no actor twice.
impl<Context> Decode<Context> for VersionVector {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut entries = Vec::<(Actor, u64)>::decode(decoder)?;
        entries.retain(|(_, number)| *number > 0);
        entries.sort_unstable();
        // Of an actor named twice, the later number counts: that is the last one in order.
        entries.reverse();
        entries.dedup_by_key(|(actor, _)| *actor);
        entries.reverse();
        Ok(Self(entries))
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for VersionVector {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// When a version was written: a hybrid of wall clock and causality, kept for each row by itself.
///
/// A version that replaces another is always stamped later, whatever the clocks say (M-06). Between
/// concurrent ones it is as good as the clocks: it breaks ties and decides nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Stamp {
    /// The writer's wall clock, or that of what it replaced, if later.
    pub wall: Wall,
    /// Tells apart what one reading of the clock cannot.
    pub logical: u32,
}

impl Stamp {
    /// The stamp of a write at `wall` that replaces something stamped `self`.
    #[must_use]
    pub fn next(self, wall: Wall) -> Self {
        if wall > self.wall {
            return Self { wall, logical: 0 };
        }
        match self.logical.checked_add(1) {
            Some(logical) => Self { wall: self.wall, logical },
            None => Self { wall: Wall(self.wall.0.saturating_add(1)), logical: 0 },
        }
    }
}

/// How a version came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Origin {
    /// A client wrote it where it could not be known what others had settled and forgotten: on a
    /// copy that had just begun, or that was away for longer than tombstones wait. No removal that
    /// it does not replace takes it away, since another copy may have forgotten that removal; and
    /// if it is a removal, it takes away only what it replaces.
    Late,
    /// A resolver made it of others, on a copy that knew of all that was settled. Of those that
    /// collide the latest stays, without asking a resolver again, so that resolving ends.
    Resolved,
    /// A client wrote it.
    Written,
}

/// What a version says of its row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Content {
    /// That nothing is there: a tombstone.
    Dead,
    /// That this is there.
    Live(Value),
}

/// What one write made of one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Version {
    /// Which write.
    pub dot: Dot,
    /// Of the row's earlier versions, at least those that a copy may still hold: this one replaces
    /// them. Emptied once no copy can hold any.
    pub past: VersionVector,
    /// When.
    pub stamp: Stamp,
    /// How.
    pub origin: Origin,
    /// What.
    pub content: Content,
    /// What decides about it, if the table's strategy goes by a [`Field`](super::Field) that is not
    /// simply a piece of the value.
    pub field: Option<Value>,
    /// If it is another writing of what was written before: by which name that was written first.
    pub first: Option<Box<Dot>>,
}

impl Version {
    /// Whether a copy that keeps the rules can have written it.
    pub(crate) fn is_sound(&self) -> bool {
        let is_one = |dot: &Dot| (1..=NUMBER_MAX).contains(&dot.number);
        is_one(&self.dot)
            && self.past.is_sound()
            && !self.past.contains(&self.dot)
            && self.first.as_deref().is_none_or(|first| is_one(first) && *first != self.dot)
    }

    /// Which write it is. All writings of one have that in common, so who knows one of them knows
    /// them all.
    #[must_use]
    pub fn write(&self) -> Dot {
        self.first.as_deref().copied().unwrap_or(self.dot)
    }

    /// The writes of its row that its writer knew, and it.
    pub(crate) fn known(&self) -> VersionVector {
        let mut known = self.past.clone();
        known.insert(self.dot);
        known.insert(self.write());
        known
    }

    /// Another writing of it, as late. What has no name yet is written for the first time.
    pub(crate) fn again(self, dot: Dot, past: VersionVector) -> Self {
        let first = Some(self.write()).filter(|write| write.number > 0).map(Box::new);
        Self { dot, past, origin: Origin::Late, first, ..self }
    }

    /// A removal that says of what it is another writing of that it is over, wherever any writing
    /// of that is and comes to.
    pub(crate) fn removal(&self, dot: Dot) -> Self {
        let past = VersionVector::from_iter([self.write()]);
        let (stamp, origin, content) = (self.stamp.next(Wall(0)), Origin::Late, Content::Dead);
        Self { dot, past, stamp, origin, content, field: None, first: None }
    }

    /// Whether all that it names is among these.
    pub(crate) fn is_among(&self, seen: &VersionVector) -> bool {
        seen.contains(&self.dot) && seen.covers(&self.past) && seen.contains(&self.write())
    }

    /// Whether this was written in knowledge of `other`, a version of the same row.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        self.past.contains(&other.dot)
    }

    /// Whether `other` is another writing of what this was written in knowledge of, and which it
    /// cannot have replaced by name. It is over, but stays beside this until both are stable: it
    /// may have replaced what this knew nothing of. Of two that each learnt of the other's write as
    /// one that nobody is shown, neither is over by the other.
    pub(crate) fn outdates(&self, other: &Self) -> bool {
        let (this, that) = (self.write(), other.write());
        other.first.is_some()
            && this != that
            && self.past.contains(&that)
            && !other.past.contains(&this)
    }

    /// What is there, unless it is a tombstone.
    #[must_use]
    pub const fn value(&self) -> Option<&Value> {
        match &self.content {
            Content::Dead => None,
            Content::Live(value) => Some(value),
        }
    }

    /// What decides about it where the table's strategy goes by this field.
    pub(crate) fn decisive(&self, field: &Field) -> Option<&[u8]> {
        match &self.field {
            Some(found) => Some(found.as_bytes()),
            None => field.read(self.value()?),
        }
    }

    /// Later first by clock; never equal for different versions.
    pub(crate) const fn rank(&self) -> (Stamp, Dot) {
        (self.stamp, self.dot)
    }
}

/// Puts a version among the versions of its row that do not replace each other, which are kept in
/// the order of their dots. Returns whether it is one of them now, and those that it replaced.
///
/// The result depends on the set of versions put in alone, not on their order or number (C5).
pub(crate) fn join(versions: &mut Vec<Version>, version: Version) -> (bool, Vec<Version>) {
    if versions.iter().any(|known| known.dot == version.dot || known.replaces(&version)) {
        return (false, Vec::new());
    }
    let (replaced, mut kept): (Vec<Version>, Vec<Version>) =
        core::mem::take(versions).into_iter().partition(|known| version.replaces(known));
    let place = kept.partition_point(|known| known.dot < version.dot);
    // Nearly every row holds one version; room for more would be most of what a copy takes.
    kept.reserve_exact(1);
    kept.insert(place, version);
    *versions = kept;
    (true, replaced)
}

/// Whether one of the versions of a row is over, though none of the others replaces it by name.
pub(crate) fn is_outdated(version: &Version, among: &[Version]) -> bool {
    version.first.is_some() && among.iter().any(|other| other.outdates(version))
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.node.0)?;
        if self.incarnation.0 > 0 {
            write!(f, "i{}", self.incarnation.0)?;
        }
        if self.anew > 0 { write!(f, "a{}", self.anew) } else { Ok(()) }
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.actor, self.number)
    }
}

impl fmt::Display for VersionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (place, (actor, number)) in self.iter().enumerate() {
            write!(f, "{}{actor}.{number}", if place == 0 { "" } else { " " })?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Dead => write!(f, "dead @{}", self.dot),
            Content::Live(value) => write!(f, "{value} @{}", self.dot),
        }
    }
}
