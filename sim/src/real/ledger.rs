//! After everything is healed: reads all that was written, from every node.
//!
//! Must never know: what was done to the cluster before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::answers::{self, Told, number_of};
use super::client::{Connection, Reply};
use super::cluster::Cluster;
use super::record::Call;
use super::workload::{Notes, Shared};
use crate::history::Action;

/// How many questions are under way at a time, and how long they may take.
const PAGE: usize = 200;
const WITHIN: Duration = Duration::from_secs(20);

/// The client that reads everything at the end.
pub(super) const READER: u32 = u32::MAX >> 8;

/// Asks a node many things; each answer in order.
pub(super) fn ask(
    cluster: &Cluster,
    node: u16,
    requests: &[Vec<String>],
) -> Result<Vec<Reply>, String> {
    let lost = |lost| format!("node {node} of a healed cluster does not answer: {lost}");
    let mut connection = Connection::dial(cluster.clients_address(node), WITHIN).map_err(lost)?;
    let mut replies = Vec::with_capacity(requests.len());
    for page in requests.chunks(PAGE) {
        let page: Vec<Vec<&str>> =
            page.iter().map(|words| words.iter().map(String::as_str).collect()).collect();
        let page = page.iter().map(Vec::as_slice);
        replies.extend(connection.call_all(page, WITHIN).map_err(lost)?);
    }
    Ok(replies)
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// The table option of a contended key.
fn table_of(key: &str) -> [&str; 2] {
    ["TABLE", if key.starts_with("once") { "once" } else { "kv" }]
}

/// Acknowledged writes that a node does not show, each in a sentence.
pub(super) fn missing(
    cluster: &Cluster,
    node: u16,
    written: &[(String, u64)],
    over: &dyn Fn() -> bool,
) -> Result<Vec<String>, String> {
    let mut missing = Vec::new();
    for page in written.chunks(PAGE * 10) {
        if over() {
            return Err("stopped".to_owned());
        }
        let requests: Vec<_> = page.iter().map(|(key, _)| words(["GET", key])).collect();
        let replies = ask(cluster, node, &requests)?;
        for ((key, value), reply) in page.iter().zip(replies) {
            if let Reply::Error(code, why) = &reply {
                return Err(format!("node {node} of a healed cluster: {code} {why}"));
            }
            if !matches!(&reply, Reply::Text(text) if number_of(text) == Ok(*value)) {
                missing.push(format!(
                    "an acknowledged write is lost: {key} at node {node} is {reply:.60?}"
                ));
            }
        }
    }
    Ok(missing)
}

/// Waits until no key is bound to a session or a deadline: all of those have ended.
pub(super) fn wait_unbound(
    cluster: &Cluster,
    shared: &Shared,
    within: Duration,
    over: &dyn Fn() -> bool,
) -> Result<Duration, String> {
    let begin = Instant::now();
    let node = cluster.numbers().next().unwrap_or(1);
    let mut keys = shared.key_names();
    loop {
        let mut rest = Vec::new();
        let mut last = String::new();
        for page in keys.chunks(PAGE) {
            let requests = page.iter().map(|key| {
                let [option, table] = table_of(key);
                words(["SYNOD.BINDING", key, option, table])
            });
            let requests: Vec<_> = requests.collect();
            for (key, reply) in page.iter().zip(ask(cluster, node, &requests)?) {
                let text = format!("{reply:?}");
                if text.contains("SESSION") || text.contains("UNTIL") || text.contains("Error") {
                    last = format!("{key}: {text}");
                    rest.push(key.clone());
                }
            }
        }
        if rest.is_empty() {
            return Ok(begin.elapsed());
        }
        if begin.elapsed() > within || over() {
            return Err(format!(
                "{} keys outlive what they are bound to by {within:?}; {last}",
                rest.len()
            ));
        }
        keys = rest;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reads every contended key from every node, for the judge.
pub(super) fn read_all(cluster: &Cluster, shared: &Shared) -> Result<Notes, String> {
    let mut notes = Notes::default();
    let keys = shared.key_names();
    for node in cluster.numbers() {
        for (page, start) in keys.chunks(PAGE).zip((0..).step_by(PAGE)) {
            let requests: Vec<_> = page
                .iter()
                .map(|key| {
                    let [option, table] = table_of(key);
                    words(["SYNOD.GET", key, option, table])
                })
                .collect();
            let call = shared.now();
            let replies = ask(cluster, node, &requests)?;
            let ret = shared.now();
            for (key, reply) in (start..).zip(replies) {
                let told = answers::read(Action::Get, &reply);
                let Told::Outcome(outcome) = told else {
                    return Err(format!("node {node} of a healed cluster: {told:?}"));
                };
                notes.calls.push(Call {
                    client: READER,
                    number: notes.calls.len() as u64,
                    key,
                    action: Action::Get,
                    bound_to: None,
                    call,
                    ret,
                    outcome,
                });
            }
        }
    }
    Ok(notes)
}

/// The number of each node's own session, where it can be asked.
pub(super) fn lives(cluster: &Cluster) -> BTreeMap<u16, u64> {
    let mut lives = BTreeMap::new();
    for node in cluster.numbers() {
        if let Ok(status) = cluster.status(node, Duration::from_secs(2))
            && let Some(Reply::Number(number)) = status.field("node_session")
        {
            lives.insert(node, *number as u64);
        }
    }
    lives
}

/// Nodes that have lost their memory take no part, and say so.
pub(super) fn memory_refuses(cluster: &Cluster, killed: &[u16]) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(20);
    for &node in killed {
        loop {
            let status = cluster.status(node, Duration::from_secs(2));
            let ready = status.as_ref().ok().and_then(|status| status.field("ready"));
            if ready == Some(&Reply::Flag(true)) {
                return Err(format!("node {node} has lost its state and says that it is ready"));
            }
            let readiness = status.as_ref().ok().and_then(|status| status.text("readiness"));
            if readiness.is_some_and(|text| text.contains("lost")) {
                break;
            }
            if Instant::now() >= until {
                return Err(format!("node {node} has lost its state and says {status:?}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}
