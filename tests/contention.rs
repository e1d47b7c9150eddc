//! Proposers that duel for one key all come to an end, and nobody starves.

mod support;

use std::time::Duration;

use support::{Cluster, Fate, Flight, get, ms, put, put_if_absent, value};
use synod::consensus::Message::Accept;
use synod::{Body, ClientId, OnNoQuorum, Outcome, Previous, RequestId, Value};

/// A small generator of its own: which messages are lost is the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// How many ballots were begun for a key.
fn ballots(cluster: &Cluster, key: &str) -> usize {
    let own = |line: &&&String| line.contains(" Prepare ");
    let mut seen: Vec<&str> = cluster
        .lines_about(key)
        .iter()
        .filter(own)
        .filter_map(|line| line.split(" b=").nth(1))
        .collect();
    seen.sort_unstable();
    seen.dedup();
    seen.len()
}

/// P-35, L6: five proposers hammer one key over links that lose every fifth message: every call is
/// answered by its deadline, most soon, and the ballots per call stay few.
#[test]
fn five_proposers_on_lossy_links_all_come_through() {
    let mut slowest = Vec::new();
    let mut unknown = 0;
    for seed in 1..=10 {
        let mut cluster = Cluster::new(5);
        let mut chance = Chance(seed * 7_919);
        cluster.rule(move |flight| {
            let lost = !flight.is_heartbeat() && chance.below(5) == 0;
            if lost { Fate::Lose } else { Fate::Deliver }
        });
        let patience = Duration::from_secs(30);
        let calls = 20;
        let mut pending: Vec<((ClientId, RequestId), Duration)> = Vec::new();
        for call in 0..calls {
            let put = put("k", &format!("v{call}"), vec![]);
            let asked = cluster.ask_with(call % 5 + 1, OnNoQuorum::Retry, patience, put);
            pending.push((asked, Duration::ZERO));
        }
        let start = cluster.now;
        while !pending.is_empty() {
            cluster.step(ms(1));
            let waited = cluster.now.since(start);
            assert!(waited <= patience, "seed {seed}: {} calls are left over", pending.len());
            pending.retain(|(asked, _)| match cluster.answered(*asked) {
                None => true,
                // Overtaken so often that the lineage no longer tells: an honest answer.
                Some(Outcome::Unknown) => {
                    unknown += 1;
                    slowest.push(waited);
                    false
                }
                Some(Outcome::Written { .. }) => {
                    slowest.push(waited);
                    false
                }
                Some(other) => panic!("seed {seed}: {other}"),
            });
        }
        let begun = ballots(&cluster, "k");
        assert!(begun <= usize::from(calls) * 12, "seed {seed}: {begun} ballots for {calls} calls");
    }
    slowest.sort_unstable();
    let (median, last) = (slowest[slowest.len() / 2], slowest[slowest.len() * 99 / 100]);
    assert!(last <= Duration::from_secs(2), "median {median:?}, p99 {last:?}");
    assert!(unknown * 4 <= slowest.len(), "{unknown} of {} calls cannot be told", slowest.len());
}

/// P-35: two proposers whose messages always cross in the worst order: the random waits break the
/// tie, where equal ones would duel for ever.
#[test]
fn two_proposers_in_lockstep_do_not_livelock() {
    let mut cluster = Cluster::new(3);
    cluster.run(Duration::from_secs(1));
    let one =
        cluster.ask_with(1, OnNoQuorum::Retry, Duration::from_secs(60), put("k", "a", vec![]));
    let two =
        cluster.ask_with(2, OnNoQuorum::Retry, Duration::from_secs(60), put("k", "b", vec![]));
    // Phase 1 of everybody is always delivered before phase 2 of anybody.
    let mut rounds = 0;
    while cluster.answered(one).is_none() || cluster.answered(two).is_none() {
        rounds += 1;
        assert!(rounds < 2_000, "livelock");
        cluster.now = cluster.now + ms(1);
        cluster.fire_timers();
        cluster.deliver(|flight| !flight.is("Accept"));
        cluster.deliver(|flight| !flight.is("Accept"));
        cluster.deliver(|_| true);
    }
    assert!(ballots(&cluster, "k") <= 40, "{}", ballots(&cluster, "k"));
    assert!(value(&cluster.call(3, get("k"))).is_some());
}

