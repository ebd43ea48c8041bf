"""api/builds.py: the version that is built when none is named."""

from __future__ import annotations

import pytest

from airflow_provider_apify.api.builds import Actor, ActorVersion, version_to_build

ONLY, LATEST, UNTAGGED = (
    "it is the only version",
    "its build tag is latest",
    "no other version is without a build tag",
)


def actor(**tags: str | None) -> Actor:
    """Make an Actor of versions by number and build tag: ``v0_1="latest"``."""
    versions = (ActorVersion(name.removeprefix("v").replace("_", "."), tag) for name, tag in tags.items())
    return Actor("a1", name="shop", versions=tuple(versions))


@pytest.mark.parametrize(
    ("versions", "tag", "chosen", "reason"),
    [
        ({"v0_1": "latest"}, None, "0.1", ONLY),
        ({"v0_3": "beta"}, None, "0.3", ONLY),
        ({"v0_3": "latest"}, "nightly", "0.3", ONLY),
        ({"v0_3": "beta"}, "latest", "0.3", ONLY),
        ({"v0_1": "latest", "v0_2": "beta"}, None, "0.1", LATEST),
        ({"v0_1": "latest", "v0_2": "beta"}, "latest", "0.1", LATEST),
        ({"v0_1": "latest", "v0_2": "beta"}, "candidate", "0.1", LATEST),
        ({"v0_1": "beta", "v0_10": "latest"}, None, "0.10", LATEST),
        ({"v0_1": None, "v0_2": "latest"}, None, "0.2", LATEST),
        ({"v0_1": None, "v0_2": "", "v0_3": "latest"}, "candidate", "0.3", LATEST),
        ({"v0_1": None, "v0_2": "beta"}, None, "0.1", UNTAGGED),
        ({"v0_1": "", "v0_2": "beta"}, "latest", "0.1", UNTAGGED),
        ({"v0_1": None, "v0_2": "beta", "v0_3": "gamma"}, "candidate", "0.1", UNTAGGED),
    ],
)
def test_the_only_version_else_latest_else_the_one_without_a_tag(
    versions: dict[str, str | None], tag: str | None, chosen: str, reason: str
) -> None:
    assert version_to_build(actor(**versions), tag) == (chosen, reason)


@pytest.mark.parametrize(
    ("versions", "tag"),
    [
        ({"v0_1": "latest", "v0_2": "latest", "v0_3": "beta"}, None),
        ({"v0_1": "alpha", "v0_2": "beta", "v0_3": "gamma"}, None),
        ({"v0_1": None, "v0_2": "", "v0_3": "beta"}, None),
        ({"v0_1": "alpha", "v0_2": "beta", "v0_3": "beta"}, "alpha"),
    ],
)
def test_where_none_stands_out_all_are_listed(versions: dict[str, str | None], tag: str | None) -> None:
    with pytest.raises(ValueError, match=r"shop.*version=") as caught:
        version_to_build(actor(**versions), tag)
    listed = [f"'0.{n}' (build tag {versions[f'v0_{n}'] or 'none'})" for n in (1, 2, 3)]
    assert ", ".join(listed) in str(caught.value)


@pytest.mark.parametrize(
    ("versions", "tag", "said"),
    [
        ({"v0_1": "latest", "v0_2": "beta"}, "beta", ["'0.1'", LATEST, "'0.2' (build tag beta)"]),
        ({"v0_1": None, "v0_2": "beta"}, "beta", ["'0.1'", UNTAGGED, "'0.2' (build tag beta)"]),
        ({"v0_1": "latest", "v0_2": "b", "v0_3": "b"}, "b", ["'0.1'", "'0.2' (build tag b), '0.3' (build tag b)"]),
    ],
)
def test_the_tag_of_another_version_is_not_moved(versions: dict[str, str | None], tag: str, said: list[str]) -> None:
    with pytest.raises(ValueError, match=r"shop.*Name one with version=") as caught:
        version_to_build(actor(**versions), tag)
    assert [text for text in said if text not in str(caught.value)] == []


def test_an_actor_without_versions_is_named() -> None:
    with pytest.raises(ValueError, match="shop has no version"):
        version_to_build(actor(), None)
    with pytest.raises(ValueError, match="a1 has no version"):
        version_to_build(Actor("a1"), None)
