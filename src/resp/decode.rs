//! Bytes from a client, as requests: lists of arguments.
//!
//! The grammar is the codec's; the bounds are ours, and are looked at before the codec allocates
//! anything that a forged length asks for.

use core::fmt;

use bytes::{Bytes, BytesMut};
use resp_rs::ParseError;
use resp_rs::resp2::{Frame, parse_frame};

/// Bounds on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Arguments, the command's name included. Default 4,096: a batch of a thousand puts, and
    /// room. Commands other than batches take fewer.
    pub arguments_max: usize,
    /// Bytes, with lengths and line ends. Default 4 MiB: the largest value and key, and room.
    pub bytes_max: usize,
    /// Bytes of a request typed as a line. Default 64 KiB, as in Redis.
    pub line_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { arguments_max: 4_096, bytes_max: 4 << 20, line_max: 64 << 10 }
    }
}

/// Why bytes are not a request. The connection cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// It is no array of bulk strings.
    Malformed(&'static str),
    /// It announces or holds more than a limit allows.
    TooLong {
        /// Of what.
        what: &'static str,
        /// How much.
        len: usize,
        /// The most allowed.
        max: usize,
    },
    /// Quotes in a line are not balanced.
    UnbalancedQuotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "Protocol error: {what}"),
            Self::TooLong { what, len, max } => {
                write!(f, "Protocol error: {what} of length {len} exceeds the limit of {max}")
            }
            Self::UnbalancedQuotes => write!(f, "Protocol error: unbalanced quotes in request"),
        }
    }
}

impl core::error::Error for ProtocolError {}

/// What has arrived and is not yet a request.
#[derive(Debug)]
pub struct Requests {
    limits: RequestLimits,
    buffer: BytesMut,
    /// Below this many bytes the request at the head cannot be complete: nothing to look at.
    needed: usize,
}

impl Requests {
    /// Nothing has arrived.
    #[must_use]
    pub fn new(limits: RequestLimits) -> Self {
        Self { limits, buffer: BytesMut::new(), needed: 1 }
    }

