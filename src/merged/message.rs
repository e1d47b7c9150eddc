//! What copies of a table say to each other.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use bincode::{Decode, Encode};

use super::circle::Circle;
use super::schema::Agreement;
use super::table::Row;
use super::version::{Actor, Dot, Stamp, Version, VersionVector};
use crate::base::{Life, NodeId, TableName, Wall};

/// What a copy says, and about which table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Message {
    /// Which table.
    pub table: TableName,
    /// What.
    pub body: Body,
}

/// What a copy says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Body {
    /// Some of what was asked for.
    Chunk(Chunk),
    /// What this copy has; said again and again.
    Digest(Digest),
    /// Let me have what I have not.
    Pull(Pull),
    /// What was just written here. One version for each dot, without a gap.
    Push(Vec<(Row, Version)>),
    /// I have forgotten what you would need: ask for everything.
    Resync {
        /// Of the question answered.
        session: u64,
    },
}

/// What a copy has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Digest {
    /// What others must have in common with it.
    pub agreement: Agreement,
    /// Which copy.
    pub actor: Actor,
    /// What it has seen, durably.
    pub seen: VersionVector,
    /// Of what it has forgotten whatever lost.
    pub stable: VersionVector,
    /// The how many-th of this process. What comes late is no news.
    pub number: u64,
    /// The last one of the receiver's that came.
    pub heard: u64,
    /// Which replicas it takes into account before it forgets anything, itself among them, in
    /// order; and which copy of each, if it has heard one.
    pub counting: Vec<(NodeId, Option<Actor>)>,
    /// With whom it goes on.
    pub circle: Box<Circle>,
    /// Whom of those it takes into account it has not heard for the retention.
    pub missed: Vec<NodeId>,
    /// What the clock shows there.
    pub wall: Wall,
    /// Whether the copies are merged.
    pub stance: Stance,
    /// Whether it is comparing itself in full with the receiver. If that forgot anything meanwhile,
    /// it would have to begin again.
    pub compares: bool,
    /// The latest write of the receiver's that is held here, and its stamp: so that a receiver
    /// that was put back to an earlier state finds out if it has named another write the same.
    pub yours: Option<(Dot, Stamp)>,
}

/// Whether a copy merges with another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Stance {
    /// It does not: both were written to, and the strategy is to leave them apart.
    Apart,
    /// It does.
    #[default]
    Merged,
    /// It does, since it was told to; and so shall the other.
    Told,
}

/// A question for versions. The answer needs no memory of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Pull {
    /// Told apart from other questions of the asker by this.
    pub session: u64,
    /// As whom the asker takes what it is sent.
    pub by: Actor,
    /// What the asker has seen.
    pub have: VersionVector,
    /// What it needs not be sent, or has been sent already.
    pub got: VersionVector,
    /// Whether it asks for everything, to compare with what it holds.
    pub full: bool,
    /// How many bytes of versions the answer may have, unless a single version has more.
    pub most: u32,
}

/// Part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Chunk {
    /// Of the question.
    pub session: u64,
    /// Which copy answers. One that has begun anew may lack what is in earlier parts.
    pub actor: Actor,
    /// What the question said was got already.
    pub after: VersionVector,
    /// Versions that are held here and not among those.
    pub versions: Vec<(Row, Version)>,
    /// What the asker has got then. If this is the last chunk, all that was seen here.
    pub upto: VersionVector,
    /// Whether nothing more is held here that the asker has not got.
    pub complete: bool,
    /// Of what the answerer has forgotten whatever lost.
    pub stable: VersionVector,
    /// With whom the answerer goes on.
    pub circle: Circle,
}

impl Chunk {
    /// About how many bytes its versions take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.versions.iter().map(super::exchange::size).sum()
    }
}

impl Message {
    /// Whether it can come from that storage of that node.
    #[must_use]
    pub fn is_of(&self, node: NodeId, life: Life) -> bool {
        match &self.body {
            Body::Chunk(Chunk { actor, .. }) | Body::Digest(Digest { actor, .. }) => {
                actor.node == node && actor.life == life
            }
            Body::Pull(_) | Body::Push(_) | Body::Resync { .. } => true,
        }
    }
}

impl Body {
    /// Whether a copy that keeps the rules can say this: no number is one that nobody comes to, and
    /// nothing is forgotten that was not seen.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let sound = |versions: &[(Row, Version)]| versions.iter().all(|(_, v)| v.is_sound());
        match self {
            Self::Chunk(Chunk { after, versions, upto, complete, stable, circle, .. }) => {
                [after, upto, stable].iter().all(|dots| dots.is_sound())
                    && sound(versions)
                    && circle.is_sound()
                    && (!complete || upto.covers(stable))
            }
            Self::Digest(Digest { seen, stable, circle, .. }) => {
                seen.is_sound() && seen.covers(stable) && circle.is_sound()
            }
            Self::Pull(pull) => pull.have.is_sound() && pull.got.is_sound(),
            // What a client wrote is pushed, and that is written for the first time.
            Self::Push(versions) => {
                sound(versions) && versions.iter().all(|(_, version)| version.first.is_none())
            }
            Self::Resync { .. } => true,
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Chunk(chunk) => {
                write!(f, "Chunk")?;
                versions(f, &chunk.versions)?;
                write!(f, " upto={}{}", chunk.upto, if chunk.complete { " all" } else { "" })
            }
            Body::Digest(digest) => {
                write!(f, "Digest seen={}", digest.seen)?;
                if digest.stable.is_empty() {
                    Ok(())
                } else {
                    write!(f, " stable={}", digest.stable)
                }
            }
            Body::Pull(pull) => {
                write!(f, "Pull got={}{}", pull.got, if pull.full { " full" } else { "" })
            }
            Body::Push(pushed) => {
                write!(f, "Push")?;
                versions(f, pushed)
            }
            Body::Resync { .. } => write!(f, "Resync"),
        }
    }
}

fn versions(f: &mut fmt::Formatter<'_>, versions: &[(Row, Version)]) -> fmt::Result {
    versions.iter().try_for_each(|(row, version)| write!(f, " {row}={version}"))
}
