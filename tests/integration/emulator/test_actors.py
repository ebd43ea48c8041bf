"""Actors, their versions, their tags, and who may see them."""

from __future__ import annotations

import pytest

from airflow_provider_apify.emulator import Actor, Emulator

from .conftest import Api, anyone, error

ACTORS = [
    *("hello-world", "always-fails", "slow-build", "times-out", "two-versions"),
    *("scraper", "fails-half-way", "finds-nothing", "needs-input", "charges-events", "slow-run"),
]


@pytest.mark.parametrize("prefix", ["/acts", "/actors"])
def test_actors_are_listed_in_order_under_both_prefixes(api: Api, prefix: str) -> None:
    listed = api("GET", prefix, params={"my": "1"}).json()["data"]
    assert [actor["name"] for actor in listed.pop("items")] == ACTORS
    assert listed == {"total": 11, "offset": 0, "limit": 1000, "count": 11, "desc": False}


def test_a_page_of_actors_can_be_taken_from_the_end(api: Api) -> None:
    listed = api("GET", "/acts", params={"offset": 1, "limit": 2, "desc": "true"}).json()["data"]
    assert [actor["name"] for actor in listed.pop("items")] == ["charges-events", "needs-input"]
    assert listed == {"total": 11, "offset": 1, "limit": 2, "count": 2, "desc": True}


def test_an_actor_is_found_by_id_and_by_name(api: Api) -> None:
    actor = api("GET", "/actors/~hello-world").json()["data"]
    assert len(actor["id"]) == 17
    for key in (actor["id"], "emulator~hello-world", "emulator%7Ehello-world", "%7Ehello-world"):
        assert api("GET", f"/acts/{key}").json()["data"] == actor


@pytest.mark.parametrize("key", ["hello-world", "~nope", "someone~hello-world", "NoSuchActorAtAll0"])
def test_an_unknown_actor_is_not_found(api: Api, key: str) -> None:
    assert error(api("GET", f"/actors/{key}")) == (404, "record-not-found")
    assert error(api("POST", f"/actors/{key}/builds?version=0.0")) == (404, "record-not-found")


def test_actor_ids_are_the_same_in_every_emulator(api: Api) -> None:
    with Emulator(seed=7) as other:
        again = anyone.get(f"{other.url}/v2/acts", params={"token": other.token}).json()["data"]["items"]
    assert [actor["id"] for actor in again] == [actor["id"] for actor in api("GET", "/acts").json()["data"]["items"]]


def test_versions_are_shown(api: Api) -> None:
    listed = api("GET", "/actors/~two-versions/versions").json()["data"]
    assert (listed["total"], [(v["versionNumber"], v["buildTag"]) for v in listed["items"]]) == (
        2,
        [("0.0", "latest"), ("1.0", "beta")],
    )
    assert api("GET", "/actors/~two-versions/versions/1.0").json()["data"] == listed["items"][1]
    assert error(api("GET", "/actors/~two-versions/versions/2.0")) == (404, "record-not-found")


def test_a_tag_moves_when_a_build_succeeds(api: Api) -> None:
    api.built()
    assert api.tags() == {"latest": "0.0.1"}
    api.built(tag="candidate")
    assert api.tags() == {"latest": "0.0.1", "candidate": "0.0.2"}
    api.built("two-versions", "1.0")
    assert api.tags("two-versions") == {"beta": "1.0.1"}


def test_a_tag_stays_when_a_build_does_not_succeed(api: Api, emulator: Emulator) -> None:
    api.built()
    emulator.set_actor("hello-world", outcome="FAILED")
    api.built()
    assert api.tags() == {"latest": "0.0.1"}


def test_a_version_without_a_tag_tags_nothing(api: Api, emulator: Emulator) -> None:
    emulator.add_actor(Actor("untagged", versions={"0.1": None}))
    build = api.built("untagged", "0.1")
    assert (build["status"], build["buildNumber"], api.tags("untagged")) == ("SUCCEEDED", "0.1.1", {})


def test_tags_can_be_set_and_removed_one_by_one(api: Api) -> None:
    first, second = api.built(), api.built()
    changed = {"taggedBuilds": {"latest": {"buildId": first["id"]}, "stable": {"buildId": second["id"]}}}
    assert api("PUT", "/actors/~hello-world", json=changed).status_code == 200
    assert api.tags() == {"latest": "0.0.1", "stable": "0.0.2"}
    api("PUT", "/acts/~hello-world", json={"taggedBuilds": {"stable": None}})
    assert api.tags() == {"latest": "0.0.1"}


