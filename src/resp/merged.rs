//! Merged tables over RESP: the plain commands where they mean the same, and some of their own.

use std::fmt::Display;

use super::arguments::{Arguments, parse_write, write_name};
use super::error::refused;
use super::plan::{Action, Call, State, Surroundings, Then, find_table, table_name};
use super::reply::Reply;
use crate::base::{Key, NodeId, TableId, Value};
use crate::consensus::{Command, Outcome};
use crate::merged::{
    self, Answer, Entry, Guard, Info, Keep, Kind, Match, Mutation, Pattern, Row, Schema, Strategy,
    TableCommand,
};
use crate::node::{MergeEvent, TableConfig};
use crate::primary;

type Result<T = Action> = core::result::Result<T, Reply>;

/// The call that does to a merged table what was asked for. What a merged table has not, such as
/// bindings, stays as it is, and is refused by the node.
pub(super) fn translate(call: Call, tables: &[TableConfig]) -> Call {
    Call { command: translate_command(call.command, tables), ..call }
}

fn translate_command(command: Command, tables: &[TableConfig]) -> Command {
    let schema = |table: TableId| tables.get(usize::from(table.0)).and_then(TableConfig::schema);
    if let Command::Keys { table, after, limit } = command {
        let Some(schema) = schema(table) else { return Command::Keys { table, after, limit } };
        let after = after.map(|key| match schema.kind {
            Kind::OrderedSet | Kind::Set => Row { key, element: None },
            Kind::Bag { .. } => behind_elements(&key),
        });
        let (pattern, limit) = (Pattern::default(), limit.max(1));
        return Command::Merged { table, command: merged::Command::Scan { pattern, after, limit } };
    }
    let Some((table, _)) = command.address().filter(|(table, _)| schema(*table).is_some()) else {
        return command;
    };
    let mutation = match command {
        Command::Get { key, .. } => {
            return Command::Merged { table, command: merged::Command::Get(key) };
        }
        Command::Put { key, value, bindings, .. } if bindings.is_empty() => {
            Mutation::Put(key, value)
        }
        Command::Remove { key, generation: None, .. } => Mutation::Remove(key),
        other @ (Command::CloseSession(_)
        | Command::CompareAndSet { .. }
        | Command::Fence { .. }
        | Command::Keys { .. }
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
        | Command::Unsubscribe(_)) => return other,
    };
    Command::Merged { table, command: merged::Command::write(mutation) }
}

/// The place in a bag behind all elements of a key: before those of the next key there can be,
/// which is longer by a zero. So a page of keys may end within a key, and the next does not list it
/// again.
fn behind_elements(key: &Key) -> Row {
    Row { key: Key::from([key.as_bytes(), &[0]].concat()), element: None }
}

/// The same of what a request comes down to, where its reply can be made of what a merged table
/// answers.
pub(super) fn translate_action(action: Action, tables: &[TableConfig]) -> Action {
    match action {
        Action::Ask(calls, then) if then.fits_merged() => {
            let calls = calls.into_iter().map(|call| translate(call, tables));
            Action::Ask(calls.collect(), then)
        }
        Action::Alone(call, then) if then.fits_merged() => {
            Action::Alone(translate(call, tables), then)
        }
        other @ (Action::Alone(..)
        | Action::Answer(_)
        | Action::Ask(..)
        | Action::Session(..)
        | Action::Several(_)) => other,
    }
}

/// What stands first of rows: of values in conflict the latest.
pub(super) fn first(entries: &[Entry]) -> Option<&Value> {
    entries.first().and_then(|entry| entry.values.first()).map(|shown| &shown.value)
}

/// Whether rows are shown, or were.
pub(super) fn shows(answer: &Answer) -> bool {
    match answer {
        Answer::Changed | Answer::Info(_) => false,
        Answer::Found { entries, .. } => !entries.is_empty(),
        Answer::Written { previous, .. } => !previous.is_empty(),
    }
}

fn text(text: impl Display) -> Reply {
    Reply::bulk(text.to_string())
}

fn number(number: u64) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn value_or_null(value: Option<&Value>) -> Reply {
    value.map_or(Reply::Null, |value| Reply::Value(value.clone()))
}

/// One row: its key, in a bag its element, and each value with who wrote it and when.
fn row(entry: &Entry) -> Reply {
    let values = entry.values.iter().map(|shown| {
        Reply::map([
            ("value", Reply::Value(shown.value.clone())),
            ("write", Reply::bulk(write_name(&shown.dot))),
            ("modified", number(shown.modified.wall.0)),
        ])
    });
    Reply::map([
        ("key", Reply::Key(entry.row.key.clone())),
        ("element", value_or_null(entry.row.element.as_ref())),
        ("conflict", Reply::Boolean(entry.values.len() > 1)),
        ("values", Reply::Array(values.collect())),
    ])
}

fn rows(entries: &[Entry]) -> Reply {
    Reply::Array(entries.iter().map(row).collect())
}

