//! Mail through a real SMTP server: encryption, login, refusals.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use chassis::Secret;
use lettre::Message;
use local_stack::peers::smtp::{Answer, Security, Smtp};
use notifier::outlet::SendError;
use notifier::outlet::smtp::{Encryption, Login, SmtpOutlet, SmtpSettings};
use notifier::render::mail::{Envelope, mail};
use schemas::AlertId;
use schemas::events::DriftSeverity;
use service_bench::eventually;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::decisions::told;
use crate::running::{Scene, announced, say, settled};
use crate::samples;

fn settings(server: &Smtp, encryption: Encryption) -> SmtpSettings {
    let security = match encryption {
        Encryption::Starttls => Security::StartTls,
        Encryption::Tls => Security::Tls,
        Encryption::None => Security::Plain,
    };
    SmtpSettings {
        host: server.host().to_owned(),
        port: server.port(security),
        encryption,
        login: (encryption != Encryption::None).then(|| Login {
            username: server.user().to_owned(),
            password: Secret::new(server.password()),
        }),
        ca_file: (encryption != Encryption::None).then(|| server.authority_file()),
        timeout: Duration::from_secs(10),
    }
}

async fn send(settings: &SmtpSettings) -> Result<(), SendError> {
    SmtpOutlet::new(settings)
        .expect("an outlet")
        .send(letter("alice@bank.example"))
        .await
}

fn letter(to: &str) -> Message {
    let envelope = Envelope {
        alert_id: AlertId::fresh(),
        from: "Vigie <vigie@bank.example>".parse().unwrap(),
        to: to.parse().unwrap(),
        written_at: samples::at("2026-11-23T09:00:04Z"),
        thread: None,
    };
    mail(
        &told(&samples::drift_detected(DriftSeverity::Immediate).into()),
        &envelope,
    )
    .unwrap()
}

async fn server() -> Smtp {
    chassis::install_crypto();
    Smtp::start().await.expect("a mail server")
}

#[tokio::test]
async fn mail_travels_encrypted_and_logged_in_and_arrives_whole() {
    let server = server().await;
    for encryption in [Encryption::Starttls, Encryption::Tls] {
        send(&settings(&server, encryption)).await.expect("sent");
    }
    send(&settings(&server, Encryption::None))
        .await
        .expect("plain text on this machine");
    let mails = server.attempts().unwrap();
    assert_eq!(
        mails
            .iter()
            .map(|mail| (mail.encrypted, mail.authenticated))
            .collect::<Vec<_>>(),
        [(true, true), (true, true), (false, false)]
    );
    let mail = &mails[0];
    assert_eq!(
        (mail.from.as_str(), mail.to.as_slice()),
        ("vigie@bank.example", ["alice@bank.example".to_owned()].as_slice())
    );
    assert_eq!(
        mail.subject(),
        "[CRITICAL] Fraud Detection Alert: data, target and concept drift in fraud-cards"
    );
    assert_eq!(mail.header("Auto-Submitted"), Some("auto-generated"));
    assert!(
        mail.text
            .as_deref()
            .unwrap()
            .contains("terminal_id_risk_7day_window")
    );
    assert!(
        mail.html
            .as_deref()
            .unwrap()
            .contains("terminal_id_risk_7day_window")
    );
}

#[tokio::test]
async fn what_is_wrong_for_good_is_not_tried_again() {
    let server = server().await;
    let mut wrong_password = settings(&server, Encryption::Starttls);
    wrong_password.login = Some(Login {
        username: server.user().to_owned(),
        password: Secret::new("wrong"),
    });
    // Except a setting that people mend while it waits.
    let refusal = send(&wrong_password).await.unwrap_err();
    assert!(
        matches!(&refusal, SendError::Transient(reason) if reason.contains("535")),
        "{refusal}"
    );

    let right = settings(&server, Encryption::Starttls);
    server
        .refuse_recipient("alice@bank.example", Some("550 no such user"))
        .unwrap();
    let refusal = send(&right).await.unwrap_err();
    assert!(
        matches!(&refusal, SendError::Permanent(reason) if reason.contains("no such user")),
        "{refusal}"
    );

    server.refuse_recipient("alice@bank.example", None).unwrap();
    server
        .script([Answer::Refuse("554 content refused".to_owned())])
        .unwrap();
    let refusal = send(&right).await.unwrap_err();
    assert!(
        matches!(&refusal, SendError::Permanent(reason) if reason.contains("content refused")),
        "{refusal}"
    );
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let server = server().await;
    let right = settings(&server, Encryption::Starttls);
    server
        .script([
            Answer::Refuse("451 greylisted, come back later".to_owned()),
            Answer::AnswerLost,
        ])
        .unwrap();
    let error = send(&right).await.unwrap_err();
    assert!(
        matches!(&error, SendError::Deferred(reason) if reason.contains("greylisted")),
        "{error}"
    );
    let error = send(&right).await.unwrap_err();
    assert!(matches!(error, SendError::Transient(_)), "{error}");
    // Nobody listens.
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let error = send(&SmtpSettings {
        port: closed,
        ..right.clone()
    })
    .await
    .unwrap_err();
    assert!(matches!(error, SendError::Transient(_)), "{error}");
}