    /// Bytes that have arrived and are not part of any request taken.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes of memory for what has arrived and will.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Where to put what arrives.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next requests that are complete, `count` at most, in order. Arguments share the memory
    /// they arrived in. Empty requests are skipped, as Redis does.
    ///
    /// # Errors
    /// What arrived is no request, or exceeds a limit. `requests` holds those before it.
    pub fn take(
        &mut self,
        count: usize,
        requests: &mut Vec<Vec<Bytes>>,
    ) -> Result<(), ProtocolError> {
        if self.buffer.len() < self.needed || count == 0 {
            return Ok(());
        }
        let mut rest = self.buffer.split().freeze();
        let mut taken = 0;
        let result = loop {
            if rest.is_empty() || taken == count {
                break Ok(());
            }
            match next(&self.limits, &mut rest) {
                Ok(Next::Request(arguments)) if arguments.is_empty() => {}
                Ok(Next::Request(arguments)) => {
                    requests.push(arguments);
                    taken += 1;
                }
                Ok(Next::Missing(needed)) => {
                    self.needed = needed;
                    self.put_back(rest);
                    return Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        self.needed = 1;
        self.put_back(rest);
        result
    }

    fn put_back(&mut self, rest: Bytes) {
        self.buffer = match rest.try_into_mut() {
            // Nothing was taken of it: the same memory goes on growing.
            Ok(buffer) => buffer,
            // Taken arguments hold the memory; what is left of it is copied, once.
            Err(rest) => BytesMut::from(&rest[..]),
        };
    }
}

enum Next {
    Request(Vec<Bytes>),
    /// There must be this many bytes at least before it is worth looking again.
    Missing(usize),
}

fn next(limits: &RequestLimits, rest: &mut Bytes) -> Result<Next, ProtocolError> {
    if rest[0] != b'*' {
        return next_line(limits, rest);
    }
    if let Some(missing) = measure(limits, rest)? {
        return Ok(Next::Missing(missing));
    }
    let (frame, left) = parse_frame(rest.clone()).map_err(|error| {
        ProtocolError::Malformed(if error == ParseError::InvalidFormat {
            "a bulk string does not end where it says"
        } else {
            "not RESP"
        })
    })?;
    *rest = left;
    let Frame::Array(Some(items)) = frame else {
        return Ok(Next::Request(Vec::new()));
    };
    let mut arguments = Vec::with_capacity(items.len());
    for item in items {
        let Frame::BulkString(Some(argument)) = item else {
            return Err(ProtocolError::Malformed("expected '$': an argument is no bulk string"));
        };
        arguments.push(argument);
    }
    Ok(Next::Request(arguments))
}

/// Walks over the headers of the request at the head. `None` if all of it is there, else how many
/// bytes there must be at least. So no announced length makes anybody allocate, and what trickles
/// in is not parsed again with each packet.
fn measure(limits: &RequestLimits, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
    let check = |what, len, max| {
        if len > max { Err(ProtocolError::TooLong { what, len, max }) } else { Ok(()) }
    };
    let Some((count, mut at)) = header(bytes, 0)? else { return Ok(Some(bytes.len() + 1)) };
    // `*-1` and `*0` are empty requests.
    let Some(count) = count else { return Ok(None) };
    check("list of arguments", count, limits.arguments_max)?;
    for _ in 0..count {
        match bytes.get(at) {
            None => return Ok(Some(at + 1)),
            Some(b'$') => {}
            Some(_) => return Err(ProtocolError::Malformed("expected '$'")),
        }
        let Some((len, start)) = header(bytes, at)? else {
            return Ok(Some(bytes.len() + 1));
        };
        let Some(len) = len else {
            return Err(ProtocolError::Malformed("an argument is null"));
        };
        check("argument", len, limits.bytes_max)?;
        at = start.saturating_add(len).saturating_add(2);
        check("request", at, limits.bytes_max)?;
        if at > bytes.len() {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The number in a line `*N` or `$N` that begins at `at`, `None` if it is -1, and where the line
/// ends; or nothing yet.
fn header(bytes: &[u8], at: usize) -> Result<Option<(Option<usize>, usize)>, ProtocolError> {
    // A sign and the digits of a 64-bit number, and the line's end.
    const LINE_MAX: usize = 23;
    let rest = bytes.get(at + 1..).unwrap_or_default();
    let window = &rest[..rest.len().min(LINE_MAX)];
    let Some(len) = window.windows(2).position(|pair| pair == b"\r\n") else {
        if window.len() == LINE_MAX {
            return Err(ProtocolError::Malformed("invalid length"));
        }
        return Ok(None);
    };
    let (digits, end) = (&window[..len], at + 1 + len + 2);
    if digits == b"-1" {
        return Ok(Some((None, end)));
    }
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = core::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    match number {
        Some(number) if plain => Ok(Some((Some(number), end))),
        _ => Err(ProtocolError::Malformed("invalid length")),
    }
}

/// A request typed as a line, as over telnet: words, quoted where they contain spaces.
fn next_line(limits: &RequestLimits, rest: &mut Bytes) -> Result<Next, ProtocolError> {
    let window = &rest[..rest.len().min(limits.line_max)];
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        if rest.len() >= limits.line_max {
            return Err(ProtocolError::TooLong {
                what: "line",
                len: rest.len(),
                max: limits.line_max,
            });
        }
        return Ok(Next::Missing(rest.len() + 1));
    };
    let line = rest.split_to(end + 1);
    let words = words(line.trim_ascii())?;
    if words.len() > limits.arguments_max {
        return Err(ProtocolError::TooLong {
            what: "list of arguments",
            len: words.len(),
            max: limits.arguments_max,
        });
    }
    // What a browser or a scanner sends. Answering it line by line would let a page that posts to
    // this port run commands.
    if let Some(first) = words.first()
        && (first.eq_ignore_ascii_case(b"POST") || first.eq_ignore_ascii_case(b"Host:"))
    {
        return Err(ProtocolError::Malformed("this is not a web server"));
    }
    Ok(Next::Request(words))
}

fn words(line: &[u8]) -> Result<Vec<Bytes>, ProtocolError> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < line.len() {
        if line[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let mut word = Vec::new();
        let quote = matches!(line[at], b'"' | b'\'').then_some(line[at]);
        at += usize::from(quote.is_some());
        let mut closed = quote.is_none();
        while let Some(&byte) = line.get(at) {
            at += 1;
            if Some(byte) == quote {
                closed = line.get(at).is_none_or(u8::is_ascii_whitespace);
                break;
            }
            match (quote, byte) {
                (None, _) if byte.is_ascii_whitespace() => break,
                (Some(b'"'), b'\\') => at += escape(&line[at..], &mut word),
                (Some(b'\''), b'\\') if line.get(at) == Some(&b'\'') => {
                    word.push(b'\'');
                    at += 1;
                }
                _ => word.push(byte),
            }
        }
        if !closed {
            return Err(ProtocolError::UnbalancedQuotes);
        }
        found.push(Bytes::from(word));
    }
    Ok(found)
}

/// What a backslash in double quotes stands for, and how many bytes behind it belong to it.
fn escape(rest: &[u8], word: &mut Vec<u8>) -> usize {
    let digit = |place: usize| rest.get(place).and_then(|&byte| char::from(byte).to_digit(16));
    let Some(&byte) = rest.first() else { return 0 };
    if byte == b'x'
        && let (Some(high), Some(low)) = (digit(1), digit(2))
    {
        word.extend(u8::try_from(high * 16 + low));
        return 3;
    }
    word.push(match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        other => other,
    });
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> (Vec<Vec<Bytes>>, Result<(), ProtocolError>, usize) {
        let mut requests = Requests::new(RequestLimits::default());
        requests.buffer().extend_from_slice(bytes);
        let mut found = Vec::new();
        let result = requests.take(usize::MAX, &mut found);
        (found, result, requests.buffered())
    }

    fn encode(arguments: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    #[test]
    fn requests_arrive_whole_or_in_pieces() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGE";
        let (found, result, left) = decode(bytes);
        assert_eq!(found, [vec!["GET", "a"], vec!["PING"]]);
        assert_eq!((result, left), (Ok(()), 10));
    }

    #[test]
    fn a_line_is_split_into_words() {
        let (found, result, _) = decode(b"set \"a \\x41\\n\" 'it\\'s'\r\n\r\nPING\n");
        assert_eq!(result, Ok(()));
        assert_eq!(found, [vec!["set", "a A\n", "it's"], vec!["PING"]]);
        assert_eq!(decode(b"get \"a\r\n").1, Err(ProtocolError::UnbalancedQuotes));
        assert_eq!(decode(b"get 'a'b\r\n").1, Err(ProtocolError::UnbalancedQuotes));
    }

    #[test]
    fn forged_lengths_are_refused_before_anything_is_allocated() {
        for (bytes, expected) in [
            ("*1000000000\r\n", "list of arguments of length 1000000000"),
            ("*1\r\n$999999999\r\n", "argument of length 999999999"),
            ("*99999999999999999999999\r\n", "invalid length"),
            ("*1\r\n$-5\r\n", "invalid length"),
            ("*1\r\n$-1\r\n", "an argument is null"),
            ("*1\r\n*1\r\n", "expected '$'"),
            ("*1\r\n$2\r\nabc\r\n", "does not end where it says"),
            ("*+1\r\n", "invalid length"),
        ] {
            let error = decode(bytes.as_bytes()).1.expect_err(bytes).to_string();
            assert!(error.contains(expected), "{bytes:?}: {error}");
        }
        let line = vec![b'a'; 70_000];
        assert!(matches!(decode(&line).1, Err(ProtocolError::TooLong { what: "line", .. })));
    }

    #[test]
    fn a_page_that_posts_here_runs_no_commands() {
        let (found, result, _) = decode(b"POST / HTTP/1.1\r\nSET a b\r\n");
        assert!(found.is_empty());
        assert_eq!(result, Err(ProtocolError::Malformed("this is not a web server")));
    }

    #[test]
    fn empty_requests_are_skipped() {
        assert_eq!(decode(b"*0\r\n*-1\r\n\r\n*1\r\n$1\r\nx\r\n").0, [vec!["x"]]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_requests_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        /// However the bytes are cut into packets, the requests are the same.
        #[test]
        fn cuts_do_not_matter(
            requests in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), 1..6),
            cuts in prop::collection::vec(1_usize..9, 1..400),
        ) {
            let bytes: Vec<u8> = requests.iter().flat_map(|request| encode(request)).collect();
            let mut decoder = Requests::new(RequestLimits::default());
            let (mut found, mut at) = (Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(bytes.len());
                decoder.buffer().extend_from_slice(&bytes[at..end]);
                decoder.take(2, &mut found).unwrap();
                at = end;
                if at == bytes.len() {
                    break;
                }
            }
            decoder.take(usize::MAX, &mut found).unwrap();
            prop_assert_eq!(found, requests);
            prop_assert_eq!(decoder.buffered(), 0);
        }
    }
}
