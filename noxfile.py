"""`make matrix`: the tests on each Airflow, on each Python, with the lowest dependencies and with the newest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import nox

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False


def as_of(day: str) -> tuple[str, ...]:
    """Take dependencies of that day, but for the one of which the provider needs a newer version on older Airflows."""
    return "--exclude-newer", day, "--exclude-newer-package", "apache-airflow-providers-common-compat=false"


#: The newest patch of each Airflow, and which dependencies: those of soon after its release, since most have no upper
#: bound and later ones break it. The newest Airflow has to get on with the newest of everything.
AIRFLOWS = {"3.0.6": as_of("2025-09-15"), "3.1.8": as_of("2026-04-01"), "3.2.2": as_of("2026-06-15"), "3.3.2": ()}
OLDEST, *_, NEWEST = AIRFLOWS
PYTHON = "3.11"
OTHER_PYTHONS = ("3.10", "3.12", "3.13", "3.14")
SYSTEM_TEST = "tests/system/test_examples_and_outcomes.py::test_nightly_rebuild_passes_the_stats_on"

if shutil.which("pyenv"):
    # nox finds only those of pyenv's interpreters that are switched on.
    installed = subprocess.run(["pyenv", "versions", "--bare"], stdout=subprocess.PIPE, text=True, check=True).stdout
    os.environ["PYENV_VERSION"] = ":".join(installed.split())


def case(airflow: str, python: str = PYTHON, resolution: str = "highest", *tags: str) -> Any:
    name = f"{airflow}-python{python}" + (f"-{resolution}" if resolution != "highest" else "")
    return nox.param(airflow, python, resolution, id=name, tags=[airflow, python, resolution, *tags])


@nox.session
@nox.parametrize(
    ("airflow", "python", "resolution"),
    [
        case(OLDEST, PYTHON, "highest", "oldest"),
        case(OLDEST, "3.10", "lowest-direct"),
        *(case(airflow) for airflow in AIRFLOWS if airflow != OLDEST),
        *(case(NEWEST, python) for python in OTHER_PYTHONS),
    ],
)
def tests(session: nox.Session, airflow: str, resolution: str) -> None:
    """Run unit and integration tests, or those named after --, and a system test on the oldest and newest Airflow."""
    passed = session.cache_dir / f"{session.name}.json"
    passed.unlink(missing_ok=True)

    session.install("-e", ".", f"apache-airflow=={airflow}", "--resolution", resolution, *AIRFLOWS[airflow])
    session.install("--group", "test")

    pytest = ("python", "-m", "pytest")
    session.run(*pytest, "-n", "4", "-m", "not long", *(session.posargs or ("tests/unit", "tests/integration")))
    if airflow in (OLDEST, NEWEST) and session.python == PYTHON:
        session.run(*pytest, SYSTEM_TEST)

    if not session.posargs:
        passed.write_text(str(session.run("python", "-m", "tests.write_versions_page", silent=True)))


@nox.session(python=PYTHON, default=False)
def short(session: nox.Session) -> None:
    """Measure bursts of short builds on the oldest Airflow, as `make scale PART=short` does on the newest."""
    session.install("-e", ".", f"apache-airflow=={OLDEST}", "psycopg2-binary", "asyncpg", *AIRFLOWS[OLDEST])
    session.run("python", "-m", "bench.scale", "short")


@nox.session(venv_backend="none")
def versions(session: nox.Session) -> None:
    """Write docs/versions.md: the Pythons that the tests have passed on, and what each Airflow lacks."""
    passed = sorted(file for name in AIRFLOWS for file in session.cache_dir.glob(f"tests({name}-*.json"))
    if missing := [airflow for airflow in AIRFLOWS if not any(f"({airflow}-" in file.name for file in passed)]:
        session.skip(f"no tests have passed on Airflow {', '.join(missing)}")
    session.run(sys.executable, "-m", "tests.write_versions_page", *map(str, passed))
