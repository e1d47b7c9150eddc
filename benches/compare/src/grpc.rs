//! A client of etcd's gRPC interface, as thin as one can be: HTTP/2 by the library that most Rust
//! clients of gRPC stand on, and the few messages of `etcdserverpb` that are needed, by hand.

use std::io;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request};
use tokio::net::TcpStream;

/// A connection; clones share it.
#[derive(Clone)]
pub(crate) struct Grpc {
    send: SendRequest<Bytes>,
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl Grpc {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (send, connection) = h2::client::handshake(stream).await.map_err(failed)?;
        // It ends when nobody sends any more, or the server is gone, which the senders are told.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Self { send })
    }

    /// One unary call.
    async fn call(&self, method: &'static str, message: &[u8]) -> io::Result<Bytes> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(method)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(failed)?;
        let mut frame = BytesMut::with_capacity(message.len() + 5);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).map_err(failed)?);
        frame.put_slice(message);
        let mut send = self.send.clone().ready().await.map_err(failed)?;
        let (response, mut body) = send.send_request(request, false).map_err(failed)?;
        body.send_data(frame.freeze(), true).map_err(failed)?;
        let response = response.await.map_err(failed)?;
        let status = response.headers().get("grpc-status").cloned();
        let mut body = response.into_body();
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(failed)?;
            body.flow_control().release_capacity(chunk.len()).map_err(failed)?;
            answer.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await.map_err(failed)?;
        let status = status.or_else(|| trailers?.get("grpc-status").cloned());
        if status.as_ref().is_none_or(|status| status != "0") || answer.len() < 5 {
            return Err(failed(format!("gRPC status {status:?}")));
        }
        Ok(answer.freeze().slice(5..))
    }

    pub(crate) async fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(key.len() + value.len() + 12);
        bytes_field(&mut message, 1, key);
        bytes_field(&mut message, 2, value);
        self.call("http://etcd/etcdserverpb.KV/Put", &message).await.map(drop)
    }

    /// Reads a key; `serializable` is etcd's word for a local read that may be stale.
    pub(crate) async fn get(&self, key: &[u8], serializable: bool) -> io::Result<()> {
        let mut message = Vec::with_capacity(key.len() + 6);
        bytes_field(&mut message, 1, key);
        if serializable {
            number_field(&mut message, 7, 1);
        }
        let answer = self.call("http://etcd/etcdserverpb.KV/Range", &message).await?;
        match field(&answer, 4) {
            Some(Field::Number(1)) => Ok(()),
            _ => Err(failed("a key that was put is not there")),
        }
    }

    /// Whether this member leads.
    pub(crate) async fn is_leader(&self) -> io::Result<bool> {
        let answer = self.call("http://etcd/etcdserverpb.Maintenance/Status", &[]).await?;
        let Some(Field::Bytes(header)) = field(&answer, 1) else {
            return Err(failed("a status without a header"));
        };
        Ok(match (field(header, 2), field(&answer, 4)) {
            (Some(Field::Number(me)), Some(Field::Number(leader))) => me == leader,
            _ => false,
        })
    }
}

fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

fn number_field(message: &mut Vec<u8>, field: u64, number: u64) {
    varint(message, field << 3);
    varint(message, number);
}

fn bytes_field(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(message, field << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first field of this number.
fn field(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        let number = take_varint(&mut message)?;
        let value = match tag & 7 {
            0 => Field::Number(number),
            2 => {
                let (bytes, rest) = message.split_at_checked(usize::try_from(number).ok()?)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some(value);
        }
    }
    None
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
