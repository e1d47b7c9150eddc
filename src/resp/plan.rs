//! What a request of a client comes down to, and how the engine's answers become its reply.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::arguments::{parse_session, token};
use super::error::{refused, refused_in};
use super::glob::Glob;
use super::merged;
use super::primary::{self, How};
use super::redis::page_of;
use super::reply::{Protocol, Reply};
use crate::base::{Key, NodeId, RegisterId, SessionId, TableId, Value, Wall};
use crate::consensus::{
    Command, Entry, Expect, OnNoQuorum, Outcome, Previous, ReadLevel, Refusal, Status, Topic,
};
use crate::merged::Answer;
use crate::monitor::{Bind, Binding};
use crate::node::TableConfig;
use crate::paxos::Ballot;
use crate::primary::Place;

/// Keys that one `KEYS` may return.
pub const KEYS_MAX: usize = 100_000;

/// Bytes of them.
const KEYS_BYTES_MAX: usize = 16 << 20;

/// How often a command that reads, then writes if nothing changed meanwhile, tries again.
const REWRITES_MAX: u32 = 64;

/// What a connection has to know of the node it talks to.
pub trait Surroundings {
    /// The node's wall clock.
    fn wall(&self) -> Wall;
    /// Which node this is.
    fn node(&self) -> NodeId;
    /// Its tables, in the order of their numbers.
    fn tables(&self) -> Rc<[TableConfig]>;
    /// What merged tables are unless they say otherwise, in words.
    fn merged_defaults(&self) -> &str;
    /// The most keys in one page.
    fn page_max(&self) -> u32;
    /// The cluster's name.
    fn cluster(&self) -> &str;
    /// Its members, and where they listen for each other.
    fn members(&self) -> &BTreeMap<NodeId, String>;
    /// What a client must say before anything else is done for it, if anything.
    fn password(&self) -> Option<&[u8]>;
    /// Whether what is written survives a crash.
    fn is_durable(&self) -> bool;
    /// `INFO`: the sections asked for, or all.
    fn info(&self, status: &Status, sections: &[String]) -> String;
    /// `CLIENT LIST`: a line for each connection.
    fn clients(&self) -> String;
    /// Has the node dial `peer`, or every peer, that is not linked; false if there is no such peer.
    fn reconnect(&self, peer: Option<NodeId>) -> bool;
    /// Keeps the place where a `SCAN` is to go on, and names it.
    fn remember(&self, table: TableId, after: Key) -> u64;
    /// The place of that name, unless it was forgotten.
    fn recall(&self, cursor: u64) -> Option<(TableId, Key)>;
}

/// What a connection remembers between requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its number, unique on this node.
    pub id: u64,
    /// Which version it speaks.
    pub protocol: Protocol,
    /// The table that commands without one are about.
    pub table: TableId,
    /// `CLIENT SETNAME`.
    pub name: String,
    /// `CLIENT SETINFO`: the library and its version.
    pub library: [String; 2],
    /// How long requests may take.
    pub patience: Duration,
    /// What to do while there is no quorum.
    pub on_no_quorum: OnNoQuorum,
    /// How fresh reads are.
    pub level: ReadLevel,
    /// How primary tables are asked.
    pub how: How,
    /// Up to where it has been shown primary tables.
    pub seen: BTreeMap<TableId, u64>,
    /// Where it wrote to them last.
    pub wrote: BTreeMap<TableId, Place>,
    /// What it is subscribed to.
    pub channels: BTreeSet<Channel>,
    /// Whether it has said the password.
    pub admitted: bool,
    /// How many times it has said another one.
    pub wrong_passwords: u32,
    /// Behind a `MULTI` that was refused: how many commands were refused since.
    pub behind_multi: Option<u32>,
    /// Whether it asked to be closed.
    pub quitting: bool,
}

impl State {
    /// Wrong passwords after which a connection is closed.
    pub const WRONG_PASSWORDS_MAX: u32 = 5;

    /// Commands behind a refused `MULTI` after which a connection is closed.
    pub const BEHIND_MULTI_MAX: u32 = 100_000;

    /// A connection that has just been made.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self {
            id,
            protocol: Protocol::default(),
            table: TableId(0),
            name: String::new(),
            library: [String::new(), String::new()],
            patience: Duration::from_secs(5),
            on_no_quorum: OnNoQuorum::default(),
            level: ReadLevel::default(),
            how: How::default(),
            seen: BTreeMap::new(),
            wrote: BTreeMap::new(),
            channels: BTreeSet::new(),
            admitted: false,
            wrong_passwords: 0,
            behind_multi: None,
            quitting: false,
        }
    }

    /// The command, with this connection's options.
    pub(super) const fn call(&self, command: Command) -> Call {
        let (patience, on_no_quorum, how) = (self.patience, self.on_no_quorum, self.how);
        Call { command, patience, on_no_quorum, identity: None, how }
    }
}

