//! An alert becomes what a channel carries: a mail of text and HTML, or Slack blocks. Pure.

pub mod bar;
pub mod html;
pub mod mail;
pub mod slack;
pub mod text;

/// The name people see as the sender's product.
pub(crate) const PRODUCT: &str = "Vigie";
