//! A key ends with what it is bound to: everywhere, once, and never for a reason that was not
//! decided.

mod support;

use std::time::Duration;

use support::{
    Cluster, Fate, bound_to_key, get, get_local, is_invalid_binding, lives, ms, put, put_if_absent,
    remove, topic, value, won,
};
use synod::{Bind, Binding, Command, Ending, Event, Input, NodeId, Outcome, SessionId, Wall};

/// Long enough for anything that has ended to be noticed and erased, with no quorum missing.
const ERASED: Duration = Duration::from_secs(2);
/// Long enough for a silent node's session to be closed too.
const NODE_GONE: Duration = Duration::from_secs(5);

fn at(cluster: &mut Cluster, node: u16, key: &str) -> Option<String> {
    value(&cluster.call(node, get(key)))
}

/// Everywhere: by quorum from each node, and in what each node has learned.
fn is_gone(cluster: &mut Cluster, key: &str) -> bool {
    cluster.deliver_all();
    (1..=3).all(|node| {
        value(&cluster.call(node, get(key))).is_none()
            && value(&cluster.call(node, get_local(key))).is_none()
    })
}

/// P-14: the end of a session erases what is bound to it, everywhere, wherever it was put, and the
/// key is free for somebody else.
#[test]
fn a_key_ends_with_its_session() {
    for host in 1..=3 {
        for putter in 1..=3 {
            let mut cluster = Cluster::new(3);
            let session = cluster.open_session(host);
            let bound = cluster.call(putter, put_if_absent("k", "v", vec![Bind::Session(session)]));
            assert!(won(&bound), "{bound}");
            cluster.run(Duration::from_secs(10));
            assert_eq!(at(&mut cluster, putter, "k").as_deref(), Some("v"), "it lives on");
            assert_eq!(cluster.call(host, Command::CloseSession(session)), Outcome::Done);
            cluster.run(ERASED);
            assert!(is_gone(&mut cluster, "k"), "host {host}, putter {putter}");
            assert!(won(&cluster.call(putter, put_if_absent("k", "w", vec![]))));
        }
    }
}

/// P-14: a session whose client is gone, as the host says, ends like one that was closed.
#[test]
fn a_key_ends_with_its_client() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(2);
    assert!(cluster.monitored.contains(&session), "the host is asked to watch the client");
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    cluster.input(2, Input::Down { session });
    cluster.run(ERASED);
    assert!(is_gone(&mut cluster, "k"));
}

/// P-14: a session dies with its host, and so does what is bound to it.
#[test]
fn a_key_ends_with_the_host_of_its_session() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(2);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    cluster.crash(2);
    cluster.run(NODE_GONE);
    for node in [1, 3] {
        assert_eq!(at(&mut cluster, node, "k"), None);
    }
    cluster.start(2);
    cluster.run(ERASED);
    assert!(is_gone(&mut cluster, "k"));
}

/// P-14: a host that restarts at once has forgotten its sessions; they are over, though it is not.
#[test]
fn a_session_does_not_survive_its_process() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(2);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    cluster.restart(2);
    cluster.run(ERASED);
    assert!(is_gone(&mut cluster, "k"));
    let next = cluster.open_session(2);
    assert!(next.node_session > session.node_session, "and its name is never used again");
}

/// P-15: a replica cut off from the owner of a session neither erases the key nor frees it, for as
/// long as a quorum hears the owner.
#[test]
fn a_replica_that_lost_the_owner_erases_nothing() {
    for (owner, cut) in [(1, 3), (3, 1), (2, 3), (1, 2)] {
        let mut cluster = Cluster::new(3);
        let session = cluster.open_session(owner);
        let bound = vec![Bind::Session(session), Bind::Node(NodeId(owner))];
        let put = cluster.call(owner, put_if_absent("k", "v", bound));
        let before = lives(&put).expect("an entry");
        cluster.split(&[owner], &[cut]);
        for _ in 0..20 {
            cluster.run(Duration::from_secs(1));
            for node in 1..=3 {
                let seen = cluster.call(node, get("k"));
                assert_eq!(lives(&seen), Some(before), "owner {owner}, cut {cut}, at {node}");
            }
            let taken = cluster.call(cut, put_if_absent("k", "w", vec![]));
            assert!(!won(&taken), "the key is not free: {taken}");
        }
    }
}

