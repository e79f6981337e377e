//! Hours become counts; a window is a sum of hours.
//!
//! An hour that is complete is counted once and stored, so the cost of a check grows with the new rows, not
//! with the window. Whatever is not stored is read in one go and told apart by the rows' time.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, DurationRound as _, TimeDelta, Utc};
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
    let Some(window) = gap(hours, stored, end) else { return Ok(Counted::new()) };
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
        Some(error) => Err(corrupt(source, format!("features no longer have the kind of the reference: {}", error.word()))),
        None => Ok(counted),
    }
}

/// Counts scores and labels of every hour that is not stored, up to `end`, with labels known at `as_of`.
pub async fn count_outcomes(
    source: &TransactionSource,
    threshold: f64,
    hours: &[DateTime<Utc>],
    stored: &Counted<Outcome>,
    end: DateTime<Utc>,
    as_of: DateTime<Utc>,
) -> Result<Counted<Outcome>, SourceError> {
    let Some(window) = gap(hours, stored, end) else { return Ok(Counted::new()) };
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
                    Column::Numeric(numbers) => Column::Numeric(rows.iter().map(|row| numbers[*row]).collect()),
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
        let stored: Counted<()> = [0, 1, 3].map(|hour| (at(hour, 0), ())).into();
        assert_eq!(gap(&all, &stored, at(5, 0)), Window::new(at(2, 0), at(5, 0)).ok());
        let whole: Counted<()> = all.iter().map(|hour| (*hour, ())).collect();
        assert_eq!(gap(&all, &whole, at(5, 0)), None);
        assert_eq!(gap(&hours(at(4, 0), at(5, 0)), &Counted::<()>::new(), at(4, 20)), Window::new(at(4, 0), at(4, 20)).ok());
    }
}
