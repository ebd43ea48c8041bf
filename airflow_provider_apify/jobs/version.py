"""Which version of an Actor to build when none is named."""

from __future__ import annotations

from airflow_provider_apify.api.model import Actor

#: The build tag that Apify's CLI takes for a version that has none, and for a request that names none.
DEFAULT_TAG = "latest"


def version_to_build(actor: Actor, tag: str | None) -> str:
    """
    Choose as Apify's CLI does: the version whose build tag is ``tag`` (default ``latest``), or the only version.

    :raises ValueError: there is none, or more than one; the message lists them.
    """
    wanted = tag or DEFAULT_TAG
    tagged = [version for version in actor.versions if (version.build_tag or DEFAULT_TAG) == wanted]
    found = tagged or list(actor.versions)
    if len(found) == 1:
        return found[0].version_number
    name = actor.name or actor.id
    if not found:
        raise ValueError(f"Actor {name} has no version to build: create one in Apify Console or with apify push")
    listed = ", ".join(f"{item.version_number!r} (build tag {item.build_tag or 'none'})" for item in found)
    which = "several versions with" if tagged else "several versions, but none with"
    raise ValueError(f"Actor {name} has {which} the build tag {wanted!r}: {listed}. Name one with version=")
