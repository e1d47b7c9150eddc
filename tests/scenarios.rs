//! Conversations that must not change by accident: `tests/scenarios/*.txt`, replayed line by line.
//!
//! A file opens with a paragraph on what it proves and which part to skip. Then commands, `----`,
//! and what the cluster said while they ran: messages sent, answers given, clients told. With
//! `SYNOD_REWRITE=1` the expected parts are written anew; read the difference before keeping it.
//!
//! Commands, one a line or several with `;`:
//!
//! ```text
//! cluster 3 [witnessed|vouched] [write_once]   make a cluster, start it, let it settle
//! put|put_if_absent NODE KEY=VALUE [bind…] [as ID] [again] [retry]
//! get|local|remove|fence NODE KEY [as ID] [again]     keys NODE
//! bind: session:S  node:N  key:K  until:+MS
//! open NODE S; close S; down S                 sessions, by a name of the test's own
//! watch NODE KEY                               as client c50
//! deliver [KIND] [A->B] [KEY]                  what of that is in flight, once
//! settle                                       deliver everything, and what that causes
//! lose|park [KIND] [A->B] [KEY]; unpark        of what is in flight
//! block KIND [A->B]; unblock                   lose it when it is sent, from now on
//! split A,B|C; heal; crash N; start N; wipe N; slow N; fast N; sync N
//! clock N +MS                                  a wall clock that is wrong
//! run MS                                       time passes, everything is delivered
//! tick MS                                      time passes, nothing is delivered
//! held NODE KEY; status NODE                   shown in the trace
//! heartbeats on|off                            shown in the trace or not; off at first
//! ```

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use support::{Cluster, Fate, Flight, bound_to_key, config, ms};
use synod::{
    Bind, ClientId, Command, Genesis, Input, NodeId, OnNoQuorum, Outcome, RequestId, Sent,
    SessionId, Wall,
};

struct Scene {
    cluster: Cluster,
    sessions: BTreeMap<String, SessionId>,
    next: u64,
    heartbeats: bool,
    blocked: Vec<(String, Option<(u16, u16)>)>,
    /// How much of the log has been shown.
    shown: usize,
}

fn number(word: &str) -> u16 {
    word.parse().unwrap_or_else(|_| panic!("not a node: {word:?}"))
}

fn millis(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("not milliseconds: {word:?}"))
}

fn link(word: &str) -> Option<(u16, u16)> {
    let (from, to) = word.split_once("->")?;
    Some((number(from), number(to)))
}

/// Whether a message is of what the words name: a kind, a link, a key, in any order.
fn matches(flight: &Flight, words: &[&str]) -> bool {
    words.iter().all(|word| match link(word) {
        Some((from, to)) => flight.goes(from, to),
        None if word.starts_with(char::is_uppercase) => flight.is(word),
        None => flight.is_about(word),
    })
}

impl Scene {
    fn new(words: &[&str]) -> Self {
        let size = words.first().map_or(3, |word| number(word));
        let mut cluster = Cluster::unstarted((1..=size).map(|node| {
            let mut config = config(node, size);
            if words.contains(&"witnessed") {
                config.genesis = Genesis::Witnessed;
            }
            if words.contains(&"write_once") {
                config.tables[0] = synod::TableConfig::write_once("default");
            }
            config
        }));
        for node in 1..=size {
            cluster.start(node);
        }
        cluster.run(ms(2_000));
        let shown = cluster.log.len();
        Self {
            cluster,
            sessions: BTreeMap::new(),
            next: 0,
            heartbeats: false,
            blocked: Vec::new(),
            shown,
        }
    }

    fn bind(&self, word: &str) -> Bind {
        let (kind, name) = word.split_once(':').expect("kind:name");
        match kind {
            "session" => Bind::Session(self.sessions[name]),
            "node" => Bind::Node(NodeId(number(name))),
            "key" => bound_to_key(name),
            "until" => {
                let later = millis(name.trim_start_matches('+'));
                Bind::Until(Wall(self.cluster.wall() + later))
            }
            _ => panic!("no such binding: {word}"),
        }
    }

