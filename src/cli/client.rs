//! A client of the server: one connection at a time, to the first node that can answer.
//!
//! Must never know: what a command means, how a reply is shown.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::Bytes;
use resp_rs::resp3::{Frame, Parser};

use crate::resp::request;

/// The most bytes of one reply that are gathered.
const REPLY_MAX: usize = 256 << 20;

/// Where a node is looked for, and how long it has to answer.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `HOST:PORT`, the preferred one first.
    pub(super) servers: Vec<String>,
    pub(super) patience: Duration,
    pub(super) password: Option<Bytes>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection ended; what was asked may have taken effect.
    Lost(String),
    /// A server's error: its code and what it says.
    Refused { code: String, text: String },
    /// It may have taken effect, may still, or may never.
    Unknown(String),
    /// No server could be asked.
    Unreachable(String),
}

impl Failure {
    /// Whether another node may do what this one did not, nothing having happened.
    fn is_of_this_node(&self) -> bool {
        match self {
            Self::Refused { code, .. } => ["NOTREADY", "NOQUORUM", "BUSY"].contains(&&code[..]),
            Self::Unreachable(_) => true,
            Self::Lost(_) | Self::Unknown(_) => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => write!(f, "the connection was lost: {why}"),
            Self::Refused { code, text } => write!(f, "{code} {text}"),
            Self::Unknown(why) => write!(f, "UNKNOWN {why}"),
            Self::Unreachable(why) => write!(f, "no server can be reached: {why}"),
        }
    }
}

/// What to do when it is not known whether a request took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Ask anew: it changes nothing.
    Freely,
    /// Ask again under the same name, so that it takes effect at most once.
    Named,
}

