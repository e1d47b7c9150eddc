//! Primary tables with types.
//!
//! Must never know: how the node is reached, who is primary.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::codec::Codec;
use super::error::{Error, Rejection};
use super::watch::{RoleChange, Watch};
use crate::base::{Key, NodeId, OpId, TableId, Value};
use crate::consensus::{Command, Outcome, Refusal, Topic};
use crate::host::{CallOptions, Handle};
use crate::primary::{self, Answer, Call, Command as Ask, Info, Place, ReadLevel};

/// How many rows a page has.
const PAGE: u32 = 1_000;

/// A write that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Where.
    pub place: Place,
    /// Whether there was a value before it.
    pub existed: bool,
}

/// The id of one write, under which it can be asked again and resolved, at any node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteId {
    /// The id.
    pub op: OpId,
    /// A place from before it was asked first: what is forgotten of what came behind it may be it.
    pub since: u64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It was done.
    Done(Committed),
    /// It was not, and never will be.
    Never,
}

/// A primary table, with its keys and values as the application has them. Cheap to clone; clones
/// are one client, which is never shown an earlier state than it has been shown before.
///
/// Writes, and reads that only the primary answers, are passed on to it by this node, whoever it
/// is, and asked again for as long as the caller is patient: a failover costs time, and no write is
/// done twice. Other reads are answered by this node's replica if it has one.
///
/// Errors are as for [`super::Table`]. [`Error::Unknown`] of a write under an id of the caller's
/// own can be resolved: see [`PrimaryTable::resolve`].
pub struct PrimaryTable<K, V> {
    handle: Handle,
    id: TableId,
    name: String,
    options: CallOptions,
    level: ReadLevel,
    /// The latest place shown to any of its clones.
    seen: Arc<AtomicU64>,
    kinds: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for PrimaryTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            id: self.id,
            name: self.name.clone(),
            options: self.options,
            level: self.level,
            seen: self.seen.clone(),
            kinds: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for PrimaryTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrimaryTable").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K, V> PrimaryTable<K, V> {
    pub(super) fn new(handle: Handle, id: TableId, name: String) -> Self {
        let (options, level) = (CallOptions::default(), ReadLevel::default());
        Self { handle, id, name, options, level, seen: Arc::default(), kinds: PhantomData }
    }

    /// The same table, whose calls wait at most so long. Default 10 s, which is enough for another
    /// primary to be found.
    #[must_use]
    pub fn patience(&self, patience: Duration) -> Self {
        Self { options: CallOptions { patience, ..self.options }, ..self.clone() }
    }

    /// The same table, whose reads may show such states. Default [`ReadLevel::Committed`].
    #[must_use]
    pub fn reading(&self, level: ReadLevel) -> Self {
        Self { level, ..self.clone() }
    }

    /// Its place among the cluster's tables.
    #[must_use]
    pub const fn id(&self) -> TableId {
        self.id
    }

    /// The latest place that this client has been shown. Given to [`PrimaryTable::see`] elsewhere,
    /// nothing earlier is shown there.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Shows this client nothing from before this place any more: a read waits until this node has
    /// come so far.
    pub fn see(&self, place: u64) {
        self.seen.fetch_max(place, Ordering::Relaxed);
    }

    /// An id for one write. The primary is asked how far the table is: a node that has no copy, or
    /// an old one, does not know.
    ///
    /// # Errors
    /// As said above.
    pub async fn write_id(&self) -> Result<WriteId, Error> {
        let any = Ask::Get(Key::from(""), ReadLevel::Linearizable);
        let Answer::Found { place: Place { index: since, .. }, .. } = self.ask(any, None).await?
        else {
            return Err(Error::Unknown);
        };
        Ok(WriteId { op: self.handle.reserve(), since })
    }

    async fn call(&self, call: Call) -> Result<Answer, Error> {
        let command = Command::Primary { table: self.id, call };
        let answer = match self.handle.call(command, self.options).await? {
            Outcome::Primary(answer) => answer,
            outcome => return Err(Error::from_outcome(outcome)),
        };
        if let Answer::Committed { place, .. }
        | Answer::Found { place, .. }
        | Answer::Rows { place, .. } = &answer
        {
            self.see(place.index);
        }
        Ok(answer)
    }

    async fn ask(&self, command: Ask, id: Option<WriteId>) -> Result<Answer, Error> {
        let seen = id.map_or_else(|| self.seen(), |id| id.since);
        let op = id.map(|id| id.op);
        self.call(Call::Ask { command, seen, op, follow: true }).await
    }

    async fn write(&self, command: Ask, id: Option<WriteId>) -> Result<Committed, Error> {
        match self.ask(command, id).await? {
            Answer::Committed { place, existed } => Ok(Committed { place, existed }),
            Answer::Done | Answer::Found { .. } | Answer::Info(_) | Answer::Rows { .. } => {
                Err(Error::Unknown)
            }
        }
    }

    async fn operate(&self, call: Call) -> Result<(), Error> {
        self.call(call).await.map(|_| ())
    }

