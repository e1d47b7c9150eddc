//! Who is the primary of a table and whose acknowledgement counts, as the arbiter holds it.
//!
//! The arbiter is a consensus register. Its content is a [`Roster`], fenced by the register's
//! version: every change names the version that it was made from, so of two changes made in
//! ignorance of each other one fails.
//!
//! Must never know: the register, messages, time, what a table contains.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use bincode::{Decode, Encode};

use crate::base::{Life, NodeId, Value};

/// The time for which one process life of one replica is primary, numbered from 1.
///
/// Everything that a primary says carries it, and whoever has written down a higher one refuses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Reign(pub u64);

impl Reign {
    /// Before any primary.
    pub const NONE: Self = Self(0);

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Reign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// A replica with its disk: one that has lost its disk is another member, and is owed nothing that
/// the one before it was trusted with (Z80).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// Which life of its storage.
    pub life: Life,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.life)
    }
}

/// Whose disks must hold a write before its client is told so. The primary's own
/// always must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Acknowledge {
    /// Everybody in sync. Any one of them can be the next primary.
    #[default]
    All,
    /// The primary alone: what it acknowledged last is lost if it is replaced.
    Primary,
    /// More than half of those in sync, so that a slow one does not count; a successor needs to
    /// hear of enough others to know which of them has everything.
    Quorum,
}

impl fmt::Display for Acknowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Primary => "primary",
            Self::Quorum => "quorum",
        })
    }
}

/// Text that says nothing of the kind that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegible;

impl FromStr for Acknowledge {
    type Err = Illegible;

    fn from_str(text: &str) -> Result<Self, Illegible> {
        match text {
            "all" => Ok(Self::All),
            "primary" => Ok(Self::Primary),
            "quorum" => Ok(Self::Quorum),
            _ => Err(Illegible),
        }
    }
}

impl Acknowledge {
    /// Up to where everything is held by enough of `set`, of whom each holds up to `position`.
    pub(super) fn held(
        self,
        set: &BTreeSet<Member>,
        primary: Member,
        position: impl Fn(Member) -> u64,
    ) -> u64 {
        let own = position(primary);
        let mut positions: Vec<u64> = set.iter().map(|member| position(*member)).collect();
        positions.sort_unstable_by_key(|position| core::cmp::Reverse(*position));
        let enough = match self {
            Self::All => positions.last().copied(),
            Self::Primary => None,
            Self::Quorum => positions.get(positions.len() / 2).copied(),
        };
        enough.map_or(own, |enough| enough.min(own))
    }

    /// How many of `count` members in sync must be heard, having sworn off the old primary, so that
    /// one of them holds all that was acknowledged.
    pub(super) const fn witnesses(self, count: usize) -> usize {
        match self {
            Self::All | Self::Primary => 1,
            // Any as many share a member with any quorum.
            Self::Quorum => count - count / 2,
        }
    }

    /// Whose word that they follow it proves to a primary that no other has been chosen: everybody
    /// in sync, unless more than one of them would have to be heard by a successor.
    pub(super) const fn of_proof(self) -> Self {
        match self {
            Self::All | Self::Primary => Self::All,
            Self::Quorum => Self::Quorum,
        }
    }
}

/// The arbiter's content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Roster {
    /// Which reign it is.
    pub reign: Reign,
    /// Whose.
    pub primary: Member,
    /// Whose disks must hold a write. What a node is configured with is what it asks for when it is
    /// primary; what counts is what is decided, so that all replicas mean the same.
    pub acknowledge: Acknowledge,
    /// Whose acknowledgement counts, the primary among them, and who alone can succeed it.
    pub in_sync: BTreeSet<Member>,
    /// Who is catching up.
    pub joining: BTreeSet<Member>,
}

impl Roster {
    /// Of a table that nobody has asked for before.
    pub(super) fn founded_by(me: Member, acknowledge: Acknowledge) -> Self {
        let in_sync = BTreeSet::from([me]);
        Self { reign: Reign(1), primary: me, acknowledge, in_sync, joining: BTreeSet::new() }
    }

