//! Connections of clients: sockets, and what lies between them and [`Connection`].
//!
//! Must never know: what a command means.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::metrics::Metrics;
use super::settings::Settings;
use crate::base::{ClientId, Key, NodeId, RequestId, SessionId, TableId, Wall};
use crate::consensus::{Command, Outcome, Refusal, Sent, Status};
use crate::host::{CallOptions, Clock, Local, LocalClient, News, Quiet, SystemClock};
use crate::node::TableConfig;
use crate::resp::{
    Call, CallId, Closing, Connection, ConnectionLimits, Errand, SessionCall, State, Surroundings,
};

/// Places of `SCAN`s that are kept; older ones are forgotten.
const PLACES_MAX: usize = 4_096;

/// Sessions that one connection may keep.
const SESSIONS_MAX: usize = 1_024;

/// Bytes read from a connection before others have their turn.
const READ_MAX: usize = 256 << 10;

/// Bytes that all connections may hold together, in requests that are not answered yet and in
/// replies that are not read yet; and bytes that one may hold even then.
const HELD_MAX: usize = 128 << 20;
const HELD_FREE: usize = 16 << 10;

/// How long a client may go on sending after it was told that nobody listens.
const PARTING: Duration = Duration::from_secs(1);

/// Memory for output that a connection keeps when nothing is to be written.
const OUTPUT_KEPT: usize = 64 << 10;

/// What all connections of a node share.
pub(super) struct Shared {
    pub(super) node: NodeId,
    pub(super) settings: Settings,
    pub(super) page_max: u32,
    pub(super) metrics: Rc<Metrics>,
    pub(super) clock: SystemClock,
    /// Connections at most.
    pub(super) clients_max: usize,
    /// What all connections hold.
    held: Cell<usize>,
    /// A line for each connection, by its number.
    lines: RefCell<BTreeMap<u64, Line>>,
    /// Those of them that are nobody yet, the oldest first.
    strangers: RefCell<BTreeMap<u64, AbortHandle>>,
    places: RefCell<VecDeque<(u64, TableId, Key)>>,
    next_place: Cell<u64>,
    quiet: Quiet,
    /// Of wrong passwords, which no other lines must hide.
    guesses: Quiet,
    local: Local,
    /// Whether the node is about to stop: what was asked is answered, no more is read.
    closing: watch::Receiver<bool>,
}

