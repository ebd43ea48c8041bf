"""
A browser before the Airflow of the system tests.

``SCREENSHOTS=1 make ui`` makes the pictures of the documentation, docs/images, anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rig.local_airflow import LocalAirflow
from tests.system.conftest import (  # noqa: F401
    airflow,
    apify,
    apify_server,
    earlier_requests,
    other_apify,
    other_apify_server,
    pytest_runtest_makereport,
    start,
    statsd_server,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Page

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
#: Milliseconds for all that the browser waits for.
PATIENCE = 30_000


@pytest.fixture(scope="session", autouse=True)
def browser() -> Iterator[Browser]:
    """Debian's Chromium; before an Airflow is started, since without it there is nothing to do."""
    from playwright.sync_api import expect, sync_playwright

    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("there is no Chromium: apt install chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, airflow: LocalAirflow) -> Iterator[Page]:  # noqa: F811
    """An empty tab. Apify Console, which there is no way to from here, is one small page."""
    context = browser.new_context(base_url=airflow.url, viewport={"width": 1200, "height": 800}, locale="en-US")
    context.set_default_timeout(PATIENCE)
    context.route("https://console.apify.com/**", lambda route: route.fulfill(body="Apify Console"))
    yield context.new_page()
    context.close()


@pytest.fixture
def picture(page: Page) -> Callable[[str, FloatRect | None], None]:
    """Take a picture of a part of the page for the documentation, if asked for."""

    def picture(name: str, part: FloatRect | None) -> None:
        if os.environ.get("SCREENSHOTS"):
            page.screenshot(path=IMAGES / f"{name}.png", clip=part, animations="disabled")

    return picture
