//! What nodes ask each other about the sessions they host.

use alloc::vec::Vec;
use core::fmt;

use bincode::{Decode, Encode};

use crate::base::SessionId;

/// A question to the host of sessions, or its answer. Level-triggered: asked again for as long as
/// something is bound to them, so a lost answer costs time and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Message {
    /// Do these go on?
    AskSessions(Vec<SessionId>),
    /// Those asked about that have ended (`true`) and that have not, as their host knows.
    Sessions(Vec<(SessionId, bool)>),
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AskSessions(sessions) => {
                write!(f, "AskSessions")?;
                sessions.iter().try_for_each(|session| write!(f, " {session}"))
            }
            Self::Sessions(sessions) => {
                write!(f, "Sessions")?;
                sessions.iter().try_for_each(|(session, ended)| {
                    write!(f, " {session}={}", if *ended { "ended" } else { "alive" })
                })
            }
        }
    }
}
