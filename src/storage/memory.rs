//! Stores without a disk: one that outlives a node within its process, and one that keeps nothing.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Checkpoint, Found, Opened, Storage, StorageError};
use crate::base::Ticket;
use crate::node::Record;

/// A store in memory: what was synced survives the node, but not the process.
///
/// Clones share what is synced, as two openings of one directory would. Dropping the store is a
/// crash: what was not synced is gone.
#[derive(Debug, Default)]
pub struct Memory {
    synced: Arc<Mutex<Checkpoint>>,
    waiting: Vec<Record>,
    ticket: Ticket,
}

impl Memory {
    /// A store for the same memory, as after a restart of the node.
    #[must_use]
    pub fn reopen(&self) -> Opened<Self> {
        let synced = self.synced.clone();
        let records: Vec<Record> = self.lock().records().collect();
        let found = if records.is_empty() { Found::New } else { Found::Records(records.into()) };
        Opened { storage: Self { synced, waiting: Vec::new(), ticket: Ticket(0) }, found }
    }

    fn lock(&self) -> MutexGuard<'_, Checkpoint> {
        // Nothing is left half done by a panic: records are applied one by one.
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Memory {
    fn append(&mut self, ticket: Ticket, records: &[Record]) -> Result<(), StorageError> {
        ascend(&mut self.ticket, ticket);
        self.waiting.extend_from_slice(records);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let waiting = mem::take(&mut self.waiting);
        self.lock().extend(waiting);
        Ok(())
    }

    fn compact(&mut self) -> Result<(), StorageError> {
        self.sync()
    }
}

/// Keeps nothing: for a node whose state may end with its process.
#[derive(Debug, Default)]
pub struct Volatile(Ticket);

impl Storage for Volatile {
    fn append(&mut self, ticket: Ticket, _: &[Record]) -> Result<(), StorageError> {
        ascend(&mut self.0, ticket);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn compact(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Every store's check of the order of tickets.
pub(super) fn ascend(last: &mut Ticket, next: Ticket) {
    assert!(next > *last, "ticket {next} behind {last}: records would change their order");
    *last = next;
}
