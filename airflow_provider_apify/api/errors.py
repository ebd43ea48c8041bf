"""What can go wrong with a request to Apify, sorted by what the caller can do about it; and what may be sent again."""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import NamedTuple

#: Longest message of Apify's that is repeated in ours, in characters.
MESSAGE_LIMIT = 2000


class Kind(NamedTuple):
    """
    A kind of failure. One that is new also needs its exception, in ``exceptions.py``.

    :param types: Apify's ``error.type`` that says so. It decides before the status does: Apify sends the same type
        under several statuses.
    :param statuses: HTTP statuses that say so where the type does not.
    :param passes: whether the same request can succeed later without anybody changing anything.
    :param may_be_done: whether Apify may have carried the request out although it failed.
    :param advice: what to do.
    """

    name: str
    types: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    passes: bool = False
    may_be_done: bool = False
    advice: str = ""


#: Apify does not accept the token.
AUTHENTICATION = Kind(
    "authentication",
    types=("token-not-provided", "invalid-token", "user-or-token-not-found"),
    statuses=(401,),
    advice="Put a valid API token (Apify Console, Settings, API & Integrations) into the connection's password.",
)
#: The token is valid but may not do this.
PERMISSION = Kind(
    "permission",
    types=("insufficient-permissions", "full-permission-actor-not-approved", "actor-disabled", "user-disabled"),
    statuses=(403,),
    advice="Put a token whose owner may do this into the connection's password; scoped tokens cannot modify Actors.",
)
#: What is asked for does not exist, or this token cannot see it.
NOT_FOUND = Kind(
    "not found",
    types=("record-not-found", "record-or-token-not-found", "actor-not-found", "build-not-found"),
    statuses=(404,),
    advice="Check the ids and the version that the task names, and that the account of the connection's token can see"
    " them.",
)
#: Apify refuses the request as it is: 400, and every status that no other kind names.
INVALID_REQUEST = Kind(
    "invalid request",
    # Those of builds come with 403, and say nothing of the token.
    types=("invalid-input", "invalid-input-schema", "unknown-build-tag", "invalid-build", "build-outdated"),
    advice="Check the arguments.",
)
#: For a long time Apify has given no answer about a job but refusals that say nothing of it.
POLL = Kind("poll", passes=True)
#: The account's credits or monthly limit are used up.
QUOTA = Kind(
    "quota",
    types=(
        "platform-feature-disabled",
        "not-enough-usage-to-run-paid-actor",
        "actor-is-not-rented",
        "apify-plan-required-to-use-paid-actor",
    ),
    statuses=(402,),
    advice="Raise the limit or add credits in Apify Console, Billing; retrying does not help.",
)
#: The account's memory for builds and runs is taken; it clears as other jobs end.
CAPACITY = Kind(
    "capacity",
    types=("actor-memory-limit-exceeded", "concurrent-runs-limit-exceeded"),
    passes=True,
    advice="It clears as other builds and runs end; with wait_for_capacity, a task waits for that. To keep it from"
    " happening, give the tasks an Airflow pool with include_deferred=True and a slot for each GB of the account's"
    " memory, and pool_slots: 4 for a build, its memory in GB for a run.",
)
#: Too many requests.
RATE_LIMIT = Kind(
    "rate limit",
    types=("rate-limit-exceeded",),
    statuses=(429,),
    passes=True,
    advice="Spread the requests, or retry later.",
)
#: Apify or a proxy failed (5xx, 408), or sent something that is not the API's JSON.
SERVER = Kind("server", statuses=(408,), passes=True, may_be_done=True, advice="Retry later.")
#: No complete answer arrived: name resolution, connection, TLS, time-out, reset.
NETWORK = Kind("network", passes=True, may_be_done=True)
#: The server's certificate is not trusted: nothing was sent, and somebody has to change something.
CERTIFICATE = Kind("certificate")

#: All of the above.
KINDS = tuple(value for value in vars().values() if isinstance(value, Kind))
_BY_TYPE = {type_: kind for kind in KINDS for type_ in kind.types}
#: What to do where a type says more than its kind.
_ADVICE = {
    "invalid-input": "Correct the input: Apify checks it against the input schema of the build (Apify Console, the"
    " Actor's tab Input).",
    "invalid-input-schema": "The Actor's own input schema is broken: whoever maintains the Actor has to correct it.",
    "full-permission-actor-not-approved": "The Actor asks for full permissions. Somebody who may has to approve that"
    " once in Apify Console; then clear the task.",
    "actor-disabled": "Ask whoever maintains the Actor, or Apify's support.",
    "user-disabled": "Ask Apify's support.",
    "actor-is-not-rented": "Rent the Actor in Apify Console; then clear the task.",
    "apify-plan-required-to-use-paid-actor": "The Actor needs a paid plan: see Apify Console, Billing.",
    **dict.fromkeys(
        ("unknown-build-tag", "invalid-build", "build-outdated", "build-not-found"),
        "Name a build that has succeeded, by its tag or number, or build the Actor first.",
    ),
}
_BY_STATUS = {status: kind for kind in KINDS for status in kind.statuses}


