//! A report as one page: nothing is loaded from anywhere, it reads without script, in light and in dark.

use std::fmt::Write as _;

use super::document::{Bin, FeatureReport, Number, RateOf, RateReport, Report, Word};
use super::text::{brief, headline, percent, segment, shown, together_line, what};
use crate::output::one_line;

/// Bins that a picture shows; the rest is told in its title.
const BARS_MAX: usize = 24;
/// Longest label of a bin, characters.
const LABEL_MAX: usize = 60;

const STYLE: &str = "
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--soft:#5b6470;--line:#d9dee4;--panel:#f5f7f9;--before:#7d8fa3;--now:#d9730d;--bad:#b42318;--good:#1a7f4b;--odd:#8a6100}
@media(prefers-color-scheme:dark){:root{--paper:#15181c;--ink:#e8ebee;--soft:#9aa4af;--line:#323a43;--panel:#1d2228;--before:#74879c;--now:#f0913a;--bad:#ff8a7a;--good:#5fd396;--odd:#e0b24a}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:28px 20px 60px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;line-height:1.25;margin:0 0 4px}h2{font-size:18px;margin:34px 0 8px}
p{margin:6px 0}.soft{color:var(--soft)}.bad{color:var(--bad)}.good{color:var(--good)}.odd{color:var(--odd)}
table{border-collapse:collapse;width:100%}th{font-weight:600;color:var(--soft);text-align:left}
th,td{padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.name{overflow-wrap:anywhere;min-width:190px}
.wide{overflow-x:auto}
details{border:1px solid var(--line);border-radius:8px;background:var(--panel);margin:10px 0;padding:0 14px}
summary{cursor:pointer;padding:9px 0;font-weight:600;overflow-wrap:anywhere}summary small{font-weight:400;color:var(--soft)}
svg{display:block;width:100%;height:auto;margin:4px 0 8px}
.b{fill:var(--before)}.c{fill:var(--now)}.axis{stroke:var(--line)}svg text{fill:var(--soft);font:11px system-ui,sans-serif}
.key i{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 5px 0 0}.key span{margin-right:16px}
.facts{display:flex;flex-wrap:wrap;gap:4px 26px;margin:4px 0 10px;color:var(--soft)}.facts b{color:var(--ink);font-weight:600}
.bar{display:inline-block;height:9px;border-radius:2px;background:var(--before);vertical-align:middle}.bad .bar{background:var(--bad)}
@media print{details{break-inside:avoid}}
";

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let tone = match report.verdict {
        Word::Stable => "good",
        Word::Drifted => "bad",
        Word::Broken | Word::Unknown => "odd",
    };
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Drift report: {verdict}</title><style>{STYLE}</style></head><body>\
         <h1><span class=\"{tone}\">{verdict}</span></h1><p>{}.</p>",
        escaped(&capital(&headline(report))),
        verdict = capital(report.verdict.as_str()),
    );
    sides(&mut page, report);
    breakage(&mut page, report);
    rates(&mut page, report);
    together(&mut page, report);
    ranking(&mut page, report);
    if !report.features.is_empty() {
        page.push_str(
            "<h2>Feature by feature</h2><p class=\"key soft\"><span><i class=\"b\" style=\"background:var(--before)\"></i>reference</span>\
             <span><i style=\"background:var(--now)\"></i>current</span>share of values in each bin; the bins are the reference's</p>",
        );
        for feature in &report.features {
            detail(&mut page, feature);
        }
    }
    rest(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

/// Text of a file in a page: it can neither end an element nor turn the reading direction.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

fn clipped(text: &str) -> String {
    let clipped: String = text.chars().take(LABEL_MAX).collect();
    if clipped.len() < text.len() {
        clipped + "…"
    } else {
        clipped
    }
}

fn sides(page: &mut String, report: &Report) {
    let _ = write!(
        page,
        "<div class=\"wide\"><table><tr><th></th><th>file</th><th class=\"n\">rows</th><th class=\"n\">columns</th><th>written</th></tr>"
    );
    for (word, side) in [("reference", &report.reference), ("current", &report.current)] {
        let written = side
            .modified
            .map_or_else(String::new, |at| at.format("%Y-%m-%d %H:%M UTC").to_string());
        let _ = write!(
            page,
            "<tr><td>{word}</td><td class=\"name\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{written}</td></tr>",
            escaped(&side.path),
            side.rows,
            side.columns
        );
    }
    page.push_str("</table></div>");
}

fn breakage(page: &mut String, report: &Report) {
    if report.breakage.is_empty() {
        return;
    }
    page.push_str("<h2>What broke</h2><p class=\"soft\">The data changed in form. That is no drift of the world, and no training mends it.</p><table>");
    for broken in &report.breakage {
        let _ = write!(
            page,
            "<tr class=\"odd\"><td class=\"name\">{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&broken.column),
            broken.kind.replace('_', " "),
            escaped(&broken.detail)
        );
    }
    page.push_str("</table>");
}

fn rates(page: &mut String, report: &Report) {
    let rates: Vec<&RateReport> = report.target.iter().chain(&report.performance).collect();
    if rates.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Frauds</h2><div class=\"wide\"><table><tr><th></th><th class=\"n\">reference</th><th class=\"n\">current</th><th></th></tr>",
    );
    let side = |of: &RateOf| match (of.value, of.interval) {
        (Some(value), Some([low, high])) => format!(
            "{} <span class=\"soft\">({} of {}; 95 %: {} to {})</span>",
            percent(value),
            of.hits,
            of.of,
            percent(low),
            percent(high)
        ),
        _ => "–".to_owned(),
    };
    for rate in rates {
        let _ = write!(
            page,
            "<tr{}><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            if rate.exceeded { " class=\"bad\"" } else { "" },
            rate.name.replace('_', " "),
            side(&rate.reference),
            side(&rate.current),
            if rate.exceeded { "exceeded" } else { "" }
        );
    }
    page.push_str("</table></div>");
}

fn together(page: &mut String, report: &Report) {
    if let Some(together) = &report.together {
        let _ = write!(
            page,
            "<p>{}</p>",
            escaped(&capital(&together_line(together))).replace(" -&gt; ", " → ")
        );
    }
}

fn ranking(page: &mut String, report: &Report) {
    if report.features.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<h2>Features, the farthest first</h2><p class=\"soft\">A feature exceeds when its population stability index is above the \
         threshold of {}; it is told of from {} on, when that is more than the number of rows and the reference's own unrest explain (noise, at most {} false alarms in a hundred \
         comparisons of all {} features).</p><div class=\"wide\"><table><tr><th>feature</th><th class=\"n\">PSI</th><th></th><th class=\"n\">noise</th><th>what moved</th></tr>",
        report.limits.data_threshold,
        report.limits.data_tell,
        brief(report.limits.false_alarm_rate * 100.0),
        report.limits.features
    );
    let largest = report
        .features
        .iter()
        .filter_map(|feature| feature.psi)
        .fold(report.limits.data_threshold, f64::max);
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    for feature in &report.features {
        let class = match (feature.broken, feature.exceeded, feature.told) {
            (true, ..) => " class=\"odd\"",
            (_, true, _) => " class=\"bad\"",
            (_, _, true) => " class=\"odd\"",
            _ => "",
        };
        let width = feature.psi.unwrap_or(0.0) / largest * 90.0;
        let _ = write!(
            page,
            "<tr{class}><td class=\"name\">{}{}</td><td class=\"n\">{}</td><td><span class=\"bar\" style=\"width:{width:.0}px\"></span></td>\
             <td class=\"n\">{}</td><td>{}</td></tr>",
            escaped(&feature.name),
            if feature.is_score {
                " <span class=\"soft\">(score)</span>"
            } else {
                ""
            },
            number(feature.psi),
            number(feature.noise),
            escaped(&what(feature)).replace(" -&gt; ", " → ")
        );
    }
    page.push_str("</table></div>");
}

