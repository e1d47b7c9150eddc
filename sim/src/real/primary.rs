//! A primary table on real processes: what clients write to it and read of it, and what has to be
//! true of that, whoever was primary meanwhile.
//!
//! Every answer tells its place in the table's one order, and every write has a value of its own.
//! Once it is known what became of each write, the order is known to the last entry, and what any
//! read showed, at any replica, must be exactly what the table held at that place.
//!
//! Must never know: what is done to the cluster meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::answers::number_of;
use super::client::Reply;
use super::cluster::Cluster;
use super::ledger::{self, READER};
use super::record::{Nanos, show};

/// The table.
pub const TABLE: &str = "orders";
/// What it is, as `--tables` says it.
pub const DECLARED: &str = "orders:primary";

/// Each request is answered within this time on the clock of the node that was asked.
pub const WITHIN: Duration = Duration::from_secs(1);
/// How much longer a machine that is shared may take until the answer is read by who asked.
pub const SLACK: Duration = Duration::from_secs(1);

/// So many sentences are enough.
const WRONG_MAX: usize = 20;

/// What a client asked, and what came of it.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Who asked.
    pub client: u32,
    /// About which key.
    pub key: u32,
    /// Who answered.
    pub node: u16,
    /// When it was asked first.
    pub call: Nanos,
    /// When it was answered.
    pub ret: Nanos,
    /// What.
    pub what: What,
}

/// What was asked, and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was read.
    Read {
        /// Whether the answer must be of a moment of the call.
        linearizable: bool,
        /// The latest place that the client had been shown and asked for.
        seen: u64,
        /// As of where.
        place: u64,
        /// What it had.
        value: Option<u64>,
    },
    /// This value was written, or, with none, the key removed.
    Write(Option<u64>, Fate),
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was committed.
    Done {
        /// Where.
        place: u64,
        /// In whose reign.
        reign: u64,
        /// Whether there was a value before it.
        existed: bool,
    },
    /// It has had no effect, and will have none.
    Never,
    /// Nobody knows.
    Unknown,
}

/// A write of which it is not known what became of it, and how to ask.
#[derive(Clone, Debug)]
pub struct Doubt {
    /// As far as it is known.
    pub deed: Deed,
    /// The name of its request.
    pub request: [String; 2],
    /// A place from before it was asked first.
    pub since: u64,
    /// The same question.
    pub words: Vec<String>,
}

impl Doubt {
    /// To ask what became of it, and see to it that nothing will if nothing has.
    #[must_use]
    pub fn resolve(&self) -> Vec<String> {
        let [client, number] = &self.request;
        let since = self.since.to_string();
        let words =
            ["SYNOD.RESOLVE", client, number, "TABLE", TABLE, "FOLLOW", "SEEN", &since, "PATIENCE"];
        words.into_iter().map(str::to_owned).chain([WITHIN.as_millis().to_string()]).collect()
    }
}

/// One attempt that was answered late, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// Who was asked.
    pub node: u16,
    /// When.
    pub call: Nanos,
    /// When it was answered, or given up.
    pub ret: Nanos,
}

/// What one client noted.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// What it asked.
    pub deeds: Vec<Deed>,
    /// What it asked and has no answer to.
    pub doubts: Vec<Doubt>,
    /// What took too long, whatever the reason.
    pub late: Vec<Late>,
    /// How long the longest answer took.
    pub longest: Nanos,
    /// Writes asked again although they were answered, for the same answer.
    pub repeated: u64,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Found {
    /// Writes committed.
    pub writes: u64,
    /// Writes refused, or resolved as not done.
    pub refused: u64,
    /// Writes of which nobody could say what became of them: what is read of their keys is not
    /// judged.
    pub unknown: u64,
    /// Reads judged.
    pub reads: u64,
    /// Of them, linearizable.
    pub linearizable: u64,
    /// Writes asked again after their answer.
    pub repeated: u64,
    /// Reigns in which something was committed.
    pub reigns: u64,
    /// Milliseconds that the longest answer took, at nodes that were stopped meanwhile as well.
    pub longest_ms: f64,
}

/// What a client is told of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// This became of it.
    Fate(Fate),
    /// This attempt had no effect.
    Refused,
    /// Something that makes no sense here.
    Strange(String),
}

