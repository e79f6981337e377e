//! Deaths on request and guards that can be left out: how the trial of faults reaches moments that no signal hits by luck.
//!
//! Every effect passes a named [`boundary`]. A debug build that is asked to by its environment dies or stops there; a release
//! build holds none of this: no environment variable of a production system can switch a guard off.
//!
//! * `VIGIE_TRIAL_CRASH_AT`: `12` dies at the twelfth boundary of the process, `relay.published` at the first of that name,
//!   `relay.published#3` at its third. Dying is `kill -9`: no destructor runs, no buffer is flushed.
//! * `VIGIE_TRIAL_FREEZE_AT`: the same places; the process stops (SIGSTOP) until somebody wakes it.
//! * `VIGIE_TRIAL_RECORD`: a file that takes the place at which the process died or stopped, one line each.
//! * `VIGIE_TRIAL_WITHOUT`: guards left out, separated by commas: `inbox`, `sweep`, `epoch`, `guard`, `token`.

/// What keeps effects single and complete; each can be left out to see that its absence is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Receipts: a second delivery has no effect.
    Inbox,
    /// The anti-entropy sweep.
    Sweep,
    /// The comparison of the broker with what it acknowledged.
    Epoch,
    /// Updates that demand the state and revision that were read.
    State,
    /// The idempotency token that is committed before a run is asked for.
    Token,
}

impl Guard {
    /// All of them, with the words that name them.
    pub const ALL: [(&'static str, Self); 5] = [
        ("inbox", Self::Inbox),
        ("sweep", Self::Sweep),
        ("epoch", Self::Epoch),
        ("guard", Self::State),
        ("token", Self::Token),
    ];
}

/// Passes a boundary between two steps of an effect; does not return when the trial wants the process dead here.
#[inline]
pub fn boundary(name: &'static str) {
    #[cfg(debug_assertions)]
    on_request::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Whether a guard is left out. Never in a release build.
#[inline]
#[must_use]
pub fn without(guard: Guard) -> bool {
    #[cfg(debug_assertions)]
    return on_request::left_out(guard);
    #[cfg(not(debug_assertions))]
    {
        let _ = guard;
        false
    }
}

#[cfg(debug_assertions)]
mod on_request {
    use std::collections::HashMap;
    use std::io::Write as _;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Guard;

    struct Plan {
        crash_at: Option<Place>,
        freeze_at: Option<Place>,
        record: Option<std::path::PathBuf>,
        without: Vec<Guard>,
        passed: Mutex<Passed>,
    }

    #[derive(Default)]
    struct Passed {
        all: u64,
        by_name: HashMap<&'static str, u64>,
    }

    /// `12`, `name` or `name#3`.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) enum Place {
        Nth(u64),
        Named(String, u64),
    }

    impl Place {
        pub(super) fn parse(text: &str) -> Option<Self> {
            if let Ok(number) = text.parse() {
                return Some(Self::Nth(number));
            }
            let (name, times) = text.split_once('#').unwrap_or((text, "1"));
            let times = times.parse().ok()?;
            (!name.is_empty()).then(|| Self::Named(name.to_owned(), times))
        }

        fn is_here(&self, name: &str, all: u64, of_name: u64) -> bool {
            match self {
                Self::Nth(number) => *number == all,
                Self::Named(wanted, times) => wanted == name && *times == of_name,
            }
        }
    }

    fn plan() -> &'static Plan {
        static PLAN: OnceLock<Plan> = OnceLock::new();
        PLAN.get_or_init(|| {
            let text = |key: &str| std::env::var(key).ok().filter(|text| !text.is_empty());
            let place = |key: &str| text(key).and_then(|text| Place::parse(&text));
            let without = text("VIGIE_TRIAL_WITHOUT").unwrap_or_default();
            Plan {
                crash_at: place("VIGIE_TRIAL_CRASH_AT"),
                freeze_at: place("VIGIE_TRIAL_FREEZE_AT"),
                record: text("VIGIE_TRIAL_RECORD").map(Into::into),
                without: Guard::ALL
                    .into_iter()
                    .filter(|(word, _)| without.split(',').any(|named| named.trim() == *word))
                    .map(|(_, guard)| guard)
                    .collect(),
                passed: Mutex::default(),
            }
        })
    }

    pub(super) fn left_out(guard: Guard) -> bool {
        plan().without.contains(&guard)
    }

    pub(super) fn pass(name: &'static str) {
        let plan = plan();
        if plan.crash_at.is_none() && plan.freeze_at.is_none() {
            return;
        }
        let (all, of_name) = {
            let mut passed = plan.passed.lock().unwrap_or_else(PoisonError::into_inner);
            passed.all += 1;
            let all = passed.all;
            let of_name = passed.by_name.entry(name).or_default();
            *of_name += 1;
            (all, *of_name)
        };
        let here = |place: &Option<Place>| {
            place
                .as_ref()
                .is_some_and(|place| place.is_here(name, all, of_name))
        };
        if here(&plan.crash_at) {
            record(plan, "died", name, all);
            let _gone = kill_process(getpid(), Signal::KILL);
            std::process::abort();
        }
        if here(&plan.freeze_at) {
            record(plan, "stopped", name, all);
            let _woken = kill_process(getpid(), Signal::STOP);
        }
    }

    fn record(plan: &Plan, what: &str, name: &str, all: u64) {
        let Some(path) = &plan.record else { return };
        let line = format!("{what} {name} {all}\n");
        let file = std::fs::File::options().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("the trial cannot write `{}`: {error}", path.display());
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::on_request::Place;

    #[test]
    fn places_are_numbers_names_or_times_of_a_name() {
        for (text, expected) in [
            ("12", Some(Place::Nth(12))),
            ("relay.marked", Some(Place::Named("relay.marked".to_owned(), 1))),
            ("relay.marked#3", Some(Place::Named("relay.marked".to_owned(), 3))),
            ("relay.marked#x", None),
            ("#3", None),
            ("", None),
        ] {
            assert_eq!(Place::parse(text), expected, "{text}");
        }
    }
}
