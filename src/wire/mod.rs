//! Bytes and values: the only place that knows the encoding. Total on any input.
//!
//! A frame is `length: u32 | checksum: u32 | body`, both little-endian; the body is bincode with
//! fixed-size integers left to its variable encoding. Whatever the bytes are, decoding ends in a
//! value or in a [`DecodeError`] that says where and why, allocates no more than a frame may hold,
//! and never panics.

use alloc::vec::Vec;
use core::fmt;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

use crate::node::{Message, Record};

pub use crate::base::FRAME_MAX;

/// Bytes in front of the body.
pub const HEADER: usize = 8;

const CONFIG: Configuration<LittleEndian, Varint, Limit<FRAME_MAX>> =
    bincode::config::standard().with_limit::<FRAME_MAX>();

/// What can be put on a wire or a disk: messages and records.
pub trait Frame: Encode + Decode<()> {
    /// What it is, for errors.
    const NAME: &'static str;
}

impl Frame for Message {
    const NAME: &'static str = "message";
}

impl Frame for Record {
    const NAME: &'static str = "record";
}

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The body is not what it should be.
    Body {
        /// What was expected.
        name: &'static str,
        /// How many bytes it has.
        len: usize,
    },
    /// The body is not what was sent.
    Checksum {
        /// As the header says.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// The frame ends early: so many bytes more are needed at least. At the end of a log this is a
    /// torn tail; on a stream, more is to come.
    Incomplete {
        /// How many.
        missing: usize,
    },
    /// The header announces more than [`FRAME_MAX`].
    TooLong {
        /// How much.
        len: usize,
    },
    /// The body goes on behind its end.
    Trailing {
        /// By how many bytes.
        len: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body { name, len } => write!(f, "a body of {len} bytes is no {name}"),
            Self::Checksum { expected, found } => {
                write!(f, "checksum {found:08x} where the header says {expected:08x}")
            }
            Self::Incomplete { missing } => write!(f, "at least {missing} bytes are missing"),
            Self::TooLong { len } => write!(f, "a body of {len} bytes exceeds {FRAME_MAX}"),
            Self::Trailing { len } => write!(f, "{len} bytes behind the end of the body"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Appends a frame to `bytes`.
///
/// # Errors
/// [`DecodeError::TooLong`] if the body would exceed [`FRAME_MAX`]; `bytes` is as it was.
pub fn encode<T: Frame>(frame: &T, bytes: &mut Vec<u8>) -> Result<(), DecodeError> {
    let start = bytes.len();
    bytes.resize(start + HEADER, 0);
    let mut writer = Appender(bytes);
    bincode::encode_into_writer(frame, &mut writer, CONFIG)
        .expect("appending to memory and encoding our own types cannot fail");
    let len = bytes.len() - start - HEADER;
    if len > FRAME_MAX {
        bytes.truncate(start);
        return Err(DecodeError::TooLong { len });
    }
    let (header, body) = bytes[start..].split_at_mut(HEADER);
    header[..4].copy_from_slice(&(len as u32).to_le_bytes());
    header[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Ok(())
}

/// Takes one frame off the front of `bytes`; returns it and how many bytes it took.
///
/// # Errors
/// If the bytes do not begin with a whole and valid frame.
pub fn decode<T: Frame>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(DecodeError::Incomplete { missing: HEADER - bytes.len() });
    };
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *header;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let expected = u32::from_le_bytes([c0, c1, c2, c3]);
    if len > FRAME_MAX {
        return Err(DecodeError::TooLong { len });
    }
    let Some(body) = rest.get(..len) else {
        return Err(DecodeError::Incomplete { missing: len - rest.len() });
    };
    let found = crc32fast::hash(body);
    if found != expected {
        return Err(DecodeError::Checksum { expected, found });
    }
    Ok((decode_body(body)?, HEADER + len))
}

/// Decodes a body without its header.
///
/// # Errors
/// If it is not exactly one value.
pub fn decode_body<T: Frame>(body: &[u8]) -> Result<T, DecodeError> {
    let error = DecodeError::Body { name: T::NAME, len: body.len() };
    let (frame, used) = bincode::decode_from_slice(body, CONFIG).map_err(|_| error)?;
    match body.len() - used {
        0 => Ok(frame),
        len => Err(DecodeError::Trailing { len }),
    }
}

struct Appender<'a>(&'a mut Vec<u8>);

impl bincode::enc::write::Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, Epoch, Incarnation, Life, NodeId, RegisterId};
    use crate::monitor;
    use crate::node::Body;
    use crate::paxos::Ballot;
    use alloc::vec;

    fn message() -> Message {
        Message {
            cluster: ClusterId(1),
            epoch: Epoch(1),
            life: Life(7),
            incarnation: Incarnation(1),
            body: Body::Monitor(monitor::Message::AskSessions(vec![])),
        }
    }

    #[test]
    fn a_frame_comes_back_and_says_how_long_it_was() {
        let mut bytes = vec![1, 2, 3];
        encode(&message(), &mut bytes).unwrap();
        assert_eq!(decode::<Message>(&bytes[3..]), Ok((message(), bytes.len() - 3)));
    }

    #[test]
    fn every_truncation_is_incomplete_and_every_flipped_bit_is_noticed() {
        let record = Record::Promised {
            register: RegisterId::NodeSession(NodeId(2)),
            ballot: Ballot::genesis(Epoch(1)),
        };
        let mut bytes = Vec::new();
        encode(&record, &mut bytes).unwrap();
        for end in 0..bytes.len() {
            let cut = decode::<Record>(&bytes[..end]);
            assert!(matches!(cut, Err(DecodeError::Incomplete { .. })), "{end}: {cut:?}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<Record>(&flipped).is_err(), "bit {bit}");
        }
    }

    /// A forged length inside a body cannot make the decoder allocate what the body does not hold.
    #[test]
    fn a_forged_length_is_an_error() {
        let body = [0, 0, 0, 0, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(decode_body::<Message>(&body).is_err());
    }
}
