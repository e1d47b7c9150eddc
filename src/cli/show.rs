//! Replies, for people and for scripts: aligned text with a little colour, or JSON.
//!
//! Must never know: what was asked.

#![expect(clippy::wildcard_enum_match_arm, reason = "of a reply's many forms, all others are text")]

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use anstream::AutoStream;
use clap::builder::styling::{AnsiColor, Style};
use resp_rs::resp3::Frame;
use serde_json::{Map, Value as Json, json};

const NAME: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const SOON: Style = AnsiColor::Yellow.on_default();

/// Where answers go, and how they look. Colour is for terminals, and not if `NO_COLOR` is set.
pub(super) struct Screen {
    json: bool,
    terminal: bool,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        Self { json, terminal: io::stdout().is_terminal() }
    }

    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    /// Whatever it is: one JSON value in one line, or text.
    pub(super) fn reply(&self, frame: &Frame) -> io::Result<()> {
        if self.json {
            return self.json(&as_json(frame));
        }
        let mut out = AutoStream::auto(io::stdout().lock());
        match frame {
            Frame::Map(pairs) => {
                let width = pairs.iter().map(|(name, _)| cell(name).len()).max().unwrap_or(0);
                for (name, value) in pairs {
                    write!(out, "{NAME}{:width$}{NAME:#}  ", cell(name))?;
                    writeln!(out, "{}", coloured(&cell(value)))?;
                }
            }
            Frame::Array(Some(items)) if items.iter().all(|item| item.as_map().is_some()) => {
                let rows = items.iter().filter_map(Frame::as_map);
                let rows: Vec<Vec<(String, String)>> = rows
                    .map(|row| row.iter().map(|(name, it)| (cell(name), cell(it))).collect())
                    .collect();
                self.table(&rows)?;
            }
            Frame::Array(Some(items)) => {
                for item in items {
                    writeln!(out, "{}", cell(item))?;
                }
            }
            other => {
                let text = bytes(other).map_or_else(|| cell(other), |text| printable(&text));
                writeln!(out, "{text}")?;
            }
        }
        out.flush()
    }

    /// One JSON value, in one line.
    pub(super) fn json(&self, value: &Json) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{value}")?;
        out.flush()
    }

    /// A value alone: its very bytes into a file or a pipe; on a terminal nothing that would
    /// control it, and a line's end.
    pub(super) fn value(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.terminal {
            writeln!(out, "{}", printable(bytes))?;
        } else {
            out.write_all(bytes)?;
        }
        out.flush()
    }

    /// A key in a line of its own, whatever is in it.
    pub(super) fn line(&self, bytes: &[u8]) -> io::Result<()> {
        if self.json {
            return self.json(&text_as_json(bytes));
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{}", in_line(bytes))
    }

    /// Rows with the same columns, the names of the first on top.
    pub(super) fn table(&self, rows: &[Vec<(String, String)>]) -> io::Result<()> {
        let mut out = AutoStream::auto(io::stdout().lock());
        let Some(first) = rows.first() else { return Ok(()) };
        let mut widths = vec![0; first.len()];
        for (place, (name, value)) in rows.iter().flat_map(|row| row.iter().enumerate()) {
            let longest = name.chars().count().max(value.chars().count());
            widths[place] = longest.max(widths[place]);
        }
        for (place, (name, _)) in first.iter().enumerate() {
            let end = if place + 1 == first.len() { "\n" } else { "  " };
            let padding = if end == "\n" { 0 } else { widths[place] };
            write!(out, "{NAME}{:padding$}{NAME:#}{end}", name.to_uppercase())?;
        }
        for row in rows {
            for (place, (_, value)) in row.iter().enumerate() {
                let end = if place + 1 == row.len() { "\n" } else { "  " };
                let used = value.chars().count();
                let padding = if end == "\n" { 0 } else { widths[place].saturating_sub(used) };
                write!(out, "{}{:padding$}{end}", coloured(value), "")?;
            }
        }
        out.flush()
    }
}

/// To the standard error stream: what is wrong.
pub(super) fn complain(what: impl std::fmt::Display) {
    let mut out = AutoStream::auto(io::stderr().lock());
    // Nobody is left to be told that it cannot be written.
    let _ = writeln!(out, "{BAD}synod:{BAD:#} {}", printable(what.to_string().as_bytes()));
}

fn coloured(text: &str) -> String {
    match text {
        "yes" | "ready" => format!("{GOOD}{text}{GOOD:#}"),
        "no" | "unreachable" => format!("{BAD}{text}{BAD:#}"),
        _ if text.starts_with("state lost") => format!("{BAD}{text}{BAD:#}"),
        _ if text == "starting" || text.starts_with("first start") => {
            format!("{SOON}{text}{SOON:#}")
        }
        _ => text.to_owned(),
    }
}

/// Text for a person; what would control the terminal is escaped.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() && !['\n', '\t'].contains(&character) {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

