//! Heartbeats.

use core::fmt;

use bincode::{Decode, Encode};

use crate::base::Life;
use crate::monitor::NodeSession;

/// What nodes tell each other all the time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Message {
    /// I am here. The header says in which storage life.
    Heartbeat {
        /// Echoed by the answer, so that the sender knows how fresh that is.
        sequence: u64,
        /// The sender's own open session, if it has one.
        session: Option<u64>,
        /// Which list of primary tables the sender knows: the revision.
        tables: u64,
        /// Whether the sender knows that its storage is not the one that it is known by. A node
        /// that never heard of that one would take it for alive.
        lost: bool,
    },
    /// I hear you.
    HeartbeatAck {
        /// Of the heartbeat answered.
        sequence: u64,
        /// The storage life that is on record here of the node answered, durably. An answer to a
        /// life that is over may still be on its way to the next one.
        recorded: Life,
        /// What is known here to be chosen of the sender's session register.
        session: Option<NodeSession>,
    },
}

/// Heartbeats show their number within the process life, which is the low half.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heartbeat { sequence, session, tables, lost } => {
                write!(f, "Heartbeat {}", *sequence as u32)?;
                session.map_or(Ok(()), |session| write!(f, " session={session}"))?;
                if *tables > 0 {
                    write!(f, " tables={tables}")?;
                }
                if *lost { write!(f, " lost") } else { Ok(()) }
            }
            Self::HeartbeatAck { sequence, session, .. } => {
                write!(f, "HeartbeatAck {}", *sequence as u32)?;
                session.map_or(Ok(()), |session| write!(f, " session={session}"))
            }
        }
    }
}
