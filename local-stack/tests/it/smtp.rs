//! The mail server takes mails in every way that a real one does, and fails as told.

use lettre::message::MultiPart;
use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use local_stack::peers::smtp::{Answer, Security, Smtp};

use crate::support::{eventually, install_crypto, runs_below};

type Transport = AsyncSmtpTransport<Tokio1Executor>;

fn transport(smtp: &Smtp, security: Security, password: Option<&str>) -> Transport {
    install_crypto();
    let authority = Certificate::from_pem(smtp.authority_pem().as_bytes()).unwrap();
    let parameters = || {
        TlsParameters::builder(smtp.host().to_owned())
            .add_root_certificate(authority.clone())
            .build_rustls()
            .unwrap()
    };
    let tls = match security {
        Security::Plain => Tls::None,
        Security::StartTls => Tls::Required(parameters()),
        Security::Tls => Tls::Wrapper(parameters()),
    };
    let mut builder: AsyncSmtpTransportBuilder = Transport::builder_dangerous(smtp.host());
    if let Some(password) = password {
        builder = builder.credentials(Credentials::new(smtp.user().to_owned(), password.to_owned()));
    }
    builder.port(smtp.port(security)).tls(tls).build()
}

fn mail(subject: &str, to: &[&str]) -> Message {
    let builder = Message::builder()
        .from("vigie@example.com".parse().unwrap())
        .subject(subject);
    let builder = to
        .iter()
        .fold(builder, |builder, address| builder.to(address.parse().unwrap()));
    builder
        .multipart(MultiPart::alternative_plain_html(
            "Dérive détectée".to_owned(),
            "<p>Dérive</p>".to_owned(),
        ))
        .unwrap()
}

#[tokio::test]
async fn mails_arrive_in_every_way_with_every_part() {
    let smtp = Smtp::start().await.unwrap();
    for (security, password) in [
        (Security::Plain, None),
        (Security::StartTls, Some(smtp.password())),
        (Security::Tls, Some(smtp.password())),
    ] {
        let message = mail("[HIGH] dérive – drift", &["ops@example.com", "risk@example.com"]);
        transport(&smtp, security, password).send(message).await.unwrap();
        let mails = smtp.delivered().unwrap();
        let last = mails.last().unwrap();
        assert_eq!(last.security, security);
        assert_eq!(
            (last.encrypted, last.authenticated),
            (security != Security::Plain, password.is_some())
        );
        assert_eq!(last.from, "vigie@example.com");
        assert_eq!(last.to, ["ops@example.com", "risk@example.com"]);
        assert_eq!(last.subject(), "[HIGH] dérive – drift");
        assert_eq!(last.header("FROM"), Some("vigie@example.com"));
        assert_eq!(last.text.as_deref().map(str::trim_end), Some("Dérive détectée"));
        assert_eq!(last.html.as_deref().map(str::trim_end), Some("<p>Dérive</p>"));
        assert!(last.raw.contains("multipart/alternative"));
    }
    assert_eq!(smtp.delivered().unwrap().len(), 3);
}

#[tokio::test]
async fn who_does_not_log_in_or_encrypt_is_refused() {
    let smtp = Smtp::start().await.unwrap();
    let message = || mail("drift", &["ops@example.com"]);
    for security in [Security::StartTls, Security::Tls] {
        let wrong = transport(&smtp, security, Some("wrong"))
            .send(message())
            .await
            .unwrap_err();
        assert!(wrong.is_permanent(), "{security:?}: {wrong}");
        let none = transport(&smtp, security, None)
            .send(message())
            .await
            .unwrap_err();
        assert!(none.is_permanent(), "{security:?}: {none}");
    }
    // Plain text to the port that demands STARTTLS.
    let plain = Transport::builder_dangerous(smtp.host())
        .port(smtp.port(Security::StartTls))
        .build();
    let refusal = plain.send(message()).await.unwrap_err();
    assert!(
        refusal.is_permanent() && refusal.to_string().contains("STARTTLS"),
        "{refusal}"
    );
    assert_eq!(smtp.attempts().unwrap(), []);
}

#[tokio::test]
async fn failures_follow_the_script() {
    let smtp = Smtp::start().await.unwrap();
    let send = |subject: &'static str| {
        let transport = transport(&smtp, Security::StartTls, Some(smtp.password()));
        async move { transport.send(mail(subject, &["ops@example.com"])).await }
    };
    smtp.script([
        Answer::Refuse("451 try again later".to_owned()),
        Answer::Refuse("554 looks like spam".to_owned()),
        Answer::AnswerLost,
        Answer::Accept,
    ])
    .unwrap();
    let temporary = send("one").await.unwrap_err();
    assert!(
        temporary.is_transient() && temporary.to_string().contains("try again later"),
        "{temporary}"
    );
    let permanent = send("two").await.unwrap_err();
    assert!(permanent.is_permanent(), "{permanent}");
    assert_eq!(smtp.delivered().unwrap(), []);
    let lost = send("three").await.unwrap_err();
    assert!(
        !lost.is_permanent() && !lost.is_transient(),
        "no reply at all: {lost}"
    );
    send("four").await.unwrap();
    smtp.otherwise(&Answer::Refuse("452 full".to_owned())).unwrap();
    assert!(send("five").await.unwrap_err().is_transient());

    let subjects = |mails: Vec<local_stack::peers::smtp::Mail>| -> Vec<String> {
        mails.iter().map(|mail| mail.subject().to_owned()).collect()
    };
    assert_eq!(
        subjects(smtp.attempts().unwrap()),
        ["one", "two", "three", "four", "five"]
    );
    assert_eq!(
        subjects(smtp.delivered().unwrap()),
        ["three", "four"],
        "the lost answer's mail is there"
    );
}

#[tokio::test]
async fn single_recipients_can_be_refused() {
    let smtp = Smtp::start().await.unwrap();
    smtp.refuse_recipient("gone@example.com", Some("550 no such user"))
        .unwrap();
    let transport = transport(&smtp, Security::Plain, None);
    let refusal = transport
        .send(mail("drift", &["gone@example.com"]))
        .await
        .unwrap_err();
    assert!(
        refusal.is_permanent() && refusal.to_string().contains("no such user"),
        "{refusal}"
    );
    transport.send(mail("drift", &["ops@example.com"])).await.unwrap();
    smtp.refuse_recipient("gone@example.com", None).unwrap();
    transport
        .send(mail("drift", &["gone@example.com"]))
        .await
        .unwrap();
    assert_eq!(smtp.delivered().unwrap().len(), 2);
}

#[tokio::test]
async fn it_can_be_down_for_a_while_and_goes_without_a_trace() {
    let smtp = Smtp::start().await.unwrap();
    let send = || {
        let transport = transport(&smtp, Security::Plain, None);
        async move { transport.send(mail("drift", &["ops@example.com"])).await }
    };
    send().await.unwrap();
    smtp.kill().await.unwrap();
    assert!(!send().await.unwrap_err().is_permanent());
    smtp.restart().await.unwrap();
    send().await.unwrap();
    assert_eq!(smtp.delivered().unwrap().len(), 2, "its mails are still there");

    let folder = smtp.folder().to_owned();
    drop(smtp);
    eventually("nothing of it runs", || !runs_below(&folder)).await;
    assert!(!folder.exists());
}