/// P-16: a watcher is told of the end once it is decided, so whoever puts next wins, at whichever
/// node the watcher and the session are.
#[test]
fn a_watcher_told_of_the_end_can_put_at_once() {
    for (host, watcher) in [(1, 1), (1, 2), (2, 1), (2, 3), (3, 3), (3, 2)] {
        let mut cluster = Cluster::new(3);
        let session = cluster.open_session(host);
        let bound = vec![Bind::Session(session)];
        let born = cluster.call(host, put_if_absent("k", "v", bound));
        let generation = lives(&born).expect("an entry").0;
        cluster.subscribe(watcher, 50, topic("k"));
        cluster.run(ms(500));
        assert_eq!(cluster.told(50), [], "nothing has ended yet");
        cluster.input(host, Input::Down { session });
        let mut waited = 0;
        while cluster.told(50).is_empty() {
            cluster.step(ms(1));
            waited += 1;
            assert!(waited < 5_000, "host {host}, watcher {watcher}: never told");
        }
        let won_again = cluster.call(watcher, put_if_absent("k", "w", vec![]));
        assert!(won(&won_again), "host {host}, watcher {watcher}: {won_again}");
        let ending = Ending::Erased(Binding::Session(session));
        let told = Event::Ended { table: support::TABLE, key: "k".into(), generation, ending };
        assert_eq!(cluster.told(50), [told], "once");
    }
}

/// P-16: the same from the instant of the event, with every message after it delayed: the watcher's
/// put is decided by what the quorum holds, not by what has reached everybody.
#[test]
fn a_watcher_wins_against_a_replica_that_lags() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    cluster.call(1, put_if_absent("k", "v", vec![Bind::Session(session)]));
    cluster.subscribe(1, 50, topic("k"));
    cluster.split(&[3], &[1, 2]);
    cluster.input(1, Input::Down { session });
    while cluster.told(50).is_empty() {
        cluster.step(ms(1));
    }
    cluster.heal();
    cluster.split(&[2], &[1, 3]);
    let held = cluster.held(3, "k").and_then(|(.., cell)| cell).expect("the old entry");
    assert!(held.starts_with('v'), "{held}");
    let answer = cluster.call(1, put_if_absent("k", "w", vec![]));
    assert!(won(&answer), "{answer}");
}

/// P-16: a watcher is told how a life ended: removed here, unseen where it was missed.
#[test]
fn a_watcher_is_told_how_a_life_ended() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("k", "v", vec![]));
    cluster.subscribe(2, 50, topic("k"));
    cluster.run(ms(100));
    cluster.call(1, remove("k"));
    cluster.deliver_all();
    let endings = |cluster: &Cluster| -> Vec<Ending> {
        let events = cluster.told(50).into_iter();
        events
            .map(|event| {
                let Event::Ended { ending, .. } = event else { panic!("{event}") };
                ending
            })
            .collect()
    };
    assert_eq!(endings(&cluster), [Ending::Removed]);
    cluster.call(1, put("k", "w", vec![]));
    cluster.deliver_all();
    cluster.split(&[2], &[1, 3]);
    cluster.call(1, remove("k"));
    cluster.call(1, put("k", "x", vec![]));
    cluster.heal();
    cluster.run(Duration::from_secs(2));
    assert_eq!(endings(&cluster), [Ending::Removed, Ending::Unseen]);
}

/// P-17: the three cases of a binding: bound, unbound, and no entry at all; every kind of binding
/// is shown as what it names.
#[test]
fn an_entry_shows_what_it_is_bound_to() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(2);
    let parent = lives(&cluster.call(1, put_if_absent("parent", "p", vec![]))).expect("born").0;
    let until = Wall(cluster.wall() + 100_000);
    let binds = vec![
        Bind::Session(session),
        Bind::Node(NodeId(3)),
        bound_to_key("parent"),
        Bind::Until(until),
    ];
    cluster.call(1, put("bound", "v", binds));
    cluster.call(1, put("unbound", "v", vec![]));
    let bindings = |cluster: &mut Cluster, key: &str| {
        let entry = cluster.call(3, get(key)).entry().cloned();
        entry.map(|entry| entry.bindings)
    };
    assert_eq!(bindings(&mut cluster, "never"), None);
    assert_eq!(bindings(&mut cluster, "unbound"), Some(vec![]));
    let register = support::register("parent");
    let expected = vec![
        Binding::Session(session),
        Binding::Node { node: NodeId(3), session: 1 },
        Binding::Key { register, generation: parent },
        Binding::Until(until),
    ];
    assert_eq!(bindings(&mut cluster, "bound"), Some(expected));
}

