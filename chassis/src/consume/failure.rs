//! What goes wrong with a delivery, and what that means for it.

use crate::db::is_collision;
use crate::dead_letter::Class;
use crate::patience::NoAnswer;

/// What the consumer must do about an event that could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The world may recover: roll back and offer it again with back-off.
    #[error("{0:#}")]
    Transient(anyhow::Error),
    /// No retry can help: park it.
    #[error("{reason}")]
    Permanent {
        /// Under which class.
        class: Class,
        /// Why, in words.
        reason: String,
    },
}

impl HandleError {
    /// No retry can help, for a reason of the handler's own.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self::Permanent {
            class: Class::HandlerPermanent,
            reason: reason.into(),
        }
    }

    /// The event is about a model that the settings do not name.
    pub fn unknown_model(model: &schemas::ModelName) -> Self {
        Self::Permanent {
            class: Class::UnknownModel,
            reason: format!(
                "model `{model}` is not in the settings; add it and offer the message again: `vigie dlq list`"
            ),
        }
    }
}

impl From<sqlx::Error> for HandleError {
    fn from(error: sqlx::Error) -> Self {
        Self::Transient(error.into())
    }
}

impl From<anyhow::Error> for HandleError {
    fn from(error: anyhow::Error) -> Self {
        Self::Transient(error)
    }
}

/// Why an attempt at a delivery took no effect, or may have taken none.
pub(super) enum Failure {
    /// The handler, or the database under it, said so.
    Handle(HandleError),
    /// Another transaction of ours was in the way: repeat it at once.
    Collision(anyhow::Error),
    /// The connection died during the commit: nobody knows.
    CommitUnknown(anyhow::Error),
}

impl From<HandleError> for Failure {
    fn from(error: HandleError) -> Self {
        Self::Handle(error)
    }
}

/// A panic as an error.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    anyhow::anyhow!("the handler panicked: {}", text.unwrap_or("without a word"))
}

/// What an error of the database is to a delivery.
pub(super) fn classify(error: sqlx::Error) -> Failure {
    let error = anyhow::Error::from(error);
    if is_collision(&error) {
        Failure::Collision(error)
    } else {
        Failure::Handle(HandleError::Transient(error))
    }
}

/// Whether the database refuses the data itself, such as a text with a NUL: it will refuse it the next time too.
pub(super) fn is_unstorable(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<sqlx::Error>())
        .filter_map(sqlx::Error::as_database_error)
        .any(|error| error.code().is_some_and(|code| code.starts_with("22")))
}

/// Whether the database was away, shutting down, out of connections, memory or disk, took no writes, or let us not in or not do what
/// we may: nothing that the message has caused.
pub(super) fn is_outage(error: &anyhow::Error) -> bool {
    error.is::<NoAnswer>()
        || error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<sqlx::Error>())
            .any(|error| match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => true,
                sqlx::Error::Database(database) => database.code().is_some_and(|code| is_outage_code(&code)),
                _ => false,
            })
}

/// Connection exceptions, a refused login, too many connections, a server that goes down or comes up; one that takes no writes,
/// rights that were taken away, and a transaction that stood still for too long, as that of a process that was frozen.
fn is_outage_code(code: &str) -> bool {
    ["08", "28", "53", "57P"]
        .iter()
        .any(|class| code.starts_with(class))
        || ["25006", "25P03", "42501"].contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_message_has_caused_is_an_outage() {
        let outages = [
            "08006", "28P01", "28000", "53100", "53300", "57P01", "57P03", "25006", "25P03", "42501",
        ];
        for code in outages {
            assert!(is_outage_code(code), "{code}");
        }
        // The message's own fault, a collision, a statement that was too slow.
        for code in ["22021", "23505", "40001", "40P01", "57014", "42P01"] {
            assert!(!is_outage_code(code), "{code}");
        }
        let wrapped = anyhow::Error::from(sqlx::Error::PoolTimedOut).context("handle");
        assert!(is_outage(&wrapped) && !is_outage(&anyhow::anyhow!("handle")));
    }
}