    fn ask(&mut self, verb: &str, words: &[&str]) -> (ClientId, RequestId) {
        let node = number(words[0]);
        let mut rest = words[1..].iter().peekable();
        let mut target = "";
        let mut binds = Vec::new();
        let (mut id, mut sent, mut no_quorum) = (None, Sent::First, OnNoQuorum::Return);
        while let Some(word) = rest.next() {
            match *word {
                "as" => id = rest.next().map(|id| millis(id)),
                "again" => sent = Sent::Again,
                "retry" => no_quorum = OnNoQuorum::Retry,
                word if word.contains(':') => binds.push(self.bind(word)),
                word => target = word,
            }
        }
        let (key, text) = target.split_once('=').unwrap_or((target, ""));
        let command = match verb {
            "put" => support::put(key, text, binds),
            "put_if_absent" => support::put_if_absent(key, text, binds),
            "get" => support::get(key),
            "local" => support::get_local(key),
            "remove" => support::remove(key),
            "fence" => support::fence(key),
            "keys" => support::keys(None, 100),
            "open" => Command::OpenSession,
            "watch" => Command::Subscribe(support::topic(key)),
            _ => panic!("no such command: {verb}"),
        };
        let id = id.unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        let client = ClientId::new(if verb == "watch" { 50 } else { 1 });
        let patience = ms(5_000);
        self.cluster.give(node, client, RequestId(id), sent, no_quorum, patience, command);
        (client, RequestId(id))
    }

    fn obey(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [verb, words @ ..] = &*words else { return };
        match *verb {
            "put" | "put_if_absent" | "get" | "local" | "remove" | "fence" | "keys" | "watch" => {
                self.ask(verb, words);
            }
            "open" => {
                let asked = self.ask(verb, &words[..1]);
                let answer = self.cluster.answer(asked);
                let Outcome::Session(session) = answer else { panic!("no session: {answer}") };
                self.sessions.insert(words[1].to_owned(), session);
            }
            "close" | "down" => {
                let session = self.sessions[words[0]];
                if *verb == "down" {
                    self.cluster.input(session.host.0, Input::Down { session });
                } else {
                    self.next += 1;
                    let (host, close) = (session.host.0, Command::CloseSession(session));
                    self.cluster.call_as(host, 1, self.next, Sent::First, close);
                }
            }
            "deliver" => {
                self.cluster.deliver(|flight| matches(flight, words));
            }
            "settle" => self.cluster.deliver_all(),
            "lose" => {
                self.cluster.lose(|flight| matches(flight, words));
            }
            "park" => {
                let flights = std::mem::take(&mut self.cluster.flights);
                let (parked, kept) = flights.into_iter().partition(|flight| matches(flight, words));
                self.cluster.flights = kept;
                self.cluster.parked.extend::<Vec<_>>(parked);
            }
            "unpark" => self.cluster.unpark(),
            "block" => {
                self.blocked.push((words[0].to_owned(), words.get(1).and_then(|word| link(word))));
                self.enforce();
            }
            "unblock" => {
                self.blocked.clear();
                self.cluster.no_rule();
            }
            "split" => {
                let (one, other) = words[0].split_once('|').expect("A,B|C");
                let side = |text: &str| text.split(',').map(number).collect::<Vec<_>>();
                self.cluster.split(&side(one), &side(other));
            }
            "heal" => self.cluster.heal(),
            "crash" => self.cluster.crash(number(words[0])),
            "start" => self.cluster.start(number(words[0])),
            "wipe" => self.cluster.wipe(number(words[0])),
            "slow" => self.cluster.machine(number(words[0])).slow_disk = true,
            "fast" => self.cluster.machine(number(words[0])).slow_disk = false,
            "sync" => self.cluster.sync(number(words[0])),
            "clock" => {
                let ahead = words[1].parse().expect("milliseconds ahead");
                self.cluster.machine(number(words[0])).wall_ahead = ahead;
            }
            "run" => self.cluster.run(ms(millis(words[0]))),
            "tick" => {
                self.cluster.now = self.cluster.now + ms(millis(words[0]));
                self.cluster.fire_timers();
            }
            "held" => {
                let held = self.cluster.held(number(words[0]), words[1]);
                let text = held.map_or_else(
                    || "nothing".to_owned(),
                    |(promised, accepted, cell)| {
                        let cell = cell.unwrap_or_else(|| "-".to_owned());
                        format!("promised={promised} accepted=({accepted} {cell})")
                    },
                );
                self.note(format!("{} holds of {}: {text}", words[0], words[1]));
            }
            "status" => {
                let readiness = self.cluster.readiness(number(words[0]));
                self.note(format!("{} is {readiness}", words[0]));
            }
            "heartbeats" => self.heartbeats = words[0] == "on",
            _ => panic!("no such command: {verb}"),
        }
    }