fn detail(page: &mut String, feature: &FeatureReport) {
    let open = if feature.told || feature.broken {
        " open"
    } else {
        ""
    };
    let psi = feature
        .psi
        .map_or_else(String::new, |psi| format!(" <small>PSI {}</small>", shown(psi)));
    let _ = write!(
        page,
        "<details{open}><summary>{}{psi}</summary>",
        escaped(&feature.name)
    );
    picture(page, &feature.bins);
    page.push_str("<div class=\"facts\">");
    if let Some([was, is]) = feature.summary {
        for (name, was, is) in [
            ("mean", was.mean, is.mean),
            ("deviation", was.deviation, is.deviation),
            ("min", was.min, is.min),
            ("max", was.max, is.max),
        ] {
            fact(page, name, &format!("{} → {}", shown(was), shown(is)));
        }
    }
    let [was, is] = feature.missing;
    if was > 0.0 || is > 0.0 {
        fact(page, "missing", &format!("{} → {}", percent(was), percent(is)));
    }
    if let Some(unseen) = feature.unseen {
        fact(page, "levels the reference never had", &percent(unseen));
    }
    if let Some(p) = feature.p_value {
        fact(page, "p of the PSI", &shown(p));
    }
    if feature.unrest > 0.0 {
        fact(page, "unrest of the reference", &shown(feature.unrest));
    }
    for number in &feature.metrics {
        fact(page, &words(number.name), &value_of(number));
    }
    page.push_str("</div>");
    if !feature.moved.is_empty() {
        page.push_str("<p class=\"soft\">Moved most: ");
        let moved: Vec<String> = feature
            .moved
            .iter()
            .map(|moved| {
                format!(
                    "<b>{}</b> {} → {} ({:.0} % of the index)",
                    escaped(&clipped(&moved.label)),
                    percent(moved.from),
                    percent(moved.to),
                    moved.part * 100.0
                )
            })
            .collect();
        let _ = write!(page, "{}</p>", moved.join("; "));
    }
    if !feature.segments.is_empty() {
        let segments: Vec<String> = feature
            .segments
            .iter()
            .map(|found| {
                let [was, is] = found.rows;
                format!("<b>{}</b> ({was} and {is} rows)", escaped(&segment(found)))
            })
            .collect();
        let _ = write!(
            page,
            "<p class=\"soft\">Moved farthest in {}</p>",
            segments.join("; ")
        );
    }
    page.push_str("</details>");
}

