//! The sessions whose clients this host watches, and how long each outlives its client.
//!
//! Must never know: what is bound to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{ClientId, Instant, SessionId};

/// Every session that the node has asked to watch.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    watched: BTreeMap<SessionId, Watched>,
    owners: BTreeSet<(ClientId, SessionId)>,
    ending: BTreeSet<(Instant, SessionId)>,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    /// Who opened it; a secret between that client and this host.
    opener: ClientId,
    owner: ClientId,
    until: Option<Instant>,
}

impl Sessions {
    /// `until` is when it ends, if its client is already gone.
    pub(super) fn watch(&mut self, session: SessionId, client: ClientId, until: Option<Instant>) {
        self.watched.insert(session, Watched { opener: client, owner: client, until });
        self.owners.insert((client, session));
        self.ending.extend(until.map(|until| (until, session)));
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        if let Some(Watched { owner, until, .. }) = self.watched.remove(&session) {
            self.owners.remove(&(owner, session));
            until.map(|until| self.ending.remove(&(until, session)));
        }
    }

    /// Gives it to another client, which knows who opened it.
    pub(super) fn attach(&mut self, session: SessionId, opener: ClientId, to: ClientId) -> bool {
        match self.watched.get(&session) {
            Some(watched) if watched.opener == opener => {}
            Some(_) | None => return false,
        }
        self.forget(session);
        self.watched.insert(session, Watched { opener, owner: to, until: None });
        self.owners.insert((to, session));
        true
    }

    /// The client is gone: what it has ends at `until`.
    pub(super) fn release(&mut self, client: ClientId, until: Instant) {
        let lowest = SessionId { host: crate::base::NodeId(0), node_session: 0, number: 0 };
        let owned = self.owners.range((client, lowest)..);
        let owned = owned.take_while(|(owner, _)| *owner == client).map(|(_, session)| *session);
        for session in owned {
            if let Some(watched) = self.watched.get_mut(&session)
                && watched.until.is_none()
            {
                watched.until = Some(until);
                self.ending.insert((until, session));
            }
        }
    }

    /// All of them, which are watched no more.
    pub(super) fn take_all(&mut self) -> Vec<SessionId> {
        let Self { watched, .. } = std::mem::take(self);
        watched.into_keys().collect()
    }

    /// Who has it.
    pub(super) fn owner(&self, session: SessionId) -> Option<ClientId> {
        self.watched.get(&session).map(|watched| watched.owner)
    }

    /// When the next one ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.ending.first().map(|(until, _)| *until)
    }

    /// One whose time has come; it is watched no more.
    pub(super) fn pop(&mut self, now: Instant) -> Option<SessionId> {
        let (until, session) = *self.ending.first()?;
        (until <= now).then(|| {
            self.forget(session);
            session
        })
    }
}
