//! Streams of bytes between hosts, below the host's network seam: what TCP makes of a bad network.
//!
//! A stream is a sequence of segments each way. The World carries them, so that a partition, a clog
//! or a loss meets them where they would arrive; here is what both ends know. Bytes that are lost
//! are sent again, so loss is delay, or the end of the stream. A crash sends what the operating
//! system would: resets if only the process died, nothing if the machine did. Nobody learns of
//! either but by a segment that arrives.
//!
//! Must never know: what the bytes mean, what is the matter with the network.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use synod::NodeId;
use synod::host;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Life, Shared};

/// One end of a stream: the one that dialled, or the one that was dialled.
pub(crate) type Side = usize;
const DIALLED: Side = 0;
const ACCEPTED: Side = 1;

/// The most bytes of a segment.
const SEGMENT: usize = 1_400;

/// What a segment carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Dial,
    Welcome,
    Bytes(Vec<u8>),
    /// Nothing more comes this way.
    End,
    Reset,
}

/// Something on its way from one end of a stream to the other.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) stream: u64,
    pub(crate) from: Side,
    /// Its place in the order of its direction; resets have none.
    pub(crate) sequence: u64,
    pub(crate) load: Load,
}

/// One end.
#[derive(Debug, Default)]
struct End {
    /// Whose it is; nobody's once that has ended or let go of it.
    owner: Option<Life>,
    place: usize,
    /// Whether the other end is known to be there.
    open: bool,
    reset: bool,
    ended: bool,
    arrived: VecDeque<u8>,
    /// Segments that came before those in front of them.
    early: BTreeMap<u64, Load>,
    /// The next to be sent, and the next to be taken in.
    next: u64,
    expected: u64,
    /// Bytes sent and not read yet.
    unread: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    halves: u8,
}

#[derive(Debug, Default)]
struct Connection {
    ends: [End; 2],
    /// How many streams were dialled on this pair of nodes before: what its draws are keyed by.
    number: u64,
    /// Whether nothing of it arrives any more, and nobody is told.
    dead: bool,
}

/// One machine's port.
#[derive(Debug, Default)]
struct Port {
    life: Option<Life>,
    /// Whether the machine is up, whether or not its process is.
    powered: bool,
    waiting: VecDeque<u64>,
    waker: Option<Waker>,
}

/// All streams.
#[derive(Debug)]
pub(crate) struct Bus {
    streams: BTreeMap<u64, Connection>,
    ports: Vec<Port>,
    dialled: BTreeMap<(usize, usize), u64>,
    next: u64,
    /// How many bytes may be on their way each way of a stream.
    window: usize,
    /// What the World is to carry, each with the number of deeds that were noted before it.
    sent: VecDeque<(u64, Segment)>,
    /// How many deeds were noted.
    pub(crate) noted: u64,
}

/// What became of a segment where it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Taken,
    /// Nobody is there to say anything: it will be sent again.
    Unanswered,
    /// It is for a stream that is no more.
    Stale,
}

/// How many dials may wait to be accepted.
const BACKLOG: usize = 16;

impl Bus {
    pub(crate) fn new(nodes: usize, window: usize) -> Self {
        Self {
            streams: BTreeMap::new(),
            ports: (0..nodes).map(|_| Port::default()).collect(),
            dialled: BTreeMap::new(),
            next: 1,
            window,
            sent: VecDeque::new(),
            noted: 0,
        }
    }

    // ---- lives ----------------------------------------------------------------------------

    pub(crate) fn begin(&mut self, life: Life) {
        let port = &mut self.ports[life.place];
        *port = Port { life: Some(life), powered: true, ..Port::default() };
    }

    /// The machine of a life loses power with it: it will say nothing of its end.
    pub(crate) fn cut_power(&mut self, place: usize) {
        self.ports[place].powered = false;
    }

