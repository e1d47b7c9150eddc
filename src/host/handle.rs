//! The way to a node from any thread and any runtime, or none.
//!
//! Must never know: what commands mean.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::driver::Ask;
use crate::base::{ClientId, RequestId};
use crate::consensus::{Command, OnNoQuorum, Outcome, Request, Sent};

/// How long and how stubbornly a request is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOptions {
    /// How long the caller will wait. Default 10 s.
    pub patience: Duration,
    /// What to do while no quorum is in sight. Default: keep trying while there is patience.
    pub on_no_quorum: OnNoQuorum,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self { patience: Duration::from_secs(10), on_no_quorum: OnNoQuorum::Retry }
    }
}

/// The node has stopped: the request was not given to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node has stopped")
    }
}

impl std::error::Error for Stopped {}

/// A client of a node on another thread. Clones are the same client.
#[derive(Clone, Debug)]
pub struct Handle {
    client: Arc<Client>,
}

#[derive(Debug)]
struct Client {
    id: ClientId,
    next: AtomicU64,
    asks: mpsc::UnboundedSender<Ask>,
}

impl Handle {
    pub(super) fn new(id: ClientId, asks: mpsc::UnboundedSender<Ask>) -> Self {
        Self { client: Arc::new(Client { id, next: AtomicU64::new(1), asks }) }
    }

    /// Has the node carry out `command`; the answer comes within `options.patience`. Any number
    /// may be in flight.
    ///
    /// A call that is dropped is not undone: what it asked may still happen.
    ///
    /// # Errors
    /// If the node has stopped before it was given the command. One that stops later, before it
    /// could answer, leaves [`Outcome::Unknown`].
    pub async fn call(&self, command: Command, options: CallOptions) -> Result<Outcome, Stopped> {
        let client = &self.client;
        let id = RequestId(client.next.fetch_add(1, Ordering::Relaxed));
        let CallOptions { patience, on_no_quorum } = options;
        let sent = Sent::First;
        let request = Request { client: client.id, id, sent, patience, on_no_quorum, command };
        let (answer, answered) = oneshot::channel();
        client.asks.send(Ask::Call(request, answer)).map_err(|_| Stopped)?;
        Ok(answered.await.unwrap_or(Outcome::Unknown))
    }

    /// Has the node dial whatever is not linked, now (M-30).
    pub fn reconnect(&self) {
        drop(self.client.asks.send(Ask::Reconnect));
    }

    /// Has the node stop, gracefully. Its answer to calls in flight is [`Outcome::Unknown`].
    pub fn stop(&self) {
        drop(self.client.asks.send(Ask::Stop));
    }
}
