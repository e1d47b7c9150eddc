//! Links: one stream between each pair of members, kept up, framed, bounded.
//!
//! The node of the higher number dials, the other one listens, so two dials cannot cross. A node
//! that has lost a link it does not dial knocks: a short stream that asks for a dial now.
//!
//! Must never know: what messages mean.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::hello::{self, Answer, Hello, Purpose, Verdict};
use super::inbox::Inbox;
use super::network::{Network, Stream};
use super::options::{LinkOptions, Reconnect};
use super::quiet::Reasons;
use super::task::{Signal, Task};
use crate::base::{Incarnation, Life, NodeId, Random};
use crate::node::{Input, Message};
use crate::wire::{self, DecodeError};

/// How much a reader asks the operating system for at a time.
const READ: usize = 64 << 10;

/// Bytes kept for heartbeats and their answers where nothing else has room: some dozens of them.
const SPARE: usize = 4 << 10;

/// The links of one node.
pub(super) struct Links<N: Network> {
    network: N,
    /// What this node says of itself; `peer` and `purpose` are filled in for each stream.
    hello: Hello,
    options: LinkOptions,
    peers: Vec<Peer>,
    inbox: Rc<Inbox>,
    random: RefCell<Random>,
    /// Handshakes of strangers under way, oldest first.
    guests: RefCell<VecDeque<(u64, Task)>>,
    guest_next: Cell<u64>,
    refusals: Reasons,
    refused: Cell<u64>,
}

/// The links, whatever carries them, as others on the node's thread see them.
pub(super) trait Reach {
    fn status(&self) -> Vec<LinkStatus>;
    /// How many dials were refused.
    fn refused(&self) -> u64;
    /// Dials or knocks now where there is no link: at all peers or at one (M-30). False if that is
    /// no peer.
    fn reconnect(&self, peer: Option<NodeId>) -> bool;
}

/// One other member.
pub(super) struct Peer {
    pub(super) node: NodeId,
    /// Frames on their way out. Empty while there is no link.
    out: RefCell<Vec<u8>>,
    /// Raised when there is something in `out`.
    outgoing: Signal,
    link: RefCell<Option<Link>>,
    up: Cell<bool>,
    /// The number of the last link to or from this peer.
    serial: Cell<u64>,
    /// The peer's process life of that link, and the life of its storage, which counts those.
    process: Cell<Option<(Life, Incarnation)>>,
    /// Raised when the link has come or gone.
    changed: Signal,
    /// Raised when it is time to dial or to knock, whatever the policy says.
    now: Signal,
    dropped: Cell<u64>,
}

/// How the link to one peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// To whom.
    pub peer: NodeId,
    /// Whether it is up: a hint, no more.
    pub up: bool,
    /// Bytes that wait for the peer.
    pub queued: usize,
    /// Messages lost for want of a link or of room, since the node started.
    pub dropped: u64,
}

/// What ends with a link.
struct Link {
    _tasks: Vec<Task>,
}

/// What the two directions of a link tell its watchdog.
#[derive(Default)]
struct Pulse {
    read: Cell<bool>,
    writing: Cell<bool>,
    wrote: Cell<bool>,
}

impl Peer {
    fn new(node: NodeId) -> Self {
        Self {
            node,
            out: RefCell::default(),
            outgoing: Signal::default(),
            link: RefCell::default(),
            up: Cell::new(false),
            serial: Cell::new(0),
            process: Cell::new(None),
            changed: Signal::default(),
            now: Signal::default(),
            dropped: Cell::new(0),
        }
    }
}

impl<N: Network> Links<N> {
    pub(super) fn new(
        network: N,
        hello: Hello,
        peers: impl IntoIterator<Item = NodeId>,
        options: LinkOptions,
        inbox: Rc<Inbox>,
        random: Random,
    ) -> Rc<Self> {
        let peers = peers.into_iter().map(Peer::new).collect();
        Rc::new(Self {
            network,
            hello,
            options,
            peers,
            inbox,
            random: RefCell::new(random),
            guests: RefCell::default(),
            guest_next: Cell::new(0),
            refusals: Reasons::default(),
            refused: Cell::new(0),
        })
    }

