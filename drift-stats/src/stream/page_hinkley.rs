//! The Page–Hinkley test: the cumulated deviation from the running mean, against its extreme so far.
//!
//! Upwards `U ← α·U + (x − x̄) − δ`, a drift when `U` lies more than `threshold` above its smallest value; downwards
//! `D ← α·D + (x − x̄) + δ`, a drift when `D` lies more than `threshold` below its largest. Reads any finite numbers, and its
//! `delta` and `threshold` have their unit: choose them for the stream. No warnings. The change began after the extreme, the
//! maximum-likelihood estimate of a cumulated sum.
//!
//! As in river the largest value of `D` begins at −1. Source: Page, "Continuous inspection schemes", Biometrika 41, 1954;
//! Hinkley 1971; with the forgetting factor of Sebastião and Fernandes 2017.

use serde::{Deserialize, Serialize};

use super::moments::Mean;
use super::{BadSetting, Signal, StreamDetector, expect, finite};
use crate::Unusable;

/// Which changes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sides {
    /// Increases of the mean.
    Up,
    /// Decreases of the mean.
    Down,
    /// Both.
    Both,
}

/// Settings of [`PageHinkley`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PageHinkleySettings {
    /// Values after which it begins to judge, 1 or more.
    pub min_instances: u64,
    /// Deviation that is tolerated at each value, 0 or more; unit of the values.
    pub delta: f64,
    /// Cumulated deviation that is a drift, above 0; unit of the values.
    pub threshold: f64,
    /// Weight of what was cumulated before, above 0 and at most 1.
    pub alpha: f64,
    /// Which changes count.
    pub sides: Sides,
}

impl Default for PageHinkleySettings {
    fn default() -> Self {
        Self {
            min_instances: 30,
            delta: 0.005,
            threshold: 50.0,
            alpha: 1.0 - 0.0001,
            sides: Sides::Both,
        }
    }
}

/// A cumulated sum, its extreme, and the position after that.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Sum {
    value: f64,
    extreme: Option<f64>,
    after: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct State {
    mean: Mean,
    up: Sum,
    down: Sum,
}

impl State {
    fn beginning_at(position: u64) -> Self {
        let sum = |extreme| Sum {
            value: 0.0,
            extreme,
            after: position,
        };
        Self {
            mean: Mean { n: 0, mean: 0.0 },
            up: sum(None),
            down: sum(Some(-1.0)),
        }
    }
}

/// The detector; see the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    settings: PageHinkleySettings,
    seen: u64,
    state: State,
}

impl PageHinkley {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn new(settings: PageHinkleySettings) -> Result<Self, BadSetting> {
        let PageHinkleySettings {
            min_instances,
            delta,
            threshold,
            alpha,
            ..
        } = settings;
        expect(
            min_instances >= 1,
            "min_instances",
            min_instances as f64,
            "1 or more",
        )?;
        expect(
            delta >= 0.0 && delta.is_finite(),
            "delta",
            delta,
            "a number, 0 or more",
        )?;
        expect(
            threshold > 0.0 && threshold.is_finite(),
            "threshold",
            threshold,
            "a number above 0",
        )?;
        expect(
            alpha > 0.0 && alpha <= 1.0,
            "alpha",
            alpha,
            "above 0 and at most 1",
        )?;
        Ok(Self {
            settings,
            seen: 0,
            state: State::beginning_at(0),
        })
    }
}

impl StreamDetector for PageHinkley {
    fn name(&self) -> &'static str {
        "page_hinkley"
    }

    fn update(&mut self, value: f64) -> Result<Signal, Unusable> {
        let value = finite(value)?;
        self.seen += 1;
        let PageHinkleySettings {
            min_instances,
            delta,
            threshold,
            alpha,
            sides,
        } = self.settings;
        let State { mean, up, down } = &mut self.state;
        mean.update(value);
        let deviation = value - mean.mean;
        up.value = alpha * up.value + deviation - delta;
        down.value = alpha * down.value + deviation + delta;
        if up.extreme.is_none_or(|least| up.value < least) {
            (up.extreme, up.after) = (Some(up.value), self.seen);
        }
        if down.extreme.is_none_or(|most| down.value > most) {
            (down.extreme, down.after) = (Some(down.value), self.seen);
        }
        if mean.n < min_instances {
            return Ok(Signal::Quiet);
        }
        let risen = up.extreme.is_some_and(|least| up.value - least > threshold);
        let fallen = down.extreme.is_some_and(|most| most - down.value > threshold);
        let began = match sides {
            Sides::Up | Sides::Both if risen => up.after,
            Sides::Down | Sides::Both if fallen => down.after,
            _ => return Ok(Signal::Quiet),
        };
        self.state = State::beginning_at(self.seen);
        Ok(Signal::Drift {
            began: began.min(self.seen - 1),
        })
    }
}
