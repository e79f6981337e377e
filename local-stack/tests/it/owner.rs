//! What becomes of the servers when their owner dies.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{database, eventually, runs_below};

/// The owner is another process: the `local-stack` program.
fn start_owner(folder: Option<&Path>) -> (Child, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local-stack"));
    command.args(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    (
        owner,
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")),
    )
}

fn folder_of(reach: &Value) -> PathBuf {
    PathBuf::from(reach["folder"].as_str().unwrap())
}

#[tokio::test]
async fn the_end_of_its_input_ends_it_in_order() {
    let (mut owner, reach) = start_owner(None);
    let folder = folder_of(&reach);
    assert!(runs_below(&folder));
    drop(owner.stdin.take());
    assert!(owner.wait().unwrap().success());
    assert!(
        !runs_below(&folder) && !folder.exists(),
        "all was gone before it ended"
    );
}

#[tokio::test]
async fn servers_do_not_outlive_a_killed_owner() {
    let (mut owner, reach) = start_owner(None);
    let folder = folder_of(&reach);
    assert!(runs_below(&folder));
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("servers, watchdog and folder are gone", || {
        !runs_below(&folder) && !folder.exists()
    })
    .await;
}

#[tokio::test]
async fn a_kept_folder_can_be_used_at_once_after_its_owner_was_killed() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    for round in 0..3 {
        let (mut owner, reach) = start_owner(Some(&folder));
        let mut connection = database(reach["database"].as_str().unwrap()).await;
        if round == 0 {
            sqlx::raw_sql("create table round (n int)")
                .execute(&mut connection)
                .await
                .unwrap();
        }
        sqlx::raw_sql("insert into round values (1)")
            .execute(&mut connection)
            .await
            .unwrap();
        let rounds: i64 = sqlx::query_scalar("select count(*) from round")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(rounds, round + 1);
        owner.kill().unwrap();
        owner.wait().unwrap();
    }
    eventually("the last servers are gone", || !runs_below(&folder)).await;
    assert!(folder.exists());
    let pid_files = |name: &str| {
        let entries = folder.join(name).read_dir().unwrap();
        entries
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|e| e == "pid")
            })
            .count()
    };
    eventually("its pid files too", || {
        pid_files("nats") + pid_files("postgres") == 0
    })
    .await;
}

#[tokio::test]
async fn a_kept_folder_survives_the_death_of_owner_and_watchdog() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let (mut owner, reach) = start_owner(Some(&folder));
    let postgres = reach["postgres_pid"].as_i64().unwrap();
    kill_watchdog_of(owner.id());
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(
        Path::new(&format!("/proc/{postgres}")).exists(),
        "nobody has stopped it"
    );

    let (mut owner, reach) = start_owner(Some(&folder));
    assert_ne!(reach["postgres_pid"].as_i64().unwrap(), postgres);
    eventually("the leftover is gone", || !is_alive(postgres)).await;
    drop(owner.stdin.take());
    assert!(owner.wait().unwrap().success());
}

fn is_alive(pid: i64) -> bool {
    // A zombie has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command_line| !command_line.is_empty())
}

fn kill_watchdog_of(owner: u32) {
    let mut killed = 0;
    for entry in Path::new("/proc").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        let command_line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        if parent == Some(owner) && String::from_utf8_lossy(&command_line).contains("vigie-watchdog") {
            let pid = path.file_name().unwrap();
            assert!(
                Command::new("kill")
                    .arg("-9")
                    .arg(pid)
                    .status()
                    .unwrap()
                    .success()
            );
            killed += 1;
        }
    }
    assert_eq!(killed, 1);
}
