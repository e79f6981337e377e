//! Hours become counts; a window is a sum of hours.
//!
//! An hour that is over is counted and stored, so the cost of a check grows with the new rows and the new labels, not with the
//! window: hours whose labels are not all known learn those that became known since the last check. An hour is counted again a few
//! times while it is young ([`is_recounted`]), so that late rows and corrected labels get where they belong.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Duration, DurationRound as _, TimeDelta, Utc};
use drift_stats::Unusable;
use drift_stats::binning::FeatureBins;
use drift_stats::outcome::{Known, Outcome};
use drift_stats::profile::Profile;
use schemas::Window;
use transactions::{Batch, Request, SourceError, TransactionSource};

use crate::in_place;
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

/// The same hours of the week, in so many weeks before them.
pub fn same_hours_of_week(hours: &[DateTime<Utc>], weeks: u32) -> Vec<DateTime<Utc>> {
    let back = |hour: &DateTime<Utc>, week: u32| *hour - TimeDelta::weeks(i64::from(week));
    (1..=weeks)
        .flat_map(|week| hours.iter().map(move |hour| back(hour, week)))
        .collect()
}

/// Counts that were made now, by hour.
pub type Counted<T> = BTreeMap<DateTime<Utc>, T>;

/// More readings than this are slower than one that reads hours again that are known.
const SPANS_MAX: usize = 16;

/// The spans of hours that are not known, oldest first: hours that follow each other are read in one go.
fn spans(
    hours: &[DateTime<Utc>],
    is_known: impl Fn(DateTime<Utc>) -> bool,
    end: DateTime<Utc>,
) -> Vec<Window> {
    let spans = each_span(hours.iter().copied().filter(|hour| !is_known(*hour)), end);
    match (&spans[..], spans.len() > SPANS_MAX) {
        ([first, .., last], true) => Window::new(first.start(), last.end()).into_iter().collect(),
        _ => spans,
    }
}

/// Hours that follow each other are one span; the last ends at `end`, or before.
fn each_span(hours: impl Iterator<Item = DateTime<Utc>>, end: DateTime<Utc>) -> Vec<Window> {
    let mut spans: Vec<(DateTime<Utc>, DateTime<Utc>)> = Vec::new();
    for hour in hours {
        let next = hour + TimeDelta::hours(1);
        match spans.last_mut() {
            Some((_, until)) if *until == hour => *until = next,
            _ => spans.push((hour, next)),
        }
    }
    spans
        .into_iter()
        .filter_map(|(start, until)| Window::new(start, until.min(end)).ok())
        .collect()
}

/// The spans of these hours and no others, oldest first.
pub fn spans_of(hours: &BTreeSet<DateTime<Utc>>, end: DateTime<Utc>) -> Vec<Window> {
    each_span(hours.iter().copied(), end)
}

/// Ages, in hours since its end, at which an hour is counted again, so that rows and labels that came late, or were corrected, get
/// into the bucket where they belong.
const RECOUNTED_AT: [i64; 2] = [6, 24];

/// Whether an hour is to be counted again by a check of `now`, `settled` being the instant from which on it was said to be final.
pub fn is_recounted(hour: DateTime<Utc>, settled: DateTime<Utc>) -> bool {
    let age = (hour_of(settled) - hour).num_hours() - 1;
    RECOUNTED_AT.contains(&age)
}

/// Counts the features of every hour that is not stored, up to `end`.
pub async fn count_profiles(
    source: &TransactionSource,
    reference: &Reference,
    hours: &[DateTime<Utc>],
    stored: &Counted<Profile>,
    end: DateTime<Utc>,
) -> Result<Counted<Profile>, SourceError> {
    let is_known = |hour| stored.contains_key(&hour);
    let mut counted: Counted<Profile> = hours
        .iter()
        .filter(|hour| !is_known(**hour))
        .map(|hour| (*hour, Profile::empty(&reference.bins)))
        .collect();
    let mut misfit = None;
    for window in spans(hours, is_known, end) {
        let request = Request::monitored(window, end);
        if let Some(asked) = source.in_place() {
            // Hours without a row stay as they are: counted, and empty.
            let found = in_place::profiles(source, asked, &reference.bins, &request).await?;
            counted.extend(found.into_iter().filter(|(hour, _)| !is_known(*hour)));
            continue;
        }
        source
            .scan(&request, |batch| {
                for (hour, part) in by_hour(batch) {
                    if let Some(profile) = counted.get_mut(&hour)
                        && let Err(error) = profile.add(&reference.bins, &values_of(&part.features))
                    {
                        misfit = Some(error);
                    }
                }
            })
            .await?;
    }
    match misfit {
        Some(error) => Err(corrupt(
            source,
            &format!("features no longer have the kind of the reference: {error}"),
        )),
        None => Ok(counted),
    }
}

