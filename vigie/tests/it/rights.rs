//! The whole matrix of identities and subjects, tried at a real broker. What is expected is written here by hand: the code that
//! makes the permissions is not asked.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use local_stack::TestEnv;
use nkeys::KeyPair;
use schemas::EventKind;
use vigie::provision::nats;

const MONITOR: &str = "drift-monitor";
const DECIDER: &str = "retrain-decider";
const BRIDGE: &str = "trainer-bridge";
const VALIDATOR: &str = "validator";
const NOTIFIER: &str = "notifier";
const OPERATOR: &str = "operator";
const PROVISIONER: &str = "provisioner";
const READER: &str = "reader";

const EVERYBODY: [&str; 8] = [
    MONITOR,
    DECIDER,
    BRIDGE,
    VALIDATOR,
    NOTIFIER,
    OPERATOR,
    PROVISIONER,
    READER,
];
const SERVICES: [&str; 5] = [MONITOR, DECIDER, BRIDGE, VALIDATOR, NOTIFIER];
const NOBODY: &[&str] = &[];

/// Subject, and who may.
type Row = (String, Vec<&'static str>);

fn row(subject: impl Into<String>, who: &[&'static str]) -> Row {
    (subject.into(), who.to_vec())
}

/// Who says which event.
const EVENTS: &[(&str, &str)] = &[
    ("drift.check.requested", OPERATOR),
    ("drift.checked", MONITOR),
    ("drift.detected", MONITOR),
    ("retrain.asked", OPERATOR),
    ("retrain.requested", DECIDER),
    ("retrain.declined", DECIDER),
    ("training.started", BRIDGE),
    ("training.failed", BRIDGE),
    ("model.trained", BRIDGE),
    ("model.validated", VALIDATOR),
    ("model.promoted", BRIDGE),
    ("promotion.refused", BRIDGE),
    ("alert.sent", NOTIFIER),
    ("alert.failed", NOTIFIER),
];

/// The services whose events each service must receive: their sweeps ask where its consumer stands, and park in its name what
/// no offer helps.
const HEARS: &[(&str, &[&str])] = &[
    (MONITOR, &[BRIDGE]),
    (DECIDER, &[MONITOR, BRIDGE, VALIDATOR]),
    (BRIDGE, &[DECIDER, VALIDATOR]),
    (VALIDATOR, &[BRIDGE]),
    (NOTIFIER, &[MONITOR, DECIDER, BRIDGE, VALIDATOR]),
];

fn may_publish() -> Vec<Row> {
    let mut rows: Vec<Row> = EVENTS
        .iter()
        .map(|(subject, who)| row(*subject, &[*who]))
        .collect();
    for subject in [
        "drift.forged",
        "model.promoted.now",
        "orders.new",
        "dead",
        "dead.everybody.handler_permanent",
        "_INBOX.anybody",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.ACCOUNT.VIGIE.CONNZ",
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.VIGIE.notifier",
        "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.VIGIE.notifier",
        "$JS.API.INFO",
        "$JS.API.ACCOUNT.PURGE.VIGIE",
        "$JS.API.META.LEADER.STEPDOWN",
        "$JS.API.SERVER.REMOVE",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.TEMPLATE.CREATE.x",
    ] {
        rows.push(row(subject, NOBODY));
    }
    for stream in ["VIGIE", "VIGIE_DEAD", "VIGIE_ADVISORY"] {
        let all_but_reader: Vec<&str> = EVERYBODY.into_iter().filter(|who| *who != READER).collect();
        rows.push(row(format!("$JS.API.STREAM.INFO.{stream}"), &all_but_reader));
        for verb in ["CREATE", "UPDATE"] {
            rows.push(row(format!("$JS.API.STREAM.{verb}.{stream}"), &[PROVISIONER]));
        }
        for verb in [
            "STREAM.DELETE",
            "STREAM.PURGE",
            "STREAM.MSG.DELETE",
            "STREAM.SNAPSHOT",
            "STREAM.RESTORE",
            "STREAM.PEER.REMOVE",
            "STREAM.LEADER.STEPDOWN",
            "DIRECT.GET",
            "CONSUMER.NAMES",
            "CONSUMER.LIST",
            "CONSUMER.CREATE",
        ] {
            rows.push(row(format!("$JS.API.{verb}.{stream}"), NOBODY));
        }
        let who: &[&str] = if stream == "VIGIE" { &SERVICES } else { NOBODY };
        rows.push(row(format!("$JS.API.STREAM.MSG.GET.{stream}"), who));
        // A reader of the moment, such as `vigie events tail` has.
        let who: &[&str] = if stream == "VIGIE_ADVISORY" {
            NOBODY
        } else {
            &[OPERATOR]
        };
        for verb in ["CREATE", "INFO", "MSG.NEXT", "DELETE"] {
            rows.push(row(format!("$JS.API.CONSUMER.{verb}.{stream}.operator-1"), who));
        }
    }
    for verb in ["INFO", "CREATE", "UPDATE", "DELETE"] {
        rows.push(row(format!("$JS.API.STREAM.{verb}.OTHER"), NOBODY));
    }
    rows.push(row("$JS.API.DIRECT.GET.VIGIE.drift.detected", NOBODY));
    for (service, heard) in HEARS {
        rows.extend(about_one(service, heard));
    }
    rows
}

/// What is about one service: its dead letters, its consumer, its answers, its inbox.
fn about_one(service: &'static str, heard: &[&'static str]) -> Vec<Row> {
    let with = |more: &[&'static str]| [&[service], more].concat();
    let mut rows = vec![
        row(format!("dead.{service}.handler_permanent"), &[service]),
        row(format!("dead.{service}.deliveries_exhausted"), &with(heard)),
        row(
            format!("$JS.API.CONSUMER.INFO.VIGIE.{service}"),
            &with(&[heard, &[OPERATOR, PROVISIONER]].concat()),
        ),
        row(format!("$JS.API.CONSUMER.MSG.NEXT.VIGIE.{service}"), &[service]),
        row(format!("$JS.API.CONSUMER.CREATE.VIGIE.{service}"), &[PROVISIONER]),
        row(format!("$JS.API.CONSUMER.DELETE.VIGIE.{service}"), &[PROVISIONER]),
        row(format!("$JS.ACK.VIGIE.{service}.1.7.7.1.0"), &[service]),
        row(
            format!("$JS.ACK.hub.hash.VIGIE.{service}.1.7.7.1.0.x"),
            &[service],
        ),
        row(
            format!("$JS.API.CONSUMER.MSG.NEXT.VIGIE_ADVISORY.{service}"),
            NOBODY,
        ),
        row(format!("$JS.ACK.VIGIE_DEAD.{service}.1.7.7.1.0"), NOBODY),
    ];
    for subject in [
        format!("$JS.API.CONSUMER.CREATE.VIGIE.{service}.drift.detected"),
        format!("$JS.API.CONSUMER.DURABLE.CREATE.VIGIE.{service}"),
        format!("$JS.API.CONSUMER.PAUSE.VIGIE.{service}"),
        format!("$JS.API.CONSUMER.RESET.VIGIE.{service}"),
        format!("$JS.API.CONSUMER.UNPIN.VIGIE.{service}"),
        format!("$JS.API.CONSUMER.LEADER.STEPDOWN.VIGIE.{service}"),
        format!("_INBOX_{service}.answer"),
    ] {
        rows.push(row(subject, NOBODY));
    }
    rows
}

fn may_hear() -> Vec<Row> {
    let public = ["drift.detected", "retrain.requested", "model.validated"];
    let mut rows: Vec<Row> = EVENTS
        .iter()
        .map(|(subject, _)| {
            let who: &[&str] = if public.contains(subject) {
                &[READER]
            } else {
                NOBODY
            };
            row(*subject, who)
        })
        .collect();
    for subject in [
        ">",
        "*",
        "drift.>",
        "*.detected",
        "dead.>",
        "_INBOX.>",
        "$JS.>",
        "$JS.API.>",
        "$JS.EVENT.>",
        "$SYS.>",
    ] {
        rows.push(row(subject, NOBODY));
    }
    for who in EVERYBODY {
        let own: &[&str] = if who == READER { NOBODY } else { &[who] };
        rows.push(row(format!("_INBOX_{who}.>"), own));
        rows.push(row(format!("_INBOX_{who}.answer"), own));
    }
    rows
}

/// A connection that speaks the broker's own words, so that each refusal can be told from a silence.
struct Plain(BufReader<TcpStream>);

impl Plain {
    /// Greets the broker, proving to hold the seed if there is one. An error is what the broker said.
    fn connect(address: &str, seed: Option<&str>) -> Result<Self, String> {
        let stream = TcpStream::connect(address).expect("a broker");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a bound");
        let mut plain = Self(BufReader::new(stream));
        let info = plain.line();
        let info: serde_json::Value = serde_json::from_str(info.trim_start_matches("INFO ")).expect("JSON");
        let proof = seed.map(|seed| {
            let pair = KeyPair::from_seed(seed).expect("a seed");
            let signature = pair
                .sign(info["nonce"].as_str().expect("a nonce").as_bytes())
                .expect("a signature");
            (pair.public_key(), URL_SAFE_NO_PAD.encode(signature))
        });
        let (key, signature) = proof.unzip();
        let greeting = serde_json::json!({
            "verbose": false, "pedantic": false, "lang": "test", "version": "1", "protocol": 1,
            "nkey": key, "sig": signature,
        });
        match plain.say(&format!("CONNECT {greeting}\r\n")) {
            Some(refusal) => Err(refusal),
            None => Ok(plain),
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line of the broker");
        line
    }

    /// Says something and waits until the broker has dealt with it; what it refused, if it did.
    fn say(&mut self, words: &str) -> Option<String> {
        self.0
            .get_mut()
            .write_all(format!("{words}PING\r\n").as_bytes())
            .expect("speak");
        let mut refusal = None;
        loop {
            let line = self.line();
            match line.trim_end() {
                "PONG" => return refusal,
                "" => return Some(refusal.unwrap_or_else(|| "the broker hung up".to_owned())),
                error if error.starts_with("-ERR") => refusal = Some(error.to_owned()),
                _ => {}
            }
        }
    }
}

/// What differs from the expected, for one identity.
fn differences(address: &str, seeds: &Path, who: &'static str) -> Vec<String> {
    let seed = std::fs::read_to_string(seeds.join(format!("{who}.nk"))).expect("a seed");
    let mut plain = Plain::connect(address, Some(seed.trim())).expect("the broker knows every identity");
    let mut wrong = Vec::new();
    let mut compare = |what: &str, rows: Vec<Row>, words: &dyn Fn(&str) -> String| {
        for (subject, allowed) in rows {
            let refusal = plain.say(&words(&subject));
            if let Some(refusal) = &refusal {
                assert!(
                    refusal.contains("Permissions Violation"),
                    "{who}, {subject}: {refusal}"
                );
            }
            let expected = allowed.contains(&who);
            if refusal.is_none() != expected {
                let word = if expected { "should" } else { "should not" };
                wrong.push(format!("{who} {word} be able to {what} {subject}"));
            }
        }
    };
    compare("publish", may_publish(), &|subject| {
        format!("PUB {subject} 0\r\n\r\n")
    });
    compare("subscribe to", may_hear(), &|subject| {
        format!("SUB {subject} 1\r\nUNSUB 1\r\n")
    });
    // A group of readers is no way around.
    compare("share", may_hear(), &|subject| {
        format!("SUB {subject} group 1\r\nUNSUB 1\r\n")
    });
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn every_identity_may_do_exactly_what_its_work_needs_at_the_broker() {
    let known: BTreeSet<&str> = EVENTS.iter().map(|(subject, _)| *subject).collect();
    let all: BTreeSet<&str> = EventKind::ALL.iter().map(|kind| kind.subject()).collect();
    assert_eq!(known, all, "a new event needs a row in the table of this test");

    let env = TestEnv::new().await;
    let folder = tempfile::tempdir().unwrap();
    let identities = nats::identities(folder.path()).unwrap();
    let named: Vec<&str> = identities
        .iter()
        .map(|identity| identity.rights.identity)
        .collect();
    assert_eq!(named, EVERYBODY);
    env.nats.restart_with(&nats::configuration(&identities)).unwrap();
    let address = env.nats.url().replace("nats://", "");

    let seeds = folder.path().to_owned();
    let wrong = tokio::task::spawn_blocking(move || {
        let stranger = KeyPair::new_user().seed().unwrap();
        for seed in [None, Some(stranger.as_str())] {
            let refused = Plain::connect(&address, seed)
                .err()
                .expect("strangers stay outside");
            assert!(refused.contains("Authorization Violation"), "{refused}");
        }
        EVERYBODY
            .into_iter()
            .flat_map(|who| differences(&address, &seeds, who))
            .collect::<Vec<_>>()
    });
    let wrong = wrong.await.unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
