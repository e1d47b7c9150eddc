//! The handshake: who is there, and whether the two belong together.
//!
//! Each side begins with a preface of magic and protocol version, which no later version may
//! change, and one frame. The side that dialled sends its [`Hello`] first; the other answers with
//! its own and a [`Verdict`]. Bytes that are no handshake are answered with nothing.
//!
//! Must never know: messages, links.

use std::io;

use bincode::{Decode, Encode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::base::{ClusterId, Epoch, Incarnation, Life, NodeId, fnv1a};
use crate::node::Config;
use crate::wire::{self, DecodeError, Frame};

/// What every stream between members begins with.
pub(super) const MAGIC: [u8; 8] = *b"\x89synod\r\n";

/// The version of everything behind the preface. There are no others yet.
pub(super) const VERSION: u16 = 1;

const PREFACE: usize = MAGIC.len() + 2;

/// The most bytes of a handshake's frame, so that a stranger cannot make a node gather more.
const HELLO_MAX: usize = 4096;

/// Who speaks, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Hello {
    /// What people call the cluster.
    pub(super) name: String,
    pub(super) cluster: ClusterId,
    /// The digest of what must be configured alike everywhere.
    pub(super) configuration: u64,
    pub(super) epoch: Epoch,
    pub(super) node: NodeId,
    /// Whom it takes the other side for.
    pub(super) peer: NodeId,
    pub(super) life: Life,
    pub(super) incarnation: Incarnation,
    pub(super) purpose: Purpose,
}

/// Why a stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Purpose {
    /// To be the link between the two; by the node of the higher number only, so that two nodes'
    /// dials cannot cross. Its links to this peer in this process life are numbered.
    Link(u64),
    /// To ask the node of the higher number to dial now. The last of its links that was seen
    /// here, 0 for none: one with a higher number has not arrived yet and is not asked for again.
    Knock(u64),
}

/// What the side that was dialled says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Verdict {
    Welcome,
    /// Why not, in words that name both sides' values.
    Refused(String),
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Answer {
    pub(super) hello: Hello,
    pub(super) verdict: Verdict,
}

impl Frame for Hello {
    const NAME: &'static str = "handshake";
}

impl Frame for Answer {
    const NAME: &'static str = "answer to a handshake";
}

impl Hello {
    /// Why the two cannot talk, if they cannot, in words for both sides' logs.
    pub(super) fn mismatch(&self, theirs: &Self) -> Option<String> {
        let (we, they) = (self.node, theirs.node);
        if (&self.name, self.cluster) != (&theirs.name, theirs.cluster) {
            return Some(format!(
                "different clusters: {we} is of \"{}\" ({:016x}), {they} of \"{}\" ({:016x})",
                self.name, self.cluster.0, theirs.name, theirs.cluster.0
            ));
        }
        if theirs.peer != we || we == they {
            return Some(format!("{they} means to reach {}, and this is {we}", theirs.peer));
        }
        if self.epoch != theirs.epoch {
            return Some(format!(
                "different epochs: {we} is in {}, {they} in {}",
                self.epoch, theirs.epoch
            ));
        }
        (self.configuration != theirs.configuration).then(|| {
            format!(
                "different configurations: {we} has {:016x}, {they} has {:016x}; members, size, \
                 limits, and consensus tables must be the same everywhere",
                self.configuration, theirs.configuration
            )
        })
    }
}

/// The digest of what two members must agree on. Durations may differ, and so may other tables:
/// each pair of merged copies finds out for itself whether it agrees, and says so; replicas of a
/// primary table go by what is decided of it.
pub(super) fn configuration(config: &Config) -> u64 {
    let limits = &config.limits;
    let mut members = config.members.clone();
    members.sort_unstable();
    let bounds = (limits.key_max, limits.value_max, limits.bindings_max);
    let tables = config.tables.iter().enumerate();
    let tables: Vec<_> = tables.filter(|(_, table)| table.is_consensus()).collect();
    let text = format!("{members:?} {} {tables:?} {bounds:?}", config.cluster_size);
    fnv1a(text.as_bytes())
}

