//! HDDM-W: exponentially weighted means before and after a cut, by McDiarmid's bound.
//!
//! The weight of the newest value is `lambda`; the bound of a weighted mean is `√(ibc · ln(1/δ)/2)`, where `ibc` begins at 1 and
//! becomes `λ² + (1 − λ)²·ibc` with each value. The cut is where the mean plus its bound was smallest (for increases) or minus
//! its bound largest (for decreases). Reads shares, 0 to 1. Good at slow changes; by default it sees increases only. The change
//! began where the warning did that the drift ended, or at the drift: the cut may lie far before it, in a lull.
//!
//! Source: as for HDDM-A.

use serde::{Deserialize, Serialize};

use super::hddm_a::check_confidences;
use super::{BadSetting, Signal, StreamDetector, expect, share};
use crate::Unusable;

/// Settings of [`HddmW`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HddmWSettings {
    /// Probability of a false drift at a value, above 0 and below 1.
    pub drift_confidence: f64,
    /// Probability of a false warning at a value, at least `drift_confidence` and below 1.
    pub warning_confidence: f64,
    /// Weight of the newest value, above 0 and at most 1.
    pub lambda: f64,
    /// Whether decreases count too.
    pub two_sided: bool,
}

impl Default for HddmWSettings {
    fn default() -> Self {
        Self {
            drift_confidence: 0.001,
            warning_confidence: 0.005,
            lambda: 0.05,
            two_sided: false,
        }
    }
}

/// A weighted mean and its bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Weighted {
    mean: Option<f64>,
    ibc: f64,
}

impl Weighted {
    const NONE: Self = Self { mean: None, ibc: 1.0 };

    fn update(&mut self, value: f64, lambda: f64) {
        self.mean = Some(match self.mean {
            Some(mean) => lambda * value + (1.0 - lambda) * mean,
            None => value,
        });
        self.ibc = lambda * lambda + (1.0 - lambda) * (1.0 - lambda) * self.ibc;
    }

    fn bound(&self, ln_inverse: f64) -> f64 {
        (self.ibc * ln_inverse / 2.0).sqrt()
    }
}

/// The two sides of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Cut {
    /// The mean with its bound, at the cut.
    at: Option<f64>,
    before: Weighted,
    after: Weighted,
}

impl Cut {
    const NONE: Self = Self {
        at: None,
        before: Weighted::NONE,
        after: Weighted::NONE,
    };

    fn move_to(&mut self, level: f64, all: Weighted) {
        *self = Self {
            at: Some(level),
            before: all,
            ..Self::NONE
        };
    }

    /// Whether the mean after it is larger (`sign` 1) or smaller (`sign` −1) beyond the bound.
    fn changed(&self, sign: f64, ln_inverse: f64) -> bool {
        let (Some(before), Some(after)) = (self.before.mean, self.after.mean) else {
            return false;
        };
        let bound = ((self.before.ibc + self.after.ibc) * ln_inverse / 2.0).sqrt();
        sign * (after - before) > bound
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct State {
    all: Weighted,
    rise: Cut,
    fall: Cut,
    warned_at: Option<u64>,
}

impl State {
    const NONE: Self = Self {
        all: Weighted::NONE,
        rise: Cut::NONE,
        fall: Cut::NONE,
        warned_at: None,
    };
}

/// The detector; see the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HddmW {
    settings: HddmWSettings,
    seen: u64,
    state: State,
}

impl HddmW {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn new(settings: HddmWSettings) -> Result<Self, BadSetting> {
        check_confidences(settings.drift_confidence, settings.warning_confidence)?;
        let lambda = settings.lambda;
        expect(
            lambda > 0.0 && lambda <= 1.0,
            "lambda",
            lambda,
            "above 0 and at most 1",
        )?;
        Ok(Self {
            settings,
            seen: 0,
            state: State::NONE,
        })
    }
}

impl StreamDetector for HddmW {
    fn name(&self) -> &'static str {
        "hddm_w"
    }

    fn update(&mut self, value: f64) -> Result<Signal, Unusable> {
        let value = share(value)?;
        self.seen += 1;
        let HddmWSettings {
            drift_confidence,
            warning_confidence,
            lambda,
            two_sided,
        } = self.settings;
        let ln_drift = (1.0 / drift_confidence).ln();
        let ln_warning = (1.0 / warning_confidence).ln();
        let state = &mut self.state;
        state.all.update(value, lambda);
        let mean = state.all.mean.unwrap_or(value);
        let bound = state.all.bound(ln_drift);
        if state.rise.at.is_none_or(|at| mean + bound < at) {
            state.rise.move_to(mean + bound, state.all);
        } else {
            state.rise.after.update(value, lambda);
        }
        if two_sided {
            if state.fall.at.is_none_or(|at| mean - bound > at) {
                state.fall.move_to(mean - bound, state.all);
            } else {
                state.fall.after.update(value, lambda);
            }
        }
        let at = self.seen - 1;
        if state.rise.changed(1.0, ln_drift) || state.fall.changed(-1.0, ln_drift) {
            let began = state.warned_at.unwrap_or(at);
            self.state = State::NONE;
            return Ok(Signal::Drift { began });
        }
        if state.rise.changed(1.0, ln_warning) || state.fall.changed(-1.0, ln_warning) {
            state.warned_at.get_or_insert(at);
            return Ok(Signal::Warning);
        }
        state.warned_at = None;
        Ok(Signal::Quiet)
    }
}
