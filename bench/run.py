"""Times whole processes: `python run.py VIGIE FOLDER ROWS [--peers]`. Called by `cargo xtask bench`.

Prints one Markdown row for each: wall clock, CPU (user and system, children included) and the largest resident memory, as the
kernel counts them for the process (wait4).
"""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def timed(name, command):
    begun = time.monotonic()
    # Nobody is told of it over the network, nor waits for that.
    quiet = os.environ | {"NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=quiet)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begun
    code = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    if code not in (0, 2, 3):
        sys.exit(f"{name} ended with {code}")
    print(f"| {name} | {wall:.2f} s | {cpu:.2f} s | {usage.ru_maxrss / 1024:.0f} MiB | {code} |", flush=True)


def main():
    vigie, folder, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    reference, current = (str(folder / f"{side}_{rows}.parquet") for side in ("reference", "current"))
    # Files that were just written are not written out while others are timed.
    os.sync()
    page = str(folder / f"report_{rows}.html")
    print(f"\n33 columns, {rows:,} rows in each file, {os.cpu_count()} cores\n")
    print("| what | wall | CPU | memory | exit |\n| --- | ---: | ---: | ---: | ---: |", flush=True)
    for attempt in ("first", "again"):
        command = [vigie, "report", reference, current, "--output", "json", "--html", page]
        timed(f"vigie report, JSON and page ({attempt})", command)
    print(f"\nthe page has {Path(page).stat().st_size / 1000:.0f} kB", file=sys.stderr)
    if "--peers" in sys.argv:
        for peer in ("nannyml", "evidently"):
            timed(peer, [sys.executable, str(HERE / "peers.py"), peer, reference, current])


if __name__ == "__main__":
    main()
