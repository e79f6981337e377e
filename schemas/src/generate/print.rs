//! Prints JSON the same way whatever order its maps have: what names a thing first, the rest by name.

use serde_json::Value;

/// These come first, in this order; every other key follows by name.
const FIRST: &[&str] = &[
    "asyncapi",
    "$schema",
    "$id",
    "id",
    "name",
    "title",
    "version",
    "description",
    "summary",
    "action",
    "address",
    "$ref",
    "type",
    "format",
    "const",
    "info",
    "defaultContentType",
    "servers",
    "channels",
    "channel",
    "operations",
    "components",
    "headers",
    "payload",
    "required",
    "properties",
];
/// These come last.
const LAST: &[&str] = &["examples", "$defs"];

/// Indented text with a newline at the end.
pub(super) fn to_text(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text.push('\n');
    text
}

fn rank(key: &str) -> (usize, &str) {
    let first = FIRST.iter().position(|known| *known == key);
    let last = LAST
        .iter()
        .position(|known| *known == key)
        .map(|at| FIRST.len() + 1 + at);
    (first.or(last).unwrap_or(FIRST.len()), key)
}

fn write(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut entries: Vec<(&String, &Value)> = fields.iter().collect();
            entries.sort_by(|(left, _), (right, _)| rank(left).cmp(&rank(right)));
            let lines = entries
                .into_iter()
                .map(|(key, value)| (Some(key.as_str()), value));
            write_block('{', '}', lines, depth, text);
        }
        Value::Array(items) if !items.is_empty() => {
            write_block('[', ']', items.iter().map(|item| (None, item)), depth, text);
        }
        leaf => text.push_str(&leaf.to_string()),
    }
}

fn write_block<'a>(
    open: char,
    close: char,
    lines: impl Iterator<Item = (Option<&'a str>, &'a Value)>,
    depth: usize,
    text: &mut String,
) {
    let indent = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    text.push(open);
    for (index, (key, value)) in lines.enumerate() {
        if index > 0 {
            text.push(',');
        }
        indent(text, depth + 1);
        if let Some(key) = key {
            text.push_str(&Value::from(key).to_string());
            text.push_str(": ");
        }
        write(value, depth + 1, text);
    }
    indent(text, depth);
    text.push(close);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::to_text;

    #[test]
    fn names_come_first_definitions_last_and_the_text_reads_back() {
        let value = json!({ "$defs": {}, "zebra": [1.5, null], "apple": "\"\n", "title": "T", "$id": "i", "empty": [] });
        let text = to_text(&value);
        let order = ["$id", "title", "apple", "empty", "zebra", "$defs"].map(|key| text.find(key).unwrap());
        assert!(order.is_sorted(), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(text.ends_with("}\n"));
    }
}
