//! A whole mail: headers that thread and cannot be forged, a text part and an HTML part.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::Message;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};
use schemas::AlertId;

use super::{html::html, text::text};
use crate::alert::Alert;

/// What the envelope and the headers need besides the alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The alert's id: makes the `Message-ID`, so a mail sent twice is recognised as one.
    pub alert_id: AlertId,
    /// Sender.
    pub from: Mailbox,
    /// The one recipient.
    pub to: Mailbox,
    /// When the alert was written, UTC.
    pub written_at: DateTime<Utc>,
    /// The first alert of the same loop to the same person, to which this one is an answer.
    pub thread: Option<AlertId>,
}

/// A mail could not be written; no retry can help.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// A header would hold a line break or another control character.
    #[error("header `{header}` would hold a control character: {value:?}")]
    UnsafeHeader {
        /// Name of the header.
        header: &'static str,
        /// What it would have held.
        value: String,
    },
    /// The mail library refused.
    #[error("mail cannot be built")]
    Build(#[from] lettre::error::Error),
}

/// Writes the mail. The same arguments give the same bytes.
///
/// # Errors
/// [`MailError::UnsafeHeader`] when data would break out of a header, [`MailError::Build`] when lettre refuses.
pub fn mail(alert: &Alert, envelope: &Envelope) -> Result<Message, MailError> {
    let subject = alert.subject();
    refuse_control("Subject", &subject)?;
    let own_id = message_id(envelope.alert_id, &envelope.from);
    let mut builder = Message::builder()
        .from(envelope.from.clone())
        .to(envelope.to.clone())
        .date(SystemTime::from(envelope.written_at))
        .message_id(Some(own_id))
        .subject(subject)
        // RFC 3834: answering machines keep quiet.
        .raw_header(plain_header("Auto-Submitted", "auto-generated"));
    if let Some(first) = envelope.thread.filter(|first| *first != envelope.alert_id) {
        let first = message_id(first, &envelope.from);
        builder = builder.in_reply_to(first.clone()).references(first);
    }
    // Quoted-printable never holds "=_", so no body can forge the boundary.
    let parts = MultiPart::alternative()
        .boundary(format!("=_vigie_{}", envelope.alert_id))
        .singlepart(part(ContentType::TEXT_PLAIN, text(alert, envelope.alert_id))?)
        .singlepart(part(ContentType::TEXT_HTML, html(alert, envelope.alert_id))?);
    Ok(builder.multipart(parts)?)
}

/// `<alert id@sender's domain>`.
fn message_id(alert_id: AlertId, from: &Mailbox) -> String {
    format!("<{alert_id}@{}>", from.email.domain())
}

fn plain_header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn part(content_type: ContentType, content: String) -> Result<SinglePart, MailError> {
    let body = Body::new_with_encoding(content, ContentTransferEncoding::QuotedPrintable).map_err(|_| {
        MailError::UnsafeHeader {
            header: "Content-Transfer-Encoding",
            value: String::new(),
        }
    })?;
    Ok(SinglePart::builder().header(content_type).body(body))
}

fn refuse_control(header: &'static str, value: &str) -> Result<(), MailError> {
    if value.chars().any(char::is_control) {
        return Err(MailError::UnsafeHeader {
            header,
            value: value.to_owned(),
        });
    }
    Ok(())
}