impl Shared {
    pub(super) fn new(
        node: NodeId,
        settings: Settings,
        page_max: u32,
        clients_max: usize,
        local: Local,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            node,
            settings,
            page_max,
            metrics: Rc::new(Metrics::new()),
            clock: SystemClock::default(),
            clients_max,
            held: Cell::new(0),
            lines: RefCell::default(),
            strangers: RefCell::default(),
            places: RefCell::default(),
            // A cursor of another life of the node is not taken for one of this.
            next_place: Cell::new(1 + (crate::host::entropy().unwrap_or(0) >> 24)),
            quiet: Quiet::default(),
            guesses: Quiet::default(),
            local,
            closing,
        }
    }

    /// Where the node's state is kept, if anywhere.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.settings.directory(self.node)
    }

    /// Waits until the node is about to stop; for ever, if it stops without saying so.
    async fn closing(&self) {
        if self.closing.clone().wait_for(|closing| *closing).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Surroundings for Shared {
    fn wall(&self) -> Wall {
        self.clock.now().wall
    }

    fn node(&self) -> NodeId {
        self.node
    }

    fn tables(&self) -> Rc<[TableConfig]> {
        self.local.tables()
    }

    fn merged_defaults(&self) -> &str {
        &self.settings.merged
    }

    fn cluster(&self) -> &str {
        &self.settings.cluster
    }

    fn members(&self) -> &BTreeMap<NodeId, String> {
        &self.settings.members
    }

    fn password(&self) -> Option<&[u8]> {
        self.settings.password.as_deref()
    }

    fn page_max(&self) -> u32 {
        self.page_max
    }

    fn is_durable(&self) -> bool {
        self.settings.data_dir.is_some()
    }

    fn info(&self, status: &Status, sections: &[String]) -> String {
        self.metrics.info(status, sections, self)
    }

    fn clients(&self) -> String {
        let shown = |(id, line): (&u64, &Line)| {
            let Line { from, since, described } = line;
            format!("id={id} addr={from} age={}{described}\n", since.elapsed().as_secs())
        };
        self.lines.borrow().iter().map(shown).collect()
    }

    fn reconnect(&self, peer: Option<NodeId>) -> bool {
        self.local.reconnect(peer)
    }

    fn remember(&self, table: TableId, after: Key) -> u64 {
        let cursor = self.next_place.get();
        self.next_place.set(cursor + 1);
        let mut places = self.places.borrow_mut();
        if places.len() >= PLACES_MAX {
            places.pop_front();
        }
        places.push_back((cursor, table, after));
        cursor
    }

    fn recall(&self, cursor: u64) -> Option<(TableId, Key)> {
        let places = self.places.borrow();
        let place = places.binary_search_by_key(&cursor, |(cursor, ..)| *cursor).ok()?;
        let (_, table, after) = &places[place];
        Some((*table, after.clone()))
    }
}

/// Accepts connections for as long as it is polled.
pub(super) async fn serve(listener: std::net::TcpListener, local: Local, shared: Rc<Shared>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!("clients cannot be listened to: {error}"),
    };
    let mut next = 1;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.closing() => break,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.quiet.say(|more| warn!("a client cannot be accepted: {error}{more}"));
                // Too many open files, say: others may close some.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if shared.lines.borrow().len() >= shared.clients_max && !make_room(&shared).await {
            shared.metrics.refused.inc();
            shared.quiet.say(|more| {
                let max = shared.clients_max;
                warn!("{from} is refused: there are {max} clients already{more}");
            });
            // Whether or not it can be told.
            let _ = stream.try_write(b"-BUSY too many clients; ask another node\r\n");
            continue;
        }
        let id = next;
        next += 1;
        let task = Task::new(id, stream, from, local.clone(), shared.clone());
        let task = tokio::task::spawn_local(task.run());
        shared.strangers.borrow_mut().insert(id, task.abort_handle());
    }
    drop(listener);
    // Until each has its answers, or whoever closes them has waited for long enough.
    while !shared.lines.borrow().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Drops the oldest connection that is nobody yet, if there is one: who has a question asks it at
/// once, and those who come only to be there must not keep out those who have one.
async fn make_room(shared: &Shared) -> bool {
    let Some((_, oldest)) = shared.strangers.borrow_mut().pop_first() else { return false };
    oldest.abort();
    shared.metrics.dropped.inc();
    shared.quiet.say(|more| {
        let max = shared.clients_max;
        warn!("there are {max} clients: the oldest that has asked nothing is dropped{more}");
    });
    // It goes when its turn comes.
    tokio::task::yield_now().await;
    true
}

/// What `CLIENT LIST` says of a connection.
struct Line {
    from: SocketAddr,
    since: Instant,
    /// What it says of itself, behind a space; nothing at first.
    described: String,
}

/// One connection.
struct Task {
    id: u64,
    stream: TcpStream,
    from: SocketAddr,
    connection: Connection,
    local: Local,
    client: LocalClient,
    shared: Rc<Shared>,
    /// What the node was asked, in the order of its numbers, and under which of the connection's.
    /// An answer leaves a gap, until it is at the front.
    asked: VecDeque<(RequestId, Option<(CallId, Instant)>)>,
    /// What it was asked under the client's own name, one client each.
    named: Vec<Named>,
    /// Sessions that are being opened, and sessions kept: each hangs on a client of its own.
    opening: Vec<(LocalClient, CallId)>,
    sessions: HashMap<SessionId, LocalClient>,
    errands: Vec<Errand>,
    /// Whether the client has said that it will ask nothing more. What it has asked is answered.
    at_end: bool,
    /// When the client is given up, if it reads nothing until then.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Likewise, if the request of this number has not arrived whole until then.
    halfway: Option<(u64, Pin<Box<Sleep>>)>,
    /// What it holds of what all connections do.
    held: usize,
    /// What its line in the list of clients was made from.
    described: Option<State>,
    /// Whether it is nobody yet.
    is_stranger: bool,
    /// Wrong passwords that were counted.
    wrong_passwords: u32,
}

