//! Tables with types.
//!
//! Must never know: how the node is reached.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::codec::Codec;
use super::error::Error;
use super::watch::{Change, Watch};
use crate::base::{Key, TableId, Value};
use crate::consensus::{Command, Entry, Expect, OnNoQuorum, Outcome, Previous, ReadLevel, Topic};
use crate::host::{CallOptions, Handle};
use crate::monitor::{Bind, Binding};
use crate::paxos::Ballot;

/// An entry, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<V> {
    /// What was put.
    pub value: V,
    /// Which life of the key: a fencing token, higher for later lives.
    pub generation: Ballot,
    /// The last change.
    pub version: Ballot,
    /// What its life depends on.
    pub bindings: Vec<Binding>,
}

/// What `put_if_absent` found or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken<V> {
    /// What is there now.
    pub entry: Held<V>,
    /// Whether this call has put it.
    pub won: bool,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Which life of the key it belongs to, where that is known.
    pub generation: Option<Ballot>,
    /// The change.
    pub version: Ballot,
    /// What it replaced, not read: what others wrote before need not fit the table's types.
    pub previous: Previous,
}

/// What a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The change, or the last one before where there was nothing to remove.
    pub version: Ballot,
    /// What was there, not read.
    pub previous: Previous,
}

/// What a conditional change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchanged<T, V> {
    /// It was as expected, and is changed.
    Done(T),
    /// It was not, and nothing was changed.
    Mismatch {
        /// What is there.
        entry: Option<Held<V>>,
        /// The last change.
        version: Ballot,
    },
}

/// Some keys in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K> {
    /// The keys.
    pub keys: Vec<K>,
    /// Where to go on, if there may be more: give it to [`Table::keys_after`].
    pub more: Option<Key>,
}

