//! Bytes from a disk: a log is recovered, or refused with the record that is wrong. A recovered
//! node keeps its invariants and can be recovered again from the same log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod::{Config, Input, Node, NodeId, Now, Record, wire};

fuzz_target!(|bytes: &[u8]| {
    // Bodies behind a length byte each: the checksum of a real frame would stop the fuzzer at once.
    let mut records: Vec<Record> = Vec::new();
    let mut rest = bytes;
    while let Some((&len, tail)) = rest.split_first() {
        let (body, tail) = tail.split_at(usize::from(len).min(tail.len()));
        let Ok(record) = wire::decode_body(body) else { break };
        records.push(record);
        rest = tail;
    }
    let recover = || Node::recover(Config::new(NodeId(1)), 1, records.iter().cloned());
    let Ok(mut node) = recover() else { return };
    node.handle(Input::Timeout, Now::default(), &mut Vec::new());
    node.check_invariants().expect("invariants");
    assert!(recover().is_ok(), "the same log is good twice");
});