    /// Starts to accept and to dial; ends when what it returns is dropped.
    pub(super) fn start(self: &Rc<Self>) -> Vec<Task> {
        let accepting = Task::spawn(self.clone().accept());
        let reaching = (0..self.peers.len()).map(|place| Task::spawn(self.clone().keep_up(place)));
        reaching.chain([accepting]).collect()
    }

    /// Takes a message for a peer. It is lost if there is no link, or the peer does not keep up. A
    /// burst that finds no room costs its messages, not the peer's belief that this node is there.
    pub(super) fn send(&self, to: NodeId, message: &Message) {
        let Some(peer) = self.peers.iter().find(|peer| peer.node == to) else { return };
        let mut out = peer.out.borrow_mut();
        let spare = if message.is_heartbeat() { SPARE } else { 0 };
        let full = out.len() >= self.options.queue_max.saturating_add(spare);
        if !peer.up.get() || full {
            peer.dropped.set(peer.dropped.get() + 1);
        } else if let Err(error) = wire::encode(message, &mut out) {
            let why = format!("a message to {to} is dropped");
            self.refusals.say(&why, |more| warn!("{why}: {error}{more}"));
            peer.dropped.set(peer.dropped.get() + 1);
        }
    }

    /// Lets what was taken go.
    pub(super) fn flush(&self) {
        for peer in &self.peers {
            if !peer.out.borrow().is_empty() {
                peer.outgoing.raise();
            }
        }
    }

    fn hello(&self, peer: NodeId, purpose: Purpose) -> Hello {
        Hello { peer, purpose, ..self.hello.clone() }
    }

    /// Accepts whoever comes, and lets each introduce itself; of too many, the oldest must go.
    async fn accept(self: Rc<Self>) {
        loop {
            match self.network.accept().await {
                Ok((stream, from)) => {
                    let number = self.guest_next.get();
                    self.guest_next.set(number + 1);
                    let links = self.clone();
                    let guest = Task::spawn(async move {
                        links.receive(stream, &from).await;
                        links.guests.borrow_mut().retain(|(other, _)| *other != number);
                    });
                    let mut guests = self.guests.borrow_mut();
                    guests.push_back((number, guest));
                    if guests.len() > self.options.guests_max {
                        guests.pop_front();
                        let why = "too many handshakes under way: the oldest is dropped";
                        self.refuse(why, |more| warn!("{why}{more}"));
                    }
                }
                Err(error) => {
                    let why = error.to_string();
                    self.refusals.say(&why, |more| warn!("cannot accept a peer: {why}{more}"));
                    sleep(self.options.backoff).await;
                }
            }
        }
    }

    /// The handshake of somebody who has dialled.
    async fn receive(self: &Rc<Self>, (mut reader, mut writer): Stream<N>, from: &str) {
        let received = timeout(self.options.handshake, hello::receive::<Hello>(&mut reader)).await;
        let refuse = |why: String| self.refuse(&why, |more| warn!("refused {from}: {why}{more}"));
        let theirs = match received {
            Ok(Ok(theirs)) => theirs,
            Ok(Err(error)) => return refuse(error.to_string()),
            Err(_) => return refuse(String::from("no handshake in time")),
        };
        let place = self.peers.iter().position(|peer| peer.node == theirs.node);
        let mismatch = self
            .hello
            .mismatch(&theirs)
            .or_else(|| place.is_none().then(|| format!("{} is not a member here", theirs.node)))
            .or_else(|| self.out_of_turn(&self.peers[place?], &theirs));
        let verdict = mismatch.clone().map_or(Verdict::Welcome, Verdict::Refused);
        let answer = Answer { hello: self.hello(theirs.node, theirs.purpose), verdict };
        let sent = timeout(self.options.handshake, hello::send(&mut writer, &answer)).await;
        if let Some(why) = mismatch {
            return refuse(why);
        }
        let (Some(place), Ok(Ok(()))) = (place, sent) else { return };
        let peer = &self.peers[place];
        match theirs.purpose {
            Purpose::Link(serial) => match self.out_of_turn(peer, &theirs) {
                // Another one came while this one was being answered.
                Some(why) => refuse(why),
                None => self.adopt(place, (reader, writer), serial, &theirs),
            },
            Purpose::Knock(seen) => {
                let same_process = peer.process.get() == Some((theirs.life, theirs.incarnation));
                // A link that it has not seen yet is on its way, or will be found dead.
                if !same_process || seen >= peer.serial.get() {
                    self.lose(place, "the peer has none");
                }
                peer.now.raise();
            }
        }
    }

