"""The example DAGs explain themselves in Airflow's UI. That they run is tested on a whole Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_apify.emulator import Emulator
from tests.docs.samples import ROOT


@pytest.fixture(scope="module")
def examples(airflow_home: Path) -> list[Any]:
    """All example DAGs, in the order of Airflow's list."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(ROOT / "example_dags")
    assert not bag.import_errors
    return sorted(bag.dags.values(), key=lambda dag: int(dag.dag_display_name.split()[0]))


def test_they_say_what_they_are_for_and_where_to_begin(examples: list[Any]) -> None:
    assert [dag.dag_display_name.split()[0] for dag in examples] == [str(number) for number in range(1, 11)]
    assert "Start here" in examples[0].dag_display_name
    for dag in examples:
        assert dag.doc_md.strip() and dag.description and dag.tags == {"apify", "example"}


def test_their_forms_offer_the_actors_of_the_emulator(examples: list[Any], apify_emulator: Emulator) -> None:
    token = {"Authorization": f"Bearer {apify_emulator.token}"}
    listed = requests.get(f"{apify_emulator.url}/v2/acts", headers=token, timeout=5).json()["data"]["items"]
    forms = [param for dag in examples for _, param in dag.params.items() if "values_display" in param.schema]
    assert len(forms) == 6
    for param in forms:
        offered = param.schema.get("enum") or param.schema["examples"]
        assert set(offered) == param.schema["values_display"].keys() <= {f"~{item['name']}" for item in listed}


def test_no_task_spreads_what_it_returns_over_several_xcoms(examples: list[Any]) -> None:
    spread = [task.task_id for dag in examples for task in dag.tasks if getattr(task, "multiple_outputs", False)]
    assert spread == []


def test_the_docs_show_them_whole() -> None:
    lines = [
        (path.name, line) for path in (ROOT / "example_dags").glob("*.py") for line in path.read_text().splitlines()
    ]
    assert [(name, line) for name, line in lines if len(line) > 88] == []
