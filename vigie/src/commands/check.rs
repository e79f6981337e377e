//! `vigie check`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use chassis::Sources;
use chrono::Utc;
use schemas::events::{DriftCheckRequested, DriftChecked, Interval, Metric, Verdict};
use schemas::{Event, EventKind, ModelName, Share};

use crate::cli::{CheckArgs, Output, ReportArgs};
use crate::operator::{self, Operator, who};
use crate::output::{self, Usage, one_line};

/// Asks drift-monitor for a check and shows the answer.
pub async fn run(output: Output, args: CheckArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let Some(model) = args.model else {
        return files(output, args.files, sources);
    };
    operator::check_wish(sources, &model, args.as_of, Utc::now())?;
    let operator = Operator::connect(sources).await?;
    let body = DriftCheckRequested {
        as_of: args.as_of.unwrap_or_else(Utc::now),
        requested_by: who(),
        reason: args.reason,
    };
    let timeout = Duration::from_secs(args.timeout);
    let answer = operator
        .ask(&model, body, &[EventKind::DriftChecked], timeout)
        .await?;
    let Event::DriftChecked(checked) = answer.event else {
        bail!("expected drift.checked, got {}", answer.event.kind())
    };
    output::print(output, &checked, |checked| describe(&model, checked))?;
    Ok(match checked.verdict {
        Verdict::Stable => ExitCode::SUCCESS,
        Verdict::Drifted => ExitCode::from(2),
        Verdict::Unknown => ExitCode::from(3),
    })
}

/// The same question about two files.
fn files(output: Output, files: Vec<PathBuf>, sources: &Sources) -> anyhow::Result<ExitCode> {
    let [reference, current] =
        <[PathBuf; 2]>::try_from(files).map_err(|_| Usage("`--files` takes two files, once".to_owned()))?;
    let args = ReportArgs::of(reference, current);
    tokio::task::block_in_place(|| super::report::run(output, &args, sources))
}

/// `<- exceeded, for 3 checks in a row`.
fn standing(metric: &Metric) -> String {
    let word = match (metric.exceeded, metric.told) {
        (true, _) => "<- exceeded",
        (false, true) => "<- moved, less than the threshold",
        (false, false) => return String::new(),
    };
    match metric.in_a_row {
        0 | 1 => word.to_owned(),
        checks => format!("{word}, for {checks} checks in a row"),
    }
}

/// `0.841 (95 %: 0.802 to 0.873)`.
fn rate(rate: Option<Share>, interval: Option<&Interval>) -> String {
    let Some(rate) = rate else {
        return "none".to_owned();
    };
    let around = interval.map_or_else(String::new, |interval| {
        let [low, high] = [interval.low, interval.high].map(Share::get);
        format!(" ({:.0} %: {low:.3} to {high:.3})", 100.0 * interval.level.get())
    });
    format!("{:.3}{around}", rate.get())
}

fn describe(model: &ModelName, checked: &DriftChecked) -> String {
    let mut text = String::new();
    let verdict = match checked.verdict {
        Verdict::Stable => "stable",
        Verdict::Drifted => "DRIFTED",
        Verdict::Unknown => "UNKNOWN (could not look)",
    };
    let champion = checked
        .champion
        .as_ref()
        .map_or_else(|| "none".to_owned(), |version| one_line(version.as_str()));
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "model {} as of {}: {verdict}",
        one_line(model.as_str()),
        checked.as_of.format("%Y-%m-%d %H:%M UTC")
    );
    let _ = write!(text, "champion {champion}; window {}", checked.window);
    // A check that found nothing to compare with, or could not read, has counted nothing: 0 would say something else.
    let counted = checked.rows > 0
        || checked
            .not_measured
            .iter()
            .any(|missing| missing.reason == "no_rows");
    if counted {
        let _ = write!(
            text,
            " with {} rows, {} labelled",
            checked.rows, checked.labelled_rows
        );
    }
    text.push('\n');
    if let Some(estimated) = &checked.estimated {
        let _ = writeln!(
            text,
            "estimated by the scores of {} rows, if they mean what they meant at validation: recall {}, precision {}",
            estimated.rows,
            rate(estimated.recall, estimated.recall_interval.as_ref()),
            rate(estimated.precision, estimated.precision_interval.as_ref())
        );
    }
    if let Some(prediction) = &checked.prediction {
        let percent = |share: Share| format!("{:.3} %", 100.0 * share.get());
        let _ = writeln!(
            text,
            "scores beside those of the validation: PSI {:.4} (noise {:.4}); {} of the rows flagged, {} then (p {:.2e}); {}",
            prediction.psi.get(),
            prediction.noise.get(),
            percent(prediction.flagged_share),
            percent(prediction.validated_flagged_share),
            prediction.p_value.get(),
            if prediction.beyond_chance {
                "more than chance explains"
            } else {
                "chance explains it"
            }
        );
    }
    for missing in &checked.not_measured {
        let _ = writeln!(
            text,
            "not measured: {} ({}): {}",
            missing.kind.metric_type(),
            one_line(&missing.reason),
            one_line(&missing.detail)
        );
    }
    if !checked.metrics.is_empty() {
        let _ = writeln!(
            text,
            "\n{:<14} {:<20} {:<34} {:>9} {:>9} {:>9}",
            "kind", "metric", "feature", "value", "threshold", "noise"
        );
        for metric in &checked.metrics {
            let noise = metric
                .noise
                .map_or_else(String::new, |noise| format!("{:.4}", noise.get()));
            let _ = writeln!(
                text,
                "{:<14} {:<20} {:<34} {:>9.4} {:>9.4} {:>9} {}",
                metric.kind.metric_type(),
                one_line(&metric.name),
                one_line(metric.feature.as_deref().unwrap_or("-")),
                metric.value.get(),
                metric.threshold.get(),
                noise,
                standing(metric)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_told_with_what_it_assumes_and_only_where_there_is_one() {
        let of_golden = |golden: &str| -> DriftChecked {
            let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
            serde_json::from_value(golden["data"].clone()).unwrap()
        };
        let told = |checked: &DriftChecked| describe(&ModelName::new("fraud-cards").unwrap(), checked);
        let mut checked = of_golden(include_str!(
            "../../../schemas/golden/drift.checked.v1.estimated.json"
        ));
        let line = "estimated by the scores of 9611 rows, if they mean what they meant at validation: recall 0.841, precision 0.772\n";
        assert!(told(&checked).contains(line), "{}", told(&checked));
        assert!(
            !told(&checked).contains("beside those"),
            "not said by its monitor"
        );
        checked.estimated = None;
        assert!(!told(&checked).contains("estimated"));
        let checked = of_golden(include_str!(
            "../../../schemas/golden/drift.checked.v1.prediction.json"
        ));
        for line in [
            "recall 0.841 (95 %: 0.790 to 0.881), precision 0.772 (95 %: 0.714 to 0.821)\n",
            "scores beside those of the validation: PSI 0.0712 (noise 0.0094); 2.130 % of the rows flagged, 0.910 % then (p 2.10e-4); more than chance explains\n",
        ] {
            assert!(told(&checked).contains(line), "{}", told(&checked));
        }
    }
}
