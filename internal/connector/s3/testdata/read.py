"""Reads Parquet files as an analyst does: all files below a folder, with the
partitions that their paths say. Prints what it finds, one JSON object a line."""

import json
import sys

import duckdb

db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
files = sys.argv[1] + "/**/*.parquet"
for name, kind in db.execute(
    "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = true, hive_types_autocast = false))", [files]
).fetchall():
    print(json.dumps({"column": name, "type": kind}))
query = """
    SELECT id, type, name, user_id, anonymous_id, timestamp::VARCHAR, received_at::VARCHAR, source, ip,
        data::VARCHAR, context::VARCHAR, data->>'total', dt, hh
    FROM read_parquet(?, hive_partitioning = true, hive_types_autocast = false)
    ORDER BY received_at
"""
for row in db.execute(query, [files]).fetchall():
    print(json.dumps(row, ensure_ascii=False))
