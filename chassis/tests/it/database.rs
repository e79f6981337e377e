//! The way to PostgreSQL.

use std::time::Duration;

use chassis::Secret;
use chassis::db::{self, DatabaseSettings};

#[tokio::test]
async fn a_refused_connection_is_told_as_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = DatabaseSettings {
        url: Secret::new(format!("postgres://vigie:canary@{address}/fraud_db")),
        connections_max: 2,
        acquire_timeout: Duration::from_secs(1),
        answer_timeout: Duration::from_secs(15),
        migrate: true,
    };
    let error = db::connect(&settings, "test", "test").await.unwrap_err();
    let told = format!("{error:#}");
    assert!(
        told.contains("refused") && told.contains(&address.to_string()) && !told.contains("canary"),
        "{told}"
    );
}
