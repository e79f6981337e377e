//! A secret in every slot of the settings. None may ever be seen in what the services write, keep or say.

use std::fmt::Write as _;

/// Password of PostgreSQL; whoever comes over loopback is trusted whatever it is.
pub const DATABASE: &str = "canary-database-3b9a61";
/// Password of the source.
pub const SOURCE: &str = "canary-source-77d0e4";
/// Password of NATS; without accounts the server takes any.
pub const NATS: &str = "canary-nats-c41f08";
/// Token of MLflow; the peer takes any.
pub const MLFLOW: &str = "canary-mlflow-90be2d";

/// The same address with user `vigie` and this password.
pub fn with_password(url: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let at = rest.split_once('@').map_or(rest, |(_, at)| at);
    format!("{scheme}://vigie:{password}@{at}")
}

/// What must not be seen.
#[derive(Debug, Clone)]
pub struct Canaries(Vec<String>);

impl Canaries {
    /// Those above, and those that a peer compares.
    pub fn new(of_peers: impl IntoIterator<Item = String>) -> Self {
        let ours = [DATABASE, SOURCE, NATS, MLFLOW].map(str::to_owned);
        Self(ours.into_iter().chain(of_peers).collect())
    }

    /// Whether a text holds one.
    pub fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret))
    }

    /// Patterns of SQL's `like` for them, as text and as PostgreSQL shows bytes.
    pub fn patterns(&self) -> Vec<String> {
        let hex = |secret: &String| {
            secret.bytes().fold(String::new(), |mut text, byte| {
                // Writing to a text cannot fail.
                let _infallible = write!(text, "{byte:02x}");
                text
            })
        };
        let shown = self.0.iter().cloned().chain(self.0.iter().map(hex));
        shown.map(|secret| format!("%{secret}%")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_stands_in_the_address_and_is_found_as_text_and_as_bytes() {
        let led = with_password("postgres://vigie@127.0.0.1:5432/vigie", DATABASE);
        assert_eq!(led, format!("postgres://vigie:{DATABASE}@127.0.0.1:5432/vigie"));
        assert_eq!(
            with_password("nats://127.0.0.1:4222", "p"),
            "nats://vigie:p@127.0.0.1:4222"
        );
        let canaries = Canaries::new(["ab".to_owned()]);
        assert!(canaries.are_in(&format!("connect to {led}: refused")));
        assert!(!canaries.are_in("connect to postgres://vigie:***@127.0.0.1"));
        let patterns = canaries.patterns();
        assert!(patterns.contains(&"%ab%".to_owned()) && patterns.contains(&"%6162%".to_owned()));
    }
}
