//! Keys listed: all that live, none that do not, in pages, from any node.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::{Cluster, get, keys, ms, put, put_if_absent, remove, value};
use synod::{Bind, Command, Key, Outcome, TableConfig, TableId, Wall};

fn listed(outcome: &Outcome) -> (Vec<String>, Option<String>) {
    let Outcome::Keys { keys, more } = outcome else { panic!("{outcome}") };
    (keys.iter().map(ToString::to_string).collect(), more.as_ref().map(ToString::to_string))
}

/// Everything, page by page.
fn all(cluster: &mut Cluster, node: u16, limit: u32) -> Vec<String> {
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    for _ in 0..1_000 {
        let page = cluster.call(node, keys(after.as_deref(), limit));
        let (page, more) = listed(&page);
        assert!(page.len() <= limit as usize);
        found.extend(page);
        match more {
            Some(next) => {
                assert!(Some(&next) > after.as_ref(), "pages go on");
                after = Some(next);
            }
            None => return found,
        }
    }
    panic!("no end")
}

/// P-23: after puts and removals the listing is exactly the live set, ascending, at every node and
/// for every size of a page.
#[test]
fn a_listing_is_the_live_set() {
    let mut cluster = Cluster::new(3);
    let mut model = BTreeSet::new();
    for step in 0..60u16 {
        let key = format!("k{:02}", step * 7 % 40);
        if step % 3 == 2 {
            cluster.call(step % 3 + 1, remove(&key));
            model.remove(&key);
        } else {
            cluster.call(step % 3 + 1, put(&key, "v", vec![]));
            model.insert(key);
        }
    }
    let model: Vec<String> = model.into_iter().collect();
    for node in 1..=3 {
        for limit in [1, 2, 3, 7, 39, 40, 1_000] {
            assert_eq!(all(&mut cluster, node, limit), model, "{limit} a page at {node}");
        }
    }
}

/// P-23: an empty table, and one asked for behind its last key, list nothing and are at their end.
#[test]
fn nothing_to_list_is_an_end() {
    let mut cluster = Cluster::new(3);
    assert_eq!(listed(&cluster.call(1, keys(None, 10))), (vec![], None));
    cluster.call(1, put("b", "v", vec![]));
    assert_eq!(listed(&cluster.call(2, keys(Some("b"), 10))), (vec![], None));
    assert_eq!(listed(&cluster.call(2, keys(Some("a"), 10))), (vec!["b".to_owned()], None));
}

/// P-23: a listing takes a quorum: what one replica has missed is listed all the same, and what one
/// replica holds still is not.
#[test]
fn a_listing_is_not_one_replicas_view() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("removed", "v", vec![]));
    cluster.deliver_all();
    cluster.split(&[3], &[1, 2]);
    cluster.call(1, put("missed", "v", vec![]));
    cluster.call(1, remove("removed"));
    cluster.deliver_all();
    cluster.heal();
    cluster.crash(1);
    assert_eq!(all(&mut cluster, 3, 10), ["missed"]);
    assert_eq!(all(&mut cluster, 3, 1), ["missed"]);
}

/// P-23: a key that is accepted somewhere and chosen nowhere is disputed: it is listed only if it
/// is completed first, and then every node lists it.
#[test]
fn a_disputed_key_is_settled_before_it_is_listed() {
    for key in ["a", "m", "z"] {
        for limit in [1, 10] {
            let mut cluster = Cluster::new(3);
            cluster.call(2, put("g", "v", vec![]));
            cluster.call(2, put("t", "v", vec![]));
            cluster.leave_unfinished(1, &[2], put_if_absent(key, "v", vec![]));
            let first = all(&mut cluster, 3, limit);
            let mut expected = vec!["g".to_owned(), "t".to_owned(), key.to_owned()];
            expected.sort();
            assert_eq!(first, expected, "2 is needed for a quorum, so it is found");
            cluster.start(1);
            cluster.crash(2);
            cluster.run(ms(500));
            assert!(value(&cluster.call(3, get(key))).is_some(), "listed, so chosen");
            assert_eq!(all(&mut cluster, 1, limit), expected);
        }
    }
}

/// P-23: what has ended is not listed, though nobody has swept yet.
#[test]
fn an_ended_key_is_not_listed() {
    let mut cluster = Cluster::new(3);
    let session = cluster.open_session(1);
    let until = Wall(cluster.wall() + 1_000);
    cluster.call(1, put("session", "v", vec![Bind::Session(session)]));
    cluster.call(1, put("until", "v", vec![Bind::Until(until)]));
    cluster.call(1, put("free", "v", vec![]));
    assert_eq!(all(&mut cluster, 2, 10), ["free", "session", "until"]);
    cluster.call(1, Command::CloseSession(session));
    cluster.deliver_all();
    let asked = cluster.ask(1, keys(None, 10));
    cluster.deliver_all();
    let answer = cluster.answered(asked).expect("no time has passed");
    assert_eq!(listed(answer).0, ["free", "until"]);
    cluster.run(ms(1_200));
    assert_eq!(all(&mut cluster, 3, 10), ["free"]);
}

/// P-22, P-23: tables are listed apart.
#[test]
fn each_table_lists_its_own() {
    let mut cluster = Cluster::with(3, |config| {
        for name in ["before", "after"] {
            config.tables.push(TableConfig::consensus(name));
        }
    });
    for table in 0..3 {
        let key = Key::from(format!("k{table}").as_str());
        let command =
            Command::Put { table: TableId(table), key, value: "v".into(), bindings: vec![] };
        cluster.call(1, command);
    }
    for table in 0..3 {
        let command = Command::Keys { table: TableId(table), after: None, limit: 10 };
        let page = cluster.call(2, command);
        assert_eq!(listed(&page), (vec![format!("k{table}")], None));
    }
}

/// P-23: many dead keys in front make empty pages, never a wrong end.
#[test]
fn pages_of_dead_keys_are_not_the_end() {
    let mut cluster = Cluster::new(3);
    for key in 0..30 {
        cluster.call(1, put(&format!("dead{key:02}"), "v", vec![]));
        cluster.call(1, remove(&format!("dead{key:02}")));
    }
    cluster.call(1, put("live", "v", vec![]));
    for limit in [1, 7, 30] {
        assert_eq!(all(&mut cluster, 2, limit), ["live"], "{limit} a page");
    }
}

/// P-23: lost messages cost a listing time, not keys.
#[test]
fn a_listing_survives_lost_messages() {
    let mut cluster = Cluster::new(3);
    for key in ["a", "b", "c"] {
        cluster.call(1, put(key, "v", vec![]));
    }
    let mut lost = 0;
    cluster.rule(move |flight| {
        let listing = flight.is("List") || flight.is("Listing");
        if listing && lost < 3 {
            lost += 1;
            return support::Fate::Lose;
        }
        support::Fate::Deliver
    });
    let asked = cluster.ask(2, keys(None, 10));
    cluster.run(Duration::from_secs(1));
    let answer = cluster.answered(asked).expect("answered in spite of it");
    assert_eq!(listed(answer).0, ["a", "b", "c"]);
}

/// A page of nothing would say that nothing is left.
#[test]
fn a_page_holds_at_least_one_key() {
    let mut cluster = Cluster::new(3);
    cluster.call(1, put("a", "v", vec![]));
    cluster.call(1, put("b", "v", vec![]));
    let page = cluster.call(1, keys(None, 0));
    assert!(matches!(page, Outcome::Keys { more: Some(_), .. }), "{page}");
}
