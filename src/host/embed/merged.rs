//! Merged tables with types, and the resolvers of their conflicts.
//!
//! Must never know: how the node is reached, how versions merge.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::codec::Codec;
use super::error::{Error, Rejection};
use super::watch::{MergeChange, Watch};
use crate::base::{Key, TableId, Value};
use crate::consensus::{Command, Outcome, Refusal, Topic};
use crate::host::{CallOptions, Contained, Handle};
use crate::merged::{
    Answer, BATCH_MAX, Command as Ask, Dot, Entry, Guard, Info, Keep, Kind, Match, MergeContext,
    Mutation, Pattern, Resolver, Round, Rounds, Row, Stamp,
};
use crate::node::MergeEvent;

/// How many rows a page has.
const PAGE: u32 = 1_000;

/// How long the second node in turn leaves a conflict to the first.
const SECOND_TURN: Duration = Duration::from_secs(5);

/// How long a resolver's node is left alone when it cannot say what is in conflict.
const REST: Duration = Duration::from_secs(1);

/// One row: a key, and in a bag one element of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shows<K, V> {
    /// Which key.
    pub key: K,
    /// One value; or several that are in conflict, the latest first.
    pub values: Vec<Versioned<V>>,
}

/// A value, and how it came to be (L-21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<V> {
    /// The value.
    pub value: V,
    /// Which write.
    pub dot: Dot,
    /// When, as far as the writer's clock can be trusted.
    pub modified: Stamp,
}

/// What an update did (L-15, L-17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated<V> {
    /// What was there; several, if they were in conflict.
    pub old: Vec<V>,
    /// What is there now.
    pub new: Option<V>,
}

/// How often an update is tried again when somebody else has written in between, and after how long
/// (L-18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often. Default 8.
    pub count: u32,
    /// After how long each time. Default at once.
    pub pause: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { count: 8, pause: Duration::ZERO }
    }
}

/// A merged table, with its keys and values as the application has them. Cheap to clone.
///
/// Every call but those of a node without a copy is answered by this node alone; of what a write
/// has replaced, such a node is told as much as a message holds, about 8 MiB. Errors are as for
/// [`super::Table`]; a write that is refused for [`Refusal::Busy`] after its retries changed
/// nothing.
pub struct MergedTable<K, V> {
    handle: Handle,
    id: TableId,
    name: String,
    options: CallOptions,
    retries: Retries,
    kinds: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for MergedTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            id: self.id,
            name: self.name.clone(),
            options: self.options,
            retries: self.retries,
            kinds: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for MergedTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergedTable").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K, V> MergedTable<K, V> {
    pub(super) fn new(handle: Handle, id: TableId, name: String) -> Self {
        let (options, retries) = (CallOptions::default(), Retries::default());
        Self { handle, id, name, options, retries, kinds: PhantomData }
    }

    /// The same table, whose calls wait at most so long for a node with a copy. Default 10 s.
    #[must_use]
    pub fn patience(&self, patience: Duration) -> Self {
        Self { options: CallOptions { patience, ..self.options }, ..self.clone() }
    }

    /// The same table, whose updates are tried again so often.
    #[must_use]
    pub fn retries(&self, retries: Retries) -> Self {
        Self { retries, ..self.clone() }
    }

    /// Its place among the cluster's tables.
    #[must_use]
    pub const fn id(&self) -> TableId {
        self.id
    }

    async fn ask(&self, command: Ask) -> Result<Answer, Error> {
        let command = Command::Merged { table: self.id, command };
        match self.handle.call(command, self.options).await? {
            Outcome::Merged(answer) => Ok(answer),
            outcome => Err(Error::from_outcome(outcome)),
        }
    }

    async fn found(&self, command: Ask) -> Result<(Vec<Entry>, Option<Row>), Error> {
        match self.ask(command).await? {
            Answer::Found { entries, more } => Ok((entries, more)),
            Answer::Changed | Answer::Info(_) | Answer::Written { .. } => Err(Error::Unknown),
        }
    }

    /// Writes; nothing if a guard does not hold.
    async fn write(
        &self,
        mutations: Vec<Mutation>,
        guards: Vec<Guard>,
    ) -> Result<Option<Vec<Entry>>, Error> {
        match self.ask(Ask::Write { mutations, guards }).await? {
            Answer::Written { previous, .. } => Ok(Some(previous)),
            Answer::Changed => Ok(None),
            Answer::Found { .. } | Answer::Info(_) => Err(Error::Unknown),
        }
    }

