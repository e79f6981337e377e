//! A webhook that takes messages and then says nothing for a while: the moment between send and commit, held open.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::Value;

struct Shared {
    silent: usize,
    received: Mutex<Vec<Value>>,
}

/// A running webhook; stops when dropped.
pub struct SilentWebhook {
    shared: Arc<Shared>,
    /// Where to post.
    pub url: String,
    server: tokio::task::JoinHandle<()>,
}

impl SilentWebhook {
    /// Takes the first `silent` messages without ever answering, and answers `ok` from then on.
    pub async fn start(silent: usize) -> Self {
        let shared = Arc::new(Shared {
            silent,
            received: Mutex::default(),
        });
        let router = Router::new()
            .route("/hook", post(hook))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let server =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("serve the webhook") });
        Self { shared, url, server }
    }

    /// Every message so far.
    pub fn received(&self) -> Vec<Value> {
        self.shared
            .received
            .lock()
            .expect("no panic while locked")
            .clone()
    }
}

impl Drop for SilentWebhook {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn hook(State(shared): State<Arc<Shared>>, body: String) -> &'static str {
    let arrived = {
        let mut received = shared.received.lock().expect("no panic while locked");
        received.push(serde_json::from_str(&body).expect("JSON"));
        received.len()
    };
    if arrived <= shared.silent {
        std::future::pending().await
    } else {
        "ok"
    }
}
