//! The rules of delivery under schedules that no real broker can be asked for. The decisions are the production code's
//! (`chassis::rules`), and what stands in SQL is mirrored (`mirror`) and compared with PostgreSQL elsewhere.

mod broker;
mod kinds;
mod mirror;
mod reader;
mod relay;
mod sweep;
mod world;

use std::time::Instant;

use world::{Figures, Rules, run};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}"))
    })
}

/// Runs schedules from a seed on; the first that breaks a property ends it, with its story.
fn all_hold(seed: u64, count: u64) -> Figures {
    let (mut sum, started) = (Figures::default(), Instant::now());
    for schedule in seed..seed + count {
        match run(schedule, Rules::ALL, false).0 {
            Ok(figures) => sum.add(&figures),
            Err(broken) => {
                let story = run(schedule, Rules::ALL, true).1;
                let lines = usize::try_from(number("VIGIE_SCHEDULES_LINES", 60)).unwrap_or(usize::MAX);
                let tail = story[story.len().saturating_sub(lines)..].join("\n");
                panic!(
                    "schedule {schedule}: `{}` does not hold: {}\n{tail}",
                    broken.property, broken.detail
                );
            }
        }
        let done = schedule - seed + 1;
        if done.is_multiple_of(5_000) {
            let rate = done as f64 / started.elapsed().as_secs_f64();
            eprintln!(
                "{done} of {count} schedules, {rate:.0}/s, {:.0} s left",
                (count - done) as f64 / rate
            );
        }
    }
    sum
}

#[test]
fn every_schedule_ends_with_each_event_done_once() {
    let (seed, count) = (
        number("VIGIE_SCHEDULES_SEED", 1),
        number("VIGIE_SCHEDULES", 2_000),
    );
    let started = Instant::now();
    let sum = all_hold(seed, count);
    println!(
        "schedules\t{count}\tseed\t{seed}\tseconds\t{:.0}\t{sum}",
        started.elapsed().as_secs_f64()
    );
    // A simulation in which nothing happens proves nothing.
    assert!(
        sum.crashes > count && sum.broker_faults > count && sum.events > count * 10,
        "{sum}"
    );
    assert!(
        sum.swept_again > count / 20 && sum.compared_again > count && sum.parked > count / 10,
        "{sum}"
    );
}

/// Without a rule the named property is broken by one of the first schedules.
fn is_missed(rules: Rules, property: &str) {
    let mut others = Vec::new();
    for seed in 1..=10_000 {
        match run(seed, rules, false).0 {
            Err(broken) if broken.property == property => return,
            Err(broken) => others.push(broken.property),
            Ok(_) => {}
        }
    }
    panic!("no schedule breaks `{property}`; broken were {others:?}");
}

#[test]
fn without_the_inbox_effects_are_doubled() {
    let rules = Rules {
        inbox: false,
        ..Rules::ALL
    };
    is_missed(rules, "an event takes effect once");
}

#[test]
fn without_the_sweep_events_are_lost() {
    let rules = Rules {
        sweep: false,
        ..Rules::ALL
    };
    is_missed(rules, "no event is lost");
}

#[test]
fn without_the_comparison_of_brokers_plain_subscribers_miss_events() {
    let rules = Rules {
        epoch: false,
        ..Rules::ALL
    };
    is_missed(rules, "plain subscribers miss nothing");
}

#[test]
fn a_comparison_that_waits_for_no_batch_misses_what_it_was_told() {
    let rules = Rules {
        comparison_waits: false,
        ..Rules::ALL
    };
    is_missed(rules, "plain subscribers miss nothing");
}

#[test]
fn a_stream_made_again_that_is_taken_for_the_old_one_loses_events() {
    let rules = Rules {
        notices_new_streams: false,
        ..Rules::ALL
    };
    is_missed(rules, "plain subscribers miss nothing");
}

#[test]
fn a_stream_that_others_filled_is_noticed_by_looking_again() {
    let rules = Rules {
        compares_again: false,
        ..Rules::ALL
    };
    is_missed(rules, "plain subscribers miss nothing");
}

#[test]
fn a_number_that_is_taken_for_a_message_that_waits_loses_events() {
    let rules = Rules {
        asks_what_waits: false,
        ..Rules::ALL
    };
    is_missed(rules, "no event is lost");
}

#[test]
fn an_event_that_is_parked_without_a_second_look_may_be_done_as_well() {
    let rules = Rules {
        parking_looks_again: false,
        ..Rules::ALL
    };
    is_missed(rules, "done or parked, never both");
}
