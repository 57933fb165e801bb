//! The world's only source of chance: a seeded generator, so that a scenario replays.

/// splitmix64.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly spread in `0..below` (0 for 0).
    pub(super) fn below(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.roll() % below }
    }

    /// `length` characters of `0-9a-z`.
    pub(super) fn word(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        (0..length).map(|_| LETTERS[self.below(36) as usize] as char).collect()
    }

    /// A resource id as ECS makes them, e.g. `s-bp1…` with 20 characters after the prefix.
    pub(super) fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}-bp1{}", self.word(17))
    }

    /// A RequestId: an upper-case UUID.
    pub(super) fn uuid(&mut self) -> String {
        let (a, b) = (self.roll(), self.roll());
        let (b, c, d, e) = (a >> 16 & 0xffff, a & 0xffff, b >> 48, b & 0xffff_ffff_ffff);
        format!("{:08X}-{b:04X}-{c:04X}-{d:04X}-{e:012X}", a >> 32)
    }
}
