"""Requests to Apify as values, and the one table of which may be sent again after which failure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote, urlencode

from airflow_provider_apify.api.errors import ApiError, CapacityError, RateLimitError

#: Longest wait that Apify grants a request, in seconds; it clips higher ones silently (API §2).
MAX_WAIT_SECONDS = 60

#: Most items of a list in one page.
PAGE_LIMIT = 1000

#: ``/v2/actors`` reaches the same handlers (API §0).
_ACTORS = "/v2/acts"

_CONSOLE_PAGE = re.compile(
    r"(?:https?://)?console\.apify\.com/(?:organization/[^/?#]+/)?actors/([0-9A-Za-z]{17})(?:[/?#].*)?", re.IGNORECASE
)
_STORE_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?apify\.com/(?!store/)([\w.-]+)/([\w.-]+)(?:[/?#].*)?", re.IGNORECASE | re.ASCII
)
_ADDRESS = re.compile(r"[a-z]+://|([a-z]+\.)?apify\.com(/|$)", re.IGNORECASE)
#: What is left of an argument that a template or another task did not give.
_NOTHING = ("", "None")
_BUILD_NUMBER = re.compile(r"\d+\.\d+\.\d+", re.ASCII)
_VERSION = re.compile(r"([0-9]|[1-9][0-9])\.([0-9]|[1-9][0-9])")


class Repeat(Enum):
    """What sending a request twice does."""

    HARMLESS = "harmless"
    #: It may start a second job: Apify knows no idempotency key.
    STARTS_ANOTHER = "starts another"


@dataclass(frozen=True)
class Request:
    """One call of the API: ``path`` and ``query`` are text, quoted when the target is put together."""

    method: str
    #: Path with its segments already quoted.
    path: str
    query: tuple[tuple[str, str], ...] = ()
    repeat: Repeat = Repeat.HARMLESS
    #: Seconds that the server may hold its answer back.
    wait: int = 0

    @property
    def target(self) -> str:
        """Path and query as they go on the wire."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class JobKind:
    """What differs between Apify's kinds of job. Builds are the only kind so far; runs share the rest."""

    path: str
    start_path: str


BUILD = JobKind(path="/v2/actor-builds", start_path="builds")


def may_repeat(repeat: Repeat, error: ApiError) -> bool:
    """
    Tell whether a request may be sent again by itself after ``error``.

    ==================  ===========  ===================  ===============================
    sending twice       429          nothing was sent     5xx, 408, timeout, reset, HTML
    ==================  ===========  ===================  ===============================
    is harmless         yes          yes                  yes
    starts another job  yes          yes                  no: it may have started
    ==================  ===========  ===================  ===============================

    Every other answer is final for the request; the account's memory limit is for the caller to wait out.
    """
    if isinstance(error, RateLimitError):
        return True
    if not error.transient or isinstance(error, CapacityError):
        return False
    return repeat is Repeat.HARMLESS or not error.outcome_unknown


def start_build(
    actor_id: str,
    *,
    version: str,
    tag: str | None = None,
    use_cache: bool | None = None,
    beta_packages: bool | None = None,
    wait_for_finish: int | None = None,
) -> Request:
    """
    Build an Actor (``POST /v2/acts/:actorId/builds``, API §1.2). ``None`` leaves a parameter to Apify's default.

    :raises ValueError: an argument cannot be what it is said to be; the message names it.
    """
    query = _query(
        version=check_version(version),
        tag=check_tag(tag),
        useCache=use_cache,
        betaPackages=beta_packages,
        waitForFinish=check_wait(wait_for_finish),
    )
    return Request(
        "POST",
        f"{_ACTORS}/{_actor_segment(actor_id)}/{BUILD.start_path}",
        query,
        Repeat.STARTS_ANOTHER,
        wait=wait_for_finish or 0,
    )


def list_builds(actor_id: str, *, limit: int = PAGE_LIMIT, offset: int = 0, desc: bool = True) -> Request:
    """List an Actor's builds by start time (API §1.3). ``limit``: 1 to 1000."""
    query = _query(desc=desc, limit=limit, offset=offset or None)
    return Request("GET", f"{_ACTORS}/{_actor_segment(actor_id)}/builds", query)


