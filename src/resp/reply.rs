//! Replies, and their bytes in both versions of the protocol.
//!
//! Requests are hostile, so a library reads them; replies are ours, and each is one pass over one
//! buffer. The tests read back with that library what is written here.

use bytes::{BufMut, Bytes, BytesMut};

use crate::base::{Key, Value};

/// Which version of RESP a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The default, until `HELLO 3`.
    #[default]
    Resp2,
    /// With maps, booleans, nulls and pushes.
    Resp3,
}

/// An answer, or a message that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// In order.
    Array(Vec<Self>),
    /// RESP2: 1 or 0.
    Boolean(bool),
    /// Bytes.
    Bulk(Bytes),
    /// A code of capital letters, and what is wrong and what to do, in one line.
    Error(&'static str, String),
    /// A number.
    Integer(i64),
    /// A key.
    Key(Key),
    /// Pairs in order. RESP2: an array of twice as many.
    Map(Vec<(Self, Self)>),
    /// Nothing is there.
    Null,
    /// What nobody asked for. RESP2: an array.
    Push(Vec<Self>),
    /// A short status.
    Simple(&'static str),
    /// Lines of text for people. RESP2: a bulk string.
    Text(String),
    /// A value.
    Value(Value),
}

impl Reply {
    /// The usual success.
    pub const OK: Self = Self::Simple("OK");

    /// An error of the general kind.
    pub fn error(text: impl Into<String>) -> Self {
        Self::Error("ERR", text.into())
    }

    /// A bulk string.
    pub fn bulk(text: impl Into<Bytes>) -> Self {
        Self::Bulk(text.into())
    }

    /// Names and what they stand for.
    pub fn map<const N: usize>(pairs: [(&'static str, Self); N]) -> Self {
        Self::Map(pairs.into_iter().map(|(name, value)| (Self::bulk(name), value)).collect())
    }

    /// Whether it is an error.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        matches!(self, Self::Error(..))
    }

    /// Bytes that it tells, without those of the protocol.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Array(items) | Self::Push(items) => items.iter().map(Self::weight).sum(),
            Self::Boolean(_) | Self::Integer(_) | Self::Null | Self::Simple(_) => 0,
            Self::Bulk(bytes) => bytes.len(),
            Self::Error(_, text) | Self::Text(text) => text.len(),
            Self::Key(key) => key.as_bytes().len(),
            Self::Map(pairs) => {
                pairs.iter().map(|(name, value)| name.weight() + value.weight()).sum()
            }
            Self::Value(value) => value.len(),
        }
    }

    /// Appends its bytes.
    pub fn write(&self, protocol: Protocol, output: &mut BytesMut) {
        match self {
            Self::Array(items) => write_items(b'*', items, protocol, output),
            Self::Boolean(value) => match protocol {
                Protocol::Resp2 => write_line(b':', if *value { b"1" } else { b"0" }, output),
                Protocol::Resp3 => write_line(b'#', if *value { b"t" } else { b"f" }, output),
            },
            Self::Bulk(bytes) => write_bulk(bytes, output),
            Self::Error(code, text) => {
                output.put_u8(b'-');
                output.put_slice(code.as_bytes());
                output.put_u8(b' ');
                // A line's end inside would let a client's own bytes pass for another reply.
                output.extend(text.bytes().map(|byte| match byte {
                    b'\r' | b'\n' => b' ',
                    other => other,
                }));
                output.put_slice(b"\r\n");
            }
            Self::Integer(number) => write_number(b':', *number, output),
            Self::Key(key) => write_bulk(key.as_bytes(), output),
            Self::Map(pairs) => {
                match protocol {
                    Protocol::Resp2 => write_len(b'*', pairs.len() * 2, output),
                    Protocol::Resp3 => write_len(b'%', pairs.len(), output),
                }
                for (name, value) in pairs {
                    name.write(protocol, output);
                    value.write(protocol, output);
                }
            }
            Self::Null => output.put_slice(match protocol {
                Protocol::Resp2 => b"$-1\r\n",
                Protocol::Resp3 => b"_\r\n",
            }),
            Self::Push(items) => match protocol {
                Protocol::Resp2 => write_items(b'*', items, protocol, output),
                Protocol::Resp3 => write_items(b'>', items, protocol, output),
            },
            Self::Simple(text) => write_line(b'+', text.as_bytes(), output),
            Self::Text(text) => match protocol {
                Protocol::Resp2 => write_bulk(text.as_bytes(), output),
                Protocol::Resp3 => {
                    write_len(b'=', text.len() + 4, output);
                    output.put_slice(b"txt:");
                    output.put_slice(text.as_bytes());
                    output.put_slice(b"\r\n");
                }
            },
            Self::Value(value) => write_bulk(value.as_bytes(), output),
        }
    }
}

fn write_items(tag: u8, items: &[Reply], protocol: Protocol, output: &mut BytesMut) {
    write_len(tag, items.len(), output);
    for item in items {
        item.write(protocol, output);
    }
}

fn write_line(tag: u8, line: &[u8], output: &mut BytesMut) {
    output.put_u8(tag);
    output.put_slice(line);
    output.put_slice(b"\r\n");
}

fn write_number(tag: u8, number: i64, output: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    output.put_u8(tag);
    if number < 0 {
        output.put_u8(b'-');
    }
    output.put_slice(&digits[at..]);
    output.put_slice(b"\r\n");
}

