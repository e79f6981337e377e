//! The trial of faults: the real services as processes, real NATS and PostgreSQL, everything between them broken on purpose,
//! and an auditor who reads what was written down on every side.
//!
//! * [`world`] – servers, lines, peers and the [`fleet`] of services; what they are told stands in [`settings`].
//! * [`canaries`] – a secret in every slot of those settings.
//! * [`producer`] – commits drift events as the monitor would, and writes down which commits were acknowledged.
//! * [`notebook`] – plays what runs on Databricks.
//! * [`nemesis`] – breaks things, drawn from a seed.
//! * [`witness`] – counts how often an event takes effect, where nothing else keeps it single.
//! * [`watch`] – sees whether what has ended changes all the same.
//! * [`auditor`] – the invariants I1 to I12 on tables, stream and ledgers.
//! * [`operator`] – does what a person would do about what is parked.
//! * [`conclude`] – the end of a trial: rest, audit, report.
//! * [`random`], [`crash_points`], [`controls`], [`outage`], [`disk_full`], [`load`] – the trials; [`report`] says what came of one.
//! * [`planted`] – whether the auditor sees what is spoilt on purpose.

pub mod auditor;
pub mod canaries;
pub mod conclude;
pub mod controls;
pub mod crash_points;
pub mod disk_full;
pub mod fleet;
pub mod load;
pub mod nemesis;
pub mod notebook;
pub mod operator;
pub mod outage;
pub mod planted;
pub mod producer;
pub mod random;
pub mod report;
pub mod settings;
pub mod settle;
pub mod watch;
pub mod witness;
pub mod world;
pub mod wrong_clock;
