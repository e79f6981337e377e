//! A half-open span of time.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};

/// The end of a window was not after its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("window end `{end}` is not after its start `{start}`")]
pub struct EmptyWindow {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// Half-open span `[start, end)`, UTC; the end is after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct Window {
    /// First instant inside.
    start: DateTime<Utc>,
    /// First instant after.
    end: DateTime<Utc>,
}

impl Window {
    /// The span from `start` (inside) to `end` (outside).
    ///
    /// # Errors
    /// [`EmptyWindow`] unless `start < end`.
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self, EmptyWindow> {
        if start < end {
            Ok(Self { start, end })
        } else {
            Err(EmptyWindow { start, end })
        }
    }

    /// The span of `length` that ends at `end`.
    ///
    /// # Errors
    /// [`EmptyWindow`] when `length` is not positive.
    pub fn ending_at(end: DateTime<Utc>, length: TimeDelta) -> Result<Self, EmptyWindow> {
        Self::new(end - length, end)
    }

    /// First instant inside.
    pub const fn start(&self) -> DateTime<Utc> {
        self.start
    }

    /// First instant after.
    pub const fn end(&self) -> DateTime<Utc> {
        self.end
    }

    /// Length, positive.
    pub fn length(&self) -> TimeDelta {
        self.end - self.start
    }

    /// Whether the instant lies inside.
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        self.start <= at && at < self.end
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "[{}, {})",
            self.start.format("%Y-%m-%dT%H:%MZ"),
            self.end.format("%Y-%m-%dT%H:%MZ")
        )
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Bounds {
            start: DateTime<Utc>,
            end: DateTime<Utc>,
        }
        let bounds = Bounds::deserialize(deserializer)?;
        Self::new(bounds.start, bounds.end).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: u32) -> DateTime<Utc> {
        chrono::NaiveDate::from_ymd_opt(2026, 1, 1)
            .unwrap()
            .and_hms_opt(hour, 0, 0)
            .unwrap()
            .and_utc()
    }

    #[test]
    fn the_end_is_outside_and_windows_are_never_empty() {
        let window = Window::new(at(1), at(2)).unwrap();
        assert!(window.contains(at(1)));
        assert!(!window.contains(at(2)));
        assert!(Window::new(at(1), at(1)).is_err());
        assert!(Window::new(at(2), at(1)).is_err());
    }

    #[test]
    fn a_reversed_window_cannot_be_read() {
        let json = r#"{"start":"2026-01-02T00:00:00Z","end":"2026-01-01T00:00:00Z"}"#;
        assert!(serde_json::from_str::<Window>(json).is_err());
    }
}
