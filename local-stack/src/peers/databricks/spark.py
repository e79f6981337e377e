"""Runs statements on Apache Spark: one line of JSON in, one line of JSON out.

In: {"sql": …, "into": FOLDER, "chunk_rows": N}. Out: {"columns": […], "chunks": [rows, …]} with one file of Arrow's stream format
per chunk in FOLDER, or {"sql_state": …, "message": …}. Arguments: a Parquet file that becomes the table bank.payment, and whether its
instants have a zone.
"""

import json
import os
import sys

import pyarrow
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

path, zone, home = sys.argv[1], sys.argv[2] == "zone", sys.argv[3]
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.sql.warehouse.dir", os.path.join(home, "warehouse"))
    .config("spark.sql.ansi.enabled", "true")
    # A zone that is not UTC: nothing may depend on it.
    .config("spark.sql.session.timeZone", "Asia/Tokyo")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
ORIGIN = "timestamp_ntz '1970-01-01 00:00:00'"
if zone:
    instants = (
        f"timestamp_micros(timestampdiff(MICROSECOND, {ORIGIN}, tx_time)) as tx_time, labelled_at"
    )
else:
    instants = (
        "cast(tx_time as timestamp_ntz) as tx_time,"
        f" timestampadd(MICROSECOND, unix_micros(labelled_at), {ORIGIN}) as labelled_at"
    )
spark.sql("create database bank")
spark.read.parquet(path).createOrReplaceTempView("read")
spark.sql(
    f"create table bank.payment using parquet as select * except (tx_time, labelled_at, is_fraud), {instants},"
    " cast(is_fraud as boolean) as is_fraud from read"
)
print(json.dumps({"ready": True}), flush=True)

for line in sys.stdin:
    asked = json.loads(line)
    try:
        frame = spark.sql(asked["sql"])
        columns = [
            {"name": field.name, "type_text": field.dataType.simpleString().upper()}
            for field in frame.schema.fields
        ]
        table = frame.toArrow()
        chunks = []
        for start in range(0, table.num_rows, asked["chunk_rows"]):
            part = table.slice(start, asked["chunk_rows"])
            into = os.path.join(asked["into"], f"{len(chunks)}.arrow")
            with pyarrow.ipc.new_stream(into, part.schema) as writer:
                writer.write_table(part)
            chunks.append(part.num_rows)
        answer = {"columns": columns, "chunks": chunks}
    except PySparkException as error:
        answer = {"sql_state": error.getSqlState() or "", "message": str(error)[:2000]}
    print(json.dumps(answer), flush=True)