#[tokio::test]
async fn a_full_mailbox_does_not_slow_the_others() {
    let server = server().await;
    server
        .refuse_recipient("full@bank.example", Some("452 full@bank.example: mailbox full"))
        .unwrap();
    let scene = Scene::new(&format!(
        "recipients = [\"full@bank.example\", \"well@bank.example\"]\nbackoff_first = \"100ms\"\nbackoff_max = \"1s\"\n\
         attempts_max = 50\nprobe_every = \"10m\"\n[notify.smtp]\nhost = {:?}\nport = {}\nusername = {:?}\npassword = {:?}\n\
         ca_file = {:?}",
        server.host(),
        server.port(Security::StartTls),
        server.user(),
        server.password(),
        path(&server.authority_file()),
    ))
    .await;
    let running = scene.start().await;
    for _ in 0..8 {
        let mut failed = samples::training_failed();
        failed.job_id = schemas::JobId::fresh();
        say(&running.pool, "fraud-cards", failed).await;
    }
    eventually("the one who has room has them all", async || {
        (server.delivered().unwrap().len() == 8).then_some(())
    })
    .await;
    running.abandon().await;
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_gets_no_password() {
    let server = server().await;
    for encryption in [Encryption::Starttls, Encryption::Tls] {
        let unknown_authority = SmtpSettings {
            ca_file: None,
            ..settings(&server, encryption)
        };
        let error = send(&unknown_authority).await.unwrap_err();
        assert!(
            matches!(&error, SendError::Transient(reason) if reason.contains("certificate")),
            "{error}"
        );
    }
    // STARTTLS is demanded, not merely hoped for: a server without it gets nothing.
    let no_starttls = SmtpSettings {
        port: server.port(Security::Plain),
        ..settings(&server, Encryption::Starttls)
    };
    assert!(send(&no_starttls).await.is_err());
    assert!(server.attempts().unwrap().is_empty());
}

#[tokio::test]
async fn the_service_retries_a_busy_server_and_gives_up_on_a_dead_address() {
    let server = server().await;
    server.script([Answer::Refuse("451 busy".to_owned())]).unwrap();
    server
        .refuse_recipient("gone@bank.example", Some("550 gone@bank.example: no such user"))
        .unwrap();
    let scene = Scene::new(&format!(
        "recipients = [\"alice@bank.example\", \"gone@bank.example\"]\nbackoff_first = \"100ms\"\n[notify.smtp]\nhost = \
         {:?}\nport = {}\nusername = {:?}\npassword = {:?}\nca_file = {:?}",
        server.host(),
        server.port(Security::StartTls),
        server.user(),
        server.password(),
        path(&server.authority_file()),
    ))
    .await;
    let running = scene.start().await;
    say(&running.pool, "fraud-cards", samples::training_failed()).await;
    let rows = settled(&running.pool, 2).await;
    let ends: Vec<_> = rows
        .iter()
        .map(|row| (row.recipient.as_str(), row.state.as_str(), row.attempts))
        .collect();
    assert_eq!(
        ends,
        [
            ("alice@bank.example", "sent", 2),
            ("gone@bank.example", "failed", 1)
        ],
        "{rows:?}"
    );
    let delivered = server.delivered().unwrap();
    assert_eq!(delivered.len(), 1);
    assert!(
        delivered[0]
            .header("Message-ID")
            .unwrap()
            .contains(&rows[0].alert_id.to_string())
    );
    let said = announced(&running.pool).await;
    let failed = said
        .iter()
        .find(|(subject, _)| subject == "alert.failed")
        .expect("a failure is announced");
    let text = failed.1.to_string();
    assert!(
        text.contains("no such user") && text.contains("g***@bank.example"),
        "{text}"
    );
    assert!(!text.contains("gone@bank.example"), "{text}");
    running.stop().await;
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// A server of few words that takes one mail at a time and is slow at its first recipient.
async fn strict_server(taken: Arc<AtomicU32>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let slow = Arc::new(AtomicBool::new(true));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (taken, slow) = (Arc::clone(&taken), Arc::clone(&slow));
            tokio::spawn(async move {
                let (reading, mut writing) = stream.into_split();
                let mut lines = BufReader::new(reading).lines();
                let (mut in_mail, mut in_content) = (false, false);
                writing.write_all(b"220 ready\r\n").await?;
                while let Some(line) = lines.next_line().await? {
                    let reply = match line.split([' ', ':']).next().unwrap_or_default() {
                        "." if in_content => {
                            (in_mail, in_content) = (false, false);
                            taken.fetch_add(1, Ordering::SeqCst);
                            "250 taken"
                        }
                        _ if in_content => continue,
                        "MAIL" if in_mail => "503 nested MAIL command",
                        "MAIL" => {
                            in_mail = true;
                            "250 ok"
                        }
                        "RCPT" => {
                            if slow.swap(false, Ordering::SeqCst) {
                                tokio::time::sleep(Duration::from_secs(2)).await;
                            }
                            "250 ok"
                        }
                        "DATA" => {
                            in_content = true;
                            "354 go on"
                        }
                        _ => "250 ok",
                    };
                    writing.write_all(format!("{reply}\r\n").as_bytes()).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    port
}

#[tokio::test]
async fn a_delivery_that_was_given_up_half_way_does_not_spoil_the_next_one() {
    chassis::install_crypto();
    let taken = Arc::new(AtomicU32::new(0));
    let outlet = SmtpOutlet::new(&SmtpSettings {
        host: "127.0.0.1".to_owned(),
        port: strict_server(Arc::clone(&taken)).await,
        encryption: Encryption::None,
        login: None,
        ca_file: None,
        timeout: Duration::from_secs(10),
    })
    .unwrap();
    let given_up = tokio::time::timeout(
        Duration::from_millis(500),
        outlet.send(letter("alice@bank.example")),
    );
    assert!(given_up.await.is_err(), "the server was not slow");
    for _ in 0..3 {
        outlet.send(letter("bob@bank.example")).await.expect("sent");
    }
    assert_eq!(taken.load(Ordering::SeqCst), 3);
}
