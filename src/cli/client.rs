//! A client of the server: one connection at a time, to the first node that can answer.
//!
//! Must never know: what a command means, how a reply is shown.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::Bytes;
use resp_rs::resp3::{Frame, Parser};

use super::show::field;
use crate::resp::request;

/// The most bytes of one reply that are gathered.
const REPLY_MAX: usize = 256 << 20;

/// How long a node may take to be connected to and to introduce itself, before the next one is
/// tried. In each round of trying twice as long as in the one before.
const INTRODUCTION: Duration = Duration::from_millis(500);

/// The least that can be waited.
const MOMENT: Duration = Duration::from_millis(1);

/// How long to wait for what a server has said before it closed the connection.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    /// It did not introduce itself in time. Nothing was asked.
    Silent(String),
    /// It may have taken effect, may still, or may never.
    Unknown(String),
    /// No server could be asked.
    Unreachable(String),
}

impl Failure {
    /// Whether another node may do what this one did not, nothing having happened.
    fn is_of_this_node(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                // Another node may be the primary of the table, or have a copy.
                let codes =
                    ["NOTREADY", "NOQUORUM", "BUSY", "NOTPRIMARY", "NOREPLICA", "NOTINTIME"];
                codes.contains(&&code[..])
            }
            Self::Silent(_) | Self::Unreachable(_) => true,
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
            Self::Silent(server) => {
                write!(f, "no server can be reached: {server} does not answer in time")
            }
            Self::Unreachable(why) => write!(f, "no server can be reached: {why}"),
        }
    }
}

/// What to do when it is not known whether a request took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat<'a> {
    /// Ask anew: it changes nothing.
    Freely,
    /// Ask again under the same name, so that it takes effect at most once.
    Named,
    /// Likewise, of a table that may be primary, by its name if it is not the first: wherever its
    /// primary is. What is asked again of it carries a place from before it was asked first.
    Followed(Option<&'a str>),
}

/// Asks the servers in turn until one answers for good, or the patience is over. What is named is
/// sent again after a lost connection and after `UNKNOWN`, under the same number.
pub(super) fn ask(target: &Target, words: &[Bytes], repeat: Repeat<'_>) -> Result<Frame, Failure> {
    let client = getrandom::u64().map_err(|error| Failure::Unreachable(error.to_string()))? >> 1;
    let mut sent = false;
    let mut since = None;
    let asked = in_turn(target, |connection, patience| {
        if let Repeat::Followed(table) = repeat
            && !sent
            && since.is_none()
        {
            since = committed(connection, table)?;
        }
        let mut words = words.to_vec();
        // The node gives up a little before the client does, so that its answer arrives.
        let told = patience.mul_f32(0.9).as_millis().max(1);
        words.extend(["PATIENCE".into(), told.to_string().into()]);
        if repeat != Repeat::Freely {
            words.extend(["REQUEST".into(), client.to_string().into(), "1".into()]);
            words.extend(sent.then(|| Bytes::from("AGAIN")));
        }
        if matches!(repeat, Repeat::Followed(_)) {
            words.push("FOLLOW".into());
            let since = since.filter(|_| sent).map(|since: u64| since.to_string());
            words.extend(since.into_iter().flat_map(|since| ["SEEN".into(), since.into()]));
        }
        let answer = connection.call(&words);
        let maybe = matches!(answer, Err(Failure::Lost(_) | Failure::Unknown(_)));
        sent |= maybe && repeat != Repeat::Freely;
        match answer {
            // What is refused for want of something here is not so by what was sent before.
            Err(refused) if sent && refused.is_of_this_node() => {
                Err(Failure::Unknown(refused.to_string()))
            }
            other => other,
        }
    });
    match (asked, repeat, since) {
        (Err(Failure::Refused { code, text }), ..) => Err(Failure::Refused { code, text }),
        (Err(last), Repeat::Followed(table), Some(since)) if sent => {
            let table = table.map_or_else(String::new, |table| format!(" --table {table}"));
            // What the node advises is for whoever asks it.
            let advised = matches!(last, Failure::Unknown(_));
            let why = if advised { "the primary did not say in time" } else { &last.to_string() };
            Err(Failure::Unknown(format!(
                "it may have taken effect, may still, or may never ({why}); \
                 `synod outcome {client} 1 --seen {since}{table}` tells"
            )))
        }
        (Err(last), ..) if sent => Err(Failure::Unknown(format!(
            "it may have taken effect, may still, or may never ({last})"
        ))),
        (other, ..) => other.map(|(_, reply)| reply),
    }
}

