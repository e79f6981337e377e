//! Data that changed in form: no drift of the world, and nothing that training mends.

use drift_stats::profile::{FeatureProfile, Moments, Profile};

/// Share of missing values up to which a column counts as filled.
const FILLED_MAX: f64 = 0.5;
/// Share of missing values from which a column counts as empty.
const EMPTY_MIN: f64 = 0.99;
/// Factors between units that people mix up: powers of ten, minutes, hours and days.
const FACTORS: [f64; 9] = [10.0, 60.0, 100.0, 1_000.0, 1_440.0, 3_600.0, 86_400.0, 1e6, 1e9];
/// How far the ratio of means may be from a factor: so many of its own standard errors, within these bounds.
const MEAN_ERRORS: f64 = 4.0;
const MEAN_TOLERANCE: (f64, f64) = (0.03, 0.15);
/// How far the ratio of deviations may be, which vary more.
const SPREAD_TOLERANCE: f64 = 0.15;

/// A feature that broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its name.
    pub feature: String,
    /// `all_missing` or `unit_changed`.
    pub kind: &'static str,
    /// What was found.
    pub detail: String,
}

/// What broke, of features in the order of both profiles. Fewer rows than a check needs, on either side, say nothing of values.
pub fn find(features: &[String], reference: &Profile, current: &Profile, rows_min: u64) -> Vec<Broken> {
    let rows = [reference.rows(), current.rows()];
    if rows.iter().any(|rows| *rows < rows_min) {
        return Vec::new();
    }
    let pairs = reference.features().iter().zip(current.features());
    features
        .iter()
        .zip(pairs)
        .filter_map(|(name, (before, now))| {
            let (kind, detail) =
                emptied(before, now, rows).or_else(|| rescaled(before.moments()?, now.moments()?))?;
            Some(Broken {
                feature: name.clone(),
                kind,
                detail,
            })
        })
        .collect()
}

fn emptied(before: &FeatureProfile, now: &FeatureProfile, rows: [u64; 2]) -> Option<(&'static str, String)> {
    let share = |missing: u64, rows: u64| (rows > 0).then(|| missing as f64 / rows as f64);
    let (was, is) = (share(before.missing(), rows[0])?, share(now.missing(), rows[1])?);
    (was <= FILLED_MAX && is >= EMPTY_MIN).then(|| {
        let detail = format!(
            "{:.1} % of its values were missing, {:.1} % are",
            was * 100.0,
            is * 100.0
        );
        ("all_missing", detail)
    })
}

/// Mean and spread have both grown by the same factor, which lies between two units.
fn rescaled(before: &Moments, now: &Moments) -> Option<(&'static str, String)> {
    let ratio = |was: Option<f64>, is: Option<f64>| {
        let ratio = is? / was?;
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    };
    let mean = ratio(before.mean(), now.mean())?;
    let spread = ratio(before.deviation(), now.deviation())?;
    let variation = before.deviation()? / before.mean()?.abs();
    let error = variation * (1.0 / before.values as f64 + 1.0 / now.values as f64).sqrt();
    let tolerance = (MEAN_ERRORS * error).clamp(MEAN_TOLERANCE.0, MEAN_TOLERANCE.1);
    let near = |factor: f64| {
        (mean / factor - 1.0).abs() <= tolerance && (spread / factor - 1.0).abs() <= SPREAD_TOLERANCE
    };
    FACTORS.iter().find_map(|factor| {
        let detail = if near(*factor) {
            format!("all values are {factor} times what they were")
        } else if near(1.0 / factor) {
            format!("all values are a {factor}th of what they were")
        } else {
            return None;
        };
        Some(("unit_changed", detail))
    })
}
