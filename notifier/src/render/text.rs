//! The plain-text part of a mail: everything the HTML part says.

use std::fmt::Write as _;

use schemas::AlertId;

use super::PRODUCT;
use super::bar::{bar, scale};
use crate::alert::{Alert, Step};
use crate::decide::minute;

const BAR_WIDTH: usize = 24;
/// Explains the bars.
pub(super) const MOVED_TITLE: &str =
    "What moved (PSI; │ marks the threshold; noise is what the sample size alone explains)";

/// The alert as plain text, lines ended by `\n`.
pub fn text(alert: &Alert, alert_id: AlertId) -> String {
    let mut page = String::new();
    write(&mut page, alert, alert_id).expect("writing to a string cannot fail");
    page
}

fn write(page: &mut String, alert: &Alert, alert_id: AlertId) -> std::fmt::Result {
    writeln!(page, "{}\n", alert.what)?;
    writeln!(page, "Model     {}", alert.model_shown())?;
    writeln!(page, "As of     {}", minute(alert.as_of))?;
    writeln!(page, "Severity  {}", alert.severity.word())?;
    if !alert.facts.is_empty() {
        writeln!(page)?;
        let widest = alert
            .facts
            .iter()
            .map(|fact| fact.name.chars().count())
            .max()
            .unwrap_or_default();
        for fact in &alert.facts {
            writeln!(page, "{:widest$}  {}", fact.name, fact.value)?;
        }
    }
    if !alert.moved.is_empty() {
        writeln!(page, "\n{MOVED_TITLE}\n")?;
        moved(page, alert)?;
    }
    writeln!(page, "\nWhat now\n")?;
    for step in &alert.next {
        match step {
            Step::Say(sentence) => writeln!(page, "{sentence}")?,
            Step::Run(command) => writeln!(page, "    {command}")?,
        }
    }
    if let Some(link) = &alert.link {
        writeln!(page, "\n{link}")?;
    }
    // RFC 3676: mail readers fold away what follows "-- ".
    writeln!(
        page,
        "\n-- \n{PRODUCT} watches over this model. This mail was written by a program."
    )?;
    writeln!(page, "alert  {alert_id}")?;
    writeln!(
        page,
        "event  {} ({})",
        alert.about.event_id, alert.about.event_type
    )?;
    writeln!(page, "loop   {}", alert.about.correlation_id)?;
    if let Some(trace_id) = &alert.about.trace_id {
        writeln!(page, "trace  {trace_id}")?;
    }
    Ok(())
}

/// One line per feature, also used by Slack.
pub(super) fn moved(page: &mut String, alert: &Alert) -> std::fmt::Result {
    let scale = scale(&alert.moved);
    let widest = alert
        .moved
        .iter()
        .map(|movement| movement.feature.chars().count())
        .max()
        .unwrap_or_default();
    for movement in &alert.moved {
        writeln!(
            page,
            "{:widest$}  {}  {:6.3}  (threshold {:.2}, noise {:.3})",
            movement.feature,
            bar(movement, scale, BAR_WIDTH),
            movement.psi,
            movement.threshold,
            movement.noise,
        )?;
        if !movement.detail.is_empty() {
            writeln!(page, "  {}", movement.detail)?;
        }
    }
    if alert.moved_unlisted > 0 {
        writeln!(page, "and {} more", alert.moved_unlisted)?;
    }
    Ok(())
}
