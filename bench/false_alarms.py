"""How often peers speak with their default rules: `python false_alarms.py [WINDOWS [evidently|NannyML]]`. Called by `cargo xtask bench --false-alarms --peers`.

The laws, the changes and the reference of 20,000 rows are those of `drift-monitor/benches/false_alarms.rs`; one feature. Prints the
share of windows that are called drifted, when nothing moved and when something did.
"""

import os
import sys
import warnings

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")
os.environ.update(NML_DISABLE_USAGE_LOGGING="1", DO_NOT_TRACK="1")

REFERENCE_ROWS = 20_000
SIZES = (500, 2_000, 10_000)
LEVELS = np.array([f"level {level}" for level in range(500)])


def weights(moved):
    plain = 1.0 / np.arange(1, 501)
    share = plain[0] / plain.sum()
    if moved:
        plain, first = plain * (1 - 1.2 * share) / (1 - share), 1.2 * plain[0]
        plain[0] = first
    return plain / plain.sum()


LAWS = {
    "normal": lambda draw, rows, moved: draw.normal(0.1 if moved else 0.0, 1.0, rows),
    "log-normal, sigma 1.2": lambda draw, rows, moved: draw.lognormal(3.0, 1.3 if moved else 1.2, rows),
    "60 % zeros": lambda draw, rows, moved: np.where(
        draw.random(rows) < (0.66 if moved else 0.6), 0.0, draw.exponential(5.0, rows)
    ),
    "500 levels": lambda draw, rows, moved: draw.choice(LEVELS, rows, p=weights(moved)),
    "a flag, 1 %": lambda draw, rows, moved: (draw.random(rows) < (0.02 if moved else 0.01)).astype(int),
}


def evidently(reference, windows):
    from evidently import Report
    from evidently.presets import DataDriftPreset

    drifted = 0
    for window in windows:
        found = Report([DataDriftPreset()]).run(window, reference).dict()
        drifted += found["metrics"][0]["value"]["count"] > 0
    return drifted / len(windows)


def nannyml(reference, windows):
    import nannyml as nml

    categories = ["x"] if reference["x"].dtype == object or reference["x"].nunique() <= 2 else []
    calculator = nml.UnivariateDriftCalculator(
        column_names=["x"], treat_as_categorical=categories, chunk_size=len(windows[0])
    )
    calculator.fit(reference)
    found = calculator.calculate(pd.concat(windows, ignore_index=True)).filter(period="analysis").to_df()
    alerts = [column for column in found.columns if column[-1] == "alert"]
    return float(found[alerts].any(axis=1).mean())


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    draw = np.random.default_rng(1)
    heads = "".join(f" {size:,} rows: same | moved |" for size in SIZES)
    print(f"| tool | values |{heads}\n| --- | --- |" + " ---: | ---: |" * len(SIZES), flush=True)
    peers = {"evidently": evidently, "NannyML": nannyml}
    for name in sys.argv[2:] or peers:
        peer = peers[name]
        for values, law in LAWS.items():
            cells = []
            for size in SIZES:
                reference = pd.DataFrame({"x": law(draw, REFERENCE_ROWS, False)})
                for moved in (False, True):
                    windows = [pd.DataFrame({"x": law(draw, size, moved)}) for _ in range(count)]
                    cells.append(f" {peer(reference, windows):.2f} |")
            print(f"| {name} | {values} |" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
