"""
What a DAG file pays for importing operators and sensors.

"apify" are those of builds, "apify, all" those of runs, too. In fresh processes that have imported ``airflow.sdk`` and
the EmptyOperator, as every DAG file has: CPU time (user and system) of importing the operator and the sensor, modules
that this adds, and whether ``requests`` and ``aiohttp`` are among them. One run before the counted ones compiles the
modules. The other providers: the same, in their environment, with the operator and the sensor (Databricks: the
operator) that go with their triggers.
"""

from __future__ import annotations

import argparse
import tempfile

from bench import common, report

IMPORTS = {
    "apify": "airflow_provider_apify.operators.build, airflow_provider_apify.sensors.build",
    "apify, all": "airflow_provider_apify.operators.build, airflow_provider_apify.sensors.build,"
    " airflow_provider_apify.operators.run, airflow_provider_apify.sensors.run",
    "airbyte": "airflow.providers.airbyte.operators.airbyte, airflow.providers.airbyte.sensors.airbyte",
    "databricks": "airflow.providers.databricks.operators.databricks",
}
SCRIPT = """
import json, sys, time
import airflow.sdk, airflow.providers.standard.operators.empty
before, at = set(sys.modules), time.process_time()
import {modules}
cpu = time.process_time() - at
added = set(sys.modules) - before
print(json.dumps(dict(cpu_ms=1000 * cpu, modules=len(added), requests="requests" in added, aiohttp="aiohttp" in added)))
"""
COLUMNS = {
    "who": "Who",
    "cpu_ms": "CPU ms",
    "modules": "Modules",
    "requests": "requests",
    "aiohttp": "aiohttp",
    "ratio": "Times ours",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="processes of each")
    options = parser.parse_args()
    print(__doc__)
    everyone = ["apify", "apify, all", *(common.PEERS if common.peers_there() else [])]
    rows = []
    with tempfile.TemporaryDirectory() as home:
        env = common.clean_environment(home)
        for turn in range(options.rounds + 1):
            for who in everyone:
                row = common.run_python(who, ["-c", SCRIPT.format(modules=IMPORTS[who])], env, timeout=300)
                if turn:
                    rows.append({"who": who, **row, "requests": str(row["requests"]), "aiohttp": str(row["aiohttp"])})
    merged = report.medians(rows, ("who", "requests", "aiohttp"))
    for row in merged:
        row["ratio"] = row["cpu_ms"] / merged[0]["cpu_ms"]
    report.print_table(merged, COLUMNS)
    report.save("imports", __doc__ or "", rows=merged)


if __name__ == "__main__":
    main()
