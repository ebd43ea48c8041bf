"""The start page, and the pages that links of a task open: one for each Actor, and one for each run."""

from __future__ import annotations

import re

import httpx
import pytest

from airflow_provider_apify.emulator import Actor, Emulator
from airflow_provider_apify.emulator.pages import RELOAD
from tests.integration.emulator.conftest import Api, anyone, error


def page(emulator: Emulator, actor_id: str) -> str:
    answer = anyone.get(f"{emulator.url}/actors/{actor_id}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return answer.text


def start_page(emulator: Emulator) -> str:
    answer = anyone.get(f"{emulator.url}/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return answer.text


def test_the_start_page_says_what_each_actor_does_and_links_to_the_newest_builds(api: Api, emulator: Emulator) -> None:
    build = api.built()
    shown = start_page(emulator)
    for name in ("~hello-world", "~always-fails", "~slow-build", "~times-out", "~two-versions"):
        assert f"<b>{name}</b>" in shown
    assert (
        "Its builds end as FAILED after 0.1 s, its runs as SUCCEEDED after 0.1 s" in shown
        and "0.0 (latest), 1.0 (beta)" in shown
    )
    link = f"/actors/{build['actId']}#/builds/0.0.1"
    assert f'<a href="{link}"><b>hello-world</b><span class="SUCCEEDED">' in shown
    assert 'id="/builds/0.0.1"' in page(emulator, build["actId"])


def test_the_start_page_is_plain_text_where_html_is_not_asked_for(emulator: Emulator) -> None:
    answer = anyone.get(f"{emulator.url}/")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "<" not in answer.text and "in a browser" in answer.text


def test_a_page_shows_status_times_tags_and_log_without_a_token(api: Api, emulator: Emulator) -> None:
    build = api.built(tag="nightly")
    shown = page(emulator, build["actId"])
    (article,) = re.findall("<article.*?</article>", shown, flags=re.DOTALL)
    assert 'id="/builds/0.0.1"' in article and 'href="#/builds/0.0.1"' in shown
    for said in (build["status"], build["id"], "nightly", "tests/1", build["startedAt"][:19].replace("T", " ")):
        assert said in article
    log = api("GET", f"/actor-builds/{build['id']}/log").text
    assert "npm warn" in log and log.rstrip() in article


def test_it_reloads_itself_until_all_builds_have_ended(api: Api, emulator: Emulator) -> None:
    script = f"<script>{RELOAD}</script>"
    emulator.set_actor("hello-world", build_seconds=60)
    first, second = api.start(), api.start()
    assert script in page(emulator, first["actId"])
    emulator.finish_build(second["id"])
    assert script in page(emulator, first["actId"])
    emulator.finish_build(first["id"])
    assert "<script" not in page(emulator, first["actId"])


def test_it_shows_no_build_of_another_actor(api: Api, emulator: Emulator) -> None:
    api.built()
    other = api.built("two-versions", "1.0")
    shown = page(emulator, other["actId"])
    assert re.findall('<article id="(.*?)"', shown) == ["/builds/1.0.1"]
    actor_id = api("GET", "/actors/~slow-build").json()["data"]["id"]
    assert "No builds or runs yet." in page(emulator, actor_id)


@pytest.mark.parametrize("nasty", ["<script>alert(1)</script>", '"><img src=x>', "&lt;"])
def test_what_others_have_named_is_escaped(nasty: str, api: Api, emulator: Emulator) -> None:
    emulator.add_actor(Actor(nasty))
    actor_id = next(item["id"] for item in api("GET", "/actors").json()["data"]["items"] if item["name"] == nasty)
    params = {"version": "0.0", "tag": nasty}
    answer = api("POST", f"/actors/{actor_id}/builds", params=params, headers={"User-Agent": nasty})
    api.build(answer.json()["data"]["id"], wait=60)
    assert nasty not in page(emulator, actor_id)
    assert nasty not in start_page(emulator)


def test_it_needs_nothing_from_elsewhere_and_runs_no_other_script(api: Api, emulator: Emulator) -> None:
    answer = anyone.get(f"{emulator.url}/actors/{api.built()['actId']}")
    assert answer.headers["content-security-policy"].startswith(
        "default-src 'none'; style-src 'unsafe-inline'; script-src"
    )
    assert "script-src 'unsafe-inline'" not in answer.headers["content-security-policy"]
    nothing = r"src=|url\(|@import|<link|https?://"
    assert not re.search(f"{nothing}|<script", answer.text)
    assert not re.search(nothing, start_page(emulator).replace(f"<script>{RELOAD}</script>", ""))


def finish(emulator: Emulator, shown: str, button: str, origin: str) -> httpx.Response:
    """Click a button of a page, in a browser that says where the page is from."""
    (action,) = re.findall(f'<button formaction="([^"]+)">{button}</button>', shown)
    return anyone.post(f"{emulator.url}{action}", headers={"Origin": origin})


def test_a_run_has_a_page_of_its_own_where_apify_has_it(api: Api, emulator: Emulator) -> None:
    emulator.run_seconds = 60
    build, run = api.built("scraper"), api.start_run("scraper", {"items": 6}, build="latest")
    path = f"{run['actId']}/runs/{run['id']}"
    assert f'<a href="/actors/{path}"><b>scraper</b><span class="READY">' in start_page(emulator)
    assert f'<a href="/actors/{path}"><b>Run of 0.0.1</b>' in page(emulator, run["actId"])
    emulator.wait_for(lambda _: api.run(run["id"])["status"] == "RUNNING")
    shown = page(emulator, path)
    assert f"<script>{RELOAD}</script>" in shown
    assert f'href="/actors/{build["actId"]}#/builds/0.0.1"' in shown
    (article,) = re.findall("<article.*?</article>", shown, flags=re.DOTALL)
    for said in ("RUNNING", run["id"], run["defaultDatasetId"], "0.0.1 (latest)", "3 of 6", "1024 MB", "tests/1"):
        assert said in article
    assert error(anyone.get(f"{emulator.url}/actors/{run['actId']}/runs/none")) == (404, "record-not-found")


@pytest.mark.parametrize(("button", "status"), [("Let it succeed", "SUCCEEDED"), ("Let it fail", "FAILED")])
def test_a_click_ends_a_job(api: Api, emulator: Emulator, button: str, status: str) -> None:
    emulator.build_seconds = emulator.run_seconds = 60
    run, build = api.start_run(), api.start()
    ended = finish(emulator, page(emulator, f"{run['actId']}/runs/{run['id']}"), button, emulator.url)
    assert (ended.status_code, ended.headers["location"]) == (303, f"/actors/{run['actId']}/runs/{run['id']}")
    ended = finish(emulator, page(emulator, build["actId"]), button, emulator.url)
    assert (ended.status_code, ended.headers["location"]) == (303, f"/actors/{build['actId']}#/builds/0.0.2")
    assert (api.run(run["id"])["status"], api.build(build["id"])["status"]) == (status, status)
    assert "<button" not in page(emulator, build["actId"])


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
def test_pages_from_elsewhere_cannot_end_a_job(api: Api, emulator: Emulator, origin: str) -> None:
    emulator.run_seconds = 60
    run = api.start_run()
    shown = page(emulator, f"{run['actId']}/runs/{run['id']}")
    assert error(finish(emulator, shown, "Let it fail", origin)) == (403, "insufficient-permissions")
    assert api.run(run["id"])["finishedAt"] is None


def test_an_unknown_actor_has_no_page(emulator: Emulator) -> None:
    assert error(anyone.get(f"{emulator.url}/actors/none")) == (404, "record-not-found")


def test_only_browsers_on_this_machine_are_shown_it() -> None:
    with Emulator(host="0.0.0.0", build_seconds=0.1) as emulator:
        address = own_address()
        if address is None:
            pytest.skip("this machine has no other address")
        url = emulator.url.replace("0.0.0.0", address)
        assert error(httpx.get(f"{url}/actors/x", timeout=10, trust_env=False)) == (403, "insufficient-permissions")
        html = httpx.get(url, headers={"Accept": "text/html"}, timeout=10, trust_env=False)
        assert error(html) == (403, "insufficient-permissions")
        local = emulator.url.replace("0.0.0.0", "127.0.0.1")
        assert error(httpx.get(f"{local}/actors/x", timeout=10, trust_env=False)) == (404, "record-not-found")


def own_address() -> str | None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address
