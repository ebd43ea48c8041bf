"""jobs/version.py: the version that is built when none is named, as Apify's CLI chooses it."""

from __future__ import annotations

import pytest

from airflow_provider_apify.api.model import Actor, ActorVersion
from airflow_provider_apify.jobs.version import version_to_build


def actor(**tags: str | None) -> Actor:
    """Make an Actor of versions by number and build tag: ``v0_1="latest"``."""
    versions = (ActorVersion(name.removeprefix("v").replace("_", "."), tag) for name, tag in tags.items())
    return Actor("a1", name="shop", versions=tuple(versions))


@pytest.mark.parametrize(
    ("versions", "tag", "chosen"),
    [
        ({"v0_1": "latest"}, None, "0.1"),
        ({"v0_1": "latest", "v0_2": "beta"}, None, "0.1"),
        ({"v0_1": "latest", "v0_2": "beta"}, "latest", "0.1"),
        ({"v0_1": "latest", "v0_2": "beta"}, "beta", "0.2"),
        ({"v0_1": None, "v0_2": "beta"}, None, "0.1"),
        ({"v0_1": "", "v0_2": "beta"}, "latest", "0.1"),
        ({"v0_3": "beta"}, None, "0.3"),
        ({"v0_3": "latest"}, "nightly", "0.3"),
        ({"v0_1": "beta", "v0_10": "latest"}, None, "0.10"),
    ],
)
def test_the_version_of_the_tag_or_the_only_one(versions: dict[str, str | None], tag: str | None, chosen: str) -> None:
    assert version_to_build(actor(**versions), tag) == chosen


@pytest.mark.parametrize(
    ("versions", "tag", "said"),
    [
        (
            {"v0_1": "latest", "v0_2": "latest", "v0_3": "beta"},
            None,
            ["several versions with", "'0.1' (build tag latest), '0.2'"],
        ),
        ({"v0_1": None, "v0_2": "latest"}, None, ["'latest'", "'0.1' (build tag none)", "'0.2' (build tag latest)"]),
        ({"v0_1": "alpha", "v0_2": "beta"}, None, ["none with", "'latest'", "'0.1' (build tag alpha)", "'0.2'"]),
        ({"v0_1": "alpha", "v0_2": "beta"}, "gamma", ["none with", "'gamma'", "'0.1'", "'0.2'"]),
    ],
)
def test_several_candidates_are_listed(versions: dict[str, str | None], tag: str | None, said: list[str]) -> None:
    with pytest.raises(ValueError, match=r"shop.*version=") as caught:
        version_to_build(actor(**versions), tag)
    assert [text for text in said if text not in str(caught.value)] == []
    assert "0.3" not in str(caught.value)


def test_an_actor_without_versions_is_named() -> None:
    with pytest.raises(ValueError, match="shop has no version"):
        version_to_build(actor(), None)
    with pytest.raises(ValueError, match="a1 has no version"):
        version_to_build(Actor("a1"), None)
