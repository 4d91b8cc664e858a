//! Chance that can be repeated: the numbers of a run follow from its seed.
//!
//! `SETTLE_SEED` sets the seed of every test that uses it. Nothing here is random in any stronger sense.

/// Deterministic chance: splitmix64.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The chance that follows from a seed.
    pub(crate) fn of_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A law's (or another test's) own chance, unless `SETTLE_SEED` says which; the seed is shown when the test fails.
    pub(crate) fn of_law(law: u64) -> Self {
        let seed = std::env::var("SETTLE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(law);
        println!("SETTLE_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(from.len().max(1) as u64);
        from.get(usize::try_from(at).expect("an index"))
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, usize::try_from(self.below(at as u64 + 1)).expect("an index"));
        }
    }
}