/// A client by a number of its own, while it has requests in flight.
struct Named {
    client: LocalClient,
    asked: Vec<(RequestId, CallId, Instant)>,
}

/// Why a connection ended.
enum Ending {
    Closed,
    Failed(io::Error),
    /// It holds more than its part of what there is for all.
    Greedy,
    Ours(Closing),
    /// It is in the middle of a request for too long.
    Slow,
    /// It reads nothing for too long.
    Stalled,
}

impl Task {
    fn new(id: u64, stream: TcpStream, from: SocketAddr, local: Local, shared: Rc<Shared>) -> Self {
        let client = local.client();
        shared.metrics.connections.inc();
        shared.metrics.accepted.inc();
        let line = Line { from, since: Instant::now(), described: String::new() };
        shared.lines.borrow_mut().insert(id, line);
        Self {
            id,
            stream,
            from,
            connection: Connection::new(id, ConnectionLimits::default()),
            client,
            local,
            shared,
            asked: VecDeque::new(),
            named: Vec::new(),
            opening: Vec::new(),
            sessions: HashMap::new(),
            errands: Vec::new(),
            at_end: false,
            stalled: None,
            halfway: None,
            held: 0,
            described: None,
            is_stranger: true,
            wrong_passwords: 0,
        }
    }

    async fn run(mut self) {
        // Answers are small and waited for.
        let _ = self.stream.set_nodelay(true);
        let ending = {
            let shared = self.shared.clone();
            let mut closing = pin!(shared.closing());
            let mut asked = false;
            poll_fn(|cx| {
                // Its waker stays where it is, so it is asked again only when it has something
                // to say.
                if !asked || (!self.at_end && *shared.closing.borrow()) {
                    asked = true;
                    self.at_end |= closing.as_mut().poll(cx).is_ready();
                }
                self.poll(cx)
            })
            .await
        };
        self.tell(&ending);
        if matches!(ending, Ending::Ours(_) | Ending::Greedy) {
            self.part().await;
        } else if *self.shared.closing.borrow() {
            self.discard();
        }
    }

    /// Says that no more comes, and lets the client finish what it is sending: the system answers
    /// what nobody reads with a reset, which overtakes the last reply.
    async fn part(&mut self) {
        // It may be for its memory that it has to go; and it keeps nothing any more.
        self.connection = Connection::new(self.id, ConnectionLimits::default());
        self.shared.held.set(self.shared.held.get() - std::mem::take(&mut self.held));
        self.sessions.clear();
        self.opening.clear();
        self.named.clear();
        let mut scrap = BytesMut::new();
        let finish = async {
            self.stream.shutdown().await?;
            while self.stream.read_buf(&mut scrap).await? > 0 {
                scrap.clear();
            }
            Ok::<(), io::Error>(())
        };
        // Whether it has read it, only it can say.
        let _ = timeout(PARTING, finish).await;
    }

