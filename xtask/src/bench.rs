//! How fast: the detectors on streams, and whole reports beside what peers need for the same files.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::process::{cargo, command, root, run, target};

/// Rows of each of the two files of a report, unless told otherwise.
pub(crate) const ROWS: [u64; 2] = [1_000_000, 5_000_000];
/// Files that are larger than this do not fit into a peer's memory on a small machine.
const PEERS_ROWS_MAX: u64 = 1_000_000;

/// Runs the benchmarks.
///
/// # Errors
/// When something cannot be built, fetched or run.
pub(crate) fn run_bench(rows: &[u64], peers: bool) -> anyhow::Result<()> {
    eprintln!("xtask: detectors on streams");
    run(cargo().args(["bench", "--package", "drift-stats", "--bench", "streams"]))?;
    eprintln!("xtask: building the command with all optimisation");
    run(cargo().args(["build", "--release", "--package", "vigie", "--bin", "vigie"]))?;
    let vigie = target().join("release").join("vigie");
    let tables = environment("bench", "tables.txt")?;
    let folder = target().join("bench-tables");
    for count in rows {
        let written = |side: &str| folder.join(format!("{side}_{count}.parquet")).exists();
        if !written("reference") || !written("current") {
            eprintln!("xtask: writing two tables of {count} rows");
            run(command(&tables)
                .arg("bench/tables.py")
                .arg(&folder)
                .arg(count.to_string()))?;
        }
        let with_peers = peers && *count <= PEERS_ROWS_MAX;
        let python = if with_peers {
            environment("bench-peers", "peers.txt")?
        } else {
            tables.clone()
        };
        let mut timed = command(python);
        timed
            .arg("bench/run.py")
            .args([&vigie, &folder])
            .arg(count.to_string())
            .args(with_peers.then_some("--peers"));
        run(&mut timed)?;
    }
    Ok(())
}

/// Runs the table of false alarms and of what is seen, and the peers' beside it.
///
/// # Errors
/// When something cannot be built, fetched or run.
pub(crate) fn run_false_alarms(peers: bool) -> anyhow::Result<()> {
    eprintln!("xtask: windows in which nothing moved, and in which something did; some minutes");
    run(cargo().args(["bench", "--package", "drift-monitor", "--bench", "false_alarms"]))?;
    if peers {
        let python = environment("bench-peers", "peers.txt")?;
        run(command(&python).arg("bench/false_alarms.py"))?;
    }
    Ok(())
}

/// Runs the table of what an hourly check costs.
///
/// # Errors
/// When something cannot be built or run.
pub(crate) fn run_hourly() -> anyhow::Result<()> {
    eprintln!("xtask: hourly checks of a table in PostgreSQL; some minutes");
    run(cargo().args(["bench", "--package", "drift-monitor", "--bench", "hourly_check"]))
}

/// The Python of an environment of its own, made when it is missing or its requirements changed.
fn environment(name: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    let place = root().join(".tools").join(name);
    let python = place.join("bin").join("python");
    let wanted = root().join("bench").join(requirements);
    let stamp = place.join("requirements.txt");
    if same(&wanted, &stamp) && python.exists() {
        return Ok(python);
    }
    eprintln!(
        "xtask: installing what bench/{requirements} names into {}",
        place.display()
    );
    run(command("python3").args(["-m", "venv", "--clear"]).arg(&place))?;
    run(command(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ])
        .arg(&wanted))?;
    if std::fs::copy(&wanted, &stamp).is_err() {
        bail!("{} cannot be written", stamp.display());
    }
    Ok(python)
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((std::fs::read(a), std::fs::read(b)), (Ok(a), Ok(b)) if a == b)
}
