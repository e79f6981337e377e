//! The HTML part of a mail: inline styles, tables, no image, no script, nothing loaded from anywhere.

use maud::{DOCTYPE, Markup, html};
use schemas::AlertId;

use super::PRODUCT;
use super::bar::{scale, share};
use crate::alert::{Alert, Movement, Severity, Step};
use crate::decide::minute;

const FONT: &str = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif";
const MONO: &str = "font-family:Menlo,Consolas,'DejaVu Sans Mono',monospace";

/// The alert as one HTML document; all data is escaped.
pub fn html(alert: &Alert, alert_id: AlertId) -> String {
    let colour = colour(alert.severity);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                meta name="color-scheme" content="light";
                title { (alert.subject()) }
            }
            body style={ "margin:0;padding:24px 0;background:#eef1f4;color:#1d2733;" (FONT) } {
                table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" {
                    tr { td align="center" {
                        table role="presentation" width="640" cellpadding="0" cellspacing="0" border="0"
                            style="width:640px;max-width:100%;background:#ffffff;border:1px solid #d7dde4" {
                            tr { td style={ "padding:16px 24px;background:" (colour) ";color:#ffffff" } {
                                div style="font-size:12px;letter-spacing:1px;font-weight:bold" { (alert.severity.word()) }
                                div style="font-size:20px;line-height:26px;font-weight:bold;word-break:break-word" {
                                    (alert.title)
                                }
                                div style="font-size:13px;line-height:20px" {
                                    (alert.model_shown()) " · as of " (minute(alert.as_of))
                                }
                            } }
                            tr { td style="padding:20px 24px 4px;font-size:15px;line-height:22px;word-break:break-word" {
                                (alert.what)
                            } }
                            @if !alert.facts.is_empty() { tr { td style="padding:12px 24px" { (facts(alert)) } } }
                            @if !alert.moved.is_empty() { tr { td style="padding:12px 24px" { (moved(alert)) } } }
                            tr { td style="padding:12px 24px 20px" { (next(alert)) } }
                            tr { td style="padding:12px 24px 16px;border-top:1px solid #d7dde4;background:#f7f9fb" {
                                (footer(alert, alert_id))
                            } }
                        }
                    } }
                }
            }
        }
    };
    page.into_string()
}

const fn colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "#1f6f5c",
        Severity::Medium => "#8a5a00",
        Severity::High => "#b23a12",
        Severity::Critical => "#9c1030",
    }
}

fn heading(text: &str) -> Markup {
    html! {
        div style="font-size:12px;letter-spacing:1px;font-weight:bold;color:#52616f;padding-bottom:6px" {
            (text.to_uppercase())
        }
    }
}

fn facts(alert: &Alert) -> Markup {
    html! {
        table width="100%" cellpadding="0" cellspacing="0" border="0" style="font-size:14px;line-height:20px" {
            @for fact in &alert.facts {
                tr {
                    td width="210" valign="top" style="padding:4px 12px 4px 0;color:#52616f" { (fact.name) }
                    td valign="top" style="padding:4px 0;word-break:break-word" { (fact.value) }
                }
            }
        }
    }
}

fn moved(alert: &Alert) -> Markup {
    let scale = scale(&alert.moved);
    html! {
        (heading("What moved"))
        table width="100%" cellpadding="0" cellspacing="0" border="0" style="font-size:13px;line-height:18px" {
            tr style="color:#52616f;text-align:left" {
                th width="190" style="padding:2px 8px 4px 0;font-weight:normal" { "Feature" }
                th style="padding:2px 8px 4px 0;font-weight:normal" { "PSI against the reference" }
                th width="44" align="right" style="padding:2px 8px 4px 0;font-weight:normal" { "PSI" }
                th width="64" align="right" style="padding:2px 8px 4px 0;font-weight:normal" { "Threshold" }
                th width="44" align="right" style="padding:2px 0 4px;font-weight:normal" { "Noise" }
            }
            @for movement in &alert.moved {
                tr {
                    td style="padding:4px 8px 4px 0;word-break:break-all" { (movement.feature) }
                    td style="padding:4px 8px 4px 0" { (bar(movement, scale)) }
                    td align="right" style="padding:4px 8px 4px 0;font-weight:bold" { (format!("{:.3}", movement.psi)) }
                    td align="right" style="padding:4px 8px 4px 0;color:#52616f" { (format!("{:.2}", movement.threshold)) }
                    td align="right" style="padding:4px 0;color:#52616f" { (format!("{:.3}", movement.noise)) }
                }
                @if !movement.detail.is_empty() {
                    tr { td colspan="5" style="padding:0 0 6px;font-size:12px;color:#52616f;word-break:break-word" { (movement.detail) } }
                }
            }
            @if alert.moved_unlisted > 0 {
                tr { td colspan="5" style="padding:4px 0;color:#52616f" { "and " (alert.moved_unlisted) " more" } }
            }
        }
        div style="font-size:12px;color:#52616f;padding-top:4px" {
            "Pale up to the threshold, strong beyond it. Noise is what the sample size alone explains."
        }
    }
}

/// Three cells: up to the threshold, beyond it, and the rest of the scale.
fn bar(movement: &Movement, scale: f64) -> Markup {
    let whole = |value: f64| (share(value, scale) * 100.0).round() as u32;
    let (end, tick) = (whole(movement.psi), whole(movement.threshold));
    let pale = end.min(tick);
    let cell = |width: u32, colour: &str| {
        html! {
            @if width > 0 {
                td width={ (width) "%" } height="12" bgcolor=(colour) style="font-size:1px;line-height:12px" { "\u{a0}" }
            }
        }
    };
    html! {
        table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" {
            tr { (cell(pale, "#f3c9a5")) (cell(end - pale, "#c8431a")) (cell(100 - end, "#eef1f4")) }
        }
    }
}

fn next(alert: &Alert) -> Markup {
    html! {
        (heading("What now"))
        @for step in &alert.next {
            @match step {
                Step::Say(sentence) => { div style="font-size:14px;line-height:20px;padding-bottom:6px" { (sentence) } },
                Step::Run(command) => {
                    div style={ "font-size:13px;line-height:20px;padding:6px 10px;margin-bottom:6px;background:#eef1f4;word-break:break-word;" (MONO) } {
                        (command)
                    }
                },
            }
        }
        @if let Some(link) = &alert.link {
            div style="font-size:14px;line-height:20px;word-break:break-all" { a href=(link) style="color:#0b5cad" { (link) } }
        }
    }
}

fn footer(alert: &Alert, alert_id: AlertId) -> Markup {
    html! {
        div style="font-size:12px;line-height:18px;color:#52616f" {
            (PRODUCT) " watches over this model. This mail was written by a program."
        }
        div style={ "font-size:11px;line-height:16px;color:#52616f;" (MONO) } {
            "alert " (alert_id) br;
            "event " (alert.about.event_id) " (" (alert.about.event_type) ")" br;
            "loop " (alert.about.correlation_id)
            @if let Some(trace_id) = &alert.about.trace_id { br; "trace " (trace_id) }
        }
    }
}
