//! Clients on the node's own thread: connections of a server. No channel, no hand-off.
//!
//! Must never know: what commands mean, how they came here.

use std::cell::{Cell, RefCell};
use std::collections::btree_map::Entry;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::clock::Clock;
use super::disk::{DiskStatus, Figures};
use super::driver::Clients;
use super::handle::CallOptions;
use super::inbox::Inbox;
use super::link::{LinkStatus, Reach};
use super::tables::LocalTables;
use super::task::Signal;
use crate::base::{ClientId, NodeId, Random, RequestId, SessionId};
use crate::consensus::{Command, Outcome, Request, Sent, Topic};
use crate::node::{Event, Input, TableConfig};

/// How many events may wait for a client that does not look.
const EVENTS_MAX: usize = 1024;

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The answer to a request of its own.
    Answer(RequestId, Outcome),
    /// Something it subscribed to, or its session's.
    Event(Event),
    /// It did not look for so long that events were dropped: it must find out how things are.
    Missed,
}

/// What waits for one client. Answers are as many as it has asked for; events are bounded.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    news: RefCell<VecDeque<News>>,
    events: Cell<usize>,
    signal: Signal,
}

impl Mailbox {
    pub(super) fn push(&self, news: News) {
        let mut queue = self.news.borrow_mut();
        if matches!(news, News::Event(_)) {
            match self.events.get() {
                EVENTS_MAX.. => return,
                // The last place says that more would have come.
                waiting if waiting == EVENTS_MAX - 1 => queue.push_back(News::Missed),
                _ => queue.push_back(news),
            }
            self.events.set(self.events.get() + 1);
        } else {
            queue.push_back(news);
        }
        self.signal.raise();
    }

    fn take(&self) -> Option<News> {
        let news = self.news.borrow_mut().pop_front()?;
        if !matches!(news, News::Answer(..)) {
            self.events.set(self.events.get() - 1);
        }
        Some(news)
    }
}

/// The way to the node for whatever runs on its thread. Cheap to clone; it cannot leave the thread.
///
/// It keeps nothing alive: once the node has stopped, nothing that is asked is answered.
#[derive(Clone)]
pub struct Local {
    pub(super) inbox: Rc<Inbox>,
    pub(super) clients: Rc<Clients>,
    pub(super) clock: Rc<dyn Clock>,
    pub(super) random: Rc<RefCell<Random>>,
    pub(super) disk: Rc<Figures>,
    pub(super) links: Weak<dyn Reach>,
    pub(super) tables: LocalTables,
}

