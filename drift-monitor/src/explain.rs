//! What moved within a feature, from what to what, and since when: pure.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use drift_stats::binning::FeatureBins;
use drift_stats::onset::onset;
use drift_stats::profile::Profile;
use drift_stats::{Histogram, psi};

use crate::reference::Reference;
use crate::window::Counted;

/// Bins that are told as what moved.
pub const SHIFTS_MAX: usize = 3;
/// Longest name of a level that is told, characters.
const LABEL_CHARS_MAX: usize = 60;

/// A bin that moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Shift {
    /// The bin or level.
    pub label: String,
    /// Its share of the reference, 0 to 1.
    pub from: f64,
    /// Its share of the window, 0 to 1.
    pub to: f64,
    /// Its part of the index, 0 to 1.
    pub part: f64,
}

/// The bins with the largest part of the index, the largest first, at most [`SHIFTS_MAX`].
pub fn shifts(bins: &FeatureBins, reference: &Histogram, current: &Histogram) -> Vec<Shift> {
    let Ok(terms) = psi::terms(&reference.coarse_beside(current), current.coarse()) else {
        return Vec::new();
    };
    let share = |count: u64, of: u64| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    let (n, m) = (reference.values(), current.values());
    let total: f64 = terms.iter().flatten().sum();
    let counts = reference.coarse().iter().zip(current.coarse());
    let mut ranked: Vec<Shift> = bins
        .coarse_labels_with(&brief)
        .into_iter()
        .zip(terms.iter().zip(counts))
        .filter_map(|(label, (term, (before, now)))| {
            let term = term.filter(|term| *term > 0.0)?;
            Some(Shift {
                label,
                from: share(*before, n),
                to: share(*now, m),
                part: term / total,
            })
        })
        .collect();
    ranked.sort_by(|a, b| b.part.total_cmp(&a.part).then(a.label.cmp(&b.label)));
    ranked.truncate(SHIFTS_MAX);
    ranked
}

/// The counts that a check stood on.
#[derive(Debug)]
pub struct Counts {
    /// What was compared with.
    pub reference: Arc<Reference>,
    /// The window.
    pub window: Profile,
    /// The hours that are known, those of the window among them.
    pub hours: Counted<Profile>,
}

/// Why a feature drifts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explained {
    /// What moved, the largest part first.
    pub shifts: Vec<Shift>,
    /// The hour from which its values are those of the window rather than those of the reference; `None` when that was so in every
    /// hour that is known.
    pub began: Option<DateTime<Utc>>,
}

impl Counts {
    /// What moved within a feature; nothing of one that is not known.
    pub fn explain(&self, feature: &str) -> Explained {
        self.explained(feature).unwrap_or_default()
    }

    fn explained(&self, feature: &str) -> Option<Explained> {
        let at = self.reference.features.iter().position(|name| name == feature)?;
        let bins = self.reference.bins.get(at)?;
        let before = self.reference.profile.histogram(at, bins).ok()?;
        let now = self.window.histogram(at, bins).ok()?;
        let mut shifts = shifts(bins, &before, &now);
        for shift in &mut shifts {
            shift.label = shortened(&shift.label);
        }
        Some(Explained {
            shifts,
            began: self.began(at, bins, &before, &now),
        })
    }

    fn began(
        &self,
        at: usize,
        bins: &FeatureBins,
        before: &Histogram,
        now: &Histogram,
    ) -> Option<DateTime<Utc>> {
        let (hours, steps): (Vec<DateTime<Utc>>, Vec<Vec<u64>>) = self
            .hours
            .iter()
            .filter_map(|(hour, profile)| Some((*hour, profile.histogram(at, bins).ok()?.coarse().to_vec())))
            .unzip();
        let first = onset(&before.coarse_beside(now), now.coarse(), &steps).filter(|first| *first > 0)?;
        hours.get(first).copied()
    }
}

/// Names of levels come from the data and may be of any length.
pub fn shortened(label: &str) -> String {
    if label.chars().count() <= LABEL_CHARS_MAX {
        return label.to_owned();
    }
    let head: String = label.chars().take(LABEL_CHARS_MAX - 1).collect();
    format!("{head}…")
}