/// Scores and labels of an hour, as they were stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredOutcome {
    /// The counts.
    pub outcome: Outcome,
    /// The instant whose knowledge of labels they hold.
    pub known_at: DateTime<Utc>,
    /// Whether every label is known.
    pub is_final: bool,
}

/// Scores and labels of every hour, with labels known at `as_of`; hours that are stored only learn what became known since.
pub async fn count_outcomes(
    source: &TransactionSource,
    threshold: f64,
    hours: &[DateTime<Utc>],
    mut stored: Counted<StoredOutcome>,
    as_of: DateTime<Utc>,
) -> Result<Counted<Outcome>, SourceError> {
    // Hours that every check carries on are of one instant; those that were left behind are counted again.
    let open = |stored: &StoredOutcome| !stored.is_final;
    let carried = stored
        .values()
        .filter(|stored| open(stored))
        .map(|stored| stored.known_at)
        .max();
    stored.retain(|_, stored| stored.is_final || Some(stored.known_at) == carried);
    let mut lost: Vec<DateTime<Utc>> = Vec::new();
    if let Some(since) = carried.filter(|since| *since < as_of) {
        let mut open_hours = stored
            .iter()
            .filter(|(_, stored)| open(stored))
            .map(|(hour, _)| *hour);
        let first = open_hours.next();
        let last = open_hours.next_back().or(first);
        let window = first
            .zip(last)
            .map(|(first, last)| Window::new(first, last + TimeDelta::hours(1)));
        if let Some(Ok(window)) = window {
            let news = Request::news(window, since, as_of);
            let learn = |hour: DateTime<Utc>, score, label, rows| {
                if let Some(stored) = stored.get_mut(&hour).filter(|stored| open(stored))
                    && stored.outcome.learn(score, label, rows).is_err()
                {
                    lost.push(hour);
                }
            };
            each_outcome(source, threshold, &news, learn).await?;
        }
    }
    // A label that was corrected is no news of a row that is unknown.
    for hour in lost {
        stored.remove(&hour);
    }
    let is_known = |hour| stored.contains_key(&hour);
    let mut counted: Counted<Outcome> = hours
        .iter()
        .filter(|hour| !is_known(**hour))
        .map(|hour| (*hour, Outcome::empty(threshold)))
        .collect();
    for window in spans(hours, is_known, as_of) {
        let all = Request::outcomes(window, as_of);
        let add = |hour: DateTime<Utc>, score, label, rows| {
            if let Some(outcome) = counted.get_mut(&hour) {
                outcome.add_rows(score, label, rows);
            }
        };
        each_outcome(source, threshold, &all, add).await?;
    }
    counted.extend(stored.into_iter().map(|(hour, stored)| (hour, stored.outcome)));
    Ok(counted)
}

/// Hands out scores and labels of a request with their hours and how many rows are alike: one, or as many as the source has counted.
async fn each_outcome(
    source: &TransactionSource,
    threshold: f64,
    request: &Request,
    mut each: impl FnMut(DateTime<Utc>, f64, Known, u64) + Send,
) -> Result<(), SourceError> {
    if let Some(asked) = source.in_place() {
        return in_place::outcomes(source, asked, threshold, request, each).await;
    }
    let rows = |batch: &Batch| {
        for row in 0..batch.rows() {
            if let Some(hour) = hour_at(batch.times[row]) {
                each(hour, batch.scores[row], in_place::known(batch.labels[row]), 1);
            }
        }
    };
    source.scan(request, rows).await.map(|_| ())
}

/// Hours that ended at or before `settled`: their rows have arrived.
pub fn to_keep<T>(counted: &Counted<T>, settled: DateTime<Utc>) -> Vec<(DateTime<Utc>, &T)> {
    let ended = |hour: DateTime<Utc>| hour + TimeDelta::hours(1) <= settled;
    counted
        .iter()
        .filter(|(hour, _)| ended(**hour))
        .map(|(hour, counts)| (*hour, counts))
        .collect()
}

