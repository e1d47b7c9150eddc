//! What lies between two nodes: a relay of ours on every way that one dials another, which can hold
//! bytes back in either direction, delay them, and reset connections.
//!
//! A link that is cut loses nothing: as in a network that is, TCP waits and sends again, so what is
//! held back arrives when the link is healed, unless somebody has given it up by then.
//!
//! Must never know: what the bytes mean, nor why a link is cut.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// A direction: from one node to another.
pub type Way = (u16, u16);

/// How one direction is.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    /// By how many faults it is cut; 0 is open.
    cuts: u32,
    /// By how many faults connections are refused.
    refusals: u32,
    /// How much longer everything takes.
    delay: Duration,
}

#[derive(Debug, Default)]
struct State {
    gates: BTreeMap<Way, Gate>,
    /// Connections as they are relayed, for resetting them.
    streams: Vec<(Way, TcpStream, TcpStream)>,
    over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until bytes may go this way; how long they take then. `None` if they never will.
    fn pass(&self, way: Way, given_up: impl Fn() -> bool) -> Option<Duration> {
        let mut state = self.lock();
        loop {
            if state.over || given_up() {
                return None;
            }
            let gate = state.gates.get(&way).copied().unwrap_or_default();
            if gate.cuts == 0 {
                return Some(gate.delay);
            }
            let waited = self.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The relays of one cluster. Dropped, they end.
#[derive(Debug)]
pub struct Relays {
    shared: Arc<Shared>,
    addresses: BTreeMap<Way, SocketAddr>,
    listening: Vec<JoinHandle<()>>,
}

impl Relays {
    /// Starts a relay for every way between nodes that listen for their peers at these addresses.
    ///
    /// # Errors
    /// If an address cannot be listened to.
    pub fn start(nodes: &BTreeMap<u16, SocketAddr>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut relays = Self { shared, addresses: BTreeMap::new(), listening: Vec::new() };
        for (&from, here) in nodes {
            for (&to, &target) in nodes.iter().filter(|(to, _)| **to != from) {
                let listener = TcpListener::bind((here.ip(), 0))?;
                relays.addresses.insert((from, to), listener.local_addr()?);
                let shared = relays.shared.clone();
                relays.listening.push(thread::spawn(move || {
                    accept(&shared, &listener, (from, to), target);
                }));
            }
        }
        Ok(relays)
    }

    /// Where `from` reaches `to`.
    #[must_use]
    pub fn address(&self, way: Way) -> SocketAddr {
        self.addresses[&way]
    }

    fn change(&self, ways: &[Way], change: impl Fn(&mut Gate)) {
        let mut state = self.shared.lock();
        for way in ways {
            change(state.gates.entry(*way).or_default());
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Cuts these ways, or heals what was cut. Cuts add up.
    pub fn cut(&self, ways: &[Way], cut: bool) {
        self.change(ways, |gate| {
            gate.cuts = if cut { gate.cuts + 1 } else { gate.cuts.saturating_sub(1) };
        });
    }

    /// Everything takes longer on these ways.
    pub fn delay(&self, ways: &[Way], by: Duration) {
        self.change(ways, |gate| gate.delay = by);
    }

    /// Resets every connection of these ways, and refuses new ones until told otherwise.
    pub fn refuse(&self, ways: &[Way], refuse: bool) {
        self.change(ways, |gate| {
            gate.refusals =
                if refuse { gate.refusals + 1 } else { gate.refusals.saturating_sub(1) };
        });
        if refuse {
            self.shared.lock().streams.retain(|(way, one, other)| {
                let hit = ways.contains(way);
                if hit {
                    reset(one);
                    reset(other);
                }
                !hit
            });
        }
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        for (_, one, other) in state.streams.drain(..) {
            // Whoever reads or writes there is woken.
            let _ = (one.shutdown(Shutdown::Both), other.shutdown(Shutdown::Both));
        }
        drop(state);
        self.shared.changed.notify_all();
        for address in self.addresses.values() {
            // Wakes the relay's listener, which then sees that it is over.
            drop(TcpStream::connect_timeout(address, Duration::from_secs(1)));
        }
        for listening in self.listening.drain(..) {
            let _ = listening.join();
        }
    }
}

/// What a process that dies leaves to its peers.
fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Both);
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener, way: Way, target: SocketAddr) {
    loop {
        let accepted = listener.accept();
        if shared.lock().over {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                let shared = shared.clone();
                thread::spawn(move || relay(&shared, stream, way, target));
            }
            // Too many open files, say.
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// One connection from its beginning to its end.
fn relay(shared: &Arc<Shared>, dialled: TcpStream, way: Way, target: SocketAddr) {
    let back = (way.1, way.0);
    let refused = || shared.lock().gates.get(&way).is_some_and(|gate| gate.refusals > 0);
    if refused() {
        return reset(&dialled);
    }
    // A handshake needs both ways. Whoever dials has given up meanwhile, or finds out now.
    if shared.pass(way, || false).is_none() || shared.pass(back, || false).is_none() || refused() {
        return reset(&dialled);
    }
    let Ok(onward) = TcpStream::connect_timeout(&target, Duration::from_secs(2)) else {
        return reset(&dialled);
    };
    let _ = (dialled.set_nodelay(true), onward.set_nodelay(true));
    let over = Arc::new(AtomicBool::new(false));
    let clones = || Some((dialled.try_clone().ok()?, onward.try_clone().ok()?));
    let (Some(known), Some((dialled_too, onward_too))) = (clones(), clones()) else { return };
    shared.lock().streams.push((way, known.0, known.1));
    let other = (shared.clone(), over.clone());
    let returning = thread::spawn(move || pump(&other.0, onward_too, dialled_too, back, &other.1));
    let ports = (dialled.peer_addr().ok(), dialled.local_addr().ok());
    pump(shared, dialled, onward, way, &over);
    let _ = returning.join();
    shared.lock().streams.retain(|(known, stream, _)| {
        *known != way || (stream.peer_addr().ok(), stream.local_addr().ok()) != ports
    });
}

/// Carries bytes one way until either end has had enough.
fn pump(shared: &Shared, mut from: TcpStream, mut to: TcpStream, way: Way, over: &AtomicBool) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes);
        let Some(delay) = shared.pass(way, || over.load(Ordering::Relaxed)) else { break };
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        match read {
            Ok(count) if count > 0 && to.write_all(&bytes[..count]).is_ok() => {}
            _ => break,
        }
    }
    over.store(true, Ordering::Relaxed);
    // Behind a cut nobody hears of the end before it is healed: `pass` has seen to that.
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes, of which the second repeats what it hears; and a connection from the first.
    fn pair() -> (Relays, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut stream = stream;
                    let mut byte = [0; 1];
                    while stream.read_exact(&mut byte).is_ok() {
                        let _ = stream.write_all(&byte);
                    }
                });
            }
        });
        let nodes = BTreeMap::from([(1, "127.0.0.1:1".parse().expect("one")), (2, address)]);
        let relays = Relays::start(&nodes).expect("relays");
        let stream = TcpStream::connect(relays.address((1, 2))).expect("a relay");
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        (relays, stream)
    }

    fn echo(stream: &mut TcpStream) -> io::Result<u8> {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn what_is_held_back_arrives_when_the_link_is_healed() {
        let (relays, mut stream) = pair();
        stream.write_all(b"a").expect("sent");
        assert_eq!(echo(&mut stream).expect("open both ways"), b'a');
        for way in [(1, 2), (2, 1)] {
            relays.cut(&[way], true);
            stream.write_all(b"b").expect("sent");
            assert!(echo(&mut stream).is_err(), "{way:?} is cut");
            relays.cut(&[way], false);
            assert_eq!(echo(&mut stream).expect("healed"), b'b');
        }
    }

    #[test]
    fn a_reset_ends_connections_and_refuses_new_ones() {
        let (relays, mut stream) = pair();
        stream.write_all(b"a").expect("sent");
        assert_eq!(echo(&mut stream).expect("open"), b'a');
        relays.refuse(&[(1, 2)], true);
        let error = echo(&mut stream).expect_err("reset");
        assert!(!matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        let mut second = TcpStream::connect(relays.address((1, 2))).expect("a relay");
        second.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let _ = second.write_all(b"a");
        let error = echo(&mut second).expect_err("refused");
        assert!(!matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        relays.refuse(&[(1, 2)], false);
        let mut third = TcpStream::connect(relays.address((1, 2))).expect("a relay");
        third.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        third.write_all(b"c").expect("sent");
        assert_eq!(echo(&mut third).expect("open"), b'c');
    }
}
