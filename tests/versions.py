"""
Write docs/versions.md: ``python -m tests.versions PYTHON...``, one interpreter for each Airflow.

Without interpreters, print what the Airflow that runs this has.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs/versions.md"
HEAD = """\
# Versions

The provider runs on Airflow 3.0.6 and newer. What it promises holds in full on Airflow 3.3; this is what older
ones lack, as found in each by `tests/features.py`, and what to know there.

"""


def here() -> dict[str, object]:
    """What the running Airflow has."""
    import airflow

    from tests.features import FEATURES

    return {
        "airflow": airflow.__version__,
        "features": [{"name": f.name, "there": f.there, "without": f.without} for f in FEATURES],
    }


def page(found: list[dict[str, object]]) -> str:
    """The page, from what each Airflow says of itself, oldest first."""
    lines = [f"| Airflow | {' | '.join(str(one['airflow']) for one in found)} | Where it is not |"]
    lines += ["|---|" + ":-:|" * len(found) + "---|"]
    for row in zip(*(one["features"] for one in found), strict=True):  # type: ignore[misc, call-overload]
        marks = " | ".join("yes" if feature["there"] else "no" for feature in row)
        lines += [f"| {row[0]['name'][0].upper()}{row[0]['name'][1:]} | {marks} | {row[0]['without']} |"]
    return HEAD + "\n".join(lines) + "\n"


def ask(python: str) -> dict[str, object]:
    """What the Airflow of that interpreter has; the last line is ours, whatever Airflow prints before it."""
    run = subprocess.run(
        [python, "-m", __spec__.name], stdout=subprocess.PIPE, text=True, check=True, cwd=PAGE.parents[1]
    )
    answer: dict[str, object] = json.loads(run.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    if len(sys.argv) > 1:
        PAGE.write_text(page([ask(python) for python in sys.argv[1:]]))
    else:
        print(json.dumps(here()))
