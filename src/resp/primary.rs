//! Primary tables over RESP: the plain commands where they mean the same, and some of their own.
//!
//! A connection is one client: it is shown no earlier state than it was shown before. A write to a
//! node that is not the primary is refused and told which is, unless the node was asked to follow.

use core::fmt::Display;

use super::arguments::Arguments;
use super::error::refused;
use super::plan::{Action, Call, State, Surroundings, Then, find_table};
use super::reply::Reply;
use crate::base::{ClientId, Key, NodeId, OpId, RequestId, TableId};
use crate::consensus::{Command, Outcome};
use crate::node::TableConfig;
use crate::primary::{self, Answer, Command as Ask, Info, ReadLevel};

type Result<T = Action> = core::result::Result<T, Reply>;

/// How a primary table is to be asked; other tables have no use for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Which states reads may show.
    pub level: ReadLevel,
    /// The latest place that the client has been shown, if it says so itself.
    pub seen: u64,
    /// Whether the node is to see to it, wherever the primary is.
    pub follow: bool,
}

impl How {
    /// Takes a word that stands behind a command, if it is one of these.
    pub(super) fn read(&mut self, word: &str, arguments: &mut Arguments<'_>) -> Result<bool> {
        match word {
            "SEEN" => self.seen = arguments.parse("a place")?,
            "FOLLOW" => self.follow = true,
            "HERE" => self.follow = false,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn ask(self, command: Ask) -> primary::Call {
        let Self { seen, follow, .. } = self;
        primary::Call::Ask { command, seen, op: None, follow }
    }
}

pub(super) fn is_primary(tables: &[TableConfig], table: TableId) -> bool {
    tables.get(usize::from(table.0)).is_some_and(|table| table.primary().is_some())
}

/// The same of what a request comes down to, where its reply can be made of what a primary table
/// answers.
pub(super) fn translate_action(action: Action, tables: &[TableConfig]) -> Action {
    match action {
        Action::Ask(calls, then) if then.fits_primary() => {
            let calls = calls.into_iter().map(|call| translate(call, tables));
            Action::Ask(calls.collect(), then)
        }
        Action::Alone(call, then) if then.fits_primary() => {
            Action::Alone(translate(call, tables), then)
        }
        other @ (Action::Alone(..)
        | Action::Answer(_)
        | Action::Ask(..)
        | Action::Session(..)
        | Action::Several(_)) => other,
    }
}

pub(super) fn translate(call: Call, tables: &[TableConfig]) -> Call {
    let (table, ask) = match &call.command {
        Command::Get { table, key, .. } => (*table, Ask::Get(key.clone(), call.how.level)),
        Command::Keys { table, after, limit } => {
            (*table, Ask::Scan { after: after.clone(), limit: (*limit).max(1) })
        }
        Command::Put { table, key, value, bindings } if bindings.is_empty() => {
            (*table, Ask::Put(key.clone(), value.clone()))
        }
        Command::Remove { table, key, generation: None } => (*table, Ask::Remove(key.clone())),
        Command::CloseSession(_)
        | Command::CompareAndSet { .. }
        | Command::Fence { .. }
        | Command::Merged { .. }
        | Command::OpenSession
        | Command::Primary { .. }
        | Command::Put { .. }
        | Command::PutIfAbsent { .. }
        | Command::Remove { .. }
        | Command::Status
        | Command::Subscribe(_)
        | Command::Table(_)
        | Command::Unsubscribe(_) => return call,
    };
    if !is_primary(tables, table) {
        return call;
    }
    let command = Command::Primary { table, call: call.how.ask(ask) };
    Call { command, ..call }
}

/// The table and key that a command writes or reads, for commands to primary tables about one.
pub(super) fn key_of(command: &Command) -> Option<(TableId, &Key, bool)> {
    let Command::Primary { table, call: primary::Call::Ask { command, .. } } = command else {
        return None;
    };
    match command {
        Ask::Get(key, _) => Some((*table, key, false)),
        Ask::Put(key, _) | Ask::Remove(key) => Some((*table, key, true)),
        Ask::Resolve | Ask::Scan { .. } => None,
    }
}

/// Notes in a command what its connection has been shown of the table.
pub(super) fn remind(command: &mut Command, state: &State) {
    if let Command::Primary { table, call: primary::Call::Ask { command, seen, .. } } = command
        && !command.writes()
    {
        *seen = state.seen.get(table).copied().unwrap_or(0).max(*seen);
    }
}

/// Up to where an answer shows the table.
pub(super) const fn shown(outcome: &Outcome) -> Option<u64> {
    let Outcome::Primary(answer) = outcome else { return None };
    match answer {
        Answer::Committed { place, .. }
        | Answer::Found { place, .. }
        | Answer::Rows { place, .. } => Some(place.index),
        Answer::Done | Answer::Info(_) => None,
    }
}

/// Whether a row is shown, or was.
pub(super) const fn shows(answer: &Answer) -> bool {
    match answer {
        Answer::Committed { existed, .. } => *existed,
        Answer::Found { value, .. } => value.is_some(),
        Answer::Done | Answer::Info(_) | Answer::Rows { .. } => false,
    }
}

fn text(text: impl Display) -> Reply {
    Reply::bulk(text.to_string())
}

fn number(number: u64) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The answer to any command to a primary table, in full.
pub(super) fn answered(outcome: &Outcome) -> Reply {
    let Outcome::Primary(answer) = outcome else { return refused(outcome) };
    match answer {
        Answer::Committed { place, existed } => Reply::map([
            ("written", Reply::Boolean(true)),
            ("removed", Reply::Boolean(*existed)),
            ("existed", Reply::Boolean(*existed)),
            ("place", number(place.index)),
            ("reign", number(place.reign.0)),
        ]),
        Answer::Done => Reply::OK,
        Answer::Found { value, place } => Reply::map([
            ("value", value.as_ref().map_or(Reply::Null, |value| Reply::Value(value.clone()))),
            ("place", number(place.index)),
            ("reign", number(place.reign.0)),
        ]),
        Answer::Info(info) => described(info),
        Answer::Rows { rows, more, place } => {
            let shown = rows.iter().map(|(key, value)| {
                Reply::map([
                    ("key", Reply::Key(key.clone())),
                    ("value", Reply::Value(value.clone())),
                ])
            });
            let last = rows.last().filter(|_| *more);
            Reply::map([
                ("rows", Reply::Array(shown.collect())),
                ("more", last.map_or(Reply::Null, |(key, _)| Reply::Key(key.clone()))),
                ("place", number(place.index)),
            ])
        }
    }
}

fn described(info: &Info) -> Reply {
    let roster = info.roster.as_ref();
    let nodes = |members: Option<&std::collections::BTreeSet<primary::Member>>| {
        let members = members.into_iter().flatten();
        Reply::Array(members.map(|member| number(u64::from(member.node.0))).collect())
    };
    let lags = info.lags.iter().map(|lag| {
        Reply::map([
            ("node", number(u64::from(lag.member.node.0))),
            ("in_sync", Reply::Boolean(lag.in_sync)),
            ("behind", number(lag.behind)),
            ("silent_ms", number(u64::try_from(lag.silent.as_millis()).unwrap_or(u64::MAX))),
        ])
    });
    Reply::map([
        ("role", text(info.role)),
        ("wanted", Reply::Boolean(info.wanted)),
        ("primary", roster.map_or(Reply::Null, |it| number(u64::from(it.primary.node.0)))),
        ("reign", number(roster.map_or(0, |roster| roster.reign.0))),
        ("acknowledge", roster.map_or(Reply::Null, |roster| text(roster.acknowledge))),
        ("in_sync", nodes(roster.map(|roster| &roster.in_sync))),
        ("joining", nodes(roster.map(|roster| &roster.joining))),
        ("committed", number(info.committed.index)),
        ("last", number(info.last.index)),
        ("rows", number(info.rows)),
        ("waiting", number(info.waiting)),
        ("replicas", Reply::Array(lags.collect())),
    ])
}

/// What is asked about a table as a whole.
fn about(
    arguments: &mut Arguments<'_>,
    state: &State,
    surroundings: &dyn Surroundings,
    call: primary::Call,
) -> Result {
    let mut asked = state.call(Command::Status);
    let mut table = state.table;
    while let Some(word) = arguments.word() {
        match word.as_str() {
            "TABLE" => table = find_table(&surroundings.tables(), arguments.next("a table")?)?,
            "PATIENCE" => asked.patience = arguments.patience()?,
            _ => return Err(arguments.unexpected(&word)),
        }
    }
    asked.command = Command::Primary { table, call };
    Ok(Action::Ask(vec![asked], Then::Primary))
}

pub(super) fn info(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    about(arguments, state, surroundings, primary::Call::Info)
}

pub(super) fn force(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    about(arguments, state, surroundings, primary::Call::Force)
}

pub(super) fn hand_over(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let to = if arguments.take("TO") {
        Some(NodeId(arguments.parse("the number of a node")?))
    } else {
        None
    };
    about(arguments, state, surroundings, primary::Call::HandOver(to))
}

pub(super) fn join(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    about(arguments, state, surroundings, primary::Call::Join(true))
}

pub(super) fn leave(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    about(arguments, state, surroundings, primary::Call::Join(false))
}

pub(super) fn resolve(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let client = arguments.parse_with("the client's number", |text| {
        text.parse().ok().filter(|number| *number < 1_u64 << 63)
    })?;
    let request = RequestId(arguments.parse("the request's number")?);
    let mut asked = state.call(Command::Status);
    let mut table = state.table;
    while let Some(word) = arguments.word() {
        match word.as_str() {
            "TABLE" => table = find_table(&surroundings.tables(), arguments.next("a table")?)?,
            "PATIENCE" => asked.patience = arguments.patience()?,
            _ if asked.how.read(&word, arguments)? => {}
            _ => return Err(arguments.unexpected(&word)),
        }
    }
    let How { seen, follow, .. } = asked.how;
    let op = Some(OpId { client: ClientId::new(client), request });
    let call = primary::Call::Ask { command: Ask::Resolve, seen, op, follow };
    asked.command = Command::Primary { table, call };
    Ok(Action::Ask(vec![asked], Then::Primary))
}
