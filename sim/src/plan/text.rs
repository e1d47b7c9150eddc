//! Plans as text files: line oriented, commented, stable to diff, exact both ways.
//!
//! One line is one fact: a keyword, then words and `name=value` pairs. `#` begins a comment.
//! `docs/SIMULATION.md` describes every line.
//!
//! Must never know: how a run goes.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use synod::merged::Schema;
use synod::primary;

use super::check::{Misfit, Part};
use super::{
    Act, Address, Cluster, Cut, Discipline, Disk, Fault, Guess, HISTORY_MAX, Keep, Links,
    MERGE_ROWS, MICRO, MILLI, Mode, Nanos, Network, Nodes, Operation, Plan, PlanError, ROW_MAX,
    Resolvers, SECOND, Table, Tie, Trouble,
};

/// The version of the format, its first line.
const VERSION: &str = "plan 1";

impl Default for Plan {
    fn default() -> Self {
        Self {
            scenario: "swarm".to_owned(),
            seed: 0,
            mode: Mode::Timed,
            cluster: Cluster {
                nodes: 3,
                size: 3,
                witnessed: true,
                heartbeat: 50 * MILLI,
                down: 250 * MILLI,
                up: 0,
                sweep: 100 * MILLI,
                round: 30 * MILLI,
                backoff: 2 * MILLI,
                backoff_max: 100 * MILLI,
                requests_max: 4096,
                row_max: ROW_MAX,
                history_max: HISTORY_MAX,
                merge_rows: MERGE_ROWS,
                wall_spread: 0,
            },
            tables: vec![Table { name: "default".to_owned(), discipline: Discipline::Consensus }],
            keys: 4,
            clients: 3,
            network: Network {
                latency: 200 * MICRO,
                jitter: 800 * MICRO,
                loss: 0,
                duplicate: 0,
                wire: 0,
            },
            disk: Disk { latency: 50 * MICRO, jitter: 150 * MICRO },
            resolvers: None,
            safety: 5 * SECOND,
            liveness: 10 * SECOND,
            operations: Vec::new(),
            faults: Vec::new(),
            choices: Vec::new(),
        }
    }
}

/// A span of time in the largest unit that is exact.
struct Span(Nanos);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0s"),
            n if n % SECOND == 0 => write!(f, "{}s", n / SECOND),
            n if n % MILLI == 0 => write!(f, "{}ms", n / MILLI),
            n if n % MICRO == 0 => write!(f, "{}us", n / MICRO),
            n => write!(f, "{n}ns"),
        }
    }
}

/// A span of time with a sign.
struct Signed(i64);

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{}", Span(self.0.unsigned_abs()))
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_char('*');
        }
        if self.is_empty() {
            return f.write_char('-');
        }
        for (place, node) in self.iter().enumerate() {
            if place > 0 {
                f.write_char(',')?;
            }
            write!(f, "{node}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}", self.from, self.to)
    }
}

struct Sets<'a>(&'a [Nodes]);