/// What messages are about. A name for a topic of the engine that any client can subscribe to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// `key:TABLE:KEY`.
    Key(TableId, Key),
    /// `merges`.
    Merges,
    /// `quorum`.
    Quorum,
    /// `roles`.
    Roles,
    /// `session:ID`.
    Session(SessionId),
}

impl Channel {
    /// The channel of this name.
    pub(super) fn parse(name: &[u8], tables: &[TableConfig]) -> Result<Self, Reply> {
        match name {
            b"merges" => return Ok(Self::Merges),
            b"quorum" => return Ok(Self::Quorum),
            b"roles" => return Ok(Self::Roles),
            _ => {}
        }
        if let Some(session) = name.strip_prefix(b"session:") {
            let session = core::str::from_utf8(session).ok().and_then(parse_session);
            return session.map(Self::Session).ok_or_else(|| {
                Reply::error("the channel of a session is session:ID, with an ID like s1.1.1")
            });
        }
        if let Some(rest) = name.strip_prefix(b"key:")
            && let Some(at) = rest.iter().position(|&byte| byte == b':')
        {
            let (table, key) = (&rest[..at], &rest[at + 1..]);
            return Ok(Self::Key(find_table(tables, table)?, Key::from(key)));
        }
        Err(Reply::Error(
            "UNSUPPORTED",
            "there are no channels to publish to; subscribe to quorum, merges, roles, \
             key:TABLE:KEY or session:ID"
                .to_owned(),
        ))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self, tables: &[TableConfig]) -> Reply {
        match self {
            Self::Key(table, key) => {
                let mut name = format!("key:{}:", table_name(tables, *table)).into_bytes();
                name.extend_from_slice(key.as_bytes());
                Reply::bulk(name)
            }
            Self::Merges => Reply::bulk("merges"),
            Self::Quorum => Reply::bulk("quorum"),
            Self::Roles => Reply::bulk("roles"),
            Self::Session(session) => Reply::bulk(format!("session:{session}")),
        }
    }

    /// Who is to be asked for it.
    pub(super) fn source(&self) -> Source {
        match self {
            Self::Key(table, key) => Source::Engine(Topic::Key(*table, key.clone())),
            Self::Merges => Source::Engine(Topic::Merges),
            Self::Quorum => Source::Engine(Topic::Quorum),
            Self::Roles => Source::Engine(Topic::Roles),
            Self::Session(session) => Source::Session(*session),
        }
    }
}

/// Where the messages of a channel come from.
pub(super) enum Source {
    /// The engine, if it is asked for this.
    Engine(Topic),
    /// The engine unasked, but only to the connection that keeps the session.
    Session(SessionId),
}

/// The table of this name, or of this number.
pub(super) fn find_table(tables: &[TableConfig], name: &[u8]) -> Result<TableId, Reply> {
    let place = tables.iter().position(|table| table.name.as_bytes() == name);
    let number = || core::str::from_utf8(name).ok()?.parse().ok().filter(|n| *n < tables.len());
    // One that was dropped has no name.
    let place = place.filter(|_| !name.is_empty());
    let found = place.or_else(number).and_then(|place| u16::try_from(place).ok());
    found.map(TableId).ok_or_else(|| {
        let shown = String::from_utf8_lossy(&name[..name.len().min(64)]);
        let names = tables.iter().map(|table| table.name.as_str()).filter(|name| !name.is_empty());
        let known: Vec<&str> = names.take(16).collect();
        Reply::Error("NOSUCHTABLE", format!("no table '{shown}'; there are: {}", known.join(" ")))
    })
}

pub(super) fn table_name(tables: &[TableConfig], table: TableId) -> &str {
    tables.get(usize::from(table.0)).map_or("?", |table| table.name.as_str())
}

/// A request to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is asked.
    pub command: Command,
    /// How long it may take.
    pub patience: Duration,
    /// What to do while there is no quorum.
    pub on_no_quorum: OnNoQuorum,
    /// Under which name of the client's own, if it may have to be sent again elsewhere.
    pub identity: Option<Identity>,
    /// How a primary table is asked.
    pub how: How,
}

/// Names one operation over connections and nodes, so that it takes effect at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The client's own number, drawn once at random.
    pub client: u64,
    /// Its number for this request.
    pub request: u64,
    /// Whether another node, or this one in another life, may have worked on it.
    pub again: bool,
}

