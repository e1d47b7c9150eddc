//! The arguments of one request, taken one after the other.

use core::str::FromStr;
use core::time::Duration;

use bytes::Bytes;

use super::reply::Reply;
use crate::base::{Epoch, Incarnation, Key, Life, NodeId, SessionId, Value};
use crate::merged::{Actor, Dot};
use crate::paxos::Ballot;

/// The longest that a client may ask to wait, or to be waited for.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A cursor over arguments. Every error names the command.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    name: &'static str,
    items: &'a [Bytes],
    at: usize,
}

impl<'a> Arguments<'a> {
    /// Those behind the name.
    pub(super) fn new(name: &'static str, request: &'a [Bytes]) -> Self {
        Self { name, items: request, at: 1 }
    }

    pub(super) fn left(&self) -> usize {
        self.items.len().saturating_sub(self.at)
    }

    /// An error about this command.
    pub(super) fn error(&self, what: impl core::fmt::Display) -> Reply {
        Reply::error(format!("{}: {what}", self.name))
    }

    pub(super) fn next(&mut self, what: &str) -> Result<&'a Bytes, Reply> {
        let item = self.items.get(self.at);
        self.at += 1;
        item.ok_or_else(|| self.error(format_args!("{what} is missing")))
    }

    pub(super) fn key(&mut self) -> Result<Key, Reply> {
        Ok(Key::from(&self.next("a key")?[..]))
    }

    pub(super) fn value(&mut self) -> Result<Value, Reply> {
        Ok(Value::from(&self.next("a value")?[..]))
    }

    /// A word of the grammar, in capitals; nothing at the end.
    pub(super) fn word(&mut self) -> Option<String> {
        let item = self.items.get(self.at)?;
        self.at += 1;
        Some(String::from_utf8_lossy(item).to_ascii_uppercase())
    }

    /// Takes the next argument if it is this word.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let found = self.items.get(self.at).is_some_and(|item| is_word(item, word));
        self.at += usize::from(found);
        found
    }

    /// Something written in a form of its own.
    pub(super) fn parse<T: FromStr>(&mut self, what: &str) -> Result<T, Reply> {
        self.parse_with(what, |text| text.parse().ok())
    }

    pub(super) fn parse_with<T>(
        &mut self,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Reply> {
        self.parse_within(what, "", parse)
    }

    /// Something of which the error says between what limits it must lie.
    pub(super) fn parse_within<T>(
        &mut self,
        what: &str,
        limit: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Reply> {
        let bytes = self.next(what)?;
        core::str::from_utf8(bytes).ok().and_then(parse).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]);
            let link = if limit.is_empty() { "" } else { ": " };
            self.error(format_args!("{what} cannot be '{shown}'{link}{limit}"))
        })
    }

    /// Milliseconds, a day at most.
    pub(super) fn duration(&mut self, what: &str) -> Result<Duration, Reply> {
        self.parse_within(what, "it is in milliseconds, 86400000 (24 h) at most", |text| {
            let duration = Duration::from_millis(text.parse().ok()?);
            (duration <= DURATION_MAX).then_some(duration)
        })
    }

    /// How long a request may take: who cannot wait at all is told nothing.
    pub(super) fn patience(&mut self) -> Result<Duration, Reply> {
        let patience = self.duration("the patience")?;
        if patience.is_zero() {
            return Err(self.error("the patience is at least 1 ms"));
        }
        Ok(patience)
    }

    /// How many at most, at least one.
    pub(super) fn limit(&mut self) -> Result<u32, Reply> {
        self.parse_with("the limit", |text| text.parse().ok().filter(|limit| *limit > 0))
    }

    pub(super) fn end(&self) -> Result<(), Reply> {
        match self.items.get(self.at) {
            None => Ok(()),
            Some(item) => Err(self.unexpected(&String::from_utf8_lossy(item))),
        }
    }

    pub(super) fn unexpected(&self, word: &str) -> Reply {
        let shown: String = word.chars().take(64).collect();
        self.error(format_args!("'{shown}' is not expected here; see COMMAND DOCS {}", self.name))
    }
}

/// Whether bytes are a word of the grammar, whatever the case.
pub(super) fn is_word(bytes: &[u8], word: &str) -> bool {
    bytes.eq_ignore_ascii_case(word.as_bytes())
}