impl fmt::Display for Sets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, set) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_char('|')?;
            }
            write!(f, "{set}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(left, right) => write!(f, "bridge={left}|{right}"),
            Self::Graph(sets) => write!(f, "graph={}", Sets(sets)),
            Self::Islands(sets) => write!(f, "islands={}", Sets(sets)),
            Self::OneWay(links) => write!(f, "one_way={links}"),
            Self::Ring(order) => {
                write!(f, "ring=")?;
                for (place, node) in order.iter().enumerate() {
                    write!(f, "{}{node}", if place == 0 { "" } else { "," })?;
                }
                if order.is_empty() {
                    f.write_char('-')?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Mid => "mid",
            Self::None => "none",
            Self::Torn => "torn",
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clog(links) => write!(f, "clog links={links}"),
            Self::Client(client) => write!(f, "client client={client}"),
            Self::Crash(node, keep) => write!(f, "crash node={node} keep={keep}"),
            Self::Delay(links, by) => write!(f, "delay links={links} by={}", Span(*by)),
            Self::DiskFull(node) => write!(f, "disk_full node={node}"),
            Self::Drift(node, ppm) => write!(f, "drift node={node} ppm={ppm}"),
            Self::Duplicate(links, ppm) => write!(f, "duplicate links={links} ppm={ppm}"),
            Self::Freeze(node) => write!(f, "freeze node={node}"),
            Self::Hint(node, peer) => write!(f, "hint node={node} peer={peer}"),
            Self::Jump(node, by) => write!(f, "jump node={node} by={}", Signed(*by)),
            Self::Loss(links, ppm) => write!(f, "loss links={links} ppm={ppm}"),
            Self::Partition(cut, half) => {
                write!(f, "partition {cut}")?;
                if *half > 0 {
                    write!(f, " flap={}", Span(*half))?;
                }
                Ok(())
            }
            Self::Pause(node) => write!(f, "pause node={node}"),
            Self::PowerCut(keep) => write!(f, "power_cut keep={keep}"),
            Self::Queue(links, max) => write!(f, "queue links={links} max={max}"),
            Self::Reorder(links, by) => write!(f, "reorder links={links} by={}", Span(*by)),
            Self::Rot(node) => write!(f, "rot node={node}"),
            Self::Skew(node, by) => write!(f, "skew node={node} by={}", Signed(*by)),
            Self::SlowDisk(node, by) => write!(f, "slow_disk node={node} by={}", Span(*by)),
            Self::Wipe(node) => write!(f, "wipe node={node}"),
            Self::WriteError(node) => write!(f, "write_error node={node}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fault {} at={} for={} {}",
            self.id,
            Span(self.at),
            Span(self.lasts),
            self.trouble
        )
    }
}

impl fmt::Display for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(at) => write!(f, "key:{at}"),
            Self::Node(node) => write!(f, "node:{node}"),
            Self::Session => write!(f, "session"),
            Self::Until(after) => write!(f, "until:{}", Signed(*after)),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ties: &[Tie] = match self {
            Self::CloseSession => return write!(f, "close_session"),
            Self::Fence(at) => return write!(f, "fence {at}"),
            Self::Get(at) => return write!(f, "get {at}"),
            Self::GetLocal(at) => return write!(f, "get_local {at}"),
            Self::Keys(table, limit) => return write!(f, "keys t{table} limit={limit}"),
            Self::OpenSession => return write!(f, "open_session"),
            Self::Remove(at, false) => return write!(f, "remove {at}"),
            Self::Remove(at, true) => return write!(f, "remove {at} seen"),
            Self::Status => return write!(f, "status"),
            Self::Watch(at) => return write!(f, "watch {at}"),
            Self::Unwatch(at) => return write!(f, "unwatch {at}"),
            Self::CompareAndSet(at, guess, ties) => {
                let guess = match guess {
                    Guess::Absent => "absent",
                    Guess::Seen => "seen",
                    Guess::Version => "version",
                };
                write!(f, "compare_and_set {at} {guess}")?;
                ties
            }
            Self::Put(at, ties) => {
                write!(f, "put {at}")?;
                ties
            }
            Self::PutIfAbsent(at, ties) => {
                write!(f, "put_if_absent {at}")?;
                ties
            }
        };
        ties.iter().try_for_each(|tie| write!(f, " {tie}"))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "op {} client={} after={} node={} patience={} again={}{} {}",
            self.id,
            self.client,
            Span(self.after),
            self.node,
            Span(self.patience),
            self.again,
            if self.persistent { " persistent" } else { "" },
            self.act
        )
    }
}

impl fmt::Display for Resolvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "resolvers patience={} failing={} panicking={} stalling={} stall={}",
            Span(self.patience),
            self.failing,
            self.panicking,
            self.stalling,
            Span(self.stall)
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}", self.name)?;
        match &self.discipline {
            Discipline::Consensus => Ok(()),
            Discipline::Listed(schema) => write!(f, " listed={}", schema.words()),
            Discipline::Made(schema) => write!(f, " made={}", schema.words()),
            Discipline::Merged(schema) => write!(f, " merged={}", schema.words()),
            Discipline::Primary(schema) => write!(f, " primary={}", schema.words()),
            Discipline::WriteOnce => f.write_str(" write_once"),
        }
    }
}