/// The sum of outcomes of the hours `[start, end)`.
pub fn sum_outcomes(
    threshold: f64,
    hours: &Counted<Outcome>,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<Outcome, Unusable> {
    let mut sum = Outcome::empty(threshold);
    // An empty span is no error: right after a promotion nothing has ripened.
    for (_, part) in hours.range(start..).take_while(|(hour, _)| **hour < end) {
        sum.merge(part)?;
    }
    Ok(sum)
}

/// The sum of profiles in these bins.
///
/// # Errors
/// [`Unusable::BinsDiffer`] when one was counted in others.
pub fn sum_profiles<'a>(
    bins: &[FeatureBins],
    parts: impl IntoIterator<Item = &'a Profile>,
) -> Result<Profile, Unusable> {
    let mut sum = Profile::empty(bins);
    for part in parts {
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
                .map(|column| column.of_rows(&rows))
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
    fn the_same_hours_of_earlier_weeks_are_a_week_apart() {
        let found = same_hours_of_week(&[at(400, 0), at(401, 0)], 2);
        assert_eq!(found, [at(232, 0), at(233, 0), at(64, 0), at(65, 0)]);
        assert!(same_hours_of_week(&[at(400, 0)], 0).is_empty());
    }

    #[test]
    fn only_what_is_not_known_is_read() {
        let all = hours(at(0, 0), at(5, 0));
        let read = |known: &[i64], end| {
            let windows = spans(&all, |hour| known.iter().any(|known| at(*known, 0) == hour), end);
            windows
                .iter()
                .map(|window| (window.start(), window.end()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            read(&[0, 1, 3], at(5, 0)),
            [(at(2, 0), at(3, 0)), (at(4, 0), at(5, 0))]
        );
        assert_eq!(read(&[1], at(5, 0)), [(at(0, 0), at(1, 0)), (at(2, 0), at(5, 0))]);
        assert_eq!(read(&[], at(5, 0)), [(at(0, 0), at(5, 0))]);
        assert_eq!(read(&[0, 1, 2, 3, 4], at(5, 0)), []);
        assert_eq!(read(&[0, 1, 2, 3], at(4, 20)), [(at(4, 0), at(4, 20))]);
        assert_eq!(read(&[0, 1, 2, 3], at(4, 0)), [], "nothing has come yet");
        let holes = hours(at(0, 0), at(60, 0));
        let many = spans(&holes, |hour| hour.timestamp() / 3_600 % 2 == 0, at(60, 0));
        assert_eq!(
            many,
            Window::new(at(1, 0), at(60, 0))
                .ok()
                .into_iter()
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn rows_of_alike_hours_are_those_and_no_others() {
        let alike: BTreeSet<DateTime<Utc>> = (0..30)
            .flat_map(|week| [at(week * 168, 0), at(week * 168 + 1, 0)])
            .collect();
        let windows = spans_of(&alike, at(30 * 168, 0));
        assert_eq!(windows.len(), 30, "however many");
        assert!(
            windows
                .iter()
                .all(|window| window.end() - window.start() == TimeDelta::hours(2))
        );
    }

    #[test]
    fn hours_are_counted_again_when_late_rows_may_have_come() {
        let again: Vec<i64> = (0..48)
            .filter(|hour| is_recounted(at(*hour, 0), at(48, 0)))
            .collect();
        assert_eq!(again, [23, 41]);
        let before: Vec<i64> = (0..48)
            .filter(|hour| is_recounted(at(*hour, 0), at(47, 45)))
            .collect();
        assert_eq!(before, [22, 40]);
    }

    #[test]
    fn hours_are_kept_when_they_are_over() {
        let counted: Counted<bool> = [(at(0, 0), true), (at(1, 0), false), (at(2, 0), true)].into();
        let kept = |settled| {
            to_keep(&counted, settled)
                .iter()
                .map(|(hour, _)| *hour)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            kept(at(3, 0)),
            [at(0, 0), at(1, 0), at(2, 0)],
            "the end is inclusive"
        );
        assert_eq!(kept(at(2, 59)), [at(0, 0), at(1, 0)]);
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
        let all: Counted<Outcome> = (0..4)
            .map(|at_hour| (at(at_hour, 0), hour(10_u32.pow(at_hour as u32))))
            .collect();
        let rows = |from, to| sum_outcomes(0.5, &all, at(from, 0), at(to, 0)).map(|sum| sum.rows());
        assert_eq!(rows(1, 3), Ok(110));
        assert_eq!(rows(3, 1), Ok(0));
        assert_eq!(
            sum_outcomes(0.4, &all, at(0, 0), at(1, 0)).map(|sum| sum.rows()),
            Err(Unusable::BinsDiffer)
        );
    }
}