def list_user_builds(*, limit: int = PAGE_LIMIT, offset: int = 0) -> Request:
    """List the builds of all the account's Actors, newest first (API §1.1). ``limit``: 1 to 1000."""
    return Request("GET", BUILD.path, _query(desc=True, limit=limit, offset=offset or None))


def get_build(build_id: str, *, wait_for_finish: int | None = None) -> Request:
    """Get a build, holding the answer back for up to ``wait_for_finish`` (0 to 60) seconds while it is unfinished."""
    query = _query(waitForFinish=check_wait(wait_for_finish) or None)
    return Request("GET", _build_path(build_id), query, wait=wait_for_finish or 0)


def abort_build(build_id: str) -> Request:
    """Abort a build. Harmless to repeat; does nothing to one that has ended (API §1.5)."""
    return Request("POST", f"{_build_path(build_id)}/abort")


def get_build_log(build_id: str) -> Request:
    """Get a build's whole log as text; there is no range (API §1.9)."""
    return Request("GET", f"{_build_path(build_id)}/log")


def get_actor(actor_id: str) -> Request:
    return Request("GET", f"{_ACTORS}/{_actor_segment(actor_id)}")


def get_user() -> Request:
    """Ask whose token this is. The answer holds a proxy password: never log it (API §7)."""
    return Request("GET", "/v2/users/me")


def check_version(version: object) -> str:
    """Give ``version`` back, or raise a ``ValueError`` that says why it is none."""
    if not isinstance(version, str):
        raise ValueError(
            f"version must be a string such as '0.1', got {version!r} ({type(version).__name__}): as a number 0.10 and"
            " 0.1 are the same, as Actor versions they differ. Quote it; with native rendering, quote a template twice:"
            " version=\"'{{ params.version }}'\""
        )
    if not _VERSION.fullmatch(version):
        raise ValueError(f"version must be MAJOR.MINOR, each 0 to 99, such as '0.1'; got {version!r}")
    return version


def check_tag(tag: object) -> str | None:
    if tag is not None and (not isinstance(tag, str) or not tag.strip() or not _is_unicode(tag)):
        raise ValueError(f"tag must be a non-empty string such as 'latest', or left out; got {tag!r}")
    return tag


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
    if page := _CONSOLE_PAGE.fullmatch(text):
        return page[1]
    if page := _STORE_PAGE.fullmatch(text):
        return f"{page[1]}/{page[2]}"
    must = f"actor_id must be an Actor's id, user/name, or ~name for an Actor of your own; got {_shown(actor_id)}"
    if text in _NOTHING:
        raise ValueError(f"{must}. Does the template or the task that it comes from give anything?")
    if _ADDRESS.match(text) or not _is_segment(text) or not re.fullmatch(r"~?[^/~]+|[^/~]+[/~][^/~]+", text):
        raise ValueError(must)
    return text


def check_build_id(build_id: object) -> str:
    """
    Read a build's id.

    :raises ValueError: it is none; the message says what to write.
    """
    text = _stripped(build_id)
    must = (
        f"build_id must be a build's id, such as the XCom build_id of the task that starts it; got {_shown(build_id)}"
    )
    if text in _NOTHING:
        raise ValueError(f"{must}. Does the task that starts the build push its id?")
    if _ADDRESS.match(text) or _BUILD_NUMBER.fullmatch(text):
        raise ValueError(
            f"{must}. Apify finds builds by id, not by number: neither a number nor a page's address will do."
        )
    if not _is_segment(text):
        raise ValueError(must)
    return text


def _actor_segment(actor_id: object) -> str:
    text = check_actor_id(actor_id)
    if re.fullmatch(r"[^/~]+/[^/~]+", text):
        text = text.replace("/", "~")
    return quote(text, safe="~")


def _build_path(build_id: object) -> str:
    return f"{BUILD.path}/{quote(check_build_id(build_id), safe='~')}"


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
    return text not in (".", "..") and not re.search(r"[\s?#]", text) and _is_unicode(text)


def _is_unicode(text: str) -> bool:
    """Whether ``text`` can be sent: it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _query(**parameters: Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in parameters.items()
        if value is not None
    )