const fn number(reply: Option<&Reply>) -> Option<u64> {
    match reply {
        Some(Reply::Number(number)) if *number >= 0 => Some(*number as u64),
        _ => None,
    }
}

fn strange(reply: &Reply) -> String {
    format!("not an answer of a primary table: {reply:.120?}")
}

/// Reads the answer to a write, or to the question what became of it.
pub(super) fn told(reply: &Reply) -> Told {
    if let Reply::Error(code, why) = reply {
        return match code.as_str() {
            "BUSY" | "NOREPLICA" | "NOTINTIME" | "NOTPRIMARY" | "NOTREADY" => Told::Refused,
            "RESOLVED" => Told::Fate(Fate::Never),
            "UNKNOWN" => Told::Fate(Fate::Unknown),
            _ => Told::Strange(format!("{code} {why}")),
        };
    }
    let (place, reign) = (number(reply.field("place")), number(reply.field("reign")));
    match (place, reign, reply.field("existed")) {
        (Some(place), Some(reign), Some(Reply::Flag(existed))) => {
            Told::Fate(Fate::Done { place, reign, existed: *existed })
        }
        _ => Told::Strange(strange(reply)),
    }
}

/// Reads the answer to a read: as of where, and what it had. None if there was none.
pub(super) fn shown(reply: &Reply) -> Result<Option<(u64, Option<u64>)>, String> {
    if let Reply::Error(code, why) = reply {
        return match code.as_str() {
            "BUSY" | "NOREPLICA" | "NOTINTIME" | "NOTPRIMARY" | "NOTREADY" | "UNKNOWN" => Ok(None),
            _ => Err(format!("{code} {why}")),
        };
    }
    let place = number(reply.field("place")).ok_or_else(|| strange(reply))?;
    let value = match reply.field("value") {
        Some(Reply::Nothing) => None,
        Some(Reply::Text(text)) => Some(number_of(text)?),
        _ => return Err(strange(reply)),
    };
    Ok(Some((place, value)))
}

/// Who says that it is primary, in which reign, and how many are in sync, of those that answer.
pub(super) fn leader(cluster: &Cluster) -> Option<(u16, u64, usize)> {
    let ask = [["SYNOD.PRIMARY", "TABLE", TABLE].map(str::to_owned).to_vec()];
    let of = |node| {
        let reply = ledger::ask(cluster, node, &ask).ok()?.pop()?;
        let Some(Reply::List(in_sync)) = reply.field("in_sync") else { return None };
        let reign = number(reply.field("reign"))?;
        (reply.text("role") == Some("primary")).then_some((node, reign, in_sync.len()))
    };
    let running = cluster.numbers().filter(|node| cluster.is_running(*node));
    // One that has not heard yet that it is one no more may say so as well.
    running.filter_map(of).max_by_key(|(_, reign, _)| *reign)
}

/// After everything is healed: learns what became of every write, and reads every key at every
/// replica, as of a place behind everything acknowledged.
pub(super) fn settle(
    cluster: &Cluster,
    keys: &[String],
    noted: &mut [&mut Noted],
    now: &dyn Fn() -> Nanos,
    within: Duration,
    over: &dyn Fn() -> bool,
) -> Result<(), String> {
    let until = Instant::now() + within;
    for noted in &mut *noted {
        resolve(cluster, noted, now, until, over)?;
    }
    let done = noted.iter().flat_map(|noted| &noted.deeds);
    let last = done.filter_map(|deed| place_of(deed.what)).max().unwrap_or(0);
    let Some(first) = noted.first_mut() else { return Ok(()) };
    let seen = last.to_string();
    let words = |key: &String| {
        let words = ["SYNOD.GET", key, "TABLE", TABLE, "SEEN", &seen];
        words.map(str::to_owned).to_vec()
    };
    for node in cluster.numbers() {
        let mut rest: Vec<u32> = (0..keys.len() as u32).collect();
        while !rest.is_empty() {
            let call = now();
            let page: Vec<u32> = rest.iter().copied().take(PAGE).collect();
            let requests: Vec<_> = page.iter().map(|key| words(&keys[*key as usize])).collect();
            let replies = ledger::ask(cluster, node, &requests)?;
            let ret = now();
            let mut again = Vec::new();
            for (key, reply) in page.into_iter().zip(replies) {
                let at = |why| format!("{} at node {node}: {why}", keys[key as usize]);
                let Some((place, value)) = shown(&reply).map_err(at)? else {
                    if Instant::now() >= until || over() {
                        return Err(at(format!("not as of {seen} after {within:?}: {reply:?}")));
                    }
                    again.push(key);
                    continue;
                };
                let what = What::Read { linearizable: false, seen: last, place, value };
                first.deeds.push(Deed { client: READER, key, node, call, ret, what });
            }
            rest.drain(..rest.len().min(PAGE));
            rest.append(&mut again);
        }
    }
    Ok(())
}

