//! The law of the population stability index when nothing moved, for the bins that a reference really has.
//!
//! [`crate::null`] takes every bin for one that expects many values, whose part of the index is a chi-squared of one degree of freedom.
//! A bin that expects few is different: five values where twenty were expected lie twice as far away, by the index, as fifteen too
//! many would by a chi-squared, and with three hundred features one of them is always so. Here bins that expect fewer than
//! [`COMMON`] values, in the window or in the reference, have their own laws: of the values that a window has, given how many the reference
//! has, negative binomial (the predictive law of a Poisson count under Jeffreys' prior); the part of the index follows value by value.
//! The others together are a chi-squared. The largest bin is what the rest leaves of the window and has no law of its own: parts are
//! then independent, their number is that of the degrees of freedom, and where nothing is rare the sum is the chi-squared of
//! [`crate::null`]. Sums are taken on a grid (mass is divided between neighbours, so that means are kept).
//!
//! A bin that the reference never had says nothing here. Of levels that a reference missed, as many are expected as
//! [`crate::binning::CategoryBins::unseen_expected`] says.
//!
//! Convention: as the index itself; the predictive law is in Gelman and others, *Bayesian Data Analysis*, 2013, §2.6.

use crate::binning::UNSEEN_BIN;
use crate::null::{Sizes, inflation, psi_critical, psi_p_value};
use crate::psi;
use crate::special::{chi_squared_tail, ln_gamma};
use crate::{Detector as _, Histogram, Unusable};

/// Values from which a bin counts as common.
pub const COMMON: f64 = 150.0;
/// Cells of the grid.
const CELLS: usize = 256;
/// The grid reaches to twice the critical value of this level.
const FARTHEST: f64 = 1e-8;
/// Parts of a law that are less likely than this are left out.
const NEGLIGIBLE: f64 = 1e-13;

/// The index of a window beside a reference, and what it would be without drift.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The index.
    pub psi: f64,
    /// How many times more than chance parts of the reference differ by among themselves, 1 or more
    /// ([`crate::null::inflation`]).
    pub inflation: f64,
    law: NullLaw,
}

impl Comparison {
    /// Compares; `between` is what windows differ by besides chance ([`crate::between`]).
    ///
    /// # Errors
    /// [`Unusable`] when there is nothing to compare, or in other bins.
    pub fn of(reference: &Histogram, current: &Histogram, between: f64) -> Result<Self, Unusable> {
        let score = psi::Psi.score(reference, current)?;
        let law = NullLaw::of(reference, current, score.bins);
        Ok(Self {
            psi: score.value,
            inflation: inflation(score.bins, law.sizes, between),
            law,
        })
    }

    /// The index that chance alone exceeds with probability `alpha`.
    pub fn chance(&self, alpha: f64) -> f64 {
        self.law.critical(alpha)
    }

    /// The index that chance and the unrest of the reference exceed with probability `alpha`.
    pub fn noise(&self, alpha: f64) -> f64 {
        self.chance(alpha) * self.inflation
    }

    /// Probability of an index at least as large without drift, 0 to 1.
    pub fn p_value(&self) -> f64 {
        self.law.p_value(self.psi / self.inflation)
    }
}

/// The law of the index of a window beside a reference.
#[derive(Debug, Clone)]
pub struct NullLaw {
    bins: u32,
    sizes: Sizes,
    grid: Option<Grid>,
}

/// Probabilities of sums, cell by cell.
#[derive(Debug, Clone)]
struct Grid {
    step: f64,
    mass: Vec<f64>,
    /// Beyond the last cell.
    beyond: f64,
}

impl Grid {
    /// All mass at zero.
    fn at_zero(step: f64) -> Self {
        let mut mass = vec![0.0; CELLS];
        mass[0] = 1.0;
        Self {
            step,
            mass,
            beyond: 0.0,
        }
    }

    /// Puts mass at a value.
    fn put(&mut self, value: f64, mass: f64) {
        let place = value / self.step;
        let low = place as usize;
        let share = place - low as f64;
        if low + 1 >= CELLS {
            self.beyond += mass;
        } else {
            self.mass[low] += mass * (1.0 - share);
            self.mass[low + 1] += mass * share;
        }
    }

