//! Streams of events: bounded, and forgotten when they are dropped.
//!
//! Must never know: what the events are used for.

use std::marker::PhantomData;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};

use super::error::Error;
use crate::base::{Epoch, NodeId, TableId};
use crate::consensus::{Command, Outcome, Readiness, Topic};
use crate::host::{CallOptions, Handle, LocalClient, News};
use crate::node::{Ending, Event, MergeEvent};
use crate::paxos::Ballot;
use crate::primary::{Reign, Role};

/// What is on its way to the watcher beside what waits at the node.
const AHEAD: usize = 16;

/// What happens to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A life of it has ended; whoever puts next can win.
    Ended {
        /// Which life.
        generation: Ballot,
        /// How.
        ending: Ending,
    },
    /// The watcher was so far behind that some was dropped: look at the key again.
    Missed,
}

/// What happens to the cluster, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuorumChange {
    /// A quorum of members is heard. Alternates strictly with [`QuorumChange::Lost`].
    Reached(Epoch),
    /// It is no longer.
    Lost(Epoch),
    /// So many members are heard, this one included, of so many seats.
    Reachable {
        /// Heard.
        nodes: usize,
        /// Seats.
        size: u16,
    },
    /// This node has begun or ceased to take part.
    Readiness(Readiness),
    /// The watcher was so far behind that some was dropped: ask for the status again.
    Missed,
}

/// What happens to merged tables, and to the nodes that they are merged with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeChange {
    /// This.
    Event(MergeEvent),
    /// The watcher was so far behind that some was dropped: look at the conflicts again.
    Missed,
}

/// What happens to this node's replicas of primary tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleChange {
    /// One has taken another part, or knows of another reign or primary.
    Is {
        /// Of which table.
        table: TableId,
        /// What it is.
        role: Role,
        /// The highest reign that it knows of.
        reign: Reign,
        /// Whose, as far as it is known.
        primary: Option<NodeId>,
    },
    /// The watcher was so far behind that some was dropped: ask how it is.
    Missed,
}

/// Something that can be watched.
pub trait Watched: Sized {
    #[doc(hidden)]
    fn of(news: News) -> Option<Self>;
}

impl Watched for Change {
    fn of(news: News) -> Option<Self> {
        match news {
            News::Event(Event::Ended { generation, ending, .. }) => {
                Some(Self::Ended { generation, ending })
            }
            News::Missed => Some(Self::Missed),
            News::Event(_) | News::Answer(..) => None,
        }
    }
}

impl Watched for MergeChange {
    fn of(news: News) -> Option<Self> {
        match news {
            News::Event(Event::Merge(event)) => Some(Self::Event(event)),
            News::Missed => Some(Self::Missed),
            News::Event(_) | News::Answer(..) => None,
        }
    }
}

impl Watched for QuorumChange {
    fn of(news: News) -> Option<Self> {
        match news {
            News::Event(Event::QuorumReached { epoch }) => Some(Self::Reached(epoch)),
            News::Event(Event::QuorumLost { epoch }) => Some(Self::Lost(epoch)),
            News::Event(Event::Reachable { nodes, size }) => Some(Self::Reachable { nodes, size }),
            News::Event(Event::Readiness(readiness)) => Some(Self::Readiness(readiness)),
            News::Missed => Some(Self::Missed),
            News::Event(_) | News::Answer(..) => None,
        }
    }
}

impl Watched for RoleChange {
    fn of(news: News) -> Option<Self> {
        match news {
            News::Event(Event::Role { table, role, reign, primary }) => {
                Some(Self::Is { table, role, reign, primary })
            }
            News::Missed => Some(Self::Missed),
            News::Event(_) | News::Answer(..) => None,
        }
    }
}

/// Events as they happen. Whoever drops it is told no more.
#[derive(Debug)]
pub struct Watch<T> {
    news: mpsc::Receiver<News>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Watched> Watch<T> {
    pub(super) async fn open(handle: &Handle, topic: Topic) -> Result<Self, Error> {
        let (forward, news) = mpsc::channel(AHEAD);
        let (begun, beginning) = oneshot::channel();
        handle.run(move |local| {
            let client = local.client();
            local.spawn(watch(client, topic, begun, forward));
        })?;
        beginning.await.unwrap_or(Err(Error::Unknown))?;
        Ok(Self { news, kind: PhantomData })
    }

    /// The next event; `None` once the node has stopped. It may be cancelled without loss.
    pub async fn next(&mut self) -> Option<T> {
        loop {
            if let Some(event) = T::of(self.news.recv().await?) {
                return Some(event);
            }
        }
    }

    /// The next event, as [`Watch::next`], for those who implement a stream.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            match self.news.poll_recv(cx) {
                Poll::Ready(Some(news)) => {
                    if let Some(event) = T::of(news) {
                        return Poll::Ready(Some(event));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Runs on the node's thread for as long as somebody listens.
async fn watch(
    client: LocalClient,
    topic: Topic,
    begun: oneshot::Sender<Result<(), Error>>,
    forward: mpsc::Sender<News>,
) {
    let mut begun = Some(begun);
    client.ask(Command::Subscribe(topic), CallOptions::default());
    loop {
        let news = tokio::select! {
            biased;
            () = forward.closed() => return,
            news = client.news() => news,
        };
        if let News::Answer(_, outcome) = news {
            let result = match outcome {
                Outcome::Done => Ok(()),
                outcome => Err(Error::from_outcome(outcome)),
            };
            let failed = result.is_err();
            let unheard = begun.take().is_some_and(|begun| begun.send(result).is_err());
            if failed || unheard {
                return;
            }
        } else if forward.send(news).await.is_err() {
            return;
        }
    }
}