/// A session as it is shown: `s1.2.3`.
#[must_use]
pub fn parse_session(text: &str) -> Option<SessionId> {
    let mut parts = text.strip_prefix('s')?.split('.');
    let host = NodeId(parts.next()?.parse().ok()?);
    let (node_session, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(SessionId { host, node_session, number })
}

/// A write to a merged table as clients name it: node, storage life, process life and how often the
/// copy began anew in it, number. All of it, so that no other write is taken for it.
pub(super) fn write_name(dot: &Dot) -> String {
    let Actor { node, life, incarnation, anew } = dot.actor;
    let anew = if anew > 0 { format!("-{anew}") } else { String::new() };
    format!("{}.{:x}.{}{anew}.{}", node.0, life.0, incarnation.0, dot.number)
}

/// A write as [`write_name`] writes it.
pub(super) fn parse_write(text: &str) -> Option<Dot> {
    let mut parts = text.split('.');
    let node = NodeId(parts.next()?.parse().ok()?);
    let life = Life(u64::from_str_radix(parts.next()?, 16).ok()?);
    let process = parts.next()?;
    let (incarnation, anew) = process.split_once('-').unwrap_or((process, "0"));
    let (incarnation, anew) = (Incarnation(incarnation.parse().ok()?), anew.parse().ok()?);
    let number = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(Dot { actor: Actor { node, life, incarnation, anew }, number })
}

/// A ballot as it is shown, `1:5.2.3` or `1:5.2.3+4` or `1:0`, or as [`token`] writes it.
#[must_use]
pub fn parse_ballot(text: &str) -> Option<Ballot> {
    if text.len() == TOKEN_LEN {
        return parse_token(text);
    }
    let (epoch, rest) = text.split_once(':')?;
    let epoch = Epoch(epoch.parse().ok()?);
    if rest == "0" {
        return Some(Ballot::genesis(epoch));
    }
    let (rest, sequence) = match rest.split_once('+') {
        Some((rest, sequence)) => (rest, sequence.parse().ok()?),
        None => (rest, 0),
    };
    let mut parts = rest.split('.');
    let round = parts.next()?.parse().ok()?;
    let node = NodeId(parts.next()?.parse().ok()?);
    let incarnation = Incarnation(parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(Ballot { epoch, round, node, incarnation, sequence })
}

const TOKEN_LEN: usize = 8 + 16 + 4 + 8 + 8;

/// A ballot as text of one length that sorts as ballots do: a fencing token that whatever it
/// guards can compare without knowing what it means.
#[must_use]
pub fn token(ballot: &Ballot) -> String {
    let Ballot { epoch, round, node, incarnation, sequence } = ballot;
    format!("{:08x}{round:016x}{:04x}{:08x}{sequence:08x}", epoch.0, node.0, incarnation.0)
}

fn parse_token(text: &str) -> Option<Ballot> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let part = |start: usize, end: usize| u64::from_str_radix(&text[start..end], 16).ok();
    Some(Ballot {
        epoch: Epoch(u32::try_from(part(0, 8)?).ok()?),
        round: part(8, 24)?,
        node: NodeId(u16::try_from(part(24, 28)?).ok()?),
        incarnation: Incarnation(u32::try_from(part(28, 36)?).ok()?),
        sequence: u32::try_from(part(36, 44)?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ballots_sessions_and_writes_are_read_as_they_are_shown(
            epoch: u32, round in 1_u64.., node: u16, incarnation: u32, sequence: u32, number: u64,
        ) {
            let (epoch, node, incarnation) = (Epoch(epoch), NodeId(node), Incarnation(incarnation));
            let ballot = Ballot { epoch, round, node, incarnation, sequence };
            prop_assert_eq!(parse_ballot(&ballot.to_string()), Some(ballot));
            prop_assert_eq!(parse_ballot(&token(&ballot)), Some(ballot));
            let genesis = Ballot::genesis(epoch);
            prop_assert_eq!(parse_ballot(&genesis.to_string()), Some(genesis));
            let session = SessionId { host: node, node_session: round, number };
            prop_assert_eq!(parse_session(&session.to_string()), Some(session));
            let anew = sequence as u16;
            let dot = Dot { actor: Actor { node, life: Life(round), incarnation, anew }, number };
            prop_assert_eq!(parse_write(&write_name(&dot)), Some(dot));
        }

        #[test]
        fn tokens_sort_as_ballots_do(a: (u32, u64, u16, u32, u32), b: (u32, u64, u16, u32, u32)) {
            let ballot = |(epoch, round, node, incarnation, sequence)| Ballot {
                epoch: Epoch(epoch), round, node: NodeId(node),
                incarnation: Incarnation(incarnation), sequence,
            };
            let (a, b) = (ballot(a), ballot(b));
            prop_assert_eq!(token(&a).cmp(&token(&b)), a.cmp(&b));
        }

        #[test]
        fn any_text_is_a_name_or_none(text: String) {
            let _ = (parse_ballot(&text), parse_session(&text), parse_write(&text));
        }
    }
}