fn write_len(tag: u8, len: usize, output: &mut BytesMut) {
    write_number(tag, i64::try_from(len).unwrap_or(i64::MAX), output);
}

fn write_bulk(bytes: &[u8], output: &mut BytesMut) {
    output.reserve(bytes.len() + 16);
    write_len(b'$', bytes.len(), output);
    output.put_slice(bytes);
    output.put_slice(b"\r\n");
}

/// The bytes of a request: what a client sends.
#[must_use]
pub fn request(arguments: &[Bytes]) -> Bytes {
    let mut output = BytesMut::new();
    write_len(b'*', arguments.len(), &mut output);
    for argument in arguments {
        write_bulk(argument, &mut output);
    }
    output.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use resp_rs::{resp2, resp3};

    /// What the library makes of a reply in RESP2.
    fn as_resp2(reply: &Reply) -> resp2::Frame {
        let mut bytes = BytesMut::new();
        reply.write(Protocol::Resp2, &mut bytes);
        let (frame, rest) = resp2::parse_frame(bytes.freeze()).expect("RESP2");
        assert!(rest.is_empty());
        frame
    }

    fn as_resp3(reply: &Reply) -> resp3::Frame {
        let mut bytes = BytesMut::new();
        reply.write(Protocol::Resp3, &mut bytes);
        let (frame, rest) = resp3::parse_frame(bytes.freeze()).expect("RESP3");
        assert!(rest.is_empty());
        frame
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Reply::Boolean),
            any::<Vec<u8>>().prop_map(|bytes| Reply::Bulk(Bytes::from(bytes))),
            any::<String>().prop_map(|text| Reply::Error("ERR", text)),
            any::<i64>().prop_map(Reply::Integer),
            any::<Vec<u8>>().prop_map(|bytes| Reply::Key(Key::from(bytes))),
            Just(Reply::Null),
            Just(Reply::OK),
            any::<String>().prop_map(Reply::Text),
            any::<Vec<u8>>().prop_map(|bytes| Reply::Value(Value::from(bytes))),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Reply::Array),
                prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Reply::Map),
                prop::collection::vec(inner, 0..4).prop_map(Reply::Push),
            ]
        })
    }

    fn expected2(reply: &Reply) -> resp2::Frame {
        use resp2::Frame;
        let bulk = |bytes: &[u8]| Frame::BulkString(Some(Bytes::copy_from_slice(bytes)));
        match reply {
            Reply::Array(items) | Reply::Push(items) => {
                Frame::Array(Some(items.iter().map(expected2).collect()))
            }
            Reply::Boolean(value) => Frame::Integer(i64::from(*value)),
            Reply::Bulk(bytes) => bulk(bytes),
            Reply::Error(code, text) => {
                Frame::Error(format!("{code} {}", text.replace(['\r', '\n'], " ")).into())
            }
            Reply::Integer(number) => Frame::Integer(*number),
            Reply::Key(key) => bulk(key.as_bytes()),
            Reply::Map(pairs) => Frame::Array(Some(
                pairs
                    .iter()
                    .flat_map(|(name, value)| [expected2(name), expected2(value)])
                    .collect(),
            )),
            Reply::Null => Frame::BulkString(None),
            Reply::Simple(text) => Frame::SimpleString(Bytes::from(*text)),
            Reply::Text(text) => bulk(text.as_bytes()),
            Reply::Value(value) => bulk(value.as_bytes()),
        }
    }

    fn expected3(reply: &Reply) -> resp3::Frame {
        use resp3::Frame;
        let bulk = |bytes: &[u8]| Frame::BulkString(Some(Bytes::copy_from_slice(bytes)));
        match reply {
            Reply::Array(items) => Frame::Array(Some(items.iter().map(expected3).collect())),
            Reply::Push(items) => Frame::Push(items.iter().map(expected3).collect()),
            Reply::Boolean(value) => Frame::Boolean(*value),
            Reply::Bulk(bytes) => bulk(bytes),
            Reply::Error(code, text) => {
                Frame::Error(format!("{code} {}", text.replace(['\r', '\n'], " ")).into())
            }
            Reply::Integer(number) => Frame::Integer(*number),
            Reply::Key(key) => bulk(key.as_bytes()),
            Reply::Map(pairs) => Frame::Map(
                pairs.iter().map(|(name, value)| (expected3(name), expected3(value))).collect(),
            ),
            Reply::Null => Frame::Null,
            Reply::Simple(text) => Frame::SimpleString(Bytes::from(*text)),
            Reply::Text(text) => {
                Frame::VerbatimString { payload: Bytes::from(format!("txt:{text}")) }
            }
            Reply::Value(value) => bulk(value.as_bytes()),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_a_client_reads(reply in any_reply()) {
            prop_assert_eq!(as_resp2(&reply), expected2(&reply));
            prop_assert_eq!(as_resp3(&reply), expected3(&reply));
        }
    }

    #[test]
    fn an_error_is_one_line_whatever_it_quotes() {
        let mut bytes = BytesMut::new();
        Reply::error("no such command 'a\r\n+OK\r\n'").write(Protocol::Resp2, &mut bytes);
        assert_eq!(&bytes[..], b"-ERR no such command 'a  +OK  '\r\n");
    }
}
