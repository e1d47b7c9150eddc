//! Links over TCP.
//!
//! Must never know: what the bytes mean.

use std::collections::BTreeMap;
use std::io;

use super::network::{Network, Stream};
use crate::base::NodeId;

/// Streams over TCP.
#[derive(Debug)]
pub struct Tcp {
    listener: tokio::net::TcpListener,
    addresses: BTreeMap<NodeId, String>,
}

impl Tcp {
    /// Accepts on `listener` and dials `addresses`, each `host:port`.
    ///
    /// # Errors
    /// If the listener cannot be used by this runtime.
    pub fn new(
        listener: std::net::TcpListener,
        addresses: BTreeMap<NodeId, String>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: tokio::net::TcpListener::from_std(listener)?, addresses })
    }
}

impl Network for Tcp {
    type Reader = tokio::net::tcp::OwnedReadHalf;
    type Writer = tokio::net::tcp::OwnedWriteHalf;

    async fn dial(&self, peer: NodeId) -> io::Result<Stream<Self>> {
        let address = self.addresses.get(&peer).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the node's address is not configured")
        })?;
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream.into_split())
    }

    async fn accept(&self) -> io::Result<(Stream<Self>, String)> {
        let (stream, from) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream.into_split(), from.to_string()))
    }

    fn address(&self, peer: NodeId) -> String {
        self.addresses.get(&peer).cloned().unwrap_or_else(|| format!("{peer}"))
    }
}
