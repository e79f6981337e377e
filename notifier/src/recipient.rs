//! Whom an alert goes to, and through which channel.

use lettre::Address;
use schemas::AlertId;
use schemas::EventId;
use schemas::events::Channel;

use crate::text::mask_address;

/// Label of the one webhook in tables and events; the URL itself is a secret.
pub const WEBHOOK_LABEL: &str = "webhook";

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recipient {
    /// A mail address.
    Email(Address),
    /// The Slack webhook, hence its channel.
    Slack,
}

impl Recipient {
    /// Through which channel.
    pub const fn channel(&self) -> Channel {
        match self {
            Self::Email(_) => Channel::Email,
            Self::Slack => Channel::Slack,
        }
    }

    /// As kept in the notifier's own table.
    pub fn stored(&self) -> String {
        match self {
            Self::Email(address) => address.to_string(),
            Self::Slack => WEBHOOK_LABEL.to_owned(),
        }
    }

    /// As events and logs may show it.
    pub fn masked(&self) -> String {
        match self {
            Self::Email(address) => mask_address(address.as_ref()),
            Self::Slack => WEBHOOK_LABEL.to_owned(),
        }
    }

    /// Reads what [`Recipient::stored`] wrote.
    pub fn from_stored(channel: &str, stored: &str) -> Option<Self> {
        match channel {
            "email" => stored.parse().ok().map(Self::Email),
            "slack" => Some(Self::Slack),
            _ => None,
        }
    }

    /// The alert's id: the same event and recipient give the same one.
    pub fn alert_id(&self, event_id: EventId) -> AlertId {
        AlertId::derived(
            event_id.uuid(),
            &format!("alert/{}/{}", self.channel().as_str(), self.stored()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_reads_back_and_what_is_shown_is_masked() {
        let email = Recipient::Email("alice@example.org".parse().unwrap());
        for recipient in [email.clone(), Recipient::Slack] {
            let read = Recipient::from_stored(recipient.channel().as_str(), &recipient.stored());
            assert_eq!(read.as_ref(), Some(&recipient));
        }
        assert_eq!(email.masked(), "a***@example.org");
        assert_eq!(Recipient::from_stored("pager", "x"), None);
        assert_eq!(Recipient::from_stored("email", "no address"), None);
    }

    #[test]
    fn each_event_and_recipient_has_its_own_id() {
        let (one, two) = (EventId::fresh(), EventId::fresh());
        let alice = Recipient::Email("alice@example.org".parse().unwrap());
        let bob = Recipient::Email("bob@example.org".parse().unwrap());
        assert_eq!(alice.alert_id(one), alice.alert_id(one));
        assert_ne!(alice.alert_id(one), alice.alert_id(two));
        assert_ne!(alice.alert_id(one), bob.alert_id(one));
        assert_ne!(alice.alert_id(one), Recipient::Slack.alert_id(one));
    }
}
