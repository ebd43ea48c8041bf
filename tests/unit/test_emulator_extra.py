"""What the emulator needs and the package does not: the extra ``emulator``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WITHOUT_EACH = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None
    try:
        import airflow_provider_apify.emulator.pytest_plugin
    except ModuleNotFoundError as error:
        print(error.name, error)
    del sys.modules[name]
"""
ON_THE_COMMAND_LINE = """
import runpy, sys
sys.modules["uvicorn"] = None
runpy.run_module("airflow_provider_apify.emulator", run_name="__main__")
"""


def says(missing: str) -> str:
    return f"The emulator needs {missing}: pip install 'airflow-provider-apify[emulator]'"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_without_one_of_them_the_emulator_says_what_to_install() -> None:
    (extra,) = re.findall(r"^emulator = (.*)$", ROOT.joinpath("pyproject.toml").read_text(), re.MULTILINE)
    names = re.findall(r'"([\w-]+)', extra)
    assert len(names) >= 4
    assert run(WITHOUT_EACH, *names).stdout.splitlines() == [f"{name} {says(name)}" for name in names]


def test_so_it_does_on_the_command_line() -> None:
    ended = run(ON_THE_COMMAND_LINE)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"ModuleNotFoundError: {says('uvicorn')}"
