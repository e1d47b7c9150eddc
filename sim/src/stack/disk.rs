//! A node's storage: it hands records to the World, which decides what of them survives.
//!
//! Must never know: what records mean.

use std::io;
use std::path::PathBuf;

use synod::host::Wait;
use synod::storage::{Storage, StorageError};
use synod::{Record, Ticket};

use super::{Deed, Life, Shared};
use crate::plan::{Disk, Nanos};
use crate::random::{Site, below, draw};

/// What is the matter with a disk at present.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskView {
    /// Whether the next sync fails.
    pub(crate) fails: bool,
    pub(crate) full: bool,
    pub(crate) slow: Nanos,
}

/// The storage of one life.
pub(super) struct Simulated {
    life: Life,
    shared: Shared,
    failed: bool,
}

impl Simulated {
    pub(super) const fn new(life: Life, shared: Shared) -> Self {
        Self { life, shared, failed: false }
    }
}

impl Storage for Simulated {
    fn append(&mut self, ticket: Ticket, records: &[Record]) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Stopped);
        }
        self.shared.note(self.life, Deed::Appended(ticket, records.to_vec()));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Stopped);
        }
        let view = self.shared.lock().disks[self.life.place];
        if view.fails || view.full {
            self.failed = true;
            self.shared.note(self.life, Deed::SyncFailed);
            let error = io::Error::other(if view.full { "no space left" } else { "a write fails" });
            return Err(StorageError::Io {
                doing: "sync",
                path: PathBuf::from("simulated"),
                error,
            });
        }
        self.shared.note(self.life, Deed::Synced);
        Ok(())
    }

    fn compact(&mut self) -> Result<(), StorageError> {
        self.sync()
    }
}

/// How long each sync of one life takes: what to wait for.
pub(super) fn delays(
    seed: u64,
    disk: &Disk,
    life: Life,
    shared: Shared,
) -> impl FnMut() -> Wait + Send + 'static {
    let (latency, jitter) = (disk.latency, disk.jitter);
    let mut count = u64::from(life.boots) << 32;
    move || {
        count += 1;
        let took = latency + below(draw(seed, Site::Disk, life.place as u64, count), jitter + 1);
        let slow = shared.lock().disks[life.place].slow;
        Box::pin(super::sleep(took.saturating_add(slow)))
    }
}
