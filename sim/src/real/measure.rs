//! What users wait for when something ends: measured on real processes, and told with how.
//!
//! Must never know: how a cluster is judged.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::client::{Connection, Lost, Reply};
use super::cluster::Cluster;
use super::record::Nanos;

/// Durations in milliseconds: how many, the middle one, a long one, and the longest.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub count: usize,
    /// Half are no longer.
    pub median_ms: f64,
    /// Of a hundred, one is longer.
    pub p99_ms: f64,
    /// None is longer.
    pub max_ms: f64,
}

impl Spread {
    /// Of durations in nanoseconds.
    #[must_use]
    pub fn of(mut nanos: Vec<Nanos>) -> Self {
        nanos.sort_unstable();
        let ms = |nanos: Option<&Nanos>| *nanos.unwrap_or(&0) as f64 / 1e6;
        let at = |percent: usize| ms(nanos.get(nanos.len().saturating_sub(1) * percent / 100));
        Self { count: nanos.len(), median_ms: at(50), p99_ms: at(99), max_ms: ms(nanos.last()) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms in the middle, ", self.median_ms)?;
        // Of fewer it is the longest, or not much else.
        if self.count >= 100 {
            write!(f, "{:.1} ms at the 99th percentile, ", self.p99_ms)?;
        }
        write!(f, "{:.1} ms at most, of {}", self.max_ms, self.count)
    }
}

/// How long nobody's write succeeded.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gaps {
    /// The longest in the three seconds after one node was killed -9, for each such kill: between
    /// two acknowledged writes of any clients.
    pub after_a_kill: Spread,
    /// The same in the three seconds before those kills.
    pub before_a_kill: Spread,
}

/// How long after a kill its effect is looked for.
const WINDOW: Nanos = 3_000_000_000;

/// The longest time between two neighbours.
fn longest(times: Option<&[Nanos]>) -> Option<Nanos> {
    times?.windows(2).map(|pair| pair[1] - pair[0]).max()
}

/// The gaps around kills, from the times of all acknowledged writes and of kills.
///
/// Only kills count before and after which nothing else was done to the cluster for that long.
#[must_use]
pub fn gaps(mut done: Vec<Nanos>, kills: &[Nanos], troubles: &[(Nanos, Nanos)]) -> Gaps {
    done.sort_unstable();
    let calm = |kill: Nanos| {
        let (from, to) = (kill.saturating_sub(WINDOW), kill + WINDOW);
        let near = troubles.iter().filter(|(start, end)| *start <= to && *end >= from);
        // Itself.
        near.count() <= 1
    };
    let calm: Vec<Nanos> = kills.iter().copied().filter(|kill| calm(*kill)).collect();
    let place = |time: Nanos| done.partition_point(|success| *success <= time);
    // From the last success before it to the first one after the window; none if it ended there.
    let after = |kill: Nanos| longest(done.get(place(kill).checked_sub(1)?..=place(kill + WINDOW)));
    let before = |kill: Nanos| longest(done.get(place(kill.saturating_sub(WINDOW))..place(kill)));
    Gaps {
        after_a_kill: Spread::of(calm.iter().filter_map(|kill| after(*kill)).collect()),
        before_a_kill: Spread::of(calm.iter().filter_map(|kill| before(*kill)).collect()),
    }
}

/// From the end of something to its key being gone for a linearizable reader at another node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Endings {
    /// After `SYNOD.SESSION CLOSE` was sent.
    pub session_closed: Spread,
    /// After the connection of a client with no grace time ended.
    pub client_died: Spread,
    /// After the node that hosts the session was killed -9; it stays away.
    pub node_died: Spread,
}

const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a node, for as long as the rig is patient.
fn dial(cluster: &Cluster, node: u16) -> Result<Connection, Lost> {
    Connection::dial(cluster.clients_address(node), PATIENCE)
}

/// Opens a session without grace time and binds a key to it.
fn bind(connection: &mut Connection, key: &str) -> Result<String, String> {
    let lost = |lost: Lost| lost.to_string();
    let opened = connection.call(&["SYNOD.SESSION", "OPEN", "GRACE", "0"], PATIENCE);
    let opened = opened.map_err(lost)?;
    let session = opened.text("session").ok_or_else(|| format!("{opened:?}"))?.to_owned();
    let put = ["SYNOD.PUT", key, "1", "SESSION", &session];
    let reply = connection.call(&put, PATIENCE).map_err(lost)?;
    if matches!(reply, Reply::Map(_)) {
        return Ok(session);
    }
    Err(format!("a key cannot be bound: {reply:?}"))
}

