"""What a request to Apify is, those that all kinds of job share, and the ids that go into them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, NamedTuple
from urllib.parse import quote, unquote, urlencode

from airflow_provider_apify.api.errors import Repeat
from airflow_provider_apify.api.job import J_co, Job, JobKind

#: Longest wait that Apify grants a request, in seconds; it clips higher ones silently.
MAX_WAIT_SECONDS = 60

#: Most items of a list in one page.
PAGE_LIMIT = 1000

#: ``/v2/actors`` reaches the same handlers.
_ACTORS = "/v2/acts"

# Patterns that re compiles when they are first used: a third of a millisecond in each process that parses DAG files.
_CONSOLE_PAGE = r"(?i)(?:https?://)?console\.apify\.com/(?:organization/[^/?#]+/)?actors/([0-9A-Za-z]{17})(?:[/?#].*)?"
_TASK_PAGE = (
    r"(?i)(?:https?://)?console\.apify\.com/(?:organization/[^/?#]+/)?actors/tasks/([0-9A-Za-z]{17})(?:[/?#].*)?"
)
_STORE_PAGE = r"(?ai)(?:https?://)?(?:www\.)?apify\.com/(?!store/)([\w.-]+)/([\w.-]+)(?:[/?#].*)?"
_ADDRESS = r"(?i)[a-z]+://|([a-z]+\.)?apify\.com(/|$)"
BUILD_NUMBER = r"(?a)\d+\.\d+\.\d+"
#: A path that no library changes before it goes on the wire.
_PATH = r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]+"
#: What is left of an argument that a template or another task did not give.
_NOTHING = ("", "None")


class Answer(Enum):
    """What a request is answered with, if it succeeds."""

    #: A JSON object whose field ``data`` is what was asked for.
    DATA = "data"
    #: Text, such as a log.
    TEXT = "text"
    #: ``data`` where there is one; else JSON as it is, such as items of a dataset; else text, or bytes; ``None`` for no
    #: content. A record may lie behind a redirect to where Apify has put it.
    ANY = "any"
    #: A record, as its content type says: JSON, text, or bytes. It, too, may lie behind a redirect.
    RECORD = "record"


class Request(NamedTuple):
    """One call of the API: ``path`` and ``query`` are text, quoted when the target is put together."""

    method: str
    #: Path with its segments already quoted.
    path: str
    query: tuple[tuple[str, str], ...] = ()
    repeat: Repeat = Repeat.HARMLESS
    body: bytes | None = None
    content_type: str | None = None
    answer: Answer = Answer.DATA

    @property
    def target(self) -> str:
        """Path and query as they go on the wire."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    @property
    def wait(self) -> int:
        """Seconds that the server may hold its answer back."""
        return int(dict(self.query).get("waitForFinish", 0))

    @property
    def is_record(self) -> bool:
        """Whether it gets a record, which may lie elsewhere."""
        return self.method == "GET" and re.search(r"/records/[^/]+$", self.path) is not None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Start(Generic[J_co]):
    """
    How a job is started, and where it is listed then.

    :param collection: path of the list of jobs that ``POST`` adds to, such as an Actor's builds.
    """

    kind: JobKind[J_co]
    collection: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str | None = None

    @property
    def request(self) -> Request:
        """The request that starts the job."""
        return Request("POST", self.collection, self.query, Repeat.STARTS_ANOTHER, self.body, self.content_type)


def get_job(kind: JobKind[Job], job_id: object, *, wait_for_finish: object = None) -> Request:
    """Get a job, holding the answer back for up to ``wait_for_finish`` (0 to 60) seconds while it is unfinished."""
    wait = check_wait(wait_for_finish)
    return Request("GET", _job_path(kind, job_id), parameters(waitForFinish=wait or None))


def abort_job(kind: JobKind[Job], job_id: object, *, gracefully: bool = False) -> Request:
    """Abort a job. Harmless to repeat; does nothing to one that has ended. Only runs can be aborted ``gracefully``."""
    return Request("POST", f"{_job_path(kind, job_id)}/abort", parameters(gracefully=gracefully or None))


def get_job_log(kind: JobKind[Job], job_id: object, *, stream: bool = False) -> Request:
    """Get a job's whole log; Apify gives no part of one. As a ``stream``, the answer ends when the job does."""
    return Request("GET", f"{_job_path(kind, job_id)}/log", parameters(stream=stream or None), answer=Answer.TEXT)


def list_jobs(collection: str, *, limit: int = PAGE_LIMIT, offset: int = 0, desc: bool = True) -> Request:
    """List jobs by start time: an Actor's, or with a kind's ``path`` the account's. ``limit``: 1 to 1000."""
    return Request("GET", collection, parameters(desc=desc, limit=limit, offset=offset or None))


def get_actor(actor_id: object) -> Request:
    return Request("GET", actor_path(actor_id))


def get_user() -> Request:
    """Ask whose token this is. The answer holds a proxy password: never log it."""
    return Request("GET", "/v2/users/me")


