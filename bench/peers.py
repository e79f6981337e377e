"""The same comparison by a peer: `python peers.py evidently|nannyml REFERENCE CURRENT`. Only the work is done; `run.py` takes the time."""

import sys
import warnings

import pandas as pd

warnings.filterwarnings("ignore")


def evidently(reference, current):
    from evidently import Report
    from evidently.presets import DataDriftPreset

    result = Report([DataDriftPreset()]).run(current, reference)
    result.save_html("/dev/null")
    result.json()


def nannyml(reference, current):
    import nannyml as nml

    numeric = [name for name in reference.columns if not name.startswith("text_")]
    calculator = nml.UnivariateDriftCalculator(
        column_names=list(reference.columns),
        treat_as_categorical=[name for name in reference.columns if name not in numeric],
        continuous_methods=["jensen_shannon"],
        categorical_methods=["jensen_shannon"],
        chunk_number=1,
    )
    calculator.fit(reference)
    calculator.calculate(current).to_df()


def main():
    peer, reference, current = sys.argv[1:4]
    frames = [pd.read_parquet(path) for path in (reference, current)]
    {"evidently": evidently, "nannyml": nannyml}[peer](*frames)


if __name__ == "__main__":
    main()
