//! The commands of our own: everything that Redis has no word for, in one grammar.
//!
//! `SYNOD.VERB` what it is about, then options in any order.

use core::time::Duration;

use super::arguments::{Arguments, parse_ballot, parse_session};
use super::plan::{Action, Channel, Identity, SessionCall, Source, State, Surroundings, Then};
use super::plan::{confirmation, find_table};
use super::primary::{How, is_primary};
use super::redis::{Read, deadline};
use super::reply::Reply;
use crate::base::{Key, NodeId, TableId, Value};
use crate::consensus::{Command, Expect, OnNoQuorum, ReadLevel};
use crate::monitor::Bind;
use crate::node::{Discipline, TableConfig};
use crate::paxos::Ballot;
use crate::primary;

type Result<T = Action> = core::result::Result<T, Reply>;

/// How long a session outlives its connection, unless it is said.
pub const GRACE: Duration = Duration::from_secs(10);

/// The options behind a command.
struct Options {
    table: TableId,
    level: ReadLevel,
    patience: Duration,
    on_no_quorum: OnNoQuorum,
    identity: Option<(u64, u64)>,
    again: bool,
    how: How,
    bindings: Vec<Bind>,
    generation: Option<Ballot>,
    after: Option<Key>,
    limit: Option<u32>,
}

/// Which options a command takes, besides those that all of them take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Bindings,
    Generation,
    Level,
    Nothing,
    Page,
}

impl Options {
    fn read(
        arguments: &mut Arguments<'_>,
        state: &State,
        surroundings: &dyn Surroundings,
        takes: Takes,
    ) -> Result<Self> {
        let mut options = Self {
            table: state.table,
            level: state.level,
            patience: state.patience,
            on_no_quorum: state.on_no_quorum,
            identity: None,
            again: false,
            how: state.how,
            bindings: Vec::new(),
            generation: None,
            after: None,
            limit: None,
        };
        while let Some(word) = arguments.word() {
            if !options.read_common(&word, arguments, surroundings)?
                && !options.read_own(&word, arguments, surroundings, takes)?
            {
                return Err(arguments.unexpected(&word));
            }
        }
        // Elsewhere they would be ignored, and whoever says them believes in something.
        if options.how.level != state.how.level
            && options.how.level != primary::ReadLevel::Linearizable
            && !is_primary(&surroundings.tables(), options.table)
        {
            return Err(arguments.error("COMMITTED and DIRTY are for primary tables"));
        }
        if options.again && options.identity.is_none() {
            return Err(arguments.error(
                "AGAIN says that this REQUEST was sent before; name it with REQUEST client number",
            ));
        }
        Ok(options)
    }

    fn read_common(
        &mut self,
        word: &str,
        arguments: &mut Arguments<'_>,
        surroundings: &dyn Surroundings,
    ) -> Result<bool> {
        match word {
            "TABLE" => self.table = find_table(&surroundings.tables(), arguments.next("a table")?)?,
            "PATIENCE" => self.patience = arguments.patience()?,
            "RETRY" => self.on_no_quorum = OnNoQuorum::Retry,
            "RETURN" => self.on_no_quorum = OnNoQuorum::Return,
            "REQUEST" => {
                let client = arguments.parse_with("the client's number", |text| {
                    text.parse().ok().filter(|number| *number < 1_u64 << 63)
                })?;
                self.identity = Some((client, arguments.parse("the request's number")?));
            }
            "AGAIN" => self.again = true,
            _ => return self.how.read(word, arguments),
        }
        Ok(true)
    }