    /// The sum of two independent ones.
    fn plus(&self, other: &Self) -> Self {
        let mut sum = vec![0.0; CELLS];
        for (at, mine) in self.mass.iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
            let room = &mut sum[at..];
            for (cell, theirs) in room.iter_mut().zip(&other.mass) {
                *cell += mine * theirs;
            }
        }
        let inside: f64 = sum.iter().sum();
        Self {
            step: self.step,
            mass: sum,
            beyond: (1.0 - inside).max(0.0),
        }
    }

    /// Of the chi-squared of many common bins.
    fn of_common(step: f64, degrees: f64, scale: f64) -> Self {
        let mut grid = Self {
            step,
            mass: vec![0.0; CELLS],
            beyond: 0.0,
        };
        let tail = |value: f64| chi_squared_tail(value / scale, degrees);
        let mut before = 1.0;
        for cell in 1..CELLS {
            let after = tail(cell as f64 * step);
            grid.put((cell as f64 - 0.5) * step, before - after);
            before = after;
        }
        grid.beyond += before;
        grid
    }

    /// Probability of a sum above a value.
    fn tail(&self, value: f64) -> f64 {
        // What lies at the value itself is divided between both of its neighbours.
        let from = ((value / self.step) as usize).min(CELLS);
        self.beyond + self.mass[from..].iter().sum::<f64>()
    }

    /// The smallest value that is exceeded with probability `alpha` at most.
    fn critical(&self, alpha: f64) -> f64 {
        let mut tail = self.beyond;
        for (cell, mass) in self.mass.iter().enumerate().rev() {
            tail += mass;
            if tail > alpha {
                return (cell + 1) as f64 * self.step;
            }
        }
        0.0
    }
}

/// What is expected of one bin of a window.
struct Expected {
    bin: usize,
    /// Of the reference, or what stands for it.
    reference: f64,
    /// Of the window.
    window: f64,
}

impl NullLaw {
    /// The law for windows of as many values as `current` has; `bins` is the number of bins that its index was made of.
    pub fn of(reference: &Histogram, current: &Histogram, bins: u32) -> Self {
        let sizes = Sizes {
            reference: reference.values(),
            current: current.values(),
        };
        Self {
            bins,
            sizes,
            grid: (bins > 1).then(|| grid(reference, sizes, bins)).flatten(),
        }
    }

    /// The index that a comparison without drift exceeds with probability `alpha`; 0 for a single bin.
    pub fn critical(&self, alpha: f64) -> f64 {
        let common = psi_critical(self.bins, self.sizes, alpha);
        let rare = self.grid.as_ref().map_or(0.0, |grid| grid.critical(alpha));
        common.max(rare)
    }

    /// Probability of an index at least this large without drift, 0 to 1.
    pub fn p_value(&self, psi: f64) -> f64 {
        let common = psi_p_value(psi, self.bins, self.sizes);
        let rare = self.grid.as_ref().map_or(0.0, |grid| grid.tail(psi));
        common.max(rare.min(1.0))
    }
}

/// Nothing where every bin is common.
fn grid(reference: &Histogram, sizes: Sizes, bins: u32) -> Option<Grid> {
    let (n, m) = (sizes.reference as f64, sizes.current as f64);
    let expected = reference.coarse().iter().enumerate().filter_map(|(bin, count)| {
        let known = match reference.unseen_once() {
            Some(once) if bin == UNSEEN_BIN => (*count as f64).max(once),
            _ => *count as f64,
        };
        let window = m * known / n;
        (known > 0.0).then_some(Expected {
            bin,
            reference: known,
            window,
        })
    });
    let mut expected: Vec<Expected> = expected.collect();
    expected.sort_by(|a, b| b.reference.total_cmp(&a.reference));
    let is_common = |one: &Expected| one.reference >= COMMON && one.window >= COMMON;
    // The largest is what the others leave.
    let rest = expected.split_off(expected.len().min(1));
    let (common, rare): (Vec<Expected>, Vec<Expected>) = rest.into_iter().partition(is_common);
    if rare.is_empty() {
        return None;
    }
    let scale = 1.0 / n + 1.0 / m;
    let step = 2.0 * psi_critical(bins, sizes, FARTHEST) / CELLS as f64;
    let mut sum = match common.len() {
        0 => Grid::at_zero(step),
        degrees => Grid::of_common(step, degrees as f64, scale),
    };
    for one in &rare {
        sum = sum.plus(&of_rare(one, reference, sizes, step));
    }
    Some(sum)
}

