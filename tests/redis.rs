//! Clients of Redis against a cluster: what they try, and what they are told.
//!
//! Our own client asks everything in both versions of the protocol; `redis-cli`, `redis-benchmark`
//! and redis-py likewise where they are installed, and where not, that is said.

mod processes;

use std::process::Command;

use processes::{Nodes, ran};

/// What is said, and what is answered: up to its end, or to `…`.
const TABLE: [(&str, &str); 63] = [
    ("PING", "PONG"),
    ("PING hello", "hello"),
    ("ECHO hello", "hello"),
    ("SET k v", "OK"),
    ("GET k", "v"),
    ("GET none", "nil"),
    ("SET k w NX", "nil"),
    ("SET k w NX GET", "v"),
    ("SET k w XX", "OK"),
    ("SET k x GET", "w"),
    ("SETNX k y", "0"),
    ("SETNX l y", "1"),
    ("GETSET l z", "y"),
    ("STRLEN l", "1"),
    ("TYPE l", "string"),
    ("TYPE none", "none"),
    ("EXISTS k l none", "2"),
    ("MGET k none l", "(x nil z)"),
    ("MSET k v", "OK"),
    ("MSET k v l w", "-UNSUPPORTED MSET of several keys…"),
    ("SET t v PX 100000", "OK"),
    ("SET t w KEEPTTL", "OK"),
    ("TTL t", "…"),
    ("PTTL t", "…"),
    ("SET t v EXAT 4000000000", "OK"),
    ("PEXPIRETIME t", "4000000000000"),
    ("EXPIRETIME t", "4000000000"),
    ("SET t v PXAT 1", "-INVALIDBINDING …"),
    ("SET t v EX 0", "-ERR SET: a time cannot be '0'…"),
    ("SETEX t 100 v", "OK"),
    ("PSETEX t 100000 v", "OK"),
    ("PERSIST t", "-UNSUPPORTED PERSIST…"),
    ("EXPIRE t 5", "-UNSUPPORTED EXPIRE…"),
    ("SET t v", "OK"),
    ("TTL t", "-1"),
    ("TTL none", "-2"),
    ("KEYS ?", "(k l t)"),
    ("SCAN 0 COUNT 10", "(0 (k l t))"),
    ("GETDEL t", "v"),
    ("DEL k none", "1"),
    ("UNLINK l", "1"),
    ("INCR k", "-UNSUPPORTED INCR…"),
    ("APPEND k v", "-UNSUPPORTED APPEND…"),
    ("MULTI", "-UNSUPPORTED MULTI would not be here what it is in Redis: there are no trans…"),
    ("EXEC", "-UNSUPPORTED EXEC would not be here…"),
    ("DISCARD", "-UNSUPPORTED DISCARD would not be here…"),
    ("UNWATCH", "-UNSUPPORTED UNWATCH…"),
    ("SUBSCRIBE session:s1.1.99", "-NOSUCHSESSION s1.1.99 is no session of this connection…"),
    ("SUBSCRIBE news", "-UNSUPPORTED there are no channels…"),
    ("WATCH k", "-UNSUPPORTED WATCH…"),
    ("EVAL x 0", "-UNSUPPORTED EVAL…"),
    ("PUBLISH c m", "-UNSUPPORTED PUBLISH…"),
    ("FLUSHALL", "-UNSUPPORTED FLUSHALL…"),
    ("DBSIZE", "-UNSUPPORTED DBSIZE…"),
    ("LPUSH k v", "-ERR unknown command 'LPUSH'…"),
    ("GET", "-ERR wrong number of arguments for 'GET'; it is GET key"),
    ("SELECT 1", "OK"),
    ("SELECT 2", "-NOSUCHTABLE …"),
    ("SELECT default", "OK"),
    ("CLIENT SETNAME me", "OK"),
    ("CLIENT SETINFO LIB-NAME x", "OK"),
    ("AUTH x", "-ERR AUTH: this node asks for no password…"),
    ("CONFIG GET databases", "databases 2"),
];

fn fits(found: &str, expected: &str) -> bool {
    expected.strip_suffix('…').map_or(found == expected, |start| found.starts_with(start))
}

fn cluster() -> Nodes {
    Nodes::start_all(3, &["--tables", "default,locks:write-once"])
}

/// Whether a program can be run; if not, says so.
fn is_there(program: &str, arguments: &[&str]) -> bool {
    let there = Command::new(program).args(arguments).output().is_ok_and(|it| it.status.success());
    if !there {
        eprintln!("SKIPPED: {program} {} cannot be run here", arguments.join(" "));
    }
    there
}

#[test]
fn both_versions_of_the_protocol() {
    let nodes = cluster();
    for (node, hello) in [(1, "HELLO 2"), (2, "HELLO 3")] {
        let mut client = nodes.connect(node);
        let told = client.say(hello);
        assert!(told.contains("server synod") && told.contains("mode standalone"), "{told}");
        for (said, expected) in TABLE {
            let bare = |text: &str| text.replace(['{', '}', '(', ')'], "");
            let (found, is_map) = (client.say(said), said.starts_with("CONFIG"));
            let found = if is_map { bare(&found) } else { found };
            assert!(fits(&found, expected), "{hello}, {said}: {found}, not {expected}");
        }
        let docs = client.say("COMMAND DOCS SET");
        assert!(docs.contains("summary") && docs.contains("KEEPTTL"), "{docs}");
        assert!(client.say("CLIENT LIST").contains("name=me"));
        // It tells of when it is asked, not of when something last changed.
        processes::until("it is older", || !client.say("CLIENT LIST").contains("age=0"));
        assert!(client.say("INFO").contains("# Cluster\r\n"));
        assert_eq!(client.say("QUIT"), "OK");
        assert!(client.receive().is_none());
    }
}

