//! A report for a terminal: the verdict first.

use std::fmt::Write as _;

pub use drift_monitor::explain::{brief, shown};

use super::document::{FeatureReport, RateReport, Report, SegmentMove, Together, Word};
use crate::output::one_line;

/// Features that are listed though nothing is wrong with them.
const QUIET_MAX: usize = 10;
/// Widest name of a feature.
const NAME_MAX: usize = 32;

/// One sentence: what was found.
pub fn headline(report: &Report) -> String {
    let exceeding = report.features.iter().filter(|feature| feature.exceeded).count();
    let all = report.features.len();
    match report.verdict {
        Word::Stable => format!("nothing moved farther than {} rows allow", report.current.rows),
        Word::Drifted => {
            let kinds: Vec<&str> = report.drifted.iter().map(|kind| kind.metric_type()).collect();
            let kinds = kinds.join(", ").replace('_', " ");
            let told = report.features.iter().filter(|feature| feature.told).count();
            let far = match exceeding {
                0 => ", each by less than its threshold: worth a look, no reason to retrain".to_owned(),
                some if some == told => String::new(),
                some => format!(", {some} of them farther than the threshold"),
            };
            if told > 0 {
                format!("{kinds}: {told} of {all} features moved more than chance explains{far}")
            } else {
                kinds
            }
        }
        Word::Broken => {
            let columns: Vec<String> = report
                .breakage
                .iter()
                .take(3)
                .map(|broken| one_line(&broken.column))
                .collect();
            let more = report.breakage.len().saturating_sub(columns.len());
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("data changed in form: {}{more}", columns.join(", "))
        }
        Word::Unknown => "it could not be looked at".to_owned(),
    }
}

/// A share in percent.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        small if small < 0.1 => format!("{small:.3} %"),
        large => format!("{large:.1} %"),
    }
}

/// The whole report.
pub fn describe(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{}: {}",
        if report.verdict == Word::Stable {
            "stable".to_owned()
        } else {
            report.verdict.as_str().to_uppercase()
        },
        headline(report)
    );
    for (word, side) in [("reference", &report.reference), ("current", &report.current)] {
        let _ = writeln!(
            text,
            "{word:<9} {} ({} rows, {} columns)",
            one_line(&side.path),
            side.rows,
            side.columns
        );
    }
    for broken in &report.breakage {
        let _ = writeln!(
            text,
            "broken: {} ({}): {}",
            one_line(&broken.column),
            broken.kind,
            one_line(&broken.detail)
        );
    }
    for missing in &report.not_measured {
        let _ = writeln!(
            text,
            "not measured: {} ({}): {}",
            missing.kind.metric_type(),
            one_line(&missing.reason),
            one_line(&missing.detail)
        );
    }
    for rate in report.target.iter().chain(&report.performance) {
        let _ = writeln!(text, "{}", rate_line(rate));
    }
    if let Some(together) = &report.together {
        let _ = writeln!(text, "{}", together_line(together));
    }
    features(&mut text, report);
    if !report.left_out.is_empty() {
        let _ = writeln!(text, "\nnot compared:");
        for left in &report.left_out {
            let _ = writeln!(text, "  {}: {}", one_line(&left.column), one_line(&left.reason));
        }
    }
    text
}

/// How well the files can be told apart, in a sentence.
pub fn together_line(together: &Together) -> String {
    let [low, high] = together.interval;
    let named: Vec<String> = together
        .features
        .iter()
        .take(3)
        .map(|part| format!("{} {}", one_line(&part.feature), percent(part.part)))
        .collect();
    let by = if named.is_empty() {
        String::new()
    } else {
        format!("; by {}", named.join(", "))
    };
    let verdict = if low > 0.5 {
        "rows of the two files can be told apart"
    } else {
        "rows of the two files cannot be told apart"
    };
    let fits = together
        .reconstruction
        .as_ref()
        .map_or_else(String::new, |found| {
            format!(
                "; error of reconstruction {} -> {} (p {})",
                shown(found.reference),
                shown(found.current),
                shown(found.p_value)
            )
        });
    format!(
        "all features together: {verdict}, AUC {:.3} (95 %: {low:.3} to {high:.3}){by}{fits}",
        together.auc
    )
}

