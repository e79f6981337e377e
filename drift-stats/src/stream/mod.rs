//! Detectors that read a stream one value at a time, in constant memory, and say when it changed.
//!
//! Each is one file. They are deterministic – none draws a random number – and their whole state can be saved and restored
//! exactly (`serde`): a detector that was saved and restored goes on as if nothing had happened.
//!
//! Positions count the values that a detector was given since it was made, from 0, and go on over drifts. After a drift a detector
//! begins anew with the next value, as its authors and river do. Where a change *began* is an estimate; each file says which.
//!
//! Conventions, defaults and the last bit of the arithmetic are river's (0.26.1), so that the same stream gives the same positions.

mod adwin;
mod ddm;
mod eddm;
mod hddm_a;
mod hddm_w;
mod kswin;
mod moments;
mod page_hinkley;

use serde::{Deserialize, Serialize};

pub use adwin::{Adwin, AdwinSettings};
pub use ddm::{Ddm, DdmSettings};
pub use eddm::{Eddm, EddmSettings};
pub use hddm_a::{HddmA, HddmASettings};
pub use hddm_w::{HddmW, HddmWSettings};
pub use kswin::{Kswin, KswinSettings};
pub use page_hinkley::{PageHinkley, PageHinkleySettings, Sides};

use crate::Unusable;

/// What a detector says after a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Nothing to say.
    Quiet,
    /// It may be about to change.
    Warning,
    /// It changed.
    Drift {
        /// Estimated position of the first value after the change; at most that of the value just given.
        began: u64,
    },
}

/// A detector on a stream.
pub trait StreamDetector {
    /// Name used in events, metrics and settings, e.g. `adwin`. Never changes.
    fn name(&self) -> &'static str;

    /// Takes the next value.
    ///
    /// # Errors
    /// [`Unusable`] for a value that is no number or outside of what the detector reads; then its state has not changed.
    fn update(&mut self, value: f64) -> Result<Signal, Unusable>;
}

/// A setting that a detector cannot work with.
#[derive(Debug, Clone, PartialEq)]
pub struct BadSetting {
    /// Its name.
    pub name: &'static str,
    /// What it was.
    pub value: f64,
    /// What it may be, in words.
    pub allowed: &'static str,
}

impl std::fmt::Display for BadSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is {}, expected {}", self.name, self.value, self.allowed)
    }
}

impl std::error::Error for BadSetting {}

/// Fails unless a setting is as it may be.
fn expect(holds: bool, name: &'static str, value: f64, allowed: &'static str) -> Result<(), BadSetting> {
    if holds {
        Ok(())
    } else {
        Err(BadSetting { name, value, allowed })
    }
}

/// Any finite number.
fn finite(value: f64) -> Result<f64, Unusable> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(Unusable::NotFinite)
    }
}

/// A share, 0 to 1; for streams of errors 0 is right and 1 is wrong.
fn share(value: f64) -> Result<f64, Unusable> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(Unusable::OutsideRange { low: 0.0, high: 1.0 })
    }
}