const PAGE: usize = 2_000;

/// Asks what became of everything that a client was not told of.
fn resolve(
    cluster: &Cluster,
    noted: &mut Noted,
    now: &dyn Fn() -> Nanos,
    until: Instant,
    over: &dyn Fn() -> bool,
) -> Result<(), String> {
    for mut doubt in std::mem::take(&mut noted.doubts) {
        let begin = Instant::now();
        loop {
            let node = cluster.numbers().next().unwrap_or(1);
            let replies = ledger::ask(cluster, node, &[doubt.resolve()])?;
            let Some(reply) = replies.first() else { break };
            // What is so old that it is forgotten stays unknown, however often it is asked.
            let forgotten = begin.elapsed() > WITHIN * 5;
            match told(reply) {
                Told::Fate(fate) if fate != Fate::Unknown || forgotten => {
                    doubt.deed.ret = now();
                    if let What::Write(_, known) = &mut doubt.deed.what {
                        *known = fate;
                    }
                    break;
                }
                Told::Strange(why) => return Err(format!("SYNOD.RESOLVE: {why}")),
                Told::Fate(_) | Told::Refused if Instant::now() >= until || over() => {
                    return Err(format!("a write cannot be resolved: {reply:.120?}"));
                }
                Told::Fate(_) | Told::Refused => {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        noted.deeds.push(doubt.deed);
    }
    Ok(())
}

const fn place_of(what: What) -> Option<u64> {
    match what {
        What::Read { place, .. } | What::Write(_, Fate::Done { place, .. }) => Some(place),
        What::Write(_, Fate::Never | Fate::Unknown) => None,
    }
}

/// Of one key, what is known of its writes.
#[derive(Default)]
struct Known {
    /// What it came to hold, by where.
    states: BTreeMap<u64, Option<u64>>,
    /// Of these values nobody knows whether they were ever there; or of removals.
    doubtful: bool,
    refused: BTreeSet<u64>,
}

impl Known {
    fn before(&self, place: u64) -> Option<u64> {
        self.states.range(..place).next_back().and_then(|(_, value)| *value)
    }
}

/// Judges what clients were told. What is wrong, each in a sentence.
pub(super) fn judge(keys: &[String], deeds: &[&Deed]) -> (Found, Vec<String>) {
    let mut known: BTreeMap<u32, Known> = BTreeMap::new();
    let mut taken: BTreeMap<u64, &Deed> = BTreeMap::new();
    let (mut found, mut wrong, mut reigns) = (Found::default(), Vec::new(), BTreeSet::new());
    for deed in deeds {
        let What::Write(value, fate) = deed.what else { continue };
        let known = known.entry(deed.key).or_default();
        match fate {
            Fate::Done { place, reign, .. } => {
                found.writes += 1;
                reigns.insert(reign);
                known.states.insert(place, value);
                if let Some(other) = taken.insert(place, deed) {
                    let (one, other) = (said(keys, deed), said(keys, other));
                    wrong.push(format!("two writes at place {place}: {one} and {other}"));
                }
            }
            Fate::Never => {
                found.refused += 1;
                known.refused.extend(value);
            }
            Fate::Unknown => {
                found.unknown += 1;
                known.doubtful = true;
            }
        }
    }
    found.reigns = reigns.len() as u64;
    for deed in deeds {
        if let What::Read { linearizable, .. } = deed.what {
            found.reads += 1;
            found.linearizable += u64::from(linearizable);
        }
        let none = Known::default();
        let known = known.get(&deed.key).unwrap_or(&none);
        wrong.extend(unlike(keys, deed, known));
        if wrong.len() >= WRONG_MAX {
            return (found, wrong);
        }
    }
    wrong.extend(out_of_time(keys, deeds));
    wrong.truncate(WRONG_MAX);
    (found, wrong)
}

/// What an answer says of the key that is not what the order says.
fn unlike(keys: &[String], deed: &Deed, known: &Known) -> Option<String> {
    let one = || said(keys, deed);
    match deed.what {
        What::Read { seen, place, .. } if place < seen => {
            Some(format!("{} as of {place}, and had been shown {seen}", one()))
        }
        _ if known.doubtful => None,
        What::Read { place, value, .. } => {
            let held = known.before(place + 1);
            let refused = value.is_some_and(|value| known.refused.contains(&value));
            let refused = if refused { ", which was refused," } else { "" };
            let text = |value: Option<u64>| value.map_or_else(|| "nothing".to_owned(), show);
            (value != held).then(|| {
                format!(
                    "{}: {}{refused} as of {place}, where it held {}",
                    one(),
                    text(value),
                    text(held)
                )
            })
        }
        What::Write(_, Fate::Done { place, existed, .. }) => {
            let before = known.before(place).is_some();
            (existed != before).then(|| {
                let not = if before { "a" } else { "no" };
                format!("{} at place {place}, where there was {not} value before it", one())
            })
        }
        What::Write(_, Fate::Never | Fate::Unknown) => None,
    }
}

/// Writes, and linearizable reads, that come before what had been told when they were asked.
fn out_of_time(keys: &[String], deeds: &[&Deed]) -> Vec<String> {
    let mut calls: Vec<(&Deed, u64, bool)> = Vec::new();
    let mut rets: Vec<(Nanos, u64)> = Vec::new();
    for deed in deeds {
        let Some(place) = place_of(deed.what) else { continue };
        rets.push((deed.ret, place));
        match deed.what {
            What::Read { linearizable: true, .. } => calls.push((deed, place, false)),
            What::Write(..) => calls.push((deed, place, true)),
            What::Read { .. } => {}
        }
    }
    calls.sort_unstable_by_key(|(deed, ..)| deed.call);
    rets.sort_unstable();
    let (mut rets, mut told) = (rets.into_iter().peekable(), 0);
    let mut wrong = Vec::new();
    for (deed, place, behind) in calls {
        while let Some((_, place)) = rets.next_if(|(ret, _)| *ret < deed.call) {
            told = told.max(place);
        }
        if place < told || behind && place == told {
            let one = said(keys, deed);
            wrong.push(format!("{one} at place {place}, when {told} had been told already"));
        }
    }
    wrong
}

fn said(keys: &[String], deed: &Deed) -> String {
    let verb = match deed.what {
        What::Read { .. } => "a read of".to_owned(),
        What::Write(None, _) => "a removal of".to_owned(),
        What::Write(Some(value), _) => format!("the write of {} to", show(value)),
    };
    let key = keys.get(deed.key as usize).map_or("?", String::as_str);
    format!("client {}'s {verb} {key} at node {}", deed.client, deed.node)
}

/// Attempts that were not answered in time by a node that was neither dead nor stopped: each in a
/// sentence. `still` says when which node may not have been able to answer.
pub(super) fn not_in_time(late: &[Late], still: &[(u16, Nanos, Nanos)]) -> Vec<String> {
    let excused = |late: &Late| {
        still.iter().any(|(node, since, until)| {
            *node == late.node && *since <= late.ret && *until >= late.call
        })
    };
    let late = late.iter().filter(|late| !excused(late));
    let say = |late: &Late| {
        let took = Duration::from_nanos(late.ret - late.call);
        format!("node {} had not answered within {WITHIN:?} and {SLACK:?}: {took:?}", late.node)
    };
    late.take(WRONG_MAX).map(say).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(call: Nanos, what: What) -> Deed {
        Deed { client: 1, key: 0, node: 2, call, ret: call + 5, what }
    }

    fn put(call: Nanos, value: u64, place: u64, existed: bool) -> Deed {
        deed(call, What::Write(Some(value), Fate::Done { place, reign: 1, existed }))
    }

    fn read(call: Nanos, place: u64, value: Option<u64>) -> Deed {
        deed(call, What::Read { linearizable: false, seen: 0, place, value })
    }

    fn exact(call: Nanos, place: u64, value: Option<u64>) -> Deed {
        deed(call, What::Read { linearizable: true, seen: 0, place, value })
    }

    fn wrong(deeds: &[Deed]) -> Vec<String> {
        let deeds: Vec<&Deed> = deeds.iter().collect();
        judge(&["o0".to_owned()], &deeds).1
    }

    #[test]
    fn one_order_and_its_states_pass() {
        let removed = Fate::Done { place: 9, reign: 2, existed: true };
        let deeds = [
            read(1, 3, None),
            put(10, 7, 5, false),
            // A replica that is behind shows an earlier state.
            read(20, 4, None),
            exact(20, 5, Some(7)),
            put(30, 8, 6, true),
            read(40, 5, Some(7)),
            deed(50, What::Write(None, removed)),
            deed(50, What::Write(Some(11), Fate::Never)),
            exact(60, 12, None),
        ];
        assert_eq!(wrong(&deeds), [""; 0]);
        // Of what is in doubt nothing is asked, but for the order.
        let doubtful = [deed(10, What::Write(Some(7), Fate::Unknown)), read(20, 4, Some(7))];
        assert_eq!(wrong(&doubtful), [""; 0]);
    }

    #[test]
    fn what_no_order_explains_is_found() {
        let never = deed(10, What::Write(Some(7), Fate::Never));
        let back = What::Read { linearizable: false, seen: 6, place: 5, value: None };
        for (deeds, says) in [
            (vec![put(10, 7, 5, false), put(12, 8, 5, false)], "two writes at place 5"),
            (vec![put(10, 7, 5, true)], "where there was no value before it"),
            (vec![put(10, 7, 5, false), put(20, 8, 6, false)], "where there was a value before it"),
            // An acknowledged write is lost.
            (vec![put(10, 7, 5, false), read(20, 6, None)], "nothing as of 6, where it held 0.7"),
            (vec![never, read(20, 6, Some(7))], "0.7, which was refused, as of 6"),
            (vec![deed(20, back)], "as of 5, and had been shown 6"),
            (vec![put(10, 7, 5, false), exact(20, 4, None)], "place 4, when 5 had been told"),
            (vec![read(10, 9, None), put(20, 7, 8, false)], "place 8, when 9 had been told"),
            (vec![read(10, 9, Some(3))], "0.3 as of 9, where it held nothing"),
        ] {
            let found = wrong(&deeds);
            assert!(found.iter().any(|it| it.contains(says)), "{says}: {found:?}");
        }
    }

    #[test]
    fn who_is_late_without_a_reason_is_found() {
        let second = 1_000_000_000;
        let late = Late { node: 2, call: 10 * second, ret: 13 * second };
        assert_eq!(not_in_time(&[late], &[]).len(), 1);
        assert_eq!(not_in_time(&[late], &[(1, 0, 20 * second), (2, 0, 9 * second)]).len(), 1);
        assert_eq!(not_in_time(&[late], &[(2, 12 * second, 14 * second)]), [""; 0]);
    }

    #[test]
    fn answers_are_read_as_they_are_meant() {
        let error = |code: &str| Reply::Error(code.to_owned(), "why".to_owned());
        assert_eq!(told(&error("NOTPRIMARY")), Told::Refused);
        assert_eq!(told(&error("RESOLVED")), Told::Fate(Fate::Never));
        assert_eq!(told(&error("UNKNOWN")), Told::Fate(Fate::Unknown));
        assert!(matches!(told(&error("ERR")), Told::Strange(_)));
        assert!(matches!(told(&Reply::Number(1)), Told::Strange(_)));
        let map = |pairs: &[(&str, Reply)]| {
            Reply::Map(pairs.iter().map(|(name, it)| ((*name).to_owned(), it.clone())).collect())
        };
        let done = map(&[
            ("existed", Reply::Flag(true)),
            ("place", Reply::Number(7)),
            ("reign", Reply::Number(2)),
        ]);
        let fate = Fate::Done { place: 7, reign: 2, existed: true };
        assert_eq!(told(&done), Told::Fate(fate));
        let found = map(&[("value", Reply::Text("4".to_owned())), ("place", Reply::Number(7))]);
        assert_eq!(shown(&found), Ok(Some((7, Some(4)))));
        assert_eq!(shown(&error("NOTINTIME")), Ok(None));
        assert!(shown(&error("ERR")).is_err());
        assert!(shown(&map(&[("value", Reply::Nothing)])).is_err());
    }
}
