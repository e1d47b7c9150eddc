//! Where the node's records become durable while the node goes on.
//!
//! While one batch is written and synced, the next collects: group commit.
//!
//! Must never know: what a record means.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{info, warn};

use super::clock::Clock;
use super::task::Task;
use crate::base::{Instant, Ticket};
use crate::node::Record;
use crate::storage::{Storage, StorageError};

/// Who waits for the storage.
pub enum Syncing {
    /// The node's thread: for storage that answers at once.
    Inline,
    /// A task that first waits for what it is given, for each batch: a simulated disk.
    Delayed(Box<dyn FnMut() -> Wait + Send>),
    /// A thread of its own: for storage that waits for a device. However long that takes, the node
    /// keeps its deadlines and goes on telling its peers that it lives.
    Thread,
}

impl fmt::Debug for Syncing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inline => "Inline",
            Self::Delayed(_) => "Delayed",
            Self::Thread => "Thread",
        })
    }
}

/// What a simulated disk waits for.
pub type Wait = Pin<Box<dyn Future<Output = ()>>>;

type Batch = Vec<(Ticket, Vec<Record>)>;
type Written = Result<Ticket, StorageError>;

/// What was written, and how long that took.
type Report = (Written, Duration);

/// Bytes that may wait for the disk; above it, nothing is taken on that would add to them.
const WAITING_MAX: usize = 64 << 20;

/// A disk that makes nothing durable for so long is worth a warning, and another one after ten
/// times that.
const LONG: Duration = Duration::from_secs(1);

/// How a node's disk does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// Bytes that are not durable yet, about.
    pub waiting_bytes: usize,
    /// Records likewise.
    pub waiting_records: usize,
    /// For how long something has waited while nothing became durable.
    pub stalled: Duration,
    /// Messages of peers that were dropped, there being too much that waits.
    pub dropped: u64,
    /// Requests of clients that were refused for that.
    pub refused: u64,
}

type Observer = Box<dyn Fn(Duration)>;

/// What the node's thread can see of its disk.
#[derive(Default)]
pub(super) struct Figures {
    waiting: Cell<(usize, usize)>,
    /// When something last became durable, or the first began to wait; nothing if nothing waits.
    since: Cell<Option<Instant>>,
    dropped: Cell<u64>,
    refused: Cell<u64>,
    observer: RefCell<Option<Observer>>,
}

impl Figures {
    pub(super) fn status(&self, now: Instant) -> DiskStatus {
        let (waiting_bytes, waiting_records) = self.waiting.get();
        DiskStatus {
            waiting_bytes,
            waiting_records,
            stalled: self.since.get().map_or(Duration::ZERO, |since| now.since(since)),
            dropped: self.dropped.get(),
            refused: self.refused.get(),
        }
    }

    /// Has this told how long each batch took to be written and synced.
    pub(super) fn observe(&self, observer: Observer) {
        self.observer.replace(Some(observer));
    }

    fn saw(&self, took: Duration) {
        if let Some(observer) = &*self.observer.borrow() {
            observer(took);
        }
    }
}

/// What the driver hands its writes to.
pub(super) struct Disk {
    device: Device,
    /// What was not handed over yet.
    writes: Batch,
    /// The bytes and records of each write that is not durable, in order.
    waiting: VecDeque<(Ticket, usize, usize)>,
    /// When to warn next, while nothing becomes durable.
    warning: Instant,
    warned: bool,
    figures: Rc<Figures>,
    clock: Rc<dyn Clock>,
}

enum Device {
    /// Written and synced before the driver goes on.
    Inline(Box<dyn Storage>),
    /// By somebody else, who takes all that waits at once.
    Remote(Remote),
}

struct Remote {
    /// None once it has come to its end.
    batches: Option<UnboundedSender<Batch>>,
    reports: UnboundedReceiver<Report>,
    /// The last ticket handed over, and the last that is durable.
    handed: Ticket,
    durable: Ticket,
    worker: Worker,
}

