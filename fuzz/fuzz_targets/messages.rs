//! Bytes from the network: decoding ends in a message or in an error, and what was decoded encodes
//! to something that decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod::{Message, wire};

fuzz_target!(|bytes: &[u8]| {
    let _ = wire::decode::<Message>(bytes);
    let Ok(message) = wire::decode_body::<Message>(bytes) else { return };
    let _ = message.to_string();
    let mut frame = Vec::new();
    wire::encode(&message, &mut frame).expect("no longer than what it came from");
    assert_eq!(wire::decode::<Message>(&frame), Ok((message, frame.len())));
});
