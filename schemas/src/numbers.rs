//! Numbers that an event may carry: never NaN, never infinite.

use serde::{Deserialize, Deserializer, Serialize};

/// A number was NaN, infinite or outside the range of its type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{value}` is not {expected}")]
pub struct NotInRange {
    value: String,
    expected: &'static str,
}

impl NotInRange {
    fn new(value: f64, expected: &'static str) -> Self {
        Self {
            value: value.to_string(),
            expected,
        }
    }
}

/// Any finite 64-bit number; NaN and infinities cannot be constructed or decoded.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct Finite(f64);

impl Finite {
    /// Zero.
    pub const ZERO: Self = Self(0.0);

    /// Wraps a finite number.
    ///
    /// # Errors
    /// [`NotInRange`] for NaN and infinities.
    pub fn new(value: f64) -> Result<Self, NotInRange> {
        if value.is_finite() {
            Ok(Self(value))
        } else {
            Err(NotInRange::new(value, "a finite number"))
        }
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Finite {
    type Error = NotInRange;
    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

impl From<u32> for Finite {
    fn from(value: u32) -> Self {
        Self(f64::from(value))
    }
}

impl std::fmt::Display for Finite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Finite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A share, rate or probability: dimensionless, 0 to 1 inclusive.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct Share(#[cfg_attr(feature = "generate", schemars(range(min = 0.0, max = 1.0)))] f64);

impl Share {
    /// Wraps a share.
    ///
    /// # Errors
    /// [`NotInRange`] outside 0 to 1, and for NaN.
    pub fn new(value: f64) -> Result<Self, NotInRange> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(NotInRange::new(value, "a share between 0 and 1"))
        }
    }

    /// `part / whole`, or `None` when the whole is zero or smaller than the part.
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        (whole > 0 && part <= whole).then(|| Self(part as f64 / whole as f64))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Share {
    type Error = NotInRange;
    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_infinities_cannot_be_built() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Finite::new(value).is_err());
            assert!(Share::new(value).is_err());
        }
        assert!(Share::new(1.000_001).is_err());
        assert!(Share::new(-0.000_001).is_err());
        assert_eq!(Share::new(1.0).map(Share::get), Ok(1.0));
    }

    #[test]
    fn nan_and_infinities_cannot_be_read() {
        for text in ["NaN", "Infinity", "-Infinity", "null", "\"NaN\"", "1e999"] {
            assert!(serde_json::from_str::<Finite>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Share>("1.5").is_err());
        assert_eq!(serde_json::from_str::<Finite>("1.5").unwrap().get(), 1.5);
    }
}
