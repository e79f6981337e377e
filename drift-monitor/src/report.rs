//! What a check found becomes the bodies of `drift.checked` and `drift.detected`: pure.

use chrono::{DateTime, Utc};
use schemas::events::{
    DriftChecked, DriftDetected, DriftKind, DriftSeverity, FeatureDrift, LevelShift, SegmentDrift, Verdict,
};
use schemas::{CheckId, Finite, Share, Window};

use crate::explain::{self, Counts, Explained};
use crate::judge::{Judgement, Previous, unknown_since};
use crate::look::Looked;
use crate::segments::SegmentShift;

/// Features that are explained in an event, which must not grow too large.
const EXPLAINED_MAX: usize = 50;

/// Where a drifted check stands in an unbroken run of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First check of the run.
    pub since: DateTime<Utc>,
    /// Its length, this check included.
    pub consecutive: u32,
}

/// The body of `drift.checked`.
pub fn checked(
    check_id: CheckId,
    as_of: DateTime<Utc>,
    window: Window,
    looked: &Looked,
    judgement: &Judgement,
    previous: Option<&Previous>,
) -> DriftChecked {
    let champion = looked.champion.as_ref();
    DriftChecked {
        check_id,
        as_of,
        champion: champion.map(|champion| champion.version.clone()),
        reference_window: looked.reference_window,
        window,
        rows: looked.rows,
        labelled_rows: looked.labelled,
        verdict: judgement.verdict,
        previous_verdict: previous.map(|previous| previous.verdict),
        unknown_since: (judgement.verdict == Verdict::Unknown).then(|| {
            let champion = champion.map(|champion| champion.version.as_str());
            unknown_since(previous, champion, &looked.findings.not_measured, as_of)
        }),
        drifted: judgement.drifted.clone(),
        not_measured: looked.findings.not_measured.clone(),
        metrics: judgement.metrics.clone(),
        estimated: looked.findings.estimated.clone(),
        prediction: looked.findings.prediction.clone(),
    }
}

/// The body of `drift.detected`; `None` unless the verdict is `drifted`.
pub fn detected(
    checked: &DriftChecked,
    judgement: &Judgement,
    looked: &Looked,
    run: Run,
) -> Option<DriftDetected> {
    let mut features: Vec<FeatureDrift> = judgement
        .moved
        .iter()
        .filter_map(|metric| {
            Some(FeatureDrift {
                feature: metric.feature.clone()?,
                psi: metric.value,
                threshold: metric.threshold,
                noise: metric.noise?,
                moved: Vec::new(),
                began: None,
                segments: Vec::new(),
            })
        })
        .collect();
    features.sort_by(|a, b| b.psi.get().total_cmp(&a.psi.get()));
    if let Some(counts) = &looked.counts {
        features
            .iter_mut()
            .take(EXPLAINED_MAX)
            .for_each(|feature| add_explanation(counts, feature));
    }
    for feature in features.iter_mut().take(EXPLAINED_MAX) {
        let found = looked.segments.get(&feature.feature);
        feature.segments = found.into_iter().flatten().filter_map(segment).collect();
    }
    let moved = |kind| judgement.drifted.contains(&kind);
    Some(DriftDetected {
        check_id: checked.check_id,
        as_of: checked.as_of,
        champion: checked.champion.clone()?,
        window: checked.window,
        rows: checked.rows,
        kinds: judgement.drifted.clone(),
        severity: judgement.severity?,
        since: run.since,
        consecutive: run.consecutive,
        data_drift: judgement.data_drift.and_then(|value| Finite::new(value).ok()),
        features,
        target: looked
            .findings
            .target
            .clone()
            .filter(|_| moved(DriftKind::Target)),
        concept: looked
            .findings
            .concept
            .clone()
            .filter(|_| moved(DriftKind::Concept)),
        estimated: checked.estimated.clone(),
        prediction: checked.prediction.clone(),
    })
}

fn add_explanation(counts: &Counts, feature: &mut FeatureDrift) {
    let Explained { shifts, began } = counts.explain(&feature.feature);
    feature.began = began;
    feature.moved = shifts
        .into_iter()
        .filter_map(|shift| {
            Some(LevelShift {
                level: shift.label,
                reference: Share::new(shift.from).ok()?,
                current: Share::new(shift.to).ok()?,
            })
        })
        .collect();
}

fn segment(shift: &SegmentShift) -> Option<SegmentDrift> {
    let [reference_rows, rows] = shift.rows;
    Some(SegmentDrift {
        column: shift.column.clone(),
        level: explain::shortened(&shift.level),
        reference_rows,
        rows,
        psi: Finite::new(shift.psi).ok()?,
        noise: Finite::new(shift.noise).ok()?,
    })
}

/// The task of the drift DAG that stands for what happens next.
pub const fn next_task(verdict: Verdict, severity: Option<DriftSeverity>) -> &'static str {
    match (verdict, severity) {
        (Verdict::Drifted, Some(DriftSeverity::AlertOnly)) | (Verdict::Unknown, _) => "send_drift_alert",
        (Verdict::Drifted, _) => "trigger_retraining_dag",
        (Verdict::Stable, _) => "no_action",
    }
}

/// One sentence for the log.
pub fn summary(checked: &DriftChecked) -> String {
    match checked.verdict {
        Verdict::Stable => format!("stable, {} rows", checked.rows),
        Verdict::Unknown => {
            let blocking = checked.not_measured.iter().find(|missing| missing.blocks_verdict);
            let why = blocking.map_or("", |missing| missing.detail.as_str());
            format!("unknown: {why}")
        }
        Verdict::Drifted => {
            let exceeded = checked
                .metrics
                .iter()
                .filter(|metric| metric.exceeded)
                .map(|metric| {
                    let feature = metric
                        .feature
                        .as_ref()
                        .map(|feature| format!(" of {feature}"))
                        .unwrap_or_default();
                    format!(
                        "{}{feature} {:.3} (threshold {:.3})",
                        metric.name,
                        metric.value.get(),
                        metric.threshold.get()
                    )
                });
            format!("drifted: {}", exceeded.collect::<Vec<_>>().join(", "))
        }
    }
}
