//! Counts of a source that counts its rows itself become what the rows would have become: bins, profiles and outcomes.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use drift_stats::Unusable;
use drift_stats::between::{Blocks, Whole};
use drift_stats::binning::{CategoryBins, FeatureBins, NumericBins};
use drift_stats::outcome::{Known, SCORE_BINS};
use drift_stats::profile::{Moments, Profile};
use drift_stats::reference::{LEVELS_KEPT_MAX, ReferenceBuilder};
use schemas::Window;
use transactions::counts::{CellCount, Cells};
use transactions::{FeatureChoice, FeatureKind, InPlace, Label, Request, SourceError, TransactionSource};

use crate::config::Config;
use crate::reference::{Reference, corrupt, values_of};
use crate::window::Counted;

/// How the values of these bins are told apart elsewhere; cells have the numbers of fine bins.
fn cells_of(bins: &FeatureBins) -> Cells {
    match bins {
        FeatureBins::Numeric(bins) => Cells::Numbers {
            points: bins.points().to_vec(),
            edges: bins.edges().to_vec(),
        },
        FeatureBins::Category(bins) => Cells::Levels {
            levels: bins.levels().to_vec(),
            pooled: bins.pooled().to_vec(),
        },
    }
}

/// The rows of a request as one profile per hour; hours without a row are left out.
pub async fn profiles(
    source: &TransactionSource,
    asked: InPlace<'_>,
    bins: &[FeatureBins],
    request: &Request,
) -> Result<Counted<Profile>, SourceError> {
    let mut counted: Counted<Profile> = BTreeMap::new();
    let mut misfit = None;
    let cells: Vec<Cells> = bins.iter().map(cells_of).collect();
    asked
        .cells(request, &cells, |count| {
            let Some(hour) = hour(count.part) else {
                misfit = Some("an hour that no calendar has".to_owned());
                return;
            };
            let profile = counted.entry(hour).or_insert_with(|| Profile::empty(bins));
            if let Err(error) = add(profile, &count) {
                misfit = Some(error.to_string());
            }
        })
        .await?;
    match misfit {
        Some(cause) => Err(corrupt(source, &cause)),
        None => Ok(counted),
    }
}

fn add<P>(profile: &mut Profile, count: &CellCount<P>) -> Result<(), Unusable> {
    let moments = Moments {
        values: count.sums.values,
        sum: count.sums.sum,
        sum_of_squares: count.sums.sum_of_squares,
        min: count.sums.min,
        max: count.sums.max,
    };
    profile.add_counted(count.feature, count.cell, count.rows, &moments)
}

/// The levels of each column of segments, of which there are so many, among the rows of a request; of more than `most` levels the most
/// frequent ones.
pub async fn levels_of_segments(
    asked: InPlace<'_>,
    request: &Request,
    columns: usize,
    most: usize,
) -> Result<Vec<Vec<String>>, SourceError> {
    let segments = Request {
        features: FeatureChoice::WithSegments(Vec::new()),
        ..request.clone()
    };
    let mut levels = vec![Vec::new(); columns];
    for count in asked.levels(&segments, most).await? {
        if let Some(levels) = levels.get_mut(count.feature) {
            levels.push(count.level);
        }
    }
    Ok(levels)
}

/// The rows of a request as one profile per level of a column, `None` standing for rows without a value; levels without a row, and
/// rows of other levels, are left out. `segment` is the column's position among the features of the request, of which the first ones
/// have the bins.
pub async fn profiles_by_level(
    source: &TransactionSource,
    asked: InPlace<'_>,
    bins: &[FeatureBins],
    request: &Request,
    segment: usize,
    levels: &[String],
) -> Result<BTreeMap<Option<String>, Profile>, SourceError> {
    let mut counted = BTreeMap::new();
    let mut misfit = None;
    let cells: Vec<Cells> = bins.iter().map(cells_of).collect();
    asked
        .cells_by_level(request, &cells, segment, levels, |count| {
            let profile = counted
                .entry(count.part.clone())
                .or_insert_with(|| Profile::empty(bins));
            if let Err(error) = add(profile, &count) {
                misfit = Some(error);
            }
        })
        .await?;
    match misfit {
        Some(error) => Err(corrupt(source, &error.to_string())),
        None => Ok(counted),
    }
}

