//! What is in force, for `--print-config`, with secrets masked.

use std::fmt::Write as _;

use config::{Value, ValueKind};

use super::layers::{Settings, origin_of};

const MASK: &str = "********";

/// Whether a key's value must never be shown.
fn is_secret(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    ["password", "token", "secret", "webhook", "webhook_url"].iter().any(|word| name.ends_with(word))
}

/// A value as text, masked where it is, or may hold, a secret.
pub(super) fn shown(key: &str, value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) if text.is_empty() => String::new(),
        _ if is_secret(key) => MASK.to_owned(),
        ValueKind::String(text) => mask_userinfo(text),
        ValueKind::Array(items) => {
            format!("[{}]", items.iter().map(|item| toml_literal(key, item)).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Hides the password inside a URL.
pub(crate) fn mask_userinfo(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            if url.set_password(Some(MASK)).is_err() {
                return MASK.to_owned();
            }
            url.to_string()
        }
        _ => text.to_owned(),
    }
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

fn render_table(text: &mut String, path: &str, value: &Value) {
    let ValueKind::Table(table) = &value.kind else { return };
    let mut entries: Vec<(&String, &Value)> = table.iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    let (tables, leaves): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(_, value)| matches!(value.kind, ValueKind::Table(_)));
    if !leaves.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[{path}]");
        for (name, value) in leaves {
            let key = format!("{path}.{name}");
            let _ = writeln!(text, "{name} = {}  # {}", toml_literal(&key, value), origin_of(value));
        }
        text.push('\n');
    }
    for (name, value) in tables {
        let quoted = if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            name.clone()
        } else {
            format!("{name:?}")
        };
        render_table(text, &format!("{path}.{quoted}"), value);
    }
}
