//! The features of a window reduced to counts, so that windows can be stored, added and compared without their rows.
//!
//! Scores and labels are in [`Outcome`](crate::outcome::Outcome), because their lives differ: the features of a past hour never change,
//! while its labels go on arriving. Both merge by addition: the profile of a day is the sum of its hours, in any order.

use serde::{Deserialize, Serialize};

use crate::binning::{BinsDigest, FeatureBins, MISSING_BIN, UNSEEN_BIN};
use crate::{Histogram, Unusable};

/// Values of one feature of a batch of rows.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Numbers; NaN is missing.
    Numbers(&'a [f64]),
    /// Positions in a list of levels; a position outside the list is missing.
    Levels {
        /// One position per row.
        codes: &'a [u32],
        /// The distinct levels of the batch.
        levels: &'a [String],
    },
}

impl Values<'_> {
    /// Rows in the batch.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Levels { codes, .. } => codes.len(),
        }
    }

    /// Some of the rows; a range that ends behind the last row ends there.
    #[must_use]
    pub fn part(&self, rows: std::ops::Range<usize>) -> Self {
        let until = rows.end.min(self.len());
        let rows = rows.start.min(until)..until;
        match *self {
            Self::Numbers(numbers) => Self::Numbers(&numbers[rows]),
            Self::Levels { codes, levels } => Self::Levels {
                codes: &codes[rows],
                levels,
            },
        }
    }

    /// Whether the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The features of a window as counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    rows: u64,
    features: Vec<FeatureProfile>,
}

/// One feature of a window as counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureProfile {
    bins: BinsDigest,
    /// Counts in fine bins.
    counts: Vec<u64>,
    /// Of the finite numbers; none for categorical features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moments: Option<Moments>,
}

/// Sums over the finite numbers of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// How many finite numbers.
    pub values: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_of_squares: f64,
    /// The smallest; 0 when there is none.
    pub min: f64,
    /// The largest; 0 when there is none.
    pub max: f64,
}

impl Moments {
    const NONE: Self = Self {
        values: 0,
        sum: 0.0,
        sum_of_squares: 0.0,
        min: 0.0,
        max: 0.0,
    };

    fn of(numbers: &[f64]) -> Self {
        let mut found = Self {
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            ..Self::NONE
        };
        for number in numbers.iter().copied().filter(|number| number.is_finite()) {
            found.values += 1;
            found.sum += number;
            found.sum_of_squares += number * number;
            // Not `f64::min`: a finite number needs no care for NaN, and this is one instruction.
            found.min = if number < found.min { number } else { found.min };
            found.max = if number > found.max { number } else { found.max };
        }
        if found.values == 0 {
            Self::NONE
        } else {
            found.bounded()
        }
    }

    /// Sums of enormous numbers stop at the largest finite number rather than becoming infinite.
    fn bounded(self) -> Self {
        let bound = |value: f64| value.clamp(f64::MIN, f64::MAX);
        Self {
            sum: bound(self.sum),
            sum_of_squares: bound(self.sum_of_squares),
            ..self
        }
    }

    fn merge(&mut self, other: &Self) {
        *self = match (self.values, other.values) {
            (_, 0) => *self,
            (0, _) => *other,
            _ => Self {
                values: self.values + other.values,
                sum: self.sum + other.sum,
                sum_of_squares: self.sum_of_squares + other.sum_of_squares,
                min: self.min.min(other.min),
                max: self.max.max(other.max),
            }
            .bounded(),
        };
    }

    /// Mean of the finite numbers.
    pub fn mean(&self) -> Option<f64> {
        (self.values > 0).then(|| self.sum / self.values as f64)
    }

    /// Population standard deviation of the finite numbers, 0 or more.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean()?;
        Some(
            (self.sum_of_squares / self.values as f64 - mean * mean)
                .max(0.0)
                .sqrt(),
        )
    }
}

impl FeatureProfile {
    fn empty(bins: &FeatureBins) -> Self {
        let moments = matches!(bins, FeatureBins::Numeric(_)).then_some(Moments::NONE);
        Self {
            bins: bins.digest(),
            counts: vec![0; bins.fine_len()],
            moments,
        }
    }