    /// Puts a line of the test's own into the trace, in its place.
    fn note(&mut self, line: String) {
        self.cluster.log.push(line);
    }

    fn enforce(&mut self) {
        let blocked = self.blocked.clone();
        self.cluster.rule(move |flight| {
            let hit = blocked.iter().any(|(kind, link)| {
                flight.is(kind) && link.is_none_or(|(from, to)| flight.goes(from, to))
            });
            if hit { Fate::Lose } else { Fate::Deliver }
        });
    }

    /// What was said since the last time, one line each.
    fn trace(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for line in &self.cluster.log[self.shown..] {
            let beats = line.contains(" Heartbeat");
            if !beats || self.heartbeats {
                lines.push(line.clone());
            }
        }
        self.shown = self.cluster.log.len();
        lines
    }
}

/// Replays a file; returns it with what was really said.
fn replay(text: &str) -> String {
    let mut scene: Option<Scene> = None;
    let mut rewritten = Vec::new();
    let mut expected = false;
    let mut pending = false;
    for line in text.lines().chain([""]) {
        if expected {
            // What was said before is passed over: it is written anew.
            if line.is_empty() {
                expected = false;
                rewritten.push(String::new());
            }
            continue;
        }
        rewritten.push(line.to_owned());
        let command = line.split('#').next().unwrap_or_default().trim();
        if line == "----" {
            let scene = scene.as_mut().expect("a cluster first");
            let said = scene.trace();
            rewritten.extend(if said.is_empty() { vec!["(silence)".to_owned()] } else { said });
            (expected, pending) = (true, false);
        } else if let Some(made) = command.strip_prefix("cluster ") {
            scene = Some(Scene::new(&made.split_whitespace().collect::<Vec<_>>()));
        } else if let Some(scene) = &mut scene
            && !command.is_empty()
        {
            pending = true;
            command.split(';').for_each(|command| scene.obey(command));
        }
    }
    assert!(!pending, "the last commands have no `----`");
    let end = rewritten.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    rewritten.truncate(end);
    rewritten.join("\n") + "\n"
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = fs::read_dir(folder).expect("the folder of scenarios");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

/// Every scenario is said to the letter as its file says.
#[test]
fn every_conversation_is_as_it_was() {
    let files = files();
    assert!(files.len() >= 10, "scenarios are missing: {}", files.len());
    for path in files {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("readable");
        let said = replay(&text);
        if std::env::var_os("SYNOD_REWRITE").is_some() {
            fs::write(&path, &said).expect("writable");
            continue;
        }
        for (place, (said, expected)) in said.lines().zip(text.lines()).enumerate() {
            assert_eq!(said, expected, "{name}:{}: read, then SYNOD_REWRITE=1", place + 1);
        }
        assert_eq!(said.lines().count(), text.lines().count(), "{name}: one is longer");
    }
}

/// Every scenario opens with what it proves, so that its lines can be judged and not just renewed.
#[test]
fn every_scenario_says_what_it_proves() {
    if std::env::var_os("SYNOD_REWRITE").is_some() {
        return; // The files are being written at this moment.
    }
    for path in files() {
        let text = fs::read_to_string(&path).expect("readable");
        let opening: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(opening.len() >= 2, "{}: what does it prove?", path.display());
        assert!(
            opening.iter().any(|line| line.contains("Skip")),
            "{}: say which part to skip",
            path.display()
        );
    }
}
