"""Which version of an Actor to build when none is named."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_apify.api.model import Actor, ActorVersion

#: The tag that runs take when none is named.
_LATEST = "latest"


def version_to_build(actor: Actor, tag: str | None) -> tuple[str, str]:
    """
    Choose a version, and say why it is this one.

    It is the only version; else the one whose build tag is ``latest``; else the only one without a build tag. It does
    not depend on ``tag``, which says what the build is called.

    :param tag: the tag that the build is to get, or ``None`` for the version's own.
    :return: the version's number, and the reason.
    :raises ValueError: there is no such version, or ``tag`` is the build tag of another one, which would then be on a
        build of the wrong source; the message lists the versions.
    """
    name = actor.name or actor.id
    if not actor.versions:
        raise ValueError(f"Actor {name} has no version to build: create one in Apify Console or with apify push")
    chosen, reason = _choose(actor.versions)
    if chosen is None:
        raise ValueError(f"Actor {name} has several versions: {_listed(actor.versions)}. Name one with version=")
    others = [version for version in actor.versions if version.build_tag == tag]
    if tag and others and chosen not in others:
        raise ValueError(
            f"Actor {name}: version {chosen.version_number!r} would be built ({reason}), but the tag {tag!r} belongs to"
            f" another version: {_listed(others)}. Name one with version="
        )
    return chosen.version_number, reason


def _choose(versions: Sequence[ActorVersion]) -> tuple[ActorVersion | None, str]:
    if len(versions) == 1:
        return versions[0], "it is the only version"
    latest = [version for version in versions if version.build_tag == _LATEST]
    if latest:
        return (latest[0] if len(latest) == 1 else None), "its build tag is latest"
    untagged = [version for version in versions if not version.build_tag]
    return (untagged[0] if len(untagged) == 1 else None), "no other version is without a build tag"


def _listed(versions: Sequence[ActorVersion]) -> str:
    return ", ".join(f"{item.version_number!r} (build tag {item.build_tag or 'none'})" for item in versions)
