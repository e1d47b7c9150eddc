//! The server and its client as users run them: processes, ports, files, signals, exit codes.

mod processes;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use processes::{Nodes, ran, synod, until};
use rustix::process::Signal;

/// P-30, P-26: nodes find each other, say where they listen, and lose nothing when they are killed.
#[test]
fn a_cluster_is_killed_and_loses_nothing() {
    let mut nodes = Nodes::start_all(3, &[]);
    for node in 1..=3 {
        let (log, ports) = (nodes.log(node), nodes.ports[node - 1]);
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines[0].contains(&format!("node {node} of cluster synod of 3")), "{log}");
        assert!(lines[1].ends_with(&format!("clients (RESP) on 127.0.0.1:{}", ports.clients)));
        assert!(lines[2].ends_with(&format!("peers on 127.0.0.1:{}", ports.peers)), "{log}");
        assert!(lines[3].contains(&format!("http://127.0.0.1:{}/metrics", ports.metrics)));
        assert!(log.contains("quorum reached"), "{log}");
        // One line while a peer is not there yet, however often it was tried.
        assert!(log.matches("cannot reach n2").count() <= 1, "{log}");
    }
    let mut client = nodes.connect(1);
    assert_eq!(client.say("SYNOD.DEFAULTS RETRY PATIENCE 100000"), "OK");
    for number in 0..100 {
        assert_eq!(client.say(&format!("SET key{number} {number}")), "OK");
    }
    for node in 1..=3 {
        nodes.kill(node);
    }
    for node in 1..=3 {
        nodes.start(node);
    }
    nodes.wait_ready();
    let mut client = nodes.connect(3);
    assert_eq!(client.say("SYNOD.DEFAULTS RETRY PATIENCE 100000"), "OK");
    for number in 0..100 {
        assert_eq!(client.say(&format!("GET key{number}")), number.to_string());
    }
}

/// A signal ends a node gracefully, with status 0; the others say that they have lost it, and then
/// the quorum, and answer so.
#[test]
fn a_signal_stops_a_node() {
    let mut nodes = Nodes::new(3, &[]);
    nodes.down = 4_000;
    for node in 1..=3 {
        nodes.start(node);
    }
    nodes.wait_ready();
    assert!(nodes.signal(2, Signal::TERM).success());
    assert!(nodes.log(2).contains("n2 stops: terminated"));
    assert_eq!(nodes.connect(1).say("SET a 1"), "OK");
    // Told twice at once, as by `timeout` in a process group, it is told once.
    let child = nodes.running[2].as_ref().expect("it runs");
    rustix::process::kill_process(rustix::process::Pid::from_child(child), Signal::TERM)
        .expect("told");
    assert!(nodes.signal(3, Signal::INT).success(), "{}", nodes.log(3));
    assert!(nodes.log(3).contains("n3 stops: "), "{}", nodes.log(3));
    until("node 1 has lost the quorum", || nodes.health(1).0 == 503);
    assert!(nodes.health(1).1.contains("\"quorum\":false"));
    assert!(nodes.log(1).contains("quorum lost"), "{}", nodes.log(1));
    let answer = nodes.connect(1).say("SET a 2");
    assert!(answer.starts_with("-NOQUORUM "), "{answer}");
    let (code, _, complaint) = ran(&mut nodes.client(["put", "a", "2"]));
    assert_eq!(code, 3, "{complaint}");
    assert_eq!(ran(&mut nodes.client(["status"])).0, 1);
}

/// A node that starts for the first time says for whom it waits, and what to do.
#[test]
fn a_first_start_says_whom_it_awaits() {
    let mut nodes = Nodes::new(3, &[]);
    nodes.start(1);
    until("it waits for both", || nodes.log(1).contains("waits for node 2, node 3;"));
    assert!(nodes.log(1).contains(" WARN first start: "), "{}", nodes.log(1));
    until("it answers", || nodes.health(1).0 == 503);
    let answer = nodes.connect(1).say("SET a 1");
    assert!(answer.starts_with("-NOTREADY ") && answer.contains("start them"), "{answer}");
    nodes.start(2);
    for node in [1, 2] {
        let last = "first start: waits for node 3; the first start needs all 3";
        until("it waits for the third", || nodes.log(node).contains(last));
    }
    nodes.start(3);
    nodes.wait_ready();
}