/// The answer to any command to a merged table, in full.
pub(super) fn answered(outcome: &Outcome) -> Reply {
    let Outcome::Merged(answer) = outcome else { return refused(outcome) };
    match answer {
        Answer::Changed => Reply::map([("written", Reply::Boolean(false))]),
        Answer::Found { entries, more } => {
            let more = more.as_ref().map_or(Reply::Null, |row| {
                let element = value_or_null(row.element.as_ref());
                Reply::Array(vec![Reply::Key(row.key.clone()), element])
            });
            Reply::map([
                ("value", value_or_null(first(entries))),
                ("rows", rows(entries)),
                ("more", more),
            ])
        }
        Answer::Info(info) => described(info),
        Answer::Written { previous, complete } => Reply::map([
            ("written", Reply::Boolean(true)),
            ("removed", Reply::Boolean(!previous.is_empty())),
            ("previous", value_or_null(first(previous))),
            ("rows", rows(previous)),
            ("complete", Reply::Boolean(*complete)),
        ]),
    }
}

fn described(info: &Info) -> Reply {
    let peers = info.peers.iter().map(|peer| {
        Reply::map([
            ("node", number(u64::from(peer.node.0))),
            ("agrees", peer.agrees.map_or(Reply::Null, Reply::Boolean)),
            ("behind", number(peer.behind)),
            ("merging", Reply::Boolean(peer.merging)),
            ("met", Reply::Boolean(peer.met)),
            ("stalled", Reply::Boolean(peer.stalled)),
            ("apart", Reply::Boolean(peer.apart)),
        ])
    });
    let history = info
        .history
        .iter()
        .map(|(wall, event)| Reply::map([("at", number(wall.0)), ("event", text(event))]));
    let durable = info.durability == merged::Durability::Disk;
    Reply::map([
        ("kind", text(&info.agreement.kind)),
        ("strategy", text(&info.agreement.strategy)),
        ("contest", text(info.agreement.contest)),
        ("durability", Reply::bulk(if durable { "disk" } else { "memory" })),
        ("node", number(u64::from(info.node.0))),
        ("versions", number(info.versions)),
        ("tombstones", number(info.tombstones)),
        ("conflicts", number(info.conflicts)),
        ("clock_ahead", info.clock_ahead.map_or(Reply::Null, |by| number(by.as_secs()))),
        (
            "rewound",
            info.rewound.map_or(Reply::Null, |rewound| {
                Reply::bulk(match rewound {
                    merged::Rewound::Behind => "behind",
                    merged::Rewound::Forked => "forked",
                })
            }),
        ),
        ("settled", Reply::Boolean(info.settled)),
        ("peers", Reply::Array(peers.collect())),
        ("history", Reply::Array(history.collect())),
    ])
}

/// What is told of an event, in words.
pub(super) fn told(event: &MergeEvent, tables: &[TableConfig]) -> String {
    let name = |table: &TableId| table_name(tables, *table);
    match event {
        MergeEvent::Cleared { table, row } => format!("{}: conflict cleared {row}", name(table)),
        MergeEvent::Lost { table, row, value } => {
            format!("{}: value lost {row}={value}", name(table))
        }
        MergeEvent::PeerBack(_) | MergeEvent::PeerLost(_) => event.to_string(),
        MergeEvent::Raised { table, row } => format!("{}: conflict raised {row}", name(table)),
        MergeEvent::Table { table, event } => format!("{}: {event}", name(table)),
    }
}

/// Options of the commands here.
struct Options {
    call: Call,
    table: TableId,
    pattern: Pattern,
    after: Option<Row>,
    limit: u32,
}

impl Options {
    fn read(
        arguments: &mut Arguments<'_>,
        state: &State,
        surroundings: &dyn Surroundings,
        pages: bool,
    ) -> Result<Self> {
        let mut options = Self {
            call: state.call(Command::Status),
            table: state.table,
            pattern: Pattern::default(),
            after: None,
            limit: surroundings.page_max().min(100),
        };
        while let Some(word) = arguments.word() {
            match word.as_str() {
                "TABLE" => {
                    options.table = find_table(&surroundings.tables(), arguments.next("a table")?)?;
                }
                "PATIENCE" => options.call.patience = arguments.patience()?,
                "PREFIX" if pages => {
                    options.pattern.key = Match::Prefix(arguments.next("a prefix")?.to_vec());
                }
                "VALUE" if pages => {
                    options.pattern.value = Match::Exactly(arguments.next("a value")?.to_vec());
                }
                "AFTER" if pages => {
                    options.after = Some(Row { key: arguments.key()?, element: None });
                }
                "ELEMENT" if pages && options.after.is_some() => {
                    let element = arguments.value()?;
                    options.after = options.after.map(|row| Row { element: Some(element), ..row });
                }
                "LIMIT" if pages => options.limit = arguments.limit()?,
                _ => return Err(arguments.unexpected(&word)),
            }
        }
        Ok(options)
    }

