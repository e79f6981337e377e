//! The answer for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::document::{RULES, SelfTest};
use crate::output::one_line;
use crate::report::text::percent;

/// Features and how often each rule spoke of them.
type Found<'a> = Vec<(&'a str, Vec<f64>)>;

/// The whole answer.
pub fn describe(test: &SelfTest) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{}: {} rows, divided {} times; one half makes the bins, windows are drawn from the other (seed {})",
        one_line(&test.path),
        test.rows,
        test.divisions,
        test.seed
    );
    let _ = writeln!(
        text,
        "rules: evidence = psi above what the rows explain, with at most {} false alarms over all {} features of a window\n\
         (drift.false_alarm_rate); told = evidence and psi above {} (--tell-from), what a report speaks of; retrain = evidence and\n\
         psi above {} (drift.data_threshold), what a check asks a training for\n",
        percent(test.false_alarm_rate),
        test.features.len(),
        test.tell_from,
        test.threshold
    );
    let _ = writeln!(
        text,
        "Nothing moved: windows in which a rule speaks of any feature"
    );
    header(&mut text, "rows");
    for found in &test.false_alarms {
        let shares: Vec<f64> = found.rates.iter().map(|rate| rate.share).collect();
        row(
            &mut text,
            &format!("{} ({} windows)", found.rows, found.windows),
            &shares,
        );
    }
    // By size and change over all features: the median, and the feature that is seen least.
    let mut groups: BTreeMap<(usize, &str), Found<'_>> = BTreeMap::new();
    for found in &test.power {
        let shares = found.rates.iter().map(|rate| rate.share).collect();
        groups
            .entry((found.rows, &found.change))
            .or_default()
            .push((&found.feature, shares));
    }
    let _ = writeln!(
        text,
        "\nSomething moved: windows in which a rule speaks of the feature that was changed (median over features; the one seen least)"
    );
    header(&mut text, "rows, change");
    for ((rows, change), mut features) in groups {
        let decisive = RULES.len() - 2;
        features.sort_by(|a, b| a.1[decisive].total_cmp(&b.1[decisive]).then(a.0.cmp(b.0)));
        let median: Vec<f64> = (0..RULES.len())
            .map(|rule| {
                let mut shares: Vec<f64> = features.iter().map(|(_, shares)| shares[rule]).collect();
                shares.sort_by(f64::total_cmp);
                f64::midpoint(shares[(shares.len() - 1) / 2], shares[shares.len() / 2])
            })
            .collect();
        row(&mut text, &format!("{rows}, {change}"), &median);
        if let Some((feature, shares)) = features.first().filter(|_| features.len() > 1) {
            let name: String = one_line(feature).chars().take(24).collect();
            row(&mut text, &format!("    {name}"), shares);
        }
    }
    if !test.left_out.is_empty() {
        let _ = writeln!(text, "\nnot looked at:");
        for left in &test.left_out {
            let _ = writeln!(text, "  {}: {}", one_line(&left.column), one_line(&left.reason));
        }
    }
    text
}

fn header(text: &mut String, first: &str) {
    let _ = write!(text, "{first:<30}");
    for rule in RULES {
        let _ = write!(text, " {rule:>10}");
    }
    text.push('\n');
}

fn row(text: &mut String, first: &str, shares: &[f64]) {
    let _ = write!(text, "{first:<30}");
    for share in shares {
        let _ = write!(text, " {:>10}", percent(*share));
    }
    text.push('\n');
}
