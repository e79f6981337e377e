//! What is in force, for `--print-config`, with secrets masked.

use std::fmt::Write as _;

use config::{Value, ValueKind};

use super::layers::{Settings, origin_of};

const MASK: &str = "********";

/// Whether a key's value must never be shown.
pub(super) fn is_secret(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    ["password", "token", "secret", "webhook", "webhook_url", "nkey"]
        .iter()
        .any(|word| name.ends_with(word))
}

/// Whether a value holds something that is not shown.
pub(super) fn is_masked(key: &str, value: &Value) -> bool {
    shown(key, value).contains(MASK)
}

/// A value as text, masked where it is, or may hold, a secret.
pub(super) fn shown(key: &str, value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) if text.is_empty() => String::new(),
        _ if is_secret(key) => MASK.to_owned(),
        ValueKind::String(text) => mask_userinfo(text),
        ValueKind::Array(items) => {
            format!(
                "[{}]",
                items
                    .iter()
                    .map(|item| toml_literal(key, item))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
        other => other.to_string(),
    }
}

/// Hides what may be a password or token inside a URL, also inside what was meant to be one.
pub(crate) fn mask_userinfo(text: &str) -> String {
    let masked = match url::Url::parse(text) {
        Ok(mut url) if url.has_host() && (!url.username().is_empty() || url.password().is_some()) => {
            // A broker's token stands where a user's name would.
            let token = url.password().is_none() && ["nats", "tls"].contains(&url.scheme());
            let done = if url.password().is_some() {
                url.set_password(Some(MASK))
            } else if token {
                url.set_username(MASK)
            } else {
                return mask_parameters(text);
            };
            if done.is_ok() {
                url.to_string()
            } else {
                MASK.to_owned()
            }
        }
        Ok(url) if url.has_host() => text.to_owned(),
        _ => match text.rsplit_once('@') {
            // A slip of the pen makes no URL, and still holds a password.
            Some((before, after)) if before.contains(':') => format!("{MASK}@{after}"),
            _ => text.to_owned(),
        },
    };
    mask_parameters(&masked)
}

/// Hides the value of `password=…` and its kin, wherever they stand.
fn mask_parameters(text: &str) -> String {
    let mut masked = text.to_owned();
    for name in ["password=", "passwd=", "token=", "secret=", "api_key="] {
        let mut from = 0;
        while let Some(found) = masked.to_ascii_lowercase()[from..].find(name) {
            let start = from + found + name.len();
            let end = masked[start..]
                .find(['&', ' ', '#', ';'])
                .map_or(masked.len(), |length| start + length);
            masked.replace_range(start..end, MASK);
            from = start + MASK.len();
        }
    }
    masked
}

fn toml_literal(key: &str, value: &Value) -> String {
    match &value.kind {
        ValueKind::String(_) => toml::Value::String(shown(key, value)).to_string(),
        _ => shown(key, value),
    }
}

/// The settings in force as TOML, each with where it came from.
pub fn render(settings: &Settings) -> String {
    let mut text = String::new();
    let mut sections: Vec<(&String, &Value)> = settings.root.iter().collect();
    sections.sort_by_key(|(name, _)| *name);
    for (name, value) in sections {
        render_table(&mut text, name, value);
    }
    text
}

/// The settings in force, for programs: each setting is an object of `value` and `source`, inside its section.
pub fn render_json(settings: &Settings) -> serde_json::Value {
    let sections = settings.root.iter();
    sections
        .map(|(name, value)| (name.clone(), entry_json(name, value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn entry_json(key: &str, value: &Value) -> serde_json::Value {
    match &value.kind {
        ValueKind::Table(table) => table
            .iter()
            .map(|(name, value)| (name.clone(), entry_json(&format!("{key}.{name}"), value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => serde_json::json!({ "value": value_json(key, value), "source": origin_of(value) }),
    }
}

fn value_json(key: &str, value: &Value) -> serde_json::Value {
    match &value.kind {
        ValueKind::Array(items) => items.iter().map(|item| value_json(key, item)).collect(),
        _ if is_secret(key) => shown(key, value).into(),
        ValueKind::Boolean(flag) => (*flag).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::U64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::Nil => serde_json::Value::Null,
        _ => shown(key, value).into(),
    }
}

fn render_table(text: &mut String, path: &str, value: &Value) {
    let ValueKind::Table(table) = &value.kind else {
        return;
    };
    let mut entries: Vec<(&String, &Value)> = table.iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    let (tables, leaves): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|(_, value)| matches!(value.kind, ValueKind::Table(_)));
    if !leaves.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[{path}]");
        for (name, value) in leaves {
            let key = format!("{path}.{name}");
            let _ = writeln!(
                text,
                "{name} = {}  # {}",
                toml_literal(&key, value),
                origin_of(value)
            );
        }
        text.push('\n');
    }
    for (name, value) in tables {
        let quoted = if name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        {
            name.clone()
        } else {
            format!("{name:?}")
        };
        render_table(text, &format!("{path}.{quoted}"), value);
    }
}
