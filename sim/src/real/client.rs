//! A client that blocks: one connection, one question at a time, and never longer than it is told.
//!
//! Must never know: what the questions are for.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use resp_rs::ParseError;
use resp_rs::resp3::{Frame, parse_frame};

/// What a server answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A code in capital letters, and an explanation.
    Error(String, String),
    /// Yes or no.
    Flag(bool),
    /// In order.
    List(Vec<Self>),
    /// Names and what they stand for.
    Map(Vec<(String, Self)>),
    /// There is none.
    Nothing,
    /// A number.
    Number(i64),
    /// A text, of whatever kind.
    Text(String),
}

impl Reply {
    /// A field of a map.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        let Self::Map(pairs) = self else { return None };
        pairs.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// A text field of a map.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.field(name)? {
            Self::Text(text) => Some(text),
            Self::Error(..)
            | Self::Flag(_)
            | Self::List(_)
            | Self::Map(_)
            | Self::Nothing
            | Self::Number(_) => None,
        }
    }

    fn of(frame: Frame) -> Option<Self> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let list = |frames: Vec<Frame>| frames.into_iter().map(Self::of).collect::<Option<_>>();
        // The forms that a server of ours never sends are as good as garbage.
        #[expect(clippy::wildcard_enum_match_arm)]
        Some(match frame {
            Frame::Array(Some(frames)) => Self::List(list(frames)?),
            Frame::BlobError(bytes) | Frame::Error(bytes) => {
                let text = text(&bytes);
                let (code, why) = text.split_once(' ').unwrap_or((&text, ""));
                Self::Error(code.to_owned(), why.to_owned())
            }
            Frame::Boolean(flag) => Self::Flag(flag),
            Frame::BulkString(Some(bytes)) | Frame::SimpleString(bytes) => Self::Text(text(&bytes)),
            Frame::Integer(number) => Self::Number(number),
            Frame::Map(pairs) => {
                let pair = |(name, value)| match (Self::of(name)?, Self::of(value)?) {
                    (Self::Text(name), value) => Some((name, value)),
                    _ => None,
                };
                Self::Map(pairs.into_iter().map(pair).collect::<Option<_>>()?)
            }
            Frame::Null | Frame::Array(None) | Frame::BulkString(None) => Self::Nothing,
            Frame::VerbatimString { payload } => Self::Text(text(&payload)),
            _ => return None,
        })
    }
}

/// Why there is no answer. Whatever was asked may have been done.
#[derive(Debug)]
pub enum Lost {
    /// The connection has ended.
    Closed(io::Error),
    /// What came was not the protocol.
    Garbled(String),
    /// Nothing came in time.
    Late,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(error) => write!(f, "the connection has ended: {error}"),
            Self::Garbled(what) => write!(f, "what came is not RESP3: {what}"),
            Self::Late => write!(f, "nothing came in time"),
        }
    }
}

/// A connection to a node.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What has come and was not read yet.
    input: Bytes,
}

impl Connection {
    /// Connects, and chooses the protocol and the defaults of the rig.
    ///
    /// # Errors
    /// If that is not done `within` so long.
    pub fn dial(address: SocketAddr, within: Duration) -> Result<Self, Lost> {
        let stream = TcpStream::connect_timeout(&address, within).map_err(Lost::Closed)?;
        stream.set_nodelay(true).map_err(Lost::Closed)?;
        let mut connection = Self { stream, input: Bytes::new() };
        let hello = connection.call(&["HELLO", "3"], within)?;
        if matches!(hello, Reply::Map(_)) {
            Ok(connection)
        } else {
            Err(Lost::Garbled(format!("HELLO: {hello:?}")))
        }
    }

    /// Asks, and waits for the answer. After an error the connection is of no more use.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn call(&mut self, words: &[&str], within: Duration) -> Result<Reply, Lost> {
        self.call_all(std::iter::once(words), within)?
            .pop()
            .ok_or_else(|| Lost::Garbled("no reply at all".to_owned()))
    }

    /// Asks for many things at once; answers in order.
    ///
    /// # Errors
    /// Why there are not all answers.
    pub fn call_all<'a>(
        &mut self,
        requests: impl Iterator<Item = &'a [&'a str]>,
        within: Duration,
    ) -> Result<Vec<Reply>, Lost> {
        let until = Instant::now() + within;
        let mut output = Vec::new();
        let mut count = 0;
        for words in requests {
            count += 1;
            write!(output, "*{}\r\n", words.len()).map_err(Lost::Closed)?;
            for word in words {
                write!(output, "${}\r\n{word}\r\n", word.len()).map_err(Lost::Closed)?;
            }
        }
        self.stream.set_write_timeout(Some(within)).map_err(Lost::Closed)?;
        self.stream.write_all(&output).map_err(late_or_closed)?;
        let mut replies = Vec::with_capacity(count);
        while replies.len() < count {
            replies.push(self.receive(until)?);
        }
        Ok(replies)
    }

    fn receive(&mut self, until: Instant) -> Result<Reply, Lost> {
        loop {
            match parse_frame(self.input.clone()) {
                Ok((frame, rest)) => {
                    self.input = rest;
                    // Messages of sessions: whoever cares asks.
                    if matches!(frame, Frame::Push(_)) {
                        continue;
                    }
                    let shown = format!("{frame:?}");
                    return Reply::of(frame).ok_or(Lost::Garbled(shown));
                }
                Err(ParseError::Incomplete) => self.read(until)?,
                Err(error) => return Err(Lost::Garbled(error.to_string())),
            }
        }
    }

    fn read(&mut self, until: Instant) -> Result<(), Lost> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Lost::Late);
        }
        self.stream.set_read_timeout(Some(left)).map_err(Lost::Closed)?;
        let mut bytes = [0; 64 << 10];
        match self.stream.read(&mut bytes).map_err(late_or_closed)? {
            0 => Err(Lost::Closed(io::ErrorKind::UnexpectedEof.into())),
            count => {
                self.input = [&self.input[..], &bytes[..count]].concat().into();
                Ok(())
            }
        }
    }
}

fn late_or_closed(error: io::Error) -> Lost {
    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
        Lost::Late
    } else {
        Lost::Closed(error)
    }
}
