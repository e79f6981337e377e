//! Each feature against a search through all payments.

use chrono::{DateTime, NaiveDate, TimeDelta, Timelike as _, Utc};
use proptest::prelude::*;

use super::{days, origins};
use crate::simulator::{DayBatch, FeatureValues, LABEL_DELAY, SimulateOptions};

/// A payment as the naive computation sees it.
struct Row {
    time: DateTime<Utc>,
    customer: u32,
    terminal: u32,
    amount: f64,
    fraud: bool,
}

fn rows(batches: &[DayBatch]) -> Vec<Row> {
    let of_day = |day: &DayBatch| -> Vec<Row> {
        let amounts = day.numbers("tx_amount").unwrap().to_vec();
        let origins = origins(day).clone();
        (0..day.len())
            .map(|at| Row {
                time: day.times[at],
                customer: origins.customers[at],
                terminal: origins.terminals[at],
                amount: amounts[at],
                fraud: day.labels[at] == Some(true),
            })
            .collect()
    };
    batches.iter().flat_map(of_day).collect()
}

/// Each feature by searching all payments up to this one, as its description says.
fn naive(rows: &[Row], at: usize, name: &str) -> f64 {
    let this = &rows[at];
    let window = |days: i64| this.time - TimeDelta::days(days);
    let own = |days| {
        rows[..=at]
            .iter()
            .filter(move |row| row.customer == this.customer && row.time > window(days))
    };
    let count = |days| own(days).count() as f64;
    let mean = |days| own(days).map(|row| row.amount).sum::<f64>() / count(days);
    let known = |row: &&Row, days| {
        let known_at = row.time + LABEL_DELAY;
        known_at <= this.time && known_at > window(days)
    };
    let here = |days| {
        rows[..at]
            .iter()
            .filter(move |row| row.terminal == this.terminal && known(row, days))
    };
    let risk = |days| {
        let all = here(days).count();
        if all == 0 {
            0.0
        } else {
            here(days).filter(|row| row.fraud).count() as f64 / all as f64
        }
    };
    match name {
        "tx_amount" => this.amount,
        "tx_during_weekend" => f64::from(u8::from(
            ["Sat", "Sun"].contains(&this.time.format("%a").to_string().as_str()),
        )),
        "tx_during_night" => f64::from(u8::from(this.time.hour() <= 6)),
        "customer_nb_tx_1d" => count(1),
        "customer_nb_tx_7d" => count(7),
        "customer_nb_tx_30d" => count(30),
        "customer_avg_amount_1d" => mean(1),
        "customer_avg_amount_7d" => mean(7),
        "customer_avg_amount_30d" => mean(30),
        "customer_nb_fraud_14d" => rows[..at]
            .iter()
            .filter(|row| row.customer == this.customer && row.fraud && known(row, 14))
            .count() as f64,
        "terminal_nb_tx_1d" => here(1).count() as f64,
        "terminal_nb_tx_7d" => here(7).count() as f64,
        "terminal_nb_tx_28d" => here(28).count() as f64,
        "terminal_risk_1d" => risk(1),
        "terminal_risk_7d" => risk(7),
        "terminal_risk_28d" => risk(28),
        "amount_ratio_30d" => {
            let usual = mean(30);
            if usual > 0.0 { this.amount / usual } else { 1.0 }
        }
        other => panic!("`{other}` has no description"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]
    #[test]
    fn features_are_what_their_descriptions_say_and_never_look_ahead(
        seed in any::<u64>(),
        start_offset in 0_i64..7,
    ) {
        let options = SimulateOptions {
            seed,
            start: NaiveDate::from_ymd_opt(2024, 2, 25).unwrap() + TimeDelta::days(start_offset),
            customers: 12,
            terminals: 300,
            days: 45,
            warm_up_days: 0,
            drifts: vec!["fraud-pattern:cards=1,day=20".parse().unwrap()],
        };
        let batches = days(&options);
        let all = rows(&batches);
        let mut first = 0;
        for day in &batches {
            for feature in &day.features {
                let FeatureValues::Number(values) = &feature.values else { continue };
                for (at, value) in values.iter().enumerate() {
                    let expected = naive(&all, first + at, &feature.name);
                    let close = (value - expected).abs() <= 1e-9 * expected.abs().max(1.0);
                    prop_assert!(close, "{} of row {}: {value}, expected {expected}", feature.name, first + at);
                }
            }
            first += day.len();
        }
    }
}
