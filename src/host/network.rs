//! The seam between links and what carries them: streams of bytes between members.
//!
//! Must never know: what the bytes mean.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::base::NodeId;

/// One stream, as its two directions.
pub type Stream<N> = (<N as Network>::Reader, <N as Network>::Writer);

/// How streams of bytes come about.
pub trait Network: 'static {
    /// What comes in.
    type Reader: AsyncRead + Unpin + 'static;
    /// What goes out.
    type Writer: AsyncWrite + Unpin + 'static;

    /// Opens a stream to a peer.
    fn dial(&self, peer: NodeId) -> impl Future<Output = io::Result<Stream<Self>>>
    where
        Self: Sized;

    /// Takes the next stream that somebody has opened, and where it comes from, for the log.
    fn accept(&self) -> impl Future<Output = io::Result<(Stream<Self>, String)>>
    where
        Self: Sized;

    /// Where a peer is, for the log.
    fn address(&self, peer: NodeId) -> String;
}