def test_tags_that_are_set_move_late_if_tags_do(api: Api, emulator: Emulator) -> None:
    first, second = api.built(), api.built()
    emulator.tag_seconds = 0.5
    api("PUT", "/acts/~hello-world", json={"taggedBuilds": {"latest": {"buildId": first["id"]}}})
    assert api.tags() == {"latest": second["buildNumber"]}
    emulator.wait_for(lambda _: api.tags() == {"latest": first["buildNumber"]})


def test_a_build_that_ends_later_takes_a_tag_that_was_set(api: Api, emulator: Emulator) -> None:
    first = api.built(tag="candidate")
    running = api("POST", "/acts/~hello-world/builds?version=0.0").json()["data"]
    api("PUT", "/acts/~hello-world", json={"taggedBuilds": {"latest": {"buildId": first["id"]}}})
    emulator.finish_build(running["id"])
    assert api.tags() == {"latest": running["buildNumber"], "candidate": first["buildNumber"]}


def test_an_actor_can_have_a_number_as_its_default_build(api: Api, emulator: Emulator) -> None:
    emulator.add_actor(Actor("pinned", default_build="0.0.1"))
    api.built("pinned")
    api.built("pinned")
    assert api("GET", "/acts/~pinned").json()["data"]["defaultRunOptions"]["build"] == "0.0.1"
    assert api("POST", "/acts/~pinned/runs").json()["data"]["buildNumber"] == "0.0.1"


def test_only_a_succeeded_build_of_the_actor_can_be_tagged(api: Api) -> None:
    failed, foreign = api.built("always-fails"), api.built("two-versions")
    for wanted in ({"buildId": failed["id"]}, {"buildId": foreign["id"]}, {"buildId": "nope"}, {}, "0.0.1"):
        refused = api("PUT", "/actors/~always-fails", json={"taggedBuilds": {"x": wanted}})
        assert error(refused) == (400, "invalid-build")
    assert api.tags("always-fails") == {}


def test_simple_fields_of_an_actor_can_be_updated(api: Api) -> None:
    updated = api("PUT", "/actors/~hello-world", json={"title": "Hi", "description": "Says hi", "unheardOf": 1})
    assert updated.json()["data"]["title"] == "Hi"
    assert api("GET", "/actors/~hello-world").json()["data"]["description"] == "Says hi"


@pytest.mark.parametrize("body", [b"", b"{", b"[]"])
def test_an_update_must_be_a_json_object(api: Api, body: bytes) -> None:
    assert error(api("PUT", "/actors/~hello-world", content=body)) == (400, "invalid-request")


def test_a_token_may_come_in_the_header_or_in_the_query(emulator: Emulator) -> None:
    url = f"{emulator.url}/v2/users/me"
    assert anyone.get(url, headers={"Authorization": f"bearer {emulator.token}"}).status_code == 200
    assert anyone.get(f"{url}?token={emulator.token}&a=b").status_code == 200
    assert [record.query for record in emulator.requests] == ["", "token=***&a=b"]


def test_no_token_and_a_wrong_token_are_told_apart(emulator: Emulator) -> None:
    url = f"{emulator.url}/v2/users/me"
    assert error(anyone.get(url)) == (401, "token-not-provided")
    assert error(anyone.get(url, headers={"Authorization": "Bearer wrong"})) == (401, "user-or-token-not-found")
    assert [record.authorized for record in emulator.requests] == [False, False]


def test_a_rotated_token_is_valid_at_once_and_the_old_one_no_more(api: Api, emulator: Emulator) -> None:
    emulator.token = "rotated"
    assert error(api("GET", "/users/me")) == (401, "user-or-token-not-found")
    assert anyone.get(f"{emulator.url}/v2/users/me?token=rotated").status_code == 200


def test_an_unknown_route_and_a_wrong_method_are_refused_as_apify_does(api: Api) -> None:
    assert error(api("GET", "/nope")) == (404, "page-not-found")
    assert error(api("DELETE", "/actors/~hello-world")) == (405, "method-not-allowed")


def test_every_answer_names_the_rate_limit(api: Api) -> None:
    assert {api("GET", path).headers["X-RateLimit-Limit"] for path in ("/acts", "/users/me", "/nope")} == {"60"}


def test_the_user_has_a_plan_and_a_secret(api: Api) -> None:
    user = api("GET", "/users/me").json()["data"]
    assert (user["username"], user["email"], user["plan"]["id"]) == ("emulator", "emulator@example.com", "STARTER")
    assert user["proxy"]["password"]


def test_limits_show_what_unfinished_builds_take(api: Api) -> None:
    api.start("slow-build")
    limits = api("GET", "/users/me/limits").json()["data"]
    assert limits["limits"]["maxActorMemoryGbytes"] == 64
    assert (limits["current"]["actorMemoryGbytes"], limits["current"]["activeActorJobCount"]) == (4, 1)
