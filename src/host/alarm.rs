//! Wakes the node's task when a moment comes.
//!
//! Must never know: what for.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;

use tokio::time::timeout;

use super::clock::Clock;
use super::inbox::Inbox;
use super::task::{Signal, Task};
use crate::base::Instant;

/// One alarm: set to a moment, it wakes the inbox's task at that moment or soon after.
///
/// It is not set anew when the moment moves away, which is what happens most: it rings, and looks.
#[derive(Debug)]
pub(super) struct Alarm {
    shared: Rc<Shared>,
    _task: Task,
}

#[derive(Debug)]
struct Shared {
    due: Cell<Instant>,
    /// The moment that the task sleeps for.
    armed: Cell<Instant>,
    earlier: Signal,
}

impl Alarm {
    pub(super) fn new(clock: Rc<dyn Clock>, inbox: Rc<Inbox>) -> Self {
        let never = Instant(u64::MAX);
        let shared = Rc::new(Shared {
            due: Cell::new(never),
            armed: Cell::new(never),
            earlier: Signal::default(),
        });
        let task = Task::spawn(ring(shared.clone(), clock, inbox));
        Self { shared, _task: task }
    }

    pub(super) fn set(&self, due: Instant) {
        self.shared.due.set(due);
        if due < self.shared.armed.get() {
            self.shared.earlier.raise();
        }
    }
}

async fn ring(shared: Rc<Shared>, clock: Rc<dyn Clock>, inbox: Rc<Inbox>) {
    let earlier = || poll_fn(|cx| shared.earlier.poll(cx));
    loop {
        let (due, now) = (shared.due.get(), clock.now().instant);
        shared.armed.set(due);
        if due == Instant(u64::MAX) {
            earlier().await;
        } else if due > now {
            let _ = timeout(due.since(now), earlier()).await;
        } else {
            // Until it is set again, there is nothing to wait for.
            shared.due.set(Instant(u64::MAX));
            inbox.wake();
        }
    }
}