/// The law of one bin's part of the index.
fn of_rare(one: &Expected, reference: &Histogram, sizes: Sizes, step: f64) -> Grid {
    let (n, m) = (sizes.reference as f64, sizes.current as f64);
    // Gamma(shape, n) rows a row of the reference, Poisson in the window.
    let shape = one.reference + 0.5;
    let (stays, goes) = ((n / (n + m)).ln(), (m / (n + m)).ln());
    let log_mass = |count: f64| {
        ln_gamma(shape + count) - ln_gamma(shape) - ln_gamma(count + 1.0) + shape * stays + count * goes
    };
    let mut grid = Grid {
        step,
        mass: vec![0.0; CELLS],
        beyond: 0.0,
    };
    let centre = (m * shape / n).floor();
    let mut add = |count: f64| {
        let mass = log_mass(count).exp();
        // A window has no more values than it has.
        grid.put(part(one.bin, count.min(m), reference, sizes), mass);
        mass > NEGLIGIBLE
    };
    let mut count = centre;
    while count >= 0.0 && add(count) {
        count -= 1.0;
    }
    count = centre + 1.0;
    while add(count) {
        count += 1.0;
    }
    grid
}

/// What a bin with so many values of a window adds to the index.
fn part(bin: usize, count: f64, reference: &Histogram, sizes: Sizes) -> f64 {
    let seen = count as u64;
    let known = if bin == UNSEEN_BIN {
        reference.unseen_beside(seen, sizes.current)
    } else {
        reference.coarse()[bin]
    };
    let terms = psi::terms(
        &[known, sizes.reference.saturating_sub(known)],
        &[seen, sizes.current.saturating_sub(seen)],
    );
    terms.map_or(0.0, |terms| terms[0].unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::psi::of_counts;

    fn law(reference: &[u64], window: u64) -> NullLaw {
        let reference = Histogram::from_counts(reference.to_vec());
        let bins = reference.coarse().len() as u32;
        NullLaw::of(&reference, &Histogram::from_counts(vec![window; 1]), bins)
    }

    #[test]
    fn where_nothing_is_rare_it_is_the_chi_squared() {
        let law = law(&[2_000; 10], 5_000);
        let sizes = Sizes {
            reference: 20_000,
            current: 5_000,
        };
        assert!(law.grid.is_none());
        assert_eq!(law.critical(1e-4), psi_critical(10, sizes, 1e-4));
        assert_eq!(law.p_value(0.01), psi_p_value(0.01, 10, sizes));
    }

    #[test]
    fn a_rare_flag_has_the_law_of_its_counts() {
        // One in a hundred; a window of 2,000 expects 20.
        let law = law(&[19_800, 200], 2_000);
        let index = |count: u64| {
            let score = of_counts(&[19_800, 200], &[2_000 - count, count]);
            score.map_or(f64::NAN, |score| score.value)
        };
        // Exact tails of the predictive law, both sides by their distance: 5 lie as far away as 46.
        let p = law.p_value(index(5));
        assert!((1e-4..4e-4).contains(&p), "{p}");
        let critical = law.critical(1e-2 / 300.0);
        assert!(
            critical > index(5) && critical < index(4),
            "{critical} {} {}",
            index(5),
            index(4)
        );
        let before = psi_critical(2, law.sizes, 1e-2 / 300.0);
        assert!(before < index(5), "the chi-squared would have told of 5");
    }

    #[test]
    fn sums_of_rare_bins_are_near_the_chi_squared_of_as_many() {
        // Fifty in a bin of the window: the chi-squared is not far off.
        let law = law(&[2_000; 10], 500);
        let grid = law.grid.as_ref().map_or(0.0, |grid| grid.critical(1e-3));
        let chi_squared = psi_critical(10, law.sizes, 1e-3);
        assert!(
            (0.9..1.25).contains(&(grid / chi_squared)),
            "{grid} {chi_squared}"
        );
        let total: f64 = law
            .grid
            .iter()
            .map(|grid| grid.mass.iter().sum::<f64>() + grid.beyond)
            .sum();
        assert!((total - 1.0).abs() < 1e-9, "{total}");
    }

    #[test]
    fn critical_values_and_probabilities_agree() {
        for (reference, window) in [
            (vec![19_800, 200], 2_000),
            (vec![2_000; 10], 200),
            (vec![12_000, 2_000, 2_000, 2_000, 2_000], 200),
            (vec![19_990, 10], 50),
            (vec![1, 1], 1),
        ] {
            let law = law(&reference, window);
            for alpha in [0.05, 1e-3, 3e-5] {
                let critical = law.critical(alpha);
                assert!(
                    law.p_value(critical * 1.02) <= alpha * 1.01,
                    "{reference:?} {window} {alpha}"
                );
            }
            assert!(law.critical(1e-4) >= law.critical(1e-2));
        }
    }
}