/// A thousand commands in one packet: answered in order, each key's in effect in order.
#[test]
fn pipelines_keep_their_order() {
    let nodes = cluster();
    let mut client = nodes.connect(1);
    let line = |number: u32| format!("SET key{} {number}\r\nGET key{0}\r\n", number % 7);
    let packet: String = (0..500).map(line).collect();
    client.send(packet.as_bytes());
    for number in 0..500_u32 {
        let mut next = || client.receive().map(|frame| processes::shown(&frame));
        assert_eq!(next().as_deref(), Some("OK"));
        assert_eq!(next(), Some(number.to_string()));
    }
}

#[test]
fn redis_cli_is_answered() {
    if !is_there("redis-cli", &["--version"]) {
        return;
    }
    let nodes = cluster();
    let port = nodes.ports[0].clients.to_string();
    for version in ["-2", "-3"] {
        // What is about the connection ends with it here.
        let about_keys = TABLE.iter().filter(|(said, _)| {
            // And of a subscriber it never asks anything else.
            !["SELECT", "SUBSCRIBE"].iter().any(|name| said.starts_with(name))
        });
        for (said, expected) in about_keys {
            let mut command = Command::new("redis-cli");
            command.args([version, "-p", &port]).args(said.split(' '));
            let (_, found, complaint) = ran(&mut command);
            let found = found.split_whitespace().collect::<Vec<_>>().join(" ");
            let words = expected.trim_start_matches('-').replace("nil", "");
            let plain = |text: &str| text.replace(['(', ')'], "");
            let expected = if expected.starts_with('-')
                && !expected[1..].starts_with(|c: char| c.is_ascii_digit())
            {
                words
            } else {
                plain(&expected.replace("nil", ""))
            };
            let expected = expected.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                fits(&found, &expected),
                "redis-cli {version} {said}: {found:?}, not {expected:?} {complaint}"
            );
        }
    }
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port, "--pipe"]).stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("started");
    let lines: String = (0..1_000).map(|number| format!("SET pipe{number} x\r\n")).collect();
    std::io::Write::write_all(&mut child.stdin.take().expect("open"), lines.as_bytes())
        .expect("written");
    let told = child.wait_with_output().expect("it ends").stdout;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("errors: 0, replies: 1000"), "{told}");
}

#[test]
fn redis_benchmark_runs() {
    if !is_there("redis-benchmark", &["--version"]) {
        return;
    }
    let nodes = cluster();
    let port = nodes.ports[0].clients.to_string();
    for pipeline in ["1", "16"] {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &port, "-t", "set,get", "-n", "2000", "-r", "1000", "--csv"]);
        let (code, told, complaint) = ran(command.args(["-P", pipeline]));
        assert_eq!(code, 0, "{told}{complaint}");
        for test in ["\"SET\"", "\"GET\""] {
            assert!(told.contains(test), "{told}{complaint}");
        }
        for sign in ["rror", "ERR", "UNSUPPORTED"] {
            assert!(!told.contains(sign) && !complaint.contains(sign), "{told}{complaint}");
        }
    }
}

const PYTHON: &str = "
import sys, redis
for protocol in (2, 3):
    r = redis.Redis(port=int(sys.argv[1]), protocol=protocol, decode_responses=True)
    assert r.ping() and r.set('k', 'v', ex=100) and r.get('k') == 'v' and r.ttl('k') > 50
    assert r.set('k', 'w', nx=True) is None and r.set('k', 'w', get=True) == 'v'
    assert r.mget('k', 'none') == ['w', None] and r.exists('k') == 1 and r.delete('k') == 1
    pipe = r.pipeline(transaction=False)
    for i in range(1000):
        pipe.set(f'p{i}', i)
    assert pipe.execute() == [True] * 1000
    assert len(list(r.scan_iter('p*', count=100))) == 1000 and len(r.keys('p*')) == 1000
    for refused in (lambda: r.incr('k'), lambda: r.expire('p1', 5), lambda: r.flushall()):
        try:
            refused()
            assert False, 'it was not refused'
        except redis.ResponseError as error:
            assert str(error).startswith('UNSUPPORTED'), error
    r.set('k', 'before')
    try:
        r.pipeline().set('k', 'within').delete('p1').execute()
        assert False, 'there are transactions'
    except redis.ResponseError as error:
        assert 'pipeline(transaction=False)' in str(error), error
    assert r.get('k') == 'before' and r.exists('p1') == 1
    assert r.info('server')['synod_version'] and r.client_info()['lib-name'] == 'redis-py'
    assert r.execute_command('SYNOD.STATUS')
    pubsub = r.pubsub()
    pubsub.subscribe('quorum')
    assert pubsub.get_message(timeout=10)['type'] == 'subscribe'
    assert pubsub.get_message(timeout=10)['data'] == 'reached'
    pubsub.close()
    r.close()
print('done')
";

#[test]
fn redis_py_is_answered() {
    if !is_there("python3", &["-c", "import redis"]) {
        return;
    }
    let nodes = cluster();
    let port = nodes.ports[0].clients.to_string();
    let (code, told, complaint) = ran(Command::new("python3").args(["-c", PYTHON, &port]));
    assert_eq!((code, &*told), (0, "done\n"), "{complaint}");
}
