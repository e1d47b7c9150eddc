//! Primary tables as users of servers have them: processes that are killed, any client of Redis,
//! the command line.

mod processes;

use std::collections::BTreeMap;

use processes::{Client, Nodes, ran, until};

const TABLES: &str = "default,accounts:primary,pairs:primary+quorum+on@1.2";

fn cluster() -> Nodes {
    let mut nodes = Nodes::new(3, &["--tables", TABLES]);
    // Failovers wait for it.
    nodes.down = 4_000;
    for node in 1..=3 {
        nodes.start(node);
    }
    nodes.wait_ready();
    nodes
}

fn client(nodes: &Nodes, node: usize, table: &str) -> Client {
    let mut client = nodes.connect(node);
    assert!(client.say("HELLO 3").contains("server synod"));
    assert_eq!(client.say(&format!("SELECT {table}")), "OK");
    client
}

/// Which of those that run is primary, once all of them are in sync.
fn leader(nodes: &Nodes, table: &str, in_sync: usize) -> usize {
    let mut found = 0;
    until("there is a primary, and all are in sync", || {
        for node in 1..=3 {
            if nodes.running[node - 1].is_none() {
                continue;
            }
            let said = client(nodes, node, table).say("SYNOD.PRIMARY");
            let members = said.split("in_sync (").nth(1).and_then(|rest| rest.split(')').next());
            let count = members.map_or(0, |members| members.split(' ').count());
            if said.starts_with("{role primary") && count == in_sync {
                found = node;
                return true;
            }
        }
        false
    });
    found
}

const fn others(node: usize) -> [usize; 2] {
    match node {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    }
}

/// any client of Redis writes at the primary and reads
/// anywhere; elsewhere a write is refused and told where, unless the node is asked to follow.
#[test]
fn any_client_of_redis_is_served() {
    let nodes = cluster();
    let first = leader(&nodes, "accounts", 3);
    let [second, third] = others(first);
    let mut primary = client(&nodes, first, "accounts");
    assert_eq!(primary.say("SET ann 5"), "OK");
    assert_eq!(primary.say("GET ann"), "5", "it reads what it wrote");
    assert_eq!(primary.say("MGET ann bob"), "(5 nil)");
    assert_eq!(primary.say("EXISTS ann bob"), "1");
    let mut secondary = client(&nodes, second, "accounts");
    let refused = secondary.say("SET ann 6");
    assert!(refused.starts_with("-NOTPRIMARY"), "{refused}");
    assert!(refused.ends_with(&format!("the primary is n{first}")), "{refused}");
    assert_eq!(secondary.say("SYNOD.DEFAULTS FOLLOW"), "OK");
    assert_eq!(secondary.say("SET ann 6"), "OK");
    assert_eq!(secondary.say("GET ann"), "6", "its own write is here by then");
    let wrote = secondary.say("SYNOD.PUT bob 1 REQUEST 77 1");
    assert!(wrote.starts_with("{written true removed false existed false place "), "{wrote}");
    let place = wrote.split("place ").nth(1).and_then(|rest| rest.split(' ').next());
    let place = place.expect("a place");
    let mut other = client(&nodes, third, "accounts");
    let read = other.say(&format!("SYNOD.GET bob SEEN {place}"));
    assert!(read.starts_with(&format!("{{value 1 place {place} ")), "{read}");
    let proven = other.say("SYNOD.GET bob LINEARIZABLE FOLLOW");
    assert!(proven.starts_with("{value 1 "), "{proven}");
    assert!(other.say("SYNOD.GET bob LINEARIZABLE").starts_with("-NOTPRIMARY"));
    assert!(other.say("SYNOD.GET bob DIRTY").starts_with("{value 1 "));
    assert_eq!(other.say("KEYS *"), "(ann bob)");
    assert_eq!(other.say("SCAN 0"), "(0 (ann bob))");
    assert_eq!(primary.say("DEL ann nobody"), "1");

    // Asked again under its name it is not done again, and can be resolved by it.
    let again = secondary.say("SYNOD.PUT bob 1 REQUEST 77 1 AGAIN");
    assert_eq!(again, wrote);
    assert_eq!(primary.say("SYNOD.RESOLVE 77 1"), wrote);
    let never = primary.say("SYNOD.RESOLVE 77 2");
    assert!(never.starts_with("-RESOLVED"), "{never}");
    assert!(secondary.say("SYNOD.PUT bob 2 REQUEST 77 2").starts_with("-RESOLVED"));

    // What primary tables have not, they say; as do others of what they have not.
    for line in ["SET k v NX", "SET k v EX 5", "SYNOD.CAS k v ABSENT", "SYNOD.FENCE k", "WAIT 1 0"]
    {
        let said = primary.say(line);
        assert!(said.starts_with('-') && !said.starts_with("-ERR unknown"), "{line}: {said}");
    }
    assert_eq!(primary.say("SELECT default"), "OK");
    assert!(primary.say("SYNOD.PRIMARY").starts_with("-DISCIPLINE"));
    assert!(primary.say("SYNOD.GET k DIRTY").starts_with("-ERR"));

    // A node without a replica follows too, and an operator can have it join.
    let mut outside = client(&nodes, 3, "pairs");
    assert!(outside.say("GET k").starts_with("-NOREPLICA"), "{}", outside.say("GET k"));
    assert_eq!(outside.say("SYNOD.DEFAULTS FOLLOW"), "OK");
    assert_eq!(outside.say("SET k v"), "OK");
    assert_eq!(outside.say("GET k"), "v");
    assert_eq!(outside.say("SYNOD.JOIN"), "OK");
    leader(&nodes, "pairs", 3);
    assert_eq!(outside.say("SYNOD.LEAVE"), "OK");
    leader(&nodes, "pairs", 2);
}