fn rate_line(rate: &RateReport) -> String {
    let side = |of: &super::document::RateOf| match (of.value, of.interval) {
        (Some(value), Some([low, high])) => format!(
            "{} ({} of {}; 95 %: {} to {})",
            percent(value),
            of.hits,
            of.of,
            percent(low),
            percent(high)
        ),
        _ => "no row to measure it on".to_owned(),
    };
    format!(
        "{}: {} -> {}{}",
        rate.name.replace('_', " "),
        side(&rate.reference),
        side(&rate.current),
        if rate.exceeded { "  <- exceeded" } else { "" }
    )
}

fn features(text: &mut String, report: &Report) {
    let loud = report
        .features
        .iter()
        .filter(|feature| feature.told || feature.broken)
        .count();
    let listed = report.features.len().min(loud + QUIET_MAX);
    let _ = writeln!(
        text,
        "\n{:<NAME_MAX$} {:>9} {:>9} {:>9}  what moved",
        "feature", "psi", "threshold", "noise"
    );
    for feature in &report.features[..listed] {
        let optional =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        let name: String = one_line(&feature.name).chars().take(NAME_MAX).collect();
        let _ = writeln!(
            text,
            "{name:<NAME_MAX$} {:>9} {:>9.4} {:>9}  {}",
            optional(feature.psi),
            report.limits.data_threshold,
            optional(feature.noise),
            what(feature)
        );
    }
    if listed < report.features.len() {
        let _ = writeln!(
            text,
            "… and {} more that moved less (all of them: --output json, or --html)",
            report.features.len() - listed
        );
    }
}

/// `country = FR (PSI 0.41)`.
pub fn segment(found: &SegmentMove) -> String {
    let level: String = one_line(&found.level).chars().take(40).collect();
    format!("{} = {level} (PSI {})", one_line(&found.column), shown(found.psi))
}

/// What is to be said of a feature in a few words.
pub fn what(feature: &FeatureReport) -> String {
    let mut words = Vec::new();
    if feature.broken {
        words.push("broken".to_owned());
    }
    if feature.told && !feature.exceeded && !feature.broken {
        words.push("moved, less than the threshold".to_owned());
    }
    if feature.exceeded {
        words.push("exceeded".to_owned());
        if feature.psi < feature.noise {
            words.push("though parts of the reference differ as much".to_owned());
        }
    }
    if feature.told {
        if let Some([was, is]) = feature.summary {
            words.push(format!("mean {} -> {}", shown(was.mean), shown(is.mean)));
        }
        for moved in feature.moved.iter().take(2) {
            let label: String = one_line(&moved.label).chars().take(40).collect();
            words.push(format!(
                "{label}: {} -> {}",
                percent(moved.from),
                percent(moved.to)
            ));
        }
    }
    if let Some(farthest) = feature.segments.first() {
        words.push(format!("farthest in {}", segment(farthest)));
    }
    let [was, is] = feature.missing;
    if (is - was).abs() >= 0.01 {
        words.push(format!("missing {} -> {}", percent(was), percent(is)));
    }
    if let Some(unseen) = feature.unseen.filter(|unseen| *unseen > 0.0) {
        words.push(format!("new levels {}", percent(unseen)));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits_that_count() {
        let cases = [
            (0.0, "0"),
            (0.12345, "0.1235"),
            (12.345, "12.35"),
            (-999.96, "-1000.0"),
            (12_345.6, "12346"),
            (1.5e9, "1.500e9"),
            (0.000_012, "1.200e-5"),
        ];
        for (value, text) in cases {
            assert_eq!(shown(value), text);
        }
        assert_eq!(
            [percent(0.0), percent(0.000_25), percent(0.25)],
            ["0 %", "0.025 %", "25.0 %"]
        );
    }
}
