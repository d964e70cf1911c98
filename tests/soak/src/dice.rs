//! Chance that can be repeated: the same seed throws the same dice on every machine and with every version of every
//! crate.

use std::ops::RangeInclusive;

/// A source of chance (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Other dice, which depend on the seed and on this name only.
    #[must_use]
    pub fn named(seed: u64, name: &str) -> Dice {
        let mixed = name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut dice = Dice(mixed);
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in this range.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        low + self.next() % (high - low + 1)
    }

    /// A number below this one, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True so often in a hundred times.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.within(1..=100) <= percent
    }

    /// One of these, if there is one.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() { None } else { Some(&all[self.below(all.len())]) }
    }

    /// One of these, each as likely as its weight says. The weights are not all 0.
    pub fn weighted<T: Copy>(&mut self, all: &[(u64, T)]) -> T {
        let sum: u64 = all.iter().map(|(weight, _)| weight).sum();
        let mut left = self.within(1..=sum);
        for (weight, choice) in all {
            if left <= *weight {
                return *choice;
            }
            left -= weight;
        }
        all[all.len() - 1].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Old seeds are worth something only as long as they mean the same.
    #[test]
    fn a_seed_always_throws_the_same() {
        let mut dice = Dice::new(7);
        let thrown: Vec<u64> = (0..6).map(|_| dice.within(0..=99)).collect();
        assert_eq!(thrown, [87, 4, 46, 3, 74, 5]);
        assert_ne!(Dice::named(7, "a").next(), Dice::named(7, "b").next());
    }

    #[test]
    fn weights_are_kept() {
        let mut dice = Dice::new(1);
        let often = (0..1000).filter(|_| dice.weighted(&[(9, true), (1, false)])).count();
        assert!((850..950).contains(&often), "{often}");
        assert!((0..100).all(|_| dice.weighted(&[(0, false), (1, true)])));
    }
}
