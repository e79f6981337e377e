//! Plain text leaves this machine only where the settings say so, and TLS is to whom it should be.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chassis::bus::{Bus, NatsSettings};
use chassis::db::DatabaseSettings;
use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS};
use chassis::telemetry::TelemetrySettings;
use chassis::{Reader, Settings, Sources};
use local_stack::{Stack, StackOptions, TestEnv};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What is wrong with settings that every service has; nothing, if they are right.
fn problems(text: &str) -> String {
    let sources = Sources {
        overrides: vec![("test".to_owned(), text.to_owned())],
        ..Sources::default()
    };
    let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, &sources).unwrap();
    let reader = Reader::new(&settings);
    NatsSettings::read(&reader);
    DatabaseSettings::read(&reader);
    TelemetrySettings::read(&reader);
    reader
        .finish()
        .err()
        .map(|problems| problems.to_string())
        .unwrap_or_default()
}

#[test]
fn plain_text_to_another_machine_is_refused_unless_it_is_allowed() {
    for (section, name, plain, protected) in [
        (
            "nats",
            "url",
            "nats://broker.example:4222",
            "tls://broker.example:4222",
        ),
        ("nats", "url", "nats://10.1.2.3:4222", "tls://10.1.2.3:4222"),
        (
            "database",
            "url",
            "postgres://vigie@db.example/fraud_db",
            "postgres://vigie@db.example/fraud_db?sslmode=verify-full",
        ),
        (
            "database",
            "url",
            "postgres://vigie@db.example/fraud_db?sslmode=disable",
            "postgres://vigie@db.example/fraud_db?sslmode=verify-ca",
        ),
        // It asks for TLS and takes anybody's.
        (
            "database",
            "url",
            "postgres://vigie@db.example/fraud_db?sslmode=require",
            "postgres://vigie@%2Frun%2Fpostgresql/fraud_db",
        ),
        (
            "telemetry",
            "otlp_endpoint",
            "http://tempo:4318",
            "https://tempo:4318",
        ),
        (
            "telemetry",
            "otlp_endpoint",
            "http://tempo:4318",
            "http://[::1]:4318",
        ),
        (
            "nats",
            "url",
            "nats://broker.example:4222",
            "nats://localhost:4222",
        ),
    ] {
        let told = problems(&format!("[{section}]\n{name} = \"{plain}\"\n"));
        for part in [
            format!("`{section}.{name}` is `{plain}`"),
            format!("`{section}.insecure = true`"),
        ] {
            assert!(told.contains(&part), "{plain}: {part} is missing in: {told}");
        }
        let allowed = format!("[{section}]\n{name} = \"{plain}\"\ninsecure = true\n");
        assert_eq!(problems(&allowed), "", "{plain}");
        let right = format!("[{section}]\n{name} = \"{protected}\"\n");
        assert_eq!(problems(&right), "", "{protected}");
    }
    let metadata =
        problems("[telemetry]\notlp_endpoint = \"https://[::ffff:169.254.169.254]/\"\ninsecure = true\n");
    assert!(metadata.contains("link-local"), "{metadata}");
}

#[test]
fn a_key_is_one_and_comes_alone() {
    let seed = format!("SU{}", "A".repeat(56));
    assert_eq!(problems(&format!("[nats]\nnkey = \"{seed}\"\n")), "");
    for text in [
        "[nats]\nnkey = \"half-a-secret\"\n".to_owned(),
        format!("[nats]\nnkey = \"{seed}\"\ncredentials = \"/a/file\"\n"),
    ] {
        let told = problems(&text);
        assert!(told.contains("`nats."), "{told}");
        assert!(!told.contains("half-a-secret") && !told.contains(&seed), "{told}");
    }
}

