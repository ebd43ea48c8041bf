"""
Write docs/versions.md from what the tested environments have said of themselves.

``python -m tests.write_versions_page FILE...``

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

**Use Airflow 3.3 if you can.** The provider runs on Airflow 3.0.6 and newer, with Python 3.10 and newer. All that
[Reliability](reliability.md) promises holds on Airflow 3.3. What matters most on older versions:

- Before 3.3, a retry finds its build only by the User-Agent that Apify recorded. So no proxy may rewrite it.
- Before 3.3, an evicted worker aborts nothing, even if no retry is left.
- In 3.0, Airflow does not retry a task whose process was killed.

The tables list the rest. `make matrix` runs the tests on all these versions and writes this page.

"""

TAIL = """\

## Installing under Airflow's constraints

Airflow's constraint files up to 3.1.5 pin `apache-airflow-providers-common-compat` to a release that lacks what this
provider imports; it needs 1.12.0 or newer. With such a file pip fails with `ResolutionImpossible`. Leave that one line
out of the file; all other packages stay as Airflow was tested:

<!-- not run: it would install another Airflow than the one under test -->

```sh
constraints=https://raw.githubusercontent.com/apache/airflow/constraints-3.0.6
curl -sSL $constraints/constraints-3.11.txt \\
    | grep -v '^apache-airflow-providers-common-compat==' > constraints.txt
pip install apache-airflow==3.0.6 airflow-provider-apify -c constraints.txt
```

Until the first release, write the folder of your checkout instead of `airflow-provider-apify`.

If Airflow is already installed, `pip install apache-airflow==3.0.6 airflow-provider-apify` without constraints upgrades
that package and no other of Airflow's. From Airflow 3.1.6 on, you can use the constraint files as they are.
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
        f"| Airflow | {' | '.join(by_airflow)} |",
        "|---|" + ":-:|" * len(by_airflow),
        f"| Tested with Python | {' | '.join(pythons)} |",
    ]
    losses = ["", "## What you lose", "", "| Without | You lose |", "|---|---|"]
    for row in zip(*(same[0]["features"] for same in by_airflow.values()), strict=True):
        name = f"{row[0]['name'][0].upper()}{row[0]['name'][1:]}"
        lines += [f"| {name} | {' | '.join('yes' if feature['there'] else '**no**' for feature in row)} |"]
        losses += [f"| {name} | {row[0]['without']} |"]
    return HEAD + "\n".join(lines + losses) + "\n" + TAIL


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