    fn refuse(&self, why: &str, line: impl FnOnce(&str)) {
        self.refused.set(self.refused.get() + 1);
        self.refusals.say(why, line);
    }

    /// Why what somebody dials cannot be the link, if it cannot: the dial may be an old one.
    fn out_of_turn(&self, peer: &Peer, theirs: &Hello) -> Option<String> {
        let Purpose::Link(serial) = theirs.purpose else { return None };
        let stale = peer.process.get().is_some_and(|(life, incarnation)| {
            // A storage that is lost begins to count anew, so nothing is known of the order then.
            let last = (incarnation, peer.serial.get());
            life == theirs.life && (theirs.incarnation, serial) <= last
        });
        (stale || theirs.node < self.hello.node)
            .then(|| format!("{} dials out of turn", theirs.node))
    }

    /// Keeps one link up for as long as the node runs.
    async fn keep_up(self: Rc<Self>, place: usize) {
        let peer = &self.peers[place];
        let mut failures = 0;
        // A peer that stays away is worth a line now and then.
        let said = Reasons::default();
        loop {
            if peer.up.get() {
                said.forget();
                let since = Instant::now();
                peer.changed.wait().await;
                if since.elapsed() >= self.options.idle {
                    failures = 0;
                }
            } else if let Err(error) = self.try_reach(place).await {
                let (address, why) = (self.network.address(peer.node), error.to_string());
                // Refused: time does not mend that.
                let kind = error.kind();
                let lasts =
                    [io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidData].contains(&kind);
                said.say(&why, |more| {
                    if lasts {
                        warn!("no link to {} at {address}: {why}{more}", peer.node);
                    } else {
                        let node = peer.node;
                        info!("cannot reach {node} at {address}, goes on trying: {why}{more}");
                    }
                });
            }
            if !peer.up.get() {
                self.pause(peer, failures).await;
                failures += 1;
            }
        }
    }

