"""Promise 6, cheap to import, and that the core knows no Airflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARIES = "{'requests', 'aiohttp', 'urllib3', 'httpx', 'tenacity', 'yarl', 'apify_client'}"


def printed(code: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1].removeprefix("ADDED").split()


def test_operator_and_sensor_add_no_http_library_to_a_dag_file() -> None:
    assert (
        printed(
            "import sys, airflow.sdk; before = set(sys.modules)\n"
            "import airflow_provider_apify.operators.build, airflow_provider_apify.sensors.build\n"
            f"print('ADDED', *sorted({LIBRARIES} & (set(sys.modules) - before)))"
        )
        == []
    )


def test_api_and_jobs_need_neither_airflow_nor_http_libraries() -> None:
    assert (
        printed(
            "import sys, pkgutil, importlib\n"
            "from airflow_provider_apify import api, jobs\n"
            "found = [module.name for package in (api, jobs)\n"
            "         for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.')]\n"
            "assert len(found) >= 7, found\n"
            "for name in found: importlib.import_module(name)\n"
            f"print('ADDED', *sorted(({LIBRARIES} | {{'airflow'}}) & set(sys.modules)))"
        )
        == []
    )
