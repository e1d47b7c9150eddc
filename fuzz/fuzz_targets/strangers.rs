//! The first bytes of whoever reaches the port for peers: a handshake, or an error; as they are,
//! and behind the right preface and header, so that the fuzzer need not find those.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod::host::introduction;

fuzz_target!(|bytes: &[u8]| {
    let _ = introduction(bytes);
    let len = u32::try_from(bytes.len()).expect("short").to_le_bytes();
    let sum = crc32fast::hash(bytes).to_le_bytes();
    let greeting = [&b"\x89synod\r\n\x01\x00"[..], &len, &sum, bytes].concat();
    if let Ok(shown) = introduction(&greeting) {
        // What is understood does not depend on what comes behind it.
        assert_eq!(introduction(&[&greeting[..], b"x"].concat()).ok(), Some(shown));
    }
});