/// A request about a session: the server keeps it while its connection lives, and a grace time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCall {
    /// Make this connection its keeper.
    Attach {
        /// Which.
        session: SessionId,
        /// What whoever opened it was told, as a proof of having a right to it.
        secret: u64,
        /// How long it outlives this connection.
        grace: Duration,
    },
    /// End it.
    Close {
        /// Which.
        session: SessionId,
        /// The proof, unless this connection is its keeper.
        secret: Option<u64>,
    },
    /// Find out whether this connection keeps it.
    Follow {
        /// Which.
        session: SessionId,
    },
    /// Open one.
    Open {
        /// How long it outlives its connection.
        grace: Duration,
        /// How long that may take.
        patience: Duration,
        /// What to do while there is no quorum.
        on_no_quorum: OnNoQuorum,
    },
}

/// What a request comes down to.
#[derive(Debug)]
pub(super) enum Action {
    /// Answered here.
    Answer(Reply),
    /// One reply each, as `SUBSCRIBE` of several channels gives.
    Several(Vec<Self>),
    /// Ask the engine all of these, at once.
    Ask(Vec<Call>, Then),
    /// One after the other, while nothing else of this connection is in flight.
    Alone(Call, Then),
    /// Ask the server.
    Session(SessionCall, Then),
}

/// What comes of the outcomes.
#[derive(Debug)]
pub(super) enum Step {
    Done(Reply),
    /// Ask on.
    Ask(Box<Call>, Then),
}

/// How TTLs are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    At,
    AtSeconds,
    In,
    InSeconds,
}

/// How outcomes become a reply.
#[derive(Debug)]
pub(super) enum Then {
    /// `SYNOD.BINDING`.
    Bindings,
    /// `SYNOD.PUTIFABSENT`.
    Chosen,
    /// `SYNOD.CAS`.
    Compared,
    /// How many there were: `DEL`, `EXISTS`.
    Count,
    /// `SYNOD.GET`, `SYNOD.FENCE`.
    Entry,
    Expiry(Expiry),
    /// `WAIT`.
    Holders(TableId),
    Info(Vec<String>),
    /// `KEYS`: page after page.
    Keys {
        pattern: Vec<u8>,
        table: TableId,
        found: Vec<Key>,
    },
    /// The length of the value.
    Length,
    /// Of a merged table, in full.
    Merged,
    /// `SYNOD.KEYS`.
    Page,
    /// `SET GET`, `GETDEL`: what was there.
    Previous,
    /// Of a primary table, in full.
    Primary,
    /// `SYNOD.REMOVE`.
    Removed,
    /// `RESET`.
    Reset,
    Rewrite(Box<Rewrite>),
    /// Whatever the outcome, this.
    Say(Reply),
    Scan {
        pattern: Option<Vec<u8>>,
        table: TableId,
    },
    /// `SYNOD.SESSION ATTACH` and `CLOSE`.
    Session,
    Status,
    Subscribed {
        channel: Channel,
        count: i64,
        /// `SYNOD.WATCH` answers as a command does.
        plain: bool,
    },
    /// `TYPE`.
    Type,
    Value,
    /// `MGET`.
    Values,
    /// `SET NX`: whether ours won, in words.
    WonOk,
    /// `SETNX`: likewise, as a number.
    WonNumber,
    /// `SET NX GET`: what was there.
    WonPrevious,
    /// `SET`: plain success.
    WrittenOk,
    /// `SYNOD.PUT`.
    Written,
}

/// `SET` with `XX` or `KEEPTTL`: read, and write if nothing changed meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Rewrite {
    pub(super) call: Call,
    pub(super) table: TableId,
    pub(super) key: Key,
    pub(super) value: Value,
    /// What the entry is bound to, unless `keep`.
    pub(super) bindings: Vec<Bind>,
    /// `KEEPTTL`.
    pub(super) keep: bool,
    /// `XX`.
    pub(super) must_exist: bool,
    /// `GET`.
    pub(super) tell_previous: bool,
    pub(super) tries: u32,
}

impl Then {
    /// Whether its reply can be made of what a merged table answers.
    pub(super) const fn fits_merged(&self) -> bool {
        matches!(
            self,
            Self::Count
                | Self::Entry
                | Self::Keys { .. }
                | Self::Page
                | Self::Previous
                | Self::Removed
                | Self::Scan { .. }
                | Self::Value
                | Self::Values
                | Self::Written
                | Self::WrittenOk
        )
    }

    /// Whether its reply can be made of what a primary table answers.
    pub(super) const fn fits_primary(&self) -> bool {
        matches!(
            self,
            Self::Count
                | Self::Entry
                | Self::Keys { .. }
                | Self::Page
                | Self::Removed
                | Self::Scan { .. }
                | Self::Value
                | Self::Values
                | Self::Written
                | Self::WrittenOk
        )
    }

