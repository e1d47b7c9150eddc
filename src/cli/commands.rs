//! The commands of the client: each is one request, and what its answer means to a script.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use resp_rs::resp3::Frame;
use serde_json::json;

use super::client::{Connection, Failure, Repeat, Target, ask, in_turn};
use super::options::{
    AddReplicaOptions, Bound, ClientOptions, CreateOptions, DropOptions, FenceOptions, GetOptions,
    HandOverOptions, KeysOptions, MergeOptions, OutcomeOptions, PutOptions, ReconnectOptions,
    RemoveOptions, ReplicaOptions, TableOptions,
};
use super::show::{self, Screen, as_json, complain, field};
use super::{Trouble, Verdict, rows};
use crate::resp::RequestLimits;
use crate::server::read_password;

/// The longest value that can be read from standard input: no node takes a longer request.
fn value_max() -> usize {
    RequestLimits::default().bytes_max
}

/// Keys asked for at a time.
pub(super) const PAGE: u64 = 1_000;

pub(super) type Result<T = Verdict> = std::result::Result<T, Trouble>;

impl ClientOptions {
    pub(super) fn target(&self) -> Result<Target> {
        let password = password(self.password_file.as_deref())?;
        Ok(Target { servers: self.server.clone(), patience: self.timeout, password })
    }

    pub(super) fn screen(&self) -> Screen {
        Screen::new(self.json)
    }
}

pub(super) fn password(file: Option<&Path>) -> Result<Option<Bytes>> {
    Ok(file.map(read_password).transpose()?.map(Bytes::from))
}

/// The words of a request.
#[derive(Clone)]
pub(super) struct Words(pub(super) Vec<Bytes>);

impl Words {
    pub(super) fn new(name: &'static str) -> Self {
        Self(vec![Bytes::from(name)])
    }

    pub(super) fn and(mut self, word: impl Into<Bytes>) -> Self {
        self.0.push(word.into());
        self
    }

    pub(super) fn option(self, name: &'static str, value: Option<impl Into<Bytes>>) -> Self {
        match value {
            Some(value) => self.and(name).and(value),
            None => self,
        }
    }

    pub(super) fn table(self, at: &TableOptions) -> Self {
        self.option("TABLE", at.table.clone())
    }

    fn bound(mut self, bound: &Bound) -> Result<Self> {
        for session in &bound.session {
            self = self.and("SESSION").and(session.clone());
        }
        for node in &bound.node {
            self = self.and("NODE").and(node.to_string());
        }
        for parent in &bound.parent {
            let Some((table, key)) = parent.split_once(':') else {
                return Err(Trouble::Given(format!("--key: '{parent}' is not TABLE:KEY")));
            };
            self = self.and("KEY").and(table.to_owned()).and(key.to_owned());
        }
        let lasting = bound.lasting.map(|time| time.as_millis().to_string());
        Ok(self.option("FOR", lasting).option("UNTIL", bound.until.map(|it| it.to_string())))
    }
}

pub(super) fn get(options: &GetOptions) -> Result {
    let words = Words::new("SYNOD.GET").and(options.key.clone()).table(&options.at);
    let words = match (options.local, options.dirty) {
        (true, _) => words.and("LOCAL").option("SEEN", options.seen.map(|seen| seen.to_string())),
        (false, true) => words.and("DIRTY"),
        // Of a primary table, at the primary.
        (false, false) => words.and("LINEARIZABLE").and("FOLLOW"),
    };
    let client = &options.at.client;
    let reply = ask(&client.target()?, &words.0, Repeat::Freely)?;
    let screen = client.screen();
    let value = field(&reply, "value").and_then(show::bytes);
    let plain = !(options.entry || screen.is_json());
    // A value alone would hide that there are others.
    if rows::show_key(&reply, &options.key, &options.at, plain)? && plain {
        return Ok(Verdict::Done);
    }
    match value {
        // The value alone is what a script wants, and JSON can hold more.
        Some(value) if plain => screen.value(&value)?,
        Some(_) => screen.reply(&reply)?,
        None => {
            complain(format_args!("there is no key {}", options.key));
            return Ok(Verdict::Not);
        }
    }
    Ok(Verdict::Done)
}

