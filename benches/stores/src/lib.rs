//! The record that both measurements of stores write.
//!
//! It must not know any store.

use std::sync::Arc;

use synod::consensus::{Cell, Content, Live, State};
use synod::{
    Ballot, ClientId, Epoch, Incarnation, Key, NodeId, OpId, Record, RegisterId, RequestId,
    TableId, Value,
};

/// The acceptance of a value of `size` bytes for the key of this number.
pub fn record(key: u64, round: u64, size: usize) -> Record {
    let ballot = Ballot {
        epoch: Epoch(1),
        round,
        node: NodeId(1),
        incarnation: Incarnation(1),
        sequence: 0,
    };
    let op = OpId { client: ClientId::new(3), request: RequestId(round) };
    let content = Content::Value(Value::from(vec![key as u8; size]));
    let live = Live { generation: ballot, content, bindings: Vec::new() };
    let cell = Cell::absent(Ballot::genesis(Epoch(1))).changed(State::Live(live), op, ballot);
    let register = RegisterId::Key(TableId(0), Key::from(&*format!("key/{key:012}")));
    Record::Accepted { register, ballot, cell: Arc::new(cell) }
}