    /// As the arbiter holds it: text, so that people can read it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::from(format!("{self}").as_str())
    }

    /// What the arbiter holds; `None` if it is no roster.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let roster: Self = core::str::from_utf8(value.as_bytes()).ok()?.parse().ok()?;
        roster.is_sound().then_some(roster)
    }

    /// Whether it is a roster at all: whatever the arbiter contains is read as if by a stranger.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.reign > Reign::NONE
            && self.in_sync.contains(&self.primary)
            && self.in_sync.is_disjoint(&self.joining)
    }

    /// Whether this member is named at all.
    #[must_use]
    pub fn has(&self, member: &Member) -> bool {
        self.in_sync.contains(member) || self.joining.contains(member)
    }

    /// Everybody named.
    pub(super) fn members(&self) -> impl Iterator<Item = Member> {
        self.in_sync.iter().chain(&self.joining).copied()
    }

    /// With one more who catches up. Other lives of its node are not coming back to that.
    pub(super) fn joined_by(&self, member: Member) -> Self {
        let mut next = self.clone();
        next.joining.retain(|other| other.node != member.node);
        next.joining.insert(member);
        next
    }

    /// With these counted, and those no more.
    pub(super) fn changed(&self, caught_up: &BTreeSet<Member>, gone: &BTreeSet<Member>) -> Self {
        let mut next = self.clone();
        next.in_sync.extend(caught_up.intersection(&self.joining));
        next.joining.retain(|member| !caught_up.contains(member) && !gone.contains(member));
        next.in_sync.retain(|member| !gone.contains(member) || *member == self.primary);
        next
    }

    /// The next reign, of whoever an operator says: nobody who counted has a disk any more.
    pub(super) fn forced_by(&self, primary: Member) -> Self {
        let in_sync = BTreeSet::from([primary]);
        let (reign, joining) = (self.reign.next(), BTreeSet::new());
        Self { reign, primary, acknowledge: self.acknowledge, in_sync, joining }
    }

    /// The next reign. Who is `gone` counts no more, unless it takes them to make the majority that
    /// holds what was acknowledged.
    pub(super) fn succeeded_by(&self, primary: Member, gone: impl Fn(&Member) -> bool) -> Self {
        assert!(self.in_sync.contains(&primary), "who is not in sync may lack what was promised");
        let mut next = Self { reign: self.reign.next(), primary, ..self.clone() };
        if self.acknowledge != Acknowledge::Quorum {
            next.in_sync.retain(|member| *member == primary || !gone(member));
        }
        next
    }
}

impl fmt::Display for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}, in sync", self.reign, self.primary, self.acknowledge)?;
        self.in_sync.iter().try_for_each(|member| write!(f, " {member}"))?;
        if !self.joining.is_empty() {
            write!(f, ", joining")?;
        }
        self.joining.iter().try_for_each(|member| write!(f, " {member}"))
    }
}

impl FromStr for Member {
    type Err = Illegible;

    fn from_str(text: &str) -> Result<Self, Illegible> {
        let (node, life) =
            text.strip_prefix('n').ok_or(Illegible)?.split_once('.').ok_or(Illegible)?;
        let node = NodeId(node.parse().map_err(|_| Illegible)?);
        Ok(Self { node, life: Life(life.parse().map_err(|_| Illegible)?) })
    }
}

/// What [`fmt::Display`] says.
impl FromStr for Roster {
    type Err = Illegible;

    fn from_str(text: &str) -> Result<Self, Illegible> {
        let mut parts = text.split(", ");
        let mut words = parts.next().ok_or(Illegible)?.split(' ');
        let mut word = || words.next().ok_or(Illegible);
        let reign = word()?.strip_prefix('p').ok_or(Illegible)?;
        let reign = Reign(reign.parse().map_err(|_| Illegible)?);
        let (primary, acknowledge) = (word()?.parse()?, word()?.parse()?);
        let members = |part: &str, name: &str| {
            let mut words = part.strip_prefix(name).ok_or(Illegible)?.split(' ');
            let begins = words.next() == Some("");
            let members: Result<BTreeSet<Member>, _> = words.map(str::parse).collect();
            if begins { members } else { Err(Illegible) }
        };
        let in_sync = members(parts.next().ok_or(Illegible)?, "in sync")?;
        let joining = parts.next().map_or(Ok(BTreeSet::new()), |part| members(part, "joining"))?;
        if word().is_ok() || parts.next().is_some() {
            return Err(Illegible);
        }
        Ok(Self { reign, primary, acknowledge, in_sync, joining })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u16) -> Member {
        Member { node: NodeId(node), life: Life(u64::from(node)) }
    }