/// P-I4: the primary is killed, again and again; the command line goes on, nothing that
/// it was told is done is missing, and who comes back catches up.
#[test]
fn nothing_acknowledged_is_lost_when_primaries_are_killed() {
    let mut nodes = cluster();
    let mut expected = BTreeMap::new();
    for round in 0..3 {
        let old = leader(&nodes, "accounts", 3);
        let [second, third] = others(old);
        let mut writer = client(&nodes, old, "accounts");
        for number in 0..20 {
            let (key, value) = (format!("k{number}"), format!("{round}.{number}"));
            assert_eq!(writer.say(&format!("SET {key} {value}")), "OK");
            expected.insert(key, value);
        }
        let mut told = nodes.connect(second);
        told.say("SUBSCRIBE roles");
        nodes.kill(old);
        let key = format!("after{round}");
        let put = ["put", &*key, "done", "--table", "accounts"];
        let (code, out, complaint) = ran(&mut nodes.client(put));
        assert_eq!(code, 0, "{out}{complaint}");
        expected.insert(key, "done".to_owned());
        let mut reader = client(&nodes, third, "accounts");
        for (key, value) in &expected {
            let said = reader.say(&format!("SYNOD.GET {key} LINEARIZABLE FOLLOW"));
            assert!(said.starts_with(&format!("{{value {value} ")), "round {round}: {key} {said}");
        }
        until("it is told who is primary", || {
            let told = told.receive().map(|frame| processes::shown(&frame)).unwrap_or_default();
            let primary = told.trim_end_matches(')').rsplit(' ').next();
            primary.is_some_and(|primary| primary != "-" && primary != old.to_string())
                && told.contains("accounts")
        });
        nodes.start(old);
        nodes.wait_ready();
    }
    leader(&nodes, "accounts", 3);
    for node in 1..=3 {
        let mut reader = client(&nodes, node, "accounts");
        until("all have caught up", || {
            expected.iter().all(|(key, value)| reader.say(&format!("GET {key}")) == *value)
        });
    }
    // A planned change costs no waiting for a session to end.
    let old = leader(&nodes, "accounts", 3);
    let to = others(old)[0].to_string();
    let hand_over = ["hand-over", "--to", &*to, "--table", "accounts"];
    let (code, out, complaint) = ran(&mut nodes.client(hand_over));
    assert_eq!(code, 0, "{out}{complaint}");
    assert_eq!(leader(&nodes, "accounts", 3).to_string(), to);
    let (code, out, complaint) = ran(&mut nodes.client(["primary", "--table", "accounts"]));
    assert_eq!(code, 0, "{complaint}");
    assert!(out.contains("acknowledge") && out.contains("all"), "{out}");
}
