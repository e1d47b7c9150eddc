//! Primary tables over RESP: the plain commands where they mean the same, and some of their own.
//!
//! A connection is one client: it is shown no earlier state than it was shown before. A write to a
//! node that is not the primary is refused and told which is, unless the node was asked to follow.

use core::fmt::Display;

use super::arguments::Arguments;
use super::error::refused;
use super::plan::{Action, Call, Identity, State, Surroundings, Then, find_table, table_name};
use super::reply::Reply;
use crate::base::{ClientId, Key, NodeId, OpId, RequestId, TableId};
use crate::consensus::{Command, Outcome};
use crate::node::TableConfig;
use crate::primary::{self, Answer, Command as Ask, Info, Place, ReadLevel};

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
        | Command::PrimaryTable(_)
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

/// What is known of a call to a primary table when it is sent out, for when its answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) table: TableId,
    asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// For another primary, say.
    Change,
    Read,
    Resolve,
    /// A write without a name of the client's own.
    Write,
    /// With one; and a place from before it was sent first.
    Named(Identity, u64),
}

impl About {
    pub(super) fn of(call: &Call, state: &State) -> Option<Self> {
        let Command::Primary { table, call: asked } = &call.command else { return None };
        let asked = match (asked, call.identity) {
            (primary::Call::Ask { command: Ask::Resolve, .. }, _) => Asked::Resolve,
            (primary::Call::Ask { command, .. }, _) if !command.writes() => Asked::Read,
            (primary::Call::Ask { seen, .. }, Some(identity)) => {
                // What was shown since it was sent first says nothing of where it is.
                let shown = state.seen.get(table).filter(|_| !identity.again);
                Asked::Named(identity, shown.map_or(*seen, |shown| *seen.max(shown)))
            }
            (primary::Call::Ask { .. }, None) => Asked::Write,
            (
                primary::Call::Force
                | primary::Call::HandOver(_)
                | primary::Call::Info
                | primary::Call::Join(_)
                | primary::Call::Wait { .. },
                _,
            ) => Asked::Change,
        };
        Some(Self { table: *table, asked })
    }

    /// `UNKNOWN`, and how to find out.
    pub(super) fn unknown(self, tables: &[TableConfig]) -> Reply {
        const DOUBT: &str = "it may have taken effect, may still, or may never";
        let text = match self.asked {
            Asked::Change | Asked::Read => format!("{DOUBT}; SYNOD.PRIMARY tells how it is"),
            Asked::Resolve => String::from(
                "it was not found out; ask again, with SEEN and a place from before it was sent \
                 first: without one, what was sent long ago stays unknown",
            ),
            Asked::Write => format!(
                "{DOUBT}; what becomes of a write that is sent as SYNOD.PUT or SYNOD.REMOVE with \
                 REQUEST client number, SYNOD.RESOLVE tells"
            ),
            Asked::Named(Identity { client, request, .. }, since) => {
                let since = if since > 0 { format!(" SEEN {since}") } else { String::new() };
                let table = table_name(tables, self.table);
                format!(
                    "{DOUBT}; SYNOD.RESOLVE {client} {request}{since} TABLE {table} tells, or \
                     send the same again with AGAIN{since}"
                )
            }
        };
        Reply::Error("UNKNOWN", text)
    }
}

/// Notes in a command what its connection has been shown of the table, or has written to it.
pub(super) fn remind(command: &mut Command, state: &State) {
    let Command::Primary { table, call } = command else { return };
    match call {
        primary::Call::Ask { command, seen, .. } if !command.writes() => {
            *seen = state.seen.get(table).copied().unwrap_or(0).max(*seen);
        }
        primary::Call::Wait { place, .. } => *place = wrote(state, *table),
        primary::Call::Ask { .. }
        | primary::Call::Force
        | primary::Call::HandOver(_)
        | primary::Call::Info
        | primary::Call::Join(_) => {}
    }
}

fn wrote(state: &State, table: TableId) -> Place {
    state.wrote.get(&table).copied().unwrap_or(Place::ZERO)
}

/// Notes what an answer shows of the table, or was written to it.
pub(super) fn note(state: &mut State, table: TableId, outcome: &Outcome) {
    if let Some(shown) = shown(outcome) {
        let seen = state.seen.entry(table).or_default();
        *seen = shown.max(*seen);
    }
    if let Outcome::Primary(Answer::Committed { place, .. }) = outcome {
        let wrote = state.wrote.entry(table).or_insert(*place);
        *wrote = (*place).max(*wrote);
    }
}

/// Up to where an answer shows the table.
const fn shown(outcome: &Outcome) -> Option<u64> {
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

/// What words say besides that a table is a primary one; nothing if they do not begin with that.
pub(super) fn own_words(words: &str) -> Option<&str> {
    let (first, own) = words.split_once('+').unwrap_or((words, ""));
    (first.trim() == "primary").then_some(own)
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

/// `WAIT`: how many others have on disk what the connection wrote last to its table.
pub(super) fn wait(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let replicas = arguments.parse("how many replicas")?;
    let timeout = arguments.duration("the timeout")?;
    let (table, tables) = (state.table, surroundings.tables());
    if !is_primary(&tables, table) {
        let name = table_name(&tables, table);
        let merged = tables.get(usize::from(table.0)).is_some_and(|it| it.schema().is_some());
        let why = if merged {
            "merged: SYNOD.MERGED tells how its copies stand"
        } else {
            "consensus: what is answered is chosen by a quorum already: there is nothing to wait \
             for"
        };
        let text = format!("WAIT is for primary tables, and table {name} is {why}");
        return Err(Reply::Error("UNSUPPORTED", text));
    }
    let call = primary::Call::Wait { place: Place::ZERO, replicas };
    let mut asked = state.call(Command::Primary { table, call });
    if !timeout.is_zero() {
        asked.patience = timeout;
    }
    Ok(Action::Ask(vec![asked], Then::Holders(table)))
}

/// The answer to `WAIT`.
pub(super) fn held(outcome: &Outcome, table: TableId, state: &State) -> Reply {
    if let Outcome::Primary(Answer::Info(info)) = outcome {
        return number(info.holders(wrote(state, table)));
    }
    refused(outcome)
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