class ApiError(Exception):
    """
    A request to Apify failed.

    :param message: a line that says what happened, then lines that say what to do; never holds the token or a query.
    :param kind: what kind of failure.
    :param status: HTTP status, or ``None`` when no answer was read.
    :param type: Apify's ``error.type``, or ``None``.
    :param retry_after: seconds that Apify asks to wait, or ``None``.
    :param outcome_unknown: whether Apify may have carried the request out; ``None``: as the kind says.
    """

    kind: Kind = INVALID_REQUEST

    def __init__(
        self,
        message: str,
        kind: Kind | None = None,
        *,
        status: int | None = None,
        type: str | None = None,
        retry_after: float | None = None,
        outcome_unknown: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind or self.kind
        self.status = status
        self.type = type
        self.retry_after = retry_after
        #: Whether Apify may have carried the request out although it failed.
        self.outcome_unknown = self.kind.may_be_done if outcome_unknown is None else outcome_unknown

    @property
    def transient(self) -> bool:
        """Whether the same request can succeed later without anybody changing anything."""
        return self.kind.passes


class Repeat(Enum):
    """What sending a request twice does."""

    HARMLESS = "harmless"
    #: It may start a second job: Apify knows no idempotency key.
    STARTS_ANOTHER = "starts another"


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
    if error.kind == RATE_LIMIT:
        return True
    if not error.transient or error.kind == CAPACITY:
        return False
    return repeat is Repeat.HARMLESS or not error.outcome_unknown


#: An Actor in a request's path that has neither a user nor the form of an id, which is 17 letters and digits.
_BARE_NAME = r"(?a)/v2/(acts|actor-tasks)/(?![0-9A-Za-z]{17}(?:/|$))([\w.-]+)(?=/|$)"

#: A request for a storage or what is in it.
_STORAGE = r"/v2/(dataset|key-value-store)s/"


def from_answer(what: str, status: int, body: bytes, retry_after: float | None = None) -> ApiError:
    """
    Sort a failed answer by ``error.type``, else by HTTP status.

    :param what: what was asked, for the message: ``"POST /v2/acts/x/builds"``.
    :param body: the answer's body; anything but Apify's error object is left out of the message.
    """
    type_, said, approval_url = _error_of(body)
    kind = _BY_TYPE.get(type_ or "") or _BY_STATUS.get(status)
    if kind is None:
        kind = SERVER if status >= 500 or status < 400 else INVALID_REQUEST
    if not (type_ or said or kind.passes):
        # A proxy's word, not Apify's, which explains each error: it says nothing of the token or the job.
        page = "it is an HTML page" if body.lstrip()[:1] == b"<" else "it is no error of the API"
        return unreadable(what, status, page)
    code = f"HTTP {status}" + (f", {type_}" if type_ else "")
    message = f"Apify answered {what} with {code}" + (f": {said.rstrip('.')}." if said else ".")
    advice = _ADVICE.get(type_ or "", kind.advice)
    if approval_url:
        advice += f"\n{approval_url}"
    if kind == NOT_FOUND and (storage := re.search(_STORAGE, what)):
        advice = (
            f"Check the id of the {storage[1]}, and that the account of the connection's token can see it. Apify"
            f" deletes a {storage[1]} without a name when the data retention of the account's plan is over."
        )
    if kind == NOT_FOUND and (found := re.search(_BARE_NAME, what)):
        whose, name = "an Actor" if found[1] == "acts" else "a task", found[2]
        advice += f"\n{name} is no {whose.split()[1]}'s id: write ~{name} for {whose} of your own, else user/{name}."
    return ApiError(f"{message}\n{advice}", kind, status=status, type=type_, retry_after=retry_after)


def unreadable(what: str, status: int, why: str) -> ApiError:
    """Give the error for an answer whose body is not what the API sends, such as a proxy's HTML page."""
    return ApiError(
        f"The answer to {what} (HTTP {status}) is not Apify's JSON: {why}.\nIf it persists, look for a proxy or login"
        " page between Airflow and Apify, and check the connection's host.",
        SERVER,
        status=status,
    )


def first_line(error: BaseException | None) -> str:
    """Give what happened, without what to do about it: for the log, where the same is tried again."""
    return next(iter(str(error or "").splitlines()), "")


def _error_of(body: bytes) -> tuple[str | None, str, str]:
    """Give Apify's type and message, and the address at which somebody can approve what was asked for, if any."""
    try:
        error = json.loads(body)["error"]
        type_, message, data = error.get("type"), error.get("message"), error.get("data")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, "", ""
    approval_url = data.get("approvalUrl") if isinstance(data, dict) else None
    if not (isinstance(approval_url, str) and re.fullmatch(r"https?://\S{1,500}", approval_url)):
        approval_url = ""
    return _folded(type_)[:100] or None, _folded(message)[:MESSAGE_LIMIT], approval_url


def _folded(text: object) -> str:
    """Give a text on one line, whatever came over the wire."""
    return " ".join(text.split()) if isinstance(text, str) else ""
