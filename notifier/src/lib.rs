//! Events become mail and Slack messages: each event and recipient once.
//!
//! * [`decide`] – event → alert, or why nobody is told (pure).
//! * [`alert`] – what a person is told, before anyone knows through which channel.
//! * [`recipient`], [`config`] – who is told, and the settings that say so.
//! * [`handle`] – the shell: an event becomes rows in the transaction of its receipt.
//! * [`deliver`], [`retry`] – the loop that claims a row, sends it and records the end; what follows a failure (pure).
//! * [`breaker`] – a way out that is away is met by an attempt now and then (pure).
//! * [`render`] – an alert as mail (text and HTML) or Slack blocks (pure).
//! * [`outlet`] – SMTP, a folder of mails, a Slack webhook; how each failure is to be taken.
//! * [`store`] – the only file with SQL.
//! * [`text`] – text from other people becomes one harmless line.

pub mod alert;
pub mod breaker;
pub mod config;
pub mod decide;
pub mod deliver;
pub mod handle;
pub mod metrics;
pub mod outlet;
pub mod recipient;
pub mod render;
pub mod retry;
mod service;
pub mod store;
pub mod text;

pub use handle::KINDS as SUBSCRIPTION;
pub use service::Notifier;
