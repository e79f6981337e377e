//! What earlier checks found, as far as it matters to this one.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemas::events::{DriftChecked, DriftKind, Metric, NotMeasured, Verdict};

/// What the newest check that could look found with the same champion, by metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Before(BTreeMap<(String, Option<String>), Standing>);

/// Where a metric stood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// It exceeded threshold and noise.
    pub exceeded: bool,
    /// People were told of it.
    pub told: bool,
    /// Checks in a row, up to that one, in which either was so.
    pub in_a_row: u32,
}

impl Before {
    /// What this check found.
    pub fn of(checked: &DriftChecked) -> Self {
        Self::of_metrics(&checked.metrics)
    }

    /// What a check with these metrics found.
    pub fn of_metrics(metrics: &[Metric]) -> Self {
        let standings = metrics.iter().map(|metric| {
            let standing = Standing {
                exceeded: metric.exceeded,
                told: metric.told,
                // Checks from before runs were counted say nothing of them.
                in_a_row: metric.in_a_row.max(u32::from(metric.exceeded || metric.told)),
            };
            ((metric.name.clone(), metric.feature.clone()), standing)
        });
        Self(standings.collect())
    }

    /// Where a metric stood; of one that was not measured, nothing is known.
    pub fn standing(&self, name: &str, feature: Option<&str>) -> Standing {
        let key = (name.to_owned(), feature.map(str::to_owned));
        self.0.get(&key).copied().unwrap_or_default()
    }
}

/// The check before this one.
#[derive(Debug, Clone, PartialEq)]
pub struct Previous {
    /// Its verdict.
    pub verdict: Verdict,
    /// The champion it compared with.
    pub champion: Option<String>,
    /// First check of its run of drifted ones.
    pub since: Option<DateTime<Utc>>,
    /// Length of that run.
    pub consecutive: u32,
    /// Why it could not look, when it could not.
    pub unknown: Option<Unknown>,
}

/// Why a check could not look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// First check of the run that could not look for these reasons.
    pub since: DateTime<Utc>,
    /// Kinds and reasons that kept it from a verdict, sorted.
    pub reasons: Vec<(DriftKind, String)>,
}

/// What keeps a check from a verdict, sorted.
pub fn blocking(not_measured: &[NotMeasured]) -> Vec<(DriftKind, String)> {
    let blocking = not_measured.iter().filter(|missing| missing.blocks_verdict);
    let mut reasons: Vec<_> = blocking
        .map(|missing| (missing.kind, missing.reason.clone()))
        .collect();
    reasons.sort();
    reasons
}

/// Since when checks cannot look for these reasons with this champion. Other reasons, or another champion, are another
/// run: people are to hear of them.
pub fn unknown_since(
    previous: Option<&Previous>,
    champion: Option<&str>,
    not_measured: &[NotMeasured],
    as_of: DateTime<Utc>,
) -> DateTime<Utc> {
    match previous {
        Some(Previous {
            champion: before,
            unknown: Some(unknown),
            ..
        }) if before.as_deref() == champion && unknown.reasons == blocking(not_measured) => unknown.since,
        _ => as_of,
    }
}

/// Where this check stands in an unbroken run of drifted checks of one champion: its first instant and its length.
pub fn run_of(previous: Option<&Previous>, champion: &str, as_of: DateTime<Utc>) -> (DateTime<Utc>, u32) {
    match previous {
        Some(Previous {
            verdict: Verdict::Drifted,
            champion: Some(before),
            since: Some(since),
            consecutive,
            ..
        }) if before == champion => (*since, consecutive.saturating_add(1)),
        _ => (as_of, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_drift_belongs_to_one_champion() {
        let at = |hour| DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(hour);
        let drifted = |champion: &str| Previous {
            verdict: Verdict::Drifted,
            champion: Some(champion.into()),
            since: Some(at(1)),
            consecutive: 4,
            unknown: None,
        };
        assert_eq!(run_of(None, "v1", at(9)), (at(9), 1));
        assert_eq!(run_of(Some(&drifted("v1")), "v1", at(9)), (at(1), 5));
        assert_eq!(run_of(Some(&drifted("v0")), "v1", at(9)), (at(9), 1));
        let stable = Previous {
            verdict: Verdict::Stable,
            since: None,
            consecutive: 0,
            ..drifted("v1")
        };
        assert_eq!(run_of(Some(&stable), "v1", at(9)), (at(9), 1));
    }

    #[test]
    fn other_reasons_or_another_champion_are_another_run_of_unknown_checks() {
        let at = |hour| DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(hour);
        let missing = |reason: &str, blocks_verdict| NotMeasured {
            kind: DriftKind::Data,
            reason: reason.to_owned(),
            detail: "whatever the numbers are".to_owned(),
            blocks_verdict,
        };
        let away = [missing("source_unreachable", true)];
        let before = Previous {
            verdict: Verdict::Unknown,
            champion: Some("v1".into()),
            since: None,
            consecutive: 0,
            unknown: Some(Unknown {
                since: at(1),
                reasons: blocking(&away),
            }),
        };
        let since =
            |previous, champion, missing: &[NotMeasured]| unknown_since(previous, champion, missing, at(9));
        assert_eq!(since(Some(&before), Some("v1"), &away), at(1));
        let more = [away[0].clone(), missing("labels_not_ripe", false)];
        assert_eq!(
            since(Some(&before), Some("v1"), &more),
            at(1),
            "what does not block is no reason"
        );
        assert_eq!(
            since(Some(&before), Some("v1"), &[missing("no_rows", true)]),
            at(9)
        );
        assert_eq!(since(Some(&before), Some("v2"), &away), at(9));
        assert_eq!(since(Some(&before), None, &away), at(9));
        assert_eq!(since(None, Some("v1"), &away), at(9));
    }
}
