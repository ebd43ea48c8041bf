"""What tasks pass on, in cases that the matrix of ways to wait does not have."""

from __future__ import annotations

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from tests.kinds import Kind
from tests.runner import Runner


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_a_sensor_whose_first_look_fails_passes_all_on_the_same(
    deferrable: bool, kind: Kind, apify: Emulator, runner: Runner
) -> None:
    job_id = kind.start()
    apify.add_fault(Fault("reset", method="GET"))
    outcome = runner.run_to_end(lambda: kind.sensor(job_id, deferrable=deferrable))
    assert outcome.state == "success"
    assert outcome.xcoms.keys() == {
        kind.id,
        *kind.job_kind.job.announced,
        "summary",
        "stats",
        "return_value",
        "_link_ApifyConsoleLink",
    }
    assert outcome.xcoms["_link_ApifyConsoleLink"] == outcome.xcoms["summary"]["console_url"]


def test_without_do_xcom_push_there_is_only_the_link(kind: Kind, apify: Emulator, runner: Runner) -> None:
    job_id = kind.start()
    outcome = runner.run_to_end(lambda: kind.sensor(job_id, do_xcom_push=False, deferrable=True))
    assert outcome.state == "success"
    assert outcome.xcoms.keys() == {"_link_ApifyConsoleLink"}
    assert outcome.xcoms["_link_ApifyConsoleLink"].startswith("https://console.apify.com/actors/")
