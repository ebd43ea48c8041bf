"""The hook: Apify's API for DAG authors, over an Airflow connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_apify.api import builds, endpoints, runs, storages
from airflow_provider_apify.api.builds import BUILD, Actor, Build
from airflow_provider_apify.api.fields import as_json
from airflow_provider_apify.api.job import J, JobKind
from airflow_provider_apify.api.runs import RUN, Run
from airflow_provider_apify.api.storages import Names
from airflow_provider_apify.client import items, tags
from airflow_provider_apify.client.client import Client
from airflow_provider_apify.client.failures import configuration
from airflow_provider_apify.client.settings import Source
from airflow_provider_apify.exceptions import ApifyNotFoundError

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_apify.api.tags import TagMove


class ApifyHook(BaseHook):
    """
    Talk to Apify.

    Requests that may be repeated are, for about a minute, after 429, 5xx and network trouble; one that starts a job
    only if it is proven that Apify has not accepted it. Failures raise an ``ApifyApiError``, arguments and connection
    fields that cannot be used an ``ApifyConfigurationError``.

    :param apify_conn_id: Airflow connection of type ``apify``: the token as password, the base URL as host if it is
        not ``https://api.apify.com``, and the fields ``proxy``, ``ca_bundle``, ``timeout``, ``wait_seconds``,
        ``allow_http`` and ``console_url``. It is read at the first request, and again by a copy of the hook.
    """

    conn_name_attr = "apify_conn_id"
    default_conn_name = "apify_default"
    conn_type = "apify"
    hook_name = "Apify"

    def __init__(self, apify_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.apify_conn_id = apify_conn_id

    @cached_property
    def _client(self) -> Client:
        return Client(Source(self.apify_conn_id, get_connection=self.get_connection), self.log)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot leave this process, the token above all: a copy is a hook that was not used yet."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_client", "_log")}

    # -- builds ---------------------------------------------------------------------------------------------------

    def start_build(
        self,
        actor_id: str,
        *,
        version: str | None = None,
        tag: str | None = None,
        use_cache: bool | None = None,
        beta_packages: bool | None = None,
        wait_for_finish: int | None = None,
        fingerprint: object = "",
    ) -> Build:
        """
        Start a build (``POST /v2/acts/:actorId/builds``). ``None`` leaves a parameter to Apify's default.

        :param actor_id: id, ``user~name``, ``user/name`` or, for an own Actor, ``~name``.
        :param version: version number of the Actor, ``MAJOR.MINOR``, such as ``"0.0"``. ``None`` or ``""``: the only
            version; else the one whose build tag is ``latest``; else the only one without a build tag. Costs one
            request more.
        :param tag: tag to put on the build if it succeeds. ``None`` or ``""``: the version's build tag.
        :param use_cache: use Docker layers of earlier builds; Apify's default is not to.
        :param beta_packages: install the beta versions of Apify's packages; Apify's default is not to.
        :param wait_for_finish: seconds, 0 to 60, for which Apify holds its answer back while the build is unfinished.
        :param fingerprint: text to add to the User-Agent, which Apify records in the build's ``meta.userAgent``.
        :return: the build, in general unfinished.
        :raises ApifyApiError: with ``outcome_unknown`` set, a build may have been started: look with
            ``list_builds`` before starting another.
        :raises ApifyConfigurationError: an argument cannot be used; or ``version`` is left out, and it is not clear
            which one is meant, or ``tag`` is the build tag of another one.
        """
        with configuration():
            start = builds.start_build(
                actor_id,
                version=version or choose_version(self._client, self.log, actor_id, tag),
                tag=tag or None,
                use_cache=use_cache,
                beta_packages=beta_packages,
                wait_for_finish=wait_for_finish,
            )
        return self._client.start(start, fingerprint=fingerprint)

    def get_build(self, build_id: str, *, wait_for_finish: int | None = None) -> Build:
        """
        Get a build (``GET /v2/actor-builds/:buildId``).

        :param wait_for_finish: seconds, 0 to 60, to hold the answer back while the build is unfinished.
        """
        return self._client.get(BUILD, build_id, wait_for_finish=wait_for_finish)

    def wait_for_build(
        self,
        build_id: str,
        *,
        timeout: float | None = None,
        on_status: Callable[[Build], None] = lambda build: None,
    ) -> Build:
        """
        Wait until a build ends, and give it whatever its status.

        What passes (429, 5xx, network trouble, a 404 for some seconds, an unknown status) is waited out, and other
        refusals (409, 423, ...) for 10 minutes.

        :param timeout: seconds, or ``None`` for as long as it takes; 0 looks once.
        :param on_status: called with the unfinished build when first seen and whenever its status has changed.
        :raises ApifyJobTimeout: it has not ended in time; it is left running.
        :raises ApifyPollError: for 10 minutes all answers were refusals that say nothing of the build.
        :raises ApifyApiError: asking again cannot help: the build is not there, or the token is refused.
        """
        return self._wait(BUILD, build_id, timeout, on_status)

    def abort_build(self, build_id: str) -> Build:
        """Abort a build (``POST /v2/actor-builds/:buildId/abort``). Does nothing to one that has ended."""
        return self._client.abort(BUILD, build_id)

    def list_builds(
        self, actor_id: str, *, limit: int = endpoints.PAGE_LIMIT, offset: int = 0, desc: bool = True
    ) -> list[Build]:
        """
        List an Actor's builds by start time, one page (``GET /v2/acts/:actorId/builds``).

        :param limit: most builds to give, 1 to 1000.
        :param offset: how many builds to pass over, 0 or more.
        :param desc: newest first.
        """
        with configuration():
            collection = builds.collection(actor_id)
        return self._client.list_jobs(BUILD, collection, limit=limit, offset=offset, desc=desc)

    def get_build_log(self, build_id: str, *, tail_lines: int = 20) -> str:
        """
        Get the end of a build's log (``GET /v2/actor-builds/:buildId/log``).

        The log is read as a stream: whatever its size, only about its last ``tail_lines`` times 2 kB are in memory.

        :param tail_lines: how many lines that are not blank, at least 1.
        """
        return self._log_tail(BUILD, build_id, tail_lines)

    def tag_build(
        self,
        actor_id: str,
        tag: str,
        *,
        build_id: str | None = None,
        build_number: str | None = None,
        expected_build_id: str | None = None,
        keep_previous_as: str | None = "previous",
    ) -> TagMove:
        """
        Move a tag to a build, and keep the build that had it under another one (``PUT /v2/acts/:actorId``).

        Both tags are set by one request, after the tag was read where it is expected, and read back until Apify shows
        it, for 15 s at most. Nothing is sent if the tag is on the build already: then the other tag stays, too. Warns
        of unfinished builds that may take the tag when they end.

        :param actor_id: id, ``user~name``, ``user/name`` or, for an own Actor, ``~name``.
        :param tag: such as ``latest``.
        :param build_id: the build that is to get it. It must have succeeded.
        :param build_number: the same by number, such as ``"0.1.5"``. Costs a request more if the build has no tag.
        :param expected_build_id: the build that has the tag now. ``None``: whichever has it when this begins.
        :param keep_previous_as: tag for the build that had ``tag`` before; ``None``: it keeps none.
        :return: where the tag is, and which build had it before.
        :raises ApifyTagConflictError: the tag is not where it is expected, or somebody else moved it meanwhile.
        :raises ApifyConfigurationError: an argument cannot be used; the build is unfinished, did not succeed or is of
            another Actor; or ``tag`` is ``latest``, and the Actor's default build is a number.
        :raises ApifyApiError: a request failed; or Apify has accepted the move, and does not show it.
        """
        return tags.move_tag(
            self._client,
            self.log,
            actor_id,
            tag,
            build_id=build_id,
            build_number=build_number,
            expected_build_id=expected_build_id,
            keep_previous_as=keep_previous_as,
        )

    # -- runs -----------------------------------------------------------------------------------------------------

    def start_actor_run(
        self,
        actor_id: str,
        *,
        run_input: Any = None,
        content_type: str | None = None,
        build: str | None = None,
        memory_mbytes: int | None = None,
        run_timeout: int | None = None,
        max_items: int | None = None,
        max_total_charge_usd: float | None = None,
        restart_on_error: bool | None = None,
        wait_for_finish: int | None = None,
        fingerprint: object = "",
    ) -> Run:
        """
        Start a run of an Actor (``POST /v2/acts/:actorId/runs``). ``None`` leaves a parameter to the Actor's default.

        Called twice, it starts two runs: only ``ApifyRunActorOperator`` starts one over retries of its task.

        :param actor_id: id, ``user~name``, ``user/name`` or, for an own Actor, ``~name``.
        :param run_input: what JSON can say, or text or bytes, which are sent as they are; ``None``: no body. At most
            9,437,184 bytes.
        :param content_type: of text and bytes; ``None``: they must be JSON.
        :param build: tag or number of the build to run.
        :param memory_mbytes: memory in MB, a power of 2 from 128 to 32768.
        :param run_timeout: seconds after which Apify stops the run as TIMED-OUT; 0 for never.
        :param max_items: most items to be charged for, at least 1, on Actors that are paid per result.
        :param max_total_charge_usd: most US dollars to be charged, above 0, on Actors that are paid per event.
        :param restart_on_error: restart the run when the Actor fails.
        :param wait_for_finish: seconds, 0 to 60, for which Apify holds its answer back while the run is unfinished.
        :param fingerprint: text to add to the User-Agent, which Apify records in the run's ``meta.userAgent``.
        :return: the run, in general unfinished.
        :raises ApifyApiError: with ``outcome_unknown`` set, a run may have been started: look with ``list_runs`` before
            starting another.
        """
        with configuration():
            body, content_type = runs.encoded_input("run_input", run_input, content_type)
            start = runs.start_run(
                runs.actor_runs(actor_id),
                body=body,
                content_type=content_type,
                build=build,
                memory_mbytes=memory_mbytes,
                run_timeout=run_timeout,
                max_items=max_items,
                max_total_charge_usd=max_total_charge_usd,
                restart_on_error=restart_on_error,
                wait_for_finish=wait_for_finish,
            )
        return self._client.start(start, fingerprint=fingerprint)

    def start_task_run(
        self,
        actor_task_id: str,
        *,
        task_input: Mapping[str, Any] | None = None,
        build: str | None = None,
        memory_mbytes: int | None = None,
        run_timeout: int | None = None,
        max_items: int | None = None,
        max_total_charge_usd: float | None = None,
        restart_on_error: bool | None = None,
        wait_for_finish: int | None = None,
        fingerprint: object = "",
    ) -> Run:
        """
        Start a run of a task in Apify (``POST /v2/actor-tasks/:actorTaskId/runs``). ``None`` leaves a parameter to the
        task. What is not listed here is as with :meth:`start_actor_run`.

        Called twice, it starts two runs: only ``ApifyRunTaskOperator`` starts one over retries of its task.

        :param actor_task_id: id, ``user~name``, ``user/name`` or, for an own task, ``~name``.
        :param task_input: fields that replace those of the saved input, key by key.
        """
        with configuration():
            body, content_type = runs.encoded_task_input(task_input)
            start = runs.start_run(
                runs.task_runs(actor_task_id),
                body=body,
                content_type=content_type,
                build=build,
                memory_mbytes=memory_mbytes,
                run_timeout=run_timeout,
                max_items=max_items,
                max_total_charge_usd=max_total_charge_usd,
                restart_on_error=restart_on_error,
                wait_for_finish=wait_for_finish,
            )
        return self._client.start(start, fingerprint=fingerprint)

    def get_run(self, run_id: str, *, wait_for_finish: int | None = None) -> Run:
        """
        Get a run (``GET /v2/actor-runs/:runId``).

        :param wait_for_finish: seconds, 0 to 60, to hold the answer back while the run is unfinished.
        """
        return self._client.get(RUN, run_id, wait_for_finish=wait_for_finish)

    def wait_for_run(
        self,
        run_id: str,
        *,
        timeout: float | None = None,
        on_status: Callable[[Run], None] = lambda run: None,
    ) -> Run:
        """Wait until a run ends, and give it whatever its status; the rest is as with :meth:`wait_for_build`."""
        return self._wait(RUN, run_id, timeout, on_status)

    def abort_run(self, run_id: str, *, gracefully: bool = False) -> Run:
        """
        Abort a run (``POST /v2/actor-runs/:runId/abort``). Does nothing to one that has ended.

        :param gracefully: let the Actor save what it has, for 30 s at most.
        """
        return self._client.abort(RUN, run_id, gracefully=gracefully)

    def list_runs(
        self,
        *,
        actor_id: str | None = None,
        actor_task_id: str | None = None,
        limit: int = endpoints.PAGE_LIMIT,
        offset: int = 0,
        desc: bool = True,
    ) -> list[Run]:
        """
        List runs by start time, one page: the account's (``GET /v2/actor-runs``), an Actor's or an Apify task's.

        :param actor_id: only this Actor's.
        :param actor_task_id: only this task's. Not together with ``actor_id``.
        :param limit: most runs to give, 1 to 1000.
        :param offset: how many runs to pass over, 0 or more.
        :param desc: newest first.
        """
        with configuration():
            if actor_id is not None and actor_task_id is not None:
                raise ValueError("actor_id and actor_task_id exclude each other: give one of them, or none")
            collection = RUN.path
            if actor_id is not None:
                collection = runs.actor_runs(actor_id)
            if actor_task_id is not None:
                collection = runs.task_runs(actor_task_id)
        return self._client.list_jobs(RUN, collection, limit=limit, offset=offset, desc=desc)

    def get_run_log(self, run_id: str, *, tail_lines: int = 20) -> str:
        """Get the end of a run's log (``GET /v2/actor-runs/:runId/log``), as :meth:`get_build_log` of a build's."""
        return self._log_tail(RUN, run_id, tail_lines)

    # -- results --------------------------------------------------------------------------------------------------

    def iterate_dataset_items(
        self,
        dataset_id: str,
        *,
        fields: Names = None,
        omit: Names = None,
        unwind: Names = None,
        flatten: Names = None,
        clean: bool | None = None,
        view: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """
        Give a dataset's items one by one, oldest first (``GET /v2/datasets/:datasetId/items``).

        They are read as they are asked for: whatever the size of the dataset, one item and about a megabyte are in
        memory. Trouble on the way is waited out as with any other request, and no item is given twice.

        :param dataset_id: id, such as a run's ``default_dataset_id``, or ``username~dataset-name``.
        :param fields: names of the fields to keep, in this order; as a list, or with commas between them.
        :param omit: names of fields to leave out.
        :param unwind: names of fields whose elements become items of their own.
        :param flatten: names of fields whose objects become fields such as ``address.city``.
        :param clean: leave out fields that begin with ``#``, and items that are empty then.
        :param view: name of a view of the dataset.
        :param offset: how many stored items to pass over, 0 or more.
        :param limit: how many stored items to look at, 0 or more; filters may make more or fewer of them. ``None``:
            all.
        :raises ApifyConfigurationError: an argument cannot be used.
        :raises ApifyApiError: from the iterator, too: the dataset is gone, or could not be read for about a minute.
        """
        with configuration():
            part = storages.filters(fields=fields, omit=omit, unwind=unwind, flatten=flatten, clean=clean, view=view)
            blocks = items.read(self._client, dataset_id, part, offset=offset, limit=limit)
        return items.parsed(blocks)

    def get_record(self, store_id: str, key: str) -> Any:
        """
        Get a record (``GET /v2/key-value-stores/:storeId/records/:key``).

        :param store_id: id of the key-value store, such as a run's ``default_key_value_store_id``, or
            ``username~store-name``.
        :param key: such as ``OUTPUT``.
        :return: by the record's content type what JSON says, or text, or bytes, of at most 32 MiB; ``None`` if the
            store has no such record.
        :raises ApifyNotFoundError: there is no such store, or the token cannot see it.
        """
        with configuration():
            record, store = storages.get_record(store_id, key), storages.get_store(store_id)
        try:
            return self._client.call(record, lambda value: value)
        except ApifyNotFoundError:
            self._client.call(store, lambda value: value)
            return None

    # -- Actors, account, everything else -------------------------------------------------------------------------

    def get_actor(self, actor_id: str) -> Actor:
        """Get an Actor with its versions and tagged builds (``GET /v2/acts/:actorId``)."""
        return self._client.get_actor(actor_id)

    def validate_input(self, actor_id: str, run_input: Any, *, build: str | None = None) -> None:
        """
        Let Apify check an input against an Actor's input schema (``POST /v2/acts/:actorId/validate-input``).

        :param run_input: what JSON can say.
        :param build: tag or number of the build whose schema counts. ``None``: the one tagged ``latest``, even if the
            Actor's runs have another one by default.
        :raises ApifyInvalidRequestError: the input does not fit; the message has Apify's reason.
        :raises ApifyApiError: it could not be checked, such as for a build that is not there.
        """
        with configuration():
            request = storages.validate_input(actor_id, as_json("run_input", run_input), build=build)
        self._client.call(request, lambda answer: None)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: Any = None,
        data: bytes | str | None = None,
    ) -> Any:
        """
        Send any request of Apify's API (https://docs.apify.com/api/v2), for what this hook has no method for.

        It goes over the connection, with its token, proxy and certificates, and is repeated by the hook's rules: a
        ``POST`` counts as one that starts another job, every other method as harmless to repeat. It is not for what
        answers later than the connection's ``timeout``, such as ``run-sync``: then a run is there, and nobody knows it.

        :param method: ``GET``, ``POST``, ``PUT``, ``PATCH`` or ``DELETE``.
        :param path: begins with ``/v2/``; segments quoted, such as ``/v2/acts/apify~hello-world/webhooks``.
        :param query: parameters by Apify's names; ``None`` leaves one out, a bool becomes ``true`` or ``false``.
        :param json: body, sent as JSON.
        :param data: body, sent as it is; text as UTF-8. Not together with ``json``.
        :return: the answer's field ``data`` if it has one; else the JSON as it is; text, or bytes, if it is no JSON;
            ``None`` if it is empty. At most 32 MiB.
        :raises ApifyConfigurationError: the path would lead elsewhere, or an argument cannot be used; nothing was sent.
        :raises ApifyApiError: the request failed.
        """
        with configuration():
            if json is not None and data is not None:
                raise ValueError("json and data exclude each other: both are the body")
            body, content_type = data.encode() if isinstance(data, str) else data, ""
            if json is not None:
                body, content_type = as_json("json", json), "application/json"
            request = endpoints.any_request(method, path, query=query, body=body, content_type=content_type)
        return self._client.call(request, lambda answer: answer)

    def _wait(self, kind: JobKind[J], job_id: str, timeout: float | None, on_status: Callable[[J], None]) -> J:
        with configuration():
            if timeout is not None and timeout < 0:
                raise ValueError(f"timeout must be a number of seconds from 0, or None; got {timeout!r}")
        return self._client.wait(kind, job_id, timeout=timeout, on_status=on_status)

    def _log_tail(self, kind: JobKind[J], job_id: str, lines: int) -> str:
        with configuration():
            if lines < 1:
                raise ValueError(f"tail_lines must be at least 1, got {lines!r}")
        return self._client.log_tail(kind, job_id, lines=lines)

    def close(self) -> None:
        """Close the connections to Apify. The next request opens one, with the Airflow connection read again."""
        if client := self.__dict__.pop("_client", None):
            client.close()

    def test_connection(self) -> tuple[bool, str]:
        """Ask whose token it is (``GET /v2/users/me``), for Airflow's button *Test*. Sends one request."""
        try:
            user = self._client.call(endpoints.get_user(), dict, attempts=1)
        except Exception as error:
            # Airflow tests a copy of the connection, whose id is of no use to anybody.
            lines = str(error).removeprefix(f"Connection {self.apify_conn_id!r}: ").splitlines()
            return False, " ".join(line for line in lines if not line.startswith(f"Connection {self.apify_conn_id!r}"))
        # Nothing more of that answer: it holds a proxy password.
        name = user.get("username") or user.get("id") or "of unknown name"
        return True, f"Connected to {self._client.settings.base_url} as Apify account {name}."


def choose_version(client: Client, log: Logger, actor_id: str, tag: str | None) -> str:
    """
    Choose the version to build where none is named, and log why.

    :raises ValueError: it is not clear which one is meant.
    """
    actor = client.get_actor(actor_id)
    version, reason = builds.version_to_build(actor, tag)
    log.info("Building version %s of Actor %s: %s.", version, actor_id, reason)
    return version
