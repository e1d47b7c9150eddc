//! Heartbeats.

use core::fmt;

use bincode::{Decode, Encode};

use crate::monitor::NodeSession;

/// What nodes tell each other all the time.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// I am here. The header says in which storage life.
    Heartbeat {
        /// Echoed by the answer, so that the sender knows how fresh that is.
        sequence: u64,
        /// The sender's own open session, if it has one.
        session: Option<u64>,
    },
    /// I hear you.
    HeartbeatAck {
        /// Of the heartbeat answered.
        sequence: u64,
        /// Whether the sender's storage life is on record here, durably.
        witness: Witness,
        /// What is known here to be chosen of the sender's session register.
        session: Option<NodeSession>,
    },
}

/// What a peer has on record of a node's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Witness {
    /// Another storage life: the one asking is a replacement of a lost one.
    Other,
    /// This storage life, durably.
    Recorded,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heartbeat { sequence, session } => {
                write!(f, "Heartbeat {sequence}")?;
                session.map_or(Ok(()), |session| write!(f, " session={session}"))
            }
            Self::HeartbeatAck { sequence, witness, session } => {
                let witness = match witness {
                    Witness::Other => "other",
                    Witness::Recorded => "recorded",
                };
                write!(f, "HeartbeatAck {sequence} {witness}")?;
                session.map_or(Ok(()), |session| write!(f, " session={session}"))
            }
        }
    }
}