    fn set(nodes: &[u16]) -> BTreeSet<Member> {
        nodes.iter().map(|node| member(*node)).collect()
    }

    /// who has to hold a write under each policy.
    #[test]
    fn what_is_held_depends_on_the_policy() {
        let position = |positions: &'static [u64]| {
            move |member: Member| positions[usize::from(member.node.0) - 1]
        };
        let held = |policy: Acknowledge, positions: &'static [u64]| {
            let nodes: Vec<u16> = (1..=positions.len() as u16).collect();
            policy.held(&set(&nodes), member(1), position(positions))
        };
        assert_eq!(held(Acknowledge::All, &[9, 7, 3]), 3);
        assert_eq!(held(Acknowledge::Quorum, &[9, 7, 3]), 7);
        assert_eq!(held(Acknowledge::Quorum, &[9, 7, 3, 2]), 3);
        assert_eq!(held(Acknowledge::Primary, &[9, 7, 3]), 9);
        for policy in [Acknowledge::All, Acknowledge::Primary, Acknowledge::Quorum] {
            assert_eq!(held(policy, &[2, 7, 7]), 2, "the primary's own disk always counts");
            assert_eq!(held(policy, &[5]), 5);
        }
    }

    /// Whatever set holds a write, whoever is heard of a successor's witnesses shares a member.
    #[test]
    fn witnesses_meet_every_quorum() {
        for count in 1..9 {
            let quorum = count / 2 + 1;
            assert!(quorum + Acknowledge::Quorum.witnesses(count) > count);
            assert!(
                quorum + Acknowledge::Quorum.witnesses(count) - 1 <= count,
                "no more than that"
            );
        }
    }

    /// Z78, Z80: neither who catches up nor another life of a node can be elected.
    #[test]
    #[should_panic(expected = "not in sync")]
    fn who_is_not_in_sync_does_not_succeed() {
        let roster = Roster::founded_by(member(1), Acknowledge::All).joined_by(member(2));
        let _ = roster.succeeded_by(member(2), |_| false);
    }

    #[test]
    fn a_majority_keeps_its_dead_until_the_living_hold_everything() {
        let succeeded = |acknowledge| {
            let mut roster = Roster::founded_by(member(1), acknowledge);
            roster.in_sync = set(&[1, 2, 3]);
            let next = roster.succeeded_by(member(2), |gone| *gone == member(1));
            (next.reign, next.in_sync)
        };
        assert_eq!(succeeded(Acknowledge::All), (Reign(2), set(&[2, 3])));
        assert_eq!(succeeded(Acknowledge::Quorum), (Reign(2), set(&[1, 2, 3])));
    }

    /// What the arbiter holds is read as if a stranger had written it.
    #[test]
    fn a_roster_is_what_its_text_says() {
        let mut roster = Roster::founded_by(member(7), Acknowledge::Quorum);
        let text = "p1 n7.7 quorum, in sync n7.7";
        assert_eq!(roster.to_value(), Value::from(text));
        assert_eq!(Roster::from_value(&Value::from(text)), Some(roster.clone()));
        (roster.in_sync, roster.joining) = (set(&[2, 7]), set(&[3, 4]));
        assert_eq!(Roster::from_value(&roster.to_value()), Some(roster));
        for wrong in [
            "",
            "p1 n7.7 quorum",
            "p0 n7.7 quorum, in sync n7.7",
            "p1 n7.7 most, in sync n7.7",
            "p1 n7.7 all, in sync n8.7",
            "p1 n7.7 all, in syncn7.7",
            "p1 n7.7 all, in sync n7.7, joining n7.7",
            "p1 n7.7 all, in sync n7.7, joining n8.7, n9.7",
            "p1 n7.7 all more, in sync n7.7",
            "p1 n70000.7 all, in sync n70000.7",
        ] {
            assert_eq!(Roster::from_value(&Value::from(wrong)), None, "{wrong}");
        }
    }
}
