//! Text of others in a line, or in a row, of ours.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value;

/// The text as PostgreSQL can keep it: it takes every character but zero.
pub fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The same for every text, and every name, inside of a document.
pub fn storable_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(storable(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(storable_json).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (storable(&name).into_owned(), storable_json(value)))
            .collect(),
        other => other,
    }
}

/// The text on one line, with everything visible that would move a cursor, break the line or turn its direction.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if c.is_control() || is_invisible(c) => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "{}", c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Marks that turn the direction of what follows, break lines, or have no width.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}'
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{storable, storable_json, visible};

    #[test]
    fn what_postgres_cannot_keep_is_replaced_wherever_it_stands() {
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
        let found = storable_json(json!({ "a\0": ["\0", 1, { "b": "\0c" }], "d": null }));
        assert_eq!(
            found,
            json!({ "a\u{fffd}": ["\u{fffd}", 1, { "b": "\u{fffd}c" }], "d": null })
        );
    }

    #[test]
    fn nothing_moves_the_cursor_or_turns_the_line() {
        assert_eq!(visible("a\u{1b}[2Jb\r\nc"), "a\\u{1b}[2Jb\\r\\nc");
        assert_eq!(visible("\u{202e}cod.exe\u{0}"), "\\u{202e}cod.exe\\u{0}");
        assert_eq!(
            visible("Prüfung 100 % 漢字 \u{1f600}"),
            "Prüfung 100 % 漢字 \u{1f600}"
        );
    }
}