/// P4: requests of one node for one key do not race each other: those that wait follow in the round
/// of the first, in the order of asking, each with a ballot of its own.
#[test]
fn requests_of_one_node_follow_each_other() {
    let mut cluster = Cluster::new(3);
    let asked: Vec<_> =
        (0..20).map(|n| cluster.ask(1, put("k", &format!("v{n}"), vec![]))).collect();
    cluster.deliver_all();
    let versions: Vec<_> = asked
        .into_iter()
        .map(|asked| match cluster.answered(asked) {
            Some(Outcome::Written { version, .. }) => version,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(
        versions.windows(2).all(|pair| pair[1] > pair[0] && pair[1].follows(*pair[0])),
        "{versions:?}"
    );
    assert_eq!(ballots(&cluster, "k"), 1, "one promise for all");
    assert_eq!(value(&cluster.call(2, get("k"))).as_deref(), Some("v19"), "in the order of asking");
}

/// At which place of its round an accept is.
fn place(flight: &Flight) -> Option<u32> {
    let Body::Consensus(Accept { ballot, .. }) = &flight.message.body else { return None };
    Some(ballot.sequence)
}

/// P4: what a quorum has accepted has in it what it follows, though that was lost on the way.
#[test]
fn what_is_lost_takes_effect_with_what_follows() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| if place(flight) == Some(0) { Fate::Lose } else { Fate::Deliver });
    let asked = ["a", "b"].map(|value| cluster.ask(1, put("k", value, vec![])));
    cluster.deliver_all();
    let [first, second] = asked.map(|asked| cluster.answered(asked).cloned());
    let Some(Outcome::Written { version: first, .. }) = first else { panic!("{first:?}") };
    let Some(Outcome::Written { version: second, previous, .. }) = second else {
        panic!("{second:?}")
    };
    assert!(second > first && second.follows(first), "{first} {second}");
    let Previous::Known(Some(previous)) = previous else { panic!("{previous:?}") };
    assert_eq!((previous.version, &previous.value), (first, &Value::from("a")));
}

/// P4, AMB: those whose round another proposer ends are settled together, by one promise, and done
/// in the order of asking: none of them is left in doubt.
#[test]
fn followers_that_are_preempted_are_settled_together() {
    let mut cluster = Cluster::new(3);
    cluster.rule(|flight| if place(flight) >= Some(2) { Fate::Lose } else { Fate::Deliver });
    let asked: Vec<_> =
        (0..6).map(|n| cluster.ask(1, put("k", &format!("v{n}"), vec![]))).collect();
    cluster.deliver_all();
    let answered = |cluster: &Cluster| asked.iter().filter_map(|&it| cluster.answered(it)).count();
    assert_eq!(answered(&cluster), 2);
    cluster.no_rule();
    cluster.split(&[1], &[2, 3]);
    let other = cluster.call(2, put("k", "other", vec![]));
    assert!(matches!(other, Outcome::Written { .. }), "{other}");
    cluster.heal();
    cluster.run(Duration::from_secs(2));
    for &asked in &asked {
        let answer = cluster.answered(asked);
        assert!(matches!(answer, Some(Outcome::Written { .. })), "{answer:?}");
    }
    assert_eq!(value(&cluster.call(3, get("k"))).as_deref(), Some("v5"), "in the order of asking");
}

/// P-35: a proposer that stops in the middle holds nobody up.
#[test]
fn a_proposer_that_stops_in_the_middle_holds_nobody_up() {
    for kind in ["Prepare", "Promise", "Accept", "Accepted", "Commit"] {
        let mut cluster = Cluster::new(3);
        cluster.rule(move |flight| {
            let last = flight.is(kind) && flight.is_about("k");
            if last { Fate::Lose } else { Fate::Deliver }
        });
        cluster.ask(1, put("k", "a", vec![]));
        cluster.deliver_all();
        cluster.no_rule();
        cluster.crash(1);
        let asked = cluster.ask(2, put_if_absent("k", "b", vec![]));
        cluster.run(ms(250));
        assert!(cluster.answered(asked).is_some(), "stopped before {kind}");
    }
}
