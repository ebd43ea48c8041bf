"""Arguments as people write them, as templates render them and as other tasks hand them over."""

from __future__ import annotations

import pytest

from airflow_provider_apify.emulator import Emulator
from tests.integration.conftest import operator, starts
from tests.runner import Runner


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ({}, "version=0.0"),
        ({"tag": "candidate"}, "version=0.0&tag=candidate"),
        ({"tag": "latest"}, "version=0.0&tag=latest"),
        ({"version": "1.0", "tag": "candidate"}, "version=1.0&tag=candidate"),
        ({"version": "0.0", "tag": "beta"}, "version=0.0&tag=beta"),
    ],
)
def test_the_tag_does_not_choose_the_version(
    arguments: dict[str, str], query: str, apify: Emulator, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.run_to_end(lambda: operator("~two-versions", **arguments)).state == "success"
    assert [request.query for request in apify.requests if request.method == "POST"] == [query]
    chosen = "Building version 0.0 of Actor ~two-versions: its build tag is latest."
    assert (chosen in capsys.readouterr().out) == ("version" not in arguments)


def test_no_build_of_one_version_takes_the_tag_of_another(apify: Emulator, runner: Runner) -> None:
    outcome = runner.run_to_end(lambda: operator("~two-versions", tag="beta", retries=1))
    assert (outcome.state, starts(apify)) == ("failed", 0)
    assert "Name one with version=" in str(outcome.error)
