//! What a call makes of odd answers.

use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _};
use axum::routing::{any, get};
use chassis::rest::{CallError, Credentials, Endpoint};
use serde_json::Value;

async fn endpoint() -> Endpoint {
    endpoint_with(Duration::from_secs(10)).await
}

async fn endpoint_with(timeout: Duration) -> Endpoint {
    chassis::install_crypto();
    let router = Router::new()
        .route(
            "/base/moved",
            get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/base/fine")]) }),
        )
        .route("/base/fine", get(|| async { "{}" }))
        .route("/base/silent", get(std::future::pending::<&'static str>))
        .route(
            "/base/huge",
            get(|| async { format!("\"{}\"", "x".repeat(9 * 1024 * 1024)) }),
        )
        .route(
            "/base/slow",
            get(|| async { (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7")], "") }),
        )
        .route(
            "/base/odd",
            get(|| async {
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    [(header::RETRY_AFTER, "Wed, 21 Oct 2026")],
                    "",
                )
            }),
        )
        .route("/base/login", any(|| async { Html("<title>Sign in</title>") }))
        .route(
            "/base/gone",
            get(|| async {
                let body = r#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"no such run"}"#;
                (StatusCode::NOT_FOUND, body).into_response()
            }),
        )
        .route(
            "/base/limit",
            get(|| async {
                let body = r#"{"error_code":"REQUEST_LIMIT_EXCEEDED","message":"later"}"#;
                (StatusCode::BAD_REQUEST, body).into_response()
            }),
        );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base = format!("http://{}/base/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Endpoint::new(base.parse().unwrap(), Credentials::None, timeout).unwrap()
}

#[tokio::test]
async fn answers_are_fine_or_worth_another_try_or_not() {
    let endpoint = endpoint().await;
    let get = async |path: &str| endpoint.get::<Value>(path, &[]).await;
    assert!(get("/fine").await.is_ok(), "the base path is kept");
    // A redirect would carry the token elsewhere.
    let moved = get("/moved").await.unwrap_err();
    assert!(
        moved.is_transient() && moved.to_string().contains("302"),
        "{moved}"
    );
    // The interface says with a code what it does not have: this is a page of something in between.
    let nowhere = get("/nowhere").await.unwrap_err();
    assert!(nowhere.is_transient(), "{nowhere}");
    assert!(matches!(
        endpoint.get_bytes("/nowhere", 10).await,
        Err(CallError::Refused { status: 404, .. })
    ));
    assert!(matches!(
        get("/gone").await,
        Err(CallError::Refused { status: 404, .. })
    ));
    // It is neither the bytes of a model nor the word that they were taken.
    let page = endpoint.get_bytes("/login", 1_000).await.unwrap_err();
    assert!(page.is_transient(), "{page}");
    let page = endpoint.put_bytes("/login", vec![1]).await.unwrap_err();
    assert!(page.is_transient(), "{page}");
    let huge = get("/huge").await.unwrap_err();
    assert!(
        !huge.is_transient() && huge.to_string().contains("more than 8388608 bytes"),
        "{huge}"
    );
    assert_eq!(
        get("/slow").await.unwrap_err().retry_after(),
        Some(Duration::from_secs(7))
    );
    let odd = get("/odd").await.unwrap_err();
    assert!(odd.is_transient() && odd.retry_after().is_none(), "{odd}");
    assert!(
        get("/limit").await.unwrap_err().is_transient(),
        "the code says more than the status"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_and_worth_another_try() {
    let endpoint = endpoint_with(Duration::from_millis(200)).await;
    let error = endpoint.get::<Value>("/silent", &[]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_refused_connection_is_worth_another_try_and_hides_the_password() {
    chassis::install_crypto();
    let closed = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let base = format!("http://user:hunter2@{closed}/").parse().unwrap();
    let endpoint = Endpoint::new(base, Credentials::None, Duration::from_secs(5)).unwrap();
    let error = endpoint.get::<Value>("/x", &[]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_signed_address_is_asked_for_without_our_token_and_over_no_open_line() {
    chassis::install_crypto();
    let router = Router::new()
        .route(
            "/signed",
            get(|headers: axum::http::HeaderMap| async move {
                format!("token: {}", headers.contains_key(header::AUTHORIZATION))
            }),
        )
        .route("/login", any(|| async { Html("<title>Sign in</title>") }));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base: url::Url = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let credentials = Credentials::Bearer(chassis::Secret::new("t0ken"));
    let endpoint = Endpoint::new(base.clone(), credentials, Duration::from_secs(10)).unwrap();
    let bytes = endpoint
        .download(&base.join("signed").unwrap(), 100)
        .await
        .unwrap();
    assert_eq!(bytes, b"token: false");
    let page = endpoint
        .download(&base.join("login").unwrap(), 100)
        .await
        .unwrap_err();
    assert!(page.is_transient(), "{page}");
    for elsewhere in [
        "http://storage.example/x?sig=s3cret",
        "https://169.254.169.254/x?sig=s3cret",
    ] {
        let refused = endpoint
            .download(&elsewhere.parse().unwrap(), 100)
            .await
            .unwrap_err();
        assert!(
            !refused.is_transient() && !refused.to_string().contains("s3cret"),
            "{refused}"
        );
    }
}
