//! What clients ask of a primary table, and what they are told.
//!
//! Must never know: replicas, messages, how an answer is found.

use core::fmt;
use core::time::Duration;

use bincode::{Decode, Encode};

use super::log::Place;
use crate::base::{Key, NodeId, OpId, Value};

/// One thing asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Ask {
    /// Who asks, by which number: ids of different clients never collide. One request is
    /// answered once for each time that it is asked after its answer, and done at most once.
    pub op: OpId,
    /// The latest place that the client has been shown: it is never shown an earlier state. Of a
    /// request that is asked again, the one from before it was asked first.
    pub seen: u64,
    /// Whether it may have been asked before, here or elsewhere.
    pub again: bool,
    /// What is asked.
    pub command: Command,
}

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Command {
    /// Read a key.
    Get(Key, ReadLevel),
    /// Set a key's value, whatever it was.
    Put(Key, Value),
    /// Remove a key, also one that is not there.
    Remove(Key),
    /// Say what became of an earlier write with this very id, and if nothing has, see to it that
    /// nothing will.
    Resolve,
}

/// Which state a read may show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ReadLevel {
    /// What this replica knows to be committed, not before what the client has seen. Any replica
    /// answers.
    #[default]
    Committed,
    /// The latest that this replica has heard of, which may never be committed.
    Dirty,
    /// What is committed at a moment of the call. Only a primary answers, once it has proved that
    /// it still is.
    Linearizable,
}

/// The one answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Outcome {
    /// Of a write: everybody whose acknowledgement the table asks for has it on disk.
    Committed {
        /// Where. What the client has seen from now on.
        place: Place,
        /// Whether there was a value before it.
        existed: bool,
    },
    /// Of a read.
    Found {
        /// What the key had.
        value: Option<Value>,
        /// As of where. What the client has seen from now on.
        place: Place,
    },
    /// It has had no effect and will have none.
    Rejected(Refusal),
    /// Of a write: not confirmed in time. It may have been done, may yet be, or may never be;
    /// `Resolve` tells.
    Unknown,
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Refusal {
    /// There is more to do than may wait here. Come back after about this time.
    Busy(Duration),
    /// What the client has seen elsewhere has not come here in time, or a primary could not prove
    /// that it still is one.
    NotInTime,
    /// Only the primary does this. It is this node, if that is known.
    NotPrimary(Option<NodeId>),
    /// This node holds no copy of the table now. The primary is this node, if that is known.
    NotReplica(Option<NodeId>),
    /// This replica has not learned in time what it is to be.
    NotReady,
    /// Its client has had it resolved before it was done.
    Resolved,
    /// Key and value are longer than the table takes.
    TooLarge,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |f: &mut fmt::Formatter<'_>, primary: &Option<NodeId>| match primary {
            None => f.write_str("; the primary is not known"),
            Some(node) => write!(f, "; the primary is {node}"),
        };
        match self {
            Self::Busy(after) => write!(f, "busy; try again after {} ms", after.as_millis()),
            Self::NotInTime => f.write_str("not confirmed in time; ask again, or another replica"),
            Self::NotPrimary(primary) => {
                f.write_str("not the primary")?;
                at(f, primary)
            }
            Self::NotReplica(primary) => {
                f.write_str("no copy of the table here")?;
                at(f, primary)
            }
            Self::NotReady => f.write_str("the arbiter has not said in time what this replica is"),
            Self::Resolved => f.write_str("resolved as not done before it arrived"),
            Self::TooLarge => f.write_str("key and value are too long for this table"),
        }
    }
}
