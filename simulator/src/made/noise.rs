//! Random numbers by name instead of by order.

/// A source of draws that depend only on where it comes from and a salt, in whatever order they are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An independent source. The mixing is SplitMix64's (Steele, Lea and Flood, 2014).
    pub(super) fn of(self, salt: u64) -> Noise {
        let mut mixed = self.0 ^ salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Noise(mixed ^ (mixed >> 31))
    }

    /// Evenly from `low` to `high`.
    pub(super) fn between(self, salt: u64, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.of(salt).0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of `0..n`.
    pub(super) fn below(self, salt: u64, n: u64) -> u64 {
        (self.between(salt, 0.0, n as f64) as u64).min(n.saturating_sub(1))
    }

    /// From a normal distribution with this deviation, around zero.
    pub(super) fn normal(self, salt: u64, sigma: f64) -> f64 {
        let (radius, angle) = (self.of(salt).between(1, 1e-12, 1.0), self.of(salt).between(2, 0.0, 1.0));
        sigma * (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

/// A salt for a field's name (FNV-1a).
pub(super) fn salt(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
