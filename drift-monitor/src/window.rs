//! Hours become counts; a window is a sum of hours.
//!
//! An hour that is complete is counted once and stored, so the cost of a check grows with the new rows, not
//! with the window. Whatever is not stored is read in one go and told apart by the rows' time.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, DurationRound as _, TimeDelta, Utc};
use drift_stats::Unusable;
use drift_stats::profile::{Known, Outcome, Profile};
use schemas::Window;
use transactions::{Batch, Column, Label, Request, SourceError, TransactionSource};

use crate::reference::{Reference, corrupt, values_of};

/// The hour in which an instant lies.
pub fn hour_of(at: DateTime<Utc>) -> DateTime<Utc> {
    // Fails only for instants that PostgreSQL cannot hold.
    at.duration_trunc(Duration::hours(1)).unwrap_or(at)
}

/// Every hour that the span touches, oldest first.
pub fn hours(start: DateTime<Utc>, end: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut hours = Vec::new();
    let mut hour = hour_of(start);
    while hour < end {
        hours.push(hour);
        hour += Duration::hours(1);
    }
    hours
}

/// Counts that were made now, by hour.
pub type Counted<T> = BTreeMap<DateTime<Utc>, T>;

/// The smallest span that holds all hours that are not stored.
fn gap<T>(hours: &[DateTime<Utc>], stored: &Counted<T>, end: DateTime<Utc>) -> Option<Window> {
    let mut missing = hours.iter().filter(|hour| !stored.contains_key(*hour));
    let first = *missing.next()?;
    let last = missing.next_back().copied().unwrap_or(first);
    Window::new(first, (last + TimeDelta::hours(1)).min(end)).ok()
}

/// Counts the features of every hour that is not stored, up to `end`.
pub async fn count_profiles(
    source: &TransactionSource,
    reference: &Reference,
    hours: &[DateTime<Utc>],
    stored: &Counted<Profile>,
    end: DateTime<Utc>,
) -> Result<Counted<Profile>, SourceError> {
    let Some(window) = gap(hours, stored, end) else {
        return Ok(Counted::new());
    };
    let mut counted: Counted<Profile> = hours
        .iter()
        .filter(|hour| !stored.contains_key(*hour))
        .map(|hour| (*hour, Profile::empty(&reference.bins)))
        .collect();
    let mut misfit = None;
    source
        .scan(&Request::monitored(window, end), |batch| {
            for (hour, part) in by_hour(batch) {
                if let Some(profile) = counted.get_mut(&hour)
                    && let Err(error) = profile.add(&reference.bins, &values_of(&part))
                {
                    misfit = Some(error);
                }
            }
        })
        .await?;
    match misfit {
        Some(error) => Err(corrupt(
            source,
            &format!("features no longer have the kind of the reference: {error}"),
        )),
        None => Ok(counted),
    }
}

/// Counts scores and labels of every hour that is not stored, up to `as_of`, with labels known at `as_of`.
pub async fn count_outcomes(
    source: &TransactionSource,
    threshold: f64,
    hours: &[DateTime<Utc>],
    stored: &Counted<Outcome>,
    as_of: DateTime<Utc>,
) -> Result<Counted<Outcome>, SourceError> {
    let Some(window) = gap(hours, stored, as_of) else {
        return Ok(Counted::new());
    };
    let mut counted: Counted<Outcome> = hours
        .iter()
        .filter(|hour| !stored.contains_key(*hour))
        .map(|hour| (*hour, Outcome::empty(threshold)))
        .collect();
    source
        .scan(&Request::outcomes(window, as_of), |batch| {
            for row in 0..batch.rows() {
                if let Some(outcome) = hour_at(batch.times[row]).and_then(|hour| counted.get_mut(&hour)) {
                    let label = match batch.labels[row] {
                        Label::Unknown => Known::Unknown,
                        Label::Genuine => Known::Genuine,
                        Label::Fraud => Known::Fraud,
                    };
                    outcome.add(batch.scores[row], label);
                }
            }
        })
        .await?;
    Ok(counted)
}

/// Hours that ended at or before `settled` and that `is_final` says will not change any more.
pub fn to_keep<T>(
    counted: &Counted<T>,
    settled: DateTime<Utc>,
    is_final: impl Fn(&T) -> bool,
) -> Vec<(DateTime<Utc>, &T)> {
    let ended = |hour: DateTime<Utc>| hour + TimeDelta::hours(1) <= settled;
    counted
        .iter()
        .filter(|(hour, counts)| ended(**hour) && is_final(counts))
        .map(|(hour, counts)| (*hour, counts))
        .collect()
}

