//! The known name that a mistyped one most likely meant.

/// The candidate that differs least, letter case aside, if it is close enough to be a slip.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), candidate))
        .min()
        .filter(|(distance, _)| *distance <= (wanted.chars().count() / 3).max(1))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Edits between two texts: insertions, deletions and substitutions.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_letter_case_are_recognised_and_strangers_are_not() {
        let known = ["TX_AMOUNT", "tx_time", "is_fraud"];
        assert_eq!(nearest("tx_amount", known).as_deref(), Some("TX_AMOUNT"));
        assert_eq!(nearest("tx_tiem", known).as_deref(), Some("tx_time"));
        assert_eq!(nearest("isfraud", known).as_deref(), Some("is_fraud"));
        assert_eq!(nearest("customer", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
