//! One batch of records at a time on its way to disk, so that no store can put them out of order.
//!
//! What comes while a batch is on its way makes the next one. A batch that is not confirmed is
//! handed over again, under the same ticket, until it is.
//!
//! Must never know: what records mean, what waits for them.

use alloc::vec::Vec;
use core::time::Duration;

use super::journal::{RECORD_BYTES, Record};
use super::log::Entry;
use super::replica::Effect;
use super::roster::Reign;
use super::snapshot::{Cursor, Piece};
use crate::base::{Instant, Ticket};

/// How far something is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) reign: Reign,
    pub(super) sworn_off: bool,
    /// Of the log.
    pub(super) index: u64,
    /// Of a copy in the making.
    pub(super) cursor: Option<Cursor>,
}

#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    records: Vec<Record>,
    mark: Mark,
    again: Instant,
}

#[derive(Debug)]
pub(super) struct Writer {
    retry: Duration,
    ticket: Ticket,
    queue: Vec<Record>,
    /// About how many bytes of entries the last record of the queue has.
    bytes: usize,
    flight: Option<Flight>,
    /// What the queue comes to.
    mark: Mark,
    durable: Mark,
    committed: u64,
}

impl Writer {
    pub(super) fn new(retry: Duration, mark: Mark, committed: u64) -> Self {
        let durable = mark.clone();
        let (ticket, queue, bytes) = (Ticket(0), Vec::new(), 0);
        Self { retry, ticket, queue, bytes, flight: None, mark, durable, committed }
    }

    pub(super) const fn durable(&self) -> &Mark {
        &self.durable
    }

    pub(super) fn enter(&mut self, reign: Reign, sworn_off: bool) {
        (self.mark.reign, self.mark.sworn_off) = (reign, sworn_off);
        self.queue.push(Record::Entered { reign, sworn_off });
    }

    /// Entries that follow each other share a record, as long as that is of a bounded size.
    pub(super) fn append(&mut self, entry: Entry) {
        self.mark.index = entry.place.index;
        let size = entry.size();
        match self.queue.last_mut() {
            Some(Record::Appended(entries))
                if self.bytes + size <= RECORD_BYTES
                    && entries
                        .last()
                        .is_some_and(|last| last.place.index + 1 == self.mark.index) =>
            {
                self.bytes += size;
                entries.push(entry);
            }
            _ => {
                self.bytes = size;
                self.queue.push(Record::Appended(alloc::vec![entry]));
            }
        }
    }

    pub(super) fn stage(&mut self, piece: Piece) {
        self.mark.cursor = Some(piece.upto.clone());
        self.queue.push(Record::Piece(piece));
    }

    /// What the log had behind `index` is no more: that it had been written says nothing of what
    /// comes in its place.
    pub(super) fn cut(&mut self, index: u64) {
        let flight = self.flight.as_mut().map(|flight| &mut flight.mark);
        for mark in [&mut self.mark, &mut self.durable].into_iter().chain(flight) {
            mark.index = mark.index.min(index);
        }
    }

    /// The copy in the making is whole and becomes the log, which ends at `index`: written once all
    /// of it is.
    pub(super) fn replaced(&mut self, index: u64) {
        self.cut(0);
        self.unstage();
        (self.mark.index, self.committed) = (index, index);
    }

    /// The copy in the making is given up.
    pub(super) fn unstage(&mut self) {
        let flight = self.flight.as_mut().map(|flight| &mut flight.mark);
        for mark in [&mut self.mark, &mut self.durable].into_iter().chain(flight) {
            mark.cursor = None;
        }
    }

    pub(super) fn on_persisted(&mut self, ticket: Ticket) {
        if let Some(flight) = self.flight.take_if(|flight| flight.ticket == ticket) {
            self.durable = flight.mark;
        }
    }

    /// Hands over the next batch if none is on its way. What is `committed` goes along with it.
    pub(super) fn flush(&mut self, committed: u64, now: Instant, effects: &mut Vec<Effect>) {
        if self.flight.is_some() || self.queue.is_empty() {
            return;
        }
        if committed > self.committed {
            self.committed = committed;
            self.queue.push(Record::Committed(committed));
        }
        self.ticket.0 += 1;
        let (ticket, records) = (self.ticket, core::mem::take(&mut self.queue));
        effects.push(Effect::Persist { ticket, records: records.clone() });
        let (mark, again) = (self.mark.clone(), now + self.retry);
        self.flight = Some(Flight { ticket, records, mark, again });
    }

    pub(super) fn on_tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Some(flight) = self.flight.as_mut().filter(|flight| now >= flight.again) {
            flight.again = now + self.retry;
            let (ticket, records) = (flight.ticket, flight.records.clone());
            effects.push(Effect::Persist { ticket, records });
        }
    }
}
