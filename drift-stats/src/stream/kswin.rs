//! KSWIN: the newest values of a sliding window against its older ones, by the Kolmogorov–Smirnov test.
//!
//! A drift is an exact two-sided p-value of `alpha` or less together with a distance above 0.1, between the newest `recent`
//! values and the older part of the window. river tests a random sample of the older part; we test all of it, so the same stream
//! always gives the same positions, and where the window is twice `recent` both are the same test. The test is made at every
//! value: do not read `alpha` as a rate of false alarms of a whole stream. Both parts are kept in order, and since their
//! sizes are fixed, the p-value is compared through its critical distance. Reads any finite numbers. No warnings. The change is
//! said to have begun with the recent part.
//!
//! Source: Raab, Heusinger and Schleif, "Reactive soft prototype computing for concept drift streams", Neurocomputing, 2020.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{BadSetting, Signal, StreamDetector, expect, finite};
use crate::Unusable;
use crate::samples::kolmogorov_smirnov;

/// Distance that a drift must exceed besides.
const DISTANCE_MIN: f64 = 0.1;

/// Settings of [`Kswin`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KswinSettings {
    /// p-value of a drift, above 0 and below 1.
    pub alpha: f64,
    /// Values in the window, more than `recent` and at most 10,000.
    pub window: usize,
    /// Newest values that are compared with the older ones, 1 or more.
    pub recent: usize,
}

impl Default for KswinSettings {
    fn default() -> Self {
        Self {
            alpha: 0.005,
            window: 100,
            recent: 30,
        }
    }
}

/// The detector; see the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kswin {
    settings: KswinSettings,
    seen: u64,
    /// Oldest first.
    window: VecDeque<f64>,
    /// The older part in ascending order.
    older: Vec<f64>,
    /// The recent part in ascending order.
    recent: Vec<f64>,
    /// Smallest distance that is a drift, in units of 1/(older · recent); none when no distance is.
    critical: Option<u64>,
}

impl Kswin {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn new(settings: KswinSettings) -> Result<Self, BadSetting> {
        let KswinSettings {
            alpha,
            window,
            recent,
        } = settings;
        expect(alpha > 0.0 && alpha < 1.0, "alpha", alpha, "above 0 and below 1")?;
        expect(recent >= 1, "recent", recent as f64, "1 or more")?;
        expect(
            window > recent && window <= 10_000,
            "window",
            window as f64,
            "more than `recent` and at most 10000",
        )?;
        Ok(Self {
            settings,
            seen: 0,
            window: VecDeque::with_capacity(window),
            older: Vec::with_capacity(window - recent),
            recent: Vec::with_capacity(recent),
            critical: critical(window - recent, recent, alpha),
        })
    }
}

/// The smallest distance whose p-value is `alpha` or less and that exceeds [`DISTANCE_MIN`], in units of 1/(n·m).
fn critical(n: usize, m: usize, alpha: f64) -> Option<u64> {
    let whole = (n * m) as u64;
    let is_drift = |distance: u64| {
        distance as f64 / whole as f64 > DISTANCE_MIN
            && kolmogorov_smirnov::exact_tail(n, m, distance) <= alpha
    };
    if !is_drift(whole) {
        return None;
    }
    // p falls as the distance grows.
    let (mut quiet, mut drift) = (0, whole);
    while drift - quiet > 1 {
        let middle = quiet + (drift - quiet) / 2;
        if is_drift(middle) {
            drift = middle;
        } else {
            quiet = middle;
        }
    }
    Some(drift)
}

fn insert(sorted: &mut Vec<f64>, value: f64) {
    let at = sorted.partition_point(|known| *known < value);
    sorted.insert(at, value);
}

fn remove(sorted: &mut Vec<f64>, value: f64) {
    let at = sorted.partition_point(|known| *known < value);
    if at < sorted.len() {
        sorted.remove(at);
    }
}

impl StreamDetector for Kswin {
    fn name(&self) -> &'static str {
        "kswin"
    }

    fn update(&mut self, value: f64) -> Result<Signal, Unusable> {
        let value = finite(value)?;
        self.seen += 1;
        let KswinSettings { window, recent, .. } = self.settings;
        if self.window.len() == window
            && let Some(oldest) = self.window.pop_front()
        {
            remove(&mut self.older, oldest);
        }
        self.window.push_back(value);
        insert(&mut self.recent, value);
        if self.recent.len() > recent {
            let leaves = self.window[self.window.len() - 1 - recent];
            remove(&mut self.recent, leaves);
            insert(&mut self.older, leaves);
        }
        if self.window.len() < window {
            return Ok(Signal::Quiet);
        }
        let distance = kolmogorov_smirnov::lattice_distance(&self.older, &self.recent);
        if self.critical.is_none_or(|critical| distance < critical) {
            return Ok(Signal::Quiet);
        }
        self.window.clear();
        self.older.clear();
        self.recent.clear();
        Ok(Signal::Drift {
            began: self.seen - recent as u64,
        })
    }
}