/// Kept while there is work for it.
enum Worker {
    #[cfg(not(madsim))]
    Thread(Option<std::thread::JoinHandle<()>>),
    Task(#[expect(dead_code, reason = "it ends when this is dropped")] Task),
}

impl Disk {
    /// # Errors
    /// If a thread is needed and none is to be had.
    pub(super) fn new(
        storage: Box<dyn Storage>,
        syncing: Syncing,
        figures: Rc<Figures>,
        clock: Rc<dyn Clock>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            device: Device::new(storage, syncing)?,
            writes: Vec::new(),
            waiting: VecDeque::new(),
            warning: Instant::ZERO,
            warned: false,
            figures,
            clock,
        })
    }

    /// Takes a write; it goes with the next [`Disk::flush`].
    pub(super) fn write(&mut self, ticket: Ticket, records: Vec<Record>) {
        let size = records.iter().map(Record::size).sum();
        self.waiting.push_back((ticket, size, records.len()));
        let (bytes, count) = self.figures.waiting.get();
        self.figures.waiting.set((bytes + size, count + records.len()));
        self.writes.push((ticket, records));
        if self.figures.since.get().is_none() {
            self.goes_on(true);
        }
    }

    /// Hands over what was taken. What is durable at once it says at once.
    pub(super) fn flush(&mut self) -> Result<Option<Ticket>, StorageError> {
        let Some((last, _)) = self.writes.last() else { return Ok(None) };
        match &mut self.device {
            Device::Inline(storage) => {
                let begun = self.clock.now().instant;
                let last = commit(&mut **storage, &mut self.writes)?;
                self.durable(last, self.clock.now().instant.since(begun));
                Ok(Some(last))
            }
            Device::Remote(remote) => {
                remote.handed = *last;
                // If the worker is gone, `poll` says so.
                let batches = remote.batches.as_ref().expect("it has not come to its end");
                drop(batches.send(std::mem::take(&mut self.writes)));
                Ok(None)
            }
        }
    }

    /// Whether something is being written.
    pub(super) const fn is_busy(&self) -> bool {
        match &self.device {
            Device::Inline(_) => false,
            Device::Remote(remote) => remote.durable.0 < remote.handed.0,
        }
    }

    /// Whether so much waits that no more should come.
    pub(super) fn is_full(&self) -> bool {
        self.figures.waiting.get().0 >= WAITING_MAX
    }

    /// A message of a peer was dropped for that.
    pub(super) fn count_dropped(&self) {
        self.figures.dropped.set(self.figures.dropped.get() + 1);
    }

    /// A request of a client was refused for that.
    pub(super) fn count_refused(&self) {
        self.figures.refused.set(self.figures.refused.get() + 1);
    }

    /// What has become durable since.
    ///
    /// # Panics
    /// If the worker has.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Written> {
        if !self.is_busy() {
            return Poll::Pending;
        }
        let Device::Remote(remote) = &mut self.device else { return Poll::Pending };
        let Poll::Ready(report) = remote.reports.poll_recv(cx) else { return Poll::Pending };
        let (written, took) = report.expect("whoever writes ends after us");
        remote.durable = *written.as_ref().unwrap_or(&remote.handed);
        if let Ok(last) = written {
            self.durable(last, took);
        }
        Poll::Ready(written)
    }

    /// Warns if nothing has become durable for too long; says when to look again.
    pub(super) fn watch(&mut self, now: Instant) -> Option<Instant> {
        let since = self.figures.since.get()?;
        if self.warning <= now {
            let (bytes, records) = self.figures.waiting.get();
            let refused = if self.is_full() { "; writes are refused" } else { "" };
            warn!(
                "the disk has made nothing durable for {:?}: {bytes} bytes in {records} records \
                 wait for it{refused}",
                now.since(since)
            );
            self.warned = true;
            self.warning = now + LONG * 10;
        }
        Some(self.warning)
    }

    fn durable(&mut self, last: Ticket, took: Duration) {
        self.figures.saw(took);
        let (mut bytes, mut records) = self.figures.waiting.get();
        while let Some((_, size, count)) = self.waiting.pop_front_if(|(it, ..)| *it <= last) {
            bytes -= size;
            records -= count;
        }
        self.figures.waiting.set((bytes, records));
        if std::mem::take(&mut self.warned) {
            info!("the disk goes on: the last sync took {took:?}");
        }
        self.goes_on(!self.waiting.is_empty());
    }

    /// Whatever waits has waited in vain from now on only.
    fn goes_on(&mut self, waits: bool) {
        let now = self.clock.now().instant;
        self.figures.since.set(waits.then_some(now));
        self.warning = now + LONG;
    }
}