/// A number with four digits that count.
pub fn shown(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if (0.001..1_000.0).contains(&size) {
        let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
        format!("{value:.digits$}")
    } else if (1_000.0..1e7).contains(&size) {
        format!("{value:.0}")
    } else {
        format!("{value:.3e}")
    }
}

/// As [`shown`], without zeros at the end.
pub fn brief(value: f64) -> String {
    let text = shown(value);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use drift_stats::binning::{BinSettings, NumericBins};
    use drift_stats::profile::Values;
    use drift_stats::reference::ReferenceBuilder;

    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    fn counts(changed_from: i64) -> Counts {
        let values: Vec<f64> = (0..5_000).map(f64::from).collect();
        let bins = vec![FeatureBins::Numeric(NumericBins::fit(
            &values,
            &BinSettings::default(),
        ))];
        let count = |values: &[f64]| {
            let mut profile = Profile::empty(&bins);
            profile.add(&bins, &[Values::Numbers(values)]).unwrap();
            profile
        };
        let hour = |hour: i64| {
            let from = if hour < changed_from { 0.0 } else { 1_500.0 };
            let values: Vec<f64> = (0..100).map(|row| from + f64::from(row) * 35.0).collect();
            count(&values)
        };
        let hours: Counted<Profile> = (0..48).map(|at_hour| (at(at_hour), hour(at_hour))).collect();
        let mut window = Profile::empty(&bins);
        hours
            .range(at(24)..)
            .for_each(|(_, part)| window.merge(part).unwrap());
        Counts {
            reference: Arc::new(Reference::of_counts(
                vec!["amount".to_owned()],
                bins.clone(),
                count(&values),
            )),
            window,
            hours,
        }
    }

    #[test]
    fn what_moved_and_since_when_is_told() {
        let explained = counts(30).explain("amount");
        assert_eq!(explained.began, Some(at(30)));
        assert_eq!(explained.shifts.len(), SHIFTS_MAX);
        let parts: Vec<f64> = explained.shifts.iter().map(|shift| shift.part).collect();
        assert!(parts.is_sorted_by(|a, b| a >= b) && parts.iter().sum::<f64>() <= 1.0);
        assert!(explained.shifts.iter().all(|shift| shift.from != shift.to));
        assert_eq!(counts(-1).explain("amount").began, None, "before what is known");
        assert_eq!(counts(30).explain("hour"), Explained::default());
    }

    #[test]
    fn names_of_levels_are_told_in_bounded_length() {
        let levels = vec!["x".repeat(500), "chip".to_owned()];
        let codes: Vec<u32> = (0..1_000).map(|row| u32::from(row % 3 == 0)).collect();
        let mut builder = ReferenceBuilder::new(BinSettings::default(), 1_000);
        builder
            .add(&[Values::Levels {
                codes: &codes,
                levels: &levels,
            }])
            .unwrap();
        let bins = builder.finish();
        let mut window = Profile::empty(&bins);
        let flipped: Vec<u32> = codes.iter().map(|code| 1 - code).collect();
        window
            .add(
                &bins,
                &[Values::Levels {
                    codes: &flipped,
                    levels: &levels,
                }],
            )
            .unwrap();
        let mut profile = Profile::empty(&bins);
        profile
            .add(
                &bins,
                &[Values::Levels {
                    codes: &codes,
                    levels: &levels,
                }],
            )
            .unwrap();
        let counts = Counts {
            reference: Arc::new(Reference::of_counts(vec!["merchant".to_owned()], bins, profile)),
            window,
            hours: Counted::new(),
        };
        let explained = counts.explain("merchant");
        assert!(
            explained
                .shifts
                .iter()
                .all(|shift| shift.label.chars().count() <= LABEL_CHARS_MAX)
        );
        assert!(
            explained.shifts.iter().any(|shift| shift.label.ends_with('…')),
            "{explained:?}"
        );
    }
}