    /// A life is over. If its machine goes on, that tells the other ends of its streams so.
    pub(crate) fn end(&mut self, life: Life) {
        let port = &mut self.ports[life.place];
        if port.life != Some(life) {
            return;
        }
        port.life = None;
        port.waiting.clear();
        let powered = port.powered;
        // What the World has not taken up yet, it sent after its end.
        let streams = &self.streams;
        self.sent.retain(|(_, segment)| {
            let stream = streams.get(&segment.stream);
            stream.is_none_or(|stream| stream.ends[segment.from].owner != Some(life))
        });
        let numbers: Vec<u64> = self.streams.keys().copied().collect();
        for number in numbers {
            for side in [DIALLED, ACCEPTED] {
                let owned = self.streams.get(&number).map(|stream| stream.ends[side].owner);
                if owned == Some(Some(life)) {
                    self.let_go(number, side, powered);
                }
            }
        }
    }

    /// One end is nobody's any more.
    fn let_go(&mut self, number: u64, side: Side, tell: bool) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let end = &mut stream.ends[side];
        end.owner = None;
        end.early.clear();
        end.arrived.clear();
        let tell = tell && !end.reset;
        if stream.ends.iter().all(|end| end.owner.is_none()) {
            self.streams.remove(&number);
        }
        if tell {
            self.refuse(number, side);
        }
    }

    /// Ends every stream between two nodes at both ends, as a middlebox does.
    pub(crate) fn reset_between(&mut self, one: usize, other: usize) {
        for stream in self.streams.values_mut() {
            let places = [stream.ends[0].place, stream.ends[1].place];
            if places == [one, other] || places == [other, one] {
                stream.ends.iter_mut().for_each(End::fail);
            }
        }
    }

    pub(crate) fn reset(&mut self, number: u64) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.ends.iter_mut().for_each(End::fail);
        }
    }

    /// The network forgets a stream, as a middlebox does that has run out of room: both ends go on,
    /// and neither hears of the other.
    pub(crate) fn forget(&mut self, number: u64) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.dead = true;
        }
    }

    /// Two nodes of which one at least still keeps a stream that the network has forgotten.
    pub(crate) fn kept_dead(&self) -> Option<(usize, usize)> {
        let mut dead = self.streams.values().filter(|stream| stream.dead);
        dead.find_map(|stream| {
            let kept = stream.ends.iter().any(|end| end.owner.is_some() && end.halves > 0);
            kept.then_some((stream.ends[0].place, stream.ends[1].place))
        })
    }

    // ---- what the World asks --------------------------------------------------------------

    /// Where a segment comes from and goes to, and the number of its stream between those two;
    /// nothing if the network or both ends have forgotten the stream.
    pub(crate) fn route(&self, segment: &Segment) -> Option<(usize, usize, u64)> {
        let stream = self.streams.get(&segment.stream).filter(|stream| !stream.dead)?;
        let (from, to) = (stream.ends[segment.from].place, stream.ends[1 - segment.from].place);
        Some((from, to, stream.number))
    }

    /// Sends a dial to another node than the one that was meant.
    pub(crate) fn misroute(&mut self, number: u64, place: usize) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.ends[ACCEPTED].place = place;
        }
    }

    /// Whether whoever sent it would send it again: a machine that is down does not.
    pub(crate) fn insists(&self, segment: &Segment) -> bool {
        self.streams.get(&segment.stream).is_some_and(|stream| {
            let end = &stream.ends[segment.from];
            let there = end.owner.is_some() || end.halves == 0;
            there && self.ports[end.place].powered
        })
    }

    /// A segment arrives.
    pub(crate) fn arrive(&mut self, segment: Segment) -> Fate {
        let (number, to) = (segment.stream, 1 - segment.from);
        let Some(stream) = self.streams.get_mut(&number) else { return Fate::Stale };
        let end = &mut stream.ends[to];
        let port = &mut self.ports[end.place];
        if segment.load == Load::Dial {
            if !port.powered {
                return Fate::Unanswered;
            }
            match port.life {
                Some(life) if port.waiting.len() < BACKLOG => {
                    end.owner = Some(life);
                    end.open = true;
                    end.expected = 1;
                    end.halves = 2;
                    port.waiting.push_back(number);
                    wake(&mut port.waker);
                    self.send(number, ACCEPTED, Load::Welcome);
                }
                Some(_) | None => self.refuse(number, to),
            }
            return Fate::Taken;
        }
        if end.owner.is_none() {
            if !port.powered {
                return Fate::Unanswered;
            }
            if segment.load != Load::Reset {
                self.refuse(number, to);
            }
            return Fate::Stale;
        }
        if segment.load == Load::Reset {
            end.fail();
            return Fate::Taken;
        }
        if segment.sequence < end.expected {
            return Fate::Stale;
        }
        end.early.insert(segment.sequence, segment.load);
        while let Some(load) = end.early.remove(&end.expected) {
            end.expected += 1;
            match load {
                Load::Welcome | Load::Dial | Load::Reset => end.open = true,
                Load::Bytes(bytes) => end.arrived.extend(bytes),
                Load::End => end.ended = true,
            }
        }
        end.wake();
        Fate::Taken
    }

    /// Whoever is there says that it knows nothing of this stream.
    fn refuse(&mut self, number: u64, from: Side) {
        let segment = Segment { stream: number, from, sequence: 0, load: Load::Reset };
        self.sent.push_back((self.noted, segment));
    }

    /// Whether there is anything to be carried.
    pub(crate) fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// The next to be carried of those that were sent before so many deeds were noted.
    pub(crate) fn next_sent(&mut self, noted: u64) -> Option<Segment> {
        let next = self.sent.pop_front_if(|(before, _)| *before <= noted);
        next.map(|(_, segment)| segment)
    }

    fn send(&mut self, number: u64, from: Side, load: Load) {
        if let Some(stream) = self.streams.get_mut(&number) {
            let sequence = stream.ends[from].next;
            stream.ends[from].next += 1;
            let segment = Segment { stream: number, from, sequence, load };
            self.sent.push_back((self.noted, segment));
        }
    }

    // ---- what hosts ask -------------------------------------------------------------------

    fn dial(&mut self, life: Life, to: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        let count = self.dialled.entry((life.place, to)).or_default();
        *count += 1;
        let mut stream = Connection { number: *count, ..Connection::default() };
        stream.ends[DIALLED] =
            End { owner: Some(life), place: life.place, halves: 2, ..End::default() };
        stream.ends[ACCEPTED].place = to;
        self.streams.insert(number, stream);
        self.send(number, DIALLED, Load::Dial);
        number
    }

    /// Somebody unknown says something to a node, and then nothing more.
    pub(crate) fn intrude(&mut self, place: usize, bytes: Vec<u8>) {
        let Some(life) = self.ports[place].life else { return };
        let number = self.next;
        self.next += 1;
        let mut stream = Connection::default();
        stream.ends[DIALLED].place = place;
        let end = &mut stream.ends[ACCEPTED];
        *end = End { owner: Some(life), place, open: true, halves: 2, ..End::default() };
        end.arrived.extend(bytes);
        self.streams.insert(number, stream);
        let port = &mut self.ports[place];
        port.waiting.push_back(number);
        wake(&mut port.waker);
    }

    /// A half is dropped; with the last one the end is.
    fn drop_half(&mut self, number: u64, side: Side, life: Life, writer: bool) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let end = &mut stream.ends[side];
        if end.owner != Some(life) {
            return;
        }
        end.halves -= 1;
        let (last, reset) = (end.halves == 0, end.reset);
        if writer && !reset && end.open {
            self.send(number, side, Load::End);
        }
        if last {
            self.let_go(number, side, !reset && !self.is_open(number, side));
        }
    }

    fn is_open(&self, number: u64, side: Side) -> bool {
        self.streams.get(&number).is_some_and(|stream| stream.ends[side].open)
    }

    fn end_mut(&mut self, number: u64, side: Side, life: Life) -> io::Result<&mut End> {
        let end = self.streams.get_mut(&number).map(|stream| &mut stream.ends[side]);
        match end.filter(|end| end.owner == Some(life)) {
            Some(end) if !end.reset => Ok(end),
            _ => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl End {
    fn fail(&mut self) {
        self.reset = true;
        self.wake();
    }

    fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

// ---- the host's side ------------------------------------------------------------------------

/// One life's way to the others.
pub(super) struct Network {
    life: Life,
    shared: Shared,
}

impl Network {
    pub(super) const fn new(life: Life, shared: Shared) -> Self {
        Self { life, shared }
    }

    fn halves(&self, number: u64, side: Side) -> (Half<false>, Half<true>) {
        let (life, shared) = (self.life, self.shared.clone());
        let reader = Half { number, side, life, shared: shared.clone() };
        (reader, Half { number, side, life, shared })
    }
}

impl host::Network for Network {
    type Reader = Half<false>;
    type Writer = Half<true>;

    async fn dial(&self, peer: NodeId) -> io::Result<(Half<false>, Half<true>)> {
        let to = usize::from(peer.0) - 1;
        let number = {
            let mut common = self.shared.lock();
            let number = common.bus.dial(self.life, to);
            common.wake();
            number
        };
        // Dropped if the dial is given up.
        let halves = self.halves(number, DIALLED);
        poll_fn(|cx| {
            let mut common = self.shared.lock();
            match common.bus.end_mut(number, DIALLED, self.life) {
                Ok(end) if end.open => Poll::Ready(Ok(())),
                Ok(end) => {
                    end.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
                Err(_) => Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionRefused))),
            }
        })
        .await?;
        Ok(halves)
    }

    async fn accept(&self) -> io::Result<((Half<false>, Half<true>), String)> {
        let number = poll_fn(|cx| {
            let mut common = self.shared.lock();
            let port = &mut common.bus.ports[self.life.place];
            if port.life != Some(self.life) {
                return Poll::Pending;
            }
            match port.waiting.pop_front() {
                Some(number) => Poll::Ready(number),
                None => {
                    port.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        let number = number.await;
        Ok((self.halves(number, ACCEPTED), format!("stream {number}")))
    }

    fn address(&self, peer: NodeId) -> String {
        format!("bus:{}", peer.0)
    }
}

/// One half of one end, to read or to write.
pub(super) struct Half<const WRITER: bool> {
    number: u64,
    side: Side,
    life: Life,
    shared: Shared,
}

impl AsyncRead for Half<false> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut common = self.shared.lock();
        let end = match common.bus.end_mut(self.number, self.side, self.life) {
            Ok(end) => end,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if end.arrived.is_empty() {
            if end.ended {
                return Poll::Ready(Ok(()));
            }
            end.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = end.arrived.len().min(out.remaining());
        for byte in end.arrived.drain(..count) {
            out.put_slice(&[byte]);
        }
        // What is read makes room for what the other end has to say.
        if let Some(stream) = common.bus.streams.get_mut(&self.number) {
            let other = &mut stream.ends[1 - self.side];
            other.unread = other.unread.saturating_sub(count);
            wake(&mut other.writer);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Half<true> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut common = self.shared.lock();
        let window = common.bus.window;
        let end = match common.bus.end_mut(self.number, self.side, self.life) {
            Ok(end) => end,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let count = bytes.len().min(window.saturating_sub(end.unread)).min(SEGMENT);
        if count == 0 && !bytes.is_empty() {
            end.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        end.unread += count;
        common.bus.send(self.number, self.side, Load::Bytes(bytes[..count].to_vec()));
        common.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl<const WRITER: bool> Drop for Half<WRITER> {
    fn drop(&mut self) {
        let mut common = self.shared.lock();
        common.bus.drop_half(self.number, self.side, self.life, WRITER);
        common.wake();
    }
}