    /// Waits as long as the policy says, or until there is a link or a reason to expect one.
    async fn pause(&self, peer: &Peer, failures: u32) {
        let wait = self.options.reconnect.wait(failures, &mut self.random.borrow_mut());
        let told = poll_fn(|cx| match (peer.now.poll(cx), peer.changed.poll(cx)) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => Poll::Ready(()),
        });
        match wait {
            Some(wait) => drop(timeout(wait, told).await),
            None => told.await,
        }
    }

    async fn try_reach(self: &Rc<Self>, place: usize) -> io::Result<()> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        timeout(self.options.handshake, self.reach(place)).await.map_err(late)?
    }

    /// Dials, or knocks, once.
    async fn reach(self: &Rc<Self>, place: usize) -> io::Result<()> {
        let peer = &self.peers[place];
        let (mut reader, mut writer) = self.network.dial(peer.node).await?;
        let dials = self.hello.node > peer.node;
        let serial = peer.serial.get() + u64::from(dials);
        let purpose = if dials { Purpose::Link(serial) } else { Purpose::Knock(serial) };
        if dials {
            peer.serial.set(serial);
        }
        let ours = self.hello(peer.node, purpose);
        hello::send(&mut writer, &ours).await?;
        let answer: Answer = hello::receive(&mut reader).await?;
        let refused = match answer.verdict {
            Verdict::Welcome => ours.mismatch(&answer.hello),
            Verdict::Refused(why) => Some(why),
        };
        if let Some(why) = refused {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        if dials {
            self.adopt(place, (reader, writer), serial, &answer.hello);
        }
        Ok(())
    }

    /// This stream is the link from now on.
    fn adopt(
        self: &Rc<Self>,
        place: usize,
        (reader, writer): Stream<N>,
        serial: u64,
        theirs: &Hello,
    ) {
        self.lose(place, "a newer one");
        let peer = &self.peers[place];
        peer.serial.set(serial);
        peer.process.set(Some((theirs.life, theirs.incarnation)));
        peer.out.borrow_mut().clear();
        peer.up.set(true);
        let pulse = Rc::new(Pulse::default());
        let reading = self.clone().read(place, reader, pulse.clone());
        let writing = self.clone().write(place, writer, pulse.clone());
        let watching = self.clone().watch(place, pulse);
        let tasks = vec![Task::spawn(reading), Task::spawn(writing), Task::spawn(watching)];
        *peer.link.borrow_mut() = Some(Link { _tasks: tasks });
        info!("link to {} is up", peer.node);
        self.inbox.push(Input::Link { peer: peer.node, up: true });
        peer.changed.raise();
    }

    /// The link is no more. May be called by one of its own tasks, which then has to return.
    fn lose(&self, place: usize, why: &str) {
        let peer = &self.peers[place];
        let Some(link) = peer.link.borrow_mut().take() else { return };
        drop(link);
        peer.up.set(false);
        *peer.out.borrow_mut() = Vec::new();
        info!("link to {} is down: {why}", peer.node);
        self.inbox.push(Input::Link { peer: peer.node, up: false });
        peer.changed.raise();
    }

    async fn read(self: Rc<Self>, place: usize, mut reader: N::Reader, pulse: Rc<Pulse>) {
        let from = self.peers[place].node;
        let mut bytes = Vec::with_capacity(READ);
        let why = loop {
            match reader.read_buf(&mut bytes).await {
                Ok(0) => break String::from("the peer has closed it"),
                Ok(_) => pulse.read.set(true),
                Err(error) => break error.to_string(),
            }
            match self.take_frames(from, &bytes) {
                Ok(used) => drop(bytes.drain(..used)),
                Err(error) => break error.to_string(),
            }
            if bytes.is_empty() && bytes.capacity() > 4 * READ {
                bytes = Vec::with_capacity(READ);
            }
            bytes.reserve(READ / 4);
            self.inbox.room().await;
        };
        self.lose(place, &why);
    }

    /// Hands over every whole frame; says how many bytes they were.
    fn take_frames(&self, from: NodeId, bytes: &[u8]) -> Result<usize, DecodeError> {
        let mut used = 0;
        loop {
            match wire::decode::<Message>(&bytes[used..]) {
                Ok((message, len)) => {
                    used += len;
                    self.inbox.push(Input::Message { from, message });
                }
                Err(DecodeError::Incomplete { .. }) => return Ok(used),
                Err(error) => return Err(error),
            }
        }
    }

    async fn write(self: Rc<Self>, place: usize, mut writer: N::Writer, pulse: Rc<Pulse>) {
        let peer = &self.peers[place];
        let mut bytes = Vec::new();
        let error = loop {
            peer.outgoing.wait().await;
            std::mem::swap(&mut bytes, &mut *peer.out.borrow_mut());
            pulse.writing.set(true);
            let mut sent = 0;
            let result = loop {
                if sent == bytes.len() {
                    break writer.flush().await;
                }
                match writer.write(&bytes[sent..]).await {
                    Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => sent += count,
                    Err(error) => break Err(error),
                }
                pulse.wrote.set(true);
            };
            pulse.writing.set(false);
            if let Err(error) = result {
                break error;
            }
            bytes.clear();
            bytes.shrink_to(4 * READ);
        };
        self.lose(place, &error.to_string());
    }

    /// Ends a link over which nothing comes, or nothing goes, although something should.
    async fn watch(self: Rc<Self>, place: usize, pulse: Rc<Pulse>) {
        let why = loop {
            sleep(self.options.idle).await;
            if !pulse.read.replace(false) {
                break "nothing was heard for too long";
            }
            if !pulse.wrote.replace(false) && pulse.writing.get() {
                break "the peer does not read";
            }
        };
        self.lose(place, why);
    }
}

