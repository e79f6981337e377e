//! Text from other people becomes one harmless line.
//!
//! Names of models and features, reasons of back ends and file paths may hold anything. Before they reach a
//! person they lose line breaks, control characters and the invisible characters that reorder or hide text.

/// One line of at most `max` characters, trimmed; a longer one ends in `…`.
///
/// Runs of white space and control characters become one space. Characters that are invisible or change the
/// direction of what follows become `U+FFFD`, so that a name cannot pretend to be another.
pub fn line(text: &str, max: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(max * 4));
    let mut count = 0;
    let mut gap = false;
    for character in text.chars() {
        if character.is_whitespace() || character.is_control() {
            gap = !shown.is_empty();
            continue;
        }
        let needed = 1 + usize::from(gap);
        if count + needed > max {
            cut(&mut shown, count, max);
            return shown;
        }
        if gap {
            shown.push(' ');
            gap = false;
        }
        shown.push(if deceives(character) {
            char::REPLACEMENT_CHARACTER
        } else {
            character
        });
        count += needed;
    }
    shown
}

fn cut(shown: &mut String, count: usize, max: usize) {
    if max == 0 {
        return;
    }
    if count == max {
        shown.pop();
    }
    shown.push('…');
}

/// Zero-width, soft hyphen, bidirectional controls, interlinear and tag characters.
const fn deceives(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A word that a POSIX shell takes literally, for commands that people copy from a message.
pub fn shell_word(text: &str) -> String {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '+' | '@' | '%');
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// An address as audits may show it: `alice@example.org` becomes `a***@example.org`.
pub fn mask_address(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => {
            let first: String = local.chars().take(1).collect();
            format!("{first}***@{domain}")
        }
        None => "***".to_owned(),
    }
}

/// A share as a percentage with the digits that matter: `0.0085` becomes `0.85 %`.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    let digits = if value.abs() >= 10.0 { 1 } else { 2 };
    format!("{value:.digits$} %")
}

/// A relative change with its sign: `0.5` becomes `+50 %`.
pub fn signed_percent(change: f64) -> String {
    format!("{:+.0} %", change * 100.0)
}

/// A count with a thin grouping that every font has: `1234567` becomes `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_breaks_no_tricks_and_a_bound() {
        let cases = [
            ("plain", 10, "plain"),
            ("  two\r\n\tlines \0 ", 20, "two lines"),
            ("exactly ten", 11, "exactly ten"),
            ("exactly ten", 10, "exactly t…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
            ("a\u{202e}b\u{200b}c", 9, "a\u{fffd}b\u{fffd}c"),
            ("a\u{2028}b", 9, "a b"),
            ("", 5, ""),
        ];
        for (text, max, expected) in cases {
            assert_eq!(line(text, max), expected, "{text:?} at {max}");
        }
    }

    #[test]
    fn copied_commands_stay_one_word() {
        assert_eq!(shell_word("fraud-cards"), "fraud-cards");
        assert_eq!(shell_word("2026-01-18T09:00:00Z"), "2026-01-18T09:00:00Z");
        assert_eq!(shell_word("it's; rm -rf /"), r"'it'\''s; rm -rf /'");
        assert_eq!(shell_word("--config=x"), "'--config=x'");
        assert_eq!(shell_word("$(id)"), "'$(id)'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn addresses_are_masked_down_to_one_letter_and_the_domain() {
        assert_eq!(mask_address("alice@example.org"), "a***@example.org");
        assert_eq!(mask_address("é@example.org"), "é***@example.org");
        assert_eq!(mask_address("\"a@b\"@example.org"), "\"***@example.org");
        assert_eq!(mask_address("nobody"), "***");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(percent(0.0085), "0.85 %");
        assert_eq!(percent(0.791), "79.1 %");
        assert_eq!(signed_percent(0.5), "+50 %");
        assert_eq!(signed_percent(-0.6), "-60 %");
        assert_eq!(
            [count(0), count(999), count(1_000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_input_breaks_out_of_its_line(text in "\\PC*|(.|\\n){0,60}", max in 0_usize..40) {
            let shown = line(&text, max);
            proptest::prop_assert!(shown.chars().count() <= max);
            proptest::prop_assert!(!shown.chars().any(|c| c.is_control() || deceives(c)));
            proptest::prop_assert_eq!(line(&shown, max), shown);
        }
    }
}