    /// The reply, or what to ask next. As many outcomes as calls.
    pub(super) fn finish(
        self,
        mut outcomes: Vec<Outcome>,
        state: &mut State,
        surroundings: &dyn Surroundings,
    ) -> Step {
        if let Self::Subscribed { channel, .. } = &self
            && outcomes.iter().any(|outcome| *outcome != Outcome::Done)
        {
            state.channels.remove(channel);
            if let Channel::Session(session) = channel {
                return Step::Done(strangers(*session));
            }
        }
        if let (Self::Rewrite(rewrite), [outcome]) = (&self, &outcomes[..])
            && rewrite.is_too_late(outcome)
        {
            return Step::Ask(Box::new(rewrite.call.clone()), self);
        }
        // Definite or not, the first answer that is none stands for all.
        if let Some(outcome) = outcomes.iter().find(|outcome| is_no(outcome)) {
            return Step::Done(refused_in(outcome, surroundings));
        }
        if let Self::Count = self {
            let count = outcomes.iter().filter(|outcome| was_there(outcome)).count();
            return Step::Done(Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX)));
        }
        if let Self::Values = self {
            return Step::Done(Reply::Array(outcomes.into_iter().map(value).collect()));
        }
        let outcome = outcomes.pop().unwrap_or(Outcome::Unknown);
        if let Self::Keys { pattern, table, found } = self {
            return next_page(outcome, pattern, table, found, state, surroundings);
        }
        if let Self::Rewrite(rewrite) = self {
            return rewrite.step(outcome);
        }
        if let Self::Holders(table) = self {
            return Step::Done(primary::held(&outcome, table, state));
        }
        Step::Done(self.reply(outcome, surroundings))
    }

    /// Of one outcome, the reply.
    fn reply(self, outcome: Outcome, surroundings: &dyn Surroundings) -> Reply {
        let tables = &surroundings.tables();
        let result = match self {
            Self::Bindings => of_entry(outcome, |entry| {
                entry.map_or(Reply::Null, |entry| bindings(&entry.bindings, tables))
            }),
            Self::Chosen => return chosen(outcome, tables),
            Self::Compared => return compared(outcome, tables),
            Self::Entry | Self::Removed | Self::Written if is_merged(&outcome) => {
                return merged::answered(&outcome);
            }
            Self::Entry | Self::Removed | Self::Written if is_primary(&outcome) => {
                return primary::answered(&outcome);
            }
            Self::Merged => return merged::answered(&outcome),
            Self::Primary => return primary::answered(&outcome),
            Self::Entry => found(outcome)
                .map(|(entry, version)| Reply::Map(described(entry.as_ref(), version, tables))),
            Self::Expiry(expiry) => of_entry(outcome, |entry| {
                Reply::Integer(entry.map_or(-2, |entry| expiry.of(&entry, surroundings.wall())))
            }),
            Self::Info(sections) => {
                status(outcome).map(|status| Reply::Text(surroundings.info(&status, &sections)))
            }
            Self::Length => of_entry(outcome, |entry| {
                let len = entry.map_or(0, |entry| entry.value.len());
                Reply::Integer(i64::try_from(len).unwrap_or(i64::MAX))
            }),
            Self::Page => page(outcome).map(|(keys, more)| {
                Reply::map([
                    ("keys", Reply::Array(keys.into_iter().map(Reply::Key).collect())),
                    ("more", more.map_or(Reply::Null, Reply::Key)),
                ])
            }),
            Self::Previous => return previous(outcome),
            Self::Removed => return removed(outcome, tables),
            Self::Reset => Ok(Reply::Simple("RESET")),
            Self::Say(reply) => Ok(reply),
            Self::Scan { pattern, table } => page(outcome)
                .map(|(keys, more)| scanned(keys, more, table, pattern.as_deref(), surroundings)),
            Self::Session => return session(&outcome),
            Self::Status => status(outcome).map(|status| describe(&status, surroundings)),
            Self::Subscribed { channel, count, plain } => Ok(if plain {
                Reply::OK
            } else {
                confirmation("subscribe", channel.name(tables), count)
            }),
            Self::Type => {
                of_entry(outcome, |entry| Reply::Simple(entry.map_or("none", |_| "string")))
            }
            Self::Value => return value(outcome),
            Self::WonNumber => won(outcome).map(|(won, _)| Reply::Integer(i64::from(won))),
            Self::WonOk => won(outcome).map(|(won, _)| if won { Reply::OK } else { Reply::Null }),
            Self::WonPrevious => won(outcome)
                .map(|(won, value)| value.filter(|_| !won).map_or(Reply::Null, Reply::Value)),
            Self::Written => return written(outcome),
            Self::WrittenOk => return written_ok(&outcome),
            // Of many outcomes, of many steps, or of what the connection did: dealt with before.
            Self::Count
            | Self::Holders(_)
            | Self::Keys { .. }
            | Self::Rewrite(_)
            | Self::Values => Err(refused(&outcome)),
        };
        result.unwrap_or_else(|error| error)
    }
}

