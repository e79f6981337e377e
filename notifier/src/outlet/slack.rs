//! A Slack incoming webhook: one POST, plain-text answers, no message id.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde_json::Value;

use super::{SendError, chain};
use crate::text::line;

/// Longest wait that a webhook may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// Wait when it asks for one and does not say how long; Slack allows about one message a second.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// One webhook, hence one channel.
#[derive(Clone)]
pub struct SlackOutlet {
    client: reqwest::Client,
    webhook: url::Url,
}

impl SlackOutlet {
    /// A client for one webhook.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(webhook: url::Url, timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = chassis::outgoing::client(timeout).build()?;
        Ok(Self { client, webhook })
    }

    /// Posts one message.
    ///
    /// # Errors
    /// [`SendError`]: 429 is throttled, other 4xx are permanent, 5xx and silence are transient.
    pub async fn send(&self, message: &Value) -> Result<(), SendError> {
        let response = self
            .client
            .post(self.webhook.clone())
            .json(message)
            .send()
            .await
            // The URL is the secret, so it is taken out of every error.
            .map_err(|error| SendError::Transient(chain(&error.without_url())))?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let text = line(&response.text().await.unwrap_or_default(), 200);
        judge(status, retry_after.as_deref(), &text)
    }
}

fn judge(status: StatusCode, retry_after: Option<&str>, text: &str) -> Result<(), SendError> {
    let reason = format!(
        "webhook answered {}: {}",
        status.as_u16(),
        if text.is_empty() { "nothing" } else { text }
    );
    if status == StatusCode::TOO_MANY_REQUESTS {
        let asked = retry_after
            .and_then(|text| text.trim().parse().ok())
            .map(Duration::from_secs);
        let after = asked.unwrap_or(RETRY_AFTER_DEFAULT).min(RETRY_AFTER_MAX);
        return Err(SendError::Throttled { after, reason });
    }
    if status.is_success() {
        // A page in between may say 200 too; Slack says exactly "ok".
        return if text == "ok" {
            Ok(())
        } else {
            Err(SendError::Transient(reason))
        };
    }
    // A webhook that was taken away or replaced, and a proxy that wants a login: once the setting is mended, what waited is told.
    let to_be_mended = status.is_redirection()
        || [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
            StatusCode::REQUEST_TIMEOUT,
        ]
        .contains(&status);
    if status.is_server_error() || to_be_mended {
        return Err(SendError::Transient(reason));
    }
    Err(SendError::Permanent(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_as_slack_means_them() {
        let permanent = |status: u16, text: &str| {
            let answer = judge(StatusCode::from_u16(status).unwrap(), None, text);
            matches!(answer, Err(SendError::Permanent(_)))
        };
        let transient = |status: u16, text: &str| {
            let answer = judge(StatusCode::from_u16(status).unwrap(), None, text);
            matches!(answer, Err(SendError::Transient(_)))
        };
        assert_eq!(judge(StatusCode::OK, None, "ok"), Ok(()));
        assert!(transient(200, "<html>log in</html>"));
        for (status, text) in [
            (400, "invalid_payload"),
            (400, "no_text"),
            (410, "channel_is_archived"),
        ] {
            assert!(permanent(status, text), "{status}");
        }
        for status in [302, 401, 403, 404, 408, 500, 502, 503, 504] {
            assert!(transient(status, "rollup_error"), "{status}");
        }
    }

    #[test]
    fn the_wait_asked_for_is_kept_within_bounds() {
        let wait = |header| match judge(StatusCode::TOO_MANY_REQUESTS, header, "rate_limited") {
            Err(SendError::Throttled { after, .. }) => after.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([wait(Some("30")), wait(Some(" 7 ")), wait(None)], [30, 7, 1]);
        assert_eq!(
            [
                wait(Some("Wed, 21 Oct 2026 07:28:00 GMT")),
                wait(Some("999999")),
                wait(Some("-1"))
            ],
            [1, 3600, 1]
        );
    }
}
