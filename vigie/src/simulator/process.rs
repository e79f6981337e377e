//! The payments of a day, and which of them are fraud.
//!
//! Each customer makes Poisson(mean) payments a day at normal times around noon; what falls outside the day does not
//! happen. Amounts are normal, a negative one is drawn again uniformly from 0 to twice the mean. Frauds:
//!
//! 1. an amount over 220;
//! 2. two terminals a day fall into a fraudster's hands for 28 days, all their payments are fraud;
//! 3. three customers' cards leak a day for 14 days, a third of their payments are five times as large and fraud;
//! 4. only when planted: leaked cards pay small amounts at night, anywhere ([`PlantedDrift::NewFraud`]).

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Normal, Poisson};

use super::drift::PlantedDrift;
use super::population::Population;
use super::{DAY, Purpose, SimulateOptions, generator};

const TIME_MEAN: f64 = 43_200.0;
const TIME_DEVIATION: f64 = 20_000.0;
/// Scenario 1: more than this many cents.
const LARGE_CENTS: i64 = 22_000;
/// Scenario 2: terminals a day, and for how many days.
const TERMINALS_TAKEN: usize = 2;
const TERMINAL_DAYS: u32 = 28;
/// Scenario 3: customers a day, for how many days, share and factor of their frauds.
const CARDS_LEAKED: usize = 3;
const CARD_DAYS: u32 = 14;
const LEAKED_SHARE: f64 = 1.0 / 3.0;
const LEAKED_FACTOR: i64 = 5;
/// Scenario 4: for how many days a card serves, frauds a night, the hours, and cents from and up to.
const NIGHT_CARD_DAYS: u32 = 7;
const NIGHT_PAYMENTS: std::ops::RangeInclusive<u32> = 3..=6;
const NIGHT_SECONDS: std::ops::Range<i64> = 0..5 * 3_600;
const NIGHT_CENTS: std::ops::Range<i64> = 100..1_500;

/// Days before the first one: the longest fraud (28 days) is as frequent as it gets, and the longest memory of it
/// (28 and 30 days) is full.
pub(super) const WARM_UP_DAYS: u32 = TERMINAL_DAYS + super::features::MEMORY_DAYS;

/// A payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payment {
    /// Seconds since 1970, UTC.
    pub(super) time: i64,
    pub(super) customer: u32,
    pub(super) terminal: u32,
    pub(super) cents: i64,
    /// 0 genuine, 1 to 4 as numbered above.
    pub(super) scenario: u8,
}

impl Payment {
    pub(super) fn is_fraud(&self) -> bool {
        self.scenario != 0
    }
}

/// Draws the days, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) population: Population,
    seed: u64,
    /// Midnight of the first day of the warm-up, seconds since 1970.
    begin: i64,
    drifts: Vec<PlantedDrift>,
    /// Per terminal and per customer: the first day, counted with the warm-up, on which it is clean again.
    terminal_taken_until: Vec<u32>,
    card_leaked_until: Vec<u32>,
    /// Per drift, cards of scenario 4: the customer, and the first day on which the card no longer serves.
    night_cards: Vec<Vec<(u32, u32)>>,
    next_day: u32,
}

impl Process {
    pub(super) fn new(options: &SimulateOptions, first_midnight: i64) -> Self {
        Self {
            population: Population::new(options),
            seed: options.seed,
            begin: first_midnight - i64::from(WARM_UP_DAYS) * DAY,
            drifts: options.drifts.clone(),
            terminal_taken_until: vec![0; options.terminals as usize],
            card_leaked_until: vec![0; options.customers as usize],
            night_cards: vec![Vec::new(); options.drifts.len()],
            next_day: 0,
        }
    }

    /// The next day's payments in order of time, warm-up first.
    pub(super) fn next_day(&mut self, payments: &mut Vec<Payment>) {
        let day = self.next_day;
        self.next_day += 1;
        payments.clear();
        self.usual_payments(day, payments);
        if let Some(visible) = day.checked_sub(WARM_UP_DAYS) {
            self.planted_payments(day, visible, payments);
            for drift in &self.drifts {
                if let PlantedDrift::AmountShift { factor, day } = drift
                    && visible >= *day
                {
                    for payment in &mut *payments {
                        payment.cents = (payment.cents as f64 * factor).round() as i64;
                    }
                }
            }
        }
        // Stable: payments of one second keep the order in which they were drawn.
        payments.sort_by_key(|payment| payment.time);
    }

