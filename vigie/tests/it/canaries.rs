//! Marked secrets in every slot, peers that all fail, and a look into everything that the services leave behind.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local_stack::TestEnv;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use vigie::host::{Processes, SERVICES};

/// Part of every secret here, and of nothing else.
const CANARY: &str = "canary5e7b1d";
/// The file of the one source that can be read.
const TRAINERS_SOURCE: &str = "the_source_of_the_trainer";
/// Longest wait for anything; reached only when the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already dead is fine.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A server that refuses everything, and the paths that it was asked for.
fn failing_peer() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut line = String::new();
            let read = connection
                .try_clone()
                .map(|clone| BufReader::new(clone).read_line(&mut line));
            if read.is_ok() {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
            let body = "{\"error_code\": \"INTERNAL_ERROR\", \"message\": \"out of order\"}";
            // Whoever has gone does not hear it.
            let _ = write!(
                connection,
                "HTTP/1.1 500 Broken\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (address, asked)
}

/// Every secret slot, by the variable that names a file.
fn secrets(env: &TestEnv, peer: SocketAddr) -> BTreeMap<&'static str, String> {
    let database = |user: &str, name: &str| {
        let (_, rest) = env.database_url.split_once('@').unwrap();
        let server = rest.split('/').next().unwrap();
        format!("postgres://{user}:{CANARY}-{user}@{server}/{name}")
    };
    let own = env.database_url.rsplit('/').next().unwrap();
    let broker = env.nats.url().replace("nats://", "");
    BTreeMap::from([
        ("FRAUD_DATABASE_URL_FILE", database("vigie", own)),
        // The trainer's source is there, so that it goes on to Databricks; the others' is not.
        (TRAINERS_SOURCE, database("vigie", own)),
        (
            "VIGIE__TRANSACTIONS__URL_FILE",
            database("vigie", "no_such_database"),
        ),
        ("NATS_URL_FILE", format!("nats://vigie:{CANARY}-nats@{broker}")),
        ("MLFLOW_TRACKING_TOKEN_FILE", format!("{CANARY}-mlflow")),
        ("DATABRICKS_TOKEN_FILE", format!("{CANARY}-databricks")),
        (
            "ALERT_SLACK_WEBHOOK_FILE",
            format!("http://{peer}/services/{CANARY}-slack"),
        ),
        ("ALERT_EMAIL_PASSWORD_FILE", format!("{CANARY}-smtp")),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT_FILE",
            format!("http://user:{CANARY}-otlp@{peer}/"),
        ),
    ])
}

fn start(
    service: &str,
    folder: &Path,
    environment: &BTreeMap<String, String>,
    arguments: &[&str],
) -> Running {
    let binary = Processes::own_folder().unwrap().join(service);
    assert!(
        binary.exists(),
        "{} is missing; build it with `cargo build --workspace --bins`",
        binary.display()
    );
    let log = std::fs::File::create(folder.join(format!("{service}{}.log", arguments.concat()))).unwrap();
    let child = Command::new(binary)
        .args(["--config", "vigie.toml"])
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Running(child)
}