/// Asks the servers in turn until one answers for good, or the patience is over. What is named is
/// sent again after a lost connection and after `UNKNOWN`, under the same number.
pub(super) fn ask(target: &Target, words: &[Bytes], repeat: Repeat) -> Result<Frame, Failure> {
    let until = Instant::now() + target.patience;
    let client = getrandom::u64().map_err(|error| Failure::Unreachable(error.to_string()))? >> 1;
    let mut sent = false;
    let mut last = Failure::Unreachable(String::from("there are none"));
    loop {
        for server in &target.servers {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(if sent { unknown(&last) } else { last });
            }
            match attempt(target, server, words, repeat, (client, sent), left) {
                Ok(reply) => return Ok(reply),
                Err(failure) => {
                    let refused = matches!(failure, Failure::Refused { .. });
                    // What is refused for want of something here is not so by what was sent before.
                    if refused && !failure.is_of_this_node() {
                        return Err(failure);
                    }
                    let maybe = matches!(failure, Failure::Lost(_) | Failure::Unknown(_));
                    sent |= maybe && repeat == Repeat::Named;
                    // What a node says tells more than that another one cannot be reached.
                    let said = matches!(last, Failure::Refused { .. });
                    if !(said && matches!(failure, Failure::Unreachable(_))) {
                        last = failure;
                    }
                }
            }
        }
        // Nobody could do it. Before anything was sent, that is an answer.
        if !sent && last.is_of_this_node() {
            return Err(last);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn unknown(last: &Failure) -> Failure {
    Failure::Unknown(format!("it may have taken effect, may still, or may never ({last})"))
}

fn attempt(
    target: &Target,
    server: &str,
    words: &[Bytes],
    repeat: Repeat,
    (client, again): (u64, bool),
    left: Duration,
) -> Result<Frame, Failure> {
    let mut connection = Connection::open(server, left, target.password.as_ref())?;
    let mut words = words.to_vec();
    // The node gives up a little before the client does, so that its answer arrives.
    let patience = left.mul_f32(0.9).as_millis().max(1);
    words.extend(["PATIENCE".into(), patience.to_string().into()]);
    if repeat == Repeat::Named {
        words.extend(["REQUEST".into(), client.to_string().into(), "1".into()]);
        words.extend(again.then(|| Bytes::from("AGAIN")));
    }
    connection.call(&words)
}

/// One connection, in RESP3.
pub(super) struct Connection {
    stream: TcpStream,
    parser: Parser,
    /// Messages that came while an answer was waited for.
    messages: Vec<Frame>,
}

impl Connection {
    /// Connects, and introduces itself. `patience` is for each step.
    pub(super) fn open(
        server: &str,
        patience: Duration,
        password: Option<&Bytes>,
    ) -> Result<Self, Failure> {
        let stream = connect(server, patience)
            .map_err(|error| Failure::Unreachable(format!("{server}: {error}")))?;
        let patience = Some(patience.max(Duration::from_millis(1)));
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(patience))
            .and_then(|()| stream.set_write_timeout(patience));
        prepared.map_err(|error| Failure::Unreachable(format!("{server}: {error}")))?;
        let mut connection = Self { stream, parser: Parser::new(), messages: Vec::new() };
        let mut hello = vec![Bytes::from("HELLO"), Bytes::from("3")];
        if let Some(password) = password {
            hello.extend(["AUTH".into(), "default".into(), password.clone()]);
        }
        hello.extend(["SETNAME".into(), "synod-cli".into()]);
        match connection.call(&hello) {
            Ok(_) => Ok(connection),
            // Nothing was asked yet, so nothing can have taken effect.
            Err(Failure::Lost(why)) => Err(Failure::Unreachable(format!("{server}: {why}"))),
            Err(other) => Err(other),
        }
    }

    /// How long to wait for what comes next.
    pub(super) fn set_patience(&self, patience: Option<Duration>) -> Result<(), Failure> {
        self.stream.set_read_timeout(patience).map_err(|error| Failure::Lost(error.to_string()))
    }

    /// One request, and its reply.
    pub(super) fn call(&mut self, words: &[Bytes]) -> Result<Frame, Failure> {
        self.send(words)?;
        loop {
            match self.receive()? {
                Some(Frame::Push(message)) => self.messages.push(Frame::Push(message)),
                Some(Frame::Error(error)) => return Err(refusal(&error)),
                Some(reply) => return Ok(reply),
                None => {
                    return Err(Failure::Lost(String::from("no answer in time")));
                }
            }
        }
    }

    /// One request, whose reply is taken for a message.
    pub(super) fn send(&mut self, words: &[Bytes]) -> Result<(), Failure> {
        let sent = self.stream.write_all(&request(words));
        sent.map_err(|error| Failure::Lost(error.to_string()))
    }

    /// The next message; nothing if none came within the patience.
    pub(super) fn message(&mut self) -> Result<Option<Frame>, Failure> {
        if !self.messages.is_empty() {
            return Ok(Some(self.messages.remove(0)));
        }
        self.receive()
    }

    fn receive(&mut self) -> Result<Option<Frame>, Failure> {
        let lost = |why: String| Failure::Lost(why);
        let mut bytes = [0; 64 << 10];
        loop {
            match self.parser.next_frame() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) if self.parser.buffered_bytes() > REPLY_MAX => {
                    return Err(lost(String::from("the reply is too long")));
                }
                Ok(None) => {}
                Err(error) => return Err(lost(format!("it does not speak RESP3: {error}"))),
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(lost(String::from("the server has closed it"))),
                Ok(count) => self.parser.feed(Bytes::copy_from_slice(&bytes[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut]
                        .contains(&error.kind()) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(lost(error.to_string())),
            }
        }
    }
}

fn connect(server: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An error of the server: what stands before the first space is its code.
pub(super) fn refusal(error: &[u8]) -> Failure {
    let line = String::from_utf8_lossy(error);
    let (code, text) = line.split_once(' ').unwrap_or((&line, ""));
    if code == "UNKNOWN" {
        return Failure::Unknown(text.to_owned());
    }
    Failure::Refused { code: code.to_owned(), text: text.to_owned() }
}
