"""What can go wrong with a request to Apify, sorted by what the caller can do about it."""

from __future__ import annotations

import json
import re

#: Longest message of Apify's that is repeated in ours, in characters.
MESSAGE_LIMIT = 500


class ApiError(Exception):
    """
    A request to Apify failed.

    :param message: a line that says what happened, then lines that say what to do; never holds the token or a query.
    :param status: HTTP status, or ``None`` when no answer was read.
    :param type: Apify's ``error.type``, or ``None``.
    :param retry_after: seconds that Apify asks to wait, or ``None``.
    """

    #: Whether the same request can succeed later without anybody changing anything.
    transient: bool = False

    def __init__(
        self, message: str, *, status: int | None = None, type: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.retry_after = retry_after
        #: Whether Apify may have carried the request out although it failed.
        self.outcome_unknown = False


class AuthenticationError(ApiError):
    """Apify does not accept the token (401)."""


class PermissionDeniedError(ApiError):
    """The token is valid but may not do this (403)."""


class NotFoundError(ApiError):
    """The Actor, version or build does not exist, or this token cannot see it (404)."""


class InvalidRequestError(ApiError):
    """Apify refuses the request as it is (400 and other 4xx)."""


class PollError(ApiError):
    """Apify kept refusing to say how a build is doing, by answers (400 and other 4xx) that say nothing of the build."""

    transient = True


class QuotaError(ApiError):
    """The account's credits or monthly limit are used up (402, ``platform-feature-disabled``)."""


class CapacityError(ApiError):
    """The account's memory for builds and runs is taken; it clears as other jobs end."""

    transient = True


class RateLimitError(ApiError):
    """Too many requests (429)."""

    transient = True


class ServerError(ApiError):
    """Apify or a proxy failed (5xx, 408), or sent something that is not the API's JSON."""

    transient = True

    def __init__(self, message: str, **kwargs: object) -> None:
        super().__init__(message, **kwargs)  # type: ignore[arg-type]
        self.outcome_unknown = True


class NetworkError(ApiError):
    """
    No complete answer arrived: name resolution, connection, TLS, timeout, reset.

    :param sent: whether the request may have reached Apify.
    :param transient: ``False`` for a certificate that is not trusted: somebody has to change something.
    """

    transient = True

    def __init__(self, message: str, *, sent: bool = True, transient: bool = True) -> None:
        super().__init__(message)
        self.outcome_unknown = sent
        if not transient:
            self.transient = False


#: ``error.type`` decides before the status does: Apify sends the same type under several statuses (API §1.8, §3.2).
_BY_TYPE: dict[str, type[ApiError]] = {
    "actor-memory-limit-exceeded": CapacityError,
    "concurrent-runs-limit-exceeded": CapacityError,
    "platform-feature-disabled": QuotaError,
    "not-enough-usage-to-run-paid-actor": QuotaError,
    "rate-limit-exceeded": RateLimitError,
    "insufficient-permissions": PermissionDeniedError,
    "token-not-provided": AuthenticationError,
    "invalid-token": AuthenticationError,
    "user-or-token-not-found": AuthenticationError,
    "record-not-found": NotFoundError,
    "record-or-token-not-found": NotFoundError,
    "actor-not-found": NotFoundError,
    "build-not-found": NotFoundError,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    402: QuotaError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    429: RateLimitError,
}

_ADVICE: dict[type[ApiError], str] = {
    AuthenticationError: "Put a valid API token (Apify Console, Settings, API & Integrations) into the"
    " connection's password.",
    PermissionDeniedError: "Put a token whose owner may do this into the connection's password; scoped tokens"
    " cannot modify Actors.",
    NotFoundError: "Check actor_id, version or build_id, and that the account of the connection's token can see it.",
    InvalidRequestError: "Check the arguments.",
    QuotaError: "Raise the limit or add credits in Apify Console, Billing; retrying does not help.",
    CapacityError: "It clears as other builds and runs end. To keep it from happening, give the tasks an Airflow pool"
    " with include_deferred=True and a slot for each 4 GB of the account's memory.",
    RateLimitError: "Spread the requests, or retry later.",
    ServerError: "Retry later.",
}

#: An Actor in a request's path that has neither a user nor the form of an id, which is 17 letters and digits.
_BARE_NAME = re.compile(r"/v2/acts/(?![0-9A-Za-z]{17}(?:/|$))([\w.-]+)(?=/|$)", re.ASCII)


def from_answer(what: str, status: int, body: bytes, retry_after: float | None = None) -> ApiError:
    """
    Sort a failed answer by ``error.type``, else by HTTP status.

    :param what: what was asked, for the message: ``"POST /v2/acts/x/builds"``.
    :param body: the answer's body; anything but Apify's error object is left out of the message.
    """
    type_, said = _error_of(body)
    cls = _BY_TYPE.get(type_ or "") or _BY_STATUS.get(status)
    if cls is None:
        cls = ServerError if status >= 500 or status < 400 else InvalidRequestError
    if not (type_ or said or cls.transient):
        # A proxy's word, not Apify's, which explains each error: it says nothing of the token or the build.
        kind = "it is an HTML page" if body.lstrip()[:1] == b"<" else "it is no error of the API"
        return unreadable(what, status, kind)
    code = f"HTTP {status}" + (f", {type_}" if type_ else "")
    message = f"Apify answered {what} with {code}" + (f": {said.rstrip('.')}." if said else ".")
    advice = _ADVICE[cls]
    if cls is NotFoundError and (name := _BARE_NAME.search(what)):
        advice += f"\n{name[1]} is no Actor's id: write ~{name[1]} for an Actor of your own, else user/{name[1]}."
    return cls(f"{message}\n{advice}", status=status, type=type_, retry_after=retry_after)


def unreadable(what: str, status: int, why: str) -> ServerError:
    """Give the error for an answer of success whose body is not what the API sends, such as a proxy's HTML page."""
    return ServerError(
        f"The answer to {what} (HTTP {status}) is not Apify's JSON: {why}.\nIf it persists, look for a proxy or login"
        " page between Airflow and Apify, and check the connection's host.",
        status=status,
    )


def first_line(error: BaseException | None) -> str:
    """Give what happened, without what to do about it: for the log, where the same is tried again."""
    return next(iter(str(error or "").splitlines()), "")


def _error_of(body: bytes) -> tuple[str | None, str]:
    try:
        error = json.loads(body)["error"]
        type_, message = error.get("type"), error.get("message")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, ""
    return _folded(type_)[:100] or None, _folded(message)[:MESSAGE_LIMIT]


def _folded(text: object) -> str:
    """Give a text on one line, whatever came over the wire."""
    return " ".join(text.split()) if isinstance(text, str) else ""
