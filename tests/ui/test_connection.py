"""The connection in Airflow's UI: a form with only the fields that matter, and a test that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from airflow_provider_apify.emulator import Emulator
from rig.local_airflow import LocalAirflow
from tests.system.conftest import CANARY

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="make ui installs Playwright").expect

CONNECTION_ID = "apify_scrapers"


def open_form(page: Page) -> Locator:
    """The form for a new connection, with the type Apify chosen."""
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Connection ID").fill(CONNECTION_ID)
    form.get_by_role("combobox").fill("Apify")
    page.get_by_role("option", name="Apify", exact=True).click()
    return form


@pytest.fixture
def answer_to(airflow: LocalAirflow, page: Page) -> Iterator[Callable[..., str]]:
    """Save a connection by the form and press its button in the list; gives the answer."""

    def answer_to(host: str, token: str = CANARY) -> str:
        form = open_form(page)
        form.get_by_label("API base URL").fill(host)
        form.get_by_label("API token").fill(token)
        form.get_by_role("button", name="Save").click()
        expect(form).to_be_hidden()
        # The button of Airflow 3.3.1 and 3.3.2 sends port 0 for none, and is refused since that is another
        # (apache/airflow#73298).
        no_port = {"connection_id": CONNECTION_ID, "conn_type": "apify", "port": 0}
        airflow.api("PATCH", f"/connections/{CONNECTION_ID}", params={"update_mask": "port"}, json=no_port)
        page.reload()
        row = page.get_by_role("row").filter(has_text=CONNECTION_ID)
        row.get_by_role("button", name="Test Connection").click()
        return str(page.get_by_role("status").filter(has_text="Test Connection").inner_text())

    yield answer_to
    airflow.api("DELETE", f"/connections/{CONNECTION_ID}", ok=False)


def test_the_form_has_only_the_fields_that_matter(page: Page, picture: Callable[[str, FloatRect | None], None]) -> None:
    form = open_form(page)
    labels = form.locator("label:visible")
    always = ["Connection ID", "Connection Type"]
    expect(labels).to_contain_text([*always, "Description", "API base URL", "API token"])
    expect(labels).to_have_count(5)
    expect(form.get_by_label("API base URL")).to_have_attribute("placeholder", "https://api.apify.com")
    expect(form.get_by_label("API token")).to_have_attribute("type", "password")
    picture("connection-form", form.bounding_box())

    form.get_by_role("button", name="Extra Fields", exact=True).click()
    extra = ["Long-poll time (s)", "Timeout (s)", "Proxy", "CA bundle"]
    expect(labels).to_contain_text([*always, *extra, "Allow http", "Console base URL"])


def test_a_good_token_answers_with_the_account(answer_to: Callable[..., str], apify: Emulator) -> None:
    title, sentence = answer_to(apify.url).splitlines()
    assert title == "Test Connection Successful"
    assert sentence == f"Connected to {apify.url} as Apify account emulator."


@pytest.mark.parametrize(
    ("host", "token", "says"),
    [
        ("{apify}", "apify_api_wrong", "Put a valid API token (Apify Console, Settings, API & Integrations) into the"),
        ("{airflow}", CANARY, "look for a proxy or login page between Airflow and Apify, and check the"),
        ("api.apify.invalid", CANARY, "the host's name could not be resolved. Nothing was sent. Check the"),
        ("http://127.0.0.1:9", CANARY, "the connection was refused. Nothing was sent. Check the"),
        ("ftp://127.0.0.1", CANARY, "host has the scheme 'ftp': use https://, or leave the scheme out."),
    ],
    ids=["bad token", "not Apify", "no such host", "refused", "no such scheme"],
)
def test_what_is_wrong_is_said_in_a_sentence(
    host: str, token: str, says: str, answer_to: Callable[..., str], airflow: LocalAirflow, apify: Emulator
) -> None:
    title, sentence = answer_to(host.format(apify=apify.url, airflow=airflow.url), token).splitlines()
    assert title == "Test Connection Failed"
    assert says in sentence
    assert token not in sentence
    assert "Connection '" not in sentence, "the id of a copy that Airflow tests"
