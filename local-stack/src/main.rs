//! `local-stack [FOLDER]`: starts a stack, prints how to reach it as one line of JSON, and stops it at the end of
//! standard input or at Ctrl-C. Without FOLDER everything is temporary.

use std::process::ExitCode;

use local_stack::{Stack, StackOptions};

#[tokio::main]
async fn main() -> ExitCode {
    match hold().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("local-stack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn hold() -> anyhow::Result<()> {
    let options = match std::env::args_os().nth(1) {
        Some(folder) => StackOptions::kept_in(folder),
        None => StackOptions::default(),
    };
    let stack = Stack::start(options).await?;
    let reach = serde_json::json!({
        "nats": stack.nats_url(),
        "database": stack.database_url(),
        "monitor": stack.nats().monitor_url(),
        "folder": stack.folder(),
        "nats_pid": stack.nats().pid(),
        "postgres_pid": stack.postgres().pid(),
    });
    println!("{reach}");
    // A thread of its own: a blocking read cannot be given up, and must not hold up the end of the runtime.
    let (tell, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || tell.send(std::io::copy(&mut std::io::stdin(), &mut std::io::sink())));
    tokio::select! {
        stop = tokio::signal::ctrl_c() => stop?,
        end = ended => {
            end??;
        }
    }
    stack.stop().await
}
