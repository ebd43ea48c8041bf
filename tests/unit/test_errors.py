"""api/errors.py, its table of retries, and client/wire.py: what an answer means."""

from __future__ import annotations

import json
import math
import time
from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_apify.api import errors
from airflow_provider_apify.api.endpoints import Request
from airflow_provider_apify.api.errors import (
    AUTHENTICATION,
    CAPACITY,
    CERTIFICATE,
    INVALID_REQUEST,
    NETWORK,
    NOT_FOUND,
    PERMISSION,
    POLL,
    QUOTA,
    RATE_LIMIT,
    SERVER,
    ApiError,
    Kind,
    Repeat,
)
from airflow_provider_apify.client import wire

WHAT = "POST /v2/acts/a1/builds"
GET = Request("GET", "/v2/actor-builds/b1")
TOO_DEEP = b"[" * 100_000
TOKEN = "apify_api_secret"


def body(type_: object, message: object = "Something is wrong.") -> bytes:
    return json.dumps({"error": {"type": type_, "message": message}}).encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, INVALID_REQUEST),
        (401, AUTHENTICATION),
        (402, QUOTA),
        (403, PERMISSION),
        (404, NOT_FOUND),
        (405, INVALID_REQUEST),
        (408, SERVER),
        (409, INVALID_REQUEST),
        (429, RATE_LIMIT),
        (500, SERVER),
        (502, SERVER),
        (503, SERVER),
        (504, SERVER),
        (599, SERVER),
        (199, SERVER),
    ],
)
@pytest.mark.parametrize("sent", [body("some-new-type"), body(None)], ids=repr)
def test_a_status_decides_where_the_type_is_unknown(status: int, kind: Kind, sent: bytes) -> None:
    error = errors.from_answer(WHAT, status, sent)
    assert (error.kind, error.status) == (kind, status)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, SERVER),
        (401, SERVER),
        (402, SERVER),
        (403, SERVER),
        (404, SERVER),
        (425, SERVER),
        (429, RATE_LIMIT),
        (499, SERVER),
        (502, SERVER),
    ],
)
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"RBAC: access denied",
        b" <html>Not here</html>",
        b'{"message": "no"}',
        b'{"error": "no"}',
        body(None, None),
    ],
)
def test_a_proxys_word_says_nothing_of_token_or_build(status: int, kind: Kind, sent: bytes) -> None:
    assert errors.from_answer(WHAT, status, sent).kind is kind


@pytest.mark.parametrize(
    ("status", "type_", "kind"),
    [
        (400, "actor-memory-limit-exceeded", CAPACITY),
        (402, "actor-memory-limit-exceeded", CAPACITY),
        (402, "concurrent-runs-limit-exceeded", CAPACITY),
        (403, "platform-feature-disabled", QUOTA),
        (400, "not-enough-usage-to-run-paid-actor", QUOTA),
        (400, "rate-limit-exceeded", RATE_LIMIT),
        (400, "insufficient-permissions", PERMISSION),
        (400, "token-not-provided", AUTHENTICATION),
        (404, "user-or-token-not-found", AUTHENTICATION),
        (400, "record-not-found", NOT_FOUND),
        (400, "record-or-token-not-found", NOT_FOUND),
        (400, "actor-not-found", NOT_FOUND),
    ],
)
def test_the_type_decides_before_the_status(status: int, type_: str, kind: Kind) -> None:
    error = errors.from_answer(WHAT, status, body(type_))
    assert (error.kind, error.status, error.type) == (kind, status, type_)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "arguments"),
        (401, "connection's password"),
        (402, "Billing"),
        (403, "token"),
        (404, "Check the ids"),
        (429, "later"),
        (503, "later"),
    ],
)
def test_a_message_names_request_and_answer_and_gives_advice(status: int, advice: str) -> None:
    message = str(errors.from_answer(WHAT, status, body("some-type", "Apify says so")))
    assert message.startswith(f"Apify answered {WHAT} with HTTP {status}, some-type: Apify says so.\n")
    assert advice in message.partition("Apify says so.\n")[2]