impl Local {
    /// Runs a task on this thread, until it ends or the node does.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        drop(tokio::task::spawn_local(task));
    }

    /// The node's tables, in the order of their numbers. One that was dropped keeps its place,
    /// without a name.
    #[must_use]
    pub fn tables(&self) -> Rc<[TableConfig]> {
        self.tables.borrow().clone()
    }

    /// How the node's disk does.
    #[must_use]
    pub fn disk(&self) -> DiskStatus {
        self.disk.status(self.clock.now().instant)
    }

    /// Has `observer` told how long each write to the disk takes, from its hand-over to the end of
    /// its sync. There is one observer; a later one takes its place.
    pub fn observe_disk(&self, observer: impl Fn(Duration) + 'static) {
        self.disk.observe(Box::new(observer));
    }

    /// How the node's links are.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        self.links.upgrade().map_or_else(Vec::new, |links| links.status())
    }

    /// How many that dialled here were refused, since the node started.
    #[must_use]
    pub fn refused_handshakes(&self) -> u64 {
        self.links.upgrade().map_or(0, |links| links.refused())
    }

    /// Dials `peer` now if it is not linked, or, with none, every such peer (M-30). False if there
    /// is no such peer.
    #[must_use]
    pub fn reconnect(&self, peer: Option<NodeId>) -> bool {
        self.links.upgrade().is_some_and(|links| links.reconnect(peer))
    }

    /// Ends every session that a client here has, whatever its grace time: for a node that is about
    /// to stop, and that nobody could come back to. Says how many there were.
    #[must_use]
    pub fn end_sessions(&self) -> usize {
        let all = self.clients.sessions.borrow_mut().take_all();
        let count = all.len();
        for session in all {
            self.inbox.push(Input::Down { session });
        }
        count
    }

    /// A new client, which ends when it is dropped.
    #[must_use]
    pub fn client(&self) -> LocalClient {
        loop {
            let id = ClientId::new(self.random.borrow_mut().number());
            if let Some(client) = self.client_named(id) {
                return client;
            }
        }
    }

    /// A client that has chosen its own number, to be known by it over connections and nodes;
    /// nothing while another one here goes by that number.
    #[must_use]
    pub fn client_named(&self, id: ClientId) -> Option<LocalClient> {
        let mailbox = Rc::new(Mailbox::default());
        let mut mailboxes = self.clients.mailboxes.borrow_mut();
        let Entry::Vacant(place) = mailboxes.entry(id) else { return None };
        place.insert(mailbox.clone());
        Some(LocalClient {
            id,
            next: Cell::new(1),
            topics: RefCell::default(),
            mailbox,
            local: self.clone(),
            grace: Cell::new(Duration::ZERO),
        })
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

/// One client on the node's thread: many requests in flight, answers as they come.
#[derive(Debug)]
pub struct LocalClient {
    id: ClientId,
    next: Cell<u64>,
    /// What it is told of, and must not be any more once it has gone.
    topics: RefCell<BTreeSet<Topic>>,
    mailbox: Rc<Mailbox>,
    local: Local,
    grace: Cell<Duration>,
}

impl LocalClient {
    /// Which client it is.
    #[must_use]
    pub const fn id(&self) -> ClientId {
        self.id
    }

    /// Asks; the answer comes as [`News::Answer`] with this number. Many asked before the task
    /// next waits are handled together.
    pub fn ask(&self, command: Command, options: CallOptions) -> RequestId {
        if let Command::Subscribe(topic) = &command {
            self.topics.borrow_mut().insert(topic.clone());
        } else if let Command::Unsubscribe(topic) = &command {
            self.topics.borrow_mut().remove(topic);
        }
        let id = RequestId(self.next.get());
        self.next.set(id.0 + 1);
        self.ask_numbered(id, Sent::First, command, options);
        id
    }

    /// Asks under a number of the caller's own, perhaps not for the first time.
    pub fn ask_numbered(&self, id: RequestId, sent: Sent, command: Command, options: CallOptions) {
        let CallOptions { patience, on_no_quorum } = options;
        let request = Request { client: self.id, id, sent, patience, on_no_quorum, command };
        self.local.inbox.push(Input::Request(request));
    }

    /// The next news, if there are any.
    #[must_use]
    pub fn take(&self) -> Option<News> {
        self.mailbox.take()
    }

    /// The next news; else has the task woken when there are some.
    pub fn poll_news(&self, cx: &Context<'_>) -> Poll<News> {
        loop {
            if let Some(news) = self.mailbox.take() {
                return Poll::Ready(news);
            }
            if self.mailbox.signal.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Waits for the next news.
    pub async fn news(&self) -> News {
        poll_fn(|cx| self.poll_news(cx)).await
    }

    /// How long its sessions outlive it. Default zero.
    pub fn set_grace(&self, grace: Duration) {
        self.grace.set(grace);
    }

    /// Takes over a session that another client of this node has opened: its life hangs on this
    /// client now. `opener` is the proof of having a right to it; it is told to nobody but the
    /// client that opened the session. False if there is no such session here, or it has ended.
    #[must_use]
    pub fn attach(&self, session: SessionId, opener: ClientId) -> bool {
        self.local.clients.sessions.borrow_mut().attach(session, opener, self.id)
    }

    /// Ends a session that is this client's, whoever opened it; false if it is not.
    pub fn end(&self, session: SessionId) -> bool {
        let mut sessions = self.local.clients.sessions.borrow_mut();
        if sessions.owner(session) != Some(self.id) {
            return false;
        }
        sessions.forget(session);
        self.local.inbox.push(Input::Down { session });
        true
    }
}

impl Drop for LocalClient {
    fn drop(&mut self) {
        for topic in self.topics.take() {
            self.ask(Command::Unsubscribe(topic), CallOptions::default());
        }
        self.local.clients.mailboxes.borrow_mut().remove(&self.id);
        let until = self.local.clock.now().instant + self.grace.get();
        self.local.clients.sessions.borrow_mut().release(self.id, until);
        self.local.inbox.wake();
    }
}
