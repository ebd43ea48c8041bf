"""PostgreSQL and Redis for one run: on 127.0.0.1, with data in a temporary directory, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rig.waiting import LOOPBACK, free_ports, wait_until

#: Seconds to start, and to stop before it is killed.
PATIENCE = 30.0


class Missing(Exception):
    """A program that has to be installed first."""


def find() -> tuple[Path, Path]:
    """
    Give the directory of PostgreSQL's programs, and Redis.

    :raises Missing: one of them is not installed.
    """
    redis = shutil.which("redis-server")
    if redis is None:
        raise Missing("PostgreSQL and Redis are needed: apt-get install -y postgresql redis-server")
    return find_postgresql(), Path(redis)


def find_postgresql() -> Path:
    """
    Give the directory of PostgreSQL's programs.

    :raises Missing: it is not installed.
    """
    # Debian keeps PostgreSQL's programs out of PATH.
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve().parent)
    postgres = next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)
    if postgres is None:
        raise Missing("PostgreSQL is needed: apt-get install -y postgresql")
    return postgres


@contextlib.contextmanager
def postgresql(programs: Path) -> Iterator[str]:
    """Give the URL of an empty database, without its scheme: ``user:password@host:port/name``."""
    user = _unprivileged()
    # Not below the home of Airflow, which its owner alone may enter.
    with _directory("scale-postgresql-", user) as place:
        password, port = secrets.token_hex(16), free_ports(1)[0]
        (place / "password").write_text(password)
        data = ("-D", str(place / "data"))
        access = ("-U", "airflow", "-A", "scram-sha-256", "--pwfile", str(place / "password"))
        _run([programs / "initdb", *data, *access, "--encoding=UTF8", "--no-sync"], user)
        # Nobody needs these data after a crash, and Airflow's processes keep many connections.
        settings = ("fsync=off", "max_connections=300", f"listen_addresses={LOOPBACK}", "unix_socket_directories=")
        options = [part for setting in settings for part in ("-c", setting)]
        command: list[str | Path] = [programs / "postgres", *data, "-p", str(port), *options]
        with _server(command, place / "log", port, signal.SIGINT, user):
            env = {**os.environ, "PGPASSWORD": password}
            _run([programs / "createdb", "-h", LOOPBACK, "-p", str(port), "-U", "airflow", "airflow"], user, env)
            yield f"airflow:{password}@{LOOPBACK}:{port}/airflow"


@contextlib.contextmanager
def redis(program: Path) -> Iterator[str]:
    """Give the URL of an empty Redis."""
    with _directory("scale-redis-", None) as place:
        password, port = secrets.token_hex(16), free_ports(1)[0]
        config = place / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(f'bind {LOOPBACK}\nport {port}\ndir {place}\nsave ""\nrequirepass {password}\n')
        with _server([program, config], place / "log", port, signal.SIGTERM, None):
            yield f"redis://:{password}@{LOOPBACK}:{port}/0"


@contextlib.contextmanager
def _server(
    command: list[str | Path], log: Path, port: int, stop: signal.Signals, user: pwd.struct_passwd | None
) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **_as(user)
        )
    try:
        wait_until(lambda: _listens(port, process, log, command), f"{command[0]} answers", PATIENCE)
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(PATIENCE)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def _listens(port: int, process: subprocess.Popen[bytes], log: Path, command: list[str | Path]) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"{command[0]} ended at once:\n{log.read_text(errors='replace')}")
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def _run(command: list[str | Path], user: pwd.struct_passwd | None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd="/", timeout=60, **_as(user))
    if done.returncode:
        raise RuntimeError(f"{command[0]}: exit code {done.returncode}\n{done.stdout}{done.stderr}")


def _unprivileged() -> pwd.struct_passwd | None:
    """Give the user to run PostgreSQL as, which refuses to be root; ``None``: whoever runs this."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Missing("PostgreSQL does not run as root, and there is neither a user postgres nor nobody: add one")


def _as(user: pwd.struct_passwd | None) -> dict[str, Any]:
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


@contextlib.contextmanager
def _directory(prefix: str, owner: pwd.struct_passwd | None) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        if owner:
            os.chown(place, owner.pw_uid, owner.pw_gid)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