/// An authority in `folder`, and a server's certificate for `localhost` by it: the files of authority, certificate and key.
fn certificate(folder: &Path, name: &str) -> [PathBuf; 3] {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    let write = |what: &str, text: String| {
        let file = folder.join(format!("{name}-{what}.pem"));
        std::fs::write(&file, text).unwrap();
        file
    };
    [
        write("ca", authority_certificate.pem()),
        write("cert", server.pem()),
        write("key", key.serialize_pem()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_the_broker_is_only_to_the_one_that_the_authority_knows() {
    chassis::install_crypto();
    let env = TestEnv::new().await;
    let folder = env.nats.folder();
    let [authority, certificate_file, key] = certificate(folder, "ours");
    let [stranger, ..] = certificate(folder, "theirs");
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n",
        certificate_file.display(),
        key.display()
    );
    env.nats.restart_with(&tls).unwrap();
    let port = env.nats.url().rsplit(':').next().unwrap().to_owned();
    let settings = |url: String, ca_file: Option<&Path>| {
        let ca = ca_file.map(|file| file.display().to_string()).unwrap_or_default();
        let text = format!("[nats]\nurl = \"{url}\"\nca_file = \"{ca}\"\n");
        let sources = Sources {
            overrides: vec![("test".to_owned(), text)],
            ..Sources::default()
        };
        let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, &sources).unwrap();
        NatsSettings::read(&Reader::new(&settings))
    };
    let good = settings(format!("tls://localhost:{port}"), Some(&authority));
    Bus::connect(&good, "toy").await.unwrap();
    for (url, ca_file) in [
        (format!("tls://localhost:{port}"), Some(stranger.as_path())),
        (format!("tls://localhost:{port}"), None),
        // The certificate is for another name.
        (format!("tls://127.0.0.1:{port}"), Some(authority.as_path())),
        (
            format!("tls://localhost:{port}"),
            Some(Path::new("/no/such/file")),
        ),
    ] {
        let refused = Bus::connect(&settings(url.clone(), ca_file), "toy").await;
        let told = format!(
            "{:#}",
            refused.err().unwrap_or_else(|| panic!("{url} with {ca_file:?}"))
        );
        assert!(told.contains("NATS") || told.contains("`nats.ca_file`"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_the_database_is_only_to_the_one_that_the_authority_knows() {
    chassis::install_crypto();
    let stack = Stack::start(StackOptions::for_tests()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [authority, certificate_file, key] = certificate(folder.path(), "ours");
    let [stranger, ..] = certificate(folder.path(), "theirs");
    let text = |file: &Path| std::fs::read_to_string(file).unwrap();
    stack
        .postgres()
        .restart_with_certificate(&text(&certificate_file), &text(&key))
        .unwrap();
    let plain = stack.database_url();
    let connect = async |url: String| {
        let text = format!("[database]\nurl = \"{url}\"\n");
        let sources = Sources {
            overrides: vec![("test".to_owned(), text)],
            ..Sources::default()
        };
        let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, &sources).unwrap();
        chassis::db::connect(&DatabaseSettings::read(&Reader::new(&settings)), "toy", "toy").await
    };
    let named = plain.replace("127.0.0.1", "localhost");
    let verified =
        |url: &str, file: &Path| format!("{url}?sslmode=verify-full&sslrootcert={}", file.display());
    let pool = connect(verified(&named, &authority)).await.unwrap();
    let (protected,): (bool,) = sqlx::query_as("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(protected);
    pool.close().await;
    for url in [
        verified(&named, &stranger),
        format!("{named}?sslmode=verify-full"),
        // The certificate is for another name.
        verified(&plain, &authority),
        verified(&named, Path::new("/no/such/file")),
    ] {
        let refused = connect(url.clone()).await;
        let told = format!("{:#}", refused.err().unwrap_or_else(|| panic!("{url}")));
        assert!(told.contains("connect to PostgreSQL at"), "{told}");
    }
    stack.stop().await.unwrap();
}

/// The variable that tells [`asks_over_https`] whom to ask.
const ASK: &str = "VIGIE_TEST_ASK_OVER_HTTPS";

/// Not a test: what the test after it runs as a process of its own, because authorities are read once per process.
#[tokio::test]
#[ignore = "the other half of `https_is_only_to_whom_an_authority_knows`"]
async fn asks_over_https() {
    chassis::install_crypto();
    let url = std::env::var(ASK).expect("run by the test");
    let client = chassis::outgoing::client(Duration::from_secs(20))
        .build()
        .unwrap();
    let answer = client
        .get(url)
        .send()
        .await
        .unwrap_or_else(|error| panic!("refused: {error:?}"));
    assert_eq!(answer.text().await.unwrap(), "hello");
}

/// Answers every request over TLS, until the process ends. Its port.
fn https_server(certificate_file: &Path, key: &Path) -> u16 {
    let certificate = CertificateDer::from_pem_file(certificate_file).unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, connection.unwrap());
            // Whoever does not trust us hangs up here.
            let mut asked = [0; 4096];
            if matches!(stream.read(&mut asked), Ok(1..)) {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
                stream.write_all(answer).unwrap();
                stream.flush().unwrap();
            }
        }
    });
    port
}

#[test]
fn https_is_only_to_whom_an_authority_knows() {
    chassis::install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let [authority, certificate_file, key] = certificate(folder.path(), "ours");
    let [stranger, ..] = certificate(folder.path(), "theirs");
    let port = https_server(&certificate_file, &key);
    let ask = |host: &str, authority: Option<&Path>| {
        let mut asking = std::process::Command::new(std::env::current_exe().unwrap());
        asking
            .args(["--exact", "--ignored", "transport::asks_over_https"])
            .env(ASK, format!("https://{host}:{port}/"))
            .env_remove("SSL_CERT_DIR");
        match authority {
            Some(file) => asking.env("SSL_CERT_FILE", file),
            None => asking.env_remove("SSL_CERT_FILE"),
        };
        let done = asking.output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains("running 1 test"), "{said}");
        (done.status.success(), said)
    };
    let (trusted, said) = ask("localhost", Some(&authority));
    assert!(trusted, "{said}");
    for (host, file) in [
        ("localhost", Some(stranger.as_path())),
        ("localhost", None),
        // The certificate is for another name.
        ("127.0.0.1", Some(authority.as_path())),
    ] {
        let (trusted, said) = ask(host, file);
        assert!(
            !trusted && said.contains("refused: "),
            "{host} with {file:?}: {said}"
        );
    }
}
