//! Merged tables on real processes: what clients write to copies that answer alone, and what has to
//! be true of the copies, meanwhile and once they have met.
//!
//! It is what of the causal history can be known from outside. Each value names its write, and an
//! answer says which values it replaced: so of a write is known what it knew of, as far as that was
//! shown. Values win over removals that did not know of them in this table, so none may go but for
//! a write that replaced it. A write whose outcome nobody knows may have replaced anything of its
//! key.
//!
//! Must never know: what is done to the cluster meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::answers::number_of;
use super::client::Reply;
use super::cluster::Cluster;
use super::ledger;
use super::record::Nanos;

/// The table.
pub const TABLE: &str = "carts";
/// What it is, as `--tables` says it.
pub const DECLARED: &str = "carts:merged+update-wins";

/// So many sentences are enough.
const WRONG_MAX: usize = 20;

/// What a client asked of a key, and what came of it.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Which key.
    pub key: u32,
    /// Which node.
    pub node: u16,
    /// When it was asked.
    pub call: Nanos,
    /// When it was answered, or given up.
    pub ret: Nanos,
    /// What.
    pub what: What,
}

/// What was asked, and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was read, and showed these.
    Read(Vec<u64>),
    /// Nobody knows whether this value was written, or, with none, the key removed.
    Unknown(Option<u64>),
    /// This value was written, or, with none, the key removed, and replaced these.
    Written(Option<u64>, Vec<u64>),
}

/// What every node shows after healing.
pub type Copies = BTreeMap<u32, Vec<u64>>;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// Writes acknowledged.
    pub writes: u64,
    /// Of them, those that a write of unknown outcome may have replaced, so that nothing is asked
    /// of them.
    pub excused: u64,
    /// Reads judged, those that a write tells of as well.
    pub reads: u64,
    /// Keys in conflict at the end.
    pub conflicts: u64,
    /// Milliseconds from healing to equal copies, the start of nodes that were down included.
    pub equal_ms: u64,
}

/// The values in an answer, in order.
///
/// # Errors
/// If it is none of a merged table, or shows what nobody wrote.
pub fn values_of(reply: &Reply) -> Result<Vec<u64>, String> {
    let strange = || format!("not an answer of a merged table: {reply:.120?}");
    let Some(Reply::List(rows)) = reply.field("rows") else { return Err(strange()) };
    let mut values = Vec::new();
    for row in rows {
        let Some(Reply::List(shown)) = row.field("values") else { return Err(strange()) };
        for shown in shown {
            let text = shown.text("value").ok_or_else(strange)?;
            values.push(number_of(text)?);
        }
    }
    values.sort_unstable();
    Ok(values)
}

