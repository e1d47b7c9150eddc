//! Sessions as guards: what is bound to one is erased once the guard is gone.
//!
//! Must never know: what is bound to them.

use tokio::sync::{oneshot, watch};

use super::error::Error;
use crate::base::SessionId;
use crate::consensus::{Command, Outcome};
use crate::host::{CallOptions, Handle, LocalClient, News};
use crate::monitor::Bind;
use crate::node::Event;

/// Whether what is bound to a session can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It goes on.
    Open,
    /// It may have ended, because this node has lost touch: do not act on holding its keys.
    Suspended,
    /// It has ended, and its keys are erased. It does not come back; open another.
    Lost,
}

/// A session hosted by this node. It ends when this is dropped, or with [`Session::close`].
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    state: watch::Receiver<SessionState>,
    close: oneshot::Sender<oneshot::Sender<Result<(), Error>>>,
}

impl Session {
    pub(super) async fn open(handle: &Handle, options: CallOptions) -> Result<Self, Error> {
        let (opened, opening) = oneshot::channel();
        let (tell, state) = watch::channel(SessionState::Open);
        let (close, closing) = oneshot::channel();
        handle.run(move |local| {
            let client = local.client();
            local.spawn(keep(client, options, opened, tell, closing));
        })?;
        let id = opening.await.unwrap_or(Err(Error::Unknown))?;
        Ok(Self { id, state, close })
    }

    /// Its name, as other nodes know it.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// What to bind an entry to.
    #[must_use]
    pub const fn bind(&self) -> Bind {
        Bind::Session(self.id)
    }

    /// How it is. Ask before acting on what depends on it, and let what is acted on check a
    /// fencing token all the same: it may end just after the answer.
    #[must_use]
    pub fn state(&self) -> SessionState {
        // A state that nobody can tell any more is the node's end.
        let told = self.state.has_changed().is_ok();
        if told { *self.state.borrow() } else { SessionState::Lost }
    }

    /// Waits until it is otherwise than when last seen here, and says how.
    pub async fn changed(&mut self) -> SessionState {
        match self.state.changed().await {
            Ok(()) => *self.state.borrow_and_update(),
            Err(_) => SessionState::Lost,
        }
    }

    /// Ends it, and waits until the node has taken note; a quorum erases what is bound to it
    /// within a few round trips.
    ///
    /// # Errors
    /// If the node has stopped, or the session has ended before.
    pub async fn close(self) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        drop(self.close.send(answer));
        answered.await.unwrap_or(Err(Error::Unknown))
    }
}

impl From<&Session> for Bind {
    fn from(session: &Session) -> Self {
        session.bind()
    }
}

/// Runs on the node's thread for as long as the guard lives; with its end the client ends.
async fn keep(
    client: LocalClient,
    options: CallOptions,
    opened: oneshot::Sender<Result<SessionId, Error>>,
    tell: watch::Sender<SessionState>,
    mut closing: oneshot::Receiver<oneshot::Sender<Result<(), Error>>>,
) {
    client.ask(Command::OpenSession, options);
    let session = loop {
        match client.news().await {
            News::Answer(_, Outcome::Session(session)) => break session,
            News::Answer(_, outcome) => {
                return drop(opened.send(Err(Error::from_outcome(outcome))));
            }
            News::Event(_) | News::Missed => {}
        }
    };
    if opened.send(Ok(session)).is_err() {
        return;
    }
    let closed = loop {
        let news = tokio::select! {
            biased;
            closed = &mut closing => break closed,
            news = client.news() => news,
        };
        match news {
            News::Event(Event::SessionSuspended(_)) => tell.send_replace(SessionState::Suspended),
            News::Event(Event::SessionResumed(_)) => tell.send_replace(SessionState::Open),
            News::Event(Event::SessionLost(_)) => tell.send_replace(SessionState::Lost),
            News::Event(_) | News::Answer(..) | News::Missed => continue,
        };
    };
    let Ok(answer) = closed else { return };
    client.ask(Command::CloseSession(session), options);
    loop {
        match client.news().await {
            News::Answer(_, Outcome::Done) => return drop(answer.send(Ok(()))),
            News::Answer(_, outcome) => {
                return drop(answer.send(Err(Error::from_outcome(outcome))));
            }
            News::Event(_) | News::Missed => {}
        }
    }
}
