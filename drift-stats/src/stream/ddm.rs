//! DDM, the drift detection method: an error rate that has risen by several of its own standard deviations above its best.
//!
//! With `p` the error rate since the last drift and `s = √(p(1 − p)/n)`, the smallest `p + s` is kept; a warning is
//! `p + s > p_min + 2·s_min`, a drift `p + s > p_min + 3·s_min`. Reads errors, 0 or 1 (shares in between count as what they
//! are). Says nothing before `warm_start` values, and does not see an improvement. The change began where the warning did that
//! the drift ended, or at the drift if there was none (Gama's choice for what to train on).
//!
//! Source: Gama, Medas, Castillo and Rodrigues, "Learning with drift detection", SBIA 2004.

use serde::{Deserialize, Serialize};

use super::moments::Mean;
use super::{BadSetting, Signal, StreamDetector, expect, share};
use crate::Unusable;

/// Settings of [`Ddm`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DdmSettings {
    /// Values after which it begins to judge, 1 or more.
    pub warm_start: u64,
    /// Standard deviations above the best from which it warns, more than 0.
    pub warning: f64,
    /// Standard deviations above the best from which it is a drift, at least `warning`.
    pub drift: f64,
}

impl Default for DdmSettings {
    fn default() -> Self {
        Self {
            warm_start: 30,
            warning: 2.0,
            drift: 3.0,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    errors: Mean,
    /// `p` and `s` where their sum was smallest.
    best: Option<(f64, f64)>,
    warned_at: Option<u64>,
}

/// The detector; see the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ddm {
    settings: DdmSettings,
    seen: u64,
    state: State,
}

impl Ddm {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn new(settings: DdmSettings) -> Result<Self, BadSetting> {
        let DdmSettings {
            warm_start,
            warning,
            drift,
        } = settings;
        expect(warm_start >= 1, "warm_start", warm_start as f64, "1 or more")?;
        expect(warning > 0.0, "warning", warning, "more than 0")?;
        expect(drift >= warning, "drift", drift, "at least `warning`")?;
        Ok(Self {
            settings,
            seen: 0,
            state: State::default(),
        })
    }
}

impl StreamDetector for Ddm {
    fn name(&self) -> &'static str {
        "ddm"
    }

    fn update(&mut self, value: f64) -> Result<Signal, Unusable> {
        let error = share(value)?;
        let at = self.seen;
        self.seen += 1;
        let state = &mut self.state;
        state.errors.update(error);
        let Mean { n, mean: p } = state.errors;
        if n <= self.settings.warm_start {
            return Ok(Signal::Quiet);
        }
        // Rounding may leave a rate of one a trifle above it.
        let s = (p * (1.0 - p) / n as f64).max(0.0).sqrt();
        let (p_min, s_min) = match state.best {
            Some((p_min, s_min)) if p + s > p_min + s_min => (p_min, s_min),
            _ => {
                state.best = Some((p, s));
                (p, s)
            }
        };
        if p + s > p_min + self.settings.drift * s_min {
            let began = state.warned_at.unwrap_or(at);
            self.state = State::default();
            return Ok(Signal::Drift { began });
        }
        if p + s > p_min + self.settings.warning * s_min {
            state.warned_at.get_or_insert(at);
            return Ok(Signal::Warning);
        }
        state.warned_at = None;
        Ok(Signal::Quiet)
    }
}
