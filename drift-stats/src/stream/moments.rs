//! Running means and variances, updated one value at a time (Welford 1962) in river's order of operations.

use serde::{Deserialize, Serialize};

/// A running mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mean {
    pub n: u64,
    pub mean: f64,
}

impl Mean {
    pub fn update(&mut self, value: f64) {
        self.n += 1;
        self.mean += (1.0 / self.n as f64) * (value - self.mean);
    }
}

/// A running mean and sum of squared deviations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    pub mean: Mean,
    squares: f64,
}

impl Spread {
    pub fn update(&mut self, value: f64) {
        let before = self.mean.mean;
        self.mean.update(value);
        self.squares += (value - before) * (value - self.mean.mean);
    }

    /// Standard deviation of the sample (n − 1); 0 for a single value.
    pub fn deviation(&self) -> f64 {
        if self.mean.n > 1 {
            (self.squares / (self.mean.n - 1) as f64).sqrt()
        } else {
            0.0
        }
    }
}
