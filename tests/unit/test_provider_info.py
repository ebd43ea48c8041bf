"""get_provider_info.py: what Airflow reads to discover the provider."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

from airflow_provider_apify.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
INFO = get_provider_info()


def schema(name: str) -> dict[str, Any]:
    path = Path(airflow.__file__).parent / name
    if not path.exists():
        pytest.skip(f"this Airflow has no {name}")
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def test_airflow_takes_it() -> None:
    jsonschema.validate(INFO, schema("provider_info.schema.json"))


@pytest.mark.parametrize(
    "part", ["connection-types", "integrations", "hooks", "operators", "sensors", "transfers", "triggers"]
)
def test_each_part_is_as_airflows_own_providers_have_it(part: str) -> None:
    whole = schema("provider.yaml.schema.json")
    jsonschema.validate(INFO[part], {**whole["properties"][part], "definitions": whole["definitions"]})


def test_the_package_has_the_name_of_the_distribution() -> None:
    assert metadata.distribution(INFO["package-name"]).metadata["Name"] == INFO["package-name"]


def test_airflow_finds_it_by_entry_point() -> None:
    found = [
        entry for entry in metadata.entry_points(group="apache_airflow_provider") if entry.load() is get_provider_info
    ]
    assert {(entry.name, entry.dist and entry.dist.name) for entry in found} == {
        ("provider_info", INFO["package-name"])
    }


@pytest.mark.parametrize("part", ["hooks", "operators", "sensors", "triggers"])
def test_every_module_of_the_package_is_listed_and_can_be_imported(part: str) -> None:
    listed = {module for item in INFO[part] for module in item["python-modules"]}
    assert all(import_module(module) for module in listed)
    assert {item["integration-name"] for item in INFO[part]} == {INFO["integrations"][0]["integration-name"]}


def test_every_transfer_is_listed_and_can_be_imported() -> None:
    listed = {item["python-module"] for item in INFO["transfers"]}
    files = ROOT.joinpath("airflow_provider_apify/transfers").glob("[!_]*.py")
    assert listed == {f"airflow_provider_apify.transfers.{file.stem}" for file in files}
    assert all(import_module(module) for module in listed)


@pytest.mark.parametrize(
    "path", [*INFO["extra-links"], *(item["hook-class-name"] for item in INFO["connection-types"])]
)
def test_every_class_listed_can_be_imported(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert isinstance(getattr(import_module(module), name), type)


def test_the_hook_answers_to_the_connection_type_that_is_declared() -> None:
    (declared,) = INFO["connection-types"]
    module, _, name = declared["hook-class-name"].rpartition(".")
    hook = getattr(import_module(module), name)
    assert (hook.conn_type, hook.hook_name) == (declared["connection-type"], declared["hook-name"])


def test_every_field_that_is_declared_is_read() -> None:
    from airflow_provider_apify.client.settings import Settings

    (declared,) = INFO["connection-types"]
    for name in declared["conn-fields"]:
        with pytest.raises(ValueError, match=f"'c': {name} "):
            Settings.of("c", host=None, port=None, password="t", extra={name: {"no": "value"}})


def test_reading_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from airflow_provider_apify.get_provider_info import get_provider_info; get_provider_info()\n"
        "print(*sorted(name for name in set(sys.modules) - before if name != '__future__'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["airflow_provider_apify", "airflow_provider_apify.get_provider_info"]
