//! Rows of merged tables: how the client lists them, and how it ends conflicts about them.
//!
//! Must never know: how copies merge.

use bytes::Bytes;
use resp_rs::resp3::Frame;

use super::client::{Repeat, ask};
use super::commands::{PAGE, Result, Words, judge};
use super::options::{ResolveOptions, RowsOptions, TableOptions};
use super::show::{self, Screen, as_json, complain, field};
use super::{Trouble, Verdict};

/// Has each row looked at that the command lists behind `after`, which is a key and in a bag its
/// element, page after page, until it is said that there are enough.
fn each(
    command: &Words,
    at: &TableOptions,
    mut after: Vec<Bytes>,
    mut look: impl FnMut(&Frame) -> Result<bool>,
) -> Result<()> {
    let target = at.client.target()?;
    loop {
        let mut words = command.clone().and("LIMIT").and(PAGE.to_string());
        for (name, part) in ["AFTER", "ELEMENT"].into_iter().zip(after) {
            words = words.and(name).and(part);
        }
        let reply = ask(&target, &words.table(at).0, Repeat::Freely)?;
        for row in list(&reply, "rows") {
            if !look(row)? {
                return Ok(());
            }
        }
        after = behind(&reply);
        if after.is_empty() {
            return Ok(());
        }
    }
}

fn list<'a>(frame: &'a Frame, name: &str) -> &'a [Frame] {
    field(frame, name).and_then(Frame::as_array).unwrap_or_default()
}

/// Where a list goes on.
fn behind(reply: &Frame) -> Vec<Bytes> {
    list(reply, "more").iter().filter_map(Frame::as_bytes).cloned().collect()
}

fn text(frame: &Frame, name: &str) -> Option<Vec<u8>> {
    field(frame, name).and_then(show::bytes)
}

fn writes(row: &Frame) -> impl Iterator<Item = Vec<u8>> {
    list(row, "values").iter().filter_map(|value| text(value, "write"))
}

fn is_in_conflict(row: &Frame) -> bool {
    list(row, "values").len() > 1
}

/// A row in one line: its key, then its values.
fn print(row: &Frame, screen: &Screen) -> Result<()> {
    if screen.is_json() {
        return Ok(screen.json(&as_json(row))?);
    }
    let mut line = field(row, "key").map(show::cell).unwrap_or_default();
    for value in list(row, "values") {
        line.push_str("  ");
        line.push_str(&field(value, "value").map(show::cell).unwrap_or_default());
    }
    Ok(screen.line(line.as_bytes())?)
}

/// Rows in conflict, each with its values; none is success.
pub(super) fn conflicts(options: &TableOptions) -> Result {
    let screen = options.client.screen();
    let mut none = true;
    each(&Words::new("SYNOD.CONFLICTS"), options, Vec::new(), |row| {
        none = false;
        print(row, &screen)?;
        Ok(true)
    })?;
    Ok(judge(none))
}

pub(super) fn rows(options: &RowsOptions) -> Result {
    let screen = options.at.client.screen();
    let words = Words::new("SYNOD.ROWS")
        .option("PREFIX", options.prefix.clone())
        .option("VALUE", options.value.clone());
    let after = [options.after.clone(), options.element.clone()];
    let after = after.into_iter().flatten().map(Bytes::from).collect();
    let mut left = options.limit.unwrap_or(u64::MAX);
    each(&words, &options.at, after, |row| {
        print(row, &screen)?;
        left -= 1;
        Ok(left > 0)
    })?;
    Ok(Verdict::Done)
}

/// All rows of a key, as `SYNOD.GET` answers them, and if those are more than it answers at once,
/// the others.
fn of_key(reply: &Frame, key: &str, at: &TableOptions) -> Result<Vec<Frame>> {
    let mut found = list(reply, "rows").to_vec();
    let after = behind(reply);
    if !after.is_empty() {
        let words = Words::new("SYNOD.ROWS").and("PREFIX").and(key.to_owned());
        // A key stands before those that it begins.
        each(&words, at, after, |row| {
            let same = text(row, "key").as_deref() == Some(key.as_bytes());
            found.extend(same.then(|| row.clone()));
            Ok(same)
        })?;
    }
    Ok(found)
}

/// Says of what a key shows that it is in conflict. Of a bag, writes each element in a line.
///
/// Returns whether it was one.
pub(super) fn show_key(reply: &Frame, key: &str, at: &TableOptions, plain: bool) -> Result<bool> {
    let rows = of_key(reply, key, at)?;
    for row in rows.iter().filter(|row| is_in_conflict(row)) {
        let count = list(row, "values").len();
        complain(format_args!(
            "{} is in conflict: {count} values were written without knowing of each other, and \
             this is the latest; `synod resolve {key}` shows them, and how to end it; `synod \
             conflicts` lists all",
            name(row)
        ));
    }
    let is_bag = rows.iter().any(|row| text(row, "element").is_some());
    if is_bag && plain {
        for value in rows.iter().filter_map(|row| list(row, "values").first()) {
            at.client.screen().line(&text(value, "value").unwrap_or_default())?;
        }
    }
    Ok(is_bag)
}

/// A row as people are told of it.
fn name(row: &Frame) -> String {
    let key = field(row, "key").map(show::cell).unwrap_or_default();
    match field(row, "element") {
        None | Some(Frame::Null) => key,
        Some(element) => format!("{key}, element {},", show::cell(element)),
    }
}

