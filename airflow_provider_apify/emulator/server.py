"""The emulator as a server in a background thread of this process."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, TypeVar

from uvicorn import Config
from uvicorn.server import ServerState

from airflow_provider_apify.emulator.actors import Actor
from airflow_provider_apify.emulator.app import app
from airflow_provider_apify.emulator.builds import build_object
from airflow_provider_apify.emulator.call import Front, RequestRecord
from airflow_provider_apify.emulator.connection import Connection
from airflow_provider_apify.emulator.faults import Fault, Faults
from airflow_provider_apify.emulator.jobs import Job, Jobs
from airflow_provider_apify.emulator.runs import RunOptions, run_object
from airflow_provider_apify.emulator.storages import Lines
from airflow_provider_apify.emulator.world import Settings, World

DEFAULT_TOKEN = "emulator-token"

_BACKLOG = 4096
_KEEP_ALIVE_SECONDS = 75

T = TypeVar("T")


class _Setting(Generic[T]):
    """An attribute of an emulator that is the setting of the same name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, emulator: Emulator, owner: type) -> T:
        value: T = getattr(emulator._world.settings, self._name)
        return value

    def __set__(self, emulator: Emulator, value: T) -> None:
        setattr(emulator._world.settings, self._name, value)


class Emulator:
    """
    A local stand-in for Apify's API. Use it as a context manager; its methods may be called from any thread.

    :param port: 0 lets the system choose a free one.
    :param token: the one API token that is valid.
    :param build_seconds: how long a build takes; 0: as short as possible.
    :param run_seconds: how long a run takes; 0: as short as possible.
    :param memory_mbytes: the account's limit; an unfinished build takes 4096, a run what it was started with.
    :param max_concurrent_jobs: with as many unfinished builds and runs, no further run starts.
    :param cost_seconds: how long after a run's end the cost of the events that it charged is behind.
    :param full_lists: whether items of lists show all that Apify's definition allows. By default they show what
        recorded ones do: not the ``User-Agent`` of who started a job, for example.
    :param tag_seconds: how long after a build's success its tag moves to it, and after a request that sets tags.
    :param items_seconds: how long after a push to a dataset its items can be read.
    :param item_count_seconds: how long after a push a dataset's ``itemCount`` and the header of the total have it.
    :param gzip: whether items of datasets are sent with gzip to whoever accepts it.
    :param clock_offset: seconds by which Apify's clock is ahead of this machine's; negative: behind.
    :param seed: makes ids and faults with a probability repeatable.
    :param ssl_certfile: PEM file with a certificate; makes it an HTTPS server.
    :param ssl_keyfile: PEM file with its key; default: in the same file.
    """

    token = _Setting[str]()
    build_seconds = _Setting[float]()
    run_seconds = _Setting[float]()
    memory_mbytes = _Setting[int]()
    max_concurrent_jobs = _Setting[int]()
    cost_seconds = _Setting[float]()
    full_lists = _Setting[bool]()
    clock_offset = _Setting[float]()
    tag_seconds = _Setting[float]()
    items_seconds = _Setting[float]()
    item_count_seconds = _Setting[float]()
    gzip = _Setting[bool]()

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        token: str = DEFAULT_TOKEN,
        build_seconds: float = 5.0,
        run_seconds: float = 5.0,
        memory_mbytes: int = 65536,
        max_concurrent_jobs: int = 32,
        cost_seconds: float = 10.0,
        full_lists: bool = False,
        clock_offset: float = 0.0,
        tag_seconds: float = 0.0,
        items_seconds: float = 0.0,
        item_count_seconds: float = 5.0,
        gzip: bool = True,
        seed: int = 0,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
    ) -> None:
        self.url = ""
        self._address = (host, port)
        self._world = World(
            Settings(
                token=token,
                build_seconds=build_seconds,
                run_seconds=run_seconds,
                memory_mbytes=memory_mbytes,
                max_concurrent_jobs=max_concurrent_jobs,
                cost_seconds=cost_seconds,
                full_lists=full_lists,
                clock_offset=clock_offset,
                tag_seconds=tag_seconds,
                items_seconds=items_seconds,
                item_count_seconds=item_count_seconds,
                gzip=gzip,
            ),
            seed,
        )
        self._faults = Faults(seed)
        self._ssl = None
        if ssl_certfile is not None:
            self._ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._ssl.load_cert_chain(ssl_certfile, ssl_keyfile)
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """
        Serve from now on; ``url`` is known when this returns.

        :raises OSError: the address cannot be listened on.
        """
        host, port = self._address
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        shown_host = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if self._ssl else 'http'}://{shown_host}:{listener.getsockname()[1]}"
        self._stopping = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener, ready)), name="apify-emulator", daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Break off all connections and end; what was recorded can still be read."""
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = self._loop = None

    @property
    def requests(self) -> list[RequestRecord]:
        """The requests since the start or since ``clear_ledger``, oldest first; the last 100 000 at most."""
        return self._call(lambda: [replace(record) for record in self._world.requests])

    @property
    def builds(self) -> list[dict[str, Any]]:
        """All builds as the API shows them to their owner, oldest first."""
        return self._call(lambda: [build_object(build) for build in self._world.builds.values()])

    @property
    def runs(self) -> list[dict[str, Any]]:
        """All runs as the API shows them to their owner, oldest first."""
        return self._call(lambda: [run_object(run) for run in self._world.runs.values()])

    def add_actor(self, actor: Actor) -> None:
        self._call(lambda: self._world.add_actor(actor))

    def set_actor(
        self,
        name: str,
        *,
        outcome: str | None = None,
        build_seconds: float | None = None,
        run_outcome: str | None = None,
        run_seconds: float | None = None,
    ) -> None:
        """Change how later builds and runs of an Actor end and how long they take; ``None`` leaves that as it is."""
        self._call(
            lambda: self._world.set_actor(
                name,
                outcome=outcome,
                build_seconds=build_seconds,
                run_outcome=run_outcome,
                run_seconds=run_seconds,
            )
        )

    def add_task(
        self,
        name: str,
        actor: str,
        task_input: dict[str, Any] | None = None,
        *,
        build: str | None = None,
        memory_mbytes: int | None = None,
        timeout_secs: int | None = None,
    ) -> str:
        """
        Add an Apify task.

        :param name: its name, without the user name.
        :param actor: name of its Actor.
        :param task_input: the input that is saved; ``None``: none is.
        :param build: tag or number of the build to run; this and the further options: ``None`` leaves it to the Actor.
        :return: its id.
        """
        options = RunOptions(build=build, memory_mbytes=memory_mbytes, timeout_secs=timeout_secs)
        return self._call(lambda: self._world.tasks.add(name, actor, task_input, options).id)

    def add_dataset(
        self, items: Iterable[dict[str, Any]] = (), *, count: int = 0, lines: Lines = lambda start, stop: b""
    ) -> str:
        """
        Add a dataset whose items were pushed long ago.

        :param items: its items. More of them can be added with :meth:`push_items`.
        :param count: how many items there are before those, which ``lines`` gives: for a dataset that is too large for
            the memory.
        :param lines: gives the items from an index up to, but not including, another one, each as a line of JSON.
        :return: its id.
        """

        def add() -> str:
            dataset = self._world.datasets.create(count, lines)
            dataset.push(items, at=0.0)
            return dataset.id

        return self._call(add)

    def push_items(self, dataset_id: str, items: Iterable[dict[str, Any]]) -> None:
        """Append items to a dataset, as an Actor does."""
        self._call(lambda: self._world.datasets[dataset_id].push(items))

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a dataset, as Apify does when its time is over."""
        self._call(lambda: self._world.datasets.pop(dataset_id))

    def add_key_value_store(self) -> str:
        """Add a key-value store, and give its id."""
        return self._call(lambda: self._world.key_value_stores.create().id)

    def add_record(
        self,
        store_id: str,
        key: str,
        body: bytes,
        content_type: str = "application/json; charset=utf-8",
        *,
        redirects: int = 0,
    ) -> None:
        """
        Put a record into a key-value store.

        :param redirects: how many redirects lead to it. Their addresses are signed, and refuse whoever shows a token.
        """
        self._call(lambda: self._world.key_value_stores[store_id].put(key, body, content_type, redirects=redirects))

    def add_fault(self, fault: Fault) -> Fault:
        return self._call(lambda: self._faults.add(fault))

    def clear_faults(self) -> None:
        self._call(self._faults.clear)

    def clear_ledger(self) -> None:
        """Forget the requests seen; builds and runs stay."""
        self._call(lambda: self._world.requests.clear())

    def reset(self) -> None:
        """Return to the state just after the start, settings and Actors included."""

        def reset() -> None:
            self._world.reset()
            self._faults.reset()

        self._call(reset)

    def finish_build(self, build_id: str, status: str = "SUCCEEDED") -> None:
        """End a build now; one that has ended stays as it is, and one that is being aborted ends as ABORTED."""
        self._call(lambda: _finish(self._world.builds, build_id, status))

    def finish_run(self, run_id: str, status: str = "SUCCEEDED") -> None:
        """End a run now, as :meth:`finish_build` does a build; one that succeeds pushes the rest of its items."""
        self._call(lambda: _finish(self._world.runs, run_id, status))

    def delete_build(self, build_id: str) -> None:
        """Delete a build in whatever state, as if someone else had done it."""
        self._call(lambda: self._world.builds.delete(self._world.builds[build_id]))

    def delete_run(self, run_id: str) -> None:
        """Delete a run in whatever state, as if someone else had done it; its storages stay."""
        self._call(lambda: self._world.runs.delete(self._world.runs[run_id]))

    def wait_for(self, predicate: Callable[[Emulator], bool], timeout: float = 10.0) -> None:
        """
        Wait until ``predicate(self)`` is true.

        :param timeout: seconds.
        :raises TimeoutError: it did not become true; the message sums up what was seen.
        """
        deadline = time.monotonic() + timeout
        while not predicate(self):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so within {timeout} s; the emulator has seen {self._summary()}")
            time.sleep(0.005)

    def _summary(self) -> str:
        seen = Counter(f"{record.method} {record.path} -> {record.status}" for record in self.requests)
        seen.update(f"build {build['status']}" for build in self.builds)
        seen.update(f"run {run['status']}" for run in self.runs)
        return "; ".join(f"{count} x {what}" for what, count in seen.items()) or "nothing"

    def _call(self, work: Callable[[], T]) -> T:
        async def on_loop() -> T:
            return work()

        if self._loop is None:
            return work()
        return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result()

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        loop = self._loop = asyncio.get_running_loop()
        front: Any = Front(app, self._world, self._faults)
        config = Config(
            front, http="h11", ws="none", log_config=None, proxy_headers=False, timeout_keep_alive=_KEEP_ALIVE_SECONDS
        )
        state = ServerState()
        server = await loop.create_server(
            lambda: Connection(config, state), sock=listener, ssl=self._ssl, backlog=_BACKLOG
        )
        ready.set()
        await self._stopping.wait()
        server.close()
        self._world.stop_timers()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in state.tasks:
            task.cancel()
        await asyncio.gather(*state.tasks)


J = TypeVar("J", bound=Job)


def _finish(jobs: Jobs[J], job_id: str, status: str) -> None:
    job = jobs[job_id]
    jobs.finish(job, "ABORTED" if job.status == "ABORTING" else status)
