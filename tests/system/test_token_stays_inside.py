"""Promise 5 on a real Airflow: the token is in no log, row, XCom, event or link of anything that happens here."""

from __future__ import annotations

import base64
import contextlib
import functools
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
from cryptography.fernet import Fernet, InvalidToken

from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.emulator.call import RequestRecord
from rig.local_airflow import LocalAirflow
from tests.system.conftest import CANARY, builds_are, finish, long_polls


def places_of(secret: str, airflow: LocalAirflow, requests: Iterable[RequestRecord]) -> list[str]:
    """Name every file, database column and request that holds ``secret``."""
    return [*in_files(secret, airflow.home), *in_database(secret, airflow.database), *in_requests(secret, requests)]


def in_files(secret: str, home: Path) -> list[str]:
    """Files below Airflow's home; of the database also what is deleted, and no row any more, but still on the disk."""
    files = [path for path in sorted(home.rglob("*")) if path.is_file() and "pycache" not in str(path)]
    return [str(path) for path in files if holds(path.read_bytes(), secret)]


def in_database(secret: str, database: Path) -> list[str]:
    """Columns as ``table.column``, those looked into that Airflow has encrypted, but for the connection's own."""
    found = set()
    fernet = fernet_of(database.with_name("airflow.cfg").read_text())
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                for column, value in zip(columns, row, strict=True):
                    raw = value if isinstance(value, bytes) else str(value).encode()
                    if holds(raw, secret, None if table == "connection" else fernet):
                        found.add(f"{table}.{column}")
    return sorted(found)


def fernet_of(config: str) -> Fernet:
    return Fernet(re.findall(r"fernet_key = (\S+)", config)[0])


def in_requests(secret: str, requests: Iterable[RequestRecord]) -> list[str]:
    """URLs and headers. The ledger blanks the value of ``token`` and leaves the header of the token out."""
    found = []
    for request in requests:
        sent = "\n".join([request.path, request.query, *request.headers.values()])
        if holds(sent.encode(), secret) or "token=" in request.query:
            found.append(f"request {request.path}")
    return found


def holds(value: bytes, secret: str, fernet: Fernet | None = None) -> bool:
    return any(form in text for text in unpacked(value, fernet) for form in forms(secret))


def unpacked(value: bytes, fernet: Fernet | None) -> Iterator[bytes]:
    yield value
    with contextlib.suppress(zlib.error):
        yield zlib.decompress(value, wbits=47)  # zlib or gzip
    if fernet and value.startswith(b"gAAAA"):
        with contextlib.suppress(InvalidToken):
            yield fernet.decrypt(value)


@functools.cache
def forms(secret: str) -> set[bytes]:
    """The secret as it is, in percent escapes, in hex and in base64."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), *(b"".join(escape % byte for byte in raw) for escape in (b"%%%02x", b"%%%02X"))}
    for before in range(3):
        # How base64 shows it depends on what stands before; characters that hold bits of that, or of what follows,
        # are left out.
        encoded = base64.b64encode(b"\0" * before + raw)[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
        found |= {encoded, encoded.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def test_the_token_is_nowhere(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str], earlier_requests: list[RequestRecord]
) -> None:
    """After all the other tests, which come before this one, and after failures that could print it."""
    runs = [("in_worker", start("in_worker", "~always-fails")), ("deferred", start("deferred", "~always-fails"))]
    for dag_id, run in runs:
        assert airflow.wait_for_run(dag_id, run) == "failed"
    apify.add_fault(Fault("html", path="/v2/actor-builds/*", times=2))
    apify.add_fault(Fault("reset", path="/v2/actor-builds/*", times=2))
    run = start("deferred", "~endless")
    airflow.wait_for_task("deferred", run, "build", {"deferred"})
    apify.wait_for(lambda emulator: len(emulator.builds) == 5 and long_polls(emulator) > 0, timeout=60)
    assert places_of(CANARY, airflow, apify.requests) == [], "while there is a trigger"
    apify.token = "rotated"
    apify.add_fault(Fault("reset", path="/v2/actor-builds/*", times=1))
    finish(apify)
    assert airflow.wait_for_run("deferred", run, timeout=180) == "failed"
    assert "ApifyAuthenticationError" in airflow.task_log("deferred", run, "build", 1)

    assert places_of(CANARY, airflow, [*earlier_requests, *apify.requests]) == []
    builds_are(apify, "FAILED", "FAILED", "FAILED", "FAILED", "SUCCEEDED")


PLANTED = "apify_api_PLANTED0tW7yQ"


#: The kinds of rows that hold what a task, a trigger or a user says.
ROWS = (
    *("trigger.kwargs", "task_instance.next_kwargs", "xcom.value", "rendered_task_instance_fields.rendered_fields"),
    *("task_state_store.value", "log.extra", "dag_run.conf", "variable.val", "serialized_dag.data_compressed"),
)


def test_the_search_finds_a_token_in_every_kind_of_row(airflow: LocalAirflow, tmp_path: Path) -> None:
    """In tables that have Airflow's columns and just one row."""
    config = (airflow.home / "airflow.cfg").read_text()
    (tmp_path / "airflow.cfg").write_text(config)
    shown = f"https://api.apify.com/v2/x?token={PLANTED}&y".encode()
    values: list[str | bytes] = [
        shown.decode(),
        "".join(f"%{byte:02X}" for byte in shown),
        *(base64.b64encode(b"." * before + shown).decode() for before in range(3)),
        zlib.compress(shown),
        fernet_of(config).encrypt(shown).decode(),
    ]
    for place in ROWS:
        table, column = place.split(".")
        for value in values:
            with closing(sqlite3.connect(tmp_path / "airflow.db")) as planted:
                planted.execute("ATTACH ? AS airflow", (str(airflow.database),))
                planted.execute(f'CREATE TABLE main."{table}" AS SELECT * FROM airflow."{table}" LIMIT 0')
                planted.execute(f'INSERT INTO main."{table}" ([{column}]) VALUES (?)', (value,))
                planted.commit()
            assert in_database(PLANTED, tmp_path / "airflow.db") == [place], value
            (tmp_path / "airflow.db").unlink()


def test_the_search_finds_a_token_in_a_file_or_a_request(
    airflow: LocalAirflow, apify: Emulator, tmp_path: Path
) -> None:
    for name in ("task.log", "settings.json"):
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / "logs" / name).write_text(f"oops: {PLANTED}")
    assert in_files(PLANTED, tmp_path) == [str(tmp_path / "logs" / name) for name in ("settings.json", "task.log")]

    httpx.get(f"{apify.url}/v2/acts", headers={"User-Agent": PLANTED}, trust_env=False)
    httpx.get(f"{apify.url}/v2/acts/{PLANTED}", trust_env=False)
    httpx.get(f"{apify.url}/v2/users/me?token=other", trust_env=False)
    assert in_requests(PLANTED, apify.requests) == [
        "request /v2/acts",
        f"request /v2/acts/{PLANTED}",
        "request /v2/users/me",
    ]
