"""Promise 5, the token stays inside, and bad input: client/settings.py."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_apify.client.settings import Settings
from rig.network import self_signed

TOKEN, PROXY_PASSWORD = "apify_api_S3cr3t", "pr0xyS3cr3t"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES + BUNDLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def settings(host: str | None = None, port: int | None = None, password: str | None = TOKEN, **extra: Any) -> Settings:
    return Settings.of("my_conn", host=host, port=port, password=password, extra=extra)


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        (None, None, "https://api.apify.com"),
        ("", None, "https://api.apify.com"),
        ("  ", None, "https://api.apify.com"),
        ("api.apify.com", None, "https://api.apify.com"),
        (" api.apify.com\n", None, "https://api.apify.com"),
        ("api.apify.com", 8443, "https://api.apify.com:8443"),
        ("api.apify.com:8443", None, "https://api.apify.com:8443"),
        ("api.apify.com:8443", 1, "https://api.apify.com:8443"),
        (None, 8443, "https://api.apify.com:8443"),
        ("https://api.apify.com", None, "https://api.apify.com"),
        ("HTTPS://API.apify.com", None, "https://api.apify.com"),
        ("https://api.apify.com/", None, "https://api.apify.com"),
        ("https://api.apify.com/v2", None, "https://api.apify.com"),
        ("https://api.apify.com/v2/", None, "https://api.apify.com"),
        ("api.apify.com/v2", 8443, "https://api.apify.com:8443"),
        ("https://api.apify.com:8443/v2", None, "https://api.apify.com:8443"),
        ("http://127.0.0.1:3333", None, "http://127.0.0.1:3333"),
        ("http://127.8.9.1", 3333, "http://127.8.9.1:3333"),
        ("127.0.0.1:3333", None, "http://127.0.0.1:3333"),
        ("https://127.0.0.1", None, "https://127.0.0.1"),
        ("http://localhost:3333/v2", None, "http://localhost:3333"),
        ("localhost", 3333, "http://localhost:3333"),
        ("LocalHost", 3333, "http://localhost:3333"),
        ("http://[::1]:3333", None, "http://[::1]:3333"),
        ("[::1]", 3333, "http://[::1]:3333"),
        ("https://[2001:db8::1]", 8443, "https://[2001:db8::1]:8443"),
    ],
)
def test_forms_of_the_host(host: str | None, port: int | None, url: str) -> None:
    assert settings(host, port).base_url == url


@pytest.mark.parametrize(
    "host",
    ["http://api.apify.com", "http://10.0.0.1", "HTTP://api.apify.com", "http://127.0.0.1.evil.com", "http://0.0.0.0"],
)
def test_the_token_is_not_sent_unencrypted_unless_allowed(host: str) -> None:
    with pytest.raises(ValueError, match=r"^Connection 'my_conn': host starts with http://.*allow_http"):
        settings(host)
    assert settings(host, allow_http=True).base_url == host.lower()


def test_allow_http_makes_http_the_scheme_of_a_bare_host_and_leaves_https_alone() -> None:
    assert settings("apify.internal", allow_http=True).base_url == "http://apify.internal"
    assert settings("https://apify.internal", allow_http=True).base_url == "https://apify.internal"


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("ftp://api.apify.com", "scheme 'ftp'"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("https://user:pass@api.apify.com", "credentials"),
        ("user@api.apify.com", "credentials"),
        ("https://api.apify.com\\@evil.com", "credentials"),
        ("https://api.apify.com/v2/acts", "path"),
        ("https://api.apify.com/v1", "path"),
        ("api.apify.com/../v2", "path"),
        ("https://api.apify.com?token=x", "not a host name"),
        ("https://api.apify.com/#x", "not a host name"),
        ("https://", "not a host name"),
        ("https:///v2", "not a host name"),
        (":8443", "not a host name"),
        ("api apify com", "not a host name"),
        ("api.apify.com\r\nX-Evil: 1", "not a valid URL"),
        ("api.\tapify.com", "not a host name"),
        ("api.apify.com\x00", "not a host name"),
        ("api.apify.com:http", "not a valid URL"),
        ("api.apify.com:99999", "not a valid URL"),
        ("http://[::1", "not a valid URL"),
    ],
)
def test_a_host_that_is_none_is_refused(host: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^Connection 'my_conn': host .*{why}"):
        settings(host)


@pytest.mark.parametrize("password", [None, "", "  ", "\n"], ids=repr)
def test_a_missing_token_is_asked_for(password: str | None) -> None:
    with pytest.raises(ValueError, match=r"^Connection 'my_conn': password \(API token\) is empty"):
        settings(password=password)


@pytest.mark.parametrize(
    "password", ["one\r\ntwo", "one two", "one\ttwo", "tokén", "one\x00two", "one\u200btwo"], ids=repr
)
def test_a_token_that_no_header_can_hold_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(ValueError, match=r"^Connection 'my_conn': password \(API token\) has characters") as caught:
        settings(password=password)
    assert "two" not in str(caught.value) and "tok" not in str(caught.value).replace("token", "")


def test_white_space_around_the_token_is_dropped() -> None:
    assert settings(password=f" {TOKEN}\n").token == TOKEN


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("timeout", None, 30.0),
        ("timeout", "", 30.0),
        ("timeout", 1, 1.0),
        ("timeout", 600, 600.0),
        ("timeout", 2.5, 2.5),
        ("timeout", "45", 45.0),
        ("wait_seconds", None, 60),
        ("wait_seconds", "", 60),
        ("wait_seconds", 0, 0),
        ("wait_seconds", "20", 20),
        ("wait_seconds", 60, 60),
    ],
)
def test_seconds_in_range(name: str, value: Any, read: float) -> None:
    found = getattr(settings(**{name: value}), name)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    "value", [-1, "soon", True, False, "nan", float("inf"), [], {}, 10**400], ids=lambda v: str(v)[:9]
)
@pytest.mark.parametrize("name", ["timeout", "wait_seconds"])
def test_seconds_that_are_none_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^Connection 'my_conn': {name} must be a number of seconds"):
        settings(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("timeout", 0), ("timeout", 601), ("wait_seconds", 61)])
def test_seconds_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^Connection 'my_conn': {name} must be a number of seconds"):
        settings(**{name: value})


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE"])
def test_allow_http_on(value: object) -> None:
    assert settings("http://apify.internal", allow_http=value).base_url == "http://apify.internal"


@pytest.mark.parametrize("value", [None, "", False, "false", "False"])
def test_allow_http_off(value: object) -> None:
    with pytest.raises(ValueError, match="unencrypted"):
        settings("http://apify.internal", allow_http=value)


@pytest.mark.parametrize("value", ["yes", "1", 1, 0, "tru", [], {}], ids=repr)
def test_allow_http_that_is_no_switch_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"^Connection 'my_conn': allow_http must be true or false"):
        settings(allow_http=value)


@pytest.mark.parametrize("proxy", ["http://proxy:3128", "https://proxy", f"http://jane:{PROXY_PASSWORD}@proxy:3128"])
def test_the_proxy_of_the_connection_is_taken(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other:3128")
    monkeypatch.setenv("NO_PROXY", "*")
    assert settings(proxy=proxy).proxy == proxy


@pytest.mark.parametrize(
    "proxy",
    [
        "proxy:3128",
        "ftp://proxy",
        "socks5://proxy",
        "http://",
        "http:///x",
        f"http://jane:{PROXY_PASSWORD}@",
        f"http://jane:{PROXY_PASSWORD}@proxy:port",
        f"jane:{PROXY_PASSWORD}@proxy",
        5,
        True,
        ["http://proxy"],
    ],
    ids=repr,
)
def test_a_proxy_that_is_none_is_refused_by_name_and_not_repeated(proxy: object) -> None:
    with pytest.raises(ValueError, match=r"^Connection 'my_conn': proxy ") as caught:
        settings(proxy=proxy)
    assert PROXY_PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "environment", "proxy"),
    [
        (None, {}, None),
        (None, {"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        (None, {"https_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        (None, {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        (None, {"HTTP_PROXY": "http://proxy:3128"}, None),
        (None, {"ALL_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        (None, {"HTTPS_PROXY": "http://one", "ALL_PROXY": "http://two"}, "http://one"),
        (None, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "api.apify.com"}, None),
        (None, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "internal,.apify.com"}, None),
        (None, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, None),
        (None, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"}, "http://proxy:3128"),
        (None, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "api.apify.com:443"}, "http://proxy:3128"),
        (None, {"HTTPS_PROXY": "HTTP://proxy:3128"}, "HTTP://proxy:3128"),
        ("api.apify.com:8443", {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "api.apify.com:8443"}, None),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://proxy", "no_proxy": "x, 10.1.2.0/24"}, None),
        ("https://11.1.2.3", {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "10.0.0.0/8"}, "http://proxy"),
        ("http://[::1]:3333", {"HTTP_PROXY": "http://proxy", "NO_PROXY": "::1"}, None),
        ("http://[::1]:3333", {"ALL_PROXY": "http://proxy"}, "http://proxy"),
        ("127.0.0.1:3333", {"HTTP_PROXY": "http://proxy", "NO_PROXY": "127.0.0.1"}, None),
        ("127.0.0.1:3333", {"HTTP_PROXY": "http://proxy"}, "http://proxy"),
    ],
)
def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, host: str | None, environment: dict[str, str], proxy: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert settings(host).proxy == proxy


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "value",
    [
        f"socks5h://jane:{PROXY_PASSWORD}@proxy:1080",
        f"socks5://jane:{PROXY_PASSWORD}@proxy",
        f"http://jane:{PROXY_PASSWORD}@proxy:port",
        f"http://jane:{PROXY_PASSWORD}@",
        f"http://日本:{PROXY_PASSWORD}@proxy",
        "ftp://proxy",
        "http://a proxy:3128",
        "://",
    ],
)
def test_a_variable_with_a_proxy_that_one_transport_cannot_use_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^Connection 'my_conn': {name} must be a URL such as .*SOCKS") as caught:
        settings()
    assert PROXY_PASSWORD not in str(caught.value)
    assert settings("http://127.0.0.1", proxy="http://proxy").proxy == "http://proxy", "the field counts before it"
    monkeypatch.setenv("NO_PROXY", "apify.com")
    assert settings().proxy is None


def test_a_ca_bundle_is_taken_from_the_connection_else_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, *others = (tmp_path / name for name in ("own", *BUNDLES))
    for path in (own, *others):
        path.write_bytes(self_signed())
    assert settings().ca_bundle is None
    for name, path in reversed(list(zip(BUNDLES, others, strict=True))):
        monkeypatch.setenv(name, str(path))
        assert settings().ca_bundle == settings(ca_bundle="").ca_bundle == str(path)
        assert settings(ca_bundle=str(own)).ca_bundle == str(own)


@pytest.mark.parametrize("name", ["ca_bundle", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_ca_bundle_may_be_a_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    def found() -> str | None:
        if name == "ca_bundle":
            return settings(ca_bundle=str(tmp_path)).ca_bundle
        monkeypatch.setenv(name, str(tmp_path))
        return settings().ca_bundle

    with pytest.raises(ValueError, match=f"^Connection 'my_conn': {name} must be .*openssl rehash.* none at"):
        found()
    tmp_path.joinpath("4b9b1e2f.0").write_bytes(self_signed())
    assert found() == str(tmp_path)


@pytest.mark.parametrize("name", BUNDLES)
def test_a_variable_with_a_ca_bundle_that_cannot_be_used_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "ca.pem"
    monkeypatch.setenv(name, str(path))
    if name == "SSL_CERT_FILE":
        assert settings().ca_bundle is None, "OpenSSL passes over a file that is not there"
    else:
        with pytest.raises(ValueError, match=f"^Connection 'my_conn': {name} must be a PEM file"):
            settings()
    path.write_text("-----BEGIN CERTIFICATE-----")
    with pytest.raises(ValueError, match=f"^Connection 'my_conn': {name} must be a PEM file"):
        settings()


@pytest.mark.parametrize("path", ["/no/such/file.pem", "/", "a\x00b", 5], ids=repr)
def test_a_ca_bundle_that_is_not_there_is_refused_by_name(path: object) -> None:
    with pytest.raises(ValueError, match=r"^Connection 'my_conn': ca_bundle must be a PEM file"):
        settings(ca_bundle=path)


@pytest.mark.parametrize("extra", ["{timeout: 5", "[]", '"text"', "5", "{'timeout': 5}", [], 5], ids=repr)
def test_extra_that_is_no_json_object_is_refused(extra: object) -> None:
    with pytest.raises(ValueError, match=r"^Connection 'my_conn': extra .*JSON object such as"):
        Settings.of("my_conn", host=None, port=None, password=TOKEN, extra=extra)


@pytest.mark.parametrize("extra", [None, "", " ", "{}", '{"timeout": null, "ca_bundle": "", "allow_http": false}'])
def test_extra_may_be_empty_and_its_fields_null_as_the_form_saves_them(extra: str | None) -> None:
    assert Settings.of("my_conn", host=None, port=None, password=TOKEN, extra=extra) == settings()


def test_extra_is_read_from_its_text() -> None:
    found = Settings.of("my_conn", host=None, port=None, password=TOKEN, extra='{"timeout": 5, "wait_seconds": "7"}')
    assert (found.timeout, found.wait_seconds) == (5, 7)


def test_an_unknown_field_is_warned_of_once_a_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("airflow_provider_apify.client.settings._warned", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            settings(time_out=5, Proxy=PROXY_PASSWORD, nonsense=PROXY_PASSWORD, timeout=5)
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition("effect. ")[2][:22] for line in said] == [
        "Did you mean 'timeout'",
        "Did you mean 'proxy'?",
        "Known are: allow_http,",
    ]
    assert all(line.startswith("Connection 'my_conn': extra has the field") for line in said)
    assert PROXY_PASSWORD not in caplog.text


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, None),
        ("", None),
        ("https://console.apify.com/organization/abc", "https://console.apify.com/organization/abc"),
        (" https://console.apify.com/organization/abc/\n", "https://console.apify.com/organization/abc"),
        ("http://127.0.0.1:3333/", "http://127.0.0.1:3333"),
    ],
)
def test_the_base_of_console_links(value: str | None, read: str | None) -> None:
    assert settings(console_url=value).console_url == read


@pytest.mark.parametrize(
    "value",
    [
        "console.apify.com",
        "javascript:alert(1)//x",
        "ftp://console.apify.com",
        "https://",
        f"https://jane:{TOKEN}@console.apify.com",
        f"https://{TOKEN}@console.apify.com",
        f"https://console.apify.com?token={TOKEN}",
        f"https://console.apify.com#{TOKEN}",
        "https://console.apify.com/a b",
        "https://console.apify.com\r\nX: y",
        "http://[::1",
        5,
        True,
        {},
    ],
    ids=repr,
)
def test_a_base_of_console_links_that_is_none_is_refused_by_name_and_not_repeated(value: object) -> None:
    with pytest.raises(ValueError, match=r"^Connection 'my_conn': console_url ") as caught:
        settings(console_url=value)
    assert TOKEN not in str(caught.value)


def test_the_secrets_are_the_token_and_the_credentials_of_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(proxy="http://proxy:3128").secrets == [TOKEN]
    proxy = "http://jane:p%40ss%2Fword@proxy:3128"
    assert settings(proxy=proxy).secrets == [TOKEN, proxy, "p%40ss%2Fword", "p@ss/word"]
    monkeypatch.setenv("HTTPS_PROXY", "jane:secret@proxy:3128")
    assert settings().secrets == [TOKEN, "http://jane:secret@proxy:3128", "secret", "secret"]


def test_no_text_of_the_settings_holds_token_or_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://jane:{PROXY_PASSWORD}@proxy:3128")
    for found in (settings(), settings(proxy=f"http://jane:{PROXY_PASSWORD}@proxy")):
        assert found.token == TOKEN and found.proxy and PROXY_PASSWORD in found.proxy
        for text in (repr(found), str(found), f"{found}", f"{found!r}", "%s" % found):  # noqa: UP031
            assert TOKEN not in text and "proxy" not in text


@pytest.mark.parametrize(
    "fields",
    [
        {"host": f"https://{TOKEN}@api.apify.com"},
        {"host": f"https://api.apify.com?token={TOKEN}"},
        {"host": f"https://api.apify.com/{TOKEN}"},
        {"host": f"api.apify.com:{TOKEN}"},
        {"host": "ftp://api.apify.com"},
        {"host": "http://api.apify.com"},
        {"timeout": 0},
        {"allow_http": "yes"},
        {"ca_bundle": "/no/such/file"},
        {"proxy": f"ftp://jane:{PROXY_PASSWORD}@proxy"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_no_message_holds_token_or_proxy_password(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^Connection 'my_conn': {next(iter(fields))}") as caught:
        settings(**fields)
    assert TOKEN not in str(caught.value) and PROXY_PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


@given(host=st.none() | st.text(), port=st.none() | st.integers(0, 65535), proxy=odd, timeout=odd, allow_http=odd)
@example("[", None, None, None, None)
@example("https://[v1.x]", None, None, None, None)
@example("api.apify.com", None, "http://[", None, None)
@example("\ufe64", None, None, None, None)
def test_whatever_the_fields_hold_they_are_taken_or_refused(
    host: str | None, port: int | None, proxy: object, timeout: object, allow_http: object
) -> None:
    try:
        found = settings(host, port, proxy=proxy, timeout=timeout, allow_http=allow_http)
    except ValueError as error:
        assert str(error).startswith("Connection 'my_conn': ")
    else:
        assert found.base_url.startswith(("https://", "http://"))