/// Waits until every node shows the same of every key.
pub(super) fn wait_equal(
    cluster: &Cluster,
    keys: &[String],
    within: Duration,
    over: &dyn Fn() -> bool,
) -> Result<Copies, String> {
    let begin = Instant::now();
    loop {
        let mut copies = Vec::new();
        for node in cluster.numbers() {
            copies.push((node, copy_of(cluster, node, keys)?));
        }
        let (first, copy) = copies.remove(0);
        let differs = copies.iter().find(|(_, other)| *other != copy);
        let Some((node, other)) = differs else { return Ok(copy) };
        if begin.elapsed() > within || over() {
            let key = copy.keys().find(|key| copy.get(key) != other.get(key)).copied();
            let key = key.unwrap_or_default();
            return Err(format!(
                "copies are not equal after {within:?}: {} is {:?} at node {first} and {:?} at \
                 node {node}",
                keys[key as usize], copy[&key], other[&key]
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn copy_of(cluster: &Cluster, node: u16, keys: &[String]) -> Result<Copies, String> {
    let words = |key: &String| ["SYNOD.GET", key, "TABLE", TABLE].map(str::to_owned).to_vec();
    let requests: Vec<Vec<String>> = keys.iter().map(words).collect();
    let replies = ledger::ask(cluster, node, &requests)?;
    let values = replies.iter().map(values_of).collect::<Result<Vec<_>, String>>();
    let values = values.map_err(|why| format!("node {node} of a healed cluster: {why}"))?;
    Ok((0..).zip(values).collect())
}

/// Of one key, what is known of its writes.
#[derive(Default)]
struct Known<'a> {
    /// Everything about it.
    deeds: Vec<&'a Deed>,
    /// Who wrote each value, and whether that is certain.
    wrote: BTreeMap<u64, &'a Deed>,
    /// By what each value was replaced.
    replaced: BTreeMap<u64, Vec<&'a Deed>>,
    /// When the first write was asked for of which nobody knows the outcome.
    doubt: Option<Nanos>,
}

impl<'a> Known<'a> {
    fn add(&mut self, deed: &'a Deed) {
        self.deeds.push(deed);
        match &deed.what {
            What::Read(_) => {}
            What::Unknown(value) => {
                self.doubt = Some(self.doubt.map_or(deed.call, |doubt| doubt.min(deed.call)));
                self.wrote.extend(value.map(|value| (value, deed)));
            }
            What::Written(value, replaced) => {
                self.wrote.extend(value.map(|value| (value, deed)));
                for value in replaced {
                    self.replaced.entry(*value).or_default().push(deed);
                }
            }
        }
    }

    fn replaced_by(&self, value: u64) -> impl Iterator<Item = &'a Deed> {
        self.replaced.get(&value).into_iter().flatten().copied()
    }

    /// What is wrong with showing `shown` between `call` and `ret` at `node`, or, with none, at all
    /// of them after everything.
    fn judge(
        &self,
        shown: &BTreeSet<u64>,
        node: Option<u16>,
        (call, ret): (Nanos, Nanos),
    ) -> Option<String> {
        let here = |deed: &Deed| node.is_none_or(|node| deed.node == node);
        for value in shown {
            match self.wrote.get(value) {
                None => return Some(format!("{value}, which nobody wrote")),
                Some(wrote) if wrote.call > ret => {
                    return Some(format!("{value} before it was written"));
                }
                Some(_) => {}
            }
            let over = self.replaced_by(*value).find(|deed| here(deed) && deed.ret < call);
            if let Some(over) = over {
                return Some(format!("{value}, which was replaced at node {}", over.node));
            }
        }
        let is_missing = |value: &u64, wrote: &Deed| {
            matches!(wrote.what, What::Written(..))
                && here(wrote)
                && wrote.ret < call
                && !shown.contains(value)
                && self.doubt.is_none_or(|doubt| doubt > ret)
                && !self.replaced_by(*value).any(|deed| deed.call < ret)
        };
        let missing = self.wrote.iter().find(|(value, wrote)| is_missing(value, wrote));
        missing.map(|(value, wrote)| {
            format!("not {value}, which node {} has acknowledged and nothing replaced", wrote.node)
        })
    }
}

/// Judges what clients were told, and what is there at the end, if that is known. What is wrong,
/// each in a sentence.
pub(super) fn judge(
    keys: &[String],
    deeds: &[Deed],
    copies: Option<&Copies>,
) -> (Found, Vec<String>) {
    let mut known: BTreeMap<u32, Known<'_>> = BTreeMap::new();
    for deed in deeds {
        known.entry(deed.key).or_default().add(deed);
    }
    let (mut found, mut wrong) = (Found::default(), Vec::new());
    for (key, known) in &known {
        let name = &keys[*key as usize];
        for deed in &known.deeds {
            let shown = match &deed.what {
                What::Read(shown) => shown,
                What::Unknown(_) => continue,
                // It has seen what it replaced.
                What::Written(value, replaced) => {
                    found.writes += 1;
                    let in_doubt = value.is_some() && known.doubt.is_some();
                    found.excused += u64::from(in_doubt);
                    replaced
                }
            };
            found.reads += 1;
            let shown = shown.iter().copied().collect();
            if let Some(why) = known.judge(&shown, Some(deed.node), (deed.call, deed.ret)) {
                wrong.push(format!("{name} at node {} shows {why}", deed.node));
            }
        }
        if let Some(shown) = copies.and_then(|copies| copies.get(key)) {
            found.conflicts += u64::from(shown.len() > 1);
            let shown = shown.iter().copied().collect();
            if let Some(why) = known.judge(&shown, None, (Nanos::MAX, Nanos::MAX)) {
                wrong.push(format!("{name} at the end shows {why}"));
            }
        }
        if wrong.len() >= WRONG_MAX {
            break;
        }
    }
    (found, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(node: u16, call: Nanos, what: What) -> Deed {
        Deed { key: 0, node, call, ret: call + 5, what }
    }

    fn put(node: u16, call: Nanos, value: u64, replaced: &[u64]) -> Deed {
        deed(node, call, What::Written(Some(value), replaced.to_vec()))
    }

    fn wrong(deeds: &[Deed], at_the_end: &[u64]) -> Vec<String> {
        let copies = Copies::from([(0, at_the_end.to_vec())]);
        judge(&["c0".to_owned()], deeds, Some(&copies)).1
    }

    #[test]
    fn what_copies_may_show_passes() {
        // Two wrote apart; one more knew of both.
        let apart = [put(1, 10, 1, &[]), put(2, 20, 2, &[])];
        assert_eq!(wrong(&apart, &[1, 2]), [""; 0]);
        let mut ended = apart.to_vec();
        ended.push(put(2, 30, 3, &[1, 2]));
        assert_eq!(wrong(&ended, &[3]), [""; 0]);
        // A removal takes what it knew of.
        ended.push(deed(1, 40, What::Written(None, vec![3])));
        assert_eq!(wrong(&ended, &[]), [""; 0]);
        // Who knows what a write without an answer has replaced.
        let doubtful = [put(1, 10, 1, &[]), deed(2, 20, What::Unknown(Some(2)))];
        for shown in [&[1, 2][..], &[1], &[2], &[]] {
            assert_eq!(wrong(&doubtful, shown), [""; 0]);
        }
        // Another copy is behind.
        let behind = [put(1, 10, 1, &[]), deed(2, 20, What::Read(vec![]))];
        assert_eq!(wrong(&behind, &[1]), [""; 0]);
    }

    #[test]
    fn what_copies_must_not_show_is_found() {
        let one = put(1, 10, 1, &[]);
        let over = put(1, 30, 3, &[1]);
        for (deeds, shown, says) in [
            (vec![one.clone()], vec![], "c0 at the end shows not 1"),
            (vec![one.clone()], vec![1, 7], "c0 at the end shows 7, which nobody wrote"),
            (vec![one.clone(), over.clone()], vec![1, 3], "shows 1, which was replaced at node 1"),
            (vec![one.clone(), over.clone()], vec![1], "shows 1, which was replaced"),
            (
                vec![one.clone(), deed(1, 20, What::Read(vec![]))],
                vec![1],
                "c0 at node 1 shows not 1, which node 1 has acknowledged",
            ),
            (
                vec![one.clone(), over, deed(1, 40, What::Read(vec![1]))],
                vec![3],
                "c0 at node 1 shows 1, which was replaced",
            ),
            (
                vec![deed(2, 1, What::Read(vec![1])), one.clone()],
                vec![1],
                "c0 at node 2 shows 1 before it was written",
            ),
            // What it replaced is what it has seen.
            (vec![one, put(1, 20, 2, &[])], vec![1, 2], "c0 at node 1 shows not 1"),
        ] {
            let found = wrong(&deeds, &shown);
            assert!(found.iter().any(|it| it.contains(says)), "{says}: {found:?}");
        }
    }
}
