use crate::PerMillion;

/// Splitmix64: the same sequence for a seed on every machine and in every version, which no library promises.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end`, which is one of them.
    pub(crate) fn up_to(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.next()) * (u128::from(end) + 1);
        u64::try_from(wide >> 64).unwrap_or(end)
    }

    /// 0 to below `end`; 0 of nothing.
    pub fn below(&mut self, end: usize) -> usize {
        (self.part() * end as f64) as usize
    }

    /// Evenly between 0 and 1, neither of them.
    pub fn part(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    pub(crate) fn hits(&mut self, share: PerMillion) -> bool {
        share.0 > 0 && self.up_to(999_999) < u64::from(share.0)
    }
}