fn words(name: &str) -> String {
    match name {
        "chi_squared_p" => "p of chi-squared".to_owned(),
        "cramers_v" => "Cramér's V".to_owned(),
        "jensen_shannon" => "Jensen–Shannon".to_owned(),
        "kullback_leibler" => "Kullback–Leibler".to_owned(),
        "kolmogorov_smirnov" => "Kolmogorov–Smirnov".to_owned(),
        other => capital(&other.replace('_', " ")),
    }
}

fn value_of(number: &Number) -> String {
    match number.range {
        Some([low, high]) => format!("{} to {}", shown(low), shown(high)),
        None => shown(number.value),
    }
}

fn fact(page: &mut String, name: &str, value: &str) {
    let _ = write!(page, "<span>{name} <b>{value}</b></span>");
}

/// Two bars a bin; the largest share fills the height.
fn picture(page: &mut String, bins: &[Bin]) {
    const WIDTH: f64 = 1_000.0;
    const HEIGHT: f64 = 110.0;
    // Room for the largest share, which stands above its bar.
    const TOP: f64 = 16.0;
    let shown_bins = &bins[..bins.len().min(BARS_MAX)];
    let largest = shown_bins
        .iter()
        .map(|bin| bin.reference.max(bin.current))
        .fold(0.0, f64::max);
    if largest <= 0.0 {
        return;
    }
    let step = WIDTH / shown_bins.len() as f64;
    let width = (step * 0.4).min(36.0);
    let _ = write!(
        page,
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"shares by bin\">",
        HEIGHT + TOP + 30.0
    );
    for (at, bin) in shown_bins.iter().enumerate() {
        let middle = step * (at as f64 + 0.5);
        let label = escaped(&clipped(&bin.label));
        let _ = write!(
            page,
            "<g><title>{label}: {} → {}</title>",
            percent(bin.reference),
            percent(bin.current)
        );
        for (class, share, x) in [("b", bin.reference, middle - width), ("c", bin.current, middle)] {
            let height = share / largest * HEIGHT;
            let _ = write!(
                page,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
                HEIGHT - height + TOP,
                width - 1.0
            );
        }
        // As many letters as have room.
        let room = ((step / 6.2) as usize).saturating_sub(1);
        if room >= 3 {
            let short: String = one_line(&bin.label).chars().take(room).collect();
            let short = if short.chars().count() < bin.label.chars().count() {
                short + "…"
            } else {
                short
            };
            let _ = write!(
                page,
                "<text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                HEIGHT + TOP + 14.0,
                escaped(&short)
            );
        }
        page.push_str("</g>");
    }
    let _ = write!(
        page,
        "<line class=\"axis\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{y}\" y2=\"{y}\"/><text x=\"{WIDTH}\" y=\"11\" text-anchor=\"end\">{}</text></svg>",
        percent(largest),
        y = HEIGHT + TOP
    );
    if bins.len() > BARS_MAX {
        let _ = write!(
            page,
            "<p class=\"soft\">The first {BARS_MAX} of {} bins.</p>",
            bins.len()
        );
    }
}

fn rest(page: &mut String, report: &Report) {
    if !report.not_measured.is_empty() {
        page.push_str("<h2>Not measured</h2><table>");
        for missing in &report.not_measured {
            let _ = write!(
                page,
                "<tr><td>{}</td><td>{}</td></tr>",
                missing.kind.metric_type().replace('_', " "),
                escaped(&missing.detail)
            );
        }
        page.push_str("</table>");
    }
    if !report.left_out.is_empty() {
        page.push_str("<h2>Not compared</h2><table>");
        for left in &report.left_out {
            let _ = write!(
                page,
                "<tr><td class=\"name\">{}</td><td>{}</td></tr>",
                escaped(&left.column),
                escaped(&left.reason)
            );
        }
        page.push_str("</table>");
    }
}