    /// What the copy is, and how it stands with the others (L-20).
    ///
    /// # Errors
    /// As said above.
    pub async fn info(&self) -> Result<Info, Error> {
        match self.ask(Ask::Info).await? {
            Answer::Info(info) => Ok(info),
            Answer::Changed | Answer::Found { .. } | Answer::Written { .. } => Err(Error::Unknown),
        }
    }

    /// Merges this node's copy with those that it was left apart from, where the strategy is to
    /// leave them so. Of values that collide those of one side are kept, or all, in conflict.
    ///
    /// # Errors
    /// As said above; and [`Refusal::Unfit`] if the table has another strategy.
    pub async fn merge(&self, keep: Option<Keep>) -> Result<(), Error> {
        self.ask(Ask::Merge { keep }).await.map(drop)
    }

    /// Tells of peers lost and back, of merges, of conflicts, from now on: of all merged tables.
    ///
    /// # Errors
    /// As said above.
    pub async fn watch(&self) -> Result<Watch<MergeChange>, Error> {
        Watch::open(&self.handle, Topic::Merges).await
    }

    /// Has conflicts of this table resolved, until the node stops. Run it on every node: each
    /// conflict is resolved by one of the nodes that wrote what is in conflict, and by another if
    /// that one does not.
    ///
    /// # Errors
    /// If the node cannot be listened to, or has stopped before this begins. No error or panic of
    /// the resolver ends this, nor does an answer that the node does not take: what it was asked
    /// about stays in conflict, with its alarm up, and is asked about again when a node comes back.
    pub async fn resolve_with(&self, resolver: impl Resolver) -> Result<(), Error> {
        let mut resolver = Contained(resolver);
        let mut watch = self.watch().await?;
        let Info { agreement, node, .. } = self.info().await?;
        let context = MergeContext { table: self.name.clone(), agreement, node };
        let mut rounds = Rounds::new(context, SECOND_TURN);
        let begun = Instant::now();
        loop {
            let conflicts = match self.in_conflict().await {
                Ok(conflicts) => conflicts,
                Err(Error::Rejected(Rejection::Stopped)) => return Ok(()),
                Err(_) => {
                    sleep(REST).await;
                    continue;
                }
            };
            let Round { answers, next } = rounds.hold(&mut resolver, conflicts, begun.elapsed());
            for answer in answers {
                // If the row is another by now, that is told, and asked about anew. What cannot be
                // written, now or ever, stays in conflict.
                match self.ask(answer).await {
                    Err(Error::Rejected(Rejection::Stopped)) => return Ok(()),
                    Err(error) => tracing::warn!("a resolver's answer is not taken: {error}"),
                    Ok(_) => {}
                }
            }
            let mut event = match next {
                None => watch.next().await,
                Some(next) => match timeout_at(begun + next, watch.next()).await {
                    Ok(event) => event,
                    Err(_) => continue,
                },
            };
            // All that is told by now is seen in the list that comes next: one for thousands.
            loop {
                match event {
                    None => return Ok(()),
                    Some(MergeChange::Event(MergeEvent::PeerBack(_))) => rounds.begin_anew(),
                    // What was missed is in the list. It is no reason to ask again about what was
                    // asked about: a single merge may tell of more than fits (C6).
                    Some(MergeChange::Missed | MergeChange::Event(_)) => {}
                }
                let told = poll_fn(|cx| Poll::Ready(watch.poll_next(cx))).await;
                let Poll::Ready(next) = told else { break };
                event = next;
            }
        }
    }

    /// Every row in conflict.
    async fn in_conflict(&self) -> Result<Vec<Entry>, Error> {
        let mut conflicts = Vec::new();
        let mut after = None;
        loop {
            let (entries, more) = self.found(Ask::Conflicts { after, limit: PAGE }).await?;
            conflicts.extend(entries);
            after = more;
            if after.is_none() {
                return Ok(conflicts);
            }
        }
    }
}

