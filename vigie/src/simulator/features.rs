//! Windowed features, in one pass over payments in order of time.
//!
//! Customer windows end with the payment itself: the one of length `w` holds the customer's payments of
//! `(time − w, time]`, this one and earlier ones of the same second included. What needs labels counts whole days
//! before this day, so a payment's own label, and any of its day, is never in it. Amounts are whole cents inside, so
//! sums are exact and no order of adding changes a value.

use std::collections::VecDeque;

use super::DAY;
use super::process::Payment;

/// Numeric features, in the order of the columns.
#[derive(Debug, Clone, Copy)]
pub(super) enum Feature {
    Amount,
    DuringWeekend,
    DuringNight,
    Count1d,
    Average1d,
    Count7d,
    Average7d,
    Count30d,
    Average30d,
    Risk1d,
    Risk7d,
    Risk28d,
    Frauds14d,
    Ratio30d,
}

/// How many numeric features there are.
pub(super) const NUMBER_FEATURES: usize = Feature::Ratio30d as usize + 1;

impl Feature {
    /// The column's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            // Currency units, two decimals.
            Self::Amount => "tx_amount",
            // 1 on Saturday and Sunday, UTC.
            Self::DuringWeekend => "tx_during_weekend",
            // 1 from 00:00 to 06:59:59, UTC.
            Self::DuringNight => "tx_during_night",
            // Payments of the customer in the window, and their mean amount.
            Self::Count1d => "customer_nb_tx_1d",
            Self::Average1d => "customer_avg_amount_1d",
            Self::Count7d => "customer_nb_tx_7d",
            Self::Average7d => "customer_avg_amount_7d",
            Self::Count30d => "customer_nb_tx_30d",
            Self::Average30d => "customer_avg_amount_30d",
            // Share of fraud at the terminal over whole days before this one, 0 without payments.
            Self::Risk1d => "terminal_risk_1d",
            Self::Risk7d => "terminal_risk_7d",
            Self::Risk28d => "terminal_risk_28d",
            // Frauds of the customer in the 14 whole days before this one.
            Self::Frauds14d => "customer_nb_fraud_14d",
            // Amount over the 30-day mean.
            Self::Ratio30d => "tx_amount_ratio_30d",
        }
    }
}

const WINDOWS: [i64; 3] = [DAY, 7 * DAY, 30 * DAY];
const RISK_DAYS: [usize; 3] = [1, 7, 28];
const FRAUD_DAYS: usize = 14;

/// Days after which no window remembers a payment.
pub(super) const MEMORY_DAYS: u32 = 30;

/// What the windows remember.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    customers: Vec<CustomerWindow>,
    terminals: Vec<TerminalDays>,
    fraud_days: Vec<FraudDays>,
    /// Whole days closed so far; today's slot of the rings is `closed % length`.
    closed: usize,
}

#[derive(Debug, Clone, Default)]
struct CustomerWindow {
    /// Time and cents of the payments of the longest window.
    payments: VecDeque<(i64, i64)>,
    /// Per window: how many of the newest payments it holds, and their sum.
    held: [(usize, i64); 3],
}

impl CustomerWindow {
    fn add(&mut self, time: i64, cents: i64) {
        self.payments.push_back((time, cents));
        let all = self.payments.len();
        for (window, (count, sum)) in WINDOWS.iter().zip(&mut self.held) {
            *count += 1;
            *sum += cents;
            while let Some((old_time, old_cents)) = self.payments.get(all - *count)
                && *old_time <= time - window
            {
                *count -= 1;
                *sum -= old_cents;
            }
        }
        let [_, _, (longest, _)] = self.held;
        self.payments.drain(..all - longest);
    }
}

/// Payments and frauds per day at a terminal: a ring of the last 28 whole days, and today.
#[derive(Debug, Clone)]
struct TerminalDays {
    ring: [(u32, u32); RISK_DAYS[2]],
    today: (u32, u32),
    sums: [(u32, u32); 3],
}