/// P-18: a key bound to a node ends when the node is gone for good, and a short cut ends nothing.
#[test]
fn a_key_ends_with_its_node() {
    for node in 1..=3 {
        let mut cluster = Cluster::new(3);
        let asker = node % 3 + 1;
        let third = asker % 3 + 1;
        let bound = cluster.call(asker, put("k", "v", vec![Bind::Node(NodeId(node))]));
        assert!(matches!(bound, Outcome::Written { .. }), "{bound}");
        cluster.split(&[asker, third], &[node]);
        cluster.run(ms(1500));
        assert!(at(&mut cluster, asker, "k").is_some(), "a short cut ends nothing");
        cluster.heal();
        cluster.run(NODE_GONE);
        assert!(at(&mut cluster, asker, "k").is_some(), "nor does it later");
        cluster.crash(node);
        cluster.run(NODE_GONE);
        assert_eq!(at(&mut cluster, asker, "k"), None);
        let again = cluster.call(third, put("k", "v", vec![Bind::Node(NodeId(node))]));
        assert!(is_invalid_binding(&again), "{again}");
    }
}

/// P-19: chains end from the top down, each link once, and nothing can be bound to what is gone.
#[test]
fn dependent_keys_end_in_cascade() {
    let mut cluster = Cluster::new(3);
    for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
        cluster.subscribe(1, 50 + place as u64, topic(name));
    }
    cluster.call(1, put_if_absent("a", "1", vec![]));
    cluster.call(2, put_if_absent("b", "2", vec![bound_to_key("a")]));
    cluster.call(3, put_if_absent("c", "3", vec![bound_to_key("b")]));
    cluster.run(Duration::from_secs(5));
    assert!(at(&mut cluster, 1, "c").is_some());
    cluster.call(2, remove("a"));
    cluster.run(ERASED);
    for name in ["a", "b", "c"] {
        assert!(is_gone(&mut cluster, name), "{name}");
    }
    for client in 50..53 {
        assert_eq!(
            cluster.told(client).len(),
            1,
            "each life ends once: {:?}",
            cluster.told(client)
        );
    }
    let orphan = cluster.call(1, put_if_absent("d", "4", vec![bound_to_key("a")]));
    assert!(is_invalid_binding(&orphan), "{orphan}");
    assert_eq!(at(&mut cluster, 2, "d"), None);
}

/// P-19: what is bound to a key is bound to that life of it: a later life saves nobody.
#[test]
fn a_later_life_of_the_parent_saves_nobody() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put_if_absent("parent", "1", vec![]));
    cluster.call(2, put_if_absent("child", "2", vec![bound_to_key("parent")]));
    cluster.rule(|flight| if flight.is_about("child") { Fate::Lose } else { Fate::Deliver });
    cluster.call(1, remove("parent"));
    cluster.call(1, put_if_absent("parent", "again", vec![]));
    cluster.no_rule();
    cluster.run(ERASED);
    assert!(is_gone(&mut cluster, "child"));
    assert_eq!(at(&mut cluster, 3, "parent").as_deref(), Some("again"));
}

/// P-19: overwriting a key ends no life, so what is bound to it lives on.
#[test]
fn overwriting_the_parent_ends_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("parent", "1", vec![]));
    cluster.call(2, put("child", "2", vec![bound_to_key("parent")]));
    cluster.call(3, put("parent", "3", vec![]));
    cluster.run(NODE_GONE);
    assert_eq!(at(&mut cluster, 1, "child").as_deref(), Some("2"));
}

