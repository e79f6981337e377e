//! The features of each payment, computed in one pass in order of time.
//!
//! A payment's features use the payment itself, older payments, and labels known by then: nothing later.

use chrono::Datelike as _;

use super::columns::{CATEGORY, COLUMNS};
use super::options::{LABEL_DELAY, SimulateOptions};
use super::payments::{DAY, Payment, Scenario};
use super::windows::{Reach, Totals, Windows};

const fn reach(delay: i64, days: i64) -> Reach {
    Reach {
        delay,
        width: days * DAY,
    }
}

/// Seconds until a label is known.
const KNOWN_AFTER: i64 = LABEL_DELAY.num_seconds();
/// Windows of a customer's amounts.
const SPENDING: [Reach; 3] = [reach(0, 1), reach(0, 7), reach(0, 30)];
/// Window of a customer's known frauds.
const VICTIM: [Reach; 1] = [reach(KNOWN_AFTER, 14)];
/// Windows of a terminal's known labels.
const TERMINAL: [Reach; 3] = [
    reach(KNOWN_AFTER, 1),
    reach(KNOWN_AFTER, 7),
    reach(KNOWN_AFTER, 28),
];

/// Numeric features of a payment, in the order of [`COLUMNS`] without the category.
pub(super) const NUMBERS: usize = COLUMNS.len() - 1;
const _: () = assert!(CATEGORY == NUMBERS, "the category comes last");

/// What is remembered of everybody.
#[derive(Debug)]
pub(super) struct Features {
    /// Weekday of the day on which everything began, 0 is Monday.
    weekday: i64,
    spending: Vec<Windows<3>>,
    frauds_of_customer: Vec<Windows<1>>,
    labels_of_terminal: Vec<Windows<3>>,
}

impl Features {
    pub(super) fn new(options: &SimulateOptions) -> Self {
        Self {
            weekday: i64::from(options.begin().weekday().num_days_from_monday()),
            spending: vec![Windows::default(); options.customers as usize],
            frauds_of_customer: vec![Windows::default(); options.customers as usize],
            labels_of_terminal: vec![Windows::default(); options.terminals as usize],
        }
    }

    /// The features of the next payment.
    pub(super) fn of(&mut self, payment: &Payment) -> [f64; NUMBERS] {
        let now = payment.second;
        let fraud = payment.scenario != Scenario::Genuine;
        let amount = units(payment.cents as f64);

        let spending = &mut self.spending[payment.customer as usize];
        spending.push(now, payment.cents);
        let spent = spending.at(now, &SPENDING);
        let mean_amount = |window: Totals| window.mean().map_or(0.0, units);

        let frauds = &mut self.frauds_of_customer[payment.customer as usize];
        let [known_frauds] = frauds.at(now, &VICTIM);
        let labels = &mut self.labels_of_terminal[payment.terminal as usize];
        let known = labels.at(now, &TERMINAL);
        let risk = |window: Totals| window.mean().unwrap_or(0.0);
        if fraud {
            frauds.push(now, 1);
        }
        labels.push(now, i64::from(fraud));

        let usual = mean_amount(spent[2]);
        let ratio = if usual > 0.0 { amount / usual } else { 1.0 };
        [
            amount,
            flag((now / DAY + self.weekday) % 7 >= 5),
            flag(now % DAY < 7 * 3_600),
            f64::from(spent[0].count),
            f64::from(spent[1].count),
            f64::from(spent[2].count),
            mean_amount(spent[0]),
            mean_amount(spent[1]),
            mean_amount(spent[2]),
            f64::from(known_frauds.count),
            f64::from(known[0].count),
            f64::from(known[1].count),
            f64::from(known[2].count),
            risk(known[0]),
            risk(known[1]),
            risk(known[2]),
            ratio,
        ]
    }
}

fn units(cents: f64) -> f64 {
    cents / 100.0
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}