def test_the_memory_limit_is_named_and_a_pool_advised() -> None:
    said = "By launching this job you will exceed the memory limit of 16384MB for all your Actor runs and builds."
    message = str(errors.from_answer(WHAT, 402, body("actor-memory-limit-exceeded", said)))
    assert "16384MB" in message and "pool" in message and "include_deferred" in message


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        (
            "hello-world",
            "hello-world is no Actor's id: write ~hello-world for an Actor of your own, else user/hello-world.",
        ),
        ("hello-world/builds", "write ~hello-world for an Actor of your own"),
        ("~hello-world/builds", None),
        ("jane~shop", None),
        ("zdc3Pyhyz3m8vjDeM/builds", None),
        ("x%2Fy", None),
    ],
)
def test_a_name_without_its_user_gets_advice(path: str, advice: str | None) -> None:
    said = str(errors.from_answer(f"GET /v2/acts/{path}", 404, body("record-not-found")))
    assert said.splitlines()[2:] == [] if advice is None else advice in said.splitlines()[2]


@pytest.mark.parametrize(
    "sent",
    [
        b"<html><body>Sign in to go on</body></html>",
        b'{"error": "<html>Sign in to go on</html>"}',
        b'{"message": "Sign in to go on"}',
        b'["Sign in to go on"]',
        b'"Sign in to go on"',
        b'{"error": {"message": ["Sign in to go on"]}}',
        b"Sign in to go on",
    ],
)
def test_a_body_that_is_not_apifys_error_stays_out_of_the_message(sent: bytes) -> None:
    assert "Sign in" not in str(errors.from_answer(WHAT, 502, sent))
    assert "html" not in str(errors.from_answer(WHAT, 502, sent))


@pytest.mark.parametrize("sent", [body("some-type", "one\r\ntwo\nthree"), body("some\r\ntype")], ids=repr)
def test_what_apify_says_is_a_single_line(sent: bytes) -> None:
    assert str(errors.from_answer(WHAT, 400, sent)).splitlines()[1:] == ["Check the arguments."]


def test_what_apify_says_is_cut_to_a_bearable_length() -> None:
    assert len(str(errors.from_answer(WHAT, 400, body("t" * 10_000, "m" * 1_000_000)))) < 2500


@given(status=st.integers(100, 599), sent=st.binary() | st.text().map(lambda text: body(text, text)))
@example(500, b"\xff\xfe")
@example(500, b"null")
@example(500, b'{"error": null}')
@example(500, b"9" * 5000)
def test_any_body_gives_an_api_error(status: int, sent: bytes) -> None:
    error = errors.from_answer(WHAT, status, sent)
    assert WHAT in str(error) and len(str(error)) < 3000


def test_a_body_nested_too_deep_gives_an_api_error() -> None:
    assert errors.from_answer(WHAT, 500, TOO_DEEP).kind is SERVER


RETRIES = [
    # error, may a harmless request be sent again, may the one that starts a build
    (ApiError("x", AUTHENTICATION), False, False),
    (ApiError("x", PERMISSION), False, False),
    (ApiError("x", NOT_FOUND), False, False),
    (ApiError("x", INVALID_REQUEST), False, False),
    (ApiError("x", POLL), True, True),  # not met there
    (ApiError("x", QUOTA), False, False),
    (ApiError("x", CAPACITY), False, False),
    (ApiError("x", RATE_LIMIT), True, True),
    (ApiError("x", SERVER), True, False),
    (ApiError("x", NETWORK, outcome_unknown=True), True, False),
    (ApiError("x", NETWORK, outcome_unknown=False), True, True),
    (ApiError("x", CERTIFICATE, outcome_unknown=False), False, False),
]


@pytest.mark.parametrize(
    ("error", "harmless", "starts"), RETRIES, ids=lambda value: value.kind.name if isinstance(value, ApiError) else None
)
def test_what_may_be_sent_again_after_what(error: ApiError, harmless: bool, starts: bool) -> None:
    assert errors.may_repeat(Repeat.HARMLESS, error) is harmless
    assert errors.may_repeat(Repeat.STARTS_ANOTHER, error) is starts


def test_the_table_of_retries_knows_every_error() -> None:
    assert {error.kind for error, *_ in RETRIES} == set(errors.KINDS)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_start_is_not_sent_again_after_a_status_that_proves_nothing(status: int) -> None:
    error = errors.from_answer(WHAT, status, b"")
    assert error.outcome_unknown
    assert not errors.may_repeat(Repeat.STARTS_ANOTHER, error)


