//! A client of the Redis protocol, as thin as one can be: requests are ready made, replies are
//! checked for being no error and otherwise skipped.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
pub(crate) struct Resp {
    stream: TcpStream,
    output: Vec<u8>,
    input: Vec<u8>,
}

impl Resp {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, output: Vec::new(), input: Vec::with_capacity(16 << 10) })
    }

    /// Adds a request to those that go out next.
    pub(crate) fn push(&mut self, arguments: &[&[u8]]) {
        encode(arguments, &mut self.output);
    }

    /// Sends what was pushed, and waits for so many replies. An error among them is an error.
    pub(crate) async fn exchange(&mut self, replies: usize) -> io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        let (mut missing, mut used) = (replies, 0);
        loop {
            while missing > 0 {
                let Some(length) = reply(&self.input[used..])? else { break };
                used += length;
                missing -= 1;
            }
            if missing == 0 {
                self.input.drain(..used);
                return Ok(());
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends without ever reading, until nothing more goes out.
    pub(crate) async fn flood(&mut self, arguments: &[&[u8]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for _ in 0..1_000 {
            encode(arguments, &mut bytes);
        }
        loop {
            self.stream.write_all(&bytes).await?;
        }
    }

    /// What one command is answered, as it comes over the wire.
    pub(crate) async fn ask(&mut self, arguments: &[&[u8]]) -> io::Result<String> {
        self.push(arguments);
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        loop {
            if let Some(length) = reply(&self.input)? {
                let reply: Vec<u8> = self.input.drain(..length).collect();
                return Ok(String::from_utf8_lossy(&reply).into_owned());
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub(crate) async fn call(&mut self, arguments: &[&[u8]]) -> io::Result<()> {
        self.push(arguments);
        self.exchange(1).await
    }
}

fn encode(arguments: &[&[u8]], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
}

/// The length of the reply that `bytes` begins with, if it is all there.
fn reply(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = String::from_utf8_lossy(&bytes[1..end]);
    let line = line.trim_end();
    match bytes[0] {
        b'+' | b':' => Ok(Some(end + 1)),
        // No value where one was put is as wrong as an error.
        b'$' => match line.parse::<usize>() {
            Ok(length) if bytes.len() < end + 1 + length + 2 => Ok(None),
            Ok(length) => Ok(Some(end + 1 + length + 2)),
            Err(_) => Err(io::Error::other("a key that was put is not there")),
        },
        b'*' => {
            let mut used = end + 1;
            for _ in 0..line.parse::<usize>().unwrap_or(0) {
                let Some(length) = reply(&bytes[used..])? else { return Ok(None) };
                used += length;
            }
            Ok(Some(used))
        }
        _ => Err(io::Error::other(line.to_owned())),
    }
}
