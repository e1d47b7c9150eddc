//! Bytes from a client: however they are cut into packets they are the same requests, and each is
//! answered once, in order, in what a client can read.
#![no_main]

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use resp_rs::resp3::parse_frame;
use synod::resp::{
    Connection, ConnectionLimits, Errand, ProtocolError, RequestLimits, Requests, Surroundings,
};
use synod::{Discipline, Key, NodeId, Outcome, Refusal, Status, TableConfig, TableId, Wall};

/// A node that has little to say.
struct Quiet {
    tables: Rc<[TableConfig]>,
    members: BTreeMap<NodeId, String>,
    password: Option<&'static [u8]>,
}

impl Surroundings for Quiet {
    fn wall(&self) -> Wall {
        Wall(1_000_000)
    }

    fn node(&self) -> NodeId {
        NodeId(1)
    }

    fn tables(&self) -> Rc<[TableConfig]> {
        self.tables.clone()
    }

    fn merged_defaults(&self) -> &str {
        "last-modified"
    }

    fn page_max(&self) -> u32 {
        10
    }

    fn cluster(&self) -> &str {
        "fuzz"
    }

    fn members(&self) -> &BTreeMap<NodeId, String> {
        &self.members
    }

    fn password(&self) -> Option<&[u8]> {
        self.password
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn info(&self, _: &Status, _: &[String]) -> String {
        String::new()
    }

    fn clients(&self) -> String {
        String::new()
    }

    fn reconnect(&self, peer: Option<NodeId>) -> bool {
        peer.is_none()
    }

    fn remember(&self, _: TableId, _: Key) -> u64 {
        1
    }

    fn recall(&self, _: u64) -> Option<(TableId, Key)> {
        None
    }
}

/// The requests in these bytes, arriving so many at a time, and what is wrong behind them.
fn decode(bytes: &[u8], packet: usize) -> (Vec<Vec<Bytes>>, Result<(), ProtocolError>) {
    let mut requests = Requests::new(RequestLimits::default());
    let mut found = Vec::new();
    for part in bytes.chunks(packet) {
        requests.buffer().extend_from_slice(part);
        if let Err(error) = requests.take(usize::MAX, &mut found) {
            return (found, Err(error));
        }
    }
    (found, Ok(()))
}

fn converse(bytes: &[u8], surroundings: &Quiet) {
    let mut connection = Connection::new(1, ConnectionLimits::default());
    connection.input().extend_from_slice(bytes);
    let (mut errands, mut output) = (Vec::new(), Vec::new());
    loop {
        connection.poll(surroundings, &mut errands);
        output.extend_from_slice(&connection.output().split());
        if errands.is_empty() {
            break;
        }
        for errand in errands.drain(..) {
            let (Errand::Call(id, _) | Errand::Session(id, _)) = errand;
            connection.answer(id, Outcome::Refused(Refusal::NoQuorum), surroundings);
        }
    }
    assert_eq!(connection.unanswered(), 0, "everything is answered");
    let mut output = Bytes::from(output);
    while !output.is_empty() {
        output = parse_frame(output).expect("a reply").1;
    }
}

fuzz_target!(|bytes: &[u8]| {
    if bytes.is_empty() {
        return;
    }
    let packet = 1 + usize::from(bytes[0] % 13);
    assert_eq!(decode(bytes, bytes.len()), decode(bytes, packet));
    let table = |name: &str, write_once| TableConfig {
        name: name.to_owned(),
        discipline: Discipline::Consensus { write_once },
        made: false,
    };
    let mut quiet = Quiet {
        tables: vec![table("default", false), table("once", true)].into(),
        members: BTreeMap::from([(NodeId(1), "localhost:1".to_owned())]),
        password: None,
    };
    converse(bytes, &quiet);
    quiet.password = Some(b"p");
    converse(bytes, &quiet);
});