pub(super) fn put(options: &PutOptions) -> Result {
    let mut value = options.value.clone().into_bytes();
    if options.value == "-" {
        value.clear();
        // One byte more tells whether there is more.
        std::io::stdin().lock().take(value_max() as u64 + 1).read_to_end(&mut value)?;
    }
    if value.len() > value_max() {
        let max = value_max();
        return Err(Trouble::Given(format!("the value is longer than {max} bytes, the limit")));
    }
    let compared = options.if_value.is_some() || options.if_version.is_some();
    // A primary table has no conditions.
    let repeat = match compared || options.if_absent {
        true => Repeat::Named,
        false => Repeat::Followed(options.at.table.as_deref()),
    };
    let name = match options.if_absent {
        true => "SYNOD.PUTIFABSENT",
        false if compared => "SYNOD.CAS",
        false => "SYNOD.PUT",
    };
    let words = Words::new(name)
        .and(options.key.clone())
        .and(value)
        .option("IF", options.if_value.clone())
        .option("VERSION", options.if_version.clone())
        .bound(&options.bound)?
        .table(&options.at);
    let client = &options.at.client;
    let reply = ask(&client.target()?, &words.0, repeat)?;
    client.screen().reply(&reply)?;
    let verdict = field(&reply, "won").or_else(|| field(&reply, "written"));
    Ok(judge(verdict.is_none_or(|verdict| *verdict == Frame::Boolean(true))))
}

pub(super) const fn judge(is_so: bool) -> Verdict {
    if is_so { Verdict::Done } else { Verdict::Not }
}

pub(super) fn remove(options: &RemoveOptions) -> Result {
    if let Some(value) = &options.value {
        return rows::remove_value(&options.key, value, &options.at);
    }
    let words = Words::new("SYNOD.REMOVE")
        .and(options.key.clone())
        .option("GENERATION", options.generation.clone())
        .table(&options.at);
    let client = &options.at.client;
    let repeat = match options.generation {
        Some(_) => Repeat::Named,
        None => Repeat::Followed(options.at.table.as_deref()),
    };
    let reply = ask(&client.target()?, &words.0, repeat)?;
    client.screen().reply(&reply)?;
    Ok(judge(field(&reply, "removed") == Some(&Frame::Boolean(true))))
}

pub(super) fn fence(options: &FenceOptions) -> Result {
    let words = Words::new("SYNOD.FENCE").and(options.key.clone()).table(&options.at);
    let client = &options.at.client;
    let reply = ask(&client.target()?, &words.0, Repeat::Named)?;
    client.screen().reply(&reply)?;
    Ok(Verdict::Done)
}

pub(super) fn outcome(options: &OutcomeOptions) -> Result {
    let words = Words::new("SYNOD.RESOLVE")
        .and(options.client_number.to_string())
        .and(options.number.to_string())
        .option("SEEN", options.seen.map(|seen| seen.to_string()))
        .and("FOLLOW")
        .table(&options.at);
    let client = &options.at.client;
    match ask(&client.target()?, &words.0, Repeat::Freely) {
        Ok(reply) => {
            client.screen().reply(&reply)?;
            Ok(Verdict::Done)
        }
        Err(Failure::Refused { code, .. }) if code == "RESOLVED" => {
            complain("it was not done, and never will be");
            Ok(Verdict::Not)
        }
        Err(failure) => Err(failure.into()),
    }
}

pub(super) fn keys(options: &KeysOptions) -> Result {
    let (target, screen) = (options.at.client.target()?, options.at.client.screen());
    let mut after = options.after.clone().map(Bytes::from);
    let mut left = options.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let words = Words::new("SYNOD.KEYS")
            .option("AFTER", after)
            .and("LIMIT")
            .and(left.min(PAGE).to_string())
            .table(&options.at);
        let reply = ask(&target, &words.0, Repeat::Freely)?;
        let page = field(&reply, "keys").and_then(Frame::as_array).unwrap_or_default();
        for key in page {
            screen.line(&show::bytes(key).unwrap_or_default())?;
        }
        left = left.saturating_sub(page.len() as u64);
        after = field(&reply, "more").and_then(Frame::as_bytes).cloned();
        if after.is_none() {
            break;
        }
    }
    Ok(Verdict::Done)
}