/// The sum of outcomes of the hours `[start, end)`.
pub fn sum_outcomes(
    threshold: f64,
    parts: &[&Counted<Outcome>],
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<Outcome, Unusable> {
    let mut sum = Outcome::empty(threshold);
    // An empty span is no error: right after a promotion nothing has ripened.
    let inside = |hour: DateTime<Utc>| start <= hour && hour < end;
    for (_, part) in parts
        .iter()
        .flat_map(|part| part.iter())
        .filter(|(hour, _)| inside(**hour))
    {
        sum.merge(part)?;
    }
    Ok(sum)
}

/// The first full hour at or after an instant.
pub fn next_hour(at: DateTime<Utc>) -> DateTime<Utc> {
    let hour = hour_of(at);
    if hour == at {
        at
    } else {
        hour + TimeDelta::hours(1)
    }
}

fn hour_at(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros).map(hour_of)
}

/// Splits a batch by the hour of its rows.
fn by_hour(batch: &Batch) -> Vec<(DateTime<Utc>, Batch)> {
    let mut rows: BTreeMap<DateTime<Utc>, Vec<usize>> = BTreeMap::new();
    for (row, time) in batch.times.iter().enumerate() {
        if let Some(hour) = hour_at(*time) {
            rows.entry(hour).or_default().push(row);
        }
    }
    rows.into_iter()
        .map(|(hour, rows)| {
            let features = batch
                .features
                .iter()
                .map(|column| match column {
                    Column::Numeric(numbers) => {
                        Column::Numeric(rows.iter().map(|row| numbers[*row]).collect())
                    }
                    Column::Category { codes, levels } => Column::Category {
                        codes: rows.iter().map(|row| codes[*row]).collect(),
                        levels: levels.clone(),
                    },
                })
                .collect();
            let part = Batch {
                times: rows.iter().map(|row| batch.times[*row]).collect(),
                features,
                labels: Vec::new(),
                scores: Vec::new(),
            };
            (hour, part)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64, minute: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour) + TimeDelta::minutes(minute)
    }

    #[test]
    fn a_span_touches_whole_hours_and_its_end_is_outside() {
        assert_eq!(hours(at(1, 0), at(3, 0)), [at(1, 0), at(2, 0)]);
        assert_eq!(hours(at(1, 30), at(3, 1)), [at(1, 0), at(2, 0), at(3, 0)]);
        assert_eq!(hours(at(1, 0), at(1, 0)), Vec::<DateTime<Utc>>::new());
    }

    #[test]
    fn only_what_is_not_stored_is_read() {
        let all = hours(at(0, 0), at(5, 0));
        let stored: Counted<u8> = [0, 1, 3].map(|hour| (at(hour, 0), 0)).into();
        assert_eq!(gap(&all, &stored, at(5, 0)), Window::new(at(2, 0), at(5, 0)).ok());
        let whole: Counted<u8> = all.iter().map(|hour| (*hour, 0)).collect();
        assert_eq!(gap(&all, &whole, at(5, 0)), None);
        assert_eq!(
            gap(&hours(at(4, 0), at(5, 0)), &Counted::<u8>::new(), at(4, 20)),
            Window::new(at(4, 0), at(4, 20)).ok()
        );
    }

    #[test]
    fn hours_are_kept_when_they_are_over_and_final() {
        let counted: Counted<bool> = [(at(0, 0), true), (at(1, 0), false), (at(2, 0), true)].into();
        let kept = |settled| {
            to_keep(&counted, settled, |whole| *whole)
                .iter()
                .map(|(hour, _)| *hour)
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(at(3, 0)), [at(0, 0), at(2, 0)], "the end is inclusive");
        assert_eq!(kept(at(2, 59)), [at(0, 0)]);
        assert_eq!(next_hour(at(2, 0)), at(2, 0));
        assert_eq!(next_hour(at(2, 1)), at(3, 0));
    }

    #[test]
    fn outcomes_are_summed_over_the_span_only() {
        let hour = |rows: u32| {
            let mut outcome = Outcome::empty(0.5);
            (0..rows).for_each(|_| outcome.add(0.1, Known::Genuine));
            outcome
        };
        let stored: Counted<Outcome> = [(at(0, 0), hour(1)), (at(1, 0), hour(10))].into();
        let fresh: Counted<Outcome> = [(at(2, 0), hour(100)), (at(3, 0), hour(1_000))].into();
        let rows =
            |from, to| sum_outcomes(0.5, &[&stored, &fresh], at(from, 0), at(to, 0)).map(|sum| sum.rows());
        assert_eq!(rows(1, 3), Ok(110));
        assert_eq!(rows(3, 1), Ok(0));
        assert_eq!(
            sum_outcomes(0.4, &[&stored], at(0, 0), at(1, 0)).map(|sum| sum.rows()),
            Err(Unusable::BinsDiffer)
        );
    }
}