    fn read_own(
        &mut self,
        word: &str,
        arguments: &mut Arguments<'_>,
        surroundings: &dyn Surroundings,
        takes: Takes,
    ) -> Result<bool> {
        match (takes, word) {
            (Takes::Bindings, "SESSION") => {
                let session = arguments.parse_with("a session", parse_session)?;
                self.bindings.push(Bind::Session(session));
            }
            (Takes::Bindings, "NODE") => {
                self.bindings.push(Bind::Node(NodeId(arguments.parse("a node")?)));
            }
            (Takes::Bindings, "KEY") => {
                let table = find_table(&surroundings.tables(), arguments.next("a table")?)?;
                self.bindings.push(Bind::Key { table, key: arguments.key()? });
            }
            (Takes::Bindings, "UNTIL") => {
                self.bindings.push(Bind::Until(deadline(arguments, 0, 1)?));
            }
            (Takes::Bindings, "FOR") => {
                let until = deadline(arguments, surroundings.wall().0, 1)?;
                self.bindings.push(Bind::Until(until));
            }
            (Takes::Generation, "GENERATION") => {
                self.generation = Some(arguments.parse_with("a generation", parse_ballot)?);
            }
            (Takes::Level, "LOCAL") => self.level = ReadLevel::Local,
            (Takes::Level, "LINEARIZABLE") => {
                self.level = ReadLevel::Linearizable;
                self.how.level = primary::ReadLevel::Linearizable;
            }
            (Takes::Level, "COMMITTED") => self.how.level = primary::ReadLevel::Committed,
            (Takes::Level, "DIRTY") => self.how.level = primary::ReadLevel::Dirty,
            (Takes::Page, "AFTER") => self.after = Some(arguments.key()?),
            (Takes::Page, "LIMIT") => self.limit = Some(arguments.limit()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn ask(self, command: Command, then: Then) -> Action {
        let identity =
            self.identity.map(|(client, request)| Identity { client, request, again: self.again });
        let (patience, on_no_quorum, how) = (self.patience, self.on_no_quorum, self.how);
        Action::Ask(vec![super::Call { command, patience, on_no_quorum, identity, how }], then)
    }
}

pub(super) fn get(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    read_entry(arguments, state, surroundings, Then::Entry)
}

pub(super) fn binding(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    read_entry(arguments, state, surroundings, Then::Bindings)
}

fn read_entry(
    arguments: &mut Arguments<'_>,
    state: &State,
    surroundings: &dyn Surroundings,
    then: Then,
) -> Result {
    let key = arguments.key()?;
    let options = Options::read(arguments, state, surroundings, Takes::Level)?;
    let (table, level) = (options.table, options.level);
    Ok(options.ask(Command::Get { table, key, level }, then))
}

pub(super) fn fence(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let key = arguments.key()?;
    let options = Options::read(arguments, state, surroundings, Takes::Nothing)?;
    let table = options.table;
    Ok(options.ask(Command::Fence { table, key }, Then::Entry))
}

pub(super) fn put(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let (options, table, key, value, bindings) = read_write(arguments, state, surroundings)?;
    Ok(options.ask(Command::Put { table, key, value, bindings }, Then::Written))
}

pub(super) fn put_if_absent(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let (options, table, key, value, bindings) = read_write(arguments, state, surroundings)?;
    Ok(options.ask(Command::PutIfAbsent { table, key, value, bindings }, Then::Chosen))
}

fn read_write(
    arguments: &mut Arguments<'_>,
    state: &State,
    surroundings: &dyn Surroundings,
) -> Result<(Options, TableId, Key, Value, Vec<Bind>)> {
    let (key, value) = (arguments.key()?, arguments.value()?);
    let mut options = Options::read(arguments, state, surroundings, Takes::Bindings)?;
    let (table, bindings) = (options.table, core::mem::take(&mut options.bindings));
    Ok((options, table, key, value, bindings))
}

pub(super) fn compare_and_set(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let (key, value) = (arguments.key()?, arguments.value()?);
    let expect = match arguments.word().as_deref() {
        Some("ABSENT") => Expect::Absent,
        Some("IF") => Expect::Value(arguments.value()?),
        Some("VERSION") => Expect::Version(arguments.parse_with("a version", parse_ballot)?),
        _ => {
            return Err(arguments.error("say what must be there: ABSENT, IF value or VERSION v"));
        }
    };
    let mut options = Options::read(arguments, state, surroundings, Takes::Bindings)?;
    let (table, bindings) = (options.table, core::mem::take(&mut options.bindings));
    Ok(options.ask(Command::CompareAndSet { table, key, expect, value, bindings }, Then::Compared))
}

pub(super) fn remove(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let key = arguments.key()?;
    let options = Options::read(arguments, state, surroundings, Takes::Generation)?;
    let (table, generation) = (options.table, options.generation);
    Ok(options.ask(Command::Remove { table, key, generation }, Then::Removed))
}

pub(super) fn keys(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let mut options = Options::read(arguments, state, surroundings, Takes::Page)?;
    let (table, after) = (options.table, options.after.take());
    let limit = options.limit.unwrap_or_else(|| surroundings.page_max().min(100));
    Ok(options.ask(Command::Keys { table, after, limit }, Then::Page))
}

pub(super) fn session(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    let word = arguments.word().unwrap_or_default();
    let mut call = match word.as_str() {
        "OPEN" => SessionCall::Open {
            grace: GRACE,
            patience: state.patience,
            on_no_quorum: state.on_no_quorum,
        },
        "ATTACH" => SessionCall::Attach {
            session: arguments.parse_with("a session", parse_session)?,
            secret: arguments.parse("the secret")?,
            grace: GRACE,
        },
        "CLOSE" => SessionCall::Close {
            session: arguments.parse_with("a session", parse_session)?,
            secret: (arguments.left() > 0).then(|| arguments.parse("the secret")).transpose()?,
        },
        _ => {
            return Err(arguments.error(
                "there are OPEN [GRACE ms], ATTACH session secret [GRACE ms], \
                 CLOSE session [secret]",
            ));
        }
    };
    if let SessionCall::Open { grace, .. } | SessionCall::Attach { grace, .. } = &mut call
        && arguments.take("GRACE")
    {
        *grace = arguments.duration("the grace time")?;
    }
    arguments.end()?;
    Ok(Action::Session(call, Then::Session))
}

pub(super) fn reconnect(
    arguments: &mut Arguments<'_>,
    _: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let peer = if arguments.left() == 0 {
        None
    } else {
        Some(NodeId(arguments.parse("the number of a node")?))
    };
    arguments.end()?;
    if surroundings.reconnect(peer) {
        Ok(Action::Answer(Reply::OK))
    } else {
        Err(arguments.error("there is no such peer; `SYNOD.STATUS` names the members"))
    }
}

pub(super) fn status(_: &mut Arguments<'_>, state: &mut State, _: &dyn Surroundings) -> Result {
    Ok(Action::Ask(vec![state.call(Command::Status)], Then::Status))
}

pub(super) fn tables(
    _: &mut Arguments<'_>,
    _: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let all = surroundings.tables();
    let tables = all.iter().enumerate().filter(|(_, table)| !table.name.is_empty());
    let describe = tables.map(|(place, table)| {
        let words = table.schema().map(|schema| schema.words());
        let words = words.or_else(|| table.primary().map(|schema| schema.words()));
        let words = words.map(Reply::bulk);
        Reply::map([
            ("name", Reply::bulk(table.name.clone())),
            ("number", Reply::Integer(i64::try_from(place).unwrap_or(i64::MAX))),
            ("discipline", Reply::bulk(discipline(table))),
            ("write_once", Reply::Boolean(table.is_write_once())),
            ("declared", Reply::Boolean(!table.made)),
            ("words", words.unwrap_or(Reply::Null)),
        ])
    });
    Ok(Action::Answer(Reply::Array(describe.collect())))
}

const fn discipline(table: &TableConfig) -> &'static str {
    match table.discipline {
        Discipline::Consensus { .. } => "consensus",
        Discipline::Merged(_) => "merged",
        Discipline::Primary(_) => "primary",
    }
}

pub(super) fn defaults(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let options = Options::read(arguments, state, surroundings, Takes::Level)?;
    if options.identity.is_some() {
        return Err(arguments.error("REQUEST names one request, so it has no default"));
    }
    state.table = options.table;
    state.level = options.level;
    state.patience = options.patience;
    state.on_no_quorum = options.on_no_quorum;
    // What a client has seen is of one table.
    state.how = How { seen: 0, ..options.how };
    Ok(Action::Answer(Reply::OK))
}

/// What `SUBSCRIBE` and `SYNOD.WATCH` come down to.
pub(super) fn subscription(channel: Channel, state: &mut State, plain: bool) -> Action {
    state.channels.insert(channel.clone());
    let count = i64::try_from(state.channels.len()).unwrap_or(i64::MAX);
    let source = channel.source();
    let then = Then::Subscribed { channel, count, plain };
    match source {
        Source::Engine(topic) => Action::Ask(vec![state.call(Command::Subscribe(topic))], then),
        Source::Session(session) => Action::Session(SessionCall::Follow { session }, then),
    }
}

/// What `UNSUBSCRIBE` and `SYNOD.UNWATCH` come down to.
pub(super) fn unsubscription(
    channel: &Channel,
    state: &mut State,
    surroundings: &dyn Surroundings,
    plain: bool,
) -> Action {
    let was_there = state.channels.remove(channel);
    let count = i64::try_from(state.channels.len()).unwrap_or(i64::MAX);
    let reply = if plain {
        Reply::OK
    } else {
        confirmation("unsubscribe", channel.name(&surroundings.tables()), count)
    };
    match channel.source() {
        Source::Engine(topic) if was_there => {
            Action::Ask(vec![state.call(Command::Unsubscribe(topic))], Then::Say(reply))
        }
        Source::Engine(_) | Source::Session(_) => Action::Answer(reply),
    }
}

fn watched(
    arguments: &mut Arguments<'_>,
    state: &State,
    surroundings: &dyn Surroundings,
) -> Result<Channel> {
    let key = arguments.key()?;
    let mut table = state.table;
    if arguments.take("TABLE") {
        table = find_table(&surroundings.tables(), arguments.next("a table")?)?;
    }
    arguments.end()?;
    Ok(Channel::Key(table, key))
}

pub(super) fn watch(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let channel = watched(arguments, state, surroundings)?;
    Ok(subscription(channel, state, true))
}

pub(super) fn unwatch(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let channel = watched(arguments, state, surroundings)?;
    Ok(unsubscription(&channel, state, surroundings, true))
}

/// Every reader here has the one shape.
const _: Read = get;