/// How this node's copy of a merged table stands with the others: itself, then a line for each
/// peer, then one for each event, the latest last.
pub(super) fn merged(options: &TableOptions) -> Result {
    let words = Words::new("SYNOD.MERGED").table(options);
    let reply = ask(&options.client.target()?, &words.0, Repeat::Freely)?;
    let screen = options.client.screen();
    let Some(fields) = reply.as_map().filter(|_| !screen.is_json()) else {
        screen.reply(&reply)?;
        return Ok(Verdict::Done);
    };
    let (lists, own): (Vec<_>, Vec<_>) = fields
        .iter()
        .cloned()
        .partition(|(name, _)| matches!(name.as_str(), Some("peers" | "history")));
    screen.reply(&Frame::Map(own))?;
    for (_, list) in lists.iter().filter(|(name, _)| name.as_str() == Some("peers")) {
        screen.reply(list)?;
    }
    for event in field(&reply, "history").and_then(Frame::as_array).unwrap_or_default() {
        let cell = |name| field(event, name).map(show::cell).unwrap_or_default();
        let at = field(event, "at").and_then(Frame::as_integer).map(show::date);
        screen.line(format!("{}  {}", at.unwrap_or_default(), cell("event")).as_bytes())?;
    }
    Ok(Verdict::Done)
}

pub(super) fn merge(options: &MergeOptions) -> Result {
    let words = Words::new("SYNOD.MERGE").option("KEEP", options.keep.clone()).table(&options.at);
    ask(&options.at.client.target()?, &words.0, Repeat::Freely)?;
    Ok(Verdict::Done)
}

/// How a primary table is, as its primary sees it: of several that say they are, the latest.
pub(super) fn primary(options: &TableOptions) -> Result {
    let (target, screen) = (options.client.target()?, options.client.screen());
    let asked = ask_each(&target, &Words::new("SYNOD.PRIMARY").table(options).0);
    let rank = |view: &Frame| {
        let leads = field(view, "role").and_then(Frame::as_str) == Some("primary");
        (leads, field(view, "reign").and_then(Frame::as_integer))
    };
    let mut best: Option<(&String, &Frame)> = None;
    let mut last = Failure::Unreachable(target.servers.join(", "));
    for (server, asked) in target.servers.iter().zip(&asked) {
        match asked {
            Ok(view) if best.is_none_or(|(_, before)| rank(view) > rank(before)) => {
                best = Some((server, view));
            }
            Ok(_) => {}
            Err(failure) if matches!(failure, Failure::Refused { .. }) => last = failure.clone(),
            Err(_) => {}
        }
    }
    let Some((server, view)) = best else { return Err(last.into()) };
    if !rank(view).0 {
        complain(format_args!(
            "none of the servers that answer is the primary: this is what {server} knows"
        ));
    }
    screen.reply(view)?;
    Ok(Verdict::Done)
}

pub(super) fn hand_over(options: &HandOverOptions) -> Result {
    let to = options.to.map(|to| to.to_string());
    let words = Words::new("SYNOD.HANDOVER").option("TO", to).table(&options.at);
    let client = &options.at.client;
    let reply = ask(&client.target()?, &words.0, Repeat::Freely)?;
    client.screen().reply(&reply)?;
    Ok(Verdict::Done)
}

/// Asks one node something of its replica, and tells that it was this node that did it.
pub(super) fn at_replica(
    name: &'static str,
    done: &'static str,
    options: &ReplicaOptions,
) -> Result {
    let client = &options.at.client;
    let target = client.target()?;
    let told = target.patience.mul_f32(0.9).as_millis().max(1).to_string();
    let words = Words::new(name).table(&options.at).and("PATIENCE").and(told);
    let wanted = Frame::Integer(options.node.into());
    let found = in_turn(&target, |connection, _| {
        let status = connection.call(&[Bytes::from("SYNOD.STATUS")])?;
        if field(&status, "node") == Some(&wanted) {
            return Ok(());
        }
        Err(Failure::Unreachable(String::new()))
    });
    let servers = target.servers.join(", ");
    let nowhere = format!("none of {servers} that answers is node {}", options.node);
    let (mut connection, ()) = found.map_err(|failure| {
        let absent = matches!(failure, Failure::Unreachable(_));
        if absent { Failure::Unreachable(nowhere) } else { failure }
    })?;
    connection.set_patience(target.patience);
    connection.call(&words.0).map_err(|failure| {
        // It may have heard.
        if let Failure::Lost(why) = failure { Failure::Unknown(why) } else { failure }
    })?;
    let named = |name: &'static str| Frame::BulkString(Some(Bytes::from(name)));
    let did = [(named("node"), wanted), (named(done), Frame::Boolean(true))];
    client.screen().reply(&Frame::Map(did.into()))?;
    Ok(Verdict::Done)
}