    /// What became of a write with this id, asked anywhere; and if nothing has, nothing will.
    ///
    /// # Errors
    /// As said above: [`Error::Unknown`] if no primary could say so in time, or the write is so old
    /// that it is forgotten.
    pub async fn resolve(&self, id: WriteId) -> Result<Resolved, Error> {
        match self.write(Ask::Resolve, Some(id)).await {
            Ok(committed) => Ok(Resolved::Done(committed)),
            Err(Error::Rejected(Rejection::Refused(Refusal::Primary(
                primary::Refusal::Resolved,
            )))) => Ok(Resolved::Never),
            Err(error) => Err(error),
        }
    }

    /// What this node's replica is, and, of a primary, how the others stand.
    ///
    /// # Errors
    /// As said above.
    pub async fn info(&self) -> Result<Info, Error> {
        match self.call(Call::Info).await? {
            Answer::Info(info) => Ok(info),
            Answer::Committed { .. }
            | Answer::Done
            | Answer::Found { .. }
            | Answer::Rows { .. } => Err(Error::Unknown),
        }
    }

    /// Tells of what this node's replicas are and who is primary, beginning with how it is now: of
    /// all primary tables.
    ///
    /// # Errors
    /// As said above.
    pub async fn watch(&self) -> Result<Watch<RoleChange>, Error> {
        Watch::open(&self.handle, Topic::Roles).await
    }

    /// Has the primary, which must be this node, hand over: to this node, or to whoever is first.
    ///
    /// # Errors
    /// As said above.
    pub async fn hand_over(&self, to: Option<NodeId>) -> Result<(), Error> {
        self.operate(Call::HandOver(to)).await
    }

    /// Has this node's replica join, or leave until it is told to join, also after a restart.
    ///
    /// # Errors
    /// As said above.
    pub async fn join(&self, wanted: bool) -> Result<(), Error> {
        self.operate(Call::Join(wanted)).await
    }

    /// Makes this node's replica the primary although it did not count, because all that did have
    /// lost their disks. What they had and it has not is lost.
    ///
    /// # Errors
    /// As said above: it is refused while one of them may still be there.
    pub async fn force(&self) -> Result<(), Error> {
        self.operate(Call::Force).await
    }
}

impl<K: Codec, V: Codec> PrimaryTable<K, V> {
    /// Sets a key's value.
    ///
    /// # Errors
    /// As said above.
    pub async fn put(&self, key: &K::Borrowed, value: &V::Borrowed) -> Result<Committed, Error> {
        let (key, value) = (Key::from(K::encode(key)?), Value::from(V::encode(value)?));
        self.write(Ask::Put(key, value), None).await
    }

    /// The same under an id, which is done once however often it is asked.
    ///
    /// # Errors
    /// As said above.
    pub async fn put_as(
        &self,
        id: WriteId,
        key: &K::Borrowed,
        value: &V::Borrowed,
    ) -> Result<Committed, Error> {
        let (key, value) = (Key::from(K::encode(key)?), Value::from(V::encode(value)?));
        self.write(Ask::Put(key, value), Some(id)).await
    }

    /// Removes a key, also one that is not there.
    ///
    /// # Errors
    /// As said above.
    pub async fn remove(&self, key: &K::Borrowed) -> Result<Committed, Error> {
        self.write(Ask::Remove(Key::from(K::encode(key)?)), None).await
    }

    /// The same under an id.
    ///
    /// # Errors
    /// As said above.
    pub async fn remove_as(&self, id: WriteId, key: &K::Borrowed) -> Result<Committed, Error> {
        self.write(Ask::Remove(Key::from(K::encode(key)?)), Some(id)).await
    }

    /// Reads a key.
    ///
    /// # Errors
    /// As said above; a read is never [`Error::Unknown`] for what it has done.
    pub async fn get(&self, key: &K::Borrowed) -> Result<Option<V::Owned>, Error> {
        let read = Ask::Get(Key::from(K::encode(key)?), self.level);
        match self.ask(read, None).await? {
            Answer::Found { value, .. } => {
                Ok(value.map(|value| V::decode(value.as_bytes())).transpose()?)
            }
            Answer::Committed { .. } | Answer::Done | Answer::Info(_) | Answer::Rows { .. } => {
                Err(Error::Unknown)
            }
        }
    }

    /// All rows, in the order of their keys; each page of a state of its own, none earlier than the
    /// one before it.
    ///
    /// # Errors
    /// As said above.
    pub async fn rows(&self) -> Result<Vec<(K::Owned, V::Owned)>, Error> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let Answer::Rows { rows, more, .. } =
                self.ask(Ask::Scan { after, limit: PAGE }, None).await?
            else {
                return Err(Error::Unknown);
            };
            after = rows.last().map(|(key, _)| key.clone());
            for (key, value) in rows {
                all.push((K::decode(key.as_bytes())?, V::decode(value.as_bytes())?));
            }
            if !more {
                return Ok(all);
            }
        }
    }
}
