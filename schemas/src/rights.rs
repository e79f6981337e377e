//! Who may do what at the broker: derived from [`crate::flow`], so that a new reader has its rights and nobody keeps old ones.
//!
//! Everything that is not listed is denied. A service publishes what it says, answers for its own consumer, and hears only
//! its own inbox; it can neither make nor delete streams and consumers. What each grant is for stands beside it.

use crate::EventKind;
use crate::flow::{PARTIES, STREAM, STREAM_ADVISORY, STREAM_DEAD, VIGIE};

/// The identity of whoever uses the operator's command.
pub const OPERATOR: &str = "operator";
/// The only identity that may make streams and consumers.
pub const PROVISIONER: &str = "provisioner";

/// Whoever listens to the public contract and says nothing.
pub const READER: &str = "reader";

/// What an identity may publish and hear; everything else is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Name of the identity: of the service, [`OPERATOR`], [`PROVISIONER`] or [`READER`].
    pub identity: &'static str,
    /// Subjects and patterns that it may publish.
    pub publish: Vec<String>,
    /// Exceptions from them.
    pub publish_denied: Vec<String>,
    /// Subjects and patterns that it may subscribe to.
    pub subscribe: Vec<String>,
}

/// The rights of every identity: the services in the order of the loop, the operator, the provisioner, the reader.
pub fn all() -> Vec<Rights> {
    let mut rights: Vec<Rights> = services().map(service).collect();
    rights.push(operator());
    rights.push(provisioner());
    rights.push(reader());
    rights
}

/// The services, which is everybody but the operator.
pub fn services() -> impl Iterator<Item = &'static str> {
    PARTIES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != VIGIE)
}

fn service(name: &'static str) -> Rights {
    let said: Vec<EventKind> = said_by(name);
    let mut publish = subjects(&said);
    publish.push(format!("dead.{name}.>"));
    // The sweep parks, in the reader's name, what no offer helps.
    let mut readers: Vec<&str> = said.iter().flat_map(|kind| kind.readers()).copied().collect();
    readers.sort_unstable();
    readers.dedup();
    publish.extend(
        readers
            .iter()
            .filter(|reader| **reader != name)
            .map(|reader| format!("dead.{reader}.deliveries_exhausted")),
    );
    // At the start and after each connect: are the streams what was asked, and where do they end?
    publish.extend(streams().map(|stream| api(&format!("STREAM.INFO.{stream}"))));
    // Does an event without a receipt still wait at the broker for its reader?
    publish.extend(
        readers
            .iter()
            .map(|reader| api(&format!("CONSUMER.INFO.{STREAM}.{reader}"))),
    );
    if !EventKind::read_by(name).is_empty() {
        let own = api(&format!("CONSUMER.INFO.{STREAM}.{name}"));
        if !publish.contains(&own) {
            publish.push(own);
        }
        publish.push(api(&format!("CONSUMER.MSG.NEXT.{STREAM}.{name}")));
        // What the client library cannot read is looked at as JSON. Every event may be read by anyone.
        publish.push(api(&format!("STREAM.MSG.GET.{STREAM}")));
        // Today's form, and the one that newer servers are announced to use.
        publish.push(format!("$JS.ACK.{STREAM}.{name}.>"));
        publish.push(format!("$JS.ACK.*.*.{STREAM}.{name}.>"));
    }
    Rights {
        identity: name,
        publish,
        publish_denied: Vec::new(),
        subscribe: vec![inbox(name)],
    }
}

/// An operator asks, follows events with readers of the moment, and does not touch the services' own consumers.
fn operator() -> Rights {
    let mut publish = subjects(&said_by(VIGIE));
    publish.extend(streams().map(|stream| api(&format!("STREAM.INFO.{stream}"))));
    let mut publish_denied = Vec::new();
    for verb in ["CREATE", "INFO", "MSG.NEXT", "DELETE"] {
        for stream in [STREAM, STREAM_DEAD] {
            publish.push(api(&format!("CONSUMER.{verb}.{stream}.*")));
        }
        if verb != "INFO" {
            publish_denied.extend(services().map(|name| api(&format!("CONSUMER.{verb}.{STREAM}.{name}"))));
        }
    }
    Rights {
        identity: OPERATOR,
        publish,
        publish_denied,
        subscribe: vec![inbox(OPERATOR)],
    }
}

/// Makes streams and consumers as they are asked for, and reads and says nothing.
fn provisioner() -> Rights {
    let mut publish = Vec::new();
    for verb in ["INFO", "CREATE", "UPDATE"] {
        publish.extend(streams().map(|stream| api(&format!("STREAM.{verb}.{stream}"))));
    }
    for verb in ["INFO", "CREATE", "DELETE"] {
        let readers = services().filter(|name| !EventKind::read_by(name).is_empty());
        publish.extend(readers.map(|name| api(&format!("CONSUMER.{verb}.{STREAM}.{name}"))));
    }
    Rights {
        identity: PROVISIONER,
        publish,
        publish_denied: Vec::new(),
        subscribe: vec![inbox(PROVISIONER)],
    }
}

/// What `nats sub drift.detected` needs, and nothing else.
fn reader() -> Rights {
    let public = EventKind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.is_public_contract());
    Rights {
        identity: READER,
        publish: Vec::new(),
        publish_denied: Vec::new(),
        subscribe: subjects(&public.collect::<Vec<_>>()),
    }
}

fn said_by(party: &str) -> Vec<EventKind> {
    let kinds = EventKind::ALL.iter().copied();
    kinds.filter(|kind| kind.publishers().contains(&party)).collect()
}

fn subjects(kinds: &[EventKind]) -> Vec<String> {
    kinds.iter().map(|kind| kind.subject().to_owned()).collect()
}

fn streams() -> impl Iterator<Item = &'static str> {
    [STREAM, STREAM_DEAD, STREAM_ADVISORY].into_iter()
}

fn api(rest: &str) -> String {
    format!("$JS.API.{rest}")
}

fn inbox(identity: &str) -> String {
    format!("_INBOX_{identity}.>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_publisher_may_publish_what_it_says_and_nobody_else_may() {
        for kind in EventKind::ALL {
            let may: Vec<&str> = all()
                .iter()
                .filter(|rights| rights.publish.iter().any(|subject| subject == kind.subject()))
                .map(|rights| {
                    if rights.identity == OPERATOR {
                        VIGIE
                    } else {
                        rights.identity
                    }
                })
                .collect();
            let mut publishers = kind.publishers().to_vec();
            publishers.sort_by_key(|name| PARTIES.iter().position(|(party, _)| party == name));
            assert_eq!(may, publishers, "{kind}");
        }
    }

    #[test]
    fn no_identity_may_do_everything_or_hear_another() {
        for rights in all() {
            if rights.identity == READER {
                assert_eq!(
                    rights.subscribe,
                    ["drift.detected", "retrain.requested", "model.validated"]
                );
                assert!(rights.publish.is_empty());
                continue;
            }
            assert_eq!(rights.subscribe, [format!("_INBOX_{}.>", rights.identity)]);
            for subject in &rights.publish {
                let begins_plainly = !subject.starts_with(['*', '>']);
                assert!(
                    begins_plainly && subject != "$JS.API.>",
                    "{}: {subject}",
                    rights.identity
                );
            }
            let mut once = rights.publish.clone();
            once.sort();
            once.dedup();
            assert_eq!(
                once.len(),
                rights.publish.len(),
                "{}: a grant twice",
                rights.identity
            );
        }
    }
}