/// Frauds per day of a customer: a ring of the last 14 whole days, and today.
#[derive(Debug, Clone)]
struct FraudDays {
    ring: [u32; FRAUD_DAYS],
    today: u32,
    sum: u32,
}

impl Windows {
    /// Windows that remember nothing.
    pub(super) fn new(customers: usize, terminals: usize) -> Self {
        let no_payments = TerminalDays {
            ring: [(0, 0); 28],
            today: (0, 0),
            sums: [(0, 0); 3],
        };
        let no_frauds = FraudDays {
            ring: [0; FRAUD_DAYS],
            today: 0,
            sum: 0,
        };
        Self {
            customers: vec![CustomerWindow::default(); customers],
            terminals: vec![no_payments; terminals],
            fraud_days: vec![no_frauds; customers],
            closed: 0,
        }
    }

    /// Takes the next payment in order of time and gives its features.
    pub(super) fn add(&mut self, payment: &Payment, weekend: bool) -> [f64; NUMBER_FEATURES] {
        let customer = payment.customer as usize;
        let terminal = &mut self.terminals[payment.terminal as usize];
        let frauds = &mut self.fraud_days[customer];
        let window = &mut self.customers[customer];
        window.add(payment.time, payment.cents);
        terminal.today.0 += 1;
        terminal.today.1 += u32::from(payment.is_fraud());
        frauds.today += u32::from(payment.is_fraud());

        let amount = payment.cents as f64 / 100.0;
        let night = payment.time.rem_euclid(DAY) < 7 * 3_600;
        let average = |(count, sum): (usize, i64)| sum as f64 / 100.0 / count as f64;
        let risk = |(all, bad): (u32, u32)| {
            if all == 0 {
                0.0
            } else {
                f64::from(bad) / f64::from(all)
            }
        };
        let mut row = [0.0; NUMBER_FEATURES];
        let mut set = |feature: Feature, value: f64| row[feature as usize] = value;
        set(Feature::Amount, amount);
        set(Feature::DuringWeekend, f64::from(weekend));
        set(Feature::DuringNight, f64::from(night));
        let [day, week, month] = window.held;
        set(Feature::Count1d, day.0 as f64);
        set(Feature::Average1d, average(day));
        set(Feature::Count7d, week.0 as f64);
        set(Feature::Average7d, average(week));
        set(Feature::Count30d, month.0 as f64);
        set(Feature::Average30d, average(month));
        let [day, week, month] = terminal.sums;
        set(Feature::Risk1d, risk(day));
        set(Feature::Risk7d, risk(week));
        set(Feature::Risk28d, risk(month));
        set(Feature::Frauds14d, f64::from(frauds.sum));
        // A month of payments of nothing has no ratio; 1 says "as usual".
        let (count, sum) = window.held[2];
        let ratio = if sum == 0 {
            1.0
        } else {
            payment.cents as f64 * count as f64 / sum as f64
        };
        set(Feature::Ratio30d, ratio);
        row
    }

    /// The day is over: what it held counts from now on.
    pub(super) fn close_day(&mut self) {
        let slot = |back: usize, length: usize| (self.closed + length - back % length) % length;
        for terminal in &mut self.terminals {
            let (all, bad) = std::mem::take(&mut terminal.today);
            for (days, sum) in RISK_DAYS.iter().zip(&mut terminal.sums) {
                let (old_all, old_bad) = terminal.ring[slot(*days, RISK_DAYS[2])];
                *sum = (sum.0 + all - old_all, sum.1 + bad - old_bad);
            }
            terminal.ring[slot(0, RISK_DAYS[2])] = (all, bad);
        }
        for customer in &mut self.fraud_days {
            let today = std::mem::take(&mut customer.today);
            let oldest = &mut customer.ring[slot(0, FRAUD_DAYS)];
            customer.sum = customer.sum + today - *oldest;
            *oldest = today;
        }
        self.closed += 1;
    }
}
