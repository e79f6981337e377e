//! Stories and trials over the whole system, against real servers. The stories are in `tests/`; [`faults`] is the trial that
//! `cargo xtask faults` runs.

pub mod faults;
