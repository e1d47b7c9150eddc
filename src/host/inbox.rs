//! What waits for the node: inputs, in the order in which they came.
//!
//! Must never know: where they come from, what they mean.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::task::Signal;
use crate::node::Input;

/// Above so many, links stop reading until the node has caught up.
const INPUTS_MAX: usize = 1 << 14;

/// Inputs from the node's own thread.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    inputs: RefCell<VecDeque<Input>>,
    signal: Signal,
}

impl Inbox {
    pub(super) fn push(&self, input: Input) {
        self.inputs.borrow_mut().push_back(input);
        self.signal.raise();
    }

    /// Has the node's task look around, although nothing was pushed.
    pub(super) fn wake(&self) {
        self.signal.raise();
    }

    /// Exchanges what waits for `empty`.
    pub(super) fn take(&self, empty: &mut VecDeque<Input>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut *self.inputs.borrow_mut(), empty);
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.signal.poll(cx)
    }

    /// Waits until there is room for more.
    pub(super) async fn room(&self) {
        while self.inputs.borrow().len() >= INPUTS_MAX {
            tokio::task::yield_now().await;
        }
    }
}
