//! HDDM-A: the mean since the last drift against the mean up to its best point, by Hoeffding's bound.
//!
//! The cut is the point at which the mean plus its bound `√(ln(1/δ)/(2n))` was smallest (for increases) or minus its bound was
//! largest (for decreases). A change is a difference of the two means beyond `√(m/2 · ln(2/δ))`, `m = (n − n_cut)/(n_cut · n)`.
//! Reads shares, 0 to 1; no assumption about their law. Good at sudden changes; by default it sees increases only. The change
//! began after the cut, which is the method's own estimate.
//!
//! Source: Frías-Blanco, del Campo-Ávila, Ramos-Jiménez, Morales-Bueno, Ortiz-Díaz and Caballero-Mota, "Online and
//! non-parametric drift detection methods based on Hoeffding's bounds", IEEE TKDE 27(3), 2015; as in MOA.

use serde::{Deserialize, Serialize};

use super::moments::Mean;
use super::{BadSetting, Signal, StreamDetector, expect, share};
use crate::Unusable;

/// Settings of [`HddmA`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HddmASettings {
    /// Probability of a false drift at a value, above 0 and below 1.
    pub drift_confidence: f64,
    /// Probability of a false warning at a value, at least `drift_confidence` and below 1.
    pub warning_confidence: f64,
    /// Whether decreases count too.
    pub two_sided: bool,
}

impl Default for HddmASettings {
    fn default() -> Self {
        Self {
            drift_confidence: 0.001,
            warning_confidence: 0.005,
            two_sided: false,
        }
    }
}

/// Shared by both HDDM.
pub(super) fn check_confidences(drift: f64, warning: f64) -> Result<(), BadSetting> {
    expect(
        drift > 0.0 && drift < 1.0,
        "drift_confidence",
        drift,
        "above 0 and below 1",
    )?;
    expect(
        warning >= drift && warning < 1.0,
        "warning_confidence",
        warning,
        "at least `drift_confidence` and below 1",
    )
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    all: Mean,
    /// All up to the cut for increases.
    low: Mean,
    /// All up to the cut for decreases.
    high: Mean,
}

/// The detector; see the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HddmA {
    settings: HddmASettings,
    seen: u64,
    state: State,
}

impl HddmA {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn new(settings: HddmASettings) -> Result<Self, BadSetting> {
        check_confidences(settings.drift_confidence, settings.warning_confidence)?;
        Ok(Self {
            settings,
            seen: 0,
            state: State::default(),
        })
    }
}

/// Half the width of the interval of a mean of `n` values.
fn bound(n: u64, ln_inverse: f64) -> f64 {
    (1.0 / (2.0 * n as f64) * ln_inverse).sqrt()
}

/// How far two means must lie apart, of which one is of the first values of the other.
fn gap(cut: Mean, all: Mean, confidence: f64) -> f64 {
    let m = (all.n - cut.n) as f64 / cut.n as f64 * (1.0 / all.n as f64);
    (m / 2.0 * (2.0 / confidence).ln()).sqrt()
}

impl State {
    fn rises(&self, confidence: f64) -> bool {
        self.low.n != self.all.n && self.all.mean - self.low.mean >= gap(self.low, self.all, confidence)
    }

    fn falls(&self, confidence: f64) -> bool {
        self.high.n != self.all.n && self.high.mean - self.all.mean >= gap(self.high, self.all, confidence)
    }
}

impl StreamDetector for HddmA {
    fn name(&self) -> &'static str {
        "hddm_a"
    }

    fn update(&mut self, value: f64) -> Result<Signal, Unusable> {
        let value = share(value)?;
        self.seen += 1;
        let HddmASettings {
            drift_confidence,
            warning_confidence,
            two_sided,
        } = self.settings;
        let state = &mut self.state;
        state.all.update(value);
        if state.low.n == 0 {
            state.low = state.all;
        }
        if state.high.n == 0 {
            state.high = state.all;
        }
        let ln_inverse = (1.0 / drift_confidence).ln();
        let of_all = bound(state.all.n, ln_inverse);
        if state.low.mean + bound(state.low.n, ln_inverse) >= state.all.mean + of_all {
            state.low = state.all;
        }
        if state.high.mean - bound(state.high.n, ln_inverse) <= state.all.mean - of_all {
            state.high = state.all;
        }
        let cut = if state.rises(drift_confidence) {
            Some(state.low)
        } else if two_sided && state.falls(drift_confidence) {
            Some(state.high)
        } else {
            None
        };
        if let Some(cut) = cut {
            let began = self.seen - (state.all.n - cut.n);
            self.state = State::default();
            return Ok(Signal::Drift { began });
        }
        if state.rises(warning_confidence) || (two_sided && state.falls(warning_confidence)) {
            return Ok(Signal::Warning);
        }
        Ok(Signal::Quiet)
    }
}