/// Connections that come while the node does something else wait for it in the system's queue.
#[test]
fn a_burst_of_connections_has_room() {
    let nodes = Nodes::start_all(1, &[]);
    let most = fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    let most = most.and_then(|most| most.trim().parse().ok()).unwrap_or(128);
    if most < 1_024 {
        return eprintln!("SKIPPED: the system lets no more than {most} connections wait");
    }
    let child = nodes.running[0].as_ref().expect("it runs");
    let node = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(node, Signal::STOP).expect("stopped");
    let ports = nodes.ports[0];
    for port in [ports.clients, ports.peers, ports.metrics] {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        // The system's own patience would be longer.
        let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(20));
        let burst: Result<Vec<_>, _> = (0..200).map(connect).collect();
        assert_eq!(burst.expect("all find room").len(), 200);
    }
    rustix::process::kill_process(node, Signal::CONT).expect("goes on");
    assert_eq!(nodes.connect(1).say("PING"), "PONG");
}

/// P-31: whoever takes the next free number gets one of its own.
#[test]
fn two_that_start_at_once_take_two_numbers() {
    let nodes = Nodes::new(3, &[]);
    let peers = nodes.peers(1);
    let start = || {
        synod(["node", "_", "--memory", "--listen-clients", "127.0.0.1:0"])
            .args(["--listen-metrics", "off", "--peers", &peers])
            .stderr(Stdio::piped())
            .spawn()
            .expect("started")
    };
    let mut three: Vec<_> = (0..3).map(|_| start()).collect();
    let mut numbers = Vec::new();
    for child in &mut three {
        let mut line = String::new();
        BufReader::new(child.stderr.take().expect("a log")).read_line(&mut line).expect("a line");
        let number = line.split("node ").nth(1).and_then(|rest| rest.split(' ').next());
        numbers.push(number.expect("a number").to_owned());
    }
    numbers.sort();
    assert_eq!(numbers, ["1", "2", "3"]);
    let (code, _, complaint) = ran(synod(["node", "_", "--memory"]).args(["--peers", &peers]));
    assert_eq!(code, 2);
    assert!(complaint.contains("all 3 nodes of the cluster are running"), "{complaint}");
    for mut child in three {
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

/// One clear line, and status 2.
#[test]
fn what_cannot_work_is_said_in_one_line() {
    let mut nodes = Nodes::start_all(1, &[]);
    let folder = nodes.folder.path().to_owned();
    let refused = |command: &mut std::process::Command, expected: &str| {
        let (code, _, complaint) = ran(command);
        let last = complaint.lines().last().unwrap_or_default();
        assert_eq!(code, 2, "{complaint}");
        assert!(last.starts_with("synod: ") && last.contains(expected), "{complaint}");
        assert!(!complaint.contains("panicked"), "{complaint}");
    };
    refused(&mut nodes.command(1), "cannot listen for peers on 127.0.0.1:");
    nodes.signal(1, Signal::TERM);
    refused(nodes.command(1).args(["--cluster", "other"]), "cluster");
    let file = folder.join("file");
    fs::write(&file, "x").expect("written");
    refused(nodes.command(1).arg("--data-dir").arg(&file), "file");
    for (text, expected) in [
        ("cluster = ", "file"),
        ("colour = 1", "unknown field `colour`"),
        ("clients_max = 0", "clients_max"),
        ("size = 200", "size"),
        ("log_level = \"loud\"", "log_level"),
        ("reconnect = \"1s..20ms\"", "reconnect"),
        (
            "[listen]\nclients = \"localhost:4101\"",
            "listen.clients: 'localhost:4101' is not IP:PORT",
        ),
        ("[listen]\npeers = \"localhost\"", "listen.peers: 'localhost' is not IP:PORT"),
        ("[listen]\nmetrics = \"on\"", "listen.metrics: 'on' is not IP:PORT"),
        ("[peers]\n1 = \"127.0.0.1:7\"\n2 = \"127.0.0.1:7\"", "nodes 1 and 2 are both at"),
        ("[timing]\nheartbeat = 0", "heartbeat"),
    ] {
        fs::write(&file, text).expect("written");
        refused(synod(["node", "1", "--memory", "--config"]).arg(&file), expected);
    }
    refused(synod(["node", "1", "--config"]).arg(folder.join("none")), "none");
    refused(&mut synod(["node", "1", "--config", "/dev/zero"]), "/dev/zero: longer than");
    refused(&mut synod(["node", "1", "--password-file", "/dev/zero"]), "/dev/zero: longer than");
    refused(&mut synod(["get", "k", "--password-file", "/dev/zero"]), "/dev/zero: longer than");
    refused(&mut synod(["node", "4"]), "the cluster has nodes 1 to 3");
    refused(&mut synod(["get", "k", "--server", "127.0.0.1:1"]), "no server can be reached");
}

/// P-32: a node whose state is damaged runs, says why and does not vote; its files stay as they
/// are. A second process does not get in the way of the first.
#[test]
fn a_damaged_node_says_why_and_does_not_vote() {
    let mut nodes = Nodes::new(3, &[]);
    nodes.down = 4_000;
    for node in 1..=3 {
        nodes.start(node);
    }
    nodes.wait_ready();
    let data = nodes.folder.path().join("data");
    let (code, _, complaint) = ran(Nodes::new(3, &[]).command(2).arg("--data-dir").arg(&data));
    let running = nodes.running[1].as_ref().expect("it runs").id();
    assert_eq!(code, 2, "{complaint}");
    assert!(complaint.contains(&format!("is in use by process {running}")), "{complaint}");
    let mut client = nodes.connect(2);
    for number in 0..20 {
        assert_eq!(client.say(&format!("SET key{number} {number}")), "OK");
    }
    nodes.kill(1);
    let segment = data.join("node-1").join("log-00000001");
    let mut bytes = fs::read(&segment).expect("a segment");
    bytes[100] ^= 1;
    fs::write(&segment, &bytes).expect("written");
    nodes.start(1);
    until("it says why", || nodes.log(1).contains("log-00000001 at byte"));
    assert!(nodes.log(1).contains("does not vote"), "{}", nodes.log(1));
    // The other two are a quorum, it and one of them are none.
    assert_eq!(client.say("SET a 1"), "OK");
    nodes.kill(3);
    until("there is no quorum", || nodes.health(2).0 == 503);
    assert!(client.say("SET a 2").contains("NOQUORUM"));
    assert_eq!(nodes.health(1).0, 503);
    nodes.start(3);
    until("there is one again", || nodes.health(2).0 == 200);
    assert_eq!(client.say("GET a"), "1");
    assert_eq!(fs::read(&segment).expect("a segment"), bytes);
    // Nor does one whose state is gone, once a peer has said that there was one.
    nodes.kill(3);
    fs::remove_dir_all(data.join("node-3")).expect("removed");
    nodes.start(3);
    until("it says so", || nodes.log(3).contains("ERROR readiness node=3 readiness=state lost: "));
}

/// A file, the environment over it, and flags over both; the log as JSON.
#[test]
fn settings_come_from_a_file_the_environment_and_flags() {
    let mut nodes = Nodes::new(1, &["--cluster", "flag", "--log-format", "json"]);
    let file = nodes.folder.path().join("synod.toml");
    fs::write(
        &file,
        "cluster = \"file\"\nlog_level = \"info\"\nclients_max = 7\n\
         [[tables]]\nname = \"a\"\n[[tables]]\nname = \"b\"\nwrite_once = true\n",
    )
    .expect("written");
    let log = fs::File::create(nodes.log_path(1)).expect("a log");
    let mut command = nodes.command(1);
    command.env("SYNOD_CONFIG", &file).env("SYNOD_CLUSTER", "environment").stderr(log);
    nodes.running[0] = Some(command.spawn().expect("started"));
    nodes.wait_ready();
    for line in nodes.log(1).lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(nodes.log(1).contains("of cluster flag"));
    let mut client = nodes.connect(1);
    assert_eq!(client.say("HELLO 3 SETNAME me").split(' ').next(), Some("{server"));
    let status = client.say("SYNOD.STATUS");
    assert!(status.contains("tables (a b)"), "{status}");
    let mut more: Vec<_> = (0..6).map(|_| nodes.connect(1)).collect();
    assert!(more.iter_mut().all(|client| client.say("PING") == "PONG"));
    let answer = nodes.connect(1).receive().map(|frame| processes::shown(&frame));
    assert_eq!(answer.as_deref(), Some("-BUSY too many clients; ask another node"));
    drop(more);
}

/// Of settings that exclude each other a flag beats the environment, and that the file; only what
/// was said in the same way is an error.
#[test]
fn what_excludes_each_other_is_weighed() {
    let nodes = Nodes::new(1, &[]);
    let folder = nodes.folder.path();
    let said = |file: &str, environment: &[(&str, &str)], flags: &[&str], expected: &str| {
        let settings = folder.join("synod.toml");
        fs::write(&settings, file).expect("written");
        let log = folder.join("log");
        let mut command = synod(["node", "1", "--listen-metrics", "off"]);
        command.args(["--listen-clients", "127.0.0.1:0", "--listen-peers", "127.0.0.1:0"]);
        command.args(flags).envs(environment.iter().copied()).current_dir(folder);
        command.env("SYNOD_CONFIG", &settings).stderr(fs::File::create(&log).expect("a log"));
        let mut node = command.spawn().expect("started");
        let log = || fs::read_to_string(&log).expect("a log");
        until(expected, || {
            let ended = node.try_wait().expect("a status").is_some();
            assert!(!ended || log().contains(expected), "{}", log());
            log().contains(expected)
        });
        drop(node.kill());
        drop(node.wait());
    };
    let memory = "state is kept in memory only";
    said("", &[("SYNOD_DATA_DIR", "x")], &["--memory"], memory);
    said("data_dir = \"x\"", &[], &["--memory"], memory);
    said("data_dir = \"x\"", &[("SYNOD_MEMORY", "yes")], &[], memory);
    said("", &[("SYNOD_STORE", "log")], &["--memory"], memory);
    let here = format!("state in {}", folder.canonicalize().expect("a path").display());
    said("", &[("SYNOD_MEMORY", "1")], &["--data-dir", "x"], &format!("{here}/x/node-1, new"));
    said("memory = true", &[], &["--data-dir", "x"], &format!("{here}/x/node-1"));
    said("memory = true\ndata_dir = \"y\"", &[("SYNOD_MEMORY", "0")], &[], &format!("{here}/y"));
    said("", &[("SYNOD_MEMORY", "on")], &["--memory=no"], "name a place with --data-dir");
    said("", &[], &[], &format!("{here}/synod-data/node-1"));
    said("", &[("SYNOD_JOIN", "127.0.0.1:1")], &["--size", "1"], "of cluster synod of 1");
    let peers = [("SYNOD_PEERS", "1=127.0.0.1:1")];
    said("", &peers, &["--join", "127.0.0.1:1"], "no server can be reached");
    said("", &[], &["--memory", "--data-dir", "x"], "--memory and --data-dir exclude each other");
    said("", &[("SYNOD_MEMORY", "maybe")], &[], "invalid value 'maybe'");
    // Whoever said something wrong is named.
    let size = [("SYNOD_SIZE", "abc")];
    said("", &size, &[], "the environment says so, in SYNOD_SIZE");
    let complaint = ran(synod(["node", "1", "--size", "x"]).envs(size)).2;
    assert!(complaint.contains("'x' for '--size") && !complaint.contains("SYNOD"), "{complaint}");
    let clients = [("SYNOD_LISTEN_CLIENTS", "localhost:4101")];
    let complaint = ran(synod(["node", "1"]).envs(clients)).2;
    for part in ["in SYNOD_LISTEN_CLIENTS", "'localhost:4101' is not IP:PORT, such as 0.0.0.0:"] {
        assert!(complaint.contains(part), "{complaint}");
    }
}

/// Every verb, its output and its exit status.
#[test]
fn the_client_tells_by_its_exit_status() {
    let nodes =
        Nodes::start_all(3, &["--tables", "default,once:write-once", "--reconnect", "50ms..2s"]);
    let run = |words: &[&str]| ran(nodes.client([]).args(words));
    let out = |words: &[&str], code: i32| {
        let (found, out, complaint) = run(words);
        assert_eq!(found, code, "{words:?}: {out}{complaint}");
        out
    };
    assert!(out(&["put", "k", "v"], 0).contains("previous    -"));
    assert_eq!(out(&["get", "k"], 0), "v");
    assert!(out(&["get", "k", "--entry", "--local"], 0).contains("generation  1:"));
    assert_eq!(out(&["get", "none"], 1), "");
    assert!(out(&["put", "k", "w", "--if-absent"], 1).starts_with("won         no"));
    assert!(out(&["put", "k", "w", "--if", "x"], 1).starts_with("written     no"));
    assert!(out(&["put", "k", "w", "--if", "v"], 0).starts_with("written     yes"));
    assert!(out(&["fence", "k"], 0).contains("value       w"));
    out(&["put", "a", "1", "--key", "default:k"], 0);
    assert_eq!(out(&["keys"], 0), "a\nk\n");
    assert_eq!(out(&["keys", "--after", "a", "--limit", "1", "--json"], 0), "\"k\"\n");
    assert!(out(&["remove", "k"], 0).starts_with("removed   yes"));
    until("what was bound to it is gone", || run(&["get", "a"]).0 == 1);
    assert!(out(&["remove", "k"], 1).starts_with("removed   no"));
    out(&["put", "k", "v", "--table", "once"], 3);
    out(&["put", "k", "v", "--table", "nowhere"], 3);
    out(&["put", "k", "v", "--until", "5"], 3);
    out(&["put", "k", "v", "--key", "k"], 2);
    out(&["put", "k"], 2);
    out(&["get", "k", "--timeout", "5"], 2);
    assert!(out(&["tables"], 0).contains("once     1       consensus   yes"));
    let status = out(&["status"], 0);
    assert_eq!(status.matches("ready   yes").count(), 0, "columns are aligned: {status}");
    assert_eq!(status.lines().count(), 4, "{status}");
    // Colours are for terminals.
    assert!(!status.contains('\x1b'), "{status}");
    for line in out(&["status", "--json"], 0).lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["status"]["ready"], true, "{line}");
    }
    assert_eq!(out(&["events", "--count", "1"], 0), "reached\n");
    assert_eq!((out(&["reconnect"], 0), out(&["reconnect", "2"], 0)), Default::default());
    out(&["reconnect", "9"], 3);
    assert!(out(&["completions", "bash"], 0).contains("complete -F _synod"));
    for verb in ["node", "get", "put", "remove", "fence", "keys", "watch", "status", "session"] {
        assert!(out(&[verb, "--help"], 0).contains("Example"), "{verb}");
    }
}

