//! Merged tables as users of servers have them: processes, a split between them, any client of
//! Redis, the command line.

mod processes;

use processes::{Client, Cut, Nodes, ran, until};

const TABLES: &str = "default,carts:merged,prices:merged+last-modified,tags:merged+bag+memory,\
                      apart:merged+ignore,once:write-once,pair:merged+on@1.2";

fn cluster() -> (Nodes, Cut) {
    let mut nodes = Nodes::new(3, &["--tables", TABLES]);
    let cut = nodes.part(1);
    for node in 1..=3 {
        nodes.start(node);
    }
    nodes.wait_ready();
    (nodes, cut)
}

/// A client of each node, at one table.
fn clients(nodes: &Nodes, table: &str) -> Vec<Client> {
    let connect = |node| {
        let mut client = nodes.connect(node);
        assert!(client.say("HELLO 3").contains("server synod"));
        assert_eq!(client.say(&format!("SELECT {table}")), "OK");
        client
    };
    (1..=3).map(connect).collect()
}

fn all_say(clients: &mut [Client], line: &str, answer: &str) -> bool {
    clients.iter_mut().all(|client| client.say(line) == answer)
}

fn all_have(clients: &mut [Client], line: &str, part: &str) -> bool {
    clients.iter_mut().all(|client| client.say(line).contains(part))
}

/// The writes that an answer names.
fn writes(said: &str) -> Vec<String> {
    let behind = said.split("write ").skip(1).filter_map(|rest| rest.split(' ').next());
    behind.map(|write| write.trim_end_matches(['}', ')']).to_owned()).collect()
}

