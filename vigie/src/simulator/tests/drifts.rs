//! What planted drifts change, and what they leave alone.

use super::{days, origins, planted, shown, small};
use crate::simulator::stream::NEW_CATEGORY;
use crate::simulator::{DayBatch, Scenario};

#[test]
fn a_planted_drift_changes_nothing_before_its_day() {
    let plain = days(&small());
    for text in [
        "amount-shift:factor=1.6,day=15",
        "fraud-pattern:cards=3,day=15",
        "category-change:share=0.4,day=15",
        "missing-column:column=customer_avg_amount_7d,share=0.8,day=15",
    ] {
        let drifted = days(&planted(&[text]));
        for (number, (with, without)) in drifted.iter().zip(&plain).enumerate() {
            let same = shown(with) == shown(without);
            assert_eq!(same, number < 15, "{text}, day {number}");
        }
    }
}

#[test]
fn an_amount_shift_multiplies_amounts_and_nothing_else() {
    let (plain, shifted) = (days(&small()), days(&planted(&["amount-shift:factor=2,day=30"])));
    for (without, with) in plain[30..].iter().zip(&shifted[30..]) {
        assert_eq!(
            origins(without),
            origins(with),
            "the same payments, the same frauds"
        );
        let amounts = without
            .numbers("tx_amount")
            .unwrap()
            .iter()
            .zip(with.numbers("tx_amount").unwrap());
        for (was, is) in amounts {
            // Rounded to cents before leaked cards pay five times as much.
            assert!((is - 2.0 * was).abs() < 0.06, "{was} became {is}");
        }
    }
}

#[test]
fn the_fraud_pattern_adds_tiny_payments_at_night_and_leaves_the_other_payments_alone() {
    let (plain, planted) = (days(&small()), days(&planted(&["fraud-pattern:cards=2,day=30"])));
    for (without, with) in plain[30..].iter().zip(&planted[30..]) {
        let scenarios = &origins(with).scenarios;
        let (added, kept): (Vec<usize>, Vec<usize>) =
            (0..with.len()).partition(|at| scenarios[*at] == Scenario::Pattern);
        assert_eq!(added.len(), 24, "12 payments with each of 2 cards");
        let amounts = with.numbers("tx_amount").unwrap();
        let night = with.numbers("tx_during_night").unwrap();
        assert!(
            added
                .iter()
                .all(|at| night[*at] == 1.0 && with.labels[*at] == Some(true))
        );
        assert!(added.iter().all(|at| (0.5..=2.0).contains(&amounts[*at])));
        let seen = |day: &DayBatch, at: usize| {
            let origins = origins(day);
            let amount = day.numbers("tx_amount").unwrap()[at];
            (
                day.times[at],
                origins.customers[at],
                origins.terminals[at],
                amount.to_bits(),
                origins.scenarios[at],
            )
        };
        let kept: Vec<_> = kept.into_iter().map(|at| seen(with, at)).collect();
        let expected: Vec<_> = (0..without.len()).map(|at| seen(without, at)).collect();
        assert_eq!(kept, expected);
    }
}

#[test]
fn a_category_change_moves_about_its_share_of_merchants() {
    let batches = days(&planted(&["category-change:share=0.4,day=20"]));
    let share = |days: &[DayBatch]| {
        let words = || {
            days.iter()
                .flat_map(|day| day.words("merchant_category").unwrap())
        };
        words()
            .filter(|word| word.as_deref() == Some(NEW_CATEGORY))
            .count() as f64
            / words().count() as f64
    };
    assert_eq!(share(&batches[..20]), 0.0);
    assert!(
        (share(&batches[20..]) - 0.4).abs() < 0.1,
        "{}",
        share(&batches[20..])
    );
}

#[test]
fn a_missing_column_loses_its_share_of_values() {
    let texts = [
        "missing-column:column=tx_amount,share=0.3,day=20",
        "missing-column:column=merchant_category,share=1,day=30",
    ];
    let batches = days(&planted(&texts));
    let missing = |days: &[DayBatch]| {
        let values = || days.iter().flat_map(|day| day.numbers("tx_amount").unwrap());
        values().filter(|value| value.is_nan()).count() as f64 / values().count() as f64
    };
    assert_eq!(missing(&batches[..20]), 0.0);
    assert!(
        (missing(&batches[20..]) - 0.3).abs() < 0.04,
        "{}",
        missing(&batches[20..])
    );
    let words = |days: &[DayBatch]| {
        days.iter()
            .flat_map(|day| day.words("merchant_category").unwrap())
            .filter(|word| word.is_some())
            .count()
    };
    assert_eq!(words(&batches[30..]), 0);
    assert!(words(&batches[..30]) > 1_000);
}