/// A key bound to the session of a command is gone when the command is.
#[test]
fn a_session_lasts_as_long_as_its_command() {
    let nodes = Nodes::start_all(3, &[]);
    let script = "\"$0\" put leader me --if-absent --session $SYNOD_SESSION && exit 7";
    let mut held = nodes.client(["session", "--", "sh", "-c", script, processes::SYNOD]);
    let (code, out, complaint) = ran(&mut held);
    assert_eq!(code, 7, "{out}{complaint}");
    assert!(out.contains("won         yes"), "{out}");
    until("the key is gone", || ran(&mut nodes.client(["get", "leader"])).0 == 1);
    // Its node dies: the command is ended, for its session is lost.
    let mut nodes = nodes;
    let mut held = nodes.client(["session", "--", "sleep", "600"]).spawn().expect("started");
    until("the session is open", || nodes.connect(1).say("INFO clients").contains("sessions:1"));
    nodes.kill(1);
    until("the command has ended", || held.try_wait().expect("a status").is_some());
    assert_eq!(held.wait().expect("ended").code(), Some(3));
}

/// Nothing that a command has started outlives the session: neither when it is lost, nor when the
/// command or its holder is told to end, however deaf to signals it is.
#[test]
fn nothing_of_a_command_outlives_its_session() {
    let mut nodes = Nodes::start_all(3, &[]);
    let folder = nodes.folder.path().to_owned();
    let holder = |nodes: &Nodes, name: &str, script: &str| {
        let file = folder.join(name);
        // The shell that is waited for, and the server that it has started.
        let script = format!("{script} sleep 600 & echo $! >{0}.new; mv {0}.new {0}; wait", name);
        let mut held = nodes.client(["session", "--", "sh", "-c", &script]);
        let held = held.current_dir(&folder).spawn().expect("started");
        until("the server runs", || file.exists());
        let pid: i32 = fs::read_to_string(&file).expect("read").trim().parse().expect("a number");
        (held, rustix::process::Pid::from_raw(pid).expect("a process"))
    };
    let gone = |server| {
        until("the server has ended", || rustix::process::test_kill_process(server).is_err())
    };
    let sessions = |nodes: &Nodes, count: usize| {
        until("so many sessions", || {
            nodes.connect(1).say("INFO clients").contains(&format!("sessions:{count}"))
        });
    };
    for (signal, name, code) in [(Signal::TERM, "term", 143), (Signal::HUP, "hup", 129)] {
        let (mut held, server) = holder(&nodes, name, "");
        sessions(&nodes, 1);
        rustix::process::kill_process(rustix::process::Pid::from_child(&held), signal)
            .expect("told");
        assert_eq!(held.wait().expect("ended").code(), Some(code), "{name}");
        gone(server);
        sessions(&nodes, 0);
    }
    // The command ends, and leaves something behind that ignores being told to end.
    let (mut held, server) = holder(&nodes, "deaf", "trap '' TERM; (sleep 1; kill -9 $$) &");
    assert_eq!(held.wait().expect("ended").code(), Some(137));
    gone(server);
    let (mut held, server) = holder(&nodes, "lost", "");
    nodes.kill(1);
    assert_eq!(held.wait().expect("ended").code(), Some(3));
    gone(server);
}