/// Publishes a golden sample, as its publisher wrote it.
async fn publish(client: &async_nats::Client, golden: &str, uri: Option<&str>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../schemas/golden")
        .join(golden);
    let text = std::fs::read_to_string(file).unwrap();
    let mut sample: serde_json::Value = serde_json::from_str(&text).unwrap();
    if let Some(uri) = uri {
        sample["data"]["artifact"]["uri"] = uri.into();
    }
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in sample["headers"].as_object().unwrap() {
        headers.insert(name.as_str(), value.as_str().unwrap());
    }
    let subject = golden.split(".v1").next().unwrap().to_owned();
    let jetstream = async_nats::jetstream::new(client.clone());
    let body = serde_json::to_vec(&sample["data"]).unwrap();
    let published = jetstream
        .publish_with_headers(subject, headers, body.into())
        .await
        .unwrap();
    published.await.unwrap();
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Fails when the mark is in a text, plainly, as bytes in hex, or in base64.
fn look_into(place: &str, text: &str) {
    let core = STANDARD.encode(CANARY);
    let spellings = [
        CANARY.to_owned(),
        hex::encode(CANARY),
        core[..core.len() - 2].to_owned(),
    ];
    for spelling in spellings {
        if let Some(at) = text.to_ascii_lowercase().find(&spelling.to_ascii_lowercase()) {
            let around: String = text[..at].chars().rev().take(200).collect();
            let around: String = around.chars().rev().collect();
            panic!("a secret is in {place}, after: {around}");
        }
    }
}

async fn answered(pool: &PgPool, query: &'static str) -> bool {
    sqlx::query_scalar::<_, bool>(query)
        .fetch_one(pool)
        .await
        .unwrap_or(false)
}

/// Every row of every table of ours, as text.
async fn tables(pool: &PgPool) -> Vec<(String, String)> {
    let names: Vec<String> = sqlx::query_scalar(
        "select quote_ident(n.nspname) || '.' || quote_ident(c.relname) from pg_class c \
         join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and exists (select from pg_class m \
         where m.relnamespace = n.oid and m.relname = '_chassis_migrations')",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut rows = Vec::new();
    for name in names {
        let query = format!("select t::text from {name} t");
        let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_all(pool)
            .await
            .unwrap();
        rows.extend(found.into_iter().map(|row| (name.clone(), row)));
        // Bodies of events lie as bytes.
        if name.ends_with(".outbox") || name.ends_with(".dead_letter") {
            let query = format!("select encode(data, 'escape') from {name}");
            let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
                .fetch_all(pool)
                .await
                .unwrap();
            rows.extend(found.into_iter().map(|row| (name.clone(), row)));
        }
    }
    rows
}

/// What a service answers on its page of metrics, whose address its log tells.
fn metrics(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let (_, rest) = text.split_once("answers on http://")?;
    let mut connection = std::net::TcpStream::connect(rest.split('/').next()?).ok()?;
    write!(
        connection,
        "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut connection, &mut answer).ok()?;
    Some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_no_log_metric_event_or_table_though_every_peer_fails() {
    let env = TestEnv::new().await;
    let folder = tempfile::tempdir().unwrap();
    let pool = PgPool::connect(&env.database_url).await.unwrap();
    pool.execute(
        "create schema bank; create table bank.payment (id bigint, at timestamptz, fraud boolean, amount float8); \
         insert into bank.payment values (1, '2025-01-01', false, 1)",
    )
    .await
    .unwrap();
    let broker = format!("authorization {{ user: vigie, password: \"{CANARY}-nats\" }}\n");
    env.nats.restart_with(&broker).unwrap();
    let (peer, asked) = failing_peer();
    let settings = format!(
        "[http]\ndrift_monitor = \"127.0.0.1:0\"\nretrain_decider = \"127.0.0.1:0\"\ntrainer_bridge = \"127.0.0.1:0\"\n\
         validator = \"127.0.0.1:0\"\nnotifier = \"127.0.0.1:0\"\n[telemetry]\nlog = \"debug\"\n\
         [mlflow]\ntracking_uri = \"http://{peer}\"\n[training]\nbackend = \"databricks\"\n\
         [databricks]\nhost = \"http://{peer}\"\njob_id = 1\n\
         [notify]\nrecipients = [\"ops@example.org\"]\nbackoff_first = \"100ms\"\n\
         [notify.smtp]\nhost = \"127.0.0.1\"\nport = {port}\nusername = \"mailer\"\n\
         [models.fraud-cards]\nsource = \"postgres\"\ntable = \"bank.payment\"\nid = \"id\"\ntime = \"at\"\nlabel = \"fraud\"\n\
         label_delay = \"1d\"\nfeatures = [\"amount\"]\n",
        port = peer.port()
    );
    std::fs::write(folder.path().join("vigie.toml"), settings).unwrap();
    let hidden = folder.path().join("secrets");
    std::fs::create_dir(&hidden).unwrap();
    let mut environment = BTreeMap::new();
    for (name, secret) in secrets(&env, peer) {
        let file = hidden.join(name);
        std::fs::write(&file, secret).unwrap();
        environment.insert(name.to_owned(), file.display().to_string());
    }
    let logs: Vec<PathBuf> = SERVICES
        .map(|service| folder.path().join(format!("{service}.log")))
        .to_vec();
    for service in SERVICES {
        let status = start(service, folder.path(), &environment, &["--print-config"])
            .0
            .wait()
            .unwrap();
        let log = folder.path().join(format!("{service}--print-config.log"));
        let shown = std::fs::read_to_string(log).unwrap();
        assert!(status.success(), "{shown}");
        assert!(shown.contains("********"), "{shown}");
        look_into(service, &shown);
    }
    let services: Vec<Running> = SERVICES
        .iter()
        .map(|service| {
            let mut own = environment.clone();
            if let Some(source) = own.remove(TRAINERS_SOURCE)
                && *service == "trainer-bridge"
            {
                own.insert("VIGIE__TRANSACTIONS__URL_FILE".to_owned(), source);
            }
            start(service, folder.path(), &own, &[])
        })
        .collect();

    let client =
        async_nats::ConnectOptions::with_user_and_password("vigie".to_owned(), format!("{CANARY}-nats"))
            .connect(env.nats.url())
            .await
            .unwrap();
    eventually("the services", async || {
        logs.iter().all(|log| metrics(log).is_some())
    })
    .await;
    publish(&client, "drift.check.requested.v1.json", None).await;
    publish(&client, "retrain.requested.v1.first.json", None).await;
    publish(
        &client,
        "model.trained.v1.json",
        Some("mlflow-artifacts:/1/abc/model.json"),
    )
    .await;
    publish(&client, "training.failed.v1.json", None).await;
    for path in [
        "/api/2.2/jobs/run-now",
        "/services/",
        "/api/2.0/mlflow-artifacts",
        "/v1/traces",
        "EHLO",
    ] {
        // What speaks to a mail server waits for it to speak first, and hears HTTP.
        if path == "EHLO" {
            let query = "select exists (select from notifier.alert where channel = 'email' and attempts > 0)";
            eventually("a mail that failed", async || answered(&pool, query).await).await;
            continue;
        }
        let heard = || asked.lock().unwrap_or_else(PoisonError::into_inner).join("");
        let begun = Instant::now();
        while !heard().contains(path) {
            assert!(
                begun.elapsed() < PATIENCE,
                "nobody asked for {path}, only for {}",
                heard()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let query = "select exists (select from drift_monitor.outbox where subject = 'drift.checked')";
    eventually("a check that could not look", async || {
        answered(&pool, query).await
    })
    .await;
    // The database goes away under them, and every connection is refused.
    let name = env.database_url.rsplit('/').next().unwrap();
    let shut = format!(
        "alter database {name} allow_connections false; select pg_terminate_backend(pid) from pg_stat_activity \
         where datname = '{name}' and application_name like 'vigie-%'"
    );
    let (server, _) = env.database_url.rsplit_once('/').unwrap();
    let elsewhere = PgPool::connect(&format!("{server}/postgres")).await.unwrap();
    elsewhere.execute(AssertSqlSafe(shut)).await.unwrap();
    eventually("services that cannot reach the database", async || {
        logs.iter().all(|log| {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            text.contains("not currently accepting connections")
        })
    })
    .await;

    let open = format!("alter database {name} allow_connections true");
    elsewhere.execute(AssertSqlSafe(open)).await.unwrap();

    for (place, row) in tables(&pool).await {
        look_into(&place, &row);
    }
    for log in &logs {
        look_into("the metrics", &metrics(log).unwrap());
    }
    drop(services);
    for log in &logs {
        let text = std::fs::read_to_string(log).unwrap();
        assert!(text.contains("DEBUG"), "the log is a chatty one");
        look_into(&log.display().to_string(), &text);
    }
}