_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def any_request(
    method: str, path: str, *, query: Mapping[str, Any] | None = None, body: bytes | None = None, content_type: str = ""
) -> Request:
    """
    Give a request for what has no function here. A ``POST`` counts as one that starts another job.

    :param path: begins with ``/v2/``, its segments quoted, without a query.
    :param query: values of ``None`` are left out, bools are sent as ``true`` and ``false``.
    :raises ValueError: the request cannot be one of Apify's API; the message says why.
    """
    method = method.upper()
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}; got {method!r}")
    segments = unquote(path).split("/")
    if not path.startswith("/v2/") or not re.fullmatch(_PATH, path) or {".", ".."} & set(segments):
        raise ValueError(
            f"path must begin with /v2/, with each segment quoted, and without ? and #: give the query as query=;"
            f" got {_shown(path)}"
        )
    check_wait((query or {}).get("waitForFinish"))
    repeat = Repeat.STARTS_ANOTHER if method == "POST" else Repeat.HARMLESS
    return Request(method, path, parameters(**query or {}), repeat, body, content_type or None, Answer.ANY)


def check_wait(seconds: object) -> int | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise ValueError(f"wait_for_finish must be a whole number of seconds from 0 to 60; got {seconds!r}")
    return seconds


def check_actor_id(actor_id: object) -> str:
    """
    Read an Actor's id, ``user~name``, ``user/name`` or ``~name``, or the address of its page in Console or Store.

    :raises ValueError: it is none of them; the message says what to write.
    """
    text = _stripped(actor_id)
    if page := re.fullmatch(_CONSOLE_PAGE, text):
        return page[1]
    if page := re.fullmatch(_STORE_PAGE, text):
        return f"{page[1]}/{page[2]}"
    return _checked_name(actor_id, "actor_id must be an Actor's id, user/name, or ~name for an Actor of your own")


def check_actor_task_id(actor_task_id: object) -> str:
    """
    Read the id, ``user~name``, ``user/name`` or ``~name`` of an Apify task, or the address of its page in Console.

    :raises ValueError: it is none of them; the message says what to write.
    """
    if page := re.fullmatch(_TASK_PAGE, _stripped(actor_task_id)):
        return page[1]
    return _checked_name(
        actor_task_id, "actor_task_id must be the id of a task in Apify, user/name, or ~name for a task of your own"
    )


def _checked_name(value: object, must_be: str, form: str = r"~?[^/~]+|[^/~]+[/~][^/~]+") -> str:
    text = _stripped(value)
    if text in _NOTHING:
        why = ". Does the template or the task that it comes from give anything?"
    elif re.match(_ADDRESS, text) or not _is_segment(text) or not re.fullmatch(form, text):
        why = ""
    else:
        return text
    raise ValueError(f"{must_be}; got {_shown(value)}{why}")


def check_job_id(kind: JobKind[Job], job_id: object) -> str:
    """
    Read a job's id.

    :raises ValueError: it is none; the message says what to write.
    """
    text, noun = _stripped(job_id), kind.name
    if text in _NOTHING:
        why = f". Does the task that starts the {noun} push its id?"
    elif re.match(_ADDRESS, text) or re.fullmatch(BUILD_NUMBER, text):
        why = f". Apify finds {noun}s by id, not by number: neither a number nor a page's address will do."
    elif not _is_segment(text):
        why = ""
    else:
        return text
    raise ValueError(
        f"{noun}_id must be a {noun}'s id, such as the XCom {noun}_id of the task that starts it;"
        f" got {_shown(job_id)}{why}"
    )


def check_id(argument: str, value: object, noun: str) -> str:
    """
    Read the id of something that can also be called ``username~name``, quoted for a path.

    :param noun: what it is the id of.
    :raises ValueError: it is none; the message says what to write.
    """
    return quote(_checked_name(value, f"{argument} must be the id of a {noun}", r"[^/]+"), safe="~")


def actor_path(actor_id: object) -> str:
    """
    Give the path of an Actor.

    :raises ValueError: ``actor_id`` is none.
    """
    return f"{_ACTORS}/{_quoted_name(check_actor_id(actor_id))}"


def actor_task_path(actor_task_id: object) -> str:
    """
    Give the path of an Apify task.

    :raises ValueError: ``actor_task_id`` is none.
    """
    return f"/v2/actor-tasks/{_quoted_name(check_actor_task_id(actor_task_id))}"


def _quoted_name(text: str) -> str:
    return quote(text.replace("/", "~"), safe="~")


def _job_path(kind: JobKind[Job], job_id: object) -> str:
    return f"{kind.path}/{quote(check_job_id(kind, job_id), safe='~')}"


def _stripped(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _shown(value: object) -> str:
    """Give a value as messages show it: an address without credentials and query, which may hold a token."""
    return repr(re.sub(r"(?<=//)[^/]*@|[?#].*", "", value, flags=re.DOTALL) if isinstance(value, str) else value)


def _is_segment(text: str) -> bool:
    """
    Whether ``text`` can be an id, which quoted stays one segment of a path: HTTP libraries resolve ``.`` and ``..``.

    What follows a ``?`` may hold a token.
    """
    return text not in (".", "..") and not re.search(r"[\s?#]", text) and is_unicode(text)


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be sent: it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parameters(**values: Any) -> tuple[tuple[str, str], ...]:
    """Give the query for these values, without those that are ``None``."""
    return tuple(
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in values.items()
        if value is not None
    )