    /// What the log says of an end, and the client if it can be told.
    fn tell(&mut self, ending: &Ending) {
        let from = self.from;
        match ending {
            Ending::Closed | Ending::Ours(Closing::Quit) => debug!("{from} has left"),
            Ending::Failed(error) => debug!("{from} was lost: {error}"),
            Ending::Ours(Closing::Protocol(error)) => {
                self.shared.metrics.malformed.inc();
                self.shared.quiet.say(|more| warn!("{from} is disconnected: {error}{more}"));
            }
            Ending::Ours(Closing::Refused) => {
                let max = State::BEHIND_MULTI_MAX;
                self.shared.quiet.say(|more| {
                    warn!(
                        "{from} is disconnected: it has sent {max} commands behind a MULTI that \
                         was refused, and no EXEC{more}"
                    );
                });
            }
            Ending::Ours(Closing::TooManyMessages) => {
                self.shared.quiet.say(|more| {
                    warn!("{from} is disconnected: it does not read its messages{more}");
                });
            }
            Ending::Ours(Closing::WrongPasswords) => {
                let max = State::WRONG_PASSWORDS_MAX;
                self.shared.guesses.say(|more| {
                    warn!("{from} is disconnected: it has said {max} wrong passwords{more}");
                });
            }
            Ending::Greedy => {
                self.shared.quiet.say(|more| {
                    warn!(
                        "{from} is disconnected: all clients together hold {HELD_MAX} bytes of \
                         unanswered requests and unread replies, it {}{more}",
                        self.held
                    );
                });
                if self.connection.output().is_empty() {
                    let why = b"-BUSY no memory is left for requests as long as this\r\n";
                    // Whether or not it can be told.
                    let _ = self.stream.try_write(why);
                }
            }
            Ending::Slow => {
                let patience = self.shared.settings.stall_timeout;
                self.shared.quiet.say(|more| {
                    warn!(
                        "{from} is disconnected: it did not send a whole request in \
                         {patience:?}{more}"
                    );
                });
            }
            Ending::Stalled => {
                let patience = self.shared.settings.stall_timeout;
                self.shared.quiet.say(|more| {
                    warn!("{from} is disconnected: it has read nothing for {patience:?}{more}");
                });
            }
        }
    }

    /// Takes what has come and will not be read: a socket closed over it would take the answers
    /// with it that are on their way.
    fn discard(&self) {
        let mut bytes = [0; 4_096];
        for _ in 0..READ_MAX / bytes.len() {
            if !self.stream.try_read(&mut bytes).is_ok_and(|count| count > 0) {
                return;
            }
        }
    }