/// A node that is hung, or not ready, is passed over; what was in flight there goes on elsewhere.
#[test]
fn a_hung_node_is_passed_over() {
    let nodes = Nodes::start_all(3, &[]);
    let child = nodes.running[0].as_ref().expect("it runs");
    let hung = rustix::process::Pid::from_child(child);
    assert_eq!(ran(&mut nodes.client(["put", "k", "v"])).0, 0);
    let mut watch = nodes.client(["watch", "k", "--count", "1"]);
    watch.env("SYNOD_TIMEOUT", "6s").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = watch.spawn().expect("started");
    let mut lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    let mut line = || lines.next().expect("a line").expect("text");
    assert!(line().starts_with("present 1:"));
    rustix::process::kill_process(hung, Signal::STOP).expect("stopped");
    for words in [&["get", "k"][..], &["put", "k", "w"], &["tables"], &["events", "--count", "1"]] {
        let (code, _, complaint) = ran(nodes.client([]).args(words));
        assert_eq!(code, 0, "{words:?}: {complaint}");
    }
    assert_eq!(ran(&mut nodes.client(["session", "--", "true"])).0, 0);
    until("it watches elsewhere", || nodes.connect(2).say("CLIENT LIST").contains("sub=1"));
    assert_eq!(ran(&mut nodes.client(["remove", "k"])).0, 0);
    assert!(line().starts_with("removed 1:"));
    let told = watch.wait_with_output().expect("it ends");
    let complaint = String::from_utf8_lossy(&told.stderr);
    assert!(complaint.contains("the connection was lost"), "{complaint}");
}

