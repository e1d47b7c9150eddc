//! Where the node's records become durable while the node goes on.
//!
//! While one batch is written and synced, the next collects: group commit.
//!
//! Must never know: what a record means.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::task::Task;
use crate::base::Ticket;
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

/// What the driver hands its writes to.
pub(super) enum Disk {
    /// Written and synced before the driver goes on.
    Inline(Box<dyn Storage>),
    /// By somebody else, who takes all that waits at once.
    Remote(Remote),
}

pub(super) struct Remote {
    batches: UnboundedSender<Batch>,
    written: UnboundedReceiver<Written>,
    /// The last ticket handed over, and the last that is durable.
    handed: Ticket,
    durable: Ticket,
    _worker: Worker,
}

/// Kept while there is work for it.
enum Worker {
    #[cfg(not(madsim))]
    Thread,
    Task(#[expect(dead_code, reason = "it ends when this is dropped")] Task),
}

impl Disk {
    /// # Errors
    /// If a thread is needed and none is to be had.
    pub(super) fn new(storage: Box<dyn Storage>, syncing: Syncing) -> std::io::Result<Self> {
        let (batches, work) = unbounded_channel();
        let (report, written) = unbounded_channel();
        let worker = match syncing {
            Syncing::Inline => return Ok(Self::Inline(storage)),
            Syncing::Delayed(delay) => {
                Worker::Task(Task::spawn(slowly(storage, delay, work, report)))
            }
            #[cfg(not(madsim))]
            Syncing::Thread => {
                let name = std::thread::Builder::new().name(String::from("synod-disk"));
                name.spawn(move || steadily(storage, work, &report))?;
                Worker::Thread
            }
            #[cfg(madsim)]
            Syncing::Thread => return Err(std::io::ErrorKind::Unsupported.into()),
        };
        let (handed, durable) = (Ticket(0), Ticket(0));
        Ok(Self::Remote(Remote { batches, written, handed, durable, _worker: worker }))
    }

    /// Takes all of `writes`. What is durable at once it says at once.
    pub(super) fn write(&mut self, writes: &mut Batch) -> Result<Option<Ticket>, StorageError> {
        match self {
            Self::Inline(storage) => commit(&mut **storage, writes).map(Some),
            Self::Remote(remote) => {
                if let Some((last, _)) = writes.last() {
                    remote.handed = *last;
                    // If the worker is gone, `poll` says so.
                    drop(remote.batches.send(std::mem::take(writes)));
                }
                Ok(None)
            }
        }
    }

    /// Whether something is being written.
    pub(super) const fn is_busy(&self) -> bool {
        match self {
            Self::Inline(_) => false,
            Self::Remote(remote) => remote.durable.0 < remote.handed.0,
        }
    }

    /// What has become durable since.
    ///
    /// # Panics
    /// If the worker has.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Written> {
        if !self.is_busy() {
            return Poll::Pending;
        }
        let Self::Remote(remote) = self else { return Poll::Pending };
        remote.written.poll_recv(cx).map(|written| {
            let written = written.expect("whoever writes ends after us");
            remote.durable = *written.as_ref().unwrap_or(&remote.handed);
            written
        })
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

#[cfg(not(madsim))]
fn steadily(
    mut storage: Box<dyn Storage>,
    mut work: UnboundedReceiver<Batch>,
    report: &UnboundedSender<Written>,
) {
    while let Some(batch) = work.blocking_recv() {
        let mut batch = gather(batch, &mut work);
        let written = commit(&mut *storage, &mut batch);
        let failed = written.is_err();
        if report.send(written).is_err() || failed {
            return;
        }
    }
}

async fn slowly(
    mut storage: Box<dyn Storage>,
    mut delay: Box<dyn FnMut() -> Wait + Send>,
    mut work: UnboundedReceiver<Batch>,
    report: UnboundedSender<Written>,
) {
    while let Some(batch) = work.recv().await {
        let mut batch = gather(batch, &mut work);
        // Appended first: a crash meanwhile finds writes outstanding, as on a device.
        let written = match append(&mut *storage, &mut batch) {
            Ok(last) => {
                delay().await;
                storage.sync().map(|()| last)
            }
            Err(error) => Err(error),
        };
        if report.send(written).is_err() {
            return;
        }
    }
}