fn write_limits(cluster: &Cluster, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "limits requests={}", cluster.requests_max)?;
    if cluster.row_max != ROW_MAX {
        write!(f, " row={}", cluster.row_max)?;
    }
    if cluster.history_max != HISTORY_MAX {
        write!(f, " history={}", cluster.history_max)?;
    }
    if cluster.merge_rows != MERGE_ROWS {
        write!(f, " merge={}", cluster.merge_rows)?;
    }
    writeln!(f)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{VERSION}")?;
        writeln!(f, "scenario {}", self.scenario)?;
        writeln!(f, "seed {}", self.seed)?;
        let mode = match self.mode {
            Mode::Free => "free",
            Mode::Timed => "timed",
        };
        writeln!(f, "mode {mode}")?;
        let cluster = &self.cluster;
        writeln!(f, "nodes {}", cluster.nodes)?;
        writeln!(f, "size {}", cluster.size)?;
        let genesis = if cluster.witnessed { "witnessed" } else { "vouched" };
        writeln!(f, "genesis {genesis}")?;
        writeln!(
            f,
            "timing heartbeat={} down={} up={} sweep={} round={} backoff={} backoff_max={}",
            Span(cluster.heartbeat),
            Span(cluster.down),
            Span(cluster.up),
            Span(cluster.sweep),
            Span(cluster.round),
            Span(cluster.backoff),
            Span(cluster.backoff_max)
        )?;
        write_limits(cluster, f)?;
        writeln!(f, "clocks spread={}", Span(cluster.wall_spread))?;
        let network = &self.network;
        writeln!(
            f,
            "network latency={} jitter={} loss={} duplicate={} wire={}",
            Span(network.latency),
            Span(network.jitter),
            network.loss,
            network.duplicate,
            network.wire
        )?;
        let disk = &self.disk;
        writeln!(f, "disk latency={} jitter={}", Span(disk.latency), Span(disk.jitter))?;
        if let Some(resolvers) = &self.resolvers {
            writeln!(f, "{resolvers}")?;
        }
        writeln!(f, "safety {}", Span(self.safety))?;
        writeln!(f, "liveness {}", Span(self.liveness))?;
        for table in &self.tables {
            writeln!(f, "{table}")?;
        }
        writeln!(f, "keys {}", self.keys)?;
        writeln!(f, "clients {}", self.clients)?;
        for operation in &self.operations {
            writeln!(f, "{operation}")?;
        }
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        for line in self.choices.chunks(32) {
            write!(f, "choices")?;
            line.iter().try_for_each(|choice| write!(f, " {choice}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The lines of which a plan has one at most; `nodes` it must have.
const HEADERS: [&str; 16] = [
    "scenario",
    "seed",
    "mode",
    "nodes",
    "size",
    "genesis",
    "timing",
    "limits",
    "clocks",
    "network",
    "disk",
    "resolvers",
    "safety",
    "liveness",
    "keys",
    "clients",
];

/// Where in the text the parts of a plan are, to name the line of one that does not fit.
#[derive(Default)]
struct Lines {
    headers: BTreeMap<&'static str, usize>,
    operations: Vec<usize>,
    faults: Vec<usize>,
}

impl Lines {
    /// Takes note of a line that was read, and refuses a second one of its kind.
    fn note(&mut self, keyword: &str, plan: &Plan, line: usize) -> Parsed<()> {
        self.operations.resize(plan.operations.len(), line);
        self.faults.resize(plan.faults.len(), line);
        // Of tables any is as good as the last.
        let known = HEADERS.iter().chain(&["table"]).find(|header| **header == keyword);
        let Some(header) = known else { return Ok(()) };
        match self.headers.insert(header, line) {
            Some(first) if *header != "table" => Err(PlanError {
                line,
                message: format!("`{header}` is given in line {first} already; keep one of them"),
            }),
            _ => Ok(()),
        }
    }

    /// The line of a part; 0 if it was left out.
    fn of(&self, part: Part) -> usize {
        match part {
            Part::Fault(place) => self.faults[place],
            Part::Header(header) => self.headers.get(header).copied().unwrap_or(0),
            Part::Operation(place) => self.operations[place],
        }
    }
}

/// One line's words, taken one by one.
struct Words<'a> {
    words: Vec<&'a str>,
    line: usize,
}

type Parsed<T> = Result<T, PlanError>;

impl<'a> Words<'a> {
    fn wrong<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(PlanError { line: self.line, message: message.into() })
    }

    /// The next plain word.
    fn word(&mut self, what: &str) -> Parsed<&'a str> {
        if self.words.is_empty() {
            return self.wrong(format!("{what} is missing at the end of the line"));
        }
        Ok(self.words.remove(0))
    }

    /// The value of `name=value`, wherever it stands.
    fn find(&mut self, name: &str) -> Option<&'a str> {
        let place = self
            .words
            .iter()
            .position(|word| word.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))?;
        Some(&self.words.remove(place)[name.len() + 1..])
    }

    fn value(&mut self, name: &str) -> Parsed<&'a str> {
        self.find(name).map_or_else(|| self.wrong(format!("`{name}=` is missing; add it")), Ok)
    }

    /// Whether a bare word stands somewhere; it is taken.
    fn flag(&mut self, name: &str) -> bool {
        let place = self.words.iter().position(|word| *word == name);
        place.map(|place| self.words.remove(place)).is_some()
    }

    fn discipline(&mut self) -> Parsed<Discipline> {
        type Of = fn(primary::Schema) -> Discipline;
        let of: [(&str, Of); 2] = [("made", Discipline::Made), ("primary", Discipline::Primary)];
        for (name, of) in of {
            if let Some(words) = self.find(name) {
                return match primary::Schema::default().with_words(words) {
                    Ok(schema) => Ok(of(schema)),
                    Err(why) => self.wrong(format!("{name}: {why}")),
                };
            }
        }
        if let Some(words) = self.find("listed") {
            return match Schema::default().with_words(words) {
                Ok(schema) => Ok(Discipline::Listed(schema)),
                Err(why) => self.wrong(format!("listed: {why}")),
            };
        }
        match (self.flag("write_once"), self.find("merged")) {
            (false, None) => Ok(Discipline::Consensus),
            (false, Some(words)) => match Schema::default().with_words(words) {
                Ok(schema) => Ok(Discipline::Merged(schema)),
                Err(why) => self.wrong(format!("merged: {why}")),
            },
            (true, None) => Ok(Discipline::WriteOnce),
            (true, Some(_)) => self.wrong("a table is merged or write_once, not both".to_owned()),
        }
    }

    fn parse<T: FromStr>(&self, text: &str, what: &str) -> Parsed<T> {
        text.parse()
            .or_else(|_| self.wrong(format!("{what}: `{text}` is not a number that fits here")))
    }

    fn number<T: FromStr>(&mut self, name: &str) -> Parsed<T> {
        let text = self.value(name)?;
        self.parse(text, name)
    }

    fn limits(&mut self, cluster: &mut Cluster) -> Parsed<()> {
        cluster.requests_max = self.number("requests")?;
        if let Some(row) = self.find("row") {
            cluster.row_max = self.parse(row, "row")?;
        }
        if let Some(entries) = self.find("history") {
            cluster.history_max = self.parse(entries, "history")?;
        }
        if let Some(rows) = self.find("merge") {
            cluster.merge_rows = self.parse(rows, "merge")?;
        }
        Ok(())
    }

    fn span_of(&self, text: &str, what: &str) -> Parsed<Nanos> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "ns" => 1,
            "us" => MICRO,
            "ms" => MILLI,
            "s" => SECOND,
            _ => {
                return self.wrong(format!(
                    "{what}: `{text}` is not a time; write a whole number and ns, us, ms or s"
                ));
            }
        };
        let number: u64 = self.parse(number, what)?;
        number.checked_mul(unit).map_or_else(
            || self.wrong(format!("{what}: `{text}` is longer than 584 years; lower it")),
            Ok,
        )
    }

    fn span(&mut self, name: &str) -> Parsed<Nanos> {
        let text = self.value(name)?;
        self.span_of(text, name)
    }

    fn signed_of(&self, text: &str, what: &str) -> Parsed<i64> {
        let (negative, span) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => (false, text),
        };
        let span = self.span_of(span, what)?;
        i64::try_from(span).map_or_else(
            |_| self.wrong(format!("{what}: `{text}` is longer than 292 years; lower it")),
            |span| Ok(if negative { -span } else { span }),
        )
    }

    fn signed(&mut self, name: &str) -> Parsed<i64> {
        let text = self.value(name)?;
        self.signed_of(text, name)
    }

    fn nodes_of(&self, text: &str, what: &str) -> Parsed<Nodes> {
        match text {
            "*" => return Ok(Nodes::ALL),
            "-" => return Ok(Nodes::default()),
            _ => {}
        }
        let mut nodes = Nodes::default();
        for node in text.split(',') {
            let node: u16 = self.parse(node, what)?;
            if node == 0 || node > 64 {
                return self.wrong(format!("{what}: there is no node {node}; use 1 to 64"));
            }
            nodes.add(node);
        }
        Ok(nodes)
    }

    fn links_of(&self, text: &str, what: &str) -> Parsed<Links> {
        let Some((from, to)) = text.split_once('>') else {
            return self.wrong(format!("{what}: `{text}` is not like 1,2>3 or *>*"));
        };
        Ok(Links { from: self.nodes_of(from, what)?, to: self.nodes_of(to, what)? })
    }

    fn links(&mut self) -> Parsed<Links> {
        let text = self.value("links")?;
        self.links_of(text, "links")
    }

    fn sets_of(&self, text: &str, what: &str) -> Parsed<Vec<Nodes>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        text.split('|').map(|set| self.nodes_of(set, what)).collect()
    }

    fn address_of(&self, text: &str) -> Parsed<Address> {
        let address = text.split_once('/').and_then(|(table, key)| {
            Some(Address {
                table: table.strip_prefix('t')?.parse().ok()?,
                key: key.strip_prefix('k')?.parse().ok()?,
            })
        });
        address
            .map_or_else(|| self.wrong(format!("`{text}` is not a key; write it like t0/k1")), Ok)
    }

    fn address(&mut self) -> Parsed<Address> {
        let word = self.word("a key like t0/k1")?;
        self.address_of(word)
    }

    fn ties(&mut self) -> Parsed<Vec<Tie>> {
        let words = std::mem::take(&mut self.words);
        words.into_iter().map(|word| self.tie_of(word)).collect()
    }

    fn tie_of(&self, word: &str) -> Parsed<Tie> {
        if word == "session" {
            return Ok(Tie::Session);
        }
        match word.split_once(':') {
            Some(("key", at)) => Ok(Tie::Key(self.address_of(at)?)),
            Some(("node", node)) => Ok(Tie::Node(self.parse(node, "node")?)),
            Some(("until", after)) => Ok(Tie::Until(self.signed_of(after, "until")?)),
            _ => self.wrong(format!(
                "`{word}` is not a binding; use session, node:N, key:tT/kK or until:+TIME"
            )),
        }
    }

    fn keep(&mut self) -> Parsed<Keep> {
        match self.value("keep")? {
            "all" => Ok(Keep::All),
            "mid" => Ok(Keep::Mid),
            "none" => Ok(Keep::None),
            "torn" => Ok(Keep::Torn),
            other => self.wrong(format!("keep: `{other}` is not all, mid, none or torn")),
        }
    }

    fn act(&mut self) -> Parsed<Act> {
        Ok(match self.word("what the client asks")? {
            "close_session" => Act::CloseSession,
            "compare_and_set" => {
                let at = self.address()?;
                let guess = match self.word("absent, seen or version")? {
                    "absent" => Guess::Absent,
                    "seen" => Guess::Seen,
                    "version" => Guess::Version,
                    other => {
                        return self.wrong(format!("`{other}` is not absent, seen or version"));
                    }
                };
                Act::CompareAndSet(at, guess, self.ties()?)
            }
            "fence" => Act::Fence(self.address()?),
            "get" => Act::Get(self.address()?),
            "get_local" => Act::GetLocal(self.address()?),
            "keys" => {
                let table = self.word("a table like t0")?;
                let Some(number) = table.strip_prefix('t') else {
                    return self.wrong(format!("`{table}` is not a table; write it like t0"));
                };
                Act::Keys(self.parse(number, "table")?, self.number("limit")?)
            }
            "open_session" => Act::OpenSession,
            "put" => Act::Put(self.address()?, self.ties()?),
            "put_if_absent" => Act::PutIfAbsent(self.address()?, self.ties()?),
            "remove" => Act::Remove(self.address()?, self.flag("seen")),
            "status" => Act::Status,
            "watch" => Act::Watch(self.address()?),
            "unwatch" => Act::Unwatch(self.address()?),
            other => {
                return self.wrong(format!(
                    "`{other}` is not an operation; use put, put_if_absent, compare_and_set, \
                     remove, get, get_local, fence, keys, open_session, close_session, status, \
                     watch or unwatch"
                ));
            }
        })
    }

    fn operation(&mut self) -> Parsed<Operation> {
        let id = self.word("the number of the operation")?;
        Ok(Operation {
            id: self.parse(id, "op")?,
            client: self.number("client")?,
            after: self.span("after")?,
            node: self.number("node")?,
            patience: self.span("patience")?,
            again: self.number("again")?,
            persistent: self.flag("persistent"),
            act: self.act()?,
        })
    }

    fn cut(&mut self) -> Parsed<Cut> {
        if let Some(text) = self.find("islands") {
            return Ok(Cut::Islands(self.sets_of(text, "islands")?));
        }
        if let Some(text) = self.find("graph") {
            return Ok(Cut::Graph(self.sets_of(text, "graph")?));
        }
        if let Some(text) = self.find("one_way") {
            return Ok(Cut::OneWay(self.links_of(text, "one_way")?));
        }
        if let Some(text) = self.find("bridge") {
            return match self.sets_of(text, "bridge")?[..] {
                [left, right] => Ok(Cut::Bridge(left, right)),
                _ => self.wrong("bridge: give two sides that share a node, like 1,2|2,3"),
            };
        }
        if let Some(text) = self.find("ring") {
            if text == "-" {
                return Ok(Cut::Ring(Vec::new()));
            }
            let order = text.split(',').map(|node| self.parse(node, "ring"));
            return Ok(Cut::Ring(order.collect::<Parsed<_>>()?));
        }
        self.wrong("partition: give islands=, one_way=, bridge=, ring= or graph=")
    }

    fn trouble(&mut self, kind: &str) -> Parsed<Trouble> {
        Ok(match kind {
            "clog" => Trouble::Clog(self.links()?),
            "client" => Trouble::Client(self.number("client")?),
            "crash" => Trouble::Crash(self.number("node")?, self.keep()?),
            "delay" => Trouble::Delay(self.links()?, self.span("by")?),
            "disk_full" => Trouble::DiskFull(self.number("node")?),
            "drift" => Trouble::Drift(self.number("node")?, self.number("ppm")?),
            "duplicate" => Trouble::Duplicate(self.links()?, self.number("ppm")?),
            "freeze" => Trouble::Freeze(self.number("node")?),
            "hint" => Trouble::Hint(self.number("node")?, self.number("peer")?),
            "jump" => Trouble::Jump(self.number("node")?, self.signed("by")?),
            "loss" => Trouble::Loss(self.links()?, self.number("ppm")?),
            "partition" => {
                let half = self.find("flap").map(|text| self.span_of(text, "flap"));
                Trouble::Partition(self.cut()?, half.transpose()?.unwrap_or(0))
            }
            "pause" => Trouble::Pause(self.number("node")?),
            "power_cut" => Trouble::PowerCut(self.keep()?),
            "queue" => Trouble::Queue(self.links()?, self.number("max")?),
            "reorder" => Trouble::Reorder(self.links()?, self.span("by")?),
            "rot" => Trouble::Rot(self.number("node")?),
            "skew" => Trouble::Skew(self.number("node")?, self.signed("by")?),
            "slow_disk" => Trouble::SlowDisk(self.number("node")?, self.span("by")?),
            "wipe" => Trouble::Wipe(self.number("node")?),
            "write_error" => Trouble::WriteError(self.number("node")?),
            other => {
                return self.wrong(format!(
                    "`{other}` is not a kind of fault; `docs/SIMULATION.md` lists them"
                ));
            }
        })
    }

    fn fault(&mut self) -> Parsed<Fault> {
        let id = self.word("the number of the fault")?;
        let id = self.parse(id, "fault")?;
        let (at, lasts) = (self.span("at")?, self.span("for")?);
        let kind = self.word("the kind of fault")?;
        Ok(Fault { id, at, lasts, trouble: self.trouble(kind)? })
    }

    fn timing(&mut self, cluster: &mut Cluster) -> Parsed<()> {
        cluster.heartbeat = self.span("heartbeat")?;
        cluster.down = self.span("down")?;
        cluster.up = self.span("up")?;
        cluster.sweep = self.span("sweep")?;
        cluster.round = self.span("round")?;
        cluster.backoff = self.span("backoff")?;
        cluster.backoff_max = self.span("backoff_max")?;
        Ok(())
    }

    fn network(&mut self) -> Parsed<Network> {
        Ok(Network {
            latency: self.span("latency")?,
            jitter: self.span("jitter")?,
            loss: self.number("loss")?,
            duplicate: self.number("duplicate")?,
            wire: self.number("wire")?,
        })
    }

    fn resolvers(&mut self) -> Parsed<Resolvers> {
        Ok(Resolvers {
            patience: self.span("patience")?,
            failing: self.number("failing")?,
            panicking: self.number("panicking")?,
            stalling: self.number("stalling")?,
            stall: self.span("stall")?,
        })
    }

    fn one<T: FromStr>(&mut self, what: &str) -> Parsed<T> {
        let word = self.word(what)?;
        self.parse(word, what)
    }

    /// Takes one line's fact into the plan.
    fn take(&mut self, plan: &mut Plan) -> Parsed<()> {
        match self.word("a keyword")? {
            "scenario" => self.word("the scenario's name")?.clone_into(&mut plan.scenario),
            "seed" => plan.seed = self.one("seed")?,
            "mode" => {
                plan.mode = match self.word("free or timed")? {
                    "free" => Mode::Free,
                    "timed" => Mode::Timed,
                    other => return self.wrong(format!("mode: `{other}` is not free or timed")),
                }
            }
            "nodes" => plan.cluster.nodes = self.one("nodes")?,
            "size" => plan.cluster.size = self.one("size")?,
            "genesis" => {
                plan.cluster.witnessed = match self.word("witnessed or vouched")? {
                    "witnessed" => true,
                    "vouched" => false,
                    other => {
                        return self
                            .wrong(format!("genesis: `{other}` is not witnessed or vouched"));
                    }
                }
            }
            "timing" => self.timing(&mut plan.cluster)?,
            "limits" => self.limits(&mut plan.cluster)?,
            "clocks" => plan.cluster.wall_spread = self.span("spread")?,
            "network" => plan.network = self.network()?,
            "disk" => {
                plan.disk = Disk { latency: self.span("latency")?, jitter: self.span("jitter")? }
            }
            "resolvers" => plan.resolvers = Some(self.resolvers()?),
            "safety" => {
                let word = self.word("a time")?;
                plan.safety = self.span_of(word, "safety")?;
            }
            "liveness" => {
                let word = self.word("a time")?;
                plan.liveness = self.span_of(word, "liveness")?;
            }
            "table" => {
                let name = self.word("the table's name")?.to_owned();
                let discipline = self.discipline()?;
                plan.tables.push(Table { name, discipline });
            }
            "keys" => plan.keys = self.one("keys")?,
            "clients" => plan.clients = self.one("clients")?,
            "op" => {
                let operation = self.operation()?;
                plan.operations.push(operation);
            }
            "fault" => {
                let fault = self.fault()?;
                plan.faults.push(fault);
            }
            "choices" => {
                for word in std::mem::take(&mut self.words) {
                    plan.choices.push(self.parse(word, "choices")?);
                }
            }
            other => {
                return self.wrong(format!(
                    "`{other}` does not begin a line of a plan; `docs/SIMULATION.md` lists what does"
                ));
            }
        }
        match self.words.first() {
            Some(word) => self.wrong(format!("`{word}` is not expected here; take it out")),
            None => Ok(()),
        }
    }
}

