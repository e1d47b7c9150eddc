//! The one task that owns the node: it takes all that is ready, has it handled, carries out what
//! comes of it, and waits.
//!
//! Must never know: what messages, commands and records mean.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::alarm::Alarm;
use super::clock::Clock;
use super::disk::Disk;
use super::inbox::Inbox;
use super::link::{LinkStatus, Links, Reach};
use super::local::{Local, Mailbox, News};
use super::network::Network;
use super::sessions::Sessions;
use super::tables::Tables;
use crate::base::{ClientId, Instant, Now, OpId, RequestId, SessionId, Ticket};
use crate::consensus::{Outcome, Refusal, Request, Sent};
use crate::node::{Effect, Effects, Event, Input, Node};
use crate::storage::StorageError;

/// What other threads ask of a node's.
pub(super) enum Ask {
    /// A request, and where to answer it.
    Call(Request, oneshot::Sender<Outcome>),
    /// How its links are.
    Links(oneshot::Sender<Vec<LinkStatus>>),
    /// Dial what is not linked, now (M-30).
    Reconnect,
    /// Do something on the node's thread.
    Run(Box<dyn FnOnce(&Local) + Send>),
    /// Stop, gracefully.
    Stop,
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call(..) => "Call",
            Self::Links(_) => "Links",
            Self::Reconnect => "Reconnect",
            Self::Run(_) => "Run",
            Self::Stop => "Stop",
        })
    }
}

/// How many inputs are handled before writes and messages go out.
const BATCH: usize = 1024;

/// What the driver's neighbours on its thread share with it.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Clients on this thread.
    pub(super) mailboxes: RefCell<BTreeMap<ClientId, Rc<Mailbox>>>,
    /// Sessions whose clients are watched.
    pub(super) sessions: RefCell<Sessions>,
}

pub(super) struct Driver<N: Network> {
    pub(super) node: Node,
    pub(super) clock: Rc<dyn Clock>,
    pub(super) links: Rc<Links<N>>,
    pub(super) inbox: Rc<Inbox>,
    pub(super) asks: mpsc::UnboundedReceiver<Ask>,
    /// How many asks are on their way.
    pub(super) asked: Arc<AtomicUsize>,
    pub(super) local: Local,
    pub(super) disk: Disk,
    pub(super) clients: Rc<Clients>,
    /// Calls from other threads that have not been answered.
    pub(super) calls: HashMap<OpId, oneshot::Sender<Outcome>>,
    pub(super) alarm: Alarm,
    /// Where other threads look the tables up, and which of the node's lists that is.
    pub(super) tables: Tables,
    pub(super) tables_revision: u64,
    /// What the clocks showed when the present batch began: its inputs were ready together.
    pub(super) now: Now,
    pub(super) effects: Effects,
    /// Sessions that need no watching any more, of the step in progress.
    pub(super) ended: Vec<SessionId>,
    #[cfg(madsim)]
    pub(super) tap: super::Tap,
}

impl<N: Network> Driver<N> {
    /// Runs the node until it is told to stop or its storage fails.
    pub(super) async fn run(mut self) -> Result<(), StorageError> {
        let mut inputs = VecDeque::new();
        let mut asks = Vec::new();
        self.handle(Input::Timeout);
        loop {
            self.now = self.clock.now();
            self.watch_time();
            self.settle()?;
            let ready = poll_fn(|cx| self.poll(cx, &mut asks)).await;
            self.now = self.clock.now();
            if let Some(written) = ready {
                self.handle(Input::Persisted { ticket: written? });
            }
            self.asked.store(self.asks.len(), Ordering::Relaxed);
            for ask in asks.drain(..) {
                match ask {
                    Ask::Call(request, answer) => self.call(request, answer),
                    // Whoever has dropped the question does not want the answer.
                    Ask::Links(answer) => drop(answer.send(self.links.status())),
                    Ask::Reconnect => drop(self.links.reconnect(None)),
                    Ask::Run(run) => run(&self.local),
                    Ask::Stop => return self.stop().await,
                }
            }
            self.inbox.take(&mut inputs);
            while !inputs.is_empty() {
                for input in inputs.drain(..inputs.len().min(BATCH)) {
                    self.take(input);
                }
                self.settle()?;
                self.now = self.clock.now();
            }
        }
    }