/// A table of a cluster, with its keys and values as the application has them. Cheap to clone.
pub struct Table<K, V> {
    handle: Handle,
    id: TableId,
    options: CallOptions,
    bindings: Vec<Bind>,
    kinds: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            id: self.id,
            options: self.options,
            bindings: self.bindings.clone(),
            kinds: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<K, V> Table<K, V> {
    pub(super) const fn new(handle: Handle, id: TableId) -> Self {
        let options = CallOptions { patience: PATIENCE, on_no_quorum: OnNoQuorum::Retry };
        Self { handle, id, options, bindings: Vec::new(), kinds: PhantomData }
    }

    /// The same table, whose calls wait at most so long. Default 10 s.
    #[must_use]
    pub fn patience(&self, patience: Duration) -> Self {
        Self { options: CallOptions { patience, ..self.options }, ..self.clone() }
    }

    /// The same table, whose calls are refused at once while no quorum is in sight.
    #[must_use]
    pub fn impatient(&self) -> Self {
        let on_no_quorum = OnNoQuorum::Return;
        Self { options: CallOptions { on_no_quorum, ..self.options }, ..self.clone() }
    }

    /// The same table, whose writes last only as long as this, and as whatever was named before:
    /// a session, a node, another key, a moment.
    #[must_use]
    pub fn bound_to(&self, bind: impl Into<Bind>) -> Self {
        let mut bound = self.clone();
        bound.bindings.push(bind.into());
        bound
    }

    /// Its place among the cluster's tables.
    #[must_use]
    pub const fn id(&self) -> TableId {
        self.id
    }

    async fn call(&self, command: Command) -> Result<Outcome, Error> {
        Ok(self.handle.call(command, self.options).await?)
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

/// Every call ends within the table's patience. If it is dropped before, what it asked may still
/// happen. Its errors are [`Error::Rejected`], which changed nothing, and [`Error::Unknown`].
impl<K: Codec, V: Codec> Table<K, V> {
    /// What is there now.
    ///
    /// # Errors
    /// As said above.
    pub async fn get(&self, key: &K::Borrowed) -> Result<Option<Held<V::Owned>>, Error> {
        self.read(key, ReadLevel::Linearizable).await
    }

    /// What this node knows to have been there: asks nobody, may be stale.
    ///
    /// # Errors
    /// As said above.
    pub async fn get_local(&self, key: &K::Borrowed) -> Result<Option<Held<V::Owned>>, Error> {
        self.read(key, ReadLevel::Local).await
    }

    async fn read(
        &self,
        key: &K::Borrowed,
        level: ReadLevel,
    ) -> Result<Option<Held<V::Owned>>, Error> {
        self.found(Command::Get { table: self.id, key: Self::key(key)?, level }).await
    }

    /// Settles what was unknown: after this, nothing of an earlier call can take effect any more.
    /// Answers what is there.
    ///
    /// # Errors
    /// As said above.
    pub async fn fence(&self, key: &K::Borrowed) -> Result<Option<Held<V::Owned>>, Error> {
        self.found(Command::Fence { table: self.id, key: Self::key(key)? }).await
    }

    async fn found(&self, command: Command) -> Result<Option<Held<V::Owned>>, Error> {
        match self.call(command).await? {
            Outcome::Found { entry, .. } => Self::held_if_any(entry),
            outcome => Err(Error::from_outcome(outcome)),
        }
    }

    /// Puts, whatever is there.
    ///
    /// # Errors
    /// As said above.
    pub async fn put(&self, key: &K::Borrowed, value: &V::Borrowed) -> Result<Put, Error> {
        let (key, value) = (Self::key(key)?, Self::value(value)?);
        let bindings = self.bindings.clone();
        match self.call(Command::Put { table: self.id, key, value, bindings }).await? {
            Outcome::Written { generation, version, previous } => {
                Ok(Put { generation, version, previous })
            }
            outcome => Err(Error::from_outcome(outcome)),
        }
    }

    /// Puts unless there is an entry; answers what is there then.
    ///
    /// # Errors
    /// As said above; a value that could not be read back is refused before anything is asked.
    pub async fn put_if_absent(
        &self,
        key: &K::Borrowed,
        value: &V::Borrowed,
    ) -> Result<Taken<V::Owned>, Error> {
        let (key, value) = (Self::key(key)?, Self::value(value)?);
        // Before it is asked, for afterwards a refusal would not be true.
        let ours = V::decode(value.as_bytes())?;
        let bindings = self.bindings.clone();
        match self.call(Command::PutIfAbsent { table: self.id, key, value, bindings }).await? {
            Outcome::Chosen { entry, won: true } => {
                let Entry { generation, version, bindings, .. } = entry;
                let entry = Held { value: ours, generation, version, bindings };
                Ok(Taken { entry, won: true })
            }
            Outcome::Chosen { entry, won } => Ok(Taken { entry: Self::held(entry)?, won }),
            outcome => Err(Error::from_outcome(outcome)),
        }
    }

    /// Puts if nothing is there, or the entry's last change is this version.
    ///
    /// # Errors
    /// As said above.
    pub async fn compare_and_set(
        &self,
        key: &K::Borrowed,
        expect: Option<Ballot>,
        value: &V::Borrowed,
    ) -> Result<Exchanged<Put, V::Owned>, Error> {
        let (key, value) = (Self::key(key)?, Self::value(value)?);
        let expect = expect.map_or(Expect::Absent, Expect::Version);
        let bindings = self.bindings.clone();
        let table = self.id;
        match self.call(Command::CompareAndSet { table, key, expect, value, bindings }).await? {
            Outcome::Written { generation, version, previous } => {
                Ok(Exchanged::Done(Put { generation, version, previous }))
            }
            Outcome::Mismatch { entry, version } => {
                Ok(Exchanged::Mismatch { entry: Self::held_if_any(entry)?, version })
            }
            outcome => Err(Error::from_outcome(outcome)),
        }
    }

    /// Takes the entry away.
    ///
    /// # Errors
    /// As said above.
    pub async fn remove(&self, key: &K::Borrowed) -> Result<Removed, Error> {
        let (table, key) = (self.id, Self::key(key)?);
        match self.call(Command::Remove { table, key, generation: None }).await? {
            Outcome::Removed { previous, version } => Ok(Removed { version, previous }),
            outcome => Err(Error::from_outcome(outcome)),
        }
    }

    /// Takes the entry away if it lives this life: never somebody else's.
    ///
    /// # Errors
    /// As said above.
    pub async fn remove_generation(
        &self,
        key: &K::Borrowed,
        generation: Ballot,
    ) -> Result<Exchanged<Removed, V::Owned>, Error> {
        let (table, key) = (self.id, Self::key(key)?);
        match self.call(Command::Remove { table, key, generation: Some(generation) }).await? {
            Outcome::Removed { previous, version } => {
                Ok(Exchanged::Done(Removed { version, previous }))
            }
            Outcome::Mismatch { entry, version } => {
                Ok(Exchanged::Mismatch { entry: Self::held_if_any(entry)?, version })
            }
            outcome => Err(Error::from_outcome(outcome)),
        }
    }

    /// The first keys in order, `limit` at most. Not a snapshot: a key that is there during the
    /// whole call is listed.
    ///
    /// # Errors
    /// As said above.
    pub async fn keys(&self, limit: u32) -> Result<Page<K::Owned>, Error> {
        self.page(None, limit).await
    }

    /// The keys behind the end of another page.
    ///
    /// # Errors
    /// As said above.
    pub async fn keys_after(&self, more: Key, limit: u32) -> Result<Page<K::Owned>, Error> {
        self.page(Some(more), limit).await
    }

    async fn page(&self, after: Option<Key>, limit: u32) -> Result<Page<K::Owned>, Error> {
        match self.call(Command::Keys { table: self.id, after, limit }).await? {
            Outcome::Keys { keys, more } => {
                let keys: Result<_, _> = keys.iter().map(|key| K::decode(key.as_bytes())).collect();
                Ok(Page { keys: keys?, more })
            }
            outcome => Err(Error::from_outcome(outcome)),
        }
    }

    /// Tells of the end of each life of a key, from now on.
    ///
    /// # Errors
    /// As said above.
    pub async fn watch(&self, key: &K::Borrowed) -> Result<Watch<Change>, Error> {
        Watch::open(&self.handle, Topic::Key(self.id, Self::key(key)?)).await
    }

    fn key(key: &K::Borrowed) -> Result<Key, Error> {
        Ok(Key::from(K::encode(key)?))
    }

    fn value(value: &V::Borrowed) -> Result<Value, Error> {
        Ok(Value::from(V::encode(value)?))
    }

    fn held(entry: Entry) -> Result<Held<V::Owned>, Error> {
        let Entry { value, generation, version, bindings } = entry;
        let value = V::decode(value.as_bytes())?;
        Ok(Held { value, generation, version, bindings })
    }

    fn held_if_any(entry: Option<Entry>) -> Result<Option<Held<V::Owned>>, Error> {
        entry.map(Self::held).transpose()
    }
}
