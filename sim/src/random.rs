//! Keyed randomness: every draw is a function of what it is for, never of what was drawn before.
//!
//! A draw's key is (seed, site, entity, that entity's counter). Removing an operation or a fault
//! from a plan removes its own draws and leaves every other one as it was; that is what makes
//! shrinking fast and stored plans durable. A mixer rather than a cipher: draws are made for every
//! message, and only equidistribution is asked of them, not secrecy. Plans are generated with
//! ChaCha ([`crate::chooser::Seeded`]).
//!
//! Must never know: what the draws decide.

/// What a draw is for. The numbers are part of the plan format: never renumber, only add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Site {
    /// How long a message takes.
    Latency = 1,
    /// Whether a message is lost.
    Loss = 2,
    /// Whether a message is delivered twice, and when.
    Duplicate = 3,
    /// How much a reordered message is held back.
    Reorder = 4,
    /// How long a write takes.
    Disk = 5,
    /// How much of the writes outstanding a crash keeps.
    Keep = 6,
    /// The seed of a node's process life.
    Node = 7,
    /// Which node a client turns to next.
    Client = 8,
    /// The core that the liveness phase heals.
    Core = 9,
    /// When messages held by a clog are let go.
    Clog = 10,
    /// Where a node's clocks start.
    Clock = 11,
    /// Which messages make a round trip through bytes.
    Wire = 12,
    /// What streams between hosts are like.
    Stream = 13,
    /// Who else talks to hosts.
    Stranger = 14,
    /// What resolvers decide, and how they fail.
    Resolver = 15,
}

/// One draw: 64 evenly distributed bits.
#[must_use]
#[inline]
pub const fn draw(seed: u64, site: Site, entity: u64, counter: u64) -> u64 {
    // Two rounds of a multiply-and-fold of distinct odd constants; each input bit reaches every
    // output bit, which `tests::every_key_bit_matters` measures.
    let a = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_add((site as u64) << 56 ^ entity);
    let b = fold(a ^ 0xa076_1d64_78bd_642f, counter ^ 0xe703_7ed1_a0b4_28db);
    fold(b ^ seed, a ^ 0x8ebc_6af0_9c88_c6e3 ^ counter.rotate_left(32))
}

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.rotate_left(29);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (x ^ (x >> 32)).wrapping_add(b.wrapping_mul(0x9fb2_1c65_1e98_df25))
}

/// A draw scaled to `0..n`; 0 for an `n` of 0.
#[must_use]
#[inline]
pub const fn below(draw: u64, n: u64) -> u64 {
    ((draw as u128 * n as u128) >> 64) as u64
}

/// Whether a draw falls into the first `ppm` millionths.
#[must_use]
#[inline]
pub const fn chance(draw: u64, ppm: u32) -> bool {
    below(draw, 1_000_000) < ppm as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_bit_matters() {
        let mut flips = [0_u32; 3];
        let base = draw(7, Site::Latency, 11, 13);
        for bit in 0..64 {
            flips[0] += (draw(7 ^ 1 << bit, Site::Latency, 11, 13) ^ base).count_ones();
            flips[1] += (draw(7, Site::Latency, 11 ^ 1 << bit, 13) ^ base).count_ones();
            flips[2] += (draw(7, Site::Latency, 11, 13 ^ 1 << bit) ^ base).count_ones();
        }
        for total in flips {
            let mean = f64::from(total) / 64.0;
            assert!((28.0..36.0).contains(&mean), "a flipped bit flips {mean} of 64");
        }
    }

    #[test]
    fn sites_and_counters_do_not_collide() {
        let mut seen = std::collections::BTreeSet::new();
        for site in [Site::Latency, Site::Loss, Site::Disk] {
            for entity in 0..50 {
                for counter in 0..200 {
                    assert!(seen.insert(draw(1, site, entity, counter)));
                }
            }
        }
    }

    #[test]
    fn draws_are_even() {
        let mut counts = [0_u32; 10];
        for counter in 0..100_000 {
            counts[below(draw(3, Site::Loss, 5, counter), 10) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (9_500..10_500).contains(&count)), "{counts:?}");
        assert!(!chance(0, 0) && chance(u64::MAX, 1_000_000));
    }
}