/// Told to stop, a node answers what it has read, closes, and takes its sessions with it: nobody
/// has to wait for its silence to be noticed, which here would take longer than the test.
#[test]
fn a_graceful_stop_answers_and_ends_sessions() {
    let mut nodes = Nodes::new(3, &[]);
    nodes.down = 600_000;
    (1..=3).for_each(|node| nodes.start(node));
    nodes.wait_ready();
    let mut keeper = nodes.connect(1);
    let opened = keeper.say("SYNOD.SESSION OPEN GRACE 600000");
    let session = opened.split([' ', ')']).nth(1).expect("a session").to_owned();
    let put = keeper.say(&format!("SYNOD.PUT leader me SESSION {session}"));
    assert!(put.starts_with('('), "{put}");
    assert_eq!(nodes.connect(2).say("GET leader"), "me");
    let mut pipeline = nodes.connect(1);
    pipeline.send("SET k v\r\n".repeat(64).as_bytes());
    let ok = |frame: Option<resp_rs::resp3::Frame>| frame.map(|frame| processes::shown(&frame));
    assert_eq!(ok(pipeline.receive()).as_deref(), Some("OK"));
    assert!(nodes.signal(1, Signal::TERM).success());
    for _ in 1..64 {
        assert_eq!(ok(pipeline.receive()).as_deref(), Some("OK"));
    }
    assert_eq!((ok(pipeline.receive()), ok(keeper.receive())), (None, None));
    until("the key is gone", || nodes.connect(2).say("GET leader") == "nil");
}