impl Drop for Remote {
    /// Whoever waits for the node's end may open its storage next, so it is let go of by then;
    /// unless the device is stuck, for which nobody waits here.
    fn drop(&mut self) {
        self.batches = None;
        match &mut self.worker {
            #[cfg(not(madsim))]
            Worker::Thread(thread) if self.durable == self.handed => {
                // If it has panicked, so have we.
                drop(thread.take().map(std::thread::JoinHandle::join));
            }
            #[cfg(not(madsim))]
            Worker::Thread(_) => {}
            Worker::Task(_) => {}
        }
    }
}

impl Device {
    fn new(storage: Box<dyn Storage>, syncing: Syncing) -> std::io::Result<Self> {
        let (batches, work) = unbounded_channel();
        let (report, reports) = unbounded_channel();
        let worker = match syncing {
            Syncing::Inline => return Ok(Self::Inline(storage)),
            Syncing::Delayed(delay) => {
                Worker::Task(Task::spawn(write(storage, delay, work, report)))
            }
            #[cfg(not(madsim))]
            Syncing::Thread => {
                let runtime = tokio::runtime::Builder::new_current_thread().build()?;
                let at_once: Box<dyn FnMut() -> Wait + Send> =
                    Box::new(|| Box::pin(std::future::ready(())));
                let name = std::thread::Builder::new().name(String::from("synod-disk"));
                let life = move || runtime.block_on(write(storage, at_once, work, report));
                Worker::Thread(Some(name.spawn(life)?))
            }
            #[cfg(madsim)]
            Syncing::Thread => return Err(std::io::ErrorKind::Unsupported.into()),
        };
        let (handed, durable) = (Ticket(0), Ticket(0));
        let batches = Some(batches);
        Ok(Self::Remote(Remote { batches, reports, handed, durable, worker }))
    }
}

/// All that has come by now goes with what was taken first. Whoever writes takes it without asking
/// the driver, so that the device does not wait for a hand-over between two syncs.
fn gather(mut batch: Batch, work: &mut UnboundedReceiver<Batch>) -> Batch {
    while let Ok(more) = work.try_recv() {
        batch.extend(more);
    }
    batch
}

/// Appends every write and syncs once; says which was the last.
fn commit(storage: &mut dyn Storage, writes: &mut Batch) -> Written {
    let last = append(storage, writes)?;
    storage.sync()?;
    Ok(last)
}

/// Appends every write; says which was the last.
fn append(storage: &mut dyn Storage, writes: &mut Batch) -> Written {
    let mut last = Ticket(0);
    for (ticket, records) in writes.drain(..) {
        storage.append(ticket, &records)?;
        last = ticket;
    }
    Ok(last)
}

/// Writes all that comes, batch by batch, until nothing does or it fails: on a thread of its own,
/// or as a task of a simulator's. Nothing is said to be durable before its sync has returned.
async fn write(
    mut storage: Box<dyn Storage>,
    mut delay: Box<dyn FnMut() -> Wait + Send>,
    mut work: UnboundedReceiver<Batch>,
    report: UnboundedSender<Report>,
) {
    while let Some(batch) = work.recv().await {
        let begun = tokio::time::Instant::now();
        let mut batch = gather(batch, &mut work);
        // Appended first: a crash meanwhile finds writes outstanding, as on a device.
        let written = match append(&mut *storage, &mut batch) {
            Ok(last) => {
                delay().await;
                storage.sync().map(|()| last)
            }
            Err(error) => Err(error),
        };
        let failed = written.is_err();
        if report.send((written, begun.elapsed())).is_err() || failed {
            return;
        }
    }
}
