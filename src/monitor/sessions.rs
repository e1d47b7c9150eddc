//! This node's own session, and the client sessions hosted in it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::binding::Fact;
use crate::base::{ClientId, NodeId, SessionId};

/// Where this node's own session stands, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// None is known to be open; one must be opened before clients can be hosted.
    None,
    /// Open, and a quorum has heard this node lately.
    Open(u64),
    /// It was open, but no quorum has heard this node for so long that others may be closing it.
    /// It must be renewed, or found closed, before anybody relies on it again (M3).
    Suspended(u64),
}

/// The host's side of M4: it alone knows which of its client sessions go on.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    node: NodeId,
    standing: Standing,
    alive: BTreeMap<SessionId, ClientId>,
    next: u64,
}

impl Sessions {
    pub(crate) const fn new(node: NodeId) -> Self {
        Self { node, standing: Standing::None, alive: BTreeMap::new(), next: 1 }
    }

    pub(crate) const fn standing(&self) -> Standing {
        self.standing
    }

    pub(crate) fn len(&self) -> usize {
        self.alive.len()
    }

    /// The node session is open, or open again.
    pub(crate) fn open(&mut self, number: u64) {
        assert!(
            self.alive.is_empty() || self.number() == Some(number),
            "client sessions belong to one node session"
        );
        self.standing = Standing::Open(number);
    }

    pub(crate) fn suspend(&mut self) -> bool {
        let Standing::Open(number) = self.standing else {
            return false;
        };
        self.standing = Standing::Suspended(number);
        true
    }

    /// The node session is over, and every client session with it.
    pub(crate) fn lose(&mut self) -> Vec<(SessionId, ClientId)> {
        self.standing = Standing::None;
        core::mem::take(&mut self.alive).into_iter().collect()
    }

    /// The number of the node session, open or suspended.
    pub(crate) const fn number(&self) -> Option<u64> {
        match self.standing {
            Standing::None => None,
            Standing::Open(number) | Standing::Suspended(number) => Some(number),
        }
    }

    /// Hosts a new client session.
    pub(crate) fn host(&mut self, client: ClientId) -> Option<SessionId> {
        let Standing::Open(node_session) = self.standing else {
            return None;
        };
        let session = SessionId { host: self.node, node_session, number: self.next };
        self.next += 1;
        self.alive.insert(session, client);
        Some(session)
    }

    /// Hosts it no more; says whose it was.
    pub(crate) fn end(&mut self, session: SessionId) -> Option<ClientId> {
        self.alive.remove(&session)
    }

    /// Whose it is.
    pub(crate) fn owner(&self, session: SessionId) -> Option<ClientId> {
        self.alive.get(&session).copied()
    }

    pub(crate) fn clients(&self) -> impl Iterator<Item = (SessionId, ClientId)> {
        self.alive.iter().map(|(&session, &client)| (session, client))
    }

    /// Whether a session said to be hosted here goes on. One this process does not know has ended:
    /// every session it hosts is in its memory from birth to end, and dies with that memory. Of one
    /// it does know, it can only say so while the node session is open: while that is suspended,
    /// others may have closed it, and all that it hosts with it (M4).
    pub(crate) fn fact(&self, session: SessionId) -> Fact {
        debug_assert_eq!(session.host, self.node);
        match self.standing {
            _ if !self.alive.contains_key(&session) => Fact::Ended,
            Standing::Open(_) => Fact::Alive,
            Standing::None | Standing::Suspended(_) => Fact::Unknown,
        }
    }
}