/// What the host sees of its disk and its links.
#[test]
fn disks_and_links_are_measured() {
    let nodes = Nodes::start_all(3, &[]);
    assert_eq!(nodes.connect(1).say("SET k v"), "OK");
    let mut stranger = processes::Client::connect(nodes.ports[0].peers);
    stranger.send(b"GET / HTTP/1.1\r\n\r\n");
    until("a stranger is refused", || nodes.log(1).contains("refused 127.0.0.1:"));
    let page = nodes.page(1, "/metrics").1;
    let number = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
    };
    assert!(number("synod_disk_write_duration_seconds_count") > 0.0);
    assert!(number("synod_storage_bytes") > 0.0);
    assert!(number("synod_disk_waiting_bytes") < 1e6);
    // Whatever they are now: what moves them is tested where it can be made to happen.
    for name in [
        "disk_stalled_seconds",
        "disk_waiting_records",
        "link_queued_bytes{peer=\"2\"}",
        "link_dropped_messages_total{peer=\"3\"}",
    ] {
        number(&format!("synod_{name}"));
    }
    for name in ["disk_dropped_messages_total", "disk_refused_requests_total"] {
        assert_eq!(number(&format!("synod_{name}")), 0.0);
    }
    assert_eq!(number("synod_link_up{peer=\"2\"}") + number("synod_link_up{peer=\"3\"}"), 2.0);
    assert!(number("synod_handshakes_refused_total") > 0.0);
    let (code, body) = nodes.health(1);
    assert!(code == 200 && body.contains("\"disk_stalled_seconds\""), "{body}");
}

