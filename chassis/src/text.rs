//! Text of others in a line of ours.

use std::fmt::Write as _;

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
    use super::visible;

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
