//! Which part of the rows moved: profiles by the levels of a column, e.g. a country or a channel.

use std::collections::BTreeMap;

use drift_monitor::judge::Limits;
use drift_monitor::reference::{Reference, values_of};
use drift_stats::Unusable;
use drift_stats::binning::FeatureBins;
use drift_stats::null::per_test;
use drift_stats::null_law::Comparison;
use drift_stats::profile::Profile;
use transactions::Column;

use super::document::SegmentMove;

/// Most levels that a column may have to be one of segments.
pub const LEVELS_MAX: usize = 200;
/// Segments that are told of a feature.
const TOLD_MAX: usize = 3;
/// The segment of rows without a value.
const MISSING: &str = "missing";

/// Profiles by level of one column.
pub type Profiles = BTreeMap<String, Profile>;

/// Why rows cannot be told apart by a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Misfit {
    /// It has more than [`LEVELS_MAX`] levels.
    TooManyLevels,
    /// The features do not fit their bins.
    Unusable(Unusable),
}

/// Counts the rows of a batch by the level of `segment`.
///
/// # Errors
/// [`Misfit`]; what was counted before stays.
pub fn add(
    profiles: &mut Profiles,
    bins: &[FeatureBins],
    features: &[Column],
    segment: &Column,
) -> Result<(), Misfit> {
    let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for row in 0..segment.len() {
        rows.entry(segment.level(row).unwrap_or(MISSING))
            .or_default()
            .push(row);
    }
    for (level, rows) in rows {
        if !profiles.contains_key(level) {
            if profiles.len() == LEVELS_MAX {
                return Err(Misfit::TooManyLevels);
            }
            profiles.insert(level.to_owned(), Profile::empty(bins));
        }
        let part: Vec<Column> = features.iter().map(|column| column.of_rows(&rows)).collect();
        if let Some(profile) = profiles.get_mut(level) {
            profile.add(bins, &values_of(&part)).map_err(Misfit::Unusable)?;
        }
    }
    Ok(())
}

/// One column's segments in both files.
#[derive(Debug)]
pub struct Segments {
    /// The column.
    pub column: String,
    /// Profiles by level: reference, current.
    pub profiles: [Profiles; 2],
}

/// The segments in which each feature moved farther than chance and the reference's own unrest explain, and than anybody minds, the farthest first.
///
/// All segments and features share the level of evidence. Segments with fewer rows than a check needs, in either file, say nothing.
pub fn moved(segments: &[Segments], reference: &Reference, limits: &Limits) -> Vec<Vec<SegmentMove>> {
    let all: usize = segments.iter().map(|segments| segments.profiles[0].len()).sum();
    let alpha = per_test(limits.evidence.data, all * reference.features.len());
    (0..reference.features.len())
        .map(|at| {
            let mut found: Vec<SegmentMove> = segments
                .iter()
                .flat_map(|segments| of_feature(segments, at, reference, limits, alpha))
                .collect();
            found.sort_by(|a, b| b.psi.total_cmp(&a.psi).then(a.level.cmp(&b.level)));
            found.truncate(TOLD_MAX);
            found
        })
        .collect()
}

fn of_feature(
    segments: &Segments,
    at: usize,
    reference: &Reference,
    limits: &Limits,
    alpha: f64,
) -> Vec<SegmentMove> {
    let bins = &reference.bins[at];
    let unrest = reference.between.get(at).copied().unwrap_or(0.0);
    let [before, now] = &segments.profiles;
    before
        .iter()
        .filter_map(|(level, before)| {
            let now = now.get(level)?;
            let rows = [before.rows(), now.rows()];
            if rows.iter().any(|rows| *rows < limits.rows_min) {
                return None;
            }
            let (before, now) = (before.histogram(at, bins).ok()?, now.histogram(at, bins).ok()?);
            let found = Comparison::of(&before, &now, unrest).ok()?;
            let noise = found.noise(alpha);
            (found.psi > noise && found.psi > limits.data_tell).then(|| SegmentMove {
                column: segments.column.clone(),
                level: level.clone(),
                rows,
                psi: found.psi,
                noise,
            })
        })
        .collect()
}