/// P-19: a key cannot be bound to itself: refused at once, with nothing asked of anybody.
#[test]
fn a_key_cannot_be_bound_to_itself() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("k", "v", vec![]));
    let sent = cluster.sent;
    for command in
        [put("k", "w", vec![bound_to_key("k")]), put_if_absent("k", "w", vec![bound_to_key("k")])]
    {
        assert!(is_invalid_binding(&cluster.at_once(1, command)));
    }
    assert_eq!(cluster.sent, sent);
}

/// P-19: a cycle can only be made by binding anew. Both live until one ends; then both end, once.
#[test]
fn a_cycle_made_by_rebinding_ends_when_one_does() {
    let mut cluster = Cluster::new(3);
    cluster.subscribe(1, 50, topic("a"));
    cluster.subscribe(1, 51, topic("b"));
    cluster.call(1, put("a", "1", vec![]));
    cluster.call(1, put("b", "2", vec![bound_to_key("a")]));
    cluster.call(1, put("a", "1", vec![bound_to_key("b")]));
    cluster.run(NODE_GONE);
    assert!(at(&mut cluster, 2, "a").is_some() && at(&mut cluster, 2, "b").is_some());
    cluster.call(3, remove("b"));
    cluster.run(ERASED);
    assert!(is_gone(&mut cluster, "a") && is_gone(&mut cluster, "b"));
    assert_eq!((cluster.told(50).len(), cluster.told(51).len()), (1, 1));
    let quiet = cluster.lines_about("a").len();
    cluster.unsubscribe(1, 50, topic("a"));
    cluster.unsubscribe(1, 51, topic("b"));
    let settled = cluster.lines_about("a").len();
    cluster.run(NODE_GONE);
    assert!(
        quiet <= settled && cluster.lines_about("a").len() == settled,
        "and then there is peace"
    );
}

/// P-20: clocks ten seconds off either way: every read at every node agrees, and what has ended
/// never lives again.
#[test]
fn skewed_clocks_agree_on_every_deadline() {
    for skew in [[-10_000, 0, 10_000], [10_000, 10_000, -10_000], [10_000, -10_000, -10_000]] {
        let mut cluster = Cluster::new(3);
        for (node, ahead) in (1..=3).zip(skew) {
            cluster.machine(node).wall_ahead = ahead;
        }
        let until = cluster.wall() + 15_000;
        let put = cluster.call(1, put("k", "v", vec![Bind::Until(Wall(until))]));
        assert!(matches!(put, Outcome::Written { .. }), "{skew:?}: {put}");
        let mut seen = Vec::new();
        for _ in 0..60 {
            for node in 1..=3 {
                seen.push(at(&mut cluster, node, "k").is_some());
            }
            cluster.run(ms(500));
        }
        let end = seen.iter().position(|alive| !alive).expect("it ends");
        assert!(seen[end..].iter().all(|alive| !alive), "{skew:?}: never alive again");
        assert!(end > 6, "{skew:?}: not before any quorum of clocks");
    }
}

/// P-20: one clock that is an hour fast ends nothing, even where it is the reader's own.
#[test]
fn one_fast_clock_ends_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.machine(3).wall_ahead = 3_600_000;
    let until = Wall(cluster.wall() + 10_000);
    cluster.call(1, put("k", "v", vec![Bind::Until(until)]));
    cluster.run(Duration::from_secs(3));
    assert!(at(&mut cluster, 3, "k").is_some(), "the reader's own clock is fast");
    cluster.run(Duration::from_secs(9));
    assert_eq!(at(&mut cluster, 1, "k"), None);
}

/// P-20: two clocks that are wrong on different days do not add up: a quorum must show the moment
/// within one round.
#[test]
fn clocks_wrong_on_different_days_do_not_add_up() {
    let mut cluster = Cluster::new(3);
    let until = Wall(cluster.wall() + 60_000);
    cluster.call(1, put("k", "v", vec![Bind::Until(until)]));
    for fast in [1, 2, 3, 1] {
        cluster.machine(fast).wall_ahead = 3_600_000;
        cluster.run(Duration::from_secs(3));
        assert!(at(&mut cluster, fast, "k").is_some(), "while {fast} is fast");
        cluster.machine(fast).wall_ahead = 0;
    }
    assert!(at(&mut cluster, 2, "k").is_some());
}

