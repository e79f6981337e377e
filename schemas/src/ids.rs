//! Identifiers: each its own type, so that a check cannot be passed for a decision.

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// Namespace of every derived (version 5) identifier of Vigie.
const NAMESPACE: Uuid = Uuid::from_u128(0x5f1d_8d0c_7f0e_4c9b_9a52_1b6f_0c56_e01a);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh, time-ordered id (UUIDv7) for what begins spontaneously.
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id (UUIDv5) of what follows from `cause` under `name`: the same question, the same id.
            pub fn derived(cause: Uuid, name: &str) -> Self {
                let seed = [cause.as_bytes().as_slice(), b"/", name.as_bytes()].concat();
                Self(Uuid::new_v5(&NAMESPACE, &seed))
            }

            /// The id (UUIDv5) of what a key alone names, such as a job and its slot.
            pub fn of_key(key: &str) -> Self {
                Self(Uuid::new_v5(&NAMESPACE, key.as_bytes()))
            }

            /// The id as a UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id!(
    /// One event, globally unique (`ce-id`).
    EventId
);
uuid_id!(
    /// One drift check of one model as of one instant.
    CheckId
);
uuid_id!(
    /// One decision of the retrain-decider.
    DecisionId
);
uuid_id!(
    /// One training job; survives restarts and retries.
    JobId
);
uuid_id!(
    /// One message to one recipient through one channel.
    AlertId
);

/// A name was empty, too long, or held a character that no outlet can carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} must have 1 to {max} characters, none of them a control character, and no space at either end; got {got:?}"
)]
pub struct InvalidName {
    what: &'static str,
    max: usize,
    got: String,
}

fn checked_name(what: &'static str, max: usize, text: String) -> Result<String, InvalidName> {
    let characters = text.chars().count();
    let fits = (1..=max).contains(&characters);
    if fits && text.trim() == text && !text.chars().any(char::is_control) {
        Ok(text)
    } else {
        Err(InvalidName {
            what,
            max,
            got: text.chars().take(80).collect(),
        })
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
        pub struct $name(#[cfg_attr(feature = "generate", schemars(length(min = 1, max = $max)))] String);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// [`InvalidName`] when it is empty, too long, padded, or holds control characters.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                checked_name($what, $max, text.into()).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A monitored model, as named in the settings: 1 to 128 characters, no control characters.
    ModelName,
    "a model name",
    128
);
text_id!(
    /// One trained version of a model: 1 to 50 characters, unique over all models.
    ModelVersion,
    "a model version",
    50
);

/// SHA-256 of an artefact's bytes: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct Sha256Digest(
    #[cfg_attr(feature = "generate", schemars(regex(pattern = "^[0-9a-f]{64}$")))] String,
);

impl Sha256Digest {
    /// Checks and wraps a digest.
    ///
    /// # Errors
    /// [`InvalidName`] unless it is 64 lower-case hexadecimal digits.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let hexadecimal = text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() == 64 && hexadecimal {
            Ok(Self(text))
        } else {
            Err(InvalidName {
                what: "a SHA-256 digest",
                max: 64,
                got: text.chars().take(80).collect(),
            })
        }
    }

    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_repeat_and_depend_on_cause_and_name() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(EventId::derived(one, "a"), EventId::derived(one, "a"));
        assert_ne!(EventId::derived(one, "a"), EventId::derived(two, "a"));
        assert_ne!(EventId::derived(one, "a"), EventId::derived(one, "b"));
        assert_ne!(EventId::fresh(), EventId::fresh());
    }

    #[test]
    fn names_refuse_what_could_break_a_header_and_keep_what_is_merely_odd() {
        for bad in ["", " a", "a ", "a\r\nBcc: x", "a\0", "a\u{7f}", &"x".repeat(129)] {
            assert!(ModelName::new(bad).is_err(), "{bad:?}");
        }
        for odd in [
            "fraud-cards",
            "<img src=x onerror=alert(1)>",
            "<!channel>",
            "'; drop table x; --",
            "نموذج",
            "é",
        ] {
            assert!(ModelName::new(odd).is_ok(), "{odd:?}");
        }
    }

    #[test]
    fn digests_are_exactly_64_lower_case_digits() {
        assert!(Sha256Digest::new("ab".repeat(32)).is_ok());
        assert!(Sha256Digest::new("AB".repeat(32)).is_err());
        assert!(Sha256Digest::new("ab".repeat(31)).is_err());
    }
}