/// Sends the preface and one frame.
pub(super) async fn send<T: Frame>(
    writer: &mut (impl AsyncWrite + Unpin),
    frame: &T,
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    wire::encode(frame, &mut bytes).map_err(invalid)?;
    writer.write_all(&bytes).await?;
    writer.flush().await
}

/// Receives the preface and one frame, and not a byte behind them.
pub(super) async fn receive<T: Frame>(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let mut preface = [0; PREFACE];
    reader.read_exact(&mut preface).await?;
    let (magic, version) = preface.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(invalid(format!(
            "not a synod peer: the stream begins with {}",
            magic.escape_ascii()
        )));
    }
    let version = u16::from_le_bytes([version[0], version[1]]);
    if version != VERSION {
        return Err(invalid(format!(
            "different protocol versions: ours is {VERSION}, theirs {version}"
        )));
    }
    let mut frame = vec![0; wire::HEADER];
    reader.read_exact(&mut frame).await?;
    let missing = match wire::decode::<T>(&frame) {
        Err(DecodeError::Incomplete { missing }) if missing <= HELLO_MAX => missing,
        Err(DecodeError::Incomplete { missing }) => {
            return Err(invalid(format!("a handshake of {missing} bytes exceeds {HELLO_MAX}")));
        }
        Err(error) => return Err(invalid(error)),
        Ok((value, _)) => return Ok(value),
    };
    frame.resize(wire::HEADER + missing, 0);
    reader.read_exact(&mut frame[wire::HEADER..]).await?;
    wire::decode(&frame).map(|(value, _)| value).map_err(invalid)
}

fn invalid(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// What the first bytes of a stream between members come to, in words: a door for fuzzers and
/// tests, which have no streams.
///
/// # Errors
/// Why they are no handshake.
pub fn introduction(mut bytes: &[u8]) -> io::Result<String> {
    let received = std::pin::pin!(receive::<Hello>(&mut bytes));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match received.poll(&mut context) {
        std::task::Poll::Ready(received) => received.map(|hello| format!("{hello:?}")),
        // Bytes in memory are all there, or end.
        std::task::Poll::Pending => Err(invalid("it waits for what cannot come")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn greeting() -> Vec<u8> {
        let hello = Hello {
            name: "synod".to_owned(),
            cluster: ClusterId(7),
            configuration: 8,
            epoch: Epoch(1),
            node: NodeId(2),
            peer: NodeId(1),
            life: Life(3),
            incarnation: Incarnation(4),
            purpose: Purpose::Link(5),
        };
        let mut bytes = Vec::new();
        {
            let sent = std::pin::pin!(send(&mut bytes, &hello));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(sent.poll(&mut context).is_ready());
        }
        bytes
    }

    #[test]
    fn a_handshake_is_understood_whole_only() {
        let bytes = greeting();
        let shown = introduction(&bytes).expect("a handshake");
        assert!(shown.contains("purpose: Link(5)"), "{shown}");
        for len in 0..bytes.len() {
            assert!(introduction(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(introduction(&changed).is_err(), "byte {place} changed");
        }
    }

    #[test]
    fn a_long_handshake_is_not_gathered() {
        let mut bytes = greeting()[..PREFACE].to_vec();
        bytes.extend_from_slice(&5_000_u32.to_le_bytes());
        bytes.extend_from_slice(&[0; 6_000]);
        let error = introduction(&bytes).expect_err("too long").to_string();
        assert!(error.contains("exceeds 4096"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_handshake_or_an_error(bytes: Vec<u8>) {
            let _ = introduction(&bytes);
            let _ = introduction(&[&MAGIC[..], &VERSION.to_le_bytes(), &bytes].concat());
        }
    }
}
