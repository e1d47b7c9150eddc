//! Garbage on every port of a node: refused with a line in the log, bounded in memory, and nobody
//! else feels it.

mod processes;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use processes::{Client, LONG, Nodes, ran, until};

/// The preface of a stream between members, of version 1.
const PREFACE: &[u8] = b"\x89synod\r\n\x01\x00";

/// Bytes that look like anything; the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

/// Sends what it can of this, says that no more comes, and reads until the other side has had
/// enough.
fn throw(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.set_read_timeout(Some(LONG)).expect("a bound");
    stream.set_write_timeout(Some(LONG)).expect("a bound");
    let mut answer = Vec::new();
    // Whoever is refused early may find the stream closed at any point.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    if let Err(error) = stream.read_to_end(&mut answer) {
        let patient = ![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind());
        assert!(patient, "port {port} left a connection open: {:?}", bytes.get(..40));
    }
    answer
}

/// One test at a time: what they measure they would else do to each other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody who goes on reading and writing, and is always answered.
fn with_service(nodes: &Nodes, attack: impl FnOnce()) {
    let (stop, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let service = scope.spawn(|| {
            let mut client = nodes.connect(1);
            // A machine that has better to do may keep nodes from hearing each other.
            assert_eq!(client.say("SYNOD.DEFAULTS RETRY PATIENCE 170000"), "OK");
            while !stop.load(Ordering::Relaxed) {
                let number = served.load(Ordering::Relaxed).to_string();
                assert_eq!(client.say(&format!("SET service {number}")), "OK");
                assert_eq!(client.say("GET service"), number);
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        let attacked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attack));
        // At least once after everything.
        let before = served.load(Ordering::Relaxed);
        until("service goes on", || {
            served.load(Ordering::Relaxed) > before + 1 || service.is_finished()
        });
        stop.store(true, Ordering::Relaxed);
        service.join().expect("everybody was answered");
        attacked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

const MIB: u64 = 1 << 20;

/// How many lines of a node's log say this.
fn said(nodes: &Nodes, node: usize, what: &str) -> usize {
    nodes.log(node).matches(what).count()
}

#[test]
fn noise_and_forged_lengths_are_refused() {
    let _alone = alone();
    let nodes = Nodes::start_all(3, &[]);
    let (ports, begun) = (nodes.ports[0], Instant::now());
    let before = nodes.memory(1);
    with_service(&nodes, || {
        // First, for of too many lines in the log the later ones are left out.
        for forged in ["*1000000000\r\n", "*1\r\n$4294967295\r\n", "*-9\r\n", "*1\r\n$1\r\nab\r\n"]
        {
            let answer = String::from_utf8(throw(ports.clients, forged.as_bytes())).expect("text");
            assert!(answer.starts_with("-ERR Protocol error: "), "{forged}: {answer}");
        }
        for len in [u32::MAX, 16 << 20, 5_000] {
            let header = [PREFACE, &len.to_le_bytes(), &[0; 60]].concat();
            assert_eq!(throw(ports.peers, &header), b"", "a stranger is told nothing");
        }
        throw(ports.peers, b"\x89synod\r\n\x02\x00and so on, in another version");
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
        let answer = throw(ports.metrics, long.as_bytes());
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "a header of a mebibyte");
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        for _ in 0..100 {
            let len = usize::try_from(noise.next() % 4_000).expect("small");
            let bytes = noise.bytes(len);
            for port in [ports.clients, ports.peers, ports.metrics] {
                throw(port, &bytes);
            }
            // Begun well, and gone wrong.
            throw(ports.peers, &[PREFACE, &bytes].concat());
            throw(ports.clients, &[b"*3\r\n$3\r\nSET\r\n$", &bytes[..]].concat());
            throw(ports.metrics, &[b"GET /metrics HTTP/1.1\r\n", &bytes[..]].concat());
        }
        for half in [&b"*2\r\n$3\r\nGET\r\n$1"[..], b"GET", PREFACE, b"\x89syn"] {
            for port in [ports.clients, ports.peers, ports.metrics] {
                throw(port, half);
            }
        }
    });
    let growth = nodes.memory(1).saturating_sub(before);
    assert!(growth < 64 * MIB, "grown by {growth} bytes");
    for what in ["not a synod peer", "different protocol versions", "Protocol error", "no HTTP"] {
        assert!(said(&nodes, 1, what) > 0, "not in the log: {what}");
    }
    // There were hundreds; twenty lines of each kind in each ten seconds are enough.
    let periods = usize::try_from(begun.elapsed().as_secs() / 10).expect("small") + 2;
    assert!(said(&nodes, 1, " WARN ") <= 3 * 20 * periods, "the log is flooded");
    assert!(!nodes.log(1).contains("panicked"));
    nodes.wait_ready();
}

#[test]
fn a_stranger_of_another_cluster_is_refused() {
    let _alone = alone();
    let nodes = Nodes::start_all(3, &[]);
    let mut stranger = Nodes::new(3, &["--cluster", "other"]);
    let begun = Instant::now();
    // It takes our node 1 for its own.
    stranger.ports[0].peers = nodes.ports[0].peers;
    with_service(&nodes, || {
        let mut command = stranger.command(2);
        let log = std::fs::File::create(stranger.log_path(2)).expect("a log");
        stranger.running[1] = Some(command.stderr(log).spawn().expect("started"));
        until("both say so", || {
            said(&nodes, 1, "different clusters") > 0
                && said(&stranger, 2, "different clusters") > 0
        });
    });
    // It tries more than once a second; one line a minute for each of the two ways round is enough.
    std::thread::sleep(Duration::from_secs(5));
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60).expect("small") + 1;
    let lines = said(&nodes, 1, "different clusters");
    assert!(lines <= 2 * minutes, "{lines} lines in {minutes} minutes");
    let warned = stranger.log(2);
    let warned =
        warned.lines().any(|it| it.contains(" WARN ") && it.contains("different clusters"));
    assert!(warned, "whose fault it is");
    assert_eq!(stranger.health(2).0, 503);
}

#[test]
fn those_who_come_and_do_nothing_are_borne() {
    let _alone = alone();
    let nodes = Nodes::start_all(3, &["--clients-max", "600"]);
    let ports = nodes.ports[0];
    let before = nodes.memory(1);
    let connect = |port| TcpStream::connect(("127.0.0.1", port)).expect("connected");
    with_service(&nodes, || {
        let idle: Vec<TcpStream> = (0..500).map(|_| connect(ports.clients)).collect();
        let peers: Vec<TcpStream> = (0..300).map(|_| connect(ports.peers)).collect();
        let scrapers: Vec<TcpStream> = (0..200).map(|_| connect(ports.metrics)).collect();
        until("they are connected", || {
            let (code, page) = nodes.page(1, "/metrics");
            code == 200 && page.contains("\nsynod_connections 501")
        });
        assert_eq!(nodes.health(1).0, 200);
        // No more than is allowed: the oldest of those who have asked nothing must go.
        let more: Vec<TcpStream> = (0..200).map(|_| connect(ports.clients)).collect();
        until("the limit is said", || said(&nodes, 1, "the oldest that has asked nothing") > 0);
        let mut oldest = &idle[0];
        oldest.set_read_timeout(Some(LONG)).expect("a bound");
        let read = oldest.read(&mut [0; 8]);
        assert!(
            matches!(read, Ok(0)) || read.is_err_and(|it| it.kind() == ErrorKind::ConnectionReset)
        );
        // Who has a question is let in.
        for _ in 0..20 {
            assert_eq!(nodes.connect(1).say("PING"), "PONG");
        }
        assert_eq!(said(&nodes, 1, "is refused"), 0);
        drop((idle, peers, scrapers, more));
        until("their places are free", || {
            nodes.page(1, "/metrics").1.contains("\nsynod_connections 1\n")
        });
    });
    let growth = nodes.memory(1).saturating_sub(before);
    assert!(growth < 64 * MIB, "grown by {growth} bytes");
}

#[test]
fn those_who_are_slow_are_disconnected() {
    let _alone = alone();
    let nodes = Nodes::start_all(3, &["--stall-timeout", "1s"]);
    let port = nodes.ports[0].clients;
    let mut writer = nodes.connect(2);
    assert_eq!(writer.say("SYNOD.DEFAULTS RETRY PATIENCE 170000"), "OK");
    let value = "x".repeat(500_000);
    writer.send(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$500000\r\n{value}\r\n").as_bytes());
    let answer = writer.receive().map(|frame| processes::shown(&frame));
    assert_eq!(answer.as_deref(), Some("OK"));
    let before = nodes.memory(1);
    with_service(&nodes, || {
        // One byte now and then of a request that never ends.
        let mut dripping = Client::connect(port);
        dripping.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a bound");
        dripping.send(b"*2\r\n$3\r\nGET\r\n$60000\r\n");
        until("it is disconnected", || {
            let written = dripping.stream.write_all(b"x");
            let read = dripping.stream.read(&mut [0; 256]);
            written.is_err() || read.is_ok_and(|count| count == 0)
        });
        until("it is said", || said(&nodes, 1, "did not send a whole request") > 0);
        // Thousands of big answers that nobody reads.
        let mut deaf = Client::connect(port);
        deaf.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a bound");
        let request = b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".repeat(1_000);
        let mut most = 0;
        until("it is disconnected", || {
            most = most.max(nodes.memory(1));
            match deaf.stream.write_all(&request) {
                Err(error) => ![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
                Ok(()) => false,
            }
        });
        assert!(said(&nodes, 1, "it has read nothing for") > 0);
        assert!(most.saturating_sub(before) < 64 * MIB, "grown to {most} from {before}");
    });
}

/// Where a password is asked for, who has not said it is nobody, whatever it asks; and who goes on
/// guessing is disconnected, logged and counted.
#[test]
fn those_who_do_not_know_the_password_keep_nobody_out() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "sesame").expect("written");
    let path = file.to_str().expect("text");
    let nodes = Nodes::start_all(1, &["--clients-max", "20", "--password-file", path]);
    let mut strangers: Vec<Client> = (0..20).map(|_| nodes.connect(1)).collect();
    for stranger in &mut strangers {
        assert!(stranger.say("PING").starts_with("-NOAUTH "));
    }
    let mut friends: Vec<Client> = (0..20).map(|_| nodes.connect(1)).collect();
    for friend in &mut friends {
        assert_eq!(friend.say("AUTH sesame"), "OK");
    }
    // Of those who are somebody none has to go.
    let answer = nodes.connect(1).receive().map(|frame| processes::shown(&frame));
    assert_eq!(answer.as_deref(), Some("-BUSY too many clients; ask another node"));
    friends.truncate(10);
    until("half of them have gone", || {
        nodes.page(1, "/metrics").1.contains("\nsynod_connections 10\n")
    });
    let mut guesser = nodes.connect(1);
    let guesses = (0..100).map(|_| guesser.say("AUTH guess")).take_while(|it| it != "(closed)");
    assert_eq!(guesses.filter(|it| it.starts_with("-WRONGPASS ")).count(), 5);
    assert!(said(&nodes, 1, "has said a wrong password") > 0);
    assert_eq!(said(&nodes, 1, "it has said 5 wrong passwords"), 1);
    assert!(nodes.page(1, "/metrics").1.contains("\nsynod_wrong_passwords_total 5\n"));
    assert!(!nodes.log(1).contains("sesame") && !nodes.log(1).contains("guess"));
    assert!(friends.iter_mut().all(|friend| friend.say("PING") == "PONG"));
}

/// What is refused before it has arrived in full is refused definitely: the reply is not lost in
/// the reset of a connection that nobody reads any more.
#[test]
fn what_is_too_long_is_told_so() {
    let _alone = alone();
    let nodes = Nodes::start_all(1, &[]);
    for _ in 0..20 {
        let mut client = nodes.connect(1);
        client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8000000\r\n");
        client.send(&[b'x'; 8_000_000]);
        let answer = client.receive().map(|frame| processes::shown(&frame)).unwrap_or_default();
        assert!(answer.contains("argument of length 8000000 exceeds the limit"), "{answer}");
        assert_eq!(client.receive(), None);
    }
}

/// A thousand large requests at once, each behind the one before it.
#[test]
fn what_one_client_asks_is_bounded() {
    let _alone = alone();
    let nodes = Nodes::start_all(3, &[]);
    let before = nodes.memory(1);
    with_service(&nodes, || {
        let mut stream = TcpStream::connect(("127.0.0.1", nodes.ports[0].clients)).expect("in");
        stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a bound");
        let mut request = b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$1048576\r\n".to_vec();
        request.resize(request.len() + (1 << 20), b'x');
        request.extend_from_slice(b"\r\n");
        let (mut most, mut sent) = (0, 0);
        // Until it is not read from any more; a hundred say as much as a thousand.
        while sent < 300 && stream.write_all(&request).is_ok() {
            sent += 1;
            most = most.max(nodes.memory(1));
        }
        let growth = most.saturating_sub(before);
        assert!(growth < 128 * MIB, "grown by {growth} bytes for {sent} requests");
    });
}

/// Each of many takes a little; together they may not take everything.
#[test]
fn what_all_clients_together_may_hold_is_bounded() {
    let _alone = alone();
    let nodes = Nodes::start_all(3, &[]);
    let before = nodes.memory(1);
    with_service(&nodes, || {
        let half = vec![b'x'; 1 << 20];
        let mut greedy = Vec::new();
        for _ in 0..250 {
            let mut stream = TcpStream::connect(("127.0.0.1", nodes.ports[0].clients)).expect("in");
            stream.set_write_timeout(Some(LONG)).expect("a bound");
            let begun = stream.write_all(b"*2\r\n$4\r\nECHO\r\n$2000000\r\n");
            // It may be refused before it has sent everything.
            let _ = begun.and_then(|()| stream.write_all(&half));
            greedy.push(stream);
        }
        until("some were refused", || said(&nodes, 1, "all clients together hold") > 0);
        let growth = nodes.memory(1).saturating_sub(before);
        // 128 MiB, and what an allocator keeps.
        assert!(growth < 256 * MIB, "grown by {growth} bytes");
        // Whoever asks for little is not refused.
        let (code, _, complaint) = ran(&mut nodes.client(["put", "small", "v"]));
        assert_eq!(code, 0, "{complaint}");
    });
}
