//! The validator against real servers: what passes, what fails and why, once each.

mod artifacts;
mod hostile;
mod process;
mod support;
mod verdicts;
