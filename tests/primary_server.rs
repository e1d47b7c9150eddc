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

/// A-05, A-06, A-07, A-08, A-09, A-33, A-44: any client of Redis writes at the primary and reads
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
    let peers = nodes.ports[first - 1].peers;
    let told = format!("the primary is n{first}, at 127.0.0.1:{peers} for other nodes");
    assert!(refused.ends_with(&told), "{refused}");
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
    for line in ["SET k v NX", "SET k v EX 5", "SYNOD.CAS k v ABSENT", "SYNOD.FENCE k", "ROLE"] {
        let said = primary.say(line);
        assert!(said.starts_with('-') && !said.starts_with("-ERR unknown"), "{line}: {said}");
    }
    // Everybody in sync has what was acknowledged; who does not lead knows of nobody.
    assert_eq!(primary.say("WAIT 2 60000"), "2");
    assert_eq!(primary.say("WAIT 3 1"), "2");
    assert!(secondary.say("WAIT 0 1").starts_with("-NOTPRIMARY"));
    assert_eq!(primary.say("SELECT default"), "OK");
    assert!(primary.say("WAIT 2 60000").starts_with("-UNSUPPORTED"));
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

/// A-36, A-39, A-44: who operates a table says which node is to do what, and sees it as the
/// primary does, whichever server is asked first.
#[test]
fn operators_say_which_node_and_see_what_the_primary_sees() {
    let nodes = cluster();
    let first = leader(&nodes, "accounts", 3);
    let [second, third] = others(first);
    let at = |node: usize| format!("127.0.0.1:{}", nodes.ports[node - 1].clients);
    let last = [second, third, first].map(at).join(",");
    let run = |words: &[&str], servers: &str| {
        let mut command = nodes.client([words[0]]);
        command.args(&words[1..]).args(["--table", "accounts", "--server", servers]);
        ran(&mut command)
    };

    let (code, out, complaint) = run(&["primary"], &last);
    assert!(code == 0 && complaint.is_empty(), "{complaint}");
    assert!(out.contains("primary") && !out.contains("secondary"), "{out}");
    for node in [second, third] {
        assert!(out.contains(&format!("node {node}, in_sync yes, behind ")), "{out}");
    }
    let (code, out, complaint) = run(&["primary"], &at(second));
    assert!(code == 0 && out.contains("secondary"), "{out}");
    assert!(complaint.contains("none of the servers that answer is the primary"), "{complaint}");

    let page = nodes.page(first, "/metrics").1;
    for line in [
        "synod_replica_primary{table=\"accounts\"} 1",
        "synod_replica_in_sync{table=\"accounts\"} 1",
        "synod_replica_counting{table=\"accounts\"} 3",
        &format!("synod_replica_peer_in_sync{{table=\"accounts\",peer=\"{second}\"}} 1"),
        &format!("synod_replica_peer_behind{{table=\"accounts\",peer=\"{second}\"}} "),
        &format!("synod_replica_peer_silent_seconds{{table=\"accounts\",peer=\"{third}\"}} "),
    ] {
        assert!(page.lines().any(|told| told.starts_with(line)), "no {line} in {page}");
    }
    let page = nodes.page(second, "/metrics").1;
    assert!(page.contains("synod_replica_primary{table=\"accounts\"} 0"), "{page}");
    assert!(!page.contains("synod_replica_peer_behind{table=\"accounts\""), "{page}");

    // Nothing is done to a node that was not named.
    for verb in ["leave", "join", "force"] {
        assert_eq!(run(&[verb], &last).0, 2, "{verb}");
        let (code, _, complaint) = run(&[verb, "9"], &last);
        assert!(code == 2 && complaint.contains("is node 9"), "{verb}: {complaint}");
    }
    let third_name = third.to_string();
    let (code, _, complaint) = run(&["force", &third_name], &last);
    assert!(code == 3 && complaint.contains("NOTGONE"), "{complaint}");
    let (code, out, complaint) = run(&["leave", &third_name, "--json"], &last);
    assert_eq!(
        (code, out.trim()),
        (0, &*format!("{{\"leaves\":true,\"node\":{third}}}")),
        "{complaint}"
    );
    let in_sync = format!("in_sync ({}", if first < second { first } else { second });
    leader(&nodes, "accounts", 2);
    let said = client(&nodes, first, "accounts").say("SYNOD.PRIMARY");
    assert!(said.contains(&in_sync), "{said}");
    assert_eq!(run(&["join", &third_name], &last).0, 0);
    leader(&nodes, "accounts", 3);
}