/// Up to where a table is committed, as far as the node knows, if it is a primary table. Nothing
/// else was asked yet, so nothing can have taken effect.
fn committed(connection: &mut Connection, table: Option<&str>) -> Result<Option<u64>, Failure> {
    let mut words = vec![Bytes::from("SYNOD.PRIMARY")];
    let table = table.map(|table| ["TABLE".into(), Bytes::from(table.to_owned())]);
    words.extend(table.into_iter().flatten());
    match connection.call(&words) {
        Ok(info) => {
            let place = field(&info, "committed").and_then(Frame::as_integer);
            Ok(place.and_then(|place| u64::try_from(place).ok()))
        }
        Err(Failure::Refused { code, .. }) if code == "DISCIPLINE" => Ok(None),
        Err(Failure::Lost(why)) => Err(Failure::Unreachable(why)),
        Err(other) => Err(other),
    }
}

/// Does it at the first server that can, until the patience is over. No server gets all of it
/// while there are others: it may have stopped in the middle of anything. If nobody could, and
/// nothing was begun that should be ended, that is an answer at once.
pub(super) fn in_turn<T>(
    target: &Target,
    mut attempt: impl FnMut(&mut Connection, Duration) -> Result<T, Failure>,
) -> Result<(Connection, T), Failure> {
    let until = Instant::now() + target.patience;
    let mut introduction = INTRODUCTION;
    let mut last = Failure::Unreachable(String::from("there are none"));
    loop {
        let (mut again, mut silent, mut said) = (false, false, false);
        let mut others = target.servers.len();
        for server in &target.servers {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(last);
            }
            let share = left / u32::try_from(others).unwrap_or(u32::MAX);
            others -= 1;
            let password = target.password.as_ref();
            let done = Connection::open(server, introduction.min(left), password).and_then(
                |mut connection| {
                    connection.set_patience(share);
                    let done = attempt(&mut connection, share)?;
                    Ok((connection, done))
                },
            );
            let failure = match done {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            if matches!(failure, Failure::Refused { .. }) && !failure.is_of_this_node() {
                return Err(failure);
            }
            // Who could not say in time, for want of a primary, may be able to once there is one.
            let late = matches!(&failure, Failure::Refused { code, .. } if code == "NOTINTIME");
            again |= late || !failure.is_of_this_node();
            silent |= matches!(failure, Failure::Silent(_));
            said |= matches!(failure, Failure::Refused { .. });
            // What a node says tells more than that another one cannot be reached.
            let tells = matches!(last, Failure::Refused { .. } | Failure::Unknown(_));
            if !(tells && matches!(failure, Failure::Silent(_) | Failure::Unreachable(_))) {
                last = failure;
            }
        }
        // Those who were silent may only be slow.
        if !again && (said || !silent) {
            return Err(last);
        }
        introduction *= 2;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One connection, in RESP3.
pub(super) struct Connection {
    stream: TcpStream,
    parser: Parser,
    /// How long to wait for what comes next, or for what is sent to be taken.
    patience: Duration,
    /// Messages that came while an answer was waited for.
    messages: VecDeque<Frame>,
}

impl Connection {
    /// Connects, and introduces itself, within the patience.
    pub(super) fn open(
        server: &str,
        patience: Duration,
        password: Option<&Bytes>,
    ) -> Result<Self, Failure> {
        let until = Instant::now() + patience;
        let stream = connect(server, until).map_err(|error| {
            if error.kind() == io::ErrorKind::TimedOut {
                return Failure::Silent(server.to_owned());
            }
            Failure::Unreachable(format!("{server}: {error}"))
        })?;
        let prepared = stream.set_nodelay(true);
        prepared.map_err(|error| Failure::Unreachable(format!("{server}: {error}")))?;
        let patience = until.saturating_duration_since(Instant::now());
        let mut connection =
            Self { stream, parser: Parser::new(), patience, messages: VecDeque::new() };
        let mut hello = vec![Bytes::from("HELLO"), Bytes::from("3")];
        if let Some(password) = password {
            hello.extend(["AUTH".into(), "default".into(), password.clone()]);
        }
        hello.extend(["SETNAME".into(), "synod-cli".into()]);
        // Nothing was asked yet, so nothing can have taken effect.
        match connection.exchange(&hello) {
            Ok(Some(_)) => Ok(connection),
            Ok(None) => Err(Failure::Silent(server.to_owned())),
            Err(Failure::Lost(why)) => Err(Failure::Unreachable(format!("{server}: {why}"))),
            Err(other) => Err(other),
        }
    }

    /// How long to wait for what comes next.
    pub(super) const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// One request, and its reply.
    pub(super) fn call(&mut self, words: &[Bytes]) -> Result<Frame, Failure> {
        let reply = self.exchange(words)?;
        reply.ok_or_else(|| Failure::Lost(String::from("no answer in time")))
    }

    /// Likewise; nothing if no reply came within the patience.
    fn exchange(&mut self, words: &[Bytes]) -> Result<Option<Frame>, Failure> {
        let sent = self.send(words);
        if sent.is_err() {
            // Who does not listen any more may have said why.
            self.patience = LAST_WORDS;
        }
        let until = Instant::now() + self.patience;
        loop {
            match self.receive(until) {
                Ok(Some(Frame::Push(message))) => self.messages.push_back(Frame::Push(message)),
                Ok(Some(Frame::Error(error))) => return Err(refusal(&error)),
                Ok(Some(reply)) => return Ok(Some(reply)),
                Ok(None) => return sent.map(|()| None),
                Err(lost) => return Err(sent.err().unwrap_or(lost)),
            }
        }
    }

    /// A request for messages. In RESP3 what confirms it may be a message itself.
    pub(super) fn subscribe(&mut self, words: &[Bytes]) -> Result<(), Failure> {
        self.send(words)?;
        let until = Instant::now() + self.patience;
        loop {
            match self.receive(until)? {
                Some(Frame::Push(parts))
                    if parts.first().and_then(Frame::as_str) == Some("subscribe") =>
                {
                    return Ok(());
                }
                Some(Frame::Push(message)) => self.messages.push_back(Frame::Push(message)),
                Some(Frame::Error(error)) => return Err(refusal(&error)),
                Some(_) => return Ok(()),
                None => return Err(Failure::Lost(String::from("no answer in time"))),
            }
        }
    }

    /// One request, whose reply is taken for a message.
    pub(super) fn send(&mut self, words: &[Bytes]) -> Result<(), Failure> {
        let patience = Some(self.patience.max(MOMENT));
        let ready = self.stream.set_write_timeout(patience);
        let sent = ready.and_then(|()| self.stream.write_all(&request(words)));
        sent.map_err(|error| Failure::Lost(error.to_string()))
    }

    /// The next message; nothing if none came within the patience.
    pub(super) fn message(&mut self) -> Result<Option<Frame>, Failure> {
        if let Some(message) = self.messages.pop_front() {
            return Ok(Some(message));
        }
        self.receive(Instant::now() + self.patience)
    }

    /// What comes next; nothing if it has not come until then.
    fn receive(&mut self, until: Instant) -> Result<Option<Frame>, Failure> {
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
            // To wait for no time at all cannot be said.
            let left = until.saturating_duration_since(Instant::now()).max(MOMENT);
            self.stream.set_read_timeout(Some(left)).map_err(|error| lost(error.to_string()))?;
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

fn connect(server: &str, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let addresses: Vec<_> = server.to_socket_addrs()?.collect();
    for (address, others) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(others).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, share.max(MOMENT)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread::{JoinHandle, spawn};

    /// A server for one connection, which answers its first requests with these replies, and the
    /// one behind them not at all. What it was asked, request by request, and where it is.
    fn server(replies: &'static [&'static str]) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let served = spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut asked = Vec::new();
            for reply in replies.iter().map(Some).chain([None]) {
                let mut bytes = [0; 1_024];
                let count = stream.read(&mut bytes).unwrap_or(0);
                asked.push(String::from_utf8_lossy(&bytes[..count]).replace("\r\n", " "));
                if let Some(reply) = reply {
                    stream.write_all(reply.as_bytes()).expect("answered");
                }
            }
            // Whoever waits for more is not told that there is none.
            let _ = stream.read(&mut [0; 64]);
            asked
        });
        (address, served)
    }

    fn target(servers: &[&String]) -> Target {
        let servers = servers.iter().map(|&server| server.clone()).collect();
        Target { servers, patience: Duration::from_secs(3), password: None }
    }

    const HELLO: &str = "%1\r\n+proto\r\n:3\r\n";

    /// A node that stops with a write in its hands may have done it: the next one is told so.
    #[test]
    fn a_write_goes_on_elsewhere_under_its_own_number() {
        for (repeat, is_told) in [(Repeat::Named, true), (Repeat::Freely, false)] {
            let (hung, first) = server(&[HELLO]);
            let (well, second) = server(&[HELLO, "+OK\r\n"]);
            let words = [Bytes::from("X")];
            let answer = ask(&target(&[&hung, &well]), &words, repeat).expect("an answer");
            assert_eq!(answer.as_str(), Some("OK"));
            let (first, second) = (first.join().expect("served"), second.join().expect("served"));
            assert!(!first[1].contains(" AGAIN "), "{first:?}");
            assert_eq!(second[1].contains(" AGAIN "), is_told, "{second:?}");
            assert_eq!(second[1].contains(" REQUEST "), is_told, "{second:?}");
        }
    }

    /// what is asked again of a primary table says from where on it may have been
    /// done, and if nobody vouches for it, how to find out is told.
    #[test]
    fn a_write_to_a_primary_table_can_be_resolved() {
        const INFO: &str = "%1\r\n$9\r\ncommitted\r\n:5\r\n";
        let words = [Bytes::from("X")];
        let repeat = Repeat::Followed(Some("accounts"));
        let (hung, first) = server(&[HELLO, INFO]);
        let (well, second) = server(&[HELLO, "+OK\r\n"]);
        ask(&target(&[&hung, &well]), &words, repeat).expect("an answer");
        let (first, second) = (first.join().expect("served"), second.join().expect("served"));
        assert!(first[1].contains("SYNOD.PRIMARY") && first[1].contains("accounts"), "{first:?}");
        assert!(first[2].contains(" FOLLOW ") && !first[2].contains(" AGAIN "), "{first:?}");
        assert!(second[1].contains(" AGAIN ") && second[1].contains(" SEEN $1 5 "), "{second:?}");

        let (hung, served) = server(&[HELLO, INFO]);
        let target = Target { patience: Duration::from_millis(500), ..target(&[&hung]) };
        let failure = ask(&target, &words, repeat).expect_err("no answer").to_string();
        assert!(failure.starts_with("UNKNOWN "), "{failure}");
        assert!(failure.contains(" 1 --seen 5 --table accounts` tells"), "{failure}");
        drop(served.join());
    }

    /// What was in flight when nobody answered any more is unknown, whatever others say.
    #[test]
    fn a_write_that_nobody_vouches_for_is_unknown() {
        let (hung, first) = server(&[HELLO]);
        let target = Target { patience: Duration::from_millis(200), ..target(&[&hung]) };
        let failure = ask(&target, &[Bytes::from("X")], Repeat::Named).expect_err("no answer");
        assert!(matches!(failure, Failure::Unknown(_)), "{failure}");
        drop(first.join());
    }

    /// Who refuses before all is sent, and reads no more, is heard.
    #[test]
    fn a_refusal_is_heard_before_the_connection_is_given_up() {
        let (server, served) = server(&[HELLO, "-ERR Protocol error: too long\r\n"]);
        let words = [Bytes::from("X"), Bytes::from(vec![b'x'; 32 << 20])];
        let failure = ask(&target(&[&server]), &words, Repeat::Named).expect_err("refused");
        assert!(matches!(failure, Failure::Refused { .. }), "{failure}");
        drop(served.join());
    }

    /// A node that is not ready says so, and the next one is asked.
    #[test]
    fn who_is_not_ready_is_passed_over() {
        let (starting, first) = server(&[HELLO, "-NOTREADY starting\r\n"]);
        let (well, second) = server(&[HELLO, "+OK\r\n"]);
        let target = target(&[&starting, &well]);
        let (_, answer) = in_turn(&target, |connection, _| connection.call(&[Bytes::from("X")]))
            .expect("an answer");
        assert_eq!(answer.as_str(), Some("OK"));
        drop((first.join(), second.join()));
    }
}