impl<K: Codec, V: Codec> MergedTable<K, V> {
    /// What a key shows: nothing, one value, several in conflict; in a bag, its elements, of a
    /// key with more than ten thousand each page of a thousand is one moment.
    ///
    /// # Errors
    /// As said above.
    pub async fn get(&self, key: &K::Borrowed) -> Result<Vec<Versioned<V::Owned>>, Error> {
        let entries = self.of_key(&Self::key(key)?).await?;
        let mut values = Vec::new();
        for entry in &entries {
            values.extend(Self::versions(entry)?);
        }
        Ok(values)
    }

    /// Puts, and says what the rows that were changed showed before: nothing, if nothing was there
    /// or it was equal.
    ///
    /// # Errors
    /// As said above.
    pub async fn put(
        &self,
        key: &K::Borrowed,
        value: &V::Borrowed,
    ) -> Result<Vec<Shows<K::Owned, V::Owned>>, Error> {
        let mutation = Mutation::Put(Self::key(key)?, Self::value(value)?);
        self.all(vec![mutation]).await
    }

    /// Puts all in one step, or nothing. Of several values for one key the last counts.
    ///
    /// # Errors
    /// As said above.
    pub async fn put_many<'a>(
        &self,
        entries: impl IntoIterator<Item = (&'a K::Borrowed, &'a V::Borrowed)>,
    ) -> Result<Vec<Shows<K::Owned, V::Owned>>, Error> {
        let mut mutations = Vec::new();
        for (key, value) in entries {
            mutations.push(Mutation::Put(Self::key(key)?, Self::value(value)?));
        }
        self.all(mutations).await
    }

    /// Removes a key, and says what it showed.
    ///
    /// # Errors
    /// As said above.
    pub async fn remove(&self, key: &K::Borrowed) -> Result<Vec<Shows<K::Owned, V::Owned>>, Error> {
        self.all(vec![Mutation::Remove(Self::key(key)?)]).await
    }

    /// Removes keys in one step (L-11: many keys and one key are different calls).
    ///
    /// # Errors
    /// As said above.
    pub async fn remove_many<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a K::Borrowed>,
    ) -> Result<Vec<Shows<K::Owned, V::Owned>>, Error> {
        let mut mutations = Vec::new();
        for key in keys {
            mutations.push(Mutation::Remove(Self::key(key)?));
        }
        self.all(mutations).await
    }

    /// Removes exactly this value; says whether it was there (L-42).
    ///
    /// # Errors
    /// As said above.
    pub async fn remove_if(&self, key: &K::Borrowed, value: &V::Borrowed) -> Result<bool, Error> {
        let mutation = Mutation::RemoveValue(Self::key(key)?, Self::value(value)?);
        Ok(!self.all(vec![mutation]).await?.is_empty())
    }

    async fn all(&self, mutations: Vec<Mutation>) -> Result<Vec<Shows<K::Owned, V::Owned>>, Error> {
        let previous = self.write(mutations, Vec::new()).await?;
        previous.iter().flatten().map(Self::shows).collect()
    }

    /// What a key shows; more elements than fit into an answer come in several, each of one moment.
    async fn of_key(&self, key: &Key) -> Result<Vec<Entry>, Error> {
        let (mut all, mut after) = self.found(Ask::Get(key.clone())).await?;
        while after.is_some() {
            let only = Match::Exactly(key.as_bytes().to_vec());
            let pattern = Pattern { key: only, ..Pattern::default() };
            let (entries, more) = self.found(Ask::Scan { pattern, after, limit: PAGE }).await?;
            all.extend(entries);
            after = more;
        }
        Ok(all)
    }

    /// All rows that fit, in the order of keys. Each page of a thousand is one moment.
    ///
    /// # Errors
    /// As said above.
    pub async fn scan(&self, pattern: Pattern) -> Result<Vec<Shows<K::Owned, V::Owned>>, Error> {
        self.entries(pattern).await?.iter().map(Self::shows).collect()
    }

    async fn entries(&self, pattern: Pattern) -> Result<Vec<Entry>, Error> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let pattern = pattern.clone();
            let (entries, more) = self.found(Ask::Scan { pattern, after, limit: PAGE }).await?;
            all.extend(entries);
            after = more;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Has a function change what is there; `None` stands for nothing. It is called again if
    /// somebody on this node has written in between. Of values in conflict it is given the latest.
    ///
    /// Between nodes nothing is promised: two that update apart are in conflict.
    ///
    /// # Errors
    /// As said above.
    pub async fn update(
        &self,
        key: &K::Borrowed,
        mut change: impl FnMut(Option<V::Owned>) -> Option<V::Owned>,
    ) -> Result<Updated<V::Owned>, Error>
    where
        V::Owned: std::borrow::Borrow<V::Borrowed> + Clone,
    {
        let wanted = Self::key(key)?;
        for _ in 0..=self.retries.count {
            let entries = self.of_key(&wanted).await?;
            let mut old = Vec::new();
            for entry in &entries {
                old.extend(Self::versions(entry)?);
            }
            let guard = guard(&wanted, &entries);
            let new = change(old.first().map(|version| version.value.clone()));
            let mutation = match &new {
                Some(value) => {
                    Mutation::Put(wanted.clone(), Self::value(std::borrow::Borrow::borrow(value))?)
                }
                None => Mutation::Remove(wanted.clone()),
            };
            if self.write(vec![mutation], vec![guard]).await?.is_some() {
                let old = old.into_iter().map(|version| version.value).collect();
                return Ok(Updated { old, new });
            }
            sleep(self.retries.pause).await;
        }
        Err(Error::from_outcome(Outcome::Refused(Refusal::Busy)))
    }

    /// Has a function change every value of a set, once each, all in one step: if it panics, or
    /// somebody has written in between, nothing is changed. Says how many keys there were.
    ///
    /// # Errors
    /// As said above; [`Refusal::Busy`] if somebody has written in between; and, before anything is
    /// called, [`Refusal::LimitExceeded`] if there are more than [`BATCH_MAX`] keys.
    ///
    /// # Panics
    /// On a bag, whose elements have no names to be updated by.
    pub async fn update_all(
        &self,
        mut change: impl FnMut(&K::Owned, V::Owned) -> Option<V::Owned>,
    ) -> Result<usize, Error>
    where
        V::Owned: std::borrow::Borrow<V::Borrowed>,
    {
        let kind = self.info().await?.agreement.kind;
        assert!(!matches!(kind, Kind::Bag { .. }), "elements of a bag are put and removed");
        let entries = self.entries(Pattern::default()).await?;
        if entries.len() > BATCH_MAX {
            let (what, len, max) = ("batch", entries.len(), BATCH_MAX);
            let refusal = Refusal::LimitExceeded { what, len, max };
            return Err(Error::from_outcome(Outcome::Refused(refusal)));
        }
        let (mut mutations, mut guards) = (Vec::new(), Vec::new());
        for entry in &entries {
            let Shows { key, mut values } = Self::shows(entry)?;
            guards.push(guard(&entry.row.key, std::slice::from_ref(entry)));
            let at = entry.row.key.clone();
            mutations.push(match change(&key, values.swap_remove(0).value) {
                Some(value) => Mutation::Put(at, Self::value(std::borrow::Borrow::borrow(&value))?),
                None => Mutation::Remove(at),
            });
        }
        match self.write(mutations, guards).await? {
            Some(_) => Ok(entries.len()),
            None => Err(Error::from_outcome(Outcome::Refused(Refusal::Busy))),
        }
    }

    /// The rows in conflict, in order: alarms that are up.
    ///
    /// # Errors
    /// As said above.
    pub async fn conflicts(&self) -> Result<Vec<Shows<K::Owned, V::Owned>>, Error> {
        self.in_conflict().await?.iter().map(Self::shows).collect()
    }

    fn key(key: &K::Borrowed) -> Result<Key, Error> {
        Ok(Key::from(K::encode(key)?))
    }

    fn value(value: &V::Borrowed) -> Result<Value, Error> {
        Ok(Value::from(V::encode(value)?))
    }

    fn shows(entry: &Entry) -> Result<Shows<K::Owned, V::Owned>, Error> {
        let key = K::decode(entry.row.key.as_bytes())?;
        Ok(Shows { key, values: Self::versions(entry)? })
    }

    fn versions(entry: &Entry) -> Result<Vec<Versioned<V::Owned>>, Error> {
        let versions = entry.values.iter().map(|shown| {
            let value = V::decode(shown.value.as_bytes())?;
            Ok(Versioned { value, dot: shown.dot, modified: shown.modified })
        });
        versions.collect()
    }
}

/// That a key shows what these entries of it say.
fn guard(key: &Key, entries: &[Entry]) -> Guard {
    Guard { key: key.clone(), shows: entries.iter().flat_map(Entry::writes).collect() }
}