    fn ask(self, command: merged::Command) -> Action {
        let command = Command::Merged { table: self.table, command };
        Action::Ask(vec![Call { command, ..self.call }], Then::Merged)
    }
}

/// What is asked about a table by its name, since it may not be there yet.
fn about(arguments: &mut Arguments<'_>, state: &State, command: Command) -> Result {
    let mut call = state.call(command);
    if arguments.take("PATIENCE") {
        call.patience = arguments.patience()?;
    }
    arguments.end()?;
    Ok(Action::Ask(vec![call], Then::Say(Reply::OK)))
}

fn named(arguments: &mut Arguments<'_>) -> Result<String> {
    arguments.parse("a table's name")
}

pub(super) fn create(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let name = named(arguments)?;
    let words: String =
        if arguments.take("AS") { arguments.parse("what it is, in words")? } else { String::new() };
    if let Some(words) = super::primary::own_words(&words) {
        let schema = primary::Schema::default().with_words(words);
        let schema = schema.map_err(|why| arguments.error(&why))?;
        let command = primary::TableCommand::Create { name, schema };
        return about(arguments, state, Command::PrimaryTable(command));
    }
    if words.split('+').any(|word| word.trim() == "primary") {
        let why = "of what makes a primary table the first word is 'primary': primary+quorum";
        return Err(arguments.error(why));
    }
    let schema = Schema::default().with_words(surroundings.merged_defaults());
    let schema = schema.and_then(|schema| schema.with_words(&words));
    let schema = schema.map_err(|why| arguments.error(&why))?;
    if schema.strategy == Strategy::Custom {
        return Err(arguments.error("'custom' is for applications, which bring a resolver"));
    }
    about(arguments, state, Command::Table(TableCommand::Create { name, schema }))
}

pub(super) fn add_replica(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    let name = named(arguments)?;
    let node = NodeId(arguments.parse("the number of a node")?);
    about(arguments, state, Command::Table(TableCommand::AddReplica { name, node }))
}

pub(super) fn drop_table(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    let name = named(arguments)?;
    about(arguments, state, Command::Table(TableCommand::Drop { name }))
}

pub(super) fn conflicts(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let mut options = Options::read(arguments, state, surroundings, true)?;
    let (after, limit) = (options.after.take(), options.limit);
    Ok(options.ask(merged::Command::Conflicts { after, limit }))
}

/// Of a table whose copies are left apart.
pub(super) fn merge(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let keep = if arguments.take("KEEP") {
        match arguments.word().as_deref() {
            Some("HERE") => Some(Keep::Here),
            Some("THERE") => Some(Keep::There),
            _ => return Err(arguments.error("KEEP is HERE or THERE")),
        }
    } else {
        None
    };
    Ok(Options::read(arguments, state, surroundings, false)?.ask(merged::Command::Merge { keep }))
}

pub(super) fn info(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    Ok(Options::read(arguments, state, surroundings, false)?.ask(merged::Command::Info))
}

pub(super) fn scan(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let mut options = Options::read(arguments, state, surroundings, true)?;
    let (pattern, after) = (core::mem::take(&mut options.pattern), options.after.take());
    let limit = options.limit;
    Ok(options.ask(merged::Command::Scan { pattern, after, limit }))
}

/// What is written, and what must be there, stands behind a count, so that no key is taken for an
/// option.
pub(super) fn batch(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let count: usize = arguments.parse("how many changes and conditions there are")?;
    let (mut mutations, mut guards) = (Vec::new(), Vec::new());
    for _ in 0..count.min(arguments.left()) {
        match arguments.word().as_deref() {
            Some("PUT") => mutations.push(Mutation::Put(arguments.key()?, arguments.value()?)),
            Some("REMOVE") => mutations.push(Mutation::Remove(arguments.key()?)),
            Some("REMOVEIF") => {
                mutations.push(Mutation::RemoveValue(arguments.key()?, arguments.value()?));
            }
            Some("IF") => guards.push(guard(arguments)?),
            _ => {
                return Err(arguments.error(
                    "a change is PUT key value, REMOVE key or REMOVEIF key value, a condition \
                     IF key count [write ...]",
                ));
            }
        }
    }
    if mutations.len() + guards.len() < count {
        return Err(arguments.error("there are fewer changes and conditions than were announced"));
    }
    let options = Options::read(arguments, state, surroundings, false)?;
    Ok(options.ask(merged::Command::Write { mutations, guards }))
}

/// A key, and behind their count the writes that it must show.
fn guard(arguments: &mut Arguments<'_>) -> Result<Guard> {
    let key = arguments.key()?;
    let count: usize = arguments.parse("how many writes the key must show")?;
    // One more than there are is missed.
    let count = count.min(arguments.left() + 1);
    let shows = (0..count).map(|_| arguments.parse_with("a write", parse_write));
    Ok(Guard { key, shows: shows.collect::<Result<_>>()? })
}
