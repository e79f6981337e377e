//! Reads rows by segment: once for a reference, and again for the window of a check that found features that moved.

use chrono::{DateTime, Utc};
use drift_stats::profile::Profile;
use schemas::Window;
use transactions::{Batch, FeatureChoice, InPlace, Request, SourceError, TransactionSource};

use crate::in_place;
use crate::reference::{Reference, corrupt};
use crate::segments::{Among, LEVELS_MAX, MISSING, Misfit, Profiles, add};

/// Profiles of one feature each that are kept of a reference, about: a few MiB.
const KEPT_MAX: usize = 10_000;
/// Levels of a column that are told apart however many features there are.
const LEVELS_MIN: usize = 10;

/// How many levels, rows without one among them, each of so many columns may have where so many features are counted by each.
fn levels_max(features: usize, columns: usize) -> usize {
    (KEPT_MAX / (features * columns).max(1)).clamp(LEVELS_MIN, LEVELS_MAX)
}

/// Rows of some spans.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Where they are.
    pub source: &'a TransactionSource,
    /// The spans.
    pub windows: &'a [Window],
    /// The instant of the question.
    pub as_of: DateTime<Utc>,
}

/// What is known of a column, or why its rows cannot be told apart.
type Counted = Result<Profiles, Misfit>;

impl Rows<'_> {
    /// Counts the features of `reference` by the levels of each column of segments, in the order of the settings. Without `known` every
    /// level is counted, and none of a column that has too many; with it, the levels that it has for each column.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn by_segment(
        &self,
        reference: &Reference,
        known: Option<&[Profiles]>,
    ) -> Result<Vec<Profiles>, SourceError> {
        let columns = &self.source.definition().segments;
        let most = levels_max(reference.features.len(), columns.len());
        let among_of = |at: usize| match known.and_then(|known| known.get(at)) {
            Some(known) => Among::Known(known),
            None => Among::AtMost(most),
        };
        let among: Vec<Among<'_>> = (0..columns.len()).map(among_of).collect();
        let mut counted: Vec<Counted> = vec![Ok(Profiles::new()); columns.len()];
        for window in self.windows {
            let request = Request {
                features: FeatureChoice::WithSegments(reference.features.clone()),
                ..Request::monitored(*window, self.as_of)
            };
            match self.source.in_place() {
                Some(asked) => {
                    self.ask(asked, reference, &request, &among, &mut counted).await?;
                }
                None => self.scan(reference, &request, &among, &mut counted).await?,
            }
        }
        let named = columns.iter().zip(counted);
        named
            .map(|(column, counted)| self.usable(column, counted, most))
            .collect()
    }

    async fn scan(
        &self,
        reference: &Reference,
        request: &Request,
        among: &[Among<'_>],
        counted: &mut [Counted],
    ) -> Result<(), SourceError> {
        let each = |batch: &Batch| {
            let (features, segments) = batch.features.split_at(reference.features.len());
            for ((counted, among), segment) in counted.iter_mut().zip(among).zip(segments) {
                if let Ok(profiles) = counted
                    && let Err(misfit) = add(profiles, &reference.bins, features, segment, *among)
                {
                    *counted = Err(misfit);
                }
            }
        };
        self.source.scan(request, each).await.map(|_| ())
    }

    /// As [`Self::scan`], where the source counts.
    async fn ask(
        &self,
        asked: InPlace<'_>,
        reference: &Reference,
        request: &Request,
        among: &[Among<'_>],
        counted: &mut [Counted],
    ) -> Result<(), SourceError> {
        let most = among.iter().find_map(|among| match among {
            Among::AtMost(most) => Some(*most),
            Among::Known(_) => None,
        });
        let mut found = match most {
            Some(most) => in_place::levels_of_segments(asked, request, counted.len(), most + 1).await?,
            None => vec![Vec::new(); counted.len()],
        };
        for (at, (counted, among)) in counted.iter_mut().zip(among).enumerate() {
            let Ok(profiles) = counted else { continue };
            let levels: Vec<String> = match among {
                Among::Known(known) if known.is_empty() => continue,
                Among::Known(known) => known.keys().cloned().collect(),
                Among::AtMost(most) if found[at].len() > *most => {
                    *counted = Err(Misfit::TooManyLevels);
                    continue;
                }
                Among::AtMost(_) => std::mem::take(&mut found[at]),
            };
            let segment = reference.features.len() + at;
            let found =
                in_place::profiles_by_level(self.source, asked, &reference.bins, request, segment, &levels)
                    .await?;
            for (level, part) in found {
                let level = level.unwrap_or_else(|| MISSING.to_owned());
                let whole = profiles
                    .entry(level)
                    .or_insert_with(|| Profile::empty(&reference.bins));
                if let Err(error) = whole.merge(&part) {
                    return Err(corrupt(self.source, &error.to_string()));
                }
            }
            // Rows without a level are one, and several spans may have others.
            if most.is_some_and(|most| profiles.len() > most) {
                *counted = Err(Misfit::TooManyLevels);
            }
        }
        Ok(())
    }

    fn usable(&self, column: &str, counted: Counted, most: usize) -> Result<Profiles, SourceError> {
        match counted {
            Ok(profiles) => Ok(profiles),
            Err(Misfit::TooManyLevels) => {
                let model = &self.source.definition().model;
                tracing::warn!(
                    model.name = %model,
                    "`models.{model}.segments`: `{column}` has more than {most} levels; it is not told in which of them features move"
                );
                Ok(Profiles::new())
            }
            Err(Misfit::Unusable(error)) => {
                let cause = format!("features no longer have the kind of the reference: {error}");
                Err(corrupt(self.source, &cause))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_there_is_to_count_the_fewer_levels() {
        assert_eq!(
            (levels_max(0, 1), levels_max(1, 1), levels_max(50, 1)),
            (200, 200, 200)
        );
        assert_eq!(
            (levels_max(30, 2), levels_max(30, 5), levels_max(500, 5)),
            (166, 66, 10)
        );
    }
}