/// Milliseconds since 1970 as a date, of UTC.
pub(super) fn date(milliseconds: i64) -> String {
    let since = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
    let last = Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since.min(last))
}

/// The same in one line.
fn in_line(bytes: &[u8]) -> String {
    printable(bytes).replace('\n', "\\n").replace('\t', "\\t")
}

/// A frame in one line.
pub(super) fn cell(frame: &Frame) -> String {
    match frame {
        Frame::Boolean(true) => String::from("yes"),
        Frame::Boolean(false) => String::from("no"),
        Frame::Integer(number) => number.to_string(),
        Frame::Null | Frame::BulkString(None) => String::from("-"),
        Frame::Array(Some(items)) | Frame::Push(items) if items.is_empty() => String::from("-"),
        Frame::Array(Some(items)) | Frame::Push(items) => {
            let nested = items.iter().any(|item| item.as_array().is_some());
            let cells: Vec<String> = items.iter().map(cell).collect();
            cells.join(if nested { ", " } else { " " })
        }
        Frame::Map(pairs) => {
            let cells = pairs.iter().map(|(name, it)| format!("{} {}", cell(name), cell(it)));
            cells.collect::<Vec<_>>().join(", ")
        }
        other => bytes(other).map_or_else(|| format!("{other:?}"), |text| in_line(&text)),
    }
}

/// The bytes of whatever is text.
pub(super) fn bytes(frame: &Frame) -> Option<Vec<u8>> {
    if let Some((_, text)) = frame.as_verbatim_string() {
        return Some(text.to_vec());
    }
    let (Frame::Error(text) | Frame::BlobError(text)) = frame else {
        return frame.as_bytes().map(|text| text.to_vec());
    };
    Some(text.to_vec())
}

/// A field of a map.
pub(super) fn field<'a>(frame: &'a Frame, name: &str) -> Option<&'a Frame> {
    let pairs = frame.as_map()?;
    pairs.iter().find(|(found, _)| found.as_str() == Some(name)).map(|(_, value)| value)
}

/// Text as a string; what is not UTF-8 as an object with its hexadecimal digits.
pub(super) fn text_as_json(bytes: &[u8]) -> Json {
    match str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "hex": digits })
        }
    }
}

pub(super) fn as_json(frame: &Frame) -> Json {
    match frame {
        Frame::Boolean(value) => json!(value),
        Frame::Integer(number) => json!(number),
        Frame::Null | Frame::BulkString(None) | Frame::Array(None) => Json::Null,
        Frame::Array(Some(items)) | Frame::Push(items) => {
            Json::Array(items.iter().map(as_json).collect())
        }
        Frame::Map(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| (cell(name), as_json(value)));
            Json::Object(pairs.collect::<Map<_, _>>())
        }
        other => bytes(other).map_or(Json::Null, |text| text_as_json(&text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::Readiness;

    #[test]
    fn nothing_controls_the_terminal() {
        assert_eq!(printable(b"a\x1b[31mb\tc"), "a\\u{1b}[31mb\tc");
        assert_eq!(printable(&[b'a', 0xff, 0]), "a\\xff\\u{0}");
        assert_eq!(printable("naïve".as_bytes()), "naïve");
    }

    #[test]
    fn times_are_dates() {
        assert_eq!(date(1_000_000_000_999), "Sun, 09 Sep 2001 01:46:40 GMT");
        for end in [i64::MIN, i64::MAX] {
            assert!(date(end).ends_with(" GMT"));
        }
    }

    #[test]
    fn a_cell_is_in_one_line() {
        let value = Frame::BulkString(Some("a\nb\tc".into()));
        assert_eq!(cell(&value), "a\\nb\\tc");
        assert_eq!(cell(&Frame::Array(Some(vec![value.clone(), value]))), "a\\nb\\tc a\\nb\\tc");
    }

    #[test]
    fn what_is_wrong_is_red() {
        let lost = Readiness::StateLost(String::from("node 2 remembers")).to_string();
        assert!(coloured(&lost).starts_with("\x1b[31m"), "{lost}");
        let new = Readiness::Unwitnessed.to_string();
        assert!(coloured(&new).starts_with("\x1b[33m"), "{new}");
        assert_eq!(coloured("31"), "31");
    }

    #[test]
    fn what_is_no_text_is_told_in_digits() {
        assert_eq!(text_as_json(&[0xff, 1]), json!({ "hex": "ff01" }));
        assert_eq!(text_as_json(b"a"), json!("a"));
    }

    #[test]
    fn bindings_fit_in_a_cell() {
        let word = |text: &'static str| Frame::BulkString(Some(text.into()));
        let binding = Frame::Array(Some(vec![word("NODE"), word("2")]));
        let both = Frame::Array(Some(vec![binding.clone(), binding]));
        assert_eq!(cell(&both), "NODE 2, NODE 2");
    }
}
