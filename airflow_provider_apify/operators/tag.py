"""Move a tag of an Actor to a build: release it, or roll back to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_apify.api import tags
from airflow_provider_apify.api.builds import BUILD
from airflow_provider_apify.api.endpoints import check_actor_id
from airflow_provider_apify.client.failures import configuration
from airflow_provider_apify.lifecycle import arguments
from airflow_provider_apify.lifecycle.outcome import announce, fill_asset_events
from airflow_provider_apify.links.console import ApifyConsoleLink

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg


#: Key of Airflow's task state store for the build that the tag was moved to.
STORE_KEY = "apify_tag"


class ApifyTagBuildOperator(arguments.LiteralsStayText, BaseOperator):
    """
    Move a tag of an Actor to a build, and keep the build that had it under another tag.

    With the tag ``latest`` this releases a build, and rolls back with the id of the build before. One request sets
    both tags, after the tag was read where it is expected; then the task waits for up to 15 s until Apify shows it. If
    the tag is on the build already, nothing is sent, and the other tag stays: so a retry or a clear changes nothing
    twice. On Airflow 3.3, a retry does not move a tag again that an earlier try has moved and that somebody has moved
    away since. Warns of unfinished builds that may take the tag when they end.

    Returns the build's id. Pushes the XComs ``build_id``, ``build_number`` and ``actor_id``, and of the build before
    ``previous_build_id`` and ``previous_build_number``, which are null if there was none; with ``do_xcom_push=False``
    none of them. If nothing was sent, the build before is the one that has the tag ``keep_previous_as``. With
    ``outlets``, an asset event carries the XComs as ``extra``.

    :param actor_id: Actor whose tag it is: id, ``user~name``, ``user/name``, ``~name`` for an own one, or the address
        of its page in Apify Console or Apify Store. (templated)
    :param tag: tag to move, such as ``"latest"``, which runs use by default. (templated)
    :param build_id: id of the build that is to get it, such as the XCom ``build_id`` of the task that built it. It must
        have succeeded. (templated)
    :param build_number: the same by number, such as ``"0.1.5"``. One of the two is needed. (templated)
    :param expected_build_id: id of the build that has the tag now; if another one has it, nothing is moved. Read it at
        the begin of a DAG that takes long, so that no release in between is undone. ``None``: whichever has it when the
        task runs, or none. (templated)
    :param keep_previous_as: tag for the build that had ``tag`` before, so that Apify does not delete it some day. Each
        tag that you release needs another one. ``None``: it gets none. (templated)
    :param apify_conn_id: Airflow connection of type ``apify``. (templated)
    :raises ApifyTagConflictError: the tag is not where it is expected, or somebody else moved it meanwhile. Not
        retried.
    :raises ApifyConfigurationError: an argument or a field of the connection cannot be used; the build is unfinished,
        did not succeed or is of another Actor; or ``tag`` is ``latest``, and the Actor's default build is a number. Not
        retried.
    :raises ApifyPermissionError: the token may not change the Actor. Not retried.
    :raises ApifyApiError: a request failed, or Apify has accepted the move and does not show it; see
        ``airflow_provider_apify.exceptions`` for which are retried.
    """

    job_kind = BUILD

    template_fields: Sequence[str] = (
        "actor_id",
        "tag",
        "build_id",
        "build_number",
        "expected_build_id",
        "keep_previous_as",
        "apify_conn_id",
    )
    operator_extra_links = (ApifyConsoleLink(),)
    ui_color = "#ffd966"

    def __init__(
        self,
        *,
        actor_id: str | XComArg,
        tag: str | XComArg,
        build_id: str | XComArg | None = None,
        build_number: str | XComArg | None = None,
        expected_build_id: str | XComArg | None = None,
        keep_previous_as: str | XComArg | None = "previous",
        apify_conn_id: str = "apify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if build_id is None and build_number is None:
            with configuration():
                tags.check_which(None, None)
        # What other tasks give is there when templates are rendered, before anything here reads it.
        self.actor_id: str = actor_id  # type: ignore[assignment]
        self.tag: str = tag  # type: ignore[assignment]
        self.build_id: str | None = build_id  # type: ignore[assignment]
        self.build_number: str | None = build_number  # type: ignore[assignment]
        self.expected_build_id: str | None = expected_build_id  # type: ignore[assignment]
        self.keep_previous_as: str | None = keep_previous_as  # type: ignore[assignment]
        self.apify_conn_id = apify_conn_id
        #: The build's page in Apify Console, once known.
        self.console_url: str | None = None

    def execute(self, context: Context) -> str:
        from airflow_provider_apify.client.client import Client
        from airflow_provider_apify.client.tags import move_tag
        from airflow_provider_apify.lifecycle import store

        def write_down(build_id: str) -> None:
            store.write(self, context, STORE_KEY, {**attempt, "build_id": build_id})

        self.console_url = ""  # so that Airflow does not look for it where none can be
        self.actor_id = arguments.checked(check_actor_id, arguments.digits(self.actor_id))
        tag = arguments.digits(arguments.given(self.tag))
        attempt = {"epoch": store.epoch(self, context), "tag": tag}
        earlier = store.read(self, context, STORE_KEY) or {}
        moved = move_tag(
            Client.of(self),
            self.log,
            self.actor_id,
            tag,
            build_id=arguments.given(self.build_id),
            build_number=arguments.given(self.build_number),
            expected_build_id=arguments.given(self.expected_build_id),
            keep_previous_as=arguments.digits(arguments.given(self.keep_previous_as)),
            moved_before=earlier.get("build_id") if earlier.items() >= attempt.items() else None,
            on_moved=write_down,
        )
        xcoms = {
            "build_id": moved.build_id,
            "build_number": moved.build_number,
            "actor_id": moved.actor_id,
            "previous_build_id": moved.previous_build_id,
            "previous_build_number": moved.previous_build_number,
        }
        announce(self, context, {**xcoms, "console_url": moved.console_url})
        if self.do_xcom_push:
            for key in ("previous_build_id", "previous_build_number"):
                context["ti"].xcom_push(key, xcoms[key])
        fill_asset_events(self, context, xcoms)
        return moved.build_id
