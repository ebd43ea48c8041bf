"""Every code sample of README and documentation does what it says, against the emulator."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.client.settings import Settings
from airflow_provider_apify.emulator import Emulator
from tests.docs.samples import ROOT, Sample, samples
from tests.integration.conftest import start_build

Load = Callable[[Sample], dict[str, Any]]
Shell = Callable[[str], subprocess.CompletedProcess[str]]

#: Pages whose samples need one another: test_pages.py follows them from top to bottom.
WHOLE_PAGES = {"docs/quick-start.md", "docs/guides/testing.md", "docs/emulator.md"}
SAMPLES = [sample for sample in samples() if sample.page not in WHOLE_PAGES]
RUN = [sample for sample in SAMPLES if not sample.not_run]

#: Samples that are not run, by page and first line. Each says why in a comment before it.
NOT_RUN = {
    ("README.md", "make demo       # builds and a run on a real Airflow; a worker is killed; 3 minutes"),
    ("README.md", "pip install ."),
    ("README.md", "make test          # all tests on the newest Airflow, about half an hour"),
    ("docs/quick-start.md", "make demo"),
    ("docs/guides/into-a-table.md", '"""'),
    ("docs/guides/alerts.md", 'text = "{{ ti.dag_id }}.{{ ti.task_id }} failed: {{ ti.log_url }}"'),
    ("docs/versions.md", "constraints=https://raw.githubusercontent.com/apache/airflow/constraints-3.0.6"),
    ("docs/quick-start.md", 'pip install "apache-airflow>=3.0.6" .'),
}

#: What the DAGs of samples work on, by the param that takes it.
GIVEN: dict[str, Callable[[Emulator], str]] = {
    "build_id": start_build,
    "dataset_id": lambda apify: apify.add_dataset({"title": f"Item {n}", "price": n} for n in range(250)),
    "store_id": lambda apify: apify.add_key_value_store(),
}


def test_every_sample_is_of_a_kind_that_is_run_or_parsed() -> None:
    assert {sample.language for sample in samples()} <= {"python", "sh", "console", "json", "ini", "text"}


def test_the_samples_that_are_not_run_are_these() -> None:
    assert {(sample.page, sample.text.splitlines()[0]) for sample in samples() if sample.not_run} == NOT_RUN


@pytest.mark.parametrize("sample", [each for each in samples() if each.language != "text"], ids=str)
def test_a_sample_fits_on_the_page(sample: Sample) -> None:
    included = sample.title.startswith("example_dags/")
    assert [line for line in sample.text.splitlines() if len(line) > (120 if included else 88)] == []


@pytest.mark.parametrize("sample", [sample for sample in RUN if sample.is_dag], ids=str)
def test_a_dag_runs(
    sample: Sample, load: Load, apify_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sample = replace(sample, text=sample.text.replace("/tmp/airflow-apify", str(tmp_path)))
    if "providers.http" in sample.text:
        connect_http(apify_emulator, monkeypatch)
    if "~daily-scrape" in sample.text:
        apify_emulator.add_task("daily-scrape", "scraper", {"items": 3})
    dags = load(sample)
    assert dags
    for dag in dags.values():
        conf = {name: give(apify_emulator) for name, give in GIVEN.items() if name in dag.params}
        if "target" in dag.params:
            conf["target"] = str(tmp_path / "target")
        if "build_number" in dag.params:
            start_build(apify_emulator, "scraper")
            apify_emulator.wait_for(lambda emulator: emulator.builds[-1]["status"] == "SUCCEEDED")
            conf["build_number"] = apify_emulator.builds[-1]["buildNumber"]
        assert dag.test(run_conf=conf or None).state == "success"


@pytest.mark.parametrize("sample", [sample for sample in RUN if sample.language == "sh"], ids=str)
def test_shell_commands_succeed(sample: Sample, shell: Shell) -> None:
    ended = shell(sample.text)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("sample", [sample for sample in RUN if sample.language == "json"], ids=str)
def test_json_can_be_read(sample: Sample) -> None:
    json.loads(sample.text)


@pytest.mark.parametrize("sample", [sample for sample in RUN if sample.language == "ini"], ids=str)
def test_settings_are_known_to_airflow(sample: Sample) -> None:
    from airflow.configuration import conf

    parser = configparser.ConfigParser()
    parser.read_string(sample.text)
    for section in parser.sections():
        assert [option for option in parser[section] if not conf.has_option(section, option)] == []


def test_no_other_python_is_left_out() -> None:
    assert [str(sample) for sample in RUN if sample.language in ("python", "console") and not sample.is_dag] == []


def test_every_way_to_connect_makes_a_connection_that_can_be_used(shell: Shell, tmp_path: Path) -> None:
    exported = tmp_path / "exported.json"
    ways = [sample for sample in SAMPLES if sample.page == "docs/connection.md" and "connections add" in sample.text]
    ended = shell("\n".join([*(way.text for way in ways), f"airflow connections export {exported}"]))
    assert ended.returncode == 0, ended.stderr
    connections = json.loads(exported.read_text())
    assert set(connections) == {"apify_default", "apify_scrapers"}
    variable = sample_with("AIRFLOW_CONN_APIFY_DEFAULT='{").text
    connections["by variable"] = json.loads(variable.partition("=")[2].strip().strip("'"))
    connections["by file"] = json.loads(sample_with('"apify_default": {').text)["apify_default"]
    for name, connection in connections.items():
        extra = connection.get("extra") or {}
        Settings.of(
            name,
            host=connection.get("host"),
            port=None,
            password=connection["password"],
            extra=json.loads(extra) if isinstance(extra, str) else extra,
        )


def test_the_readme_shows_the_same_ways_to_connect() -> None:
    shown = re.findall("`(.+?)`", ROOT.joinpath("README.md").read_text())
    assert sample_with("AIRFLOW_CONN_APIFY_DEFAULT='{").text.strip().removeprefix("export ") in shown
    assert sample_with("connections add apify_default").text.strip() in shown


def test_the_file_of_connections_is_read_by_the_backend_that_is_named(tmp_path: Path) -> None:
    from airflow.sdk.module_loading import import_string  # type: ignore[attr-defined]

    parser = configparser.ConfigParser()
    parser.read_string(sample_with("[secrets]").text)
    file = tmp_path / "connections.json"
    file.write_text(sample_with('"apify_default": {').text)
    (argument,) = json.loads(parser["secrets"]["backend_kwargs"])
    connection = import_string(parser["secrets"]["backend"])(**{argument: str(file)}).get_connection("apify_default")
    assert (connection.conn_type, connection.extra_dejson) == ("apify", {"wait_seconds": 20})


def sample_with(text: str) -> Sample:
    """The only sample that holds this text."""
    (found,) = (sample for sample in SAMPLES if text in sample.text)
    return found


def connect_http(apify: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the connection of somebody who uses Apify by ``HttpOperator``."""
    pytest.importorskip("airflow.providers.http")
    connection = {"conn_type": "http", "host": apify.url, "extra": {"Authorization": f"Bearer {apify.token}"}}
    monkeypatch.setenv("AIRFLOW_CONN_APIFY", json.dumps(connection))
    apify.build_seconds = 0  # or the sensor would look again after a minute