    /// Waits for something to do: anything that was written, asked, received or is due.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        asks: &mut Vec<Ask>,
    ) -> Poll<Option<Result<Ticket, StorageError>>> {
        let written = self.disk.poll(cx);
        let asked = self.asks.poll_recv_many(cx, asks, BATCH);
        if asked == Poll::Ready(0) {
            // Nobody has a handle any more.
            asks.push(Ask::Stop);
        }
        let woken = self.inbox.poll(cx);
        match written {
            Poll::Ready(written) => Poll::Ready(Some(written)),
            Poll::Pending if asked.is_ready() || woken.is_ready() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request, answer: oneshot::Sender<Outcome>) {
        if answer.is_closed() {
            // Nobody waits any more, and nobody was told that it was begun.
            return;
        }
        self.calls.insert(OpId { client: request.client, request: request.id }, answer);
        self.take(Input::Request(request));
    }

    /// An input, unless it would add to what waits for a disk that is far behind already.
    fn take(&mut self, input: Input) {
        if self.disk.is_full() {
            match input {
                // Any message may be lost; its sender will ask again.
                Input::Message { message, .. } if message.may_persist() => {
                    return self.disk.count_dropped();
                }
                Input::Request(request) if request.command.may_persist() => {
                    self.disk.count_refused();
                    let outcome = match request.sent {
                        Sent::First => Outcome::Refused(Refusal::Busy),
                        // It may have been done before.
                        Sent::Again => Outcome::Unknown,
                    };
                    return self.reply(request.client, request.id, outcome);
                }
                Input::Down { .. }
                | Input::Link { .. }
                | Input::Message { .. }
                | Input::Persisted { .. }
                | Input::Request(_)
                | Input::Timeout => {}
            }
        }
        self.handle(input);
    }

    /// One step of the node.
    fn handle(&mut self, input: Input) {
        let mut effects = std::mem::take(&mut self.effects);
        #[cfg(madsim)]
        let seen = input.clone();
        self.node.handle(input, self.now, &mut effects);
        #[cfg(madsim)]
        (self.tap)(&self.node, seen, self.now, &effects);
        // Before an answer says that there is one more.
        if self.node.tables_revision() != self.tables_revision {
            self.publish_tables();
        }
        for effect in effects.drain(..) {
            match effect {
                Effect::Demonitor { session } => self.ended.push(session),
                Effect::Monitor { session, client } => self.monitor(session, client),
                Effect::Notify { client, event } => self.notify(client, event),
                Effect::Persist { ticket, records } => self.disk.write(ticket, records),
                Effect::Reply { client, request, outcome } => self.reply(client, request, outcome),
                Effect::Send { to, message } => self.links.send(to, &message),
            }
        }
        self.effects = effects;
        // Not before its owner was told, which is known from here only.
        for session in self.ended.drain(..) {
            self.clients.sessions.borrow_mut().forget(session);
        }
    }

    fn publish_tables(&mut self) {
        self.tables_revision = self.node.tables_revision();
        let tables = &self.node.config().tables[..];
        self.tables.set(tables);
        *self.local.tables.borrow_mut() = tables.into();
    }

    fn monitor(&self, session: SessionId, client: ClientId) {
        let present = self.clients.mailboxes.borrow().contains_key(&client);
        // A client that left before its session was opened has no use for it.
        let until = (!present).then_some(Instant::ZERO);
        self.clients.sessions.borrow_mut().watch(session, client, until);
    }

    fn notify(&self, client: ClientId, event: Event) {
        // A session may have been handed on since it was opened.
        let owner = match &event {
            Event::SessionSuspended(session)
            | Event::SessionResumed(session)
            | Event::SessionLost(session) => self.clients.sessions.borrow().owner(*session),
            Event::Ended { .. }
            | Event::Merge(_)
            | Event::QuorumLost { .. }
            | Event::QuorumReached { .. }
            | Event::Reachable { .. }
            | Event::Readiness(_)
            | Event::Role { .. } => None,
        };
        self.deliver(owner.unwrap_or(client), News::Event(event));
    }

    fn reply(&mut self, client: ClientId, request: RequestId, outcome: Outcome) {
        let op = OpId { client, request };
        // A server has none of these, and many of the others.
        let call = if self.calls.is_empty() { None } else { self.calls.remove(&op) };
        match call {
            Some(answer) => drop(answer.send(outcome)),
            None => self.deliver(client, News::Answer(request, outcome)),
        }
    }

    fn deliver(&self, client: ClientId, news: News) {
        if let Some(mailbox) = self.clients.mailboxes.borrow().get(&client) {
            mailbox.push(news);
        }
    }

    /// Hands over what was collected: records to the disk, frames to the links.
    fn settle(&mut self) -> Result<(), StorageError> {
        while let Some(ticket) = self.disk.flush()? {
            self.handle(Input::Persisted { ticket });
        }
        self.links.flush();
        Ok(())
    }

    /// Tells the node the time if it wants to know, and sets the alarm to when it next does.
    fn watch_time(&mut self) {
        let now = self.now.instant;
        loop {
            let Some(session) = self.clients.sessions.borrow_mut().pop(now) else { break };
            self.handle(Input::Down { session });
        }
        if self.node.poll_timeout().is_some_and(|due| due <= now) {
            self.handle(Input::Timeout);
        }
        let ending = self.clients.sessions.borrow().next();
        let warning = self.disk.watch(now);
        let due = [self.node.poll_timeout(), ending, warning].into_iter().flatten().min();
        self.alarm.set(due.unwrap_or(Instant(u64::MAX)));
    }

    /// Lets what was begun become durable, so that the next start has nothing to repeat.
    async fn stop(&mut self) -> Result<(), StorageError> {
        loop {
            self.settle()?;
            if !self.disk.is_busy() {
                break;
            }
            let ticket = poll_fn(|cx| self.disk.poll(cx)).await?;
            self.now = self.clock.now();
            self.handle(Input::Persisted { ticket });
        }
        info!("{} has stopped", self.node.config().node);
        Ok(())
    }
}

/// Says that storage has failed, which ends the node.
pub(super) fn storage_failed(error: &StorageError) {
    error!("storage has failed, so the node stops: {error}");
}
