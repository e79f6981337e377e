//! The payments of a day, before anybody looks at them: who pays what, where, when, and whether it is fraud.

use super::draw::{Draws, Stream};
use super::drift::Drift;
use super::options::SimulateOptions;
use super::population::{Customer, Population};

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;
/// Scenario 1: a payment above this is fraud, cents.
const AMOUNT_LIMIT: f64 = 22_000.0;
/// Scenario 2: so many terminals a day are compromised, for so many days.
const TERMINALS_A_DAY: u32 = 2;
const TERMINAL_DAYS: u32 = 28;
/// Scenario 3: so many cards a day leak, for so many days; a third of their payments are the thief's, five times
/// as high.
const CARDS_A_DAY: u32 = 3;
const CARD_DAYS: u32 = 14;
const CARD_SHARE: f64 = 1.0 / 3.0;
const CARD_FACTOR: i64 = 5;
/// The planted pattern: payments that try a card, their seconds of the night, and their cents.
const PATTERN_PAYMENTS: u32 = 12;
const PATTERN_BEGIN: (f64, f64) = (3_600.0, 14_400.0);
const PATTERN_SECONDS: f64 = 3_600.0;
const PATTERN_CENTS: (f64, f64) = (50.0, 200.0);

/// Why a payment is fraud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Scenario {
    /// It is not.
    #[default]
    Genuine,
    /// 1: the amount is above 220.
    Amount,
    /// 2: the terminal is compromised.
    Terminal,
    /// 3: the card has leaked.
    Card,
    /// 4: the planted pattern, stolen numbers being tried.
    Pattern,
}

impl Scenario {
    /// The number used in files, 0 to 4.
    pub const fn code(self) -> i8 {
        match self {
            Self::Genuine => 0,
            Self::Amount => 1,
            Self::Terminal => 2,
            Self::Card => 3,
            Self::Pattern => 4,
        }
    }
}

/// A payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Payment {
    /// Seconds since the midnight at which everything began.
    pub(super) second: i64,
    pub(super) customer: u32,
    /// Number of the payment among the customer's of the day: makes the order definite.
    number: u32,
    pub(super) terminal: u32,
    pub(super) cents: i64,
    pub(super) scenario: Scenario,
}

/// Makes days of payments, one after the other.
#[derive(Debug)]
pub(super) struct Payments {
    seed: u64,
    /// Days before the first that is handed out, from which on drifts count.
    warm_up_days: u32,
    drifts: Vec<Drift>,
    /// Until which day, exclusive, each terminal is compromised.
    terminal_until: Vec<u32>,
    /// Until which day, exclusive, each card is in wrong hands.
    card_until: Vec<u32>,
}

impl Payments {
    pub(super) fn new(options: &SimulateOptions) -> Self {
        Self {
            seed: options.seed,
            warm_up_days: options.warm_up_days,
            drifts: options.drifts.clone(),
            terminal_until: vec![0; options.terminals as usize],
            card_until: vec![0; options.customers as usize],
        }
    }

    /// The payments of the next day since everything began, in order of time. Every day must be asked for, in order.
    pub(super) fn of_day(&mut self, day: u32, population: &Population) -> Vec<Payment> {
        let mut payments = self.wanted(day, population);
        payments.sort_unstable();
        self.commit_fraud(day, &mut payments);
        payments
    }

    /// What people want to pay, and thieves by the planted pattern.
    fn wanted(&self, day: u32, population: &Population) -> Vec<Payment> {
        let mut draws = Draws::new(self.seed, Stream::Payments { day });
        let prices = self.prices(day);
        let mut payments = Vec::new();
        for (customer, about) in (0_u32..).zip(&population.customers) {
            if about.terminals.is_empty() {
                continue;
            }
            for number in 0..draws.poisson(about.payments_mean) {
                let second = draws.normal(DAY as f64 / 2.0, 20_000.0);
                let cents = amount(&mut draws, about, prices);
                let terminal = about.terminals[draws.below(about.terminals.len())];
                // Whoever would pay yesterday or tomorrow does not pay.
                if 0.0 < second && second < DAY as f64 {
                    let second = i64::from(day) * DAY + second as i64;
                    payments.push(Payment {
                        second,
                        customer,
                        number,
                        terminal,
                        cents,
                        scenario: Scenario::Genuine,
                    });
                }
            }
        }
        for (at, drift) in (0_u32..).zip(&self.drifts) {
            if let Drift::FraudPattern { cards, .. } = drift
                && self.in_force(drift, day)
            {
                let draws = Draws::new(self.seed, Stream::Drift { drift: at, day });
                pattern(draws, day, *cards, population, &mut payments);
            }
        }
        payments
    }

    fn in_force(&self, drift: &Drift, day: u32) -> bool {
        day >= self.warm_up_days + drift.day()
    }

    /// What amounts are multiplied by on a day.
    fn prices(&self, day: u32) -> f64 {
        let factors = self.drifts.iter().filter(|drift| self.in_force(drift, day));
        factors
            .map(|drift| {
                if let Drift::AmountShift { factor, .. } = drift {
                    *factor
                } else {
                    1.0
                }
            })
            .product()
    }

    /// Lets terminals and cards fall into wrong hands, and marks what comes of it.
    fn commit_fraud(&mut self, day: u32, payments: &mut [Payment]) {
        let mut draws = Draws::new(self.seed, Stream::Fraud { day });
        for _ in 0..TERMINALS_A_DAY {
            let terminal = draws.below(self.terminal_until.len());
            self.terminal_until[terminal] = day + TERMINAL_DAYS;
        }
        for _ in 0..CARDS_A_DAY {
            let card = draws.below(self.card_until.len());
            self.card_until[card] = day + CARD_DAYS;
        }
        let limit = (AMOUNT_LIMIT * self.prices(day)).round() as i64;
        for payment in payments {
            if payment.scenario == Scenario::Pattern {
                continue;
            }
            // Drawn for every payment, so that no payment's fate hangs on another's.
            let thief = draws.chance(CARD_SHARE);
            if payment.cents > limit {
                payment.scenario = Scenario::Amount;
            }
            if day < self.terminal_until[payment.terminal as usize] {
                payment.scenario = Scenario::Terminal;
            }
            if day < self.card_until[payment.customer as usize] && thief {
                payment.cents *= CARD_FACTOR;
                payment.scenario = Scenario::Card;
            }
        }
    }
}

/// An amount as the customer pays it, cents: normal, and drawn anew when that is negative.
fn amount(draws: &mut Draws, about: &Customer, prices: f64) -> i64 {
    let normal = draws.normal(about.amount_mean, about.amount_sd);
    let units = if normal < 0.0 {
        draws.between(0.0, 2.0 * about.amount_mean)
    } else {
        normal
    };
    (units * prices * 100.0).round() as i64
}

/// A night of the planted pattern.
fn pattern(mut draws: Draws, day: u32, cards: u32, population: &Population, payments: &mut Vec<Payment>) {
    let midnight = i64::from(day) * DAY;
    for _ in 0..cards {
        let customer = draws.below(population.customers.len()) as u32;
        let begin = draws.between(PATTERN_BEGIN.0, PATTERN_BEGIN.1);
        for number in 0..PATTERN_PAYMENTS {
            payments.push(Payment {
                second: midnight + (begin + draws.between(0.0, PATTERN_SECONDS)) as i64,
                customer,
                // After the customer's own payments.
                number: 1_000 + number,
                terminal: draws.below(population.categories.len()) as u32,
                cents: draws.between(PATTERN_CENTS.0, PATTERN_CENTS.1).round() as i64,
                scenario: Scenario::Pattern,
            });
        }
    }
}
