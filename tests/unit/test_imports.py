"""Promise 6, cheap to import, and that the core knows no Airflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
            "import airflow_provider_apify.transfers.dataset_to_object_storage\n"
            f"print('ADDED', *sorted({LIBRARIES} & (set(sys.modules) - before)))"
        )
        == []
    )


def test_watchers_add_no_http_library_to_a_dag_file() -> None:
    assert (
        printed(
            "import sys, airflow.sdk, airflow.triggers.base; before = set(sys.modules)\n"
            "import airflow_provider_apify.triggers.events\n"
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


def test_the_root_of_the_package_loads_no_other_module_of_ours() -> None:
    assert printed(
        "import sys, airflow_provider_apify as root\n"
        "assert set(root.__all__) <= set(dir(root))\n"
        "print('ADDED', *sorted(name for name in sys.modules if name.startswith('airflow_provider_apify')))"
    ) == ["airflow_provider_apify"]


def test_what_dags_use_can_be_imported_from_the_root() -> None:
    import airflow_provider_apify as root
    from airflow_provider_apify import ApifyBuildOperator, ApifyBuildSensor, ApifyBuildTrigger, ApifyHook, __version__
    from airflow_provider_apify.operators.build import ApifyBuildOperator as Operator

    assert ApifyBuildOperator is Operator
    assert [each.__name__ for each in (ApifyBuildSensor, ApifyBuildTrigger, ApifyHook)] == [
        "ApifyBuildSensor",
        "ApifyBuildTrigger",
        "ApifyHook",
    ]
    assert __version__ == root.__version__
    with pytest.raises(AttributeError, match="ApifyRunOperator"):
        root.ApifyRunOperator  # noqa: B018