def test_a_start_is_not_sent_again_after_an_unreadable_answer() -> None:
    error = errors.unreadable(WHAT, 201, "it is an HTML page")
    assert error.outcome_unknown
    assert not errors.may_repeat(Repeat.STARTS_ANOTHER, error)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429])
def test_a_refusal_proves_that_nothing_was_started(status: int) -> None:
    assert not errors.from_answer(WHAT, status, body("some-type")).outcome_unknown


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("inf", None),
        ("٣", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert wire.seconds_of(header) == seconds


def test_retry_after_as_a_date_to_come() -> None:
    seconds = wire.seconds_of(formatdate(time.time() + 100, usegmt=True))
    assert seconds is not None and 95 < seconds <= 100


@given(st.text() | st.integers().map(str))
@example("9" * 5000)
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_any_retry_after_is_bearable(header: str) -> None:
    seconds = wire.seconds_of(header)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


def test_an_error_answer_keeps_status_type_and_retry_after() -> None:
    with pytest.raises(ApiError, check=lambda error: error.kind is RATE_LIMIT) as caught:
        wire.read(GET, 429, {"Retry-After": "7"}, body("rate-limit-exceeded"), TOKEN)
    assert (caught.value.status, caught.value.type, caught.value.retry_after) == (429, "rate-limit-exceeded", 7.0)
    assert str(GET) in str(caught.value)


def test_an_error_holds_no_token_that_a_proxy_quotes() -> None:
    with pytest.raises(ApiError, match=r"You sent \*\*\*\.") as caught:
        wire.read(GET, 403, {}, body("insufficient-permissions", f"You sent {TOKEN}."), TOKEN)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("data", [{"id": "b1"}, [], None, 0])
def test_an_answer_gives_its_data(data: object) -> None:
    assert wire.read(GET, 201, {}, json.dumps({"data": data}).encode(), TOKEN) == data


@pytest.mark.parametrize(
    ("status", "sent", "why"),
    [
        (301, b"", "redirects"),
        (302, b'{"data": {}}', "redirects"),
        (307, b"<html>", "redirects"),
        (200, b"\n <html><body>Sign in</body></html>", "an HTML page"),
        (200, b'{"data": {"id": "b', "cut off"),
        (200, b"", "cut off"),
        (200, b"\xff\xfe\xfd", "cut off"),
        (200, TOO_DEEP, "cut off"),
        (200, b"{}", "no field 'data'"),
        (200, b"[]", "no field 'data'"),
        (200, b"null", "no field 'data'"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_answer_that_is_not_apifys_passes_but_proves_nothing(status: int, sent: bytes, why: str) -> None:
    with pytest.raises(ApiError, check=lambda error: error.kind is SERVER, match=why) as caught:
        wire.read(GET, status, {}, sent, TOKEN)
    assert caught.value.transient and caught.value.outcome_unknown
    assert str(GET) in str(caught.value) and "Sign in" not in str(caught.value)


def test_an_answer_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_LIMIT", 12)
    assert wire.read(GET, 200, {}, b'{"data": 10}', TOKEN) == 10
    with pytest.raises(ApiError, check=lambda error: error.kind is SERVER, match="larger than 12 bytes"):
        wire.read(GET, 200, {}, b'{"data": 100}', TOKEN)


def test_the_fingerprint_goes_into_the_user_agent() -> None:
    assert wire.headers(GET, "airflow/abc.1")["User-Agent"].endswith(") airflow/abc.1")
    assert wire.headers(GET)["User-Agent"].endswith(")")
    assert wire.headers(GET)["x-apify-integration-platform"] == "airflow"


@pytest.mark.parametrize("kind", wire._KINDS)
@pytest.mark.parametrize("sent", [True, False])
def test_no_answer_says_whether_anything_was_sent(kind: str, sent: bool) -> None:
    error = wire.no_answer(GET, kind, sent=sent)
    assert error.outcome_unknown is sent
    assert str(error).startswith(f"No answer from Apify to {GET}: ")
    assert ("Nothing was sent" in str(error)) is not sent
    assert error.transient is (kind != "certificate"), "sending again helps"
