//! Numbers for tests that look drawn and are the same in every run.

pub(super) struct Draws(u64);

impl Draws {
    /// A seed of 0 would stay 0.
    pub(super) fn new(seed: u64) -> Draws {
        Draws(seed.max(1))
    }

    /// xorshift64.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}
