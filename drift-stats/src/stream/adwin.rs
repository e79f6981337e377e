//! ADWIN, adaptive windowing: the longest window of newest values whose parts all have about the same mean.
//!
//! The window is kept as buckets of 1, 2, 4, … values, at most `max_buckets` of each size (one more triggers a merge of the two
//! oldest), so that `W` values need about `max_buckets · log₂ W` of them. Every `clock` values each boundary between buckets,
//! oldest first, is tried as a cut into `n₀` older and `n₁` newer values; it is a change when
//! `|mean₀ − mean₁| > √(2·m·σ²·ln(2·ln(W)/δ)) + (2/3)·m·ln(2·ln(W)/δ)`, with `m = 1/(n₀ − min + 1) + 1/(n₁ − min + 1)` and `σ²`
//! the variance of the whole window. Then the oldest bucket is dropped and cuts are tried anew. Reads any finite numbers; the
//! bound is proved for values in [0, 1]. No warnings. The change began at the cut that is clearest, before anything is dropped: there
//! the difference is the largest multiple of what is allowed.
//!
//! Source: Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007.

use serde::{Deserialize, Serialize};

use super::{BadSetting, Signal, StreamDetector, expect, finite};
use crate::Unusable;

/// Settings of [`Adwin`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdwinSettings {
    /// Probability of a false change at a cut, above 0 and below 1.
    pub delta: f64,
    /// Values between two looks, 1 or more.
    pub clock: u64,
    /// Buckets of each size, 2 or more.
    pub max_buckets: usize,
    /// Values on either side of a cut, 1 or more.
    pub min_window: u64,
    /// Values that must be there before the first look; it is taken when there are more.
    pub grace_period: u64,
}

impl Default for AdwinSettings {
    fn default() -> Self {
        Self {
            delta: 0.002,
            clock: 32,
            max_buckets: 5,
            min_window: 5,
            grace_period: 10,
        }
    }
}

/// Sum and sum of squared deviations of a power of two of values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    squares: f64,
}

/// What two groups of values have more squared deviations together than apart.
fn between(n: f64, mean: f64, m: f64, other: f64) -> f64 {
    n * m * (mean - other) * (mean - other) / (n + m)
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    /// By size, smallest first; in each the oldest first.
    rows: Vec<Vec<Bucket>>,
    width: u64,
    total: f64,
    squares: f64,
    ticks: u64,
}

/// Values in a bucket of a row.
fn size_of(row: usize) -> u64 {
    1 << row
}

impl Window {
    fn insert(&mut self, value: f64, max_buckets: usize) {
        if self.width > 0 {
            let n = self.width as f64;
            self.squares += between(n, self.total / n, 1.0, value);
        }
        self.width += 1;
        self.total += value;
        let mut bucket = Bucket {
            total: value,
            squares: 0.0,
        };
        for row in 0.. {
            if self.rows.len() == row {
                self.rows.push(Vec::with_capacity(max_buckets + 1));
            }
            let buckets = &mut self.rows[row];
            buckets.push(bucket);
            if buckets.len() <= max_buckets {
                return;
            }
            let (first, second) = (buckets[0], buckets[1]);
            buckets.drain(..2);
            let n = size_of(row) as f64;
            bucket = Bucket {
                total: first.total + second.total,
                squares: first.squares + second.squares + between(n, first.total / n, n, second.total / n),
            };
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.rows.iter().rposition(|row| !row.is_empty()) else {
            return;
        };
        let bucket = self.rows[oldest].remove(0);
        let n = size_of(oldest);
        self.width -= n;
        self.total -= bucket.total;
        let (n, rest) = (n as f64, self.width as f64);
        self.squares -= bucket.squares;
        if self.width > 0 {
            self.squares -= between(n, bucket.total / n, rest, self.total / rest);
        }
        if self.rows[oldest].is_empty() {
            self.rows.truncate(oldest);
        }
    }

    /// The newer values at the clearest of the cuts that show a change, count; none when no cut does.
    fn cut(&self, settings: &AdwinSettings) -> Option<u64> {
        let width = self.width as f64;
        let ln = (2.0 * width.ln() / settings.delta).ln();
        let variance = self.squares / width;
        let (mut n0, mut u0) = (0_u64, 0.0);
        let (mut n1, mut u1) = (self.width, self.total);
        let (mut clearest, mut found) = (1.0, None);
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            let n = size_of(row);
            for bucket in buckets {
                n0 += n;
                n1 -= n;
                u0 += bucket.total;
                u1 -= bucket.total;
                if n1 == 0 {
                    return found;
                }
                if n0 < settings.min_window || n1 < settings.min_window {
                    continue;
                }
                let part = |n: u64| 1.0 / (n - settings.min_window + 1) as f64;
                let m = part(n0) + part(n1);
                let epsilon = (2.0 * m * variance * ln).sqrt() + 2.0 / 3.0 * ln * m;
                let gap = (u0 / n0 as f64 - u1 / n1 as f64).abs();
                if gap > epsilon * clearest {
                    (clearest, found) = (gap / epsilon, Some(n1));
                }
            }
        }
        found
    }
}

/// The detector; see the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    settings: AdwinSettings,
    seen: u64,
    window: Window,
    /// The last value was a drift, and the next one begins a new window.
    ended: bool,
}

impl Adwin {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn new(settings: AdwinSettings) -> Result<Self, BadSetting> {
        let AdwinSettings {
            delta,
            clock,
            max_buckets,
            min_window,
            ..
        } = settings;
        expect(delta > 0.0 && delta < 1.0, "delta", delta, "above 0 and below 1")?;
        expect(clock >= 1, "clock", clock as f64, "1 or more")?;
        expect(
            (2..=1_000).contains(&max_buckets),
            "max_buckets",
            max_buckets as f64,
            "2 to 1000",
        )?;
        expect(min_window >= 1, "min_window", min_window as f64, "1 or more")?;
        Ok(Self {
            settings,
            seen: 0,
            window: Window::default(),
            ended: false,
        })
    }

    /// Values in the window, count.
    pub const fn width(&self) -> u64 {
        self.window.width
    }

    /// Mean of the window; 0 when it is empty.
    pub fn mean(&self) -> f64 {
        if self.window.width == 0 {
            0.0
        } else {
            self.window.total / self.window.width as f64
        }
    }

    /// Sum of the squared deviations of the window's values from their mean, 0 or more but for rounding.
    pub const fn squared_deviations(&self) -> f64 {
        self.window.squares
    }
}

impl StreamDetector for Adwin {
    fn name(&self) -> &'static str {
        "adwin"
    }

    fn update(&mut self, value: f64) -> Result<Signal, Unusable> {
        let value = finite(value)?;
        self.seen += 1;
        if self.ended {
            self.window = Window::default();
            self.ended = false;
        }
        let settings = &self.settings;
        let window = &mut self.window;
        window.insert(value, settings.max_buckets);
        window.ticks += 1;
        if !window.ticks.is_multiple_of(settings.clock) || window.width <= settings.grace_period {
            return Ok(Signal::Quiet);
        }
        let Some(newer) = window.cut(settings) else {
            return Ok(Signal::Quiet);
        };
        while window.cut(settings).is_some() {
            window.drop_oldest();
        }
        self.ended = true;
        Ok(Signal::Drift {
            began: self.seen - newer,
        })
    }
}