impl<N: Network> Reach for Links<N> {
    fn status(&self) -> Vec<LinkStatus> {
        let status = |peer: &Peer| LinkStatus {
            peer: peer.node,
            up: peer.up.get(),
            queued: peer.out.borrow().len(),
            dropped: peer.dropped.get(),
        };
        self.peers.iter().map(status).collect()
    }

    fn refused(&self) -> u64 {
        self.refused.get()
    }

    fn reconnect(&self, peer: Option<NodeId>) -> bool {
        let meant = |it: &&Peer| peer.is_none_or(|peer| peer == it.node);
        let mut meant = self.peers.iter().filter(meant).peekable();
        let any = peer.is_none() || meant.peek().is_some();
        for peer in meant.filter(|peer| !peer.up.get()) {
            peer.now.raise();
        }
        any
    }
}

impl Reconnect {
    /// How long to wait after so many failures in a row; `None` is until told.
    fn wait(self, failures: u32, random: &mut Random) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Every(interval) => Some(interval),
            Self::Backoff { first, max } => {
                let wait = first.saturating_mul(1 << failures.min(16)).min(max);
                Some(wait / 2 + random.up_to(wait / 2))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, Epoch};
    use crate::cluster;
    use crate::node::Body;

    /// Nobody is ever reached.
    struct Nowhere;

    impl Network for Nowhere {
        type Reader = tokio::io::Empty;
        type Writer = tokio::io::Sink;

        async fn dial(&self, _: NodeId) -> io::Result<Stream<Self>> {
            std::future::pending().await
        }

        async fn accept(&self) -> io::Result<(Stream<Self>, String)> {
            std::future::pending().await
        }

        fn address(&self, peer: NodeId) -> String {
            peer.to_string()
        }
    }

    fn links(queue_max: usize) -> Rc<Links<Nowhere>> {
        let hello = Hello {
            name: "synod".to_owned(),
            cluster: ClusterId(7),
            configuration: 8,
            epoch: Epoch(1),
            node: NodeId(1),
            peer: NodeId(2),
            life: Life(3),
            incarnation: Incarnation(4),
            purpose: Purpose::Link(5),
        };
        let options = LinkOptions { queue_max, ..LinkOptions::default() };
        let inbox = Rc::new(Inbox::default());
        Links::new(Nowhere, hello, [NodeId(2)], options, inbox, Random::new(1))
    }

    /// A burst fills the queue for a peer: heartbeats find room all the same, and not without end.
    #[test]
    fn a_full_queue_has_room_for_heartbeats() {
        let links = links(1_000);
        links.peers[0].up.set(true);
        let header = |body| Message {
            cluster: ClusterId(7),
            epoch: Epoch(1),
            life: Life(3),
            incarnation: Incarnation(4),
            body,
        };
        let other = header(Body::Monitor(crate::monitor::Message::Sessions(Vec::new())));
        let beat = header(Body::Cluster(cluster::Message::Heartbeat {
            sequence: 1,
            session: None,
            tables: 0,
            lost: false,
        }));
        let status = || links.status()[0];
        while status().dropped == 0 {
            links.send(NodeId(2), &other);
        }
        let full = status();
        links.send(NodeId(2), &beat);
        assert!(status().queued > full.queued && status().dropped == full.dropped, "no room");
        links.send(NodeId(2), &other);
        assert_eq!(status().dropped, full.dropped + 1, "only heartbeats have room");
        let mut sent = 1;
        while status().dropped == full.dropped + 1 {
            links.send(NodeId(2), &beat);
            sent += 1;
        }
        assert!(sent > 24, "{sent} heartbeats had room");
        assert!(status().queued < 1_000 + 2 * SPARE, "{} bytes wait", status().queued);
    }
}
