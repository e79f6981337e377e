//! EDDM, the early drift detection method: errors that come closer to each other than they ever were.
//!
//! With `p'` the mean distance between two errors since the last drift and `s'` its standard deviation (n − 1), the largest
//! `p' + 2s'` is kept; the ratio to it below `warning` is a warning, below `drift` a drift. Reads errors, 0 or 1. Better than DDM
//! at slow changes, and noisier: without any change it raises a few drifts in thousands of values. Needs more than `warm_start`
//! errors. The change began where the warning did that the drift ended, or at the drift.
//!
//! Source: Baena-García, del Campo-Ávila, Fidalgo, Bifet, Gavaldà and Morales-Bueno, "Early drift detection method", 2006.

use serde::{Deserialize, Serialize};

use super::moments::Spread;
use super::{BadSetting, Signal, StreamDetector, expect, share};
use crate::Unusable;

/// Settings of [`Eddm`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EddmSettings {
    /// Errors after which it begins to judge, 1 or more.
    pub warm_start: u64,
    /// Ratio below which it warns, above 0 and at most 1.
    pub warning: f64,
    /// Ratio below which it is a drift, above 0 and at most `warning`.
    pub drift: f64,
}

impl Default for EddmSettings {
    fn default() -> Self {
        Self {
            warm_start: 30,
            warning: 0.95,
            drift: 0.9,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    values: u64,
    errors: u64,
    last_error: u64,
    distances: Spread,
    /// The largest `p' + 2s'`.
    best: Option<f64>,
    warned_at: Option<u64>,
}

/// The detector; see the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Eddm {
    settings: EddmSettings,
    seen: u64,
    state: State,
}

impl Eddm {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn new(settings: EddmSettings) -> Result<Self, BadSetting> {
        let EddmSettings {
            warm_start,
            warning,
            drift,
        } = settings;
        expect(warm_start >= 1, "warm_start", warm_start as f64, "1 or more")?;
        expect(
            warning > 0.0 && warning <= 1.0,
            "warning",
            warning,
            "above 0 and at most 1",
        )?;
        expect(
            drift > 0.0 && drift <= warning,
            "drift",
            drift,
            "above 0 and at most `warning`",
        )?;
        Ok(Self {
            settings,
            seen: 0,
            state: State::default(),
        })
    }
}

impl StreamDetector for Eddm {
    fn name(&self) -> &'static str {
        "eddm"
    }

    fn update(&mut self, value: f64) -> Result<Signal, Unusable> {
        let is_error = match share(value)? {
            0.0 => false,
            1.0 => true,
            _ => return Err(Unusable::OutsideRange { low: 0.0, high: 1.0 }),
        };
        let at = self.seen;
        self.seen += 1;
        let state = &mut self.state;
        state.values += 1;
        if is_error {
            state.errors += 1;
            state.distances.update((state.values - state.last_error) as f64);
            state.last_error = state.values;
            if state.values > self.settings.warm_start {
                let level = state.distances.mean.mean + 2.0 * state.distances.deviation();
                match state.best {
                    Some(best) if level <= best => {
                        if state.errors > self.settings.warm_start {
                            let ratio = level / best;
                            if ratio < self.settings.drift {
                                let began = state.warned_at.unwrap_or(at);
                                self.state = State::default();
                                return Ok(Signal::Drift { began });
                            }
                            if ratio < self.settings.warning {
                                state.warned_at.get_or_insert(at);
                            } else {
                                state.warned_at = None;
                            }
                        }
                    }
                    _ => state.best = Some(level),
                }
            }
        }
        // Between two errors nothing new is known.
        Ok(if state.warned_at.is_some() {
            Signal::Warning
        } else {
            Signal::Quiet
        })
    }
}