/// L-44, M-15, M-17, L-28, L-31, U-08: cut off, both sides go on; healed, all nodes become equal,
/// with a conflict shown alike, which a write ends everywhere.
#[test]
fn a_split_between_processes_heals() {
    let (nodes, cut) = cluster();
    let mut carts = clients(&nodes, "carts");
    for (key, value) in [("ann", "tea"), ("bob", "salt"), ("cleo", "rice")] {
        assert_eq!(carts[0].say(&format!("SET {key} {value}")), "OK");
    }
    until("all have it", || all_say(&mut carts, "MGET ann bob cleo", "(tea salt rice)"));

    cut.cut();
    // Each side is answered at once, with a majority or without.
    assert_eq!(carts[0].say("SET ann tea+milk"), "OK");
    assert_eq!(carts[0].say("DEL bob"), "1");
    assert_eq!(carts[1].say("SET ann tea+bread"), "OK");
    assert_eq!(carts[2].say("SET dan eggs"), "OK");
    until("two and three agree", || {
        all_say(&mut carts[1..], "MGET ann bob cleo dan", "(tea+bread salt rice eggs)")
    });
    assert_eq!(carts[0].say("MGET ann bob cleo dan"), "(tea+milk nil rice nil)");

    let mut told = nodes.connect(2);
    told.say("SUBSCRIBE merges");
    cut.heal();
    let equal = "(tea+bread nil rice eggs)";
    until("all are equal", || all_say(&mut carts, "MGET ann bob cleo dan", equal));
    until("the conflict is told", || {
        let told = told.receive().map(|frame| processes::shown(&frame));
        told.as_deref() == Some("(message merges carts: conflict raised ann)")
    });
    for client in &mut carts {
        let listed = client.say("SYNOD.CONFLICTS");
        assert!(listed.contains("key ann element nil conflict true"), "{listed}");
        assert!(listed.contains("value tea+bread") && listed.contains("value tea+milk"));
        assert!(listed.ends_with("more nil}") && !listed.contains("cleo"), "{listed}");
    }
    let page = nodes.page(1, "/metrics").1;
    for (name, value) in [
        ("conflicts", 1),
        ("apart", 0),
        ("disagreed", 0),
        ("stalled", 0),
        ("clock_ahead_seconds", 0),
        ("rewound", 0),
    ] {
        let line = format!("\nsynod_copy_{name}{{table=\"carts\"}} {value}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
    assert!(page.contains("\nsynod_copy_behind{table=\"carts\"} "), "{page}");
    let pair = "synod_copy_versions{table=\"pair\"}";
    assert!(page.contains(pair), "{page}");
    assert!(!nodes.page(3, "/metrics").1.contains(pair), "it keeps no copy");
    let plain = ran(&mut nodes.client(["conflicts", "--table", "carts"]));
    assert_eq!((plain.0, &*plain.1), (1, "ann  tea+bread  tea+milk\n"), "{}", plain.2);

    let (code, out, complaint) =
        ran(&mut nodes.client(["put", "ann", "tea+bread+milk", "--table", "carts"]));
    assert_eq!(code, 0, "{out}{complaint}");
    until("the conflict is over everywhere", || all_say(&mut carts, "GET ann", "tea+bread+milk"));
    assert!(all_say(&mut carts, "SYNOD.CONFLICTS", "{value nil rows () more nil}"));
    assert_eq!(ran(&mut nodes.client(["conflicts", "--table", "carts"])).0, 0);
    let told = carts[0].say("SYNOD.MERGED");
    assert!(told.contains("kind set strategy siblings contest later_wins durability disk"));
    assert!(told.contains("conflicts 0") && told.contains("rewound nil"), "{told}");
    until("tombstones are forgotten", || {
        carts.iter_mut().all(|client| client.say("SYNOD.MERGED").contains("tombstones 0"))
    });
}

/// A key of a bag is listed once, also where a page ends among its elements.
fn keys_are_listed_once(tags: &mut Client) {
    let said = tags.say("SYNOD.BATCH 5 PUT k b PUT k c PUT kk a PUT kk b PUT l a");
    assert!(said.starts_with("{written true"), "{said}");
    assert_eq!(tags.say("KEYS *"), "(k kk l)");
    assert_eq!(tags.say("KEYS k*"), "(k kk)");
    let mut listed = Vec::new();
    let mut cursor = String::from("0");
    loop {
        let page = tags.say(&format!("SCAN {cursor} COUNT 2"));
        let (next, keys) = page.trim_matches(['(', ')']).split_once(" (").expect("a page");
        listed.extend(keys.split_whitespace().map(str::to_owned));
        cursor = next.to_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(listed, ["k", "kk", "l"]);
    let said = tags.say("SYNOD.KEYS LIMIT 1 AFTER k");
    assert_eq!(said, "{keys (kk) more kk}");
    let longest = "x".repeat(1 << 10);
    assert!(tags.say(&format!("SYNOD.BATCH 2 PUT {longest} a PUT {longest} b")).len() > 1);
    assert_eq!(tags.say(&format!("SYNOD.KEYS LIMIT 1 AFTER {longest}")), "{keys () more nil}");
}

/// M-13, M-18, M-27, L-05, L-40: each table keeps to what it was declared as.
#[test]
fn tables_are_what_they_were_declared_as() {
    let (mut nodes, _) = cluster();
    let mut tags = clients(&nodes, "tags");
    let said = tags[0].say("SYNOD.BATCH 3 PUT k a PUT k b PUT k a");
    assert_eq!(said, "{written true removed false previous nil rows () complete true}");
    until("both elements are there", || {
        let rows = tags[2].say("SYNOD.ROWS PREFIX k");
        rows.contains("element a") && rows.contains("element b")
    });
    let said = tags[2].say("SYNOD.BATCH 2 REMOVEIF k b REMOVEIF k c");
    assert!(said.starts_with("{written true removed true previous b"), "{said}");
    until("it is gone", || !tags[0].say("SYNOD.ROWS PREFIX k").contains("element b"));
    for refused in ["SYNOD.BATCH 2 PUT k", "SYNOD.BATCH x", "SYNOD.BATCH 1 ADD k v"] {
        assert!(tags[0].say(refused).starts_with("-ERR"), "{refused}");
    }
    keys_are_listed_once(&mut tags[0]);

    // Loading takes long batches; other commands are as long as they are worth working on.
    let puts: String = (0..1_000).map(|number| format!(" PUT load{number} v")).collect();
    assert!(tags[0].say(&format!("SYNOD.BATCH 1000{puts}")).starts_with("{written true"));
    assert_eq!(tags[0].say("GET load999"), "v");
    assert!(tags[0].say(&format!("MGET{}", " k".repeat(1_024))).starts_with("-LIMIT 1025 arg"));
    assert_eq!(tags[0].say("GET load0"), "v");

    let mut apart = clients(&nodes, "apart");
    assert_eq!(apart[0].say("SET k v"), "OK");
    assert_eq!(apart[0].say("GET k"), "v");
    assert_eq!(apart[0].say("KEYS *"), "(k)");

    // A node without a copy asks one that has.
    let mut pair = clients(&nodes, "pair");
    assert_eq!(pair[2].say("SET k v"), "OK");
    until("it is there", || pair[0].say("GET k") == "v");
    assert_eq!(pair[2].say("GET k"), "v");
    assert_eq!(pair[2].say("SCAN 0"), "(0 (k))");

    // What merged tables have not, they say; as do others of what they have not.
    let merged = &mut pair[0];
    for line in ["SET k v NX", "SET k v EX 5", "SYNOD.PUTIFABSENT k v", "SYNOD.FENCE k"] {
        let said = merged.say(line);
        assert!(said.starts_with('-') && !said.starts_with("-ERR unknown"), "{line}: {said}");
    }
    let (code, out, _) = ran(&mut nodes.client(["conflicts", "--table", "default"]));
    assert_eq!((code, &*out), (3, ""));
    assert_eq!(apart[1].say("GET k"), "nil", "it is not exchanged");

    // What is on disk is there again, what is in memory comes from the others.
    for node in 1..=3 {
        nodes.kill(node);
        nodes.start(node);
        nodes.wait_ready();
        let mut client = nodes.connect(node);
        client.say("HELLO 3");
        until("the next one may go", || {
            client.say("SYNOD.MERGED TABLE tags").contains("settled true")
        });
    }
    let mut apart = clients(&nodes, "apart");
    assert_eq!(apart[0].say("GET k"), "v");
    let mut tags = clients(&nodes, "tags");
    until("taken from the others", || all_say(&mut tags, "GET k", "a"));
    let (code, out, complaint) = ran(&mut nodes.client(["merged", "--table", "tags"]));
    assert_eq!(code, 0, "{complaint}");
    assert!(out.contains("bag") && out.contains("memory"), "{out}");
    is_in_lines(&nodes, &out);
}

/// Each peer, each event and each row is in a line of its own.
fn is_in_lines(nodes: &Nodes, out: &str) {
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    let title = lines.iter().position(|line| line.starts_with("NODE ")).expect("peers");
    let number = |place: usize| lines[place].split(' ').next();
    assert_eq!([number(title + 1), number(title + 2)], [Some("2"), Some("3")], "{out}");
    let events = &lines[title + 3..];
    assert!(events.iter().any(|line| line.contains(" GMT  merge finished with")), "{out}");
    let (code, _, complaint) = ran(&mut nodes.client(["put", "m", "a\nb", "--table", "tags"]));
    assert_eq!(code, 0, "{complaint}");
    let listed = ran(&mut nodes.client(["rows", "--prefix", "m", "--table", "tags"])).1;
    assert_eq!(listed, "m  a\\nb\n");
}

/// L-03, L-05, L-06, M-28: tables made while nodes run, by any client and by the command line, as
/// what the words say, and else as the nodes were told merged tables are.
#[test]
fn tables_are_made_while_nodes_run() {
    let (mut nodes, cut) = cluster();
    let mut client = nodes.connect(1);
    client.say("HELLO 3");
    assert_eq!(client.say("SYNOD.CREATE prizes AS last-modified+on@1"), "OK");
    assert_eq!(client.say("SELECT prizes"), "OK");
    assert_eq!(client.say("SET k v"), "OK");
    let refused = [
        ("SYNOD.CREATE prizes AS bag", "-UNMADE there is a table of this name, which is set"),
        ("SYNOD.CREATE carts AS bag", "-UNMADE there is a table of this name, which is set"),
        ("SYNOD.CREATE $x", "-UNMADE a table's name is"),
        ("SYNOD.CREATE x AS sets", "-ERR SYNOD.CREATE: 'sets' says nothing"),
        ("SYNOD.CREATE x AS custom", "-ERR SYNOD.CREATE: 'custom' is for applications"),
        ("SYNOD.CREATE x LIKE set", "-ERR"),
        ("SYNOD.ADDREPLICA none 1", "-UNMADE there is no table of this name"),
        ("SYNOD.ADDREPLICA prizes 9", "-UNMADE the table cannot be kept: replica 9"),
        ("SYNOD.DROP carts", "-UNMADE the table is part of the configuration"),
    ];
    for (line, expected) in refused {
        let said = client.say(line);
        assert!(said.starts_with(expected), "{line}: {said}");
    }
    cut.cut();
    for node in [1, 2] {
        let mut client = nodes.connect(node);
        assert_eq!(client.say("SYNOD.CREATE basket"), "OK");
        assert_eq!(client.say("SELECT basket"), "OK");
        assert_eq!(client.say(&format!("SET k{node} v")), "OK");
    }
    cut.heal();
    until("the baskets are one", || {
        (1..=3).all(|node| {
            let mut client = nodes.connect(node);
            client.say("SELECT basket") == "OK" && client.say("MGET k1 k2") == "(v v)"
        })
    });
    let (code, _, complaint) = ran(&mut nodes.client(["create", "tins", "bag+memory"]));
    assert_eq!(code, 0, "{complaint}");
    let (code, _, complaint) = ran(&mut nodes.client(["create", "tins", "set"]));
    assert_eq!((code, complaint.contains("bag, siblings")), (3, true), "{complaint}");
    let (code, _, complaint) = ran(&mut nodes.client(["add-replica", "prizes", "2"]));
    assert_eq!(code, 0, "{complaint}");
    nodes.kill(2);
    nodes.start(2);
    nodes.wait_ready();
    let mut second = nodes.connect(2);
    second.say("HELLO 3");
    until("it has the copy that it was told to keep", || {
        second.say("SELECT prizes") == "OK"
            && second.say("GET k") == "v"
            && second.say("SYNOD.MERGED").contains("node 2 versions 1")
    });
    let (code, out, _) = ran(&mut nodes.client(["tables", "--json"]));
    assert_eq!(code, 0);
    let tins = out.lines().find(|line| line.contains("tins")).expect("it is listed");
    assert!(tins.contains(r#""declared":false"#) && tins.contains("bag+memory"), "{tins}");
    let (code, _, complaint) = ran(&mut nodes.client(["drop", "tins"]));
    assert_eq!(code, 0, "{complaint}");
    until("it is gone", || second.say("SELECT tins").starts_with("-NOSUCHTABLE"));
}

/// U-01, M-18: a manual table stays in two halves after the heal until somebody says that it shall
/// be one; a pointer into JSON decides where the words say so.
#[test]
fn a_manual_table_waits_to_be_merged() {
    let (nodes, cut) = cluster();
    let mut first = nodes.connect(1);
    first.say("HELLO 3");
    assert_eq!(first.say("SYNOD.CREATE plan AS manual"), "OK");
    assert_eq!(first.say("SYNOD.CREATE docs AS last-version@/v"), "OK");
    assert!(first.say("SYNOD.CREATE docs AS last-version@/w").contains("last_version by /v"));
    let mut second = nodes.connect(2);
    second.say("HELLO 3");
    until("it has heard of them", || {
        second.say("SELECT docs") == "OK" && second.say("SELECT plan") == "OK"
    });
    until("the copies have met", || {
        [&mut first, &mut second].into_iter().all(|client| {
            client.say("SELECT plan") == "OK" && client.say("SYNOD.MERGED").contains("settled true")
        })
    });
    cut.cut();
    until("all have noticed", || {
        let mut alone = nodes.connect(1);
        alone.say("HELLO 3");
        alone.say("SYNOD.STATUS").contains("quorum false")
    });
    assert_eq!(first.say("SET k here"), "OK");
    assert_eq!(second.say("SET k there"), "OK");
    assert_eq!(first.say("SET refused x PX 5").chars().next(), Some('-'));
    for (client, json) in [(&mut first, r#"{"v":10}"#), (&mut second, r#"{"v":9}"#)] {
        assert_eq!(client.say("SELECT docs"), "OK");
        assert!(client.say("SET k {}").starts_with("-UNFIT"));
        assert_eq!(client.say(&format!("SET k {json}")), "OK");
    }
    cut.heal();
    until("the greater one is there", || second.say("GET k") == r#"{"v":10}"#);
    assert!(second.say("SYNOD.MERGE").starts_with("-UNFIT"), "it is not manual");
    for client in [&mut first, &mut second] {
        assert_eq!(client.say("SELECT plan"), "OK");
    }
    until("they are apart", || {
        first.say("SYNOD.MERGED").contains("apart true")
            && second.say("SYNOD.MERGED").contains("apart true")
    });
    assert_eq!((&*first.say("GET k"), &*second.say("GET k")), ("here", "there"));
    // The first node is asked first, so its side is here.
    let (code, _, complaint) =
        ran(&mut nodes.client(["merge", "--keep", "here", "--table", "plan"]));
    assert_eq!(code, 0, "{complaint}");
    until("they are one", || first.say("GET k") == "here" && second.say("GET k") == "here");
}

/// M-15, M-16, L-15: who ends a conflict by hand overwrites nothing that they have not seen; nor
/// does who writes back what was read.
#[test]
fn conflicts_are_ended_by_hand() {
    let (nodes, cut) = cluster();
    let mut carts = clients(&nodes, "carts");
    assert_eq!(carts[0].say("SYNOD.BATCH 2 IF ann 0 PUT ann tea").get(..13), Some("{written true"));
    assert_eq!(carts[0].say("SYNOD.BATCH 2 IF ann 0 PUT ann cake"), "{written false}");
    until("all have it", || all_say(&mut carts, "GET ann", "tea"));
    cut.cut();
    assert_eq!(carts[0].say("SET ann tea+milk"), "OK");
    assert_eq!(carts[1].say("SET ann tea+bread"), "OK");
    cut.heal();
    until("it is in conflict everywhere", || {
        carts.iter_mut().all(|client| writes(&client.say("SYNOD.GET ann")).len() == 2)
    });

    let resolve =
        |words: &[&str]| ran(nodes.client(["resolve", "ann", "--table", "carts"]).args(words));
    let (code, out, complaint) = ran(&mut nodes.client(["get", "ann", "--table", "carts"]));
    assert_eq!((code, &*out), (0, "tea+bread"));
    assert!(complaint.contains("ann is in conflict") && complaint.contains("synod resolve"));
    // Without a word of what to do, it shows.
    let (code, out, _) = resolve(&[]);
    assert_eq!(code, 1);
    assert!(
        out.contains("WRITE") && out.contains("tea+bread") && out.contains("tea+milk"),
        "{out}"
    );
    let seen = writes(&carts[0].say("SYNOD.GET ann"));
    assert!(seen.iter().all(|write| out.contains(write)), "{out} {seen:?}");

    // A third value, that whoever looked before has not seen.
    let keeps = format!("SYNOD.BATCH 2 IF ann 2 {} {} PUT ann both", seen[0], seen[1]);
    cut.cut();
    assert_eq!(carts[0].say("SET ann tea+rum"), "OK");
    assert_eq!(carts[1].say("SYNOD.CONFLICTS").matches("write ").count(), 2);
    assert_eq!(carts[1].say("SET ann tea+salt"), "OK");
    cut.heal();
    until("it is in conflict anew", || {
        carts.iter_mut().all(|client| client.say("SYNOD.GET ann").contains("tea+rum"))
            && carts.iter_mut().all(|client| client.say("SYNOD.GET ann").contains("tea+salt"))
    });
    assert_eq!(carts[0].say(&keeps), "{written false}");
    let (code, _, complaint) = resolve(&["--value", "both", "--of", &seen.join(",")]);
    assert_eq!((code, complaint.contains("was written to")), (1, true), "{complaint}");
    let (code, _, complaint) = resolve(&["--keep", &seen[0]]);
    assert_eq!((code, complaint.contains("shows no write")), (1, true), "{complaint}");
    let (code, _, complaint) = resolve(&["--keep", "x"]);
    assert_eq!((code, complaint.contains("shows no write")), (1, true), "{complaint}");

    let now = writes(&carts[0].say("SYNOD.GET ann"));
    let (code, out, complaint) = resolve(&["--keep", &now[1], "--of", &now.join(",")]);
    assert_eq!(code, 0, "{out}{complaint}");
    until("it is over everywhere", || all_say(&mut carts, "GET ann", "tea+rum"));
    assert!(all_say(&mut carts, "SYNOD.CONFLICTS", "{value nil rows () more nil}"));
    let (code, _, complaint) = resolve(&["--remove"]);
    assert_eq!((code, complaint.contains("ann is not in conflict")), (1, true), "{complaint}");
    assert_eq!(carts[0].say("GET ann"), "tea+rum");

    let refused = carts[0].say("SYNOD.CAS ann x IF tea+rum");
    assert!(refused.starts_with("-DISCIPLINE") && refused.contains("SYNOD.BATCH"), "{refused}");
    for wrong in ["IF ann 1 2.3", "IF ann 2 1.0.0.1", "IF ann x", "IF ann"] {
        let said = carts[0].say(&format!("SYNOD.BATCH 1 {wrong}"));
        assert!(said.starts_with("-ERR SYNOD.BATCH"), "{wrong}: {said}");
    }
}

/// M-13, M-21: rows of bags on the command line, and the end of a conflict about one element.
#[test]
fn bags_are_shown_and_changed_row_by_row() {
    let (nodes, cut) = cluster();
    let mut tags = clients(&nodes, "tags");
    tags[0].say("SYNOD.BATCH 4 PUT k c PUT k a PUT k b PUT kk d");
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        ran(nodes.client([]).args(words))
    };
    assert_eq!(run("get k -t tags"), (0, "a\nb\nc\n".into(), String::new()));
    assert_eq!(run("rows -t tags --prefix k").1, "k  a\nk  b\nk  c\nkk  d\n");
    assert_eq!(run("rows -t tags --prefix kk").1, "kk  d\n");
    assert_eq!(run("rows -t tags --limit 1 --after k --element a").1, "k  b\n");
    assert_eq!(run("rows -t tags --value d --json").1.matches("\"key\":\"kk\"").count(), 1);
    assert_eq!(run("remove k --value b -t tags").0, 0);
    assert_eq!(run("remove k --value b -t tags").0, 1);
    assert_eq!(run("get k -t tags").1, "a\nc\n");
    assert_eq!(run("keys -t tags"), (0, "k\nkk\n".into(), String::new()));
    let (code, _, complaint) = run("rows -t default");
    assert_eq!((code, complaint.contains("DISCIPLINE")), (3, true), "{complaint}");

    // Elements named by a field may be in conflict, each by itself.
    assert_eq!(run("create staff bag@0:1").0, 0);
    let mut staff: Vec<_> = (1..=3).map(|node| nodes.connect(node)).collect();
    until("all know it", || all_say(&mut staff, "SELECT staff", "OK"));
    until("the copies have met", || {
        staff.iter_mut().all(|client| {
            client.say("HELLO 3");
            client.say("SYNOD.MERGED TABLE staff").contains("settled true")
        })
    });
    cut.cut();
    staff[0].say("SYNOD.BATCH 3 PUT k a1 PUT k b1 PUT k c");
    staff[1].say("SYNOD.BATCH 2 PUT k a2 PUT k b2");
    cut.heal();
    until("two elements are in conflict", || {
        staff.iter_mut().all(|client| client.say("SYNOD.CONFLICTS").matches("write ").count() == 4)
            && all_have(&mut staff, "SYNOD.GET k", "value c")
    });
    let (code, out, complaint) = run("get k -t staff");
    assert_eq!((code, out.lines().count()), (0, 3), "{out}");
    assert_eq!(complaint.matches("in conflict").count(), 2, "{complaint}");
    let (code, _, complaint) = run("resolve k -t staff --remove");
    assert_eq!((code, complaint.contains("--element")), (2, true), "{complaint}");
    assert_eq!(run("resolve k -t staff --remove --element a").0, 0);
    assert_eq!(run("resolve k -t staff --value b3").0, 0);
    until("it is over everywhere", || {
        all_say(&mut staff, "SYNOD.CONFLICTS", "{value nil rows () more nil}")
    });
    assert_eq!(run("get k -t staff"), (0, "b3\nc\n".into(), String::new()));
}