    /// Goes on until nothing can be done, or the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            self.take_news(cx);
            let read = match self.read(cx) {
                Ok(read) => read,
                Err(ending) => return Poll::Ready(ending),
            };
            self.connection.poll(&*self.shared, &mut self.errands);
            self.recognise();
            let errands = !self.errands.is_empty();
            self.run_errands();
            let written = match self.write(cx) {
                Ok(written) => written,
                Err(error) => return Poll::Ready(Ending::Failed(error)),
            };
            if self.is_greedy() {
                return Poll::Ready(Ending::Greedy);
            }
            if let Some(closing) = self.connection.closing() {
                return Poll::Ready(Ending::Ours(closing.clone()));
            }
            if self.at_end && self.connection.is_idle() {
                return Poll::Ready(Ending::Closed);
            }
            // After each of these there may be more to do at once; otherwise somebody wakes us.
            if !(read || errands || written) {
                self.describe();
                return self.poll_stall(cx);
            }
        }
    }

    fn take_news(&mut self, cx: &Context<'_>) {
        while let Poll::Ready(news) = self.client.poll_news(cx) {
            match news {
                News::Answer(request, outcome) => {
                    if let Some((call, since)) = self.answered(request) {
                        self.shared.metrics.answered(&outcome, since.elapsed());
                        self.connection.answer(call, outcome, &*self.shared);
                    }
                }
                News::Event(event) => self.connection.notify(&event, &*self.shared),
                // It is told by being disconnected, which it cannot overlook.
                News::Missed => self.connection.overwhelm(),
            }
        }
        self.take_named(cx);
        self.take_opened(cx);
        for client in self.sessions.values() {
            while let Poll::Ready(news) = client.poll_news(cx) {
                if let News::Event(event) = news {
                    self.connection.notify(&event, &*self.shared);
                }
            }
        }
    }

    /// Which call a request was, and when it was asked.
    fn answered(&mut self, request: RequestId) -> Option<(CallId, Instant)> {
        let place = self.asked.binary_search_by_key(&request, |(asked, _)| *asked).ok()?;
        let call = self.asked[place].1.take();
        while self.asked.front().is_some_and(|(_, call)| call.is_none()) {
            self.asked.pop_front();
        }
        call
    }

    fn take_named(&mut self, cx: &Context<'_>) {
        for named in &mut self.named {
            while let Poll::Ready(news) = named.client.poll_news(cx) {
                let News::Answer(request, outcome) = news else { continue };
                let place = named.asked.iter().position(|(asked, ..)| *asked == request);
                if let Some(place) = place {
                    let (_, call, since) = named.asked.swap_remove(place);
                    self.shared.metrics.answered(&outcome, since.elapsed());
                    self.connection.answer(call, outcome, &*self.shared);
                }
            }
        }
        self.named.retain(|named| !named.asked.is_empty());
    }

    fn take_opened(&mut self, cx: &Context<'_>) {
        let mut place = 0;
        while place < self.opening.len() {
            let (client, call) = &self.opening[place];
            match client.poll_news(cx) {
                Poll::Ready(News::Answer(_, outcome)) => {
                    let call = *call;
                    let (client, _) = self.opening.swap_remove(place);
                    if let Outcome::Session(session) = outcome {
                        self.connection.opened(call, session, client.id().number());
                        self.sessions.insert(session, client);
                    } else {
                        self.connection.answer(call, outcome, &*self.shared);
                    }
                }
                Poll::Ready(_) => {}
                Poll::Pending => place += 1,
            }
        }
    }

    /// Whether anything was read.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        let mut total = 0;
        while !self.at_end && self.connection.wants_input() && total < READ_MAX {
            let buffer = self.connection.input();
            buffer.reserve(4_096);
            // A read that does not fill the buffer says that there is no more for now, which spares
            // asking the system again.
            match pin!(self.stream.read_buf(buffer)).poll(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => self.at_end = true,
                Poll::Ready(Ok(count)) => total += count,
                Poll::Ready(Err(error)) => return Err(Ending::Failed(error)),
            }
        }
        self.shared.metrics.received.inc_by(total as u64);
        Ok(total > 0)
    }

    /// Whether anything was written.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut total = 0;
        while !self.connection.output().is_empty() {
            match self.stream.poll_write_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready?,
            }
            match self.stream.try_write(self.connection.output()) {
                Ok(count) => {
                    self.connection.output().advance(count);
                    total += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if self.connection.output().is_empty() {
            self.stalled = None;
            if self.connection.output().capacity() > OUTPUT_KEPT {
                *self.connection.output() = BytesMut::new();
            }
        } else if total > 0 || self.stalled.is_none() {
            self.stalled = Some(self.patience());
        }
        self.shared.metrics.sent.inc_by(total as u64);
        Ok(total > 0)
    }

    fn patience(&self) -> Pin<Box<Sleep>> {
        Box::pin(sleep_until(Instant::now() + self.shared.settings.stall_timeout))
    }

    /// Whether it must go, for there is no memory left and it holds more than a little.
    fn is_greedy(&mut self) -> bool {
        let held = self.connection.held();
        let all = self.shared.held.get() - self.held + held;
        self.held = held;
        self.shared.held.set(all);
        all > HELD_MAX && held > HELD_FREE
    }

    /// Waits for the client to become too slow, at reading or at writing.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        // However many bytes trickle in, it is the same request that is waited for.
        match (self.connection.halfway(), &self.halfway) {
            (None, _) => self.halfway = None,
            (Some(number), Some((waited, _))) if number == *waited => {}
            (Some(number), _) => self.halfway = Some((number, self.patience())),
        }
        if let Some(sleep) = &mut self.stalled
            && sleep.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ending::Stalled);
        }
        if let Some((_, sleep)) = &mut self.halfway
            && sleep.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ending::Slow);
        }
        Poll::Pending
    }

    fn run_errands(&mut self) {
        let mut errands = std::mem::take(&mut self.errands);
        for errand in errands.drain(..) {
            match errand {
                Errand::Call(id, call) => self.ask(id, call),
                Errand::Session(id, call) => self.ask_session(id, &call),
            }
        }
        self.errands = errands;
    }

    fn ask(&mut self, id: CallId, call: Call) {
        self.shared.metrics.asked(&call.command);
        let Call { command, patience, on_no_quorum, identity, .. } = call;
        let options = CallOptions { patience, on_no_quorum };
        let Some(identity) = identity else {
            let request = self.client.ask(command, options);
            self.asked.push_back((request, Some((id, Instant::now()))));
            return;
        };
        let client = ClientId::new(identity.client);
        let request = RequestId(identity.request);
        let sent = if identity.again { Sent::Again } else { Sent::First };
        let Some(named) = self.named(client, request) else {
            // Somebody else's answer would come here, or ours there.
            let outcome =
                if identity.again { Outcome::Unknown } else { Outcome::Refused(Refusal::Busy) };
            return self.connection.answer(id, outcome, &*self.shared);
        };
        named.client.ask_numbered(request, sent, command, options);
        named.asked.push((request, id, Instant::now()));
    }

    /// The client of this number, unless another connection has it, or this request is in flight.
    fn named(&mut self, client: ClientId, request: RequestId) -> Option<&mut Named> {
        let place = match self.named.iter().position(|named| named.client.id() == client) {
            Some(place) => place,
            None => {
                let client = self.local.client_named(client)?;
                self.named.push(Named { client, asked: Vec::new() });
                self.named.len() - 1
            }
        };
        let named = &mut self.named[place];
        named.asked.iter().all(|(asked, ..)| *asked != request).then_some(named)
    }

    fn ask_session(&mut self, id: CallId, call: &SessionCall) {
        let answer = match call {
            SessionCall::Open { .. } | SessionCall::Attach { .. }
                if self.sessions.len() + self.opening.len() >= SESSIONS_MAX =>
            {
                Outcome::Refused(Refusal::LimitExceeded {
                    what: "list of sessions of one connection",
                    len: SESSIONS_MAX + 1,
                    max: SESSIONS_MAX,
                })
            }
            SessionCall::Open { grace, patience, on_no_quorum } => {
                let client = self.local.client();
                client.set_grace(*grace);
                let (patience, on_no_quorum) = (*patience, *on_no_quorum);
                client.ask(Command::OpenSession, CallOptions { patience, on_no_quorum });
                self.opening.push((client, id));
                return;
            }
            SessionCall::Follow { session } if self.sessions.contains_key(session) => Outcome::Done,
            SessionCall::Follow { session } => Outcome::Refused(Refusal::NoSuchSession(*session)),
            SessionCall::Attach { session, secret, grace } => {
                match self.attach(*session, *secret) {
                    Some(client) => {
                        client.set_grace(*grace);
                        self.sessions.insert(*session, client);
                        Outcome::Done
                    }
                    None => Outcome::Refused(Refusal::NoSuchSession(*session)),
                }
            }
            SessionCall::Close { session, secret } => {
                let kept = self.sessions.remove(session);
                let client = kept.or_else(|| self.attach(*session, (*secret)?));
                if client.is_some_and(|client| client.end(*session)) {
                    Outcome::Done
                } else {
                    Outcome::Refused(Refusal::NoSuchSession(*session))
                }
            }
        };
        self.connection.answer(id, answer, &*self.shared);
    }

    /// A client that the session hangs on from now on, if the secret is right.
    fn attach(&self, session: SessionId, secret: u64) -> Option<LocalClient> {
        let client = self.local.client();
        client.attach(session, ClientId::new(secret)).then_some(client)
    }

    /// Takes note of what it has shown to be, or not to be.
    fn recognise(&mut self) {
        if self.is_stranger && !self.connection.is_stranger(&*self.shared) {
            self.is_stranger = false;
            self.shared.strangers.borrow_mut().remove(&self.id);
        }
        let said = self.connection.state().wrong_passwords;
        if said > self.wrong_passwords {
            self.shared.metrics.wrong_passwords.inc_by(u64::from(said - self.wrong_passwords));
            self.wrong_passwords = said;
            let from = self.from;
            self.shared.guesses.say(|more| warn!("{from} has said a wrong password{more}"));
        }
    }

    /// Keeps the line of `CLIENT LIST` true, where it has changed.
    fn describe(&mut self) {
        if self.described.as_ref() != Some(self.connection.state()) {
            if let Some(line) = self.shared.lines.borrow_mut().get_mut(&self.id) {
                line.described = format!(" {}", self.connection.describe(&*self.shared));
            }
            self.described = Some(self.connection.state().clone());
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.shared.held.set(self.shared.held.get() - self.held);
        self.shared.metrics.connections.dec();
        self.shared.lines.borrow_mut().remove(&self.id);
        self.shared.strangers.borrow_mut().remove(&self.id);
    }
}