/// One element of a bag, or a key if it has this value.
pub(super) fn remove_value(key: &str, value: &str, at: &TableOptions) -> Result {
    let words = Words::new("SYNOD.BATCH").and("1").and("REMOVEIF");
    let words = words.and(key.to_owned()).and(value.to_owned()).table(at);
    let reply = ask(&at.client.target()?, &words.0, Repeat::Freely)?;
    at.client.screen().reply(&reply)?;
    Ok(judge(field(&reply, "removed") == Some(&Frame::Boolean(true))))
}

/// Ends a conflict, if the key shows what it showed; without an answer, shows it.
pub(super) fn resolve(options: &ResolveOptions) -> Result {
    let rows = look(options)?;
    let Some(row) = in_conflict(&rows, options)? else {
        complain(format_args!("{} is not in conflict; nothing was done", options.key));
        return Ok(Verdict::Not);
    };
    present(row, &options.at.client.screen())?;
    let held: Vec<Vec<u8>> = writes(row).collect();
    if !options.of.is_empty() {
        let mut seen: Vec<_> = options.of.iter().map(String::as_bytes).collect();
        seen.sort_unstable();
        let mut held: Vec<_> = held.iter().map(Vec::as_slice).collect();
        held.sort_unstable();
        if seen != held {
            return Ok(overtaken(options));
        }
    }
    let answer = match (&options.keep, &options.value) {
        (Some(write), _) => {
            let kept = held.iter().position(|held| *held == write.as_bytes());
            let Some(kept) = kept.and_then(|place| list(row, "values").get(place)) else {
                complain(format_args!(
                    "{} shows no write {write}, or no more; nothing was done",
                    options.key
                ));
                return Ok(Verdict::Not);
            };
            text(kept, "value")
        }
        (None, Some(value)) => Some(value.clone().into_bytes()),
        (None, None) if options.remove => None,
        (None, None) => return Ok(Verdict::Not),
    };
    let words = answer_words(options, &rows, row, answer.as_deref());
    let target = options.at.client.target()?;
    let reply = ask(&target, &words.table(&options.at).0, Repeat::Freely)?;
    if field(&reply, "written") == Some(&Frame::Boolean(true)) {
        return Ok(Verdict::Done);
    }
    // What was asked twice, since the answer was lost, found itself.
    let now = look(options)?;
    let same = |other: &&Frame| field(other, "element") == field(row, "element");
    let shown = now.iter().find(same).map(|row| list(row, "values"));
    let done = match (shown, &answer) {
        (None, None) => true,
        (Some([only]), Some(answer)) => text(only, "value").as_ref() == Some(answer),
        (None | Some(_), _) => false,
    };
    Ok(if done { Verdict::Done } else { overtaken(options) })
}

/// What the key shows.
fn look(options: &ResolveOptions) -> Result<Vec<Frame>> {
    let words = Words::new("SYNOD.GET").and(options.key.clone()).table(&options.at);
    let reply = ask(&options.at.client.target()?, &words.0, Repeat::Freely)?;
    of_key(&reply, &options.key, &options.at)
}

/// The row that is meant.
fn in_conflict<'a>(rows: &'a [Frame], options: &ResolveOptions) -> Result<Option<&'a Frame>> {
    let meant = |row: &&Frame| {
        let element = options.element.as_ref().map(|element| element.as_bytes().to_vec());
        is_in_conflict(row) && (element.is_none() || text(row, "element") == element)
    };
    let mut all = rows.iter().filter(meant);
    let first = all.next();
    let others: Vec<String> = all.map(name).collect();
    if let (Some(first), false) = (first, others.is_empty()) {
        let all = [&[name(first)], &others[..]].concat().join(" ");
        return Err(Trouble::Given(format!("several are in conflict: {all} say --element")));
    }
    Ok(first)
}

/// Each value with its write, the latest first.
fn present(row: &Frame, screen: &Screen) -> Result<()> {
    if screen.is_json() {
        return Ok(screen.json(&as_json(row))?);
    }
    let columns = ["write", "modified", "value"];
    let rows = list(row, "values").iter().map(|value| {
        let cell = |name| match field(value, name) {
            Some(Frame::Integer(at)) => show::date(*at),
            found => found.map(show::cell).unwrap_or_default(),
        };
        columns.map(|name| (name.to_owned(), cell(name))).to_vec()
    });
    Ok(screen.table(&rows.collect::<Vec<_>>())?)
}

/// The answer instead of the row, if the key shows just what was read.
fn answer_words(
    options: &ResolveOptions,
    rows: &[Frame],
    row: &Frame,
    answer: Option<&[u8]>,
) -> Words {
    let key = || options.key.clone();
    let seen: Vec<Vec<u8>> = rows.iter().flat_map(writes).collect();
    let is_bag = text(row, "element").is_some();
    let count = 1 + if is_bag { 2 } else { 0 } + usize::from(!is_bag || answer.is_some());
    let mut words = Words::new("SYNOD.BATCH").and(count.to_string());
    words = words.and("IF").and(key()).and(seen.len().to_string());
    words = seen.into_iter().fold(words, Words::and);
    if is_bag {
        // No element can be removed while it is in conflict. Of several changes to one the last
        // counts; and the answer may be another element.
        let shown = list(row, "values").first().and_then(|value| text(value, "value"));
        let shown = shown.unwrap_or_default();
        words = words.and("PUT").and(key()).and(shown.clone());
        words = words.and("REMOVEIF").and(key()).and(shown);
    }
    match answer {
        Some(answer) => words.and("PUT").and(key()).and(answer.to_vec()),
        None if is_bag => words,
        None => words.and("REMOVE").and(key()),
    }
}

fn overtaken(options: &ResolveOptions) -> Verdict {
    complain(format_args!(
        "{} was written to since it was looked at, so nothing was done; look again",
        options.key
    ));
    Verdict::Not
}
