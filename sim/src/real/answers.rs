//! What an answer of the server says of a key, in the words of the judge.
//!
//! Must never know: who asked, nor when.

use super::client::Reply;
use crate::history::{Action, Outcome, Seen};

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It had no effect, and never will.
    NoEffect,
    /// This.
    Outcome(Outcome),
    /// Something that makes no sense here.
    Strange(String),
    /// That nobody knows.
    Unknown,
}

/// How many bytes stand behind a value's number: mostly none, sometimes enough to span blocks and
/// packets. It depends on the value alone, so that whoever knows the number knows the text.
const fn len_of(value: u64) -> usize {
    let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    match mixed % 100 {
        0 => 1_000 + (mixed / 100 % 60_000) as usize,
        1..=9 => 10 + (mixed / 100 % 1_000) as usize,
        _ => 0,
    }
}

/// The text of a value.
#[must_use]
pub fn text_of(value: u64) -> String {
    let mut text = value.to_string();
    let len = len_of(value);
    if len > 0 {
        text.push(':');
        let letter = char::from(b'a' + (value % 26) as u8);
        text.extend(std::iter::repeat_n(letter, len));
    }
    text
}

/// The number of a value.
///
/// # Errors
/// If it is not, to the last byte, as it was written.
pub fn number_of(text: &str) -> Result<u64, String> {
    let number = text.split(':').next().unwrap_or_default();
    let value: u64 =
        number.parse().map_err(|_| format!("a value that nobody wrote: {text:.60?}"))?;
    if text_of(value) != text {
        return Err(format!("a damaged value: {text:.60?}, {} bytes", text.len()));
    }
    Ok(value)
}

/// The same question in Redis's words, if it has any.
#[must_use]
pub fn as_redis(action: Action, words: &[String]) -> Option<Vec<String>> {
    let verb = match action {
        Action::Get => "GET",
        Action::Put { .. } => "SET",
        Action::PutIfAbsent { .. } => "SETNX",
        Action::Remove => "DEL",
        Action::Append { .. } | Action::CompareAndSet { .. } | Action::Exists => return None,
    };
    let rest = words[1..].iter().cloned();
    Some(std::iter::once(verb.to_owned()).chain(rest).collect())
}

fn seen(reply: Option<&Reply>) -> Result<Seen, String> {
    match reply {
        Some(Reply::Nothing) => Ok(Seen::Absent),
        Some(Reply::Text(text)) => number_of(text).map(Seen::Value),
        Some(Reply::Error(code, _)) if code == "PREVIOUSUNKNOWN" => Ok(Seen::Nothing),
        other => Err(format!("not a value: {other:?}")),
    }
}

/// Reads an answer.
#[must_use]
pub fn read(action: Action, reply: &Reply) -> Told {
    if let Reply::Error(code, why) = reply {
        return match code.as_str() {
            "BUSY" | "NOQUORUM" | "NOTREADY" => Told::NoEffect,
            "INVALIDBINDING" if !action.is_read() => Told::Outcome(Outcome::InvalidBinding),
            "PREVIOUSUNKNOWN" => Told::Outcome(Outcome::Done(Seen::Nothing)),
            "UNKNOWN" => Told::Unknown,
            _ => Told::Strange(format!("{code} {why}")),
        };
    }
    match understand(action, reply) {
        Ok(outcome) => Told::Outcome(outcome),
        Err(why) => Told::Strange(why),
    }
}

