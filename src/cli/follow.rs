//! Following what is told of a key, of a quorum or of merges, from node to node.
//!
//! A node that is lost is made up for by another one. What happened between the two is not told
//! anew by the protocol, so the present state of a key is read each time, and compared.

use bytes::Bytes;
use resp_rs::resp3::Frame;
use serde_json::json;

use super::client::{Connection, Failure, Target, in_turn, refusal};
use super::commands::Words;
use super::options::{ClientOptions, EventsOptions, WatchOptions};
use super::show::{self, Screen, as_json, complain, field};
use super::{Trouble, Verdict};

type Result<T = Verdict> = std::result::Result<T, Trouble>;

pub(super) fn watch(options: &WatchOptions) -> Result {
    let words = Words::new("SYNOD.WATCH").and(options.key.clone()).table(&options.at);
    let read = Words::new("SYNOD.GET").and(options.key.clone()).table(&options.at);
    let mut follower = Follower::new(&options.at.client, words, options.count)?;
    follower.key = Some(Watched {
        channel: String::new(),
        table: options.at.table.clone(),
        key: options.key.clone(),
        read: read.0,
        life: None,
        is_new: true,
    });
    follower.follow()
}

pub(super) fn events(options: &EventsOptions) -> Result {
    let channel = if options.merges { "merges" } else { "quorum" };
    let words = Words::new("SUBSCRIBE").and(channel);
    Follower::new(&options.client, words, options.count)?.follow()
}

/// A key, and what is known of it.
struct Watched {
    /// What messages about it are called, once the name of the table is known.
    channel: String,
    /// Its table as it was given, by name or number, if it was.
    table: Option<String>,
    key: String,
    /// The request that reads it.
    read: Vec<Bytes>,
    /// The generation that it was last seen in, unless that was told to have ended.
    life: Option<String>,
    /// Whether it has not been read yet.
    is_new: bool,
}

struct Follower {
    target: Target,
    screen: Screen,
    /// The request for messages.
    words: Vec<Bytes>,
    /// How many more are wanted.
    left: u64,
    key: Option<Watched>,
}

impl Follower {
    fn new(options: &ClientOptions, words: Words, count: Option<u64>) -> Result<Self> {
        let (target, screen) = (options.target()?, options.screen());
        let left = count.unwrap_or(u64::MAX);
        Ok(Self { target, screen, words: words.0, left, key: None })
    }

    fn follow(mut self) -> Result {
        while self.left > 0 {
            let mut connection = self.begin()?;
            connection.set_patience(self.target.patience);
            match self.tell(&mut connection) {
                Err(Trouble::Failed(Failure::Lost(why))) => {
                    complain(format_args!("the connection was lost: {why}; asking again"));
                }
                Err(trouble) => return Err(trouble),
                Ok(()) => {}
            }
        }
        Ok(Verdict::Done)
    }

    /// A connection on which messages come, after how the key is has been told.
    fn begin(&mut self) -> Result<Connection> {
        let (connection, state) = in_turn(&self.target, |connection, _| {
            connection.subscribe(&self.words)?;
            let Some(key) = &self.key else { return Ok(None) };
            let tables = connection.call(&[Bytes::from("SYNOD.TABLES")])?;
            Ok(Some((tables, connection.call(&key.read)?)))
        })?;
        if let Some((tables, state)) = state {
            self.compare(&tables, &state)?;
        }
        Ok(connection)
    }

    /// Tells how the key is, if that is news.
    fn compare(&mut self, tables: &Frame, state: &Frame) -> Result<()> {
        let Some(mut key) = self.key.take() else { return Ok(()) };
        let is_it = |table: &&Frame| {
            let wanted = key.table.as_deref().unwrap_or("0");
            let is = |name| field(table, name).map(show::cell).as_deref() == Some(wanted);
            is("name") || is("number")
        };
        let table = tables.as_array().unwrap_or_default().iter().find(is_it);
        let table = table.and_then(|table| field(table, "name")).map(show::cell);
        key.channel = format!("key:{}:{}", table.unwrap_or_default(), key.key);
        let found = field(state, "generation").and_then(Frame::as_str).map(str::to_owned);
        if key.life != found || key.is_new {
            if let Some(life) = &key.life {
                self.show(&key.channel, &format!("unseen {life}"), true)?;
            }
            match &found {
                Some(life) => self.show(&key.channel, &format!("present {life}"), false)?,
                // Who waits for the end need not wait.
                None if key.is_new => self.show(&key.channel, "absent", true)?,
                None => {}
            }
        }
        (key.life, key.is_new) = (found, false);
        self.key = Some(key);
        Ok(())
    }

    fn tell(&mut self, connection: &mut Connection) -> Result<()> {
        // Nobody need have anything to say; but whoever says nothing when asked is lost.
        let mut asked = false;
        while self.left > 0 {
            let Some(message) = connection.message()? else {
                if asked {
                    return Err(Failure::Lost("it does not answer".to_owned()).into());
                }
                connection.send(&[Bytes::from("PING")])?;
                asked = true;
                continue;
            };
            asked = false;
            if let Frame::Error(error) = &message {
                return Err(refusal(error).into());
            }
            let Frame::Push(parts) = message else { continue };
            let [kind, channel, text] = &parts[..] else { continue };
            if kind.as_str() == Some("message") {
                self.pass_on(channel, text)?;
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, channel: &Frame, text: &Frame) -> Result<()> {
        let ended = text.as_str().and_then(|text| text.split(' ').nth(1));
        if let Some(key) = &mut self.key
            && key.life.as_deref() == ended
        {
            key.life = None;
        }
        if self.screen.is_json() {
            let message = json!({ "channel": as_json(channel), "event": as_json(text) });
            self.screen.json(&message)?;
        } else {
            self.screen.line(&show::bytes(text).unwrap_or_default())?;
        }
        self.left -= 1;
        Ok(())
    }

    fn show(&mut self, channel: &str, text: &str, counts: bool) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        if self.screen.is_json() {
            self.screen.json(&json!({ "channel": channel, "event": text }))?;
        } else {
            self.screen.line(text.as_bytes())?;
        }
        self.left -= u64::from(counts);
        Ok(())
    }
}
