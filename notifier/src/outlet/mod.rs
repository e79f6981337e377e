//! The ways out: SMTP, a folder of mails, a Slack webhook. Each says how a failure should be taken.

pub mod mailbox;
pub mod slack;
pub mod smtp;

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lettre::message::Mailbox;
use schemas::AlertId;

use self::mailbox::MailboxOutlet;
use self::slack::SlackOutlet;
use self::smtp::SmtpOutlet;
use crate::alert::Alert;
use crate::breaker::Seen;
use crate::config::{MailRoute, NotifySettings};
use crate::recipient::Recipient;
use crate::render;

/// A message did not get out; the variant tells the caller what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The other side said no for good: a wrong password, an unknown recipient, a dead webhook.
    #[error("refused for good: {0}")]
    Permanent(String),
    /// The other side may recover: try again later.
    #[error("not reachable now: {0}")]
    Transient(String),
    /// The other side works, and does not take this message now, as with a mailbox that is full: try again later.
    #[error("not taken now: {0}")]
    Deferred(String),
    /// Nobody was asked, and nobody will be: there is no way out any more, or no message to be made.
    #[error("cannot be sent: {0}")]
    Impossible(String),
    /// The other side asked to wait.
    #[error("asked to wait {} s: {reason}", after.as_secs())]
    Throttled {
        /// For how long.
        after: Duration,
        /// What it said.
        reason: String,
    },
}

impl SendError {
    /// What it says of the way out; nothing when nobody was asked.
    pub fn seen(&self) -> Option<Seen> {
        match self {
            Self::Permanent(_) | Self::Deferred(_) => Some(Seen::Answered),
            Self::Throttled { after, .. } => Some(Seen::Busy(*after)),
            Self::Transient(_) => Some(Seen::Failed),
            Self::Impossible(_) => None,
        }
    }
}

/// One alert to one recipient.
#[derive(Debug, Clone)]
pub struct Letter<'a> {
    /// Shown in the message; makes the `Message-ID`.
    pub alert_id: AlertId,
    /// What to tell.
    pub alert: &'a Alert,
    /// Whom.
    pub recipient: &'a Recipient,
    /// The first alert of the same loop to the same recipient.
    pub thread: Option<AlertId>,
    /// When it was written.
    pub written_at: DateTime<Utc>,
}

enum MailOutlet {
    Smtp(SmtpOutlet),
    Mailbox(MailboxOutlet),
}

/// Every configured way out.
pub struct Outlets {
    from: Mailbox,
    mail: Option<MailOutlet>,
    slack: Option<SlackOutlet>,
}

impl Outlets {
    /// Prepares the configured ones; connects to nothing yet.
    ///
    /// # Errors
    /// A CA file that cannot be read, or TLS that cannot be set up.
    pub fn new(settings: &NotifySettings) -> anyhow::Result<Self> {
        let mail = match &settings.mail {
            Some(MailRoute::Smtp(smtp)) => Some(MailOutlet::Smtp(
                SmtpOutlet::new(smtp).context("settings `notify.smtp`")?,
            )),
            Some(MailRoute::Mailbox(folder)) => Some(MailOutlet::Mailbox(MailboxOutlet::new(folder))),
            None => None,
        };
        let slack = match &settings.slack {
            Some(webhook) => Some(
                SlackOutlet::new(webhook.clone(), settings.timeout).context("prepare the Slack client")?,
            ),
            None => None,
        };
        Ok(Self {
            from: settings.from.clone(),
            mail,
            slack,
        })
    }

    /// Sends one alert to one recipient.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, letter: &Letter<'_>) -> Result<(), SendError> {
        match (letter.recipient, &self.mail, &self.slack) {
            (Recipient::Email(address), Some(outlet), _) => {
                let envelope = render::mail::Envelope {
                    alert_id: letter.alert_id,
                    from: self.from.clone(),
                    to: Mailbox::new(None, address.clone()),
                    written_at: letter.written_at,
                    thread: letter.thread,
                };
                let mail = render::mail::mail(letter.alert, &envelope)
                    .map_err(|error| SendError::Impossible(chain(&error)))?;
                match outlet {
                    MailOutlet::Smtp(outlet) => outlet.send(mail).await,
                    MailOutlet::Mailbox(outlet) => outlet.write(&file_name(letter), &mail).await.map(drop),
                }
            }
            (Recipient::Slack, _, Some(outlet)) => {
                outlet
                    .send(&render::slack::message(letter.alert, letter.alert_id))
                    .await
            }
            (Recipient::Email(_), None, _) => Err(SendError::Impossible(
                "no mail server is configured any more (`notify.smtp.host`)".to_owned(),
            )),
            (Recipient::Slack, _, None) => Err(SendError::Impossible(
                "no webhook is configured any more (`notify.slack_webhook`)".to_owned(),
            )),
        }
    }
}

/// Sorts by the instant judged; ends in the alert's id, so that a mail written twice is there once.
fn file_name(letter: &Letter<'_>) -> String {
    let instant = letter.alert.as_of.format("%Y-%m-%dT%H-%MZ");
    format!("{instant}_{}_{}", letter.alert.severity.word(), letter.alert_id)
}

/// The whole chain of an error on one line, because the outermost rarely says what happened.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    crate::text::line(&text, 400)
}
