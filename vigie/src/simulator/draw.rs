//! Random draws that give the same values for ever.
//!
//! The generator is ChaCha with 8 rounds; everything on top of its raw 64-bit words is written here, so that no
//! new release of a library can change what a seed means. Each [`Stream`] of a seed is independent of the others:
//! a planted drift draws from its own and leaves everything before its first day as it was.

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Customers, terminals, who shops where.
    Population,
    /// Genuine payments of a day.
    Payments { day: u32 },
    /// Terminals and cards that fall into wrong hands on a day, and what is done with them.
    Fraud { day: u32 },
    /// Drift number `drift` of the options, on a day.
    Drift { drift: u32, day: u32 },
}

/// Draws of one stream.
#[derive(Debug, Clone)]
pub(super) struct Draws(ChaCha8Rng);

impl Draws {
    pub(super) fn new(seed: u64, stream: Stream) -> Self {
        let (kind, drift, day) = match stream {
            Stream::Population => (1_u32, 0, 0),
            Stream::Payments { day } => (2, 0, day),
            Stream::Fraud { day } => (3, 0, day),
            Stream::Drift { drift, day } => (4, drift, day),
        };
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..12].copy_from_slice(&kind.to_le_bytes());
        key[12..16].copy_from_slice(&drift.to_le_bytes());
        key[16..20].copy_from_slice(&day.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.0.next_u64() >> 11) as f64 * STEP
    }

    /// Uniform in [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..count; `count` at least 1.
    pub(super) fn below(&mut self, count: usize) -> usize {
        // The bias of a multiplication is at most count / 2^53.
        ((self.unit() * count as f64) as usize).min(count - 1)
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Normal, by Box and Muller; the second value of the pair is not kept, so that draws stay independent of
    /// what was asked for before.
    pub(super) fn normal(&mut self, mean: f64, sd: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.unit();
        mean + sd * radius * angle.cos()
    }

    /// Poisson, by Knuth's products: for small means.
    pub(super) fn poisson(&mut self, mean: f64) -> u32 {
        let floor = (-mean).exp();
        let mut count = 0;
        let mut product = self.unit();
        while product > floor {
            count += 1;
            product *= self.unit();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let values: Vec<f64> = (0..20_000).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance)
    }

    #[test]
    fn distributions_have_their_moments() {
        let mut draws = Draws::new(5, Stream::Population);
        let (mean, variance) = moments(|| draws.normal(3.0, 2.0));
        assert!(
            (mean - 3.0).abs() < 0.06 && (variance - 4.0).abs() < 0.2,
            "normal {mean} {variance}"
        );
        let (mean, variance) = moments(|| f64::from(draws.poisson(2.5)));
        assert!(
            (mean - 2.5).abs() < 0.05 && (variance - 2.5).abs() < 0.12,
            "poisson {mean} {variance}"
        );
        let (mean, variance) = moments(|| draws.between(-1.0, 1.0));
        assert!(
            mean.abs() < 0.02 && (variance - 1.0 / 3.0).abs() < 0.01,
            "uniform {mean} {variance}"
        );
        let (mean, _) = moments(|| draws.below(7) as f64);
        assert!((mean - 3.0).abs() < 0.06, "below {mean}");
        let (mean, _) = moments(|| f64::from(u8::from(draws.chance(0.3))));
        assert!((mean - 0.3).abs() < 0.015, "chance {mean}");
    }

    #[test]
    fn streams_and_seeds_differ_and_repeat() {
        let first = |seed, stream| Draws::new(seed, stream).unit();
        let streams = [
            Stream::Population,
            Stream::Payments { day: 0 },
            Stream::Payments { day: 1 },
            Stream::Fraud { day: 0 },
            Stream::Drift { drift: 0, day: 0 },
            Stream::Drift { drift: 1, day: 0 },
        ];
        for (at, stream) in streams.into_iter().enumerate() {
            assert_eq!(first(1, stream), first(1, stream));
            assert_ne!(first(1, stream), first(2, stream), "{stream:?}");
            for other in &streams[at + 1..] {
                assert_ne!(first(1, stream), first(1, *other), "{stream:?} {other:?}");
            }
        }
    }
}
