//! The one task that owns the node: it takes all that is ready, has it handled, carries out what
//! comes of it, and waits.
//!
//! Must never know: what messages, commands and records mean.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::alarm::Alarm;
use super::clock::Clock;
use super::disk::Disk;
use super::inbox::Inbox;
use super::link::Links;
use super::local::{Mailbox, News};
use super::network::Network;
use crate::base::{ClientId, Instant, OpId, SessionId, Ticket};
use crate::consensus::{Outcome, Request};
use crate::node::{Effect, Effects, Event, Input, Node, Record};
use crate::storage::StorageError;

/// What other threads ask of a node's.
#[derive(Debug)]
pub(super) enum Ask {
    /// A request, and where to answer it.
    Call(Request, oneshot::Sender<Outcome>),
    /// Dial what is not linked, now (M-30).
    Reconnect,
    /// Stop, and say when it is done.
    Stop,
}

/// How many inputs are handled before writes and messages go out.
const BATCH: usize = 1024;

/// What the driver's neighbours on its thread share with it.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Clients on this thread.
    pub(super) mailboxes: RefCell<BTreeMap<ClientId, Rc<Mailbox>>>,
    /// Sessions whose clients are watched: until when they live without one, if one has gone.
    pub(super) sessions: RefCell<BTreeMap<SessionId, Watched>>,
}

/// A session whose client this host watches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    pub(super) client: ClientId,
    pub(super) until: Option<Instant>,
}

pub(super) struct Driver<N: Network> {
    pub(super) node: Node,
    pub(super) clock: Rc<dyn Clock>,
    pub(super) links: Rc<Links<N>>,
    pub(super) inbox: Rc<Inbox>,
    pub(super) asks: mpsc::UnboundedReceiver<Ask>,
    pub(super) disk: Disk,
    pub(super) clients: Rc<Clients>,
    /// Calls from other threads that have not been answered.
    pub(super) calls: HashMap<OpId, oneshot::Sender<Outcome>>,
    pub(super) alarm: Alarm,
    pub(super) effects: Effects,
    pub(super) writes: Vec<(Ticket, Vec<Record>)>,
}

impl<N: Network> Driver<N> {
    /// Runs the node until it is told to stop or its storage fails.
    pub(super) async fn run(mut self) -> Result<(), StorageError> {
        let mut inputs = VecDeque::new();
        let mut asks = Vec::new();
        self.handle(Input::Timeout);
        loop {
            self.settle()?;
            let ready = poll_fn(|cx| self.poll(cx, &mut asks)).await;
            if let Some(written) = ready {
                self.handle(Input::Persisted { ticket: written? });
            }
            for ask in asks.drain(..) {
                match ask {
                    Ask::Call(request, answer) => self.call(request, answer),
                    Ask::Reconnect => self.links.reconnect(),
                    Ask::Stop => return self.stop(),
                }
            }
            self.inbox.take(&mut inputs);
            while !inputs.is_empty() {
                for input in inputs.drain(..inputs.len().min(BATCH)) {
                    self.handle(input);
                }
                self.settle()?;
            }
            self.watch_time();
        }
    }

    /// Waits for something to do: anything that was written, asked, received or is due.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        asks: &mut Vec<Ask>,
    ) -> Poll<Option<Result<Ticket, StorageError>>> {
        let written = self.disk.poll(cx);
        let asked = self.asks.poll_recv_many(cx, asks, BATCH).is_ready();
        let woken = self.inbox.poll(cx).is_ready();
        match written {
            Poll::Ready(written) => Poll::Ready(Some(written)),
            Poll::Pending if asked || woken => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request, answer: oneshot::Sender<Outcome>) {
        if answer.is_closed() {
            // Nobody waits any more, and nobody was told that it was begun.
            return;
        }
        self.calls.insert(OpId { client: request.client, request: request.id }, answer);
        self.handle(Input::Request(request));
    }

    /// One step of the node.
    fn handle(&mut self, input: Input) {
        let mut effects = std::mem::take(&mut self.effects);
        self.node.handle(input, self.clock.now(), &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Demonitor { session } => {
                    self.clients.sessions.borrow_mut().remove(&session);
                }
                Effect::Monitor { session, client } => self.monitor(session, client),
                Effect::Notify { client, event } => self.notify(client, event),
                Effect::Persist { ticket, records } => self.writes.push((ticket, records)),
                Effect::Reply { client, request, outcome } => {
                    match self.calls.remove(&OpId { client, request }) {
                        // Whoever has dropped the call does not want the answer.
                        Some(answer) => drop(answer.send(outcome)),
                        None => self.deliver(client, News::Answer(request, outcome)),
                    }
                }
                Effect::Send { to, message } => self.links.send(to, &message),
            }
        }
        self.effects = effects;
    }

    fn monitor(&self, session: SessionId, client: ClientId) {
        let present = self.clients.mailboxes.borrow().contains_key(&client);
        // A client that has left before its session was opened has no use for it.
        let until = (!present).then_some(Instant::ZERO);
        self.clients.sessions.borrow_mut().insert(session, Watched { client, until });
        if until.is_some() {
            self.inbox.wake();
        }
    }

    fn notify(&self, client: ClientId, event: Event) {
        self.deliver(client, News::Event(event));
    }

    fn deliver(&self, client: ClientId, news: News) {
        if let Some(mailbox) = self.clients.mailboxes.borrow().get(&client) {
            mailbox.push(news);
        }
    }

    /// Hands over what was collected: records to the disk, frames to the links.
    fn settle(&mut self) -> Result<(), StorageError> {
        while !self.writes.is_empty() {
            if let Some(ticket) = self.disk.write(&mut self.writes)? {
                self.handle(Input::Persisted { ticket });
            }
        }
        self.links.flush();
        Ok(())
    }

    /// Tells the node the time if it wants to know, and sets the alarm to when it next does.
    fn watch_time(&mut self) {
        let now = self.clock.now().instant;
        let mut over = Vec::new();
        let mut next = Instant(u64::MAX);
        for (session, watched) in &*self.clients.sessions.borrow() {
            match watched.until {
                Some(until) if until <= now => over.push(*session),
                Some(until) => next = next.min(until),
                None => {}
            }
        }
        for session in over {
            self.clients.sessions.borrow_mut().remove(&session);
            self.handle(Input::Down { session });
        }
        if self.node.poll_timeout().is_some_and(|due| due <= now) {
            self.handle(Input::Timeout);
        }
        self.alarm.set(next.min(self.node.poll_timeout().unwrap_or(next)));
    }

    /// Makes durable what was begun, so that the next start has nothing to repeat.
    fn stop(&mut self) -> Result<(), StorageError> {
        self.settle()?;
        info!("{} has stopped", self.node.config().node);
        Ok(())
    }
}

/// Says that storage has failed, which ends the node.
pub(super) fn storage_failed(error: &StorageError) {
    error!("storage has failed, so the node stops: {error}");
}
