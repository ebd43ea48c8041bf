"""Runs of Actors: what they are, how one of an Actor or of an Apify task is started."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_apify.api import fields
from airflow_provider_apify.api.endpoints import (
    BUILD_NUMBER,
    Start,
    actor_path,
    actor_task_path,
    check_wait,
    is_unicode,
    parameters,
)
from airflow_provider_apify.api.job import Job, JobKind

#: Largest input that Apify takes, in bytes (https://docs.apify.com/api/v2, error request-too-large).
INPUT_LIMIT = 9_437_184
#: Least and most memory of a run, in MB; a power of 2.
LEAST_MEMORY, MOST_MEMORY = 128, 32768
JSON_TYPE = "application/json"

#: Longest status message that a summary keeps, in characters: an Actor writes what it likes.
_STATUS_MESSAGE_LIMIT = 1000


@dataclass(frozen=True)
class Run(Job):
    """
    A run of an Actor (API reference, schemas ``Run`` and ``RunShort``).

    ``usage_total_usd`` and ``charged_event_counts`` are *so far*: Apify still counts for a while after the end.
    """

    noun = "run"
    announced = (*Job.announced, "dataset_id", "key_value_store_id")
    cost_note = " so far"

    #: The Apify task that it is a run of, or ``None`` for a run of the Actor itself.
    actor_task_id: str | None = None
    #: The dataset that its items are in unless the Actor chose another.
    dataset_id: str | None = None
    #: The store of its records, such as ``INPUT`` and ``OUTPUT``.
    key_value_store_id: str | None = None
    #: What the Actor says of its progress, or of its end.
    status_message: str | None = None
    exit_code: int | None = None
    #: How often each event that the Actor charges for was charged.
    charged_event_counts: dict[str, Any] | None = None

    @classmethod
    def _own_fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        exit_code = fields.number(data, "exitCode")
        return {
            "actor_task_id": fields.text(data, "actorTaskId"),
            "dataset_id": fields.text(data, "defaultDatasetId"),
            "key_value_store_id": fields.text(data, "defaultKeyValueStoreId"),
            "status_message": fields.text(data, "statusMessage"),
            "exit_code": None if exit_code is None else int(exit_code),
            "charged_event_counts": fields.mapping(data, "chargedEventCounts"),
        }

    @classmethod
    def _page(cls, data: Mapping[str, Any], base: str) -> str | None:
        act_id, run_id = fields.text(data, "actId"), fields.text(data, "id")
        return f"{base}/actors/{act_id}/runs/{run_id}" if act_id else f"{base}/actors/runs/{run_id}"

    @property
    def status_line(self) -> str:
        """What logs say of an unfinished run: with what the Actor says, for it tells of progress."""
        return f"{super().status_line} {_one_line(self.status_message)}".rstrip()

    def summary(self) -> dict[str, Any]:
        return super().summary() | {
            "actor_task_id": self.actor_task_id,
            "dataset_id": self.dataset_id,
            "key_value_store_id": self.key_value_store_id,
            "status_message": _one_line(self.status_message) or None,
            "exit_code": self.exit_code,
            "charged_event_counts": self.charged_event_counts,
        }


RUN = JobKind("/v2/actor-runs", Run)


def actor_runs(actor_id: object) -> str:
    """
    Give the path of an Actor's runs (https://docs.apify.com/api/v2/actors-runs-get).

    :raises ValueError: ``actor_id`` is none.
    """
    return f"{actor_path(actor_id)}/runs"


def task_runs(actor_task_id: object) -> str:
    """
    Give the path of an Apify task's runs (https://docs.apify.com/api/v2/actor-tasks-runs-get).

    :raises ValueError: ``actor_task_id`` is none.
    """
    return f"{actor_task_path(actor_task_id)}/runs"


def start_run(
    collection: str,
    *,
    body: bytes | None = None,
    content_type: str | None = None,
    build: object = None,
    memory_mbytes: object = None,
    run_timeout: object = None,
    max_items: object = None,
    max_total_charge_usd: object = None,
    restart_on_error: bool | None = None,
    wait_for_finish: object = None,
) -> Start[Run]:
    """
    Run an Actor (https://docs.apify.com/api/v2/actors-runs-post) or an Apify task
    (https://docs.apify.com/api/v2/actor-tasks-runs-post). ``None`` leaves a parameter to the Actor or the task.

    :param collection: :func:`actor_runs` or :func:`task_runs`.
    :param body: the input, as :func:`encoded_input` gives it.
    :raises ValueError: an argument cannot be what it is said to be; the message names it.
    """
    query = parameters(
        build=check_build(build),
        memory=check_memory(memory_mbytes),
        timeout=_whole(run_timeout, "run_timeout", "seconds, 0 for no limit", least=0),
        maxItems=_whole(max_items, "max_items", "items", least=1),
        maxTotalChargeUsd=_dollars(max_total_charge_usd),
        restartOnError=restart_on_error,
        waitForFinish=check_wait(wait_for_finish),
    )
    return Start(RUN, collection, query, body, content_type)


def encoded_input(name: str, value: object, content_type: str | None = None) -> tuple[bytes | None, str | None]:
    """
    Give the body and the Content-Type of an input.

    :param name: the argument that it comes from.
    :param value: what JSON can say; text and bytes are sent as they are; ``None``: no body.
    :param content_type: of text and bytes; ``None``: they must be JSON.
    :raises ValueError: it cannot be sent; the message says what to do.
    """
    if value is None:
        return None, None
    if content_type is not None and not re.fullmatch(r"[\w.+-]+/[\w.+-]+[ -~]*", content_type, re.ASCII):
        raise ValueError(
            f"content_type must be such as 'text/plain' or 'text/plain; charset=utf-8'; got {content_type!r}"
        )
    if isinstance(value, (str, bytes)):
        body = value.encode() if isinstance(value, str) else value
        if content_type is None and not fields.is_json(body):
            raise ValueError(
                f"{name} is text that is not JSON, and its content_type is not given.\nFor JSON, give a dict or a list,"
                " or the output of tojson in a template; for anything else, give content_type, such as 'text/plain'."
            )
    else:
        if content_type is not None and not content_type.startswith(JSON_TYPE):
            raise ValueError(
                f"{name} is sent as JSON, but content_type is {content_type!r}: give text or bytes for that"
            )
        body = fields.as_json(name, value)
    if len(body) > INPUT_LIMIT:
        raise ValueError(
            f"{name} has {len(body)} bytes, and Apify takes {INPUT_LIMIT} at most.\nPut the data into a record of a"
            " key-value store, with ApifyHook.request(), and give the Actor its key."
        )
    return body, content_type or JSON_TYPE


def encoded_task_input(value: object) -> tuple[bytes | None, str | None]:
    """
    Give the body and the Content-Type of what replaces fields of an Apify task's saved input.

    :raises ValueError: it is no object, or cannot be sent.
    """
    body, content_type = encoded_input("task_input", value)
    if body is not None and not body.lstrip().startswith(b"{"):
        raise ValueError(f"task_input must be a dict, or text that is a JSON object; got {type(value).__name__}")
    return body, content_type


def check_build(build: object) -> str | None:
    """Give ``build`` back, or raise a ``ValueError`` that says why it is none."""
    if build is None:
        return None
    if not isinstance(build, str) or not build.strip() or not is_unicode(build):
        raise ValueError(
            f"build must be a tag such as 'latest', a build's number such as '0.1.5', or left out; got {build!r}"
        )
    return build


def check_memory(memory_mbytes: object) -> int | None:
    """Give ``memory_mbytes`` back, or raise a ``ValueError`` that says why it is none."""
    memory = _whole(memory_mbytes, "memory_mbytes", "MB", least=LEAST_MEMORY)
    if memory is not None and (memory > MOST_MEMORY or memory & (memory - 1)):
        raise ValueError(
            f"memory_mbytes must be a power of 2 from {LEAST_MEMORY} to {MOST_MEMORY}, such as 1024; got {memory!r}"
        )
    return memory


def is_build_number(build: str | None) -> bool:
    """Whether ``build`` names one build for good; a tag moves."""
    return build is not None and re.fullmatch(BUILD_NUMBER, build) is not None


def _whole(value: object, name: str, unit: str, *, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of {unit}, at least {least}; got {value!r}")
    return value


def _dollars(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"max_total_charge_usd must be a number of US dollars above 0; got {value!r}")
    return value


def _one_line(text: str | None) -> str:
    """Give what an Actor says on one line, without the queries of addresses, which may be signed."""
    return re.sub(r"(?<=://)([^\s?]+)\?\S+", r"\1?***", fields.line(text))[:_STATUS_MESSAGE_LIMIT]