/// P-20: a deadline that has passed by the clock of the node asked is refused.
#[test]
fn a_deadline_in_the_past_is_refused() {
    let mut cluster = Cluster::new(3);
    let past = Wall(cluster.wall());
    let answer = cluster.call(1, put_if_absent("k", "v", vec![Bind::Until(past)]));
    assert!(is_invalid_binding(&answer), "{answer}");
    assert!(won(&cluster.call(2, put_if_absent("k", "w", vec![]))), "the key is free");
}

/// P-20, D3: a deadline moved on in time saves the entry, though the old one has passed.
#[test]
fn a_renewed_deadline_saves_the_entry() {
    let mut cluster = Cluster::new(3);
    for _ in 0..5 {
        let until = Wall(cluster.wall() + 2_000);
        cluster.call(1, put("k", "v", vec![Bind::Until(until)]));
        cluster.run(ms(1500));
    }
    let entry = cluster.call(2, get("k"));
    assert!(value(&entry).is_some());
    cluster.run(Duration::from_secs(3));
    assert_eq!(at(&mut cluster, 3, "k"), None);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Session,
    Node,
    Key,
    Until,
}

const KINDS: [Kind; 4] = [Kind::Session, Kind::Node, Kind::Key, Kind::Until];

/// P-21: of any two bindings, the end of either one ends the entry.
#[test]
fn any_one_of_several_bindings_ends_the_entry() {
    for (one, other) in KINDS.iter().flat_map(|one| KINDS.iter().map(move |other| (one, other))) {
        if one == other {
            continue;
        }
        let mut cluster = Cluster::new(3);
        let session = cluster.open_session(1);
        cluster.call(1, put("parent", "p", vec![]));
        let soon = Wall(cluster.wall() + 4_000);
        let late = Wall(cluster.wall() + 400_000);
        let bind = |kind: Kind, until| match kind {
            Kind::Session => Bind::Session(session),
            Kind::Node => Bind::Node(NodeId(3)),
            Kind::Key => bound_to_key("parent"),
            Kind::Until => Bind::Until(until),
        };
        // `one` ends, `other` goes on.
        let binds = vec![bind(*other, late), bind(*one, soon)];
        assert!(won(&cluster.call(1, put_if_absent("k", "v", binds))), "{one:?} {other:?}");
        cluster.run(Duration::from_secs(3));
        assert!(at(&mut cluster, 2, "k").is_some(), "{one:?} and {other:?} go on");
        match one {
            Kind::Session => drop(cluster.call(1, Command::CloseSession(session))),
            Kind::Node => cluster.crash(3),
            Kind::Key => drop(cluster.call(1, remove("parent"))),
            Kind::Until => {}
        }
        cluster.run(NODE_GONE);
        assert_eq!(at(&mut cluster, 2, "k"), None, "{one:?} has ended, {other:?} has not");
    }
}

/// P-09: bound to what has ended, a put is refused, the key stays free, and the next put wins.
#[test]
fn an_invalid_binding_leaves_the_key_free() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(2);
    cluster.call(2, Command::CloseSession(session));
    let unknown = SessionId { host: NodeId(1), node_session: 1, number: 99 };
    let stranger = SessionId { host: NodeId(9), node_session: 1, number: 1 };
    let past = Wall(cluster.wall() - 1);
    let binds = [
        Bind::Session(session),
        Bind::Session(unknown),
        Bind::Session(stranger),
        Bind::Node(NodeId(9)),
        bound_to_key("missing"),
        Bind::Until(past),
    ];
    for (place, bind) in binds.into_iter().enumerate() {
        let key = format!("k{place}");
        for node in 1..=3 {
            let refused = cluster.call(node, put_if_absent(&key, "v", vec![bind.clone()]));
            let expected = Outcome::Refused(synod::Refusal::InvalidBinding(bind.clone()));
            assert_eq!(refused, expected, "{bind} at {node}: it says which");
            assert_eq!(at(&mut cluster, node, &key), None);
        }
        assert!(won(&cluster.call(3, put_if_absent(&key, "w", vec![]))), "{bind}");
    }
}

