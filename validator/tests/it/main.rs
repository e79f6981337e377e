//! The validator against real servers: what passes, what fails and why, once each.

mod artifacts;
mod hostile;
mod process;
mod source;
mod support;
mod verdicts;
