"""
Write docs/versions.md: ``python -m tests.versions FILE...``, from what the tested environments have said of themselves.

Without files, print what the environment that runs this has to say. `make matrix` does both.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs/versions.md"
HEAD = """\
# Versions

The provider runs on Airflow 3.0.6 and newer. What it promises holds in full on Airflow 3.3; this is what older
ones lack, as found in each by `tests/features.py`, and what to know there. `make matrix` runs the tests on all of these
and writes this table.

"""

TAIL = """\

## Installing under Airflow's constraints

Airflow's constraint files up to 3.1.5 pin `apache-airflow-providers-common-compat` to a release that lacks what this
provider imports (1.12.0 is the first that has it). With such a file pip answers `ResolutionImpossible`. Leave that one
line out of the file, and everything else stays as Airflow was tested:

<!-- not run: it would install another Airflow than the one under test -->

```sh
curl -sSL https://raw.githubusercontent.com/apache/airflow/constraints-3.0.6/constraints-3.11.txt \\
    | grep -v '^apache-airflow-providers-common-compat==' > constraints.txt
pip install apache-airflow==3.0.6 airflow-provider-apify -c constraints.txt
```

Where Airflow is installed already, `pip install apache-airflow==3.0.6 airflow-provider-apify`, without constraints,
upgrades that package and nothing else of Airflow's. From Airflow 3.1.6 on, the constraint files can be used as they
are.
"""


def here() -> dict[str, Any]:
    """What the running Python and Airflow have."""
    import tests.conftest  # noqa: F401, I001 - gives Airflow a home that is not the user's
    import airflow

    from tests.features import FEATURES

    return {
        "airflow": airflow.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "features": [{"name": f.name, "there": f.there, "without": f.without} for f in FEATURES],
    }


def page(found: list[dict[str, Any]]) -> str:
    """The page, from what each environment says of itself, oldest first."""
    by_airflow: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        by_airflow.setdefault(one["airflow"], []).append(one)
    pythons = (", ".join(dict.fromkeys(one["python"] for one in same)) for same in by_airflow.values())
    lines = [
        f"| Airflow | {' | '.join(by_airflow)} | Where it is not |",
        "|---|" + ":-:|" * len(by_airflow) + "---|",
        f"| The tests pass on Python | {' | '.join(pythons)} | Not tried. |",
    ]
    for row in zip(*(same[0]["features"] for same in by_airflow.values()), strict=True):
        marks = " | ".join("yes" if feature["there"] else "no" for feature in row)
        lines += [f"| {row[0]['name'][0].upper()}{row[0]['name'][1:]} | {marks} | {row[0]['without']} |"]
    return HEAD + "\n".join(lines) + "\n" + TAIL


def numbers(one: dict[str, Any]) -> list[list[int]]:
    return [[int(part) for part in one[key].split(".")] for key in ("airflow", "python")]


def said(file: str) -> dict[str, Any]:
    """What an environment said; the last line is ours, whatever Airflow prints before it."""
    answer: dict[str, Any] = json.loads(Path(file).read_text().splitlines()[-1])
    return answer


if __name__ == "__main__":
    if len(sys.argv) > 1:
        PAGE.write_text(page(sorted(map(said, sys.argv[1:]), key=numbers)))
    else:
        print(json.dumps(here()))