/// A watcher is told of the end of a key's life.
#[test]
fn a_watcher_is_told() {
    let nodes = Nodes::start_all(3, &[]);
    assert_eq!(ran(&mut nodes.client(["put", "k", "v"])).0, 0);
    let mut watch = nodes.client(["watch", "k", "--count", "1", "--json"]);
    let watch = watch.stdout(Stdio::piped()).spawn().expect("started");
    until("it watches", || nodes.connect(1).say("CLIENT LIST").contains("sub=1"));
    assert_eq!(ran(&mut nodes.client(["remove", "k"])).0, 0);
    let told = watch.wait_with_output().expect("it ends");
    let told = String::from_utf8(told.stdout).expect("text");
    for (line, expected) in told.lines().zip(["present 1:", "removed 1:"]) {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["channel"], "key:default:k");
        assert!(line["event"].as_str().is_some_and(|it| it.starts_with(expected)), "{line}");
    }
    assert_eq!(told.lines().count(), 2, "{told}");
    // Who waits for it to be gone need not wait.
    let (code, told, _) = ran(&mut nodes.client(["watch", "k", "--count", "1"]));
    assert_eq!((code, &told[..]), (0, "absent\n"));
}

/// Without the password nothing is told or done; with it everything is as usual.
#[test]
fn a_password_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    fs::write(&file, "open sesame\n").expect("written");
    let path = file.to_str().expect("text");
    let nodes = Nodes::start_all(1, &["--password-file", path]);
    let mut client = nodes.connect(1);
    assert!(client.say("GET k").starts_with("-NOAUTH "));
    assert!(client.say("AUTH wrong").starts_with("-WRONGPASS "));
    assert_eq!(client.say("AUTH \"open sesame\""), "OK");
    assert_eq!(client.say("GET k"), "nil");
    let (code, _, complaint) = ran(&mut nodes.client(["put", "k", "v"]));
    assert!(code == 3 && complaint.contains("NOAUTH"), "{complaint}");
    let (code, told, complaint) = ran(&mut nodes.client(["status"]));
    assert!(code == 3 && complaint.contains("NOAUTH") && told.contains("NOAUTH"), "{complaint}");
    assert_eq!(ran(&mut nodes.client(["put", "k", "v", "--password-file", path])).0, 0);
    assert!(!nodes.log(1).contains("sesame"), "passwords are no business of the log");
    // Whoever joins says it too, wherever it is told of the file.
    let settings = folder.path().join("synod.toml");
    fs::write(&settings, format!("password_file = {path:?}\n")).expect("written");
    let asked = format!("127.0.0.1:{}", nodes.ports[0].clients);
    let mut command = synod(["node", "9", "--memory", "--join", &asked, "--config"]);
    let (code, _, complaint) = ran(command.arg(&settings));
    assert!(code == 2 && complaint.contains("node 9 is not among them"), "{complaint}");
}

