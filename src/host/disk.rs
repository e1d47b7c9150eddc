//! Where the node's records become durable.
//!
//! Must never know: what a record means.

use std::task::{Context, Poll};

use crate::base::Ticket;
use crate::node::Record;
use crate::storage::{Storage, StorageError};

/// What the driver hands its writes to.
pub(super) enum Disk {
    /// Written and synced before the driver goes on.
    Inline(Box<dyn Storage>),
}

impl Disk {
    /// Takes all of `writes`. What is durable at once it says at once.
    pub(super) fn write(
        &mut self,
        writes: &mut Vec<(Ticket, Vec<Record>)>,
    ) -> Result<Option<Ticket>, StorageError> {
        match self {
            Self::Inline(storage) => {
                let mut last = None;
                for (ticket, records) in writes.drain(..) {
                    storage.append(ticket, &records)?;
                    last = Some(ticket);
                }
                storage.sync()?;
                Ok(last)
            }
        }
    }

    /// What has become durable since.
    pub(super) fn poll(&self, _cx: &Context<'_>) -> Poll<Result<Ticket, StorageError>> {
        match self {
            Self::Inline(_) => Poll::Pending,
        }
    }
}