    /// Counts values; a feature whose kind is not that of its bins cannot be counted.
    fn add(&mut self, bins: &FeatureBins, values: &Values<'_>) -> Result<(), Unusable> {
        match (bins, values) {
            (FeatureBins::Numeric(bins), Values::Numbers(numbers)) => {
                bins.count(numbers, &mut self.counts);
                let moments = Moments::of(numbers);
                self.moments.get_or_insert(Moments::NONE).merge(&moments);
                Ok(())
            }
            (FeatureBins::Category(bins), Values::Levels { codes, levels }) => {
                let bin_of_code: Vec<usize> = levels.iter().map(|level| bins.bin_of(level)).collect();
                for code in *codes {
                    self.counts[bin_of_code.get(*code as usize).copied().unwrap_or(MISSING_BIN)] += 1;
                }
                Ok(())
            }
            _ => Err(Unusable::BinsDiffer),
        }
    }

    /// Counts in fine bins.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Missing values.
    pub fn missing(&self) -> u64 {
        self.counts.get(MISSING_BIN).copied().unwrap_or(0)
    }

    /// Values of levels that the reference never had; `None` for numbers.
    pub fn unseen(&self) -> Option<u64> {
        if self.moments.is_some() {
            None
        } else {
            self.counts.get(UNSEEN_BIN).copied()
        }
    }

    /// Sums over the finite numbers; `None` for categorical features.
    pub fn moments(&self) -> Option<&Moments> {
        self.moments.as_ref()
    }
}

impl Profile {
    /// The profile of no rows.
    pub fn empty(features: &[FeatureBins]) -> Self {
        Self {
            rows: 0,
            features: features.iter().map(FeatureProfile::empty).collect(),
        }
    }

    /// Counts a batch: one entry of `values` per feature, in the order of `features`.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when the features are not those of the bins; the profile is then unchanged.
    pub fn add(&mut self, features: &[FeatureBins], values: &[Values<'_>]) -> Result<(), Unusable> {
        let rows = values.first().map_or(0, Values::len);
        let fits = features.len() == self.features.len()
            && values.len() == features.len()
            && values.iter().all(|column| column.len() == rows)
            && features.iter().zip(values).all(|(bins, column)| {
                matches!(bins, FeatureBins::Numeric(_)) == matches!(column, Values::Numbers(_))
            });
        if !fits {
            return Err(Unusable::BinsDiffer);
        }
        for ((profile, bins), column) in self.features.iter_mut().zip(features).zip(values) {
            profile.add(bins, column)?;
        }
        self.rows += rows as u64;
        Ok(())
    }

    /// Adds rows of one feature that were counted elsewhere: `rows` of them in the fine bin `bin`, with these sums (which categorical
    /// features do not have). Rows of the profile are those of its first feature; where rows arrive while the others are counted, these may have
    /// some more.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when there is no such feature or bin; the profile is then unchanged.
    pub fn add_counted(
        &mut self,
        feature: usize,
        bin: usize,
        rows: u64,
        moments: &Moments,
    ) -> Result<(), Unusable> {
        let profile = self.features.get_mut(feature).ok_or(Unusable::BinsDiffer)?;
        *profile.counts.get_mut(bin).ok_or(Unusable::BinsDiffer)? += rows;
        if let Some(known) = &mut profile.moments {
            known.merge(&moments.bounded());
        }
        if feature == 0 {
            self.rows += rows;
        }
        Ok(())
    }

    /// Adds the counts of other rows.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when the other was counted in other bins; the profile is then unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<(), Unusable> {
        let alike =
            self.features.len() == other.features.len()
                && self.features.iter().zip(&other.features).all(|(mine, theirs)| {
                    mine.bins == theirs.bins && mine.counts.len() == theirs.counts.len()
                });
        if !alike {
            return Err(Unusable::BinsDiffer);
        }
        self.rows += other.rows;
        for (mine, theirs) in self.features.iter_mut().zip(&other.features) {
            for (count, more) in mine.counts.iter_mut().zip(&theirs.counts) {
                *count += more;
            }
            if let (Some(moments), Some(more)) = (&mut mine.moments, &theirs.moments) {
                moments.merge(more);
            }
        }
        Ok(())
    }