impl FromStr for Plan {
    type Err = PlanError;

    /// Reads a plan. Lines that are left out have the values of [`Plan::default`], but for `nodes`,
    /// which none may leave out, and `size`, which is then the number of nodes.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut plan = Self { tables: Vec::new(), ..Self::default() };
        let mut headed = false;
        let mut lines = Lines::default();
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let content = line.split('#').next().unwrap_or("");
            let mut words =
                Words { words: content.split_whitespace().collect(), line: line_number };
            let Some(&keyword) = words.words.first() else { continue };
            if !headed {
                if words.words.join(" ") != VERSION {
                    return words.wrong(format!("a plan begins with the line `{VERSION}`"));
                }
                headed = true;
                continue;
            }
            words.take(&mut plan)?;
            lines.note(keyword, &plan, line_number)?;
        }
        if !headed {
            return Err(PlanError {
                line: 1,
                message: format!("the file is empty; a plan begins with the line `{VERSION}`"),
            });
        }
        if !lines.headers.contains_key("nodes") {
            return Err(PlanError {
                line: 0,
                message: "there is no line `nodes N`; add it, or the end of the plan is cut off"
                    .to_owned(),
            });
        }
        if !lines.headers.contains_key("size") {
            plan.cluster.size = plan.cluster.nodes;
        }
        if plan.tables.is_empty() {
            plan.tables = Self::default().tables;
        }
        plan.misfit()
            .map_err(|Misfit { part, message }| PlanError { line: lines.of(part), message })?;
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Plan>().unwrap_err().to_string()
    }

    #[test]
    fn bad_plans_are_named_with_their_line() {
        assert_eq!(error(""), "1: the file is empty; a plan begins with the line `plan 1`");
        assert_eq!(error("# hello\nseed 1"), "2: a plan begins with the line `plan 1`");
        assert!(error("plan 1\nsede 1").starts_with("2: `sede` does not begin"));
        assert!(error("plan 1\nseed x").starts_with("2: seed: `x` is not a number"));
        assert!(error("plan 1\nseed 1 2").starts_with("2: `2` is not expected"));
        assert!(error("plan 1\nsafety 5").contains("is not a time"));
        let op = "plan 1\nnodes 3\nop 1 client=9 after=0s node=1 patience=1s again=0 get t0/k0";
        assert_eq!(error(op), "3: op 1: client 9 is not within 1..=3");
        let far = "plan 1\nnodes 3\nop 1 client=1 after=0s node=1 patience=1s again=0 get t0/k9";
        assert_eq!(error(far), "3: op 1: t0/k9: the plan has 1 tables of 4 keys");
        let fault = "plan 1\nnodes 3\n\nfault 1 at=0s for=1s crash node=4 keep=all";
        assert_eq!(error(fault), "4: fault 1: node 4 is not within 1..=3");
        assert!(error("plan 1\nsafety 99999999999s").contains("longer than 584 years"));
        let wipes = "plan 1\nnodes 3\nfault 1 at=0s for=1s wipe node=1\n\
                     fault 2 at=0s for=1s wipe node=2";
        assert!(error(wipes).starts_with("4: fault 2: 2 nodes lose their storage"));
        let seeds = "plan 1\nnodes 3\nseed 1\nseed 1";
        assert_eq!(error(seeds), "4: `seed` is given in line 3 already; keep one of them");
        assert!(error("plan 1\nseed 1").starts_with("there is no line `nodes N`"));
        assert_eq!("plan 1\nnodes 5".parse::<Plan>().unwrap().cluster.size, 5);
    }

    /// Every header that can be wrong by itself is named with its line, not the engine's words only.
    #[test]
    fn bad_headers_are_named_with_their_line() {
        let day = "timing heartbeat=1ms down=90000s up=0s sweep=1ms round=1ms backoff=1ms \
                   backoff_max=1ms";
        let short = "timing heartbeat=50ms down=60ms up=0s sweep=1ms round=1ms backoff=1ms \
                     backoff_max=1ms";
        for (line, says) in [
            ("nodes 0", "nodes: 0 is not within 1..=16"),
            ("nodes 65535", "nodes: 65535 is not within"),
            ("nodes 3\nsize 2", "cluster_size: 2 is fewer"),
            ("nodes 3\nsize 6", "size: 3 nodes are no quorum of 6 seats"),
            ("nodes 3\nsize 65535", "size: 3 nodes are no quorum"),
            ("size 5\nnodes 3\ngenesis witnessed", "witnesses are needed"),
            ("nodes 3\nkeys 0", "keys: 0"),
            ("nodes 3\nclients 65", "clients: 65 is more"),
            ("nodes 3\ntable a\ntable a", "tables: two tables are named \"a\""),
            ("nodes 3\nsafety 100000001s", "safety: at most 100000000s"),
            ("nodes 3\nliveness 0s", "liveness: must be longer"),
            ("nodes 3\nlimits requests=0", "limits.requests_max: must be more"),
            ("nodes 3\nclocks spread=9000000000s", "clocks: spread: at most 1000000000s"),
            (
                "nodes 3\nnetwork latency=25000000ms jitter=90000s loss=0 duplicate=0 wire=0",
                "a day",
            ),
            (
                "nodes 3\nnetwork latency=0s jitter=0s loss=1000001 duplicate=0 wire=0",
                "loss=1000001",
            ),
            ("nodes 3\ndisk latency=0s jitter=90000s", "disk: jitter must be at most a day"),
            (&format!("nodes 3\n{day}"), "timing.down: must be at most a day"),
            (&format!("nodes 3\n{short}"), "timing.down: must be at least four heartbeats"),
        ] {
            let text = format!("plan 1\n# as told\n{line}\nseed 5");
            let said = error(&text);
            let number = 2 + line.lines().count();
            assert!(said.starts_with(&format!("{number}: ")), "{line}: {said}");
            assert!(said.contains(says), "{line}: {said}");
        }
    }

    /// No sum of times may leave its range, so none of them may be near its end.
    #[test]
    fn times_are_bounded() {
        let most = u64::MAX;
        for (line, says) in [
            (format!("fault 1 at={most}ns for=1s pause node=1"), "fault 1: at must be at most"),
            (format!("fault 1 at=0s for={most}ns pause node=1"), "for must be at most 100000000s"),
            (format!("fault 1 at=0s for=1s delay links=*>* by={most}ns"), "by must be at most"),
            (format!("fault 1 at=0s for=1s reorder links=*>* by={most}ns"), "by must be at most"),
            (format!("fault 1 at=0s for=1s slow_disk node=1 by={most}ns"), "by must be at most"),
            (format!("fault 1 at=0s for=1s partition ring=1,2,3 flap={most}ns"), "flap must be"),
            ("fault 1 at=0s for=1s partition ring=1,2,3 flap=1ns".to_owned(), "at least 1ms"),
            (format!("fault 1 at=0s for=1s jump node=1 by=-{}ns", i64::MAX), "by must be within"),
            (format!("fault 1 at=0s for=1s skew node=1 by=+{}ns", i64::MAX), "by must be within"),
            (
                format!("op 1 client=1 after={most}ns node=1 patience=1s again=0 status"),
                "after must",
            ),
            (format!("op 1 client=1 after=0s node=1 patience={most}ns again=0 status"), "patience"),
            (
                format!(
                    "op 1 client=1 after=0s node=1 patience=1s again=0 put t0/k0 until:+{}ns",
                    i64::MAX
                ),
                "until must be within",
            ),
        ] {
            let said = error(&format!("plan 1\nnodes 3\n{line}\nseed 5"));
            assert!(said.starts_with("3: ") && said.contains(says), "{line}: {said}");
        }
    }

    #[test]
    fn spans_are_exact() {
        for nanos in [0, 1, 999, 1_000, 1_001, 1_500_000, 2_000_000_000, u64::MAX] {
            let words = Words { words: Vec::new(), line: 1 };
            assert_eq!(words.span_of(&Span(nanos).to_string(), "x").unwrap(), nanos);
        }
    }
}