const fn is_no(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(_) | Outcome::Unknown)
}

fn was_there(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Found { entry, .. } => entry.is_some(),
        // It was removed, so it was there.
        Outcome::Removed { previous, .. } => *previous != Previous::Known(None),
        Outcome::Merged(answer) => merged::shows(answer),
        Outcome::Primary(answer) => primary::shows(answer),
        Outcome::Chosen { .. }
        | Outcome::Done
        | Outcome::Keys { .. }
        | Outcome::Mismatch { .. }
        | Outcome::Refused(_)
        | Outcome::Session(_)
        | Outcome::Status(_)
        | Outcome::Unknown
        | Outcome::Written { .. } => false,
    }
}

const fn is_merged(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Merged(_))
}

const fn is_primary(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Primary(_))
}

fn found(outcome: Outcome) -> Result<(Option<Entry>, Ballot), Reply> {
    if let Outcome::Found { entry, version } = outcome {
        return Ok((entry, version));
    }
    Err(refused(&outcome))
}

fn of_entry(outcome: Outcome, tell: impl FnOnce(Option<Entry>) -> Reply) -> Result<Reply, Reply> {
    found(outcome).map(|(entry, _)| tell(entry))
}

/// A page of `SCAN`: where to go on, and the keys that fit.
fn scanned(
    keys: Vec<Key>,
    more: Option<Key>,
    table: TableId,
    pattern: Option<&[u8]>,
    surroundings: &dyn Surroundings,
) -> Reply {
    let glob = pattern.map(Glob::new);
    let fits = |key: &Key| glob.as_ref().is_none_or(|glob| glob.matches(key.as_bytes()));
    let cursor = more.map_or(0, |more| surroundings.remember(table, more));
    let keys = keys.into_iter().filter(fits).map(Reply::Key).collect();
    Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::Array(keys)])
}

fn page(outcome: Outcome) -> Result<(Vec<Key>, Option<Key>), Reply> {
    if let Outcome::Keys { keys, more } = outcome {
        return Ok((keys, more));
    }
    if let Outcome::Merged(Answer::Found { entries, more }) = outcome {
        let mut keys: Vec<Key> = entries.into_iter().map(|entry| entry.row.key).collect();
        // Elements of one key stand together.
        keys.dedup();
        return Ok((keys, more.map(|row| row.key)));
    }
    if let Outcome::Primary(crate::primary::Answer::Rows { rows, more, .. }) = outcome {
        let keys: Vec<Key> = rows.into_iter().map(|(key, _)| key).collect();
        let last = keys.last().filter(|_| more).cloned();
        return Ok((keys, last));
    }
    Err(refused(&outcome))
}

fn status(outcome: Outcome) -> Result<Status, Reply> {
    if let Outcome::Status(status) = outcome {
        return Ok(status);
    }
    Err(refused(&outcome))
}

/// Whether ours won, and the value that is there, where it is known.
fn won(outcome: Outcome) -> Result<(bool, Option<Value>), Reply> {
    if let Outcome::Chosen { entry, won } = outcome {
        return Ok((won, Some(entry.value)));
    }
    if matches!(outcome, Outcome::Written { .. }) {
        return Ok((true, None));
    }
    Err(refused(&outcome))
}

/// What whoever asks for the messages of a session that it does not keep is told.
fn strangers(session: SessionId) -> Reply {
    Reply::Error(
        "NOSUCHSESSION",
        format!(
            "{session} is no session of this connection, and nobody else is told of it; \
             SYNOD.SESSION ATTACH makes it one"
        ),
    )
}

fn session(outcome: &Outcome) -> Reply {
    if *outcome == Outcome::Done { Reply::OK } else { refused(outcome) }
}

fn value(outcome: Outcome) -> Reply {
    if let Outcome::Merged(Answer::Found { entries, .. }) = &outcome {
        return merged::value_or_null(merged::first(entries));
    }
    if let Outcome::Primary(crate::primary::Answer::Found { value, .. }) = &outcome {
        return merged::value_or_null(value.as_ref());
    }
    match found(outcome) {
        Ok((Some(entry), _)) => Reply::Value(entry.value),
        Ok((None, _)) => Reply::Null,
        Err(error) => error,
    }
}