    fn usual_payments(&mut self, day: u32, payments: &mut Vec<Payment>) {
        let mut random = generator(self.seed, Purpose::Payments, day);
        for terminal in picked(&mut random, self.terminal_taken_until.len(), TERMINALS_TAKEN) {
            self.terminal_taken_until[terminal] = day + TERMINAL_DAYS;
        }
        for customer in picked(&mut random, self.card_leaked_until.len(), CARDS_LEAKED) {
            self.card_leaked_until[customer] = day + CARD_DAYS;
        }
        let midnight = self.begin + i64::from(day) * DAY;
        let population = &self.population;
        for (number, customer) in population.customers.iter().enumerate() {
            let terminals = population.terminals_of(customer);
            for _ in 0..poisson(&mut random, customer.payments_mean) {
                let second = normal(&mut random, TIME_MEAN, TIME_DEVIATION).floor() as i64;
                if !(0..DAY).contains(&second) {
                    continue;
                }
                let mean = customer.amount_mean;
                let mut amount = normal(&mut random, mean, mean / 2.0);
                if amount < 0.0 {
                    amount = random.random_range(0.0..2.0 * mean);
                }
                let terminal = terminals[random.random_range(0..terminals.len() as u32) as usize];
                let mut payment = Payment {
                    time: midnight + second,
                    customer: number as u32,
                    terminal,
                    cents: (amount * 100.0).round() as i64,
                    scenario: 0,
                };
                if payment.cents > LARGE_CENTS {
                    payment.scenario = 1;
                }
                if day < self.terminal_taken_until[terminal as usize] {
                    payment.scenario = 2;
                }
                if day < self.card_leaked_until[number] && random.random_bool(LEAKED_SHARE) {
                    payment.cents *= LEAKED_FACTOR;
                    payment.scenario = 3;
                }
                payments.push(payment);
            }
        }
    }

    /// Scenario 4, on days of the stream itself (`visible` counts without the warm-up).
    fn planted_payments(&mut self, day: u32, visible: u32, payments: &mut Vec<Payment>) {
        let midnight = self.begin + i64::from(day) * DAY;
        let customers = self.population.customers.len();
        let terminals = self.terminal_taken_until.len() as u32;
        for (place, (drift, serving)) in self.drifts.iter().zip(&mut self.night_cards).enumerate() {
            let PlantedDrift::NewFraud { cards, day: from } = drift else {
                continue;
            };
            if visible < *from {
                continue;
            }
            let mut random = drift_day(self.seed, place, visible);
            serving.retain(|(_, until)| day < *until);
            let leaked = picked(&mut random, customers, *cards as usize);
            serving.extend(
                leaked
                    .into_iter()
                    .map(|customer| (customer as u32, day + NIGHT_CARD_DAYS)),
            );
            for (customer, _) in serving {
                for _ in 0..random.random_range(NIGHT_PAYMENTS) {
                    payments.push(Payment {
                        time: midnight + random.random_range(NIGHT_SECONDS),
                        customer: *customer,
                        terminal: random.random_range(0..terminals),
                        cents: random.random_range(NIGHT_CENTS),
                        scenario: 4,
                    });
                }
            }
        }
    }
}

/// The generator of a planted drift on a day; the day counts without the warm-up.
pub(super) fn drift_day(seed: u64, place: usize, day: u32) -> ChaCha8Rng {
    generator(seed, Purpose::DriftDay, place as u32 * 10_000 + day)
}

/// Some of `0..of`, each at most once; all of them when there are not so many.
fn picked(random: &mut ChaCha8Rng, of: usize, count: usize) -> Vec<usize> {
    let mut picked = Vec::with_capacity(count);
    while picked.len() < count.min(of) {
        let next = random.random_range(0..of as u32) as usize;
        if !picked.contains(&next) {
            picked.push(next);
        }
    }
    picked
}

fn poisson(random: &mut ChaCha8Rng, mean: f64) -> u32 {
    // A mean of exactly 0 is no distribution to the library, but means "never".
    Poisson::new(mean).map_or(0, |distribution| distribution.sample(random) as u32)
}

/// The deviation is finite, the only thing the library asks for.
fn normal(random: &mut ChaCha8Rng, mean: f64, deviation: f64) -> f64 {
    Normal::new(mean, deviation).map_or(mean, |distribution| distribution.sample(random))
}
