//! Stories over the whole system, against real servers.

mod compose;
mod faults;
mod kill;
mod messages;
mod scene;
mod story;