/// A-15, A-32, A-33: the command line shows what it wrote, whichever server is asked first, and can
/// ask for less or for more.
#[test]
fn the_command_line_reads_what_it_wrote() {
    let nodes = cluster();
    let first = leader(&nodes, "accounts", 3);
    let [second, third] = others(first);
    let at = |node: usize| format!("127.0.0.1:{}", nodes.ports[node - 1].clients);
    let last = [second, third, first].map(at).join(",");
    let run = |words: &[&str]| {
        let mut command = nodes.client([words[0]]);
        command.args(&words[1..]).args(["--table", "accounts", "--server", &last]);
        ran(&mut command)
    };
    let mut place = String::new();
    for round in 0..20 {
        let value = round.to_string();
        let (code, out, complaint) = run(&["put", "ann", &value, "--json"]);
        assert_eq!(code, 0, "{complaint}");
        assert_eq!(run(&["get", "ann"]), (0, value, String::new()), "round {round}");
        place = out.split("\"place\":").nth(1).expect("a place").to_owned();
        place.truncate(place.find([',', '}']).expect("an end"));
    }
    let read = run(&["get", "ann", "--local", "--seen", &place]);
    assert_eq!(read, (0, "19".to_owned(), String::new()));
    assert_eq!(run(&["get", "ann", "--dirty"]).0, 0);
    assert_eq!(run(&["get", "ann", "--seen", &place]).0, 2, "what is read is the latest anyway");
    let mut writer = client(&nodes, first, "accounts");
    let wrote = writer.say("SYNOD.PUT bob 1 REQUEST 77 1");
    assert!(wrote.starts_with("{written true "), "{wrote}");
    let (code, out, complaint) = run(&["outcome", "77", "1", "--json"]);
    assert!(code == 0 && out.contains("\"written\":true"), "{out}{complaint}");
    let (code, out, complaint) = run(&["outcome", "77", "2", "--seen", &place]);
    assert!(code == 1 && out.is_empty() && complaint.contains("never will be"), "{complaint}");
    assert!(writer.say("SYNOD.PUT bob 2 REQUEST 77 2").starts_with("-RESOLVED"));
}

/// A-39, A-44, P-I4: the primary is killed, again and again; the command line goes on, nothing that
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

/// A table that nobody declared is made by any client of Redis or on the command line, is known to
/// whichever node is asked for it, outlives all processes, and is dropped.
#[test]
fn tables_are_made_while_nodes_run() {
    let mut nodes = cluster();
    let mut first = nodes.connect(1);
    assert!(first.say("HELLO 3").contains("server synod"));
    assert!(first.say("SELECT orders").starts_with("-NOSUCHTABLE no table 'orders'"));
    assert_eq!(first.say("SYNOD.CREATE orders AS primary+quorum"), "OK");
    let other = first.say("SYNOD.CREATE orders AS primary");
    assert_eq!(other, "-UNMADE there is a table of this name, which is primary+quorum");
    // Asked at once, it has not been told by others yet.
    for node in 1..=3 {
        assert_eq!(client(&nodes, node, "orders").say("SYNOD.DEFAULTS FOLLOW"), "OK");
    }
    let (code, _, complaint) = ran(&mut nodes.client(["create", "tins", "primary+on@1.2"]));
    assert_eq!(code, 0, "{complaint}");
    let (code, _, complaint) = ran(&mut nodes.client(["create", "tins", "primary"]));
    assert_eq!((code, complaint.contains("which is primary+on@1.2")), (3, true), "{complaint}");
    let put = ["put", "k", "v", "--table", "tins"];
    let (code, _, complaint) = ran(&mut nodes.client(put));
    assert_eq!(code, 0, "{complaint}");
    let lead = leader(&nodes, "orders", 3);
    let mut writer = client(&nodes, lead, "orders");
    assert_eq!(writer.say("SET k v"), "OK");
    assert_eq!(writer.say("WAIT 2 60000"), "2");
    let page = nodes.page(lead, "/metrics").1;
    assert!(page.contains("synod_replica_primary{table=\"orders\"} 1"), "{page}");
    let (code, out, complaint) = ran(&mut nodes.client(["primary", "--table", "orders"]));
    assert!(code == 0 && out.contains("quorum"), "{out}{complaint}");

    // Whoever leads dies, then everybody.
    nodes.kill(lead);
    let (code, _, complaint) = ran(&mut nodes.client(["put", "k2", "v2", "--table", "orders"]));
    assert_eq!(code, 0, "{complaint}");
    nodes.start(lead);
    nodes.wait_ready();
    (1..=3).for_each(|node| nodes.kill(node));
    (1..=3).for_each(|node| nodes.start(node));
    nodes.wait_ready();
    for (table, key, value) in [("orders", "k", "v"), ("orders", "k2", "v2"), ("tins", "k", "v")] {
        let get = ["get", key, "--table", table];
        assert_eq!(ran(&mut nodes.client(get)), (0, value.to_owned(), String::new()), "{table}");
    }
    let (code, out, _) = ran(&mut nodes.client(["tables", "--json"]));
    assert_eq!(code, 0);
    let tins = out.lines().find(|line| line.contains("tins")).expect("it is listed");
    assert!(tins.contains(r#""declared":false"#) && tins.contains("on@1.2"), "{tins}");

    let (code, _, complaint) = ran(&mut nodes.client(["drop", "tins"]));
    assert_eq!(code, 0, "{complaint}");
    for node in 1..=3 {
        let mut client = nodes.connect(node);
        assert!(client.say("SELECT tins").starts_with("-NOSUCHTABLE"), "{node}");
    }
    let (code, _, complaint) = ran(&mut nodes.client(["create", "tins", "primary"]));
    assert_eq!(code, 0, "{complaint}");
    let get = ["get", "k", "--table", "tins"];
    assert_eq!(ran(&mut nodes.client(get)).0, 1, "it has nothing of the old");
}