/// The rows of a request as one outcome per hour; hours without a row are left out. `each` is given the hour, a score that stands for
/// others of its bin and side of the threshold, the label, and how many rows.
pub async fn outcomes(
    source: &TransactionSource,
    asked: InPlace<'_>,
    threshold: f64,
    request: &Request,
    mut each: impl FnMut(DateTime<Utc>, f64, Known, u64) + Send,
) -> Result<(), SourceError> {
    for count in asked.outcomes(request, threshold, SCORE_BINS).await? {
        let hour = hour(count.hour).ok_or_else(|| corrupt(source, "an hour that no calendar has"))?;
        each(hour, count.score, known(count.label), count.rows);
    }
    Ok(())
}

/// What is known of a label, in the words of the statistics.
pub const fn known(label: Label) -> Known {
    match label {
        Label::Unknown => Known::Unknown,
        Label::Genuine => Known::Genuine,
        Label::Fraud => Known::Fraud,
    }
}

fn hour(since_1970: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(since_1970.checked_mul(3_600)?, 0)
}

/// The reference of a window: edges from a sample of `sample_rows_max` rows (all of them where there are no more), everything else from
/// counts of all rows.
pub async fn reference(
    source: &TransactionSource,
    asked: InPlace<'_>,
    window: Window,
    as_of: DateTime<Utc>,
    config: &Config,
) -> Result<Reference, SourceError> {
    let request = Request::monitored(window, as_of);
    let bins = bins(source, asked, &request, config).await?;
    let hours = profiles(source, asked, &bins, &request).await?;
    let labels = Request {
        labels: true,
        features: FeatureChoice::None,
        ..request
    };
    let (labelled, frauds) = asked.labels(&labels).await?;
    let misfits = |error: Unusable| {
        corrupt(
            source,
            &format!("hours of the reference do not fit together: {error}"),
        )
    };
    let mut blocks = Blocks::new();
    for hour in hours.values() {
        blocks.add_part(&bins, hour).map_err(misfits)?;
    }
    let Whole { profile, between } = blocks.finish(&bins).map_err(misfits)?;
    Ok(Reference {
        features: source.monitored().map(|feature| feature.name.clone()).collect(),
        bins,
        profile,
        window: Some(window),
        between,
        segments: Vec::new(),
        labelled,
        frauds,
    })
}

/// Bins of the monitored features.
async fn bins(
    source: &TransactionSource,
    asked: InPlace<'_>,
    request: &Request,
    config: &Config,
) -> Result<Vec<FeatureBins>, SourceError> {
    let numeric: Vec<String> = source
        .monitored()
        .filter(|feature| feature.kind == FeatureKind::Numeric)
        .map(|feature| feature.name.clone())
        .collect();
    let mut builder = ReferenceBuilder::new(config.bins.clone(), config.sample_rows_max);
    let mut misfit = None;
    if !numeric.is_empty() {
        let rows = source.count(request.window, request.as_of).await?;
        // Somewhat fewer than are kept at most: the share is met about, and a sample that is too large is halved.
        let kept = config.sample_rows_max as f64;
        let share = if rows as f64 > kept {
            0.97 * kept / rows as f64
        } else {
            1.0
        };
        let numbers = Request {
            features: FeatureChoice::Named(numeric.clone()),
            ..request.clone()
        };
        asked
            .sample(&numbers, share, |batch| {
                if let Err(error) = builder.add(&values_of(&batch.features)) {
                    misfit = Some(error);
                }
            })
            .await?;
    }
    if let Some(error) = misfit {
        return Err(corrupt(
            source,
            &format!("batches of the reference do not fit together: {error}"),
        ));
    }
    // Where there was no row, there were no columns either.
    let mut of_numbers = builder.finish();
    if of_numbers.is_empty() {
        let nothing = || FeatureBins::Numeric(NumericBins::fit(&[], &config.bins));
        of_numbers = numeric.iter().map(|_| nothing()).collect();
    }
    let mut of_numbers = of_numbers.into_iter();
    let mut levels: BTreeMap<usize, BTreeMap<String, u64>> = BTreeMap::new();
    for count in asked.levels(request, LEVELS_KEPT_MAX).await? {
        levels
            .entry(count.feature)
            .or_default()
            .insert(count.level, count.rows);
    }
    let bins = source
        .monitored()
        .enumerate()
        .map(|(at, feature)| match feature.kind {
            FeatureKind::Numeric => of_numbers.next(),
            FeatureKind::Category => {
                let counts = levels.remove(&at).unwrap_or_default();
                Some(FeatureBins::Category(CategoryBins::fit(&counts, &config.bins)))
            }
        });
    bins.collect::<Option<Vec<_>>>()
        .ok_or_else(|| corrupt(source, "a feature has no values"))
}