    /// The same of some of its features, by their positions; positions that it has not are left out.
    #[must_use]
    pub fn of_features(&self, positions: &[usize]) -> Self {
        let features = positions.iter().filter_map(|at| self.features.get(*at).cloned());
        Self {
            rows: self.rows,
            features: features.collect(),
        }
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The features, in the order of their bins.
    pub fn features(&self) -> &[FeatureProfile] {
        &self.features
    }

    /// What detectors compare: the counts of feature number `at`.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when there is no such feature or it was counted in other bins.
    pub fn histogram(&self, at: usize, bins: &FeatureBins) -> Result<Histogram, Unusable> {
        let feature = self.features.get(at).ok_or(Unusable::BinsDiffer)?;
        if feature.bins != bins.digest() {
            return Err(Unusable::BinsDiffer);
        }
        Histogram::new(bins, feature.counts.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::binning::{BinSettings, CategoryBins, NumericBins};

    fn bins() -> Vec<FeatureBins> {
        let numbers: Vec<f64> = (0..1000).map(f64::from).collect();
        let levels = BTreeMap::from([("chip".to_owned(), 60), ("online".to_owned(), 40)]);
        vec![
            FeatureBins::Numeric(NumericBins::fit(&numbers, &BinSettings::default())),
            FeatureBins::Category(CategoryBins::fit(&levels, &BinSettings::default())),
        ]
    }

    #[test]
    fn missing_and_unseen_values_are_counted_apart() {
        let bins = bins();
        let mut profile = Profile::empty(&bins);
        let levels = ["chip".to_owned(), "mail".to_owned()];
        profile
            .add(
                &bins,
                &[
                    Values::Numbers(&[1.0, f64::NAN, 5.0]),
                    Values::Levels {
                        codes: &[0, 1, u32::MAX],
                        levels: &levels,
                    },
                ],
            )
            .unwrap();
        let [numbers, texts] = profile.features() else {
            panic!("two features")
        };
        assert_eq!((numbers.missing(), numbers.unseen()), (1, None));
        assert_eq!((texts.missing(), texts.unseen()), (1, Some(1)));
        let moments = numbers.moments().unwrap();
        assert_eq!(
            (moments.values, moments.sum, moments.sum_of_squares),
            (2, 6.0, 26.0)
        );
        assert_eq!((moments.min, moments.max, moments.mean()), (1.0, 5.0, Some(3.0)));
        assert_eq!(moments.deviation(), Some(2.0));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let bins = bins();
        let mut profile = Profile::empty(&bins);
        let before = profile.clone();
        assert_eq!(
            profile.add(&bins, &[Values::Numbers(&[1.0])]),
            Err(Unusable::BinsDiffer)
        );
        assert_eq!(
            profile.add(&bins, &[Values::Numbers(&[1.0]), Values::Numbers(&[1.0])]),
            Err(Unusable::BinsDiffer)
        );
        let ragged = [
            Values::Numbers(&[1.0]),
            Values::Levels {
                codes: &[],
                levels: &[],
            },
        ];
        assert_eq!(profile.add(&bins, &ragged), Err(Unusable::BinsDiffer));
        let other = vec![bins[1].clone(), bins[0].clone()];
        assert_eq!(profile.merge(&Profile::empty(&other)), Err(Unusable::BinsDiffer));
        assert!(profile.histogram(0, &bins[1]).is_err());
        assert!(profile.histogram(2, &bins[0]).is_err());
        assert_eq!(profile, before);
    }

    #[test]
    fn infinite_values_are_counted_but_not_summed() {
        let bins = &bins()[..1];
        let mut profile = Profile::empty(bins);
        profile
            .add(bins, &[Values::Numbers(&[f64::INFINITY, f64::NEG_INFINITY, 2.0])])
            .unwrap();
        let moments = profile.features()[0].moments().unwrap();
        assert_eq!((moments.values, moments.sum), (1, 2.0));
        profile
            .add(bins, &[Values::Numbers(&[f64::MAX, f64::MAX])])
            .unwrap();
        let text = serde_json::to_string(&profile).unwrap();
        assert_eq!(
            serde_json::from_str::<Profile>(&text).unwrap(),
            profile,
            "no number that JSON cannot hold"
        );
    }
}
