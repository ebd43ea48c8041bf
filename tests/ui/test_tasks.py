"""A task in Airflow's UI: the link to its build, the rendered templates, and the log when the build has failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from airflow_provider_apify.emulator import Emulator
from rig.local_airflow import LocalAirflow
from tests.system.conftest import build_of, finish

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="make ui installs Playwright").expect


def task_url(dag_id: str, run: str, task_id: str) -> str:
    return f"/dags/{dag_id}/runs/{quote(run, safe='')}/tasks/{task_id}"


def open_tab(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.get_by_role("link", name=name, exact=True).click()


def opened_by(page: Page, link: Locator) -> str:
    """The URL of the tab that a click opens."""
    with page.context.expect_page() as opened:
        link.click()
    opened.value.wait_for_load_state()
    assert opened.value.inner_text("body") == "Apify Console"
    return str(opened.value.url)


def page_of(build: dict[str, Any]) -> str:
    return f"https://console.apify.com/actors/{build['actId']}#/builds/{build['buildNumber']}"


def test_the_link_on_a_deferred_task_opens_the_page_of_its_build(
    airflow: LocalAirflow,
    apify: Emulator,
    start: Callable[..., str],
    page: Page,
    picture: Callable[[str, FloatRect | None], None],
) -> None:
    run = start("deferred", "~endless")
    airflow.wait_for_task("deferred", run, "build", {"deferred"})
    open_tab(page, task_url("deferred", run, "build"), "Details")
    link = page.get_by_role("link", name="Apify Console")
    expect(link).to_be_visible()
    picture("task-link", {"x": 0, "y": 0, "width": 1200, "height": 350})
    assert opened_by(page, link) == page_of(build_of(apify, "endless"))
    finish(apify)
    assert airflow.wait_for_run("deferred", run) == "success"


def test_the_link_on_a_mapped_task_opens_the_page_of_its_own_build(
    airflow: LocalAirflow, apify: Emulator, other_apify: Emulator, start: Callable[..., str], page: Page
) -> None:
    run = start("habits")
    assert airflow.wait_for_run("habits", run) == "success"
    builds = {build["id"]: build for build in other_apify.builds}
    pages = []
    for index in range(2):
        build = builds[airflow.xcom("habits", run, "group.expand", map_index=index)]
        open_tab(page, f"{task_url('habits', run, 'group.expand')}/mapped/{index}", "Details")
        pages.append(opened_by(page, page.get_by_role("link", name="Apify Console")))
        assert pages[-1] == page_of(build)
    assert pages[0] != pages[1]


def test_a_run_has_its_link_and_shows_its_input(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str], page: Page
) -> None:
    run = start("run_deferred", "~scraper")
    assert airflow.wait_for_run("run_deferred", run) == "success"
    job = apify.runs[-1]
    open_tab(page, task_url("run_deferred", run, "run"), "Details")
    opened = opened_by(page, page.get_by_role("link", name="Apify Console"))
    assert opened == f"https://console.apify.com/actors/{job['actId']}/runs/{job['id']}"
    open_tab(page, task_url("run_deferred", run, "run"), "Rendered Templates")
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name="actor_id", exact=True))
    expect(row).to_contain_text("~scraper")


def test_the_rendered_templates_are_shown(
    airflow: LocalAirflow, apify: Emulator, other_apify: Emulator, page: Page
) -> None:
    run = airflow.trigger("habits", {"tag": "from-conf", "use_cache": True})
    assert airflow.wait_for_run("habits", run) == "success"
    open_tab(page, task_url("habits", run, "group.params"), "Rendered Templates")
    rows = page.get_by_role("row")
    for name, value in {"actor_id": "~hello-world", "tag": "from-conf", "use_cache": "True"}.items():
        expect(rows.filter(has=page.get_by_role("cell", name=name, exact=True))).to_contain_text(value)


def test_the_log_of_a_failed_build_says_why_and_where_to_look(
    airflow: LocalAirflow,
    apify: Emulator,
    start: Callable[..., str],
    page: Page,
    picture: Callable[[str, FloatRect | None], None],
) -> None:
    run = start("in_worker", "~always-fails")
    assert airflow.wait_for_run("in_worker", run) == "failed"
    build = apify.builds[-1]
    page.goto(task_url("in_worker", run, "build"))
    log = page.get_by_role("code").filter(has_text="Log message source details")
    for line in (
        f"Started build {build['buildNumber']} ({build['id']}) of Actor ~always-fails: {page_of(build)}",
        f"ApifyBuildFailed: Build {build['buildNumber']} of Actor always-fails ({build['actId']}) FAILED after",
        "npm ERR! 404 'left-padd@^1.3.0' is not in this registry.",
        "ACTOR: ERROR: Build failed.",
    ):
        expect(log).to_contain_text(line)
    assert opened_by(page, log.get_by_role("link", name=page_of(build))) == page_of(build)

    page.get_by_role("button", name="fullscreen").click()
    # Folds the traceback, which is below what has happened.
    page.get_by_test_id("summary-ApifyBuildFailed").last.dispatch_event("click")
    picture("task-log", {"x": 0, "y": 0, "width": 1200, "height": 600})
