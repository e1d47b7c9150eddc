//! Recorded histories in every format: read and judged, or refused with the line that is wrong. A
//! yes comes with a witness that holds, and a small history is judged as an oracle judges it that
//! tries everything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod_sim::checker::{Options, Verdict, brute, check, check_witness};
use synod_sim::history::read::Histories;

/// More than this is beyond trying everything.
const BRUTE_MAX: usize = 7;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut histories) = Histories::read(bytes, "fuzz", None) else { return };
    while let Ok(Some(history)) = histories.next_history() {
        let verdict = check(&history, &Options { budget: 20_000 });
        if let Verdict::Linearizable(witness) = &verdict {
            check_witness(&history, witness).expect("a witness holds");
        }
        if history.ops.len() <= BRUTE_MAX
            && let Some(truth) = brute::is_linearizable(&history, 1_000)
        {
            match verdict {
                Verdict::Linearizable(_) => assert!(truth, "yes to what has no order"),
                Verdict::NotLinearizable { .. } => assert!(!truth, "no to what has an order"),
                Verdict::Unknown { .. } => {}
            }
        }
    }
});