fn previous(outcome: Outcome) -> Reply {
    if let Outcome::Merged(Answer::Written { previous, .. }) = &outcome {
        return merged::value_or_null(merged::first(previous));
    }
    let (Outcome::Written { previous, .. } | Outcome::Removed { previous, .. }) = outcome else {
        return refused(&outcome);
    };
    match previous {
        Previous::Known(Some(entry)) => Reply::Value(entry.value),
        Previous::Known(None) => Reply::Null,
        Previous::Unknown => Reply::Error(
            "PREVIOUSUNKNOWN",
            "it took effect, but what it replaced was not seen".to_owned(),
        ),
    }
}

/// The fields of an entry, or of its absence.
fn described(
    entry: Option<&Entry>,
    version: Ballot,
    tables: &[TableConfig],
) -> Vec<(Reply, Reply)> {
    let field = |name: &'static str, value: Reply| (Reply::bulk(name), value);
    let text = |text: String| Reply::bulk(text);
    let generation = entry.map(|entry| entry.generation);
    vec![
        field("value", entry.map_or(Reply::Null, |entry| Reply::Value(entry.value.clone()))),
        field("generation", generation.map_or(Reply::Null, |it| text(it.to_string()))),
        field("token", generation.map_or(Reply::Null, |it| text(token(&it)))),
        field("version", text(version.to_string())),
        field(
            "bindings",
            entry.map_or_else(
                || Reply::Array(Vec::new()),
                |entry| bindings(&entry.bindings, tables),
            ),
        ),
    ]
}

/// A binding in one word, with the name of the table.
pub(super) fn bound_to(binding: &Binding, tables: &[TableConfig]) -> String {
    if let Binding::Key { register: RegisterId::Key(table, key), generation } = binding {
        return format!("key:{}:{key}@{generation}", table_name(tables, *table));
    }
    binding.to_string()
}

/// Bindings in the words that ask for them.
fn bindings(bindings: &[Binding], tables: &[TableConfig]) -> Reply {
    let one = |binding: &Binding| {
        Reply::Array(match binding {
            Binding::Key { register: RegisterId::Key(table, key), generation } => vec![
                Reply::bulk("KEY"),
                Reply::bulk(table_name(tables, *table).to_owned()),
                Reply::Key(key.clone()),
                Reply::bulk(generation.to_string()),
            ],
            Binding::Key { register: RegisterId::NodeSession(node), .. } => {
                vec![Reply::bulk("NODE"), Reply::bulk(node.0.to_string())]
            }
            Binding::Node { node, .. } => {
                vec![Reply::bulk("NODE"), Reply::bulk(node.0.to_string())]
            }
            Binding::Session(session) => {
                vec![Reply::bulk("SESSION"), Reply::bulk(session.to_string())]
            }
            Binding::Until(wall) => vec![Reply::bulk("UNTIL"), Reply::bulk(wall.0.to_string())],
        })
    };
    Reply::Array(bindings.iter().map(one).collect())
}

fn chosen(outcome: Outcome, tables: &[TableConfig]) -> Reply {
    let mut fields = vec![(Reply::bulk("won"), Reply::Boolean(true))];
    match outcome {
        Outcome::Chosen { entry, won } => {
            fields[0].1 = Reply::Boolean(won);
            fields.extend(described(Some(&entry), entry.version, tables));
        }
        // Sent again, it is found to have won and to be overwritten since.
        Outcome::Written { generation, version, .. } => {
            fields.extend(described(None, version, tables));
            fields[2].1 = generation.map_or(Reply::Null, |it| Reply::bulk(it.to_string()));
            fields[3].1 = generation.map_or(Reply::Null, |it| Reply::bulk(token(&it)));
        }
        Outcome::Done
        | Outcome::Found { .. }
        | Outcome::Keys { .. }
        | Outcome::Merged(_)
        | Outcome::Primary(_)
        | Outcome::Mismatch { .. }
        | Outcome::Refused(_)
        | Outcome::Removed { .. }
        | Outcome::Session(_)
        | Outcome::Status(_)
        | Outcome::Unknown => return refused(&outcome),
    }
    Reply::Map(fields)
}

/// What a write replaced: its fields, or that it was not seen.
fn replaced(previous: &Previous) -> Reply {
    match previous {
        Previous::Known(Some(entry)) => Reply::Value(entry.value.clone()),
        Previous::Known(None) => Reply::Null,
        Previous::Unknown => {
            Reply::Error("PREVIOUSUNKNOWN", "what it replaced was not seen".to_owned())
        }
    }
}