fn understand(action: Action, reply: &Reply) -> Result<Outcome, String> {
    let value = || match seen(reply.field("value"))? {
        Seen::Value(value) => Ok(Some(value)),
        Seen::Absent | Seen::Nothing | Seen::Present => Ok(None),
    };
    let flag = |name| match reply.field(name) {
        Some(Reply::Flag(flag)) => Ok(*flag),
        other => Err(format!("{name} is {other:?}")),
    };
    let previous = || seen(reply.field("previous")).map(Outcome::Done);
    match (action, reply) {
        (Action::Get, Reply::Map(_)) => value().map(Outcome::Read),
        (Action::Get, Reply::Nothing) => Ok(Outcome::Read(None)),
        (Action::Get, Reply::Text(text)) => number_of(text).map(|it| Outcome::Read(Some(it))),
        (Action::Put { .. }, Reply::Map(_)) => previous(),
        (Action::Put { .. }, Reply::Text(text)) if text == "OK" => Ok(Outcome::Done(Seen::Nothing)),
        (Action::PutIfAbsent { .. }, Reply::Map(_)) => Ok(if flag("won")? {
            Outcome::Done(Seen::Absent)
        } else {
            Outcome::Refused(seen(reply.field("value"))?)
        }),
        (Action::PutIfAbsent { .. }, Reply::Number(1)) => Ok(Outcome::Done(Seen::Absent)),
        (Action::PutIfAbsent { .. }, Reply::Number(0)) => Ok(Outcome::Refused(Seen::Present)),
        (Action::CompareAndSet { .. }, Reply::Map(_)) => {
            if flag("written")? {
                previous()
            } else {
                Ok(Outcome::Refused(seen(reply.field("value"))?))
            }
        }
        (Action::Remove, Reply::Map(_)) => previous(),
        (Action::Remove, Reply::Number(1)) => Ok(Outcome::Done(Seen::Present)),
        (Action::Remove, Reply::Number(0)) => Ok(Outcome::Done(Seen::Absent)),
        _ => Err(format!("not an answer to {action:?}: {reply:.80?}")),
    }
}

/// What the client may take the key to hold now, if the answer says.
#[must_use]
pub const fn known_after(action: Action, outcome: Outcome) -> Option<Option<u64>> {
    match outcome {
        Outcome::Done(_) => Some(action.value()),
        Outcome::Read(value) => Some(value),
        Outcome::Refused(Seen::Value(value)) => Some(Some(value)),
        Outcome::Refused(Seen::Absent) => Some(None),
        Outcome::Exists(_)
        | Outcome::InvalidBinding
        | Outcome::Refused(Seen::Nothing | Seen::Present)
        | Outcome::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_by_every_byte() {
        let mut lengths = std::collections::BTreeSet::new();
        for value in 0..1_000 {
            let text = text_of(value);
            assert_eq!(number_of(&text), Ok(value));
            assert!(number_of(&format!("{text}x")).is_err());
            lengths.insert(text.len());
        }
        assert!(lengths.len() > 50 && *lengths.last().expect("one") > 10_000, "{lengths:?}");
        for wrong in ["", "x", "-7", "007"] {
            assert!(number_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers_are_read_as_they_are_meant() {
        let map = |pairs: &[(&str, Reply)]| {
            Reply::Map(pairs.iter().map(|(name, it)| ((*name).to_owned(), it.clone())).collect())
        };
        let text = |value: &str| Reply::Text(value.to_owned());
        let error = |code: &str| Reply::Error(code.to_owned(), "why".to_owned());
        let put = Action::Put { value: 5 };
        let pia = Action::PutIfAbsent { value: 5 };
        let cas = Action::CompareAndSet { expect: Some(4), value: 5 };
        let done = |seen| Told::Outcome(Outcome::Done(seen));
        for (action, reply, expected) in [
            (put, map(&[("previous", Reply::Nothing)]), done(Seen::Absent)),
            (put, map(&[("previous", error("PREVIOUSUNKNOWN"))]), done(Seen::Nothing)),
            (put, text("OK"), done(Seen::Nothing)),
            (put, error("UNKNOWN"), Told::Unknown),
            (put, error("NOQUORUM"), Told::NoEffect),
            (put, error("INVALIDBINDING"), Told::Outcome(Outcome::InvalidBinding)),
            (
                pia,
                map(&[("won", Reply::Flag(true)), ("value", Reply::Nothing)]),
                done(Seen::Absent),
            ),
            (
                pia,
                map(&[("won", Reply::Flag(false)), ("value", text("4"))]),
                Told::Outcome(Outcome::Refused(Seen::Value(4))),
            ),
            (
                cas,
                map(&[("written", Reply::Flag(false)), ("value", Reply::Nothing)]),
                Told::Outcome(Outcome::Refused(Seen::Absent)),
            ),
            (
                cas,
                map(&[("written", Reply::Flag(true)), ("previous", text("4"))]),
                done(Seen::Value(4)),
            ),
            (Action::Remove, Reply::Number(1), done(Seen::Present)),
            (Action::Get, text("4"), Told::Outcome(Outcome::Read(Some(4)))),
        ] {
            assert_eq!(read(action, &reply), expected, "{action:?} {reply:?}");
        }
        assert!(matches!(read(put, &error("ERR")), Told::Strange(_)));
        assert!(matches!(read(put, &Reply::Number(7)), Told::Strange(_)));
    }
}