/// Who joins need not say again what the first was told.
#[test]
fn a_node_joins_by_asking_another() {
    let mut nodes = Nodes::new(3, &["--tables", "a,b:write-once", "--cluster", "joined"]);
    nodes.start(1);
    until("node 1 answers", || nodes.page(1, "/metrics").0 == 200);
    let join = |nodes: &mut Nodes, node: usize| {
        let at = |port: u16| format!("127.0.0.1:{port}");
        let ports = nodes.ports[node - 1];
        let mut command = synod(["node"]);
        // The first of those asked is not there.
        let asked = format!("127.0.0.1:1,{}", at(nodes.ports[0].clients));
        command.arg(node.to_string()).args(["--join", &asked]);
        command.args(["--listen-clients", &at(ports.clients)]);
        command.args(["--listen-metrics", &at(ports.metrics)]);
        command.arg("--data-dir").arg(nodes.folder.path().join("data"));
        let log = fs::File::create(nodes.log_path(node)).expect("a log");
        nodes.running[node - 1] = Some(command.stderr(log).spawn().expect("started"));
    };
    join(&mut nodes, 2);
    join(&mut nodes, 3);
    nodes.wait_ready();
    // What was asked once need not be asked again.
    nodes.kill(1);
    nodes.kill(3);
    join(&mut nodes, 3);
    until("node 3 is ready without node 1", || nodes.health(3).0 == 200);
    assert!(nodes.log(3).contains("what was said before stands"), "{}", nodes.log(3));
    nodes.start(1);
    nodes.wait_ready();
    assert_eq!(ran(&mut nodes.client(["put", "k", "v", "--table", "b", "--if-absent"])).0, 0);
    // What does not fit is not kept: the next start would believe it.
    let elsewhere = nodes.folder.path().join("elsewhere");
    let asked = format!("127.0.0.1:{}", nodes.ports[0].clients);
    let mut command = synod(["node", "9", "--join", &asked, "--data-dir"]);
    let (code, _, complaint) = ran(command.arg(&elsewhere));
    assert!(code == 2 && complaint.contains("node 9 is not among them"), "{complaint}");
    assert!(!elsewhere.join("node-9.joined.json").exists());
    let (code, _, complaint) = ran(&mut synod(["node", "2", "--join", "127.0.0.1:1", "--memory"]));
    assert!(code == 2 && complaint.contains("no server can be reached"), "{complaint}");
}
