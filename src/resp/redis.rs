//! The commands of Redis that mean here what they mean there.

use core::time::Duration;

use bytes::Bytes;

use super::arguments::{Arguments, is_word};
use super::glob::{self, Glob};
use super::own;
use super::plan::{Action, Channel, Expiry, Rewrite, Source, State, Surroundings, Then};
use super::plan::{confirmation, find_table, table_name};
use super::reply::{Protocol, Reply};
use super::table;
use crate::base::{Key, Value, Wall};
use crate::consensus::{Command, ReadLevel};
use crate::monitor::Bind;

type Result<T = Action> = core::result::Result<T, Reply>;

/// Bytes of a pattern of keys.
const PATTERN_MAX: usize = 1_024;

/// How every command is read.
pub(super) type Read = fn(&mut Arguments<'_>, &mut State, &dyn Surroundings) -> Result;

fn get_of(key: Key, state: &State, then: Then) -> Action {
    let (table, level) = (state.table, state.level);
    Action::Ask(vec![state.call(Command::Get { table, key, level })], then)
}

pub(super) fn get(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    Ok(get_of(arguments.key()?, state, Then::Value))
}

pub(super) fn strlen(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    Ok(get_of(arguments.key()?, state, Then::Length))
}

pub(super) fn kind(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    Ok(get_of(arguments.key()?, state, Then::Type))
}

fn expiry(arguments: &mut Arguments<'_>, state: &State, expiry: Expiry) -> Result {
    Ok(get_of(arguments.key()?, state, Then::Expiry(expiry)))
}

pub(super) fn ttl(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    expiry(arguments, state, Expiry::InSeconds)
}

pub(super) fn pttl(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    expiry(arguments, state, Expiry::In)
}

pub(super) fn expiretime(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    expiry(arguments, state, Expiry::AtSeconds)
}

pub(super) fn pexpiretime(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    expiry(arguments, state, Expiry::At)
}

fn gets(arguments: &mut Arguments<'_>, state: &State, then: Then) -> Result {
    let (table, level) = (state.table, state.level);
    let mut calls = Vec::with_capacity(arguments.left());
    while arguments.left() > 0 {
        calls.push(state.call(Command::Get { table, key: arguments.key()?, level }));
    }
    Ok(Action::Ask(calls, then))
}

pub(super) fn mget(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    gets(arguments, state, Then::Values)
}

pub(super) fn exists(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    gets(arguments, state, Then::Count)
}

pub(super) fn del(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    let mut calls: Vec<super::Call> = Vec::with_capacity(arguments.left());
    while arguments.left() > 0 {
        let (table, key) = (state.table, arguments.key()?);
        let command = Command::Remove { table, key, generation: None };
        // Twice the same key is removed once, as in Redis.
        if calls.iter().all(|call| call.command != command) {
            calls.push(state.call(command));
        }
    }
    Ok(Action::Ask(calls, Then::Count))
}

pub(super) fn getdel(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    let (table, key) = (state.table, arguments.key()?);
    let call = state.call(Command::Remove { table, key, generation: None });
    Ok(Action::Ask(vec![call], Then::Previous))
}

pub(super) fn getset(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    let (table, key, value) = (state.table, arguments.key()?, arguments.value()?);
    let call = state.call(Command::Put { table, key, value, bindings: Vec::new() });
    Ok(Action::Ask(vec![call], Then::Previous))
}

pub(super) fn setnx(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    let (table, key, value) = (state.table, arguments.key()?, arguments.value()?);
    let call = state.call(Command::PutIfAbsent { table, key, value, bindings: Vec::new() });
    Ok(Action::Ask(vec![call], Then::WonNumber))
}

pub(super) fn setex(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    set_for(arguments, state, surroundings, 1_000)
}

pub(super) fn psetex(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    set_for(arguments, state, surroundings, 1)
}

fn set_for(
    arguments: &mut Arguments<'_>,
    state: &State,
    surroundings: &dyn Surroundings,
    unit: u64,
) -> Result {
    let key = arguments.key()?;
    let until = deadline(arguments, surroundings.wall().0, unit)?;
    let (table, value) = (state.table, arguments.value()?);
    let call = state.call(Command::Put { table, key, value, bindings: vec![Bind::Until(until)] });
    Ok(Action::Ask(vec![call], Then::WrittenOk))
}

/// A time in `unit` milliseconds behind `origin`.
pub(super) fn deadline(arguments: &mut Arguments<'_>, origin: u64, unit: u64) -> Result<Wall> {
    let limit = "it is at least 1, and ends less than 2^63 ms after 1970";
    arguments.parse_within("a time", limit, |text| {
        let number: u64 = text.parse().ok().filter(|number| *number > 0)?;
        let wall = origin.checked_add(number.checked_mul(unit)?)?;
        // What a client reads back is a signed number.
        (i64::try_from(wall).is_ok()).then_some(Wall(wall))
    })
}

/// The options of `SET`.
#[derive(Default)]
struct Set {
    if_absent: bool,
    if_present: bool,
    tell_previous: bool,
    keep: bool,
    until: Option<Wall>,
}

impl Set {
    fn read(arguments: &mut Arguments<'_>, now: Wall) -> Result<Self> {
        let mut set = Self::default();
        while let Some(word) = arguments.word() {
            let until = match word.as_str() {
                "NX" => {
                    set.if_absent = true;
                    continue;
                }
                "XX" => {
                    set.if_present = true;
                    continue;
                }
                "GET" => {
                    set.tell_previous = true;
                    continue;
                }
                "KEEPTTL" => {
                    set.keep = true;
                    continue;
                }
                "EX" => deadline(arguments, now.0, 1_000)?,
                "PX" => deadline(arguments, now.0, 1)?,
                "EXAT" => deadline(arguments, 0, 1_000)?,
                "PXAT" => deadline(arguments, 0, 1)?,
                other => return Err(arguments.unexpected(other)),
            };
            if set.until.replace(until).is_some() {
                return Err(arguments.error("more than one time"));
            }
        }
        if set.if_absent && set.if_present {
            return Err(arguments.error("NX and XX exclude each other"));
        }
        if set.keep && set.until.is_some() {
            return Err(arguments.error("KEEPTTL and a time exclude each other"));
        }
        Ok(set)
    }
}

pub(super) fn set(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let (table, key, value) = (state.table, arguments.key()?, arguments.value()?);
    if arguments.left() == 0 {
        let call = state.call(Command::Put { table, key, value, bindings: Vec::new() });
        return Ok(Action::Ask(vec![call], Then::WrittenOk));
    }
    let set = Set::read(arguments, surroundings.wall())?;
    let bindings: Vec<Bind> = set.until.into_iter().map(Bind::Until).collect();
    if set.if_absent {
        let call = state.call(Command::PutIfAbsent { table, key, value, bindings });
        let then = if set.tell_previous { Then::WonPrevious } else { Then::WonOk };
        return Ok(Action::Ask(vec![call], then));
    }
    if set.if_present || set.keep {
        return Ok(rewrite(state, key, value, bindings, &set));
    }
    let call = state.call(Command::Put { table, key, value, bindings });
    let then = if set.tell_previous { Then::Previous } else { Then::WrittenOk };
    Ok(Action::Ask(vec![call], then))
}

fn rewrite(state: &State, key: Key, value: Value, bindings: Vec<Bind>, set: &Set) -> Action {
    let table = state.table;
    let level = ReadLevel::Linearizable;
    let call = state.call(Command::Get { table, key: key.clone(), level });
    let rewrite = Rewrite {
        call: call.clone(),
        table,
        key,
        value,
        bindings,
        keep: set.keep,
        must_exist: set.if_present,
        tell_previous: set.tell_previous,
        tries: 0,
    };
    Action::Alone(call, Then::Rewrite(Box::new(rewrite)))
}

pub(super) fn mset(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    if arguments.left() != 2 {
        return Err(Reply::Error(
            "UNSUPPORTED",
            "MSET of several keys is atomic in Redis and would not be here; send a SET for each, \
             pipelined"
                .to_owned(),
        ));
    }
    set(arguments, state, surroundings)
}

pub(super) fn keys(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let pattern = pattern(arguments)?;
    let table = state.table;
    let limit = page_of(&pattern, surroundings);
    let call = state.call(Command::Keys { table, after: None, limit });
    Ok(Action::Alone(call, Then::Keys { pattern, table, found: Vec::new() }))
}

/// How many keys to compare with a pattern at a time: the fewer, the longer it is, so that nobody
/// else waits for long.
pub(super) fn page_of(pattern: &[u8], surroundings: &dyn Surroundings) -> u32 {
    let words = u32::try_from(glob::words(pattern)).unwrap_or(u32::MAX);
    (surroundings.page_max() / words).max(1)
}

/// A pattern of bounded length.
fn pattern(arguments: &mut Arguments<'_>) -> Result<Vec<u8>> {
    let pattern = arguments.next("a pattern")?;
    if pattern.len() > PATTERN_MAX {
        let len = pattern.len();
        return Err(Reply::Error(
            "LIMIT",
            format!("a pattern of {len} bytes exceeds {PATTERN_MAX}"),
        ));
    }
    Ok(pattern.to_vec())
}

pub(super) fn scan(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let cursor: u64 = arguments.parse("the cursor")?;
    let (mut table, mut after) = (state.table, None);
    if cursor != 0 {
        let place = surroundings.recall(cursor).ok_or_else(|| {
            arguments.error(
                "this node does not know the cursor: it was given by another node or long ago; \
                 begin at 0, or use SYNOD.KEYS",
            )
        })?;
        (table, after) = (place.0, Some(place.1));
    }
    let (mut wanted, mut limit) = (None, surroundings.page_max().min(10));
    while let Some(word) = arguments.word() {
        match word.as_str() {
            "MATCH" => wanted = Some(pattern(arguments)?),
            "COUNT" => {
                let count: u64 = arguments.parse("the count")?;
                let max = u64::from(surroundings.page_max());
                limit = u32::try_from(count.clamp(1, max)).unwrap_or(1);
            }
            "TYPE" if is_word(arguments.next("a type")?, "string") => {}
            "TYPE" => return Ok(Action::Answer(empty_scan())),
            other => return Err(arguments.unexpected(other)),
        }
    }
    let limit = wanted.as_ref().map_or(limit, |it| limit.min(page_of(it, surroundings)));
    let call = state.call(Command::Keys { table, after, limit });
    Ok(Action::Ask(vec![call], Then::Scan { pattern: wanted, table }))
}

/// There are no keys of any other type.
fn empty_scan() -> Reply {
    Reply::Array(vec![Reply::bulk("0"), Reply::Array(Vec::new())])
}

pub(super) fn ping(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    let text = (arguments.left() > 0).then(|| arguments.next("a text")).transpose()?;
    arguments.end()?;
    Ok(Action::Answer(match text {
        // What a subscriber of RESP2 is told, so that it can tell it from a message.
        _ if state.protocol == Protocol::Resp2 && !state.channels.is_empty() => {
            Reply::Array(vec![Reply::bulk("pong"), Reply::Bulk(text.cloned().unwrap_or_default())])
        }
        Some(text) => Reply::Bulk(text.clone()),
        None => Reply::Simple("PONG"),
    }))
}

pub(super) fn echo(arguments: &mut Arguments<'_>, _: &mut State, _: &dyn Surroundings) -> Result {
    Ok(Action::Answer(Reply::Bulk(arguments.next("a text")?.clone())))
}

pub(super) fn auth(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let user = (arguments.left() > 1).then(|| arguments.next("a user")).transpose()?;
    let password = arguments.next("a password")?;
    arguments.end()?;
    admit(user, password, state, surroundings)?;
    Ok(Action::Answer(Reply::OK))
}

/// Takes a password, if it is the right one.
fn admit(
    user: Option<&Bytes>,
    password: &[u8],
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result<()> {
    let Some(right) = surroundings.password() else {
        return Err(Reply::error(
            "AUTH: this node asks for no password; it is given one with --password-file",
        ));
    };
    // As long for a password that is wrong at the end as for one that is wrong at the beginning.
    let differences = right.iter().zip(password).fold(0, |sum, (a, b)| sum | (a ^ b));
    let is_right = differences == 0 && right.len() == password.len();
    if !is_right || user.is_some_and(|user| user != "default") {
        state.wrong_passwords += 1;
        return Err(Reply::Error(
            "WRONGPASS",
            "the password is wrong, or the user is not 'default', the only one".to_owned(),
        ));
    }
    state.admitted = true;
    Ok(())
}

/// Has a refused `MULTI` keep what follows it from being done: whoever sends it counts on all or
/// nothing, and has sent the rest before hearing that there is no such thing.
pub(super) fn check_transaction(name: &[u8], state: &mut State) -> Result<()> {
    let is = |word| is_word(name, word);
    if is("MULTI") {
        state.behind_multi.get_or_insert(0);
    } else if is("EXEC") || is("DISCARD") {
        state.behind_multi = None;
    } else if let Some(count) = &mut state.behind_multi
        && !(is("RESET") || is("QUIT"))
    {
        *count += 1;
        return Err(Reply::Error(
            "UNSUPPORTED",
            "it was not done, for it is behind a MULTI: there are no transactions here; EXEC, \
             DISCARD or RESET ends that. Send pipelines without one, in redis-py \
             pipeline(transaction=False)"
                .to_owned(),
        ));
    }
    Ok(())
}

/// What whoever has not said the password is told.
pub(super) fn not_admitted() -> Reply {
    Reply::Error(
        "NOAUTH",
        "say the password first: AUTH password, or HELLO 3 AUTH default password".to_owned(),
    )
}

pub(super) fn hello(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let mut protocol = state.protocol;
    let mut name = None;
    if arguments.left() > 0 {
        protocol = match &arguments.next("the version")?[..] {
            b"2" => Protocol::Resp2,
            b"3" => Protocol::Resp3,
            _ => return Err(Reply::Error("NOPROTO", "there are RESP 2 and 3".to_owned())),
        };
    }
    while let Some(word) = arguments.word() {
        match word.as_str() {
            "AUTH" => {
                let user = arguments.next("a user")?;
                admit(Some(user), arguments.next("a password")?, state, surroundings)?;
            }
            "SETNAME" => name = Some(client_name(arguments)?),
            other => return Err(arguments.unexpected(other)),
        }
    }
    if surroundings.password().is_some() && !state.admitted {
        return Err(not_admitted());
    }
    state.protocol = protocol;
    if let Some(name) = name {
        state.name = name;
    }
    let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
    Ok(Action::Answer(Reply::map([
        ("server", Reply::bulk("synod")),
        ("version", Reply::bulk(env!("CARGO_PKG_VERSION"))),
        ("proto", Reply::Integer(version)),
        ("id", Reply::Integer(i64::try_from(state.id).unwrap_or(i64::MAX))),
        // Any node takes any command: to a client of Redis it is a server on its own.
        ("mode", Reply::bulk("standalone")),
        ("role", Reply::bulk("master")),
        ("node", Reply::Integer(i64::from(surroundings.node().0))),
        ("modules", Reply::Array(Vec::new())),
    ])))
}

/// Printable, without spaces: it is shown in a list of words.
fn client_name(arguments: &mut Arguments<'_>) -> Result<String> {
    arguments.parse_with("a name", |text| {
        let fits = text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| text.to_owned())
    })
}

pub(super) fn client(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let word = arguments.word().unwrap_or_default();
    let reply = match word.as_str() {
        "ID" => Reply::Integer(i64::try_from(state.id).unwrap_or(i64::MAX)),
        "GETNAME" if state.name.is_empty() => Reply::Null,
        "GETNAME" => Reply::bulk(state.name.clone()),
        "SETNAME" => {
            state.name = client_name(arguments)?;
            Reply::OK
        }
        "SETINFO" => {
            let what = arguments.word().unwrap_or_default();
            let place = match what.as_str() {
                "LIB-NAME" => 0,
                "LIB-VER" => 1,
                other => return Err(arguments.unexpected(other)),
            };
            state.library[place] = client_name(arguments)?;
            Reply::OK
        }
        "INFO" => Reply::Text(format!("id={} {}\n", state.id, client_line(state, surroundings))),
        "LIST" => Reply::Text(surroundings.clients()),
        "NO-EVICT" | "NO-TOUCH" if arguments.left() == 1 => {
            // Nothing is evicted here, and nothing is touched.
            arguments.word();
            Reply::OK
        }
        other => {
            return Err(Reply::Error(
                "UNSUPPORTED",
                format!(
                    "CLIENT {other}: there are ID, GETNAME, SETNAME, SETINFO, INFO, LIST",
                    other = other.escape_debug()
                ),
            ));
        }
    };
    arguments.end()?;
    Ok(Action::Answer(reply))
}

/// A connection in the words of `CLIENT LIST`, its number left out.
pub(super) fn client_line(state: &State, surroundings: &dyn Surroundings) -> String {
    format!(
        "name={} table={} resp={} lib-name={} lib-ver={} sub={}",
        state.name,
        table_name(&surroundings.tables(), state.table),
        if state.protocol == Protocol::Resp3 { 3 } else { 2 },
        state.library[0],
        state.library[1],
        state.channels.len(),
    )
}

pub(super) fn info(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    _: &dyn Surroundings,
) -> Result {
    let mut sections = Vec::new();
    while let Some(word) = arguments.word() {
        sections.push(word.to_ascii_lowercase());
    }
    Ok(Action::Ask(vec![state.call(Command::Status)], Then::Info(sections)))
}

pub(super) fn select(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    state.table = find_table(&surroundings.tables(), arguments.next("a table")?)?;
    Ok(Action::Answer(Reply::OK))
}

pub(super) fn quit(_: &mut Arguments<'_>, state: &mut State, _: &dyn Surroundings) -> Result {
    state.quitting = true;
    Ok(Action::Answer(Reply::OK))
}

pub(super) fn reset(_: &mut Arguments<'_>, state: &mut State, _: &dyn Surroundings) -> Result {
    let topics = core::mem::take(&mut state.channels);
    let wrong_passwords = state.wrong_passwords;
    *state = State { wrong_passwords, ..State::new(state.id) };
    let topics = topics.iter().filter_map(|channel| match channel.source() {
        Source::Engine(topic) => Some(topic),
        Source::Session(_) => None,
    });
    let calls: Vec<_> = topics.map(|topic| state.call(Command::Unsubscribe(topic))).collect();
    Ok(if calls.is_empty() {
        Action::Answer(Reply::Simple("RESET"))
    } else {
        Action::Ask(calls, Then::Reset)
    })
}

pub(super) fn command(
    arguments: &mut Arguments<'_>,
    _: &mut State,
    _: &dyn Surroundings,
) -> Result {
    let Some(word) = arguments.word() else {
        return Ok(Action::Answer(table::describe_all()));
    };
    let mut names: Vec<Bytes> = Vec::new();
    while arguments.left() > 0 {
        names.push(arguments.next("a name")?.clone());
    }
    Ok(Action::Answer(match word.as_str() {
        "COUNT" => Reply::Integer(i64::try_from(table::COMMANDS.len()).unwrap_or(i64::MAX)),
        "DOCS" => table::docs(&names),
        "INFO" if names.is_empty() => table::describe_all(),
        "INFO" => Reply::Array(names.iter().map(|name| table::describe(name)).collect()),
        "LIST" => table::names(),
        other => return Err(arguments.unexpected(other)),
    }))
}

pub(super) fn config(
    arguments: &mut Arguments<'_>,
    _: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    if arguments.word().as_deref() != Some("GET") {
        return Err(Reply::Error(
            "UNSUPPORTED",
            "a node is configured by its file, its environment and its flags; there is CONFIG GET"
                .to_owned(),
        ));
    }
    let known = [
        // What benchmarks ask for: nothing is written now and then, everything is at once.
        ("save", String::new()),
        ("appendonly", if surroundings.is_durable() { "yes" } else { "no" }.to_owned()),
        ("databases", surroundings.tables().len().to_string()),
    ];
    let mut found = Vec::new();
    let mut patterns = Vec::new();
    while arguments.left() > 0 {
        patterns.push(Glob::new(&pattern(arguments)?.to_ascii_lowercase()));
    }
    for (name, value) in known {
        if patterns.iter().any(|pattern| pattern.matches(name.as_bytes())) {
            found.push((Reply::bulk(name), Reply::bulk(value)));
        }
    }
    Ok(Action::Answer(Reply::Map(found)))
}

pub(super) fn subscribe(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    // Who is told of an error is subscribed to nothing.
    let mut channels = Vec::new();
    while arguments.left() > 0 {
        channels.push(Channel::parse(arguments.next("a channel")?, &surroundings.tables())?);
    }
    let subscribe = |channel| own::subscription(channel, state, false);
    Ok(Action::Several(channels.into_iter().map(subscribe).collect()))
}

pub(super) fn unsubscribe(
    arguments: &mut Arguments<'_>,
    state: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let mut channels = Vec::new();
    while arguments.left() > 0 {
        channels.push(Channel::parse(arguments.next("a channel")?, &surroundings.tables())?);
    }
    if channels.is_empty() {
        channels.extend(state.channels.iter().cloned());
    }
    if channels.is_empty() {
        return Ok(Action::Answer(confirmation("unsubscribe", Reply::Null, 0)));
    }
    let mut parts = Vec::new();
    for channel in channels {
        parts.push(own::unsubscription(&channel, state, surroundings, false));
    }
    Ok(Action::Several(parts))
}

/// Time is asked for by clients that measure clocks.
pub(super) fn time(
    _: &mut Arguments<'_>,
    _: &mut State,
    surroundings: &dyn Surroundings,
) -> Result {
    let wall = Duration::from_millis(surroundings.wall().0);
    Ok(Action::Answer(Reply::Array(vec![
        Reply::bulk(wall.as_secs().to_string()),
        Reply::bulk(wall.subsec_micros().to_string()),
    ])))
}
