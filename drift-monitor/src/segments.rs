//! Which part of the rows moved: profiles by the levels of a column, e.g. a country or a channel. Pure.

use std::collections::BTreeMap;

use drift_stats::Unusable;
use drift_stats::binning::FeatureBins;
use drift_stats::null::per_test;
use drift_stats::null_law::Comparison;
use drift_stats::profile::Profile;
use transactions::Column;

use crate::judge::Limits;
use crate::reference::{Reference, values_of};

/// Most levels, rows without one among them, that a column may have to be one of segments.
pub const LEVELS_MAX: usize = 200;
/// Segments that are told of a feature.
const TOLD_MAX: usize = 3;
/// The segment of rows without a value.
pub const MISSING: &str = "missing";

/// Profiles by level of one column.
pub type Profiles = BTreeMap<String, Profile>;

/// Why rows cannot be told apart by a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Misfit {
    /// It has more levels than may be told apart.
    TooManyLevels,
    /// The features do not fit their bins.
    Unusable(Unusable),
}

/// Which levels of a column are counted.
#[derive(Debug, Clone, Copy)]
pub enum Among<'a> {
    /// All, as long as there are no more than so many.
    AtMost(usize),
    /// Those that were counted before; rows of others are left out.
    Known(&'a Profiles),
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
    among: Among<'_>,
) -> Result<(), Misfit> {
    let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for row in 0..segment.len() {
        rows.entry(segment.level(row).unwrap_or(MISSING))
            .or_default()
            .push(row);
    }
    for (level, rows) in rows {
        if !profiles.contains_key(level) {
            match among {
                Among::AtMost(most) if profiles.len() >= most => return Err(Misfit::TooManyLevels),
                Among::Known(known) if !known.contains_key(level) => continue,
                Among::AtMost(_) | Among::Known(_) => {}
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

/// One column's segments in the reference and in the current rows.
#[derive(Debug)]
pub struct Segments {
    /// The column.
    pub column: String,
    /// Profiles by level: reference, current.
    pub profiles: [Profiles; 2],
}

/// A segment in which a feature moved.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentShift {
    /// The column that rows are told apart by.
    pub column: String,
    /// Its level.
    pub level: String,
    /// Rows of the segment: reference, current.
    pub rows: [u64; 2],
    /// Population stability index within it, 0 or more.
    pub psi: f64,
    /// What its rows, all segments and features together, and the unrest of the reference explain of it; same scale.
    pub noise: f64,
}

/// For each feature of the reference the segments in which it moved farther than in all rows together, the farthest first.
///
/// Farther: beyond what chance and the reference's own unrest explain, beyond what anybody minds, and beyond the index of all rows by
/// three standard errors of the segment's ([`standard_error`]). A feature that moved alike everywhere has none. All segments and the
/// `watched` features (among them those of the reference) share the level of evidence. Segments with fewer rows than a check needs, in
/// either part, say nothing, and so do those that the reference has not.
pub fn moved(
    segments: &[Segments],
    reference: &Reference,
    current: &Profile,
    limits: &Limits,
    watched: usize,
) -> Vec<Vec<SegmentShift>> {
    if segments.is_empty() {
        return vec![Vec::new(); reference.features.len()];
    }
    let all: usize = segments.iter().map(|segments| segments.profiles[0].len()).sum();
    let alpha = per_test(limits.evidence.data, all * watched);
    (0..reference.features.len())
        .map(|at| {
            let whole = compared(at, reference, &reference.profile, current).map_or(0.0, |found| found.psi);
            let mut found: Vec<SegmentShift> = segments
                .iter()
                .flat_map(|segments| of_feature(segments, at, reference, limits, alpha))
                .filter(|shift| shift.psi - 3.0 * standard_error(shift.psi, shift.rows) > whole)
                .collect();
            found.sort_by(|a, b| b.psi.total_cmp(&a.psi).then(a.level.cmp(&b.level)));
            found.truncate(TOLD_MAX);
            found
        })
        .collect()
}

/// About the standard error of an index of this size, by the rows that it compares: it behaves as a chi-squared with a centre, whose
/// spread beside that of chance is the root of four times the centre.
fn standard_error(psi: f64, [before, now]: [u64; 2]) -> f64 {
    2.0 * (psi * (1.0 / before as f64 + 1.0 / now as f64)).sqrt()
}

fn compared(at: usize, reference: &Reference, before: &Profile, now: &Profile) -> Option<Comparison> {
    let bins = reference.bins.get(at)?;
    let unrest = reference.between.get(at).copied().unwrap_or(0.0);
    let (before, now) = (before.histogram(at, bins).ok()?, now.histogram(at, bins).ok()?);
    Comparison::of(&before, &now, unrest).ok()
}

fn of_feature(
    segments: &Segments,
    at: usize,
    reference: &Reference,
    limits: &Limits,
    alpha: f64,
) -> Vec<SegmentShift> {
    let [before, now] = &segments.profiles;
    before
        .iter()
        .filter_map(|(level, before)| {
            let now = now.get(level)?;
            let rows = [before.rows(), now.rows()];
            if rows.iter().any(|rows| *rows < limits.rows_min) {
                return None;
            }
            let found = compared(at, reference, before, now)?;
            let noise = found.noise(alpha);
            (found.psi > noise && found.psi > limits.data_tell).then(|| SegmentShift {
                column: segments.column.clone(),
                level: level.clone(),
                rows,
                psi: found.psi,
                noise,
            })
        })
        .collect()
}
