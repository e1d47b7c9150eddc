//! The way to a node from any thread and any runtime, or none.
//!
//! Must never know: what commands mean.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::disk::DiskStatus;
use super::driver::Ask;
use super::link::LinkStatus;
use super::local::Local;
use super::tables::Tables;
use crate::base::{ClientId, OpId, RequestId};
use crate::consensus::{Command, OnNoQuorum, Outcome, Refusal, Request, Sent};
use crate::node::TableConfig;

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
    /// How many asks the node's thread has not taken yet.
    asked: Arc<AtomicUsize>,
    tables: Tables,
}

/// Above so many on their way to a thread that does not take them, a call is refused.
const ASKS_MAX: usize = 1 << 16;

impl Handle {
    pub(super) fn new(
        id: ClientId,
        asks: mpsc::UnboundedSender<Ask>,
        asked: Arc<AtomicUsize>,
        tables: Tables,
    ) -> Self {
        Self { client: Arc::new(Client { id, next: AtomicU64::new(1), asks, asked, tables }) }
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
        if self.client.asked.load(Ordering::Relaxed) >= ASKS_MAX {
            return Ok(Outcome::Refused(Refusal::Busy));
        }
        let id = RequestId(self.client.next.fetch_add(1, Ordering::Relaxed));
        let CallOptions { patience, on_no_quorum } = options;
        let (client, sent) = (self.client.id, Sent::First);
        let request = Request { client, id, sent, patience, on_no_quorum, command };
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Call(request, answer))?;
        Ok(answered.await.unwrap_or(Outcome::Unknown))
    }

    /// The node's tables, in the order of their numbers. One that was dropped keeps its place,
    /// without a name.
    #[must_use]
    pub fn tables(&self) -> Arc<[TableConfig]> {
        self.client.tables.get()
    }

    /// An id that no other request of this client will have.
    #[must_use]
    pub fn reserve(&self) -> OpId {
        let request = RequestId(self.client.next.fetch_add(1, Ordering::Relaxed));
        OpId { client: self.client.id, request }
    }

    /// How the node's links are.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn links(&self) -> Result<Vec<LinkStatus>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Links(answer))?;
        answered.await.map_err(|_| Stopped)
    }

    /// How the node's disk does.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn disk(&self) -> Result<DiskStatus, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.run(|local| {
            // Whoever has dropped the question does not want the answer.
            let _ = answer.send(local.disk());
        })?;
        answered.await.map_err(|_| Stopped)
    }

    /// Has the node dial whatever is not linked, now (M-30).
    ///
    /// # Errors
    /// If the node has stopped.
    pub fn reconnect(&self) -> Result<(), Stopped> {
        self.ask(Ask::Reconnect)
    }

    /// Does something on the node's thread. It must not block: nothing else happens meanwhile.
    ///
    /// # Errors
    /// If the node has stopped.
    pub fn run(&self, run: impl FnOnce(&Local) + Send + 'static) -> Result<(), Stopped> {
        self.ask(Ask::Run(Box::new(run)))
    }

    /// Has the node stop, gracefully. What is in flight is answered [`Outcome::Unknown`].
    pub fn stop(&self) {
        // One that has stopped needs no telling.
        let _ = self.ask(Ask::Stop);
    }

    fn ask(&self, ask: Ask) -> Result<(), Stopped> {
        self.client.asked.fetch_add(1, Ordering::Relaxed);
        self.client.asks.send(ask).map_err(|_| Stopped)
    }
}
