"""Writes the tables that are timed: `python tables.py FOLDER ROWS`.

33 columns: 24 numbers of several laws (normal, log-normal, with many zeros, uniform), 6 of few values, 3 texts. The second file
is drawn from the same laws but for four columns that moved. Needs numpy and pyarrow; the seed is fixed, so files are equal.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 250_000


def chunk(draw, rows, moved):
    columns = {}
    for at in range(8):
        columns[f"normal_{at}"] = draw.normal(10.0 + (0.5 if moved and at == 0 else 0.0), 2.0, rows)
        columns[f"amount_{at}"] = draw.lognormal(3.0, 1.4 if moved and at == 0 else 1.2, rows)
        zeros = draw.random(rows) < (0.75 if moved and at == 0 else 0.6)
        columns[f"zero_{at}"] = np.where(zeros, 0.0, draw.exponential(5.0, rows))
    for at in range(6):
        columns[f"count_{at}"] = draw.poisson(2.0, rows).astype(np.int64)
    for at, levels in enumerate((4, 40, 400)):
        weights = 1.0 / np.arange(1, levels + 1)
        if moved and at == 1:
            weights[0] *= 2.0
        codes = draw.choice(levels, rows, p=weights / weights.sum()).astype(np.int32)
        names = pa.array([f"level_{level}" for level in range(levels)])
        columns[f"text_{at}"] = pa.DictionaryArray.from_arrays(pa.array(codes), names).cast(pa.string())
    return pa.table(columns)


def write(path, rows, seed, moved):
    draw = np.random.default_rng(seed)
    writer, whole, path = None, path, path.with_suffix(".partial")
    for first in range(0, rows, CHUNK):
        table = chunk(draw, min(CHUNK, rows - first), moved)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()
    path.rename(whole)


def main():
    folder, rows = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"reference_{rows}.parquet", rows, 1, False)
    write(folder / f"current_{rows}.parquet", rows, 2, True)


if __name__ == "__main__":
    main()