/// Reads the key again and again until it is gone; how long since `begin`.
fn gone(reader: &mut Connection, key: &str, begin: Instant) -> Result<Nanos, String> {
    loop {
        let reply = reader.call(&["GET", key], PATIENCE).map_err(|lost| lost.to_string())?;
        let since = begin.elapsed();
        if reply == Reply::Nothing {
            return Ok(since.as_nanos() as u64);
        }
        if !matches!(reply, Reply::Text(_)) || since > PATIENCE {
            return Err(format!("{key} after {since:?}: {reply:?}"));
        }
    }
}

/// Measures endings on a healthy cluster that nobody else uses; afterwards it is healthy again.
///
/// # Errors
/// What went wrong.
pub fn endings(
    cluster: &mut Cluster,
    rounds: u32,
    over: &dyn Fn() -> bool,
) -> Result<Endings, String> {
    let nodes: Vec<u16> = cluster.numbers().collect();
    let (mut closed, mut died, mut killed) = (Vec::new(), Vec::new(), Vec::new());
    let lost = |lost: Lost| lost.to_string();
    for round in 0..rounds {
        let host = nodes[round as usize % nodes.len()];
        let other = nodes[(round as usize + 1) % nodes.len()];
        let mut reader = dial(cluster, other).map_err(lost)?;
        let key = format!("closed-{round}");
        let mut owner = dial(cluster, host).map_err(lost)?;
        let session = bind(&mut owner, &key)?;
        let begin = Instant::now();
        owner.call(&["SYNOD.SESSION", "CLOSE", &session], PATIENCE).map_err(lost)?;
        closed.push(gone(&mut reader, &key, begin)?);
        let key = format!("died-{round}");
        bind(&mut owner, &key)?;
        let begin = Instant::now();
        drop(owner);
        died.push(gone(&mut reader, &key, begin)?);
        if over() {
            return Err("stopped".to_owned());
        }
    }
    // A node's death takes seconds to be certain of.
    for round in 0..rounds.div_ceil(4) {
        let host = nodes[round as usize % nodes.len()];
        let other = nodes[(round as usize + 1) % nodes.len()];
        let mut reader = dial(cluster, other).map_err(lost)?;
        let key = format!("killed-{round}");
        let mut owner = dial(cluster, host).map_err(lost)?;
        bind(&mut owner, &key)?;
        let begin = Instant::now();
        cluster.kill(host);
        killed.push(gone(&mut reader, &key, begin)?);
        cluster.start(host).map_err(|error| error.to_string())?;
        cluster.wait_ready(Duration::from_secs(60), over)?;
    }
    Ok(Endings {
        session_closed: Spread::of(closed),
        client_died: Spread::of(died),
        node_died: Spread::of(killed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_between_two_successes() {
        let second = 1_000_000_000;
        // One write every 10 ms, but none between 5.0 and 5.4 s.
        let done: Vec<Nanos> = (0..1_000)
            .map(|place| place * second / 100)
            .filter(|time| !(5 * second + 1..5 * second + 400_000_000).contains(time))
            .collect();
        let kill = 5 * second + 5_000_000;
        let gaps = gaps(done.clone(), &[kill], &[(kill, kill)]);
        assert_eq!(gaps.after_a_kill.count, 1);
        assert_eq!(gaps.after_a_kill.max_ms, 400.0);
        assert_eq!(gaps.before_a_kill.max_ms, 10.0);
        let busy = super::gaps(done, &[kill], &[(kill, kill), (kill + second, kill + second)]);
        assert_eq!(busy.after_a_kill.count, 0, "two things happened");
    }

    #[test]
    fn a_spread_has_a_middle_and_an_end() {
        let spread = Spread::of(vec![3_000_000, 1_000_000, 2_000_000, 9_000_000]);
        assert_eq!((spread.count, spread.median_ms, spread.max_ms), (4, 2.0, 9.0));
        assert_eq!(Spread::of(Vec::new()).count, 0);
    }
}
