//! Settings `[notify]`: who is told, and through what.

use std::path::PathBuf;
use std::time::Duration;

use chassis::transport::is_loopback;
use chassis::{Alias, Reader, Section, outgoing};
use lettre::Address;
use lettre::message::Mailbox;

use crate::outlet::smtp::{Encryption, Login, SmtpSettings};
use crate::recipient::Recipient;
use crate::retry::RetryPolicy;

/// Names that the replaced pipelines used.
pub const ALIASES: &[Alias] = &[
    Alias {
        name: "ALERT_EMAIL_RECIPIENTS",
        key: "notify.recipients",
    },
    Alias {
        name: "ALERT_EMAIL_FROM",
        key: "notify.from",
    },
    Alias {
        name: "ALERT_EMAIL_SMTP_HOST",
        key: "notify.smtp.host",
    },
    Alias {
        name: "ALERT_EMAIL_SMTP_PORT",
        key: "notify.smtp.port",
    },
    Alias {
        name: "ALERT_EMAIL_USERNAME",
        key: "notify.smtp.username",
    },
    Alias {
        name: "ALERT_EMAIL_PASSWORD",
        key: "notify.smtp.password",
    },
    // The last of two names for one setting wins.
    Alias {
        name: "SLACK_WEBHOOK_URL",
        key: "notify.slack_webhook",
    },
    Alias {
        name: "ALERT_SLACK_WEBHOOK",
        key: "notify.slack_webhook",
    },
];

/// A delivery takes a few of these; liveness must not take a slow mail server for a stuck loop.
const TIMEOUT_MAX: Duration = Duration::from_secs(25);
/// Who reads the mailbox folder when nobody is named.
const MAILBOX_READER: &str = "operators@localhost";

/// Checked settings.
#[derive(Debug, Clone)]
pub struct NotifySettings {
    /// Everyone who is told, each once.
    pub recipients: Vec<Recipient>,
    /// Sender of mails.
    pub from: Mailbox,
    /// How mail leaves.
    pub mail: Option<MailRoute>,
    /// The webhook.
    pub slack: Option<url::Url>,
    /// Bound of connecting and of each answer.
    pub timeout: Duration,
    /// How patient delivery is.
    pub retry: RetryPolicy,
    /// Pause between two attempts while a way out is away.
    pub probe_every: Duration,
}

/// How mail leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailRoute {
    /// Through a server.
    Smtp(Box<SmtpSettings>),
    /// Into a folder.
    Mailbox(PathBuf),
}

impl NotifySettings {
    /// Reads `[notify]`; mistakes are collected by the reader.
    pub fn read(reader: &Reader<'_>) -> Self {
        let section = reader.section("notify");
        let timeout = section.duration("timeout", Duration::from_secs(1)..=TIMEOUT_MAX);
        let mail = mail_route(&section, &reader.section("notify.smtp"), timeout);
        let slack = section.optional_url("slack_webhook", &["https", "http"]);
        outgoing::check_address(&section, "slack_webhook", slack.as_ref());
        if slack
            .as_ref()
            .is_some_and(|url| url.scheme() == "http" && !url.host_str().is_some_and(is_loopback))
        {
            section.problem(
                "slack_webhook",
                "an `https://` URL; `http://` only to a loopback address",
            );
        }
        let mut recipients: Vec<Recipient> = addresses(&section, mail.as_ref())
            .into_iter()
            .map(Recipient::Email)
            .collect();
        recipients.extend(slack.as_ref().map(|_| Recipient::Slack));
        recipients.sort();
        recipients.dedup();
        let backoff_first = section.duration(
            "backoff_first",
            Duration::from_millis(100)..=Duration::from_hours(1),
        );
        let backoff_max = section.duration("backoff_max", Duration::from_secs(1)..=Duration::from_hours(24));
        if backoff_max < backoff_first {
            section.problem(
                "backoff_max",
                "a duration not shorter than `notify.backoff_first`",
            );
        }
        Self {
            recipients,
            from: section
                .parsed(
                    "from",
                    "a mail address, e.g. `Vigie <vigie@bank.example>`",
                    str::parse,
                )
                .unwrap_or_else(placeholder_sender),
            mail,
            slack,
            timeout,
            retry: RetryPolicy {
                attempts_max: u32::try_from(section.integer("attempts_max", 1..=50)).unwrap_or(1),
                backoff_first,
                backoff_max,
            },
            probe_every: section.duration("probe_every", Duration::from_secs(1)..=Duration::from_mins(10)),
        }
    }
}

/// Never used: the reader refuses to go on after a mistake.
fn placeholder_sender() -> Mailbox {
    let address = Address::new("vigie", "localhost").unwrap_or_else(|_| unreachable!("a constant address"));
    Mailbox::new(None, address)
}

fn addresses(section: &Section<'_>, mail: Option<&MailRoute>) -> Vec<Address> {
    let named = section.list("recipients");
    let mut addresses = Vec::new();
    for text in &named {
        match text.parse::<Mailbox>() {
            Ok(mailbox) => addresses.push(mailbox.email),
            Err(_) => section.problem("recipients", format!("mail addresses only; {text:?} is none")),
        }
    }
    match mail {
        None if !named.is_empty() => section.problem(
            "recipients",
            "no recipients, or a way to reach them: set `notify.smtp.host`, or `notify.mailbox` for development",
        ),
        Some(MailRoute::Smtp(_)) if named.is_empty() => {
            section.problem("recipients", "at least one mail address, because `notify.smtp.host` is set");
        }
        Some(MailRoute::Mailbox(_)) if named.is_empty() => {
            addresses.extend(MAILBOX_READER.parse::<Address>());
        }
        None | Some(_) => {}
    }
    addresses
}

fn mail_route(section: &Section<'_>, smtp: &Section<'_>, timeout: Duration) -> Option<MailRoute> {
    let Some(host) = smtp.optional_text("host") else {
        return section
            .optional_text("mailbox")
            .map(|folder| MailRoute::Mailbox(folder.into()));
    };
    let encryption = smtp.choice(
        "encryption",
        &[
            ("starttls", Encryption::Starttls),
            ("tls", Encryption::Tls),
            ("none", Encryption::None),
        ],
    );
    if encryption == Encryption::None && !is_loopback(&host) {
        smtp.problem(
            "encryption",
            "`starttls` or `tls`: plain text is accepted only for a loopback address",
        );
    }
    let login = match (smtp.optional_text("username"), smtp.optional_secret("password")) {
        (Some(username), Some(password)) => Some(Login { username, password }),
        (None, None) => None,
        (Some(_), None) => {
            smtp.problem("password", "a password, because `notify.smtp.username` is set");
            None
        }
        (None, Some(_)) => {
            smtp.problem("username", "a user name, because `notify.smtp.password` is set");
            None
        }
    };
    Some(MailRoute::Smtp(Box::new(SmtpSettings {
        host,
        port: u16::try_from(smtp.integer("port", 1..=65_535)).unwrap_or(587),
        encryption,
        login,
        ca_file: smtp.optional_text("ca_file").map(PathBuf::from),
        timeout,
    })))
}