pub(super) fn create(options: &CreateOptions) -> Result {
    let mut words = vec![Bytes::from("SYNOD.CREATE"), Bytes::from(options.name.clone())];
    if let Some(given) = &options.words {
        words.extend([Bytes::from("AS"), Bytes::from(given.clone())]);
    }
    ask(&options.client.target()?, &words, Repeat::Freely)?;
    Ok(Verdict::Done)
}

pub(super) fn add_replica(options: &AddReplicaOptions) -> Result {
    let node = Bytes::from(options.node.to_string());
    let words = [Bytes::from("SYNOD.ADDREPLICA"), Bytes::from(options.name.clone()), node];
    ask(&options.client.target()?, &words, Repeat::Freely)?;
    Ok(Verdict::Done)
}

pub(super) fn drop_table(options: &DropOptions) -> Result {
    let words = [Bytes::from("SYNOD.DROP"), Bytes::from(options.name.clone())];
    ask(&options.client.target()?, &words, Repeat::Freely)?;
    Ok(Verdict::Done)
}

pub(super) fn tables(options: &ClientOptions) -> Result {
    let words = [Bytes::from("SYNOD.TABLES")];
    let (_, reply) = in_turn(&options.target()?, |connection, _| connection.call(&words))?;
    let screen = options.screen();
    if screen.is_json() {
        for table in reply.as_array().unwrap_or_default() {
            screen.json(&as_json(table))?;
        }
    } else {
        screen.reply(&reply)?;
    }
    Ok(Verdict::Done)
}

pub(super) fn reconnect(options: &ReconnectOptions) -> Result {
    let mut words = vec![Bytes::from("SYNOD.RECONNECT")];
    words.extend(options.node.map(|node| Bytes::from(node.to_string())));
    in_turn(&options.client.target()?, |connection, _| connection.call(&words))?;
    Ok(Verdict::Done)
}

/// Every node that was named, one row each.
pub(super) fn status(options: &ClientOptions) -> Result {
    let (target, screen) = (options.target()?, options.screen());
    let mut rows = Vec::new();
    let (mut well, mut reached) = (true, false);
    let mut last = Failure::Unreachable(target.servers.join(", "));
    let asked = ask_each(&target, &[Bytes::from("SYNOD.STATUS")]);
    for (server, status) in target.servers.iter().zip(asked) {
        let yes = |status: &Frame, name| field(status, name) == Some(&Frame::Boolean(true));
        match &status {
            Ok(status) => {
                reached = true;
                well &= yes(status, "ready") && yes(status, "quorum");
            }
            Err(failure) => {
                well = false;
                // Who refuses was reached.
                if matches!(failure, Failure::Refused { .. }) {
                    last = failure.clone();
                }
            }
        }
        if screen.is_json() {
            screen.json(&match &status {
                Ok(status) => json!({ "server": server, "status": as_json(status) }),
                Err(failure) => json!({ "server": server, "error": failure.to_string() }),
            })?;
        } else {
            rows.push(row(server, &status));
        }
    }
    screen.table(&rows)?;
    if !reached {
        return Err(last.into());
    }
    Ok(judge(well))
}

/// What each server says, all asked at once: one that hangs holds up no other.
fn ask_each(target: &Target, words: &[Bytes]) -> Vec<std::result::Result<Frame, Failure>> {
    let ask = |server: &str| {
        let mut connection = Connection::open(server, target.patience, target.password.as_ref())?;
        connection.set_patience(target.patience);
        connection.call(words)
    };
    std::thread::scope(|scope| {
        let asked = target.servers.iter().map(|server| scope.spawn(move || ask(server)));
        let asked: Vec<_> = asked.collect();
        let failed = |_| Err(Failure::Unreachable("it could not be asked".to_owned()));
        asked.into_iter().map(|asked| asked.join().unwrap_or_else(failed)).collect()
    })
}

fn row(server: &str, status: &std::result::Result<Frame, Failure>) -> Vec<(String, String)> {
    let columns = ["node", "readiness", "quorum", "reachable", "sessions", "requests", "registers"];
    let mut row = vec![("server".to_owned(), server.to_owned())];
    for name in columns {
        let shown = match status {
            Ok(status) => field(status, name).map_or_else(String::new, show::cell),
            Err(Failure::Refused { code, .. }) if name == "readiness" => code.clone(),
            Err(_) if name == "readiness" => "unreachable".to_owned(),
            Err(_) => "-".to_owned(),
        };
        row.push((name.to_owned(), shown));
    }
    row
}
