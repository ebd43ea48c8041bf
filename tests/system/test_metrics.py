"""The counters of docs/metrics.md, as a statsd server gets them from workers and triggerer."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from airflow_provider_apify.emulator import Emulator, Fault
from rig.local_airflow import LocalAirflow
from rig.waiting import wait_until
from tests.system.conftest import builds_of

ROOT = Path(__file__).parents[2]


def test_builds_are_counted(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str], statsd: list[str]
) -> None:
    statsd.clear()
    apify.add_fault(Fault("lost-answer", "POST", "/v2/acts/~two-versions/builds"))
    lost, failing = start("in_worker", "~two-versions"), start("deferred", "~always-fails")
    marked, marked_deferred = start("in_worker", "~endless"), start("deferred", "~late")
    apify.wait_for(lambda emulator: bool(builds_of(emulator, "endless")), timeout=30)
    airflow.wait_for_run("in_worker", lost)
    airflow.wait_for_run("deferred", failing)
    airflow.wait_for_task("deferred", marked_deferred, "build", {"deferred"})
    # Only now: on a busy machine Airflow does not say in time that a task is over, and its build is left alone.
    airflow.mark("in_worker", marked, "build", "failed")
    airflow.mark("deferred", marked_deferred, "build", "failed")

    def tags(dag_id: str, actor: str) -> str:
        return f"dag_id={dag_id},task_id=build,actor_id={builds_of(apify, actor)[0]['actId']}"

    expected = {
        f"airflow.apify.build.adopted,{tags('in_worker', 'two-versions')}:1|c": 1,
        f"airflow.apify.build.started,{tags('deferred', 'always-fails')}:1|c": 2,
        f"airflow.apify.build.started,{tags('in_worker', 'endless')}:1|c": 1,
        f"airflow.apify.build.started,{tags('deferred', 'late')}:1|c": 1,
        f"airflow.apify.build.failed,{tags('deferred', 'always-fails')},status=FAILED:1|c": 2,
        f"airflow.apify.build.aborted,{tags('in_worker', 'endless')}:1|c": 1,
        f"airflow.apify.build.aborted,{tags('deferred', 'late')}:1|c": 1,
    }

    def counted() -> Counter[str]:
        return Counter(line for line in statsd if ".apify." in line)

    with contextlib.suppress(TimeoutError):
        wait_until(lambda: counted().total() >= sum(expected.values()), "everything is counted", timeout=30)
    assert counted() == expected
    documented = re.findall(r"`(apify\.build\.\w+)`", ROOT.joinpath("docs/metrics.md").read_text())
    # Reuse is counted in tests/integration/test_release.py.
    counted_here = {f"airflow.{name}" for name in documented if name != "apify.build.reused"}
    assert {line.split(",")[0] for line in expected} == counted_here