/// P-09, E3: the session ends between the put's check and its choice: the put is refused or erased,
/// and no orphan stays behind, whoever has heard of the end.
#[test]
fn a_put_that_races_the_end_leaves_no_orphan() {
    for host in 2..=3 {
        for lost_hint in [false, true] {
            let mut cluster = Cluster::new(3);
            let session = cluster.open_session(host);
            cluster.rule(|flight| if flight.is("Accept") { Fate::Park } else { Fate::Deliver });
            let asked = cluster.ask(1, put_if_absent("k", "v", vec![Bind::Session(session)]));
            cluster.deliver_all();
            assert!(!cluster.parked.is_empty(), "checked, promised, and on its way");
            cluster.call(host, Command::CloseSession(session));
            if lost_hint {
                cluster.lose(|flight| flight.is("Sessions"));
            }
            cluster.deliver_all();
            cluster.no_rule();
            cluster.unpark();
            cluster.deliver_all();
            if host == 2 {
                // Its acceptor is of the quorum that chooses, and knows: with the hint lost, its
                // word is all that the proposer has.
                let answer = cluster.answered(asked).expect("no time has passed");
                assert!(is_invalid_binding(answer), "hint lost: {lost_hint}: {answer}");
            }
            cluster.run(ERASED);
            assert!(is_gone(&mut cluster, "k"), "host {host}: {:?}", cluster.answered(asked));
            let again = cluster.call(1, put_if_absent("k", "w", vec![]));
            assert!(won(&again), "{again}");
        }
    }
}

/// R6: an entry whose session is known here to have ended is never shown: the reader has it erased
/// first, and answers by what comes of that.
#[test]
fn a_reader_shows_nothing_that_has_ended() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(2);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    cluster.deliver_all();
    // Nobody sweeps: time stands still, and the only step is the read's own.
    cluster.call(2, Command::CloseSession(session));
    let asked = cluster.ask(2, get("k"));
    cluster.deliver_all();
    assert!(matches!(cluster.answered(asked), Some(Outcome::Found { entry: None, .. })));
    assert!(cluster.held(1, "k").expect("held").2.expect("a cell").starts_with("-erased"));
}

/// E2: erasing does not depend on having been told: with every hint and every answer about sessions
/// lost for a while, the sweep asks again.
#[test]
fn a_lost_notice_costs_time_and_nothing_else() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(2);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    cluster.rule(|flight| {
        let about = flight.is("Sessions") || flight.is("AskSessions") || flight.is_about("k");
        if about { Fate::Lose } else { Fate::Deliver }
    });
    cluster.input(2, Input::Down { session });
    cluster.run(Duration::from_secs(20));
    assert!(cluster.held(1, "k").expect("held").2.expect("a cell").starts_with('v'));
    cluster.no_rule();
    cluster.run(Duration::from_secs(3));
    assert!(is_gone(&mut cluster, "k"));
}

/// E2: what was bound is found again after a restart of every node: the index is rebuilt.
#[test]
fn a_restart_forgets_no_binding() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("parent", "p", vec![]));
    cluster.call(1, put("child", "c", vec![bound_to_key("parent")]));
    cluster.rule(|flight| if flight.is_about("child") { Fate::Lose } else { Fate::Deliver });
    cluster.call(1, remove("parent"));
    for node in 1..=3 {
        cluster.crash(node);
    }
    cluster.no_rule();
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.run(Duration::from_secs(4));
    assert!(is_gone(&mut cluster, "child"));
}

/// E1: an erase ends only the life it names. Delayed for long, it touches no later life.
#[test]
fn a_late_erase_touches_no_later_life() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    cluster.call(1, put("k", "v", vec![Bind::Session(session)]));
    cluster.deliver_all();
    cluster.rule(|flight| {
        let erase = flight.is("Accept") && flight.message.to_string().contains("-erased");
        if erase { Fate::Park } else { Fate::Deliver }
    });
    cluster.call(1, Command::CloseSession(session));
    cluster.run(ms(300));
    assert!(!cluster.parked.is_empty(), "an erase is on its way");
    cluster.call(2, remove("k"));
    cluster.no_rule();
    assert!(won(&cluster.call(3, put_if_absent("k", "new", vec![]))));
    cluster.unpark();
    cluster.deliver_all();
    cluster.run(ERASED);
    assert_eq!(at(&mut cluster, 1, "k").as_deref(), Some("new"));
}