fn written_fields(
    generation: Option<Ballot>,
    version: Ballot,
    previous: &Previous,
) -> [(&'static str, Reply); 4] {
    let text = |ballot: Ballot| Reply::bulk(ballot.to_string());
    [
        ("generation", generation.map_or(Reply::Null, text)),
        ("token", generation.map_or(Reply::Null, |it| Reply::bulk(token(&it)))),
        ("version", text(version)),
        ("previous", replaced(previous)),
    ]
}

fn written_ok(outcome: &Outcome) -> Reply {
    if matches!(
        outcome,
        Outcome::Written { .. }
            | Outcome::Merged(Answer::Written { .. })
            | Outcome::Primary(crate::primary::Answer::Committed { .. })
    ) {
        return Reply::OK;
    }
    refused(outcome)
}

fn written(outcome: Outcome) -> Reply {
    let Outcome::Written { generation, version, previous } = outcome else {
        return refused(&outcome);
    };
    Reply::map(written_fields(generation, version, &previous))
}

fn compared(outcome: Outcome, tables: &[TableConfig]) -> Reply {
    let field = |name: &'static str, value| (Reply::bulk(name), value);
    match outcome {
        Outcome::Written { generation, version, previous } => {
            let mut fields = vec![field("written", Reply::Boolean(true))];
            let rest = written_fields(generation, version, &previous);
            fields.extend(rest.map(|(name, value)| field(name, value)));
            Reply::Map(fields)
        }
        Outcome::Mismatch { entry, version } => {
            mismatched("written", entry.as_ref(), version, tables)
        }
        Outcome::Chosen { .. }
        | Outcome::Done
        | Outcome::Found { .. }
        | Outcome::Keys { .. }
        | Outcome::Merged(_)
        | Outcome::Primary(_)
        | Outcome::Refused(_)
        | Outcome::Removed { .. }
        | Outcome::Session(_)
        | Outcome::Status(_)
        | Outcome::Unknown => refused(&outcome),
    }
}

/// What is there, instead of what the command wanted there to be.
fn mismatched(
    what: &'static str,
    entry: Option<&Entry>,
    version: Ballot,
    tables: &[TableConfig],
) -> Reply {
    let mut fields = vec![(Reply::bulk(what), Reply::Boolean(false))];
    fields.extend(described(entry, version, tables));
    Reply::Map(fields)
}

fn removed(outcome: Outcome, tables: &[TableConfig]) -> Reply {
    let field = |name: &'static str, value| (Reply::bulk(name), value);
    match outcome {
        Outcome::Removed { previous, version } => Reply::Map(vec![
            field("removed", Reply::Boolean(previous != Previous::Known(None))),
            field("version", Reply::bulk(version.to_string())),
            field("previous", replaced(&previous)),
        ]),
        Outcome::Mismatch { entry, version } => {
            mismatched("removed", entry.as_ref(), version, tables)
        }
        Outcome::Chosen { .. }
        | Outcome::Done
        | Outcome::Found { .. }
        | Outcome::Keys { .. }
        | Outcome::Merged(_)
        | Outcome::Primary(_)
        | Outcome::Refused(_)
        | Outcome::Session(_)
        | Outcome::Status(_)
        | Outcome::Unknown
        | Outcome::Written { .. } => refused(&outcome),
    }
}

fn next_page(
    outcome: Outcome,
    pattern: Vec<u8>,
    table: TableId,
    mut found: Vec<Key>,
    state: &State,
    surroundings: &dyn Surroundings,
) -> Step {
    let (keys, more) = match page(outcome) {
        Ok(page) => page,
        Err(error) => return Step::Done(error),
    };
    let glob = Glob::new(&pattern);
    found.extend(keys.into_iter().filter(|key| glob.matches(key.as_bytes())));
    let len: usize = found.iter().map(|key| key.as_bytes().len()).sum();
    if found.len() > KEYS_MAX || len > KEYS_BYTES_MAX {
        return Step::Done(Reply::Error(
            "LIMIT",
            format!(
                "more than {KEYS_MAX} keys, or {KEYS_BYTES_MAX} bytes of them; use SCAN or \
                 SYNOD.KEYS"
            ),
        ));
    }
    let Some(after) = more else {
        return Step::Done(Reply::Array(found.into_iter().map(Reply::Key).collect()));
    };
    let limit = page_of(&pattern, surroundings);
    let keys = Command::Keys { table, after: Some(after), limit };
    let tables = surroundings.tables();
    let call = primary::translate(merged::translate(state.call(keys), &tables), &tables);
    Step::Ask(Box::new(call), Then::Keys { pattern, table, found })
}

impl Rewrite {
    /// Whether what was to be kept, a deadline, passed between the reading and the writing: then
    /// there is nothing to keep any more.
    fn is_too_late(&self, outcome: &Outcome) -> bool {
        let Outcome::Refused(Refusal::InvalidBinding(bind)) = outcome else { return false };
        self.keep && self.tries < REWRITES_MAX && matches!(bind, Bind::Until(_))
    }

    fn step(mut self: Box<Self>, outcome: Outcome) -> Step {
        let (entry, version) = match outcome {
            Outcome::Found { entry, version } | Outcome::Mismatch { entry, version } => {
                (entry, version)
            }
            outcome @ Outcome::Written { .. } => {
                return Step::Done(if self.tell_previous { previous(outcome) } else { Reply::OK });
            }
            outcome @ (Outcome::Chosen { .. }
            | Outcome::Done
            | Outcome::Keys { .. }
            | Outcome::Merged(_)
            | Outcome::Primary(_)
            | Outcome::Refused(_)
            | Outcome::Removed { .. }
            | Outcome::Session(_)
            | Outcome::Status(_)
            | Outcome::Unknown) => return Step::Done(refused(&outcome)),
        };
        if entry.is_none() && self.must_exist {
            return Step::Done(Reply::Null);
        }
        self.tries += 1;
        if self.tries > REWRITES_MAX {
            return Step::Done(Reply::Error(
                "BUSY",
                "others kept changing the key; nothing was changed, send it again later".to_owned(),
            ));
        }
        let mut bindings = self.bindings.clone();
        if self.keep
            && let Some(entry) = &entry
        {
            for binding in &entry.bindings {
                let Binding::Until(wall) = binding else {
                    return Step::Done(Reply::error(
                        "SET: KEEPTTL of a key that is bound to more than a deadline; name the \
                         bindings it is to have with SYNOD.CAS key value VERSION v",
                    ));
                };
                bindings.push(Bind::Until(*wall));
            }
        }
        let expect = if entry.is_some() { Expect::Version(version) } else { Expect::Absent };
        let mut call = self.call.clone();
        call.command = Command::CompareAndSet {
            table: self.table,
            key: self.key.clone(),
            expect,
            value: self.value.clone(),
            bindings,
        };
        Step::Ask(Box::new(call), Then::Rewrite(self))
    }
}

impl Expiry {
    /// -1 if nothing bounds its life in time.
    fn of(self, entry: &Entry, now: Wall) -> i64 {
        let deadlines = entry.bindings.iter().filter_map(|binding| match binding {
            Binding::Until(wall) => Some(wall.0),
            Binding::Key { .. } | Binding::Node { .. } | Binding::Session(_) => None,
        });
        let Some(until) = deadlines.min() else { return -1 };
        // To the nearest second, as Redis rounds.
        let milliseconds = match self {
            Self::At => until,
            Self::AtSeconds => until.saturating_add(500) / 1_000,
            Self::In => until.saturating_sub(now.0),
            Self::InSeconds => until.saturating_sub(now.0).saturating_add(500) / 1_000,
        };
        i64::try_from(milliseconds).unwrap_or(i64::MAX)
    }
}

/// `["subscribe", channel, count]`.
pub(super) fn confirmation(kind: &'static str, channel: Reply, count: i64) -> Reply {
    Reply::Push(vec![Reply::bulk(kind), channel, Reply::Integer(count)])
}

fn describe(status: &Status, surroundings: &dyn Surroundings) -> Reply {
    let number = |number: usize| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let node = |node: &NodeId| Reply::Integer(i64::from(node.0));
    let members = surroundings
        .members()
        .iter()
        .map(|(member, address)| (Reply::bulk(member.0.to_string()), Reply::bulk(address.clone())));
    Reply::map([
        ("cluster", Reply::bulk(surroundings.cluster().to_owned())),
        ("node", node(&status.node)),
        ("members", Reply::Map(members.collect())),
        ("ready", Reply::Boolean(status.readiness == crate::consensus::Readiness::Ready)),
        ("readiness", Reply::bulk(status.readiness.to_string())),
        ("quorum", Reply::Boolean(status.has_quorum)),
        ("reachable", Reply::Array(status.reachable.iter().map(node).collect())),
        ("cluster_size", Reply::Integer(i64::from(status.cluster_size))),
        ("quorum_size", Reply::Integer(i64::from(status.quorum_size))),
        ("epoch", Reply::Integer(i64::from(status.epoch.0))),
        (
            "node_session",
            status.node_session.map_or(Reply::Null, |number| {
                Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
            }),
        ),
        ("sessions", number(status.sessions)),
        ("requests", number(status.requests)),
        ("registers", number(status.registers)),
        ("durable", Reply::Boolean(surroundings.is_durable())),
        ("tables", describe_tables(&surroundings.tables())),
    ])
}

fn describe_tables(tables: &[TableConfig]) -> Reply {
    Reply::Array(tables.iter().map(|table| Reply::bulk(table.name.clone())).collect())
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(table, key) => write!(f, "key:{table}:{key}"),
            Self::Merges => write!(f, "merges"),
            Self::Quorum => write!(f, "quorum"),
            Self::Roles => write!(f, "roles"),
            Self::Session(session) => write!(f, "session:{session}"),
        }
    }
}
