"""The connection as the UI has it: a form with our fields, and a test that says who answered or what is wrong."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from airflow_provider_apify.emulator import Emulator
from rig.local_airflow import LocalAirflow
from tests.system.conftest import CANARY


def test_the_form_shows_our_fields_and_hides_the_rest(airflow: LocalAirflow) -> None:
    token = httpx.get(f"{airflow.url}/auth/token", trust_env=False).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    forms = httpx.get(f"{airflow.url}/ui/connections/hook_meta", headers=headers, trust_env=False, timeout=30).json()
    (form,) = [form for form in forms if form["connection_type"] == "apify"]
    declared = {"wait_seconds", "timeout", "proxy", "ca_bundle", "allow_http", "console_url"}
    assert set(form["extra_fields"]) == declared
    fields = form["standard_fields"]
    assert fields["password"]["title"] == "API token"
    assert fields["host"]["title"] == "API base URL"
    assert all(fields[name]["hidden"] for name in ("login", "port", "url_schema"))


@pytest.mark.parametrize(
    ("changes", "ok", "says"),
    [
        ({}, True, "as Apify account emulator"),
        ({"password": "apify_api_wrong"}, False, "valid API token"),
        ({"host": "http://127.0.0.1:9"}, False, "refused"),
        ({"host": "ftp://x"}, False, "host has the scheme"),
    ],
)
def test_the_test_button(changes: dict[str, Any], ok: bool, says: str, airflow: LocalAirflow, apify: Emulator) -> None:
    body = {"connection_id": "new", "conn_type": "apify", "host": apify.url, "password": CANARY, **changes}
    answer = airflow.api("POST", "/connections/test", json=body)
    assert answer["status"] is ok
    assert says in answer["message"]
    assert body["password"] not in answer["message"]
