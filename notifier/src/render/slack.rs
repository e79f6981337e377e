//! Slack Block Kit for an incoming webhook.
//!
//! Data only ever sits in `plain_text` objects or in an escaped code block, so no name can mention people, form a
//! link or change the layout. Limits of Block Kit (characters): header 150, section 3,000, field 2,000, 10 fields;
//! a whole message fails somewhere above 13,000, so parts are bounded well below.

use schemas::AlertId;
use serde_json::{Value, json};

use super::text;
use crate::alert::{Alert, Step};
use crate::decide::minute;

const HEADER_CHARS_MAX: usize = 150;
const SECTION_CHARS_MAX: usize = 2_900;
const FIELD_CHARS_MAX: usize = 700;
const FALLBACK_CHARS_MAX: usize = 600;

/// The message to POST to the webhook.
pub fn message(alert: &Alert, alert_id: AlertId) -> Value {
    let mut blocks = vec![
        json!({"type": "header", "text": plain(&format!("{}: {}", alert.severity.word(), alert.title), HEADER_CHARS_MAX)}),
        json!({"type": "section", "text": plain(&alert.what, SECTION_CHARS_MAX)}),
    ];
    let fields: Vec<Value> = [("Model", alert.model_shown()), ("As of", minute(alert.as_of))]
        .into_iter()
        .chain(
            alert
                .facts
                .iter()
                .map(|fact| (fact.name.as_str(), fact.value.clone())),
        )
        .take(10)
        .map(|(name, value)| plain(&format!("{name}\n{value}"), FIELD_CHARS_MAX))
        .collect();
    blocks.push(json!({"type": "section", "fields": fields}));
    if !alert.moved.is_empty() {
        blocks.push(json!({"type": "section", "text": moved(alert)}));
    }
    let next: Vec<&str> = alert.next.iter().map(Step::as_str).collect();
    if !next.is_empty() {
        blocks.push(json!({"type": "section", "text": plain(&next.join("\n"), SECTION_CHARS_MAX)}));
    }
    if let Some(link) = alert.link.as_deref().and_then(link) {
        blocks.push(json!({"type": "section", "text": markup(&link)}));
    }
    let trace = alert
        .about
        .trace_id
        .as_ref()
        .map(|trace| format!(" · trace {trace}"))
        .unwrap_or_default();
    let origin = format!(
        "alert {alert_id} · {} {}{trace}",
        alert.about.event_type, alert.about.event_id
    );
    blocks.push(json!({"type": "context", "elements": [plain(&origin, FIELD_CHARS_MAX)]}));
    json!({
        // Shown in notifications and where blocks are not; read as markup, hence escaped.
        "text": escape(&alert.subject(), FALLBACK_CHARS_MAX),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

fn moved(alert: &Alert) -> Value {
    let mut lines = String::new();
    text::moved(&mut lines, alert).expect("writing to a string cannot fail");
    // A back-tick would end the code block.
    let quoted = escape(&lines.replace('`', "ʹ"), SECTION_CHARS_MAX - 120);
    markup(&format!("{}\n```\n{}\n```", text::MOVED_TITLE, quoted.trim_end()))
}

fn link(link: &str) -> Option<String> {
    let url = url::Url::parse(link).ok()?;
    let address = url
        .as_str()
        .replace('|', "%7C")
        .replace('<', "%3C")
        .replace('>', "%3E");
    Some(format!(
        "<{}|Open the run>",
        escape(&address, SECTION_CHARS_MAX - 30)
    ))
}

fn plain(text: &str, max: usize) -> Value {
    json!({"type": "plain_text", "text": escape(text, max), "emoji": false})
}

/// Our own markup; `verbatim` keeps Slack from turning names in it into links and mentions.
fn markup(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// Escapes `&`, `<` and `>`, and stops before `max` characters of escaped text.
fn escape(text: &str, max: usize) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut length = 0;
    for character in text.chars() {
        let entity = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        length += entity.len().max(1);
        if length >= max {
            escaped.push('…');
            return escaped;
        }
        if entity.is_empty() {
            escaped.push(character);
        } else {
            escaped.push_str(entity);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_counts_what_slack_counts() {
        assert_eq!(escape("a<b>&c", 100), "a&lt;b&gt;&amp;c");
        assert_eq!(escape("&&&&", 11), "&amp;&amp;…");
        assert_eq!(escape("abc", 4), "abc");
        assert_eq!(escape("abcd", 4), "abc…");
        assert!(escape(&"&".repeat(500), 150).chars().count() <= 150);
    }

    #[test]
    fn a_link_cannot_end_early() {
        let shown = link("https://host/a|b<!channel>?q=>").unwrap();
        assert_eq!(shown.matches('<').count(), 1);
        assert_eq!(shown.matches('|').count(), 1);
        assert_eq!(shown.matches('>').count(), 1);
    }
}
