"""
The kinds of job that every promise is kept for.

A test takes the fixture ``kind``, and with it what differs: operator, sensor and trigger, how somebody else starts a
job, where its requests go, and what the emulator shows of it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import requests
from airflow.sdk import DAG

from airflow_provider_apify.api.builds import BUILD
from airflow_provider_apify.api.job import JobKind
from airflow_provider_apify.api.runs import RUN
from airflow_provider_apify.emulator import Emulator
from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.operators.run import ApifyRunActorOperator
from airflow_provider_apify.sensors.build import ApifyBuildSensor
from airflow_provider_apify.sensors.run import ApifyRunSensor
from airflow_provider_apify.triggers.build import ApifyBuildTrigger
from airflow_provider_apify.triggers.run import ApifyRunTrigger

TERMINAL = ("SUCCEEDED", "FAILED", "ABORTED", "TIMED-OUT")


class Kind:
    """
    One kind of job on one emulator.

    Actors by these names are there for each kind: ``hello-world``, whose jobs succeed, ``always-fails``, ``times-out``.

    :ivar one_request: options with which an operator's start is a single request.
    :ivar query: of that request.
    :ivar starts_by: name of the hook's method that starts one.
    :ivar console: form of the address of a job's page.
    :ivar said: what the log of a failed job ends with.
    :ivar reason: why it failed, some lines before.
    """

    job_kind: JobKind[Any]
    one_request: dict[str, Any]
    query: str
    starts_by: str
    console: str
    said: str
    reason: str
    operator_class: type[Any]
    sensor_class: type[Any]
    trigger_class: type[Any]

    def __init__(self, apify: Emulator) -> None:
        self.apify = apify

    @property
    def name(self) -> str:
        return self.job_kind.name

    @property
    def title(self) -> str:
        return self.job_kind.title

    @property
    def id(self) -> str:
        """The name of a job's id in arguments, XComs and events."""
        return f"{self.name}_id"

    # -- where its requests go ----------------------------------------------------------------------------------------

    def starts_of(self, actor: str) -> str:
        """The path at which jobs of an Actor are started and listed."""
        return f"/v2/acts/{actor}/{self.name}s"

    def path(self, job_id: str) -> str:
        return f"{self.job_kind.path}/{job_id}"

    @property
    def start_request(self) -> dict[str, Any]:
        """Which requests a fault meets: those that start a job."""
        return {"method": "POST", "path": self.starts_of("*")}

    @property
    def list_request(self) -> dict[str, Any]:
        return {"method": "GET", "path": self.starts_of("*")}

    @property
    def get_request(self) -> dict[str, Any]:
        return {"method": "GET", "path": self.path("*")}

    # -- what tasks use -----------------------------------------------------------------------------------------------

    def operator(self, actor: str = "~hello-world", *, dag_id: str = "dag", **kwargs: Any) -> Any:
        with DAG(dag_id, start_date=dt.datetime(2026, 1, 1)):
            return self.operator_class(task_id=self.name, actor_id=actor, **kwargs)

    def sensor(self, job_id: Any, **kwargs: Any) -> Any:
        with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
            return self.sensor_class(task_id="wait", **{self.id: job_id}, **kwargs)

    def trigger(self, job_id: str, **kwargs: Any) -> Any:
        return self.trigger_class(**{self.id: job_id}, apify_conn_id="apify_default", **kwargs)

    def of_hook(self, method: str, hook: Any = None) -> Callable[..., Any]:
        """
        Give a method of the hook.

        :param method: its name, such as ``"wait_for_{}"``.
        """
        from airflow_provider_apify.hooks.apify import ApifyHook

        return getattr(hook or ApifyHook(), method.format(self.name))  # type: ignore[no-any-return]

    # -- what Apify has -----------------------------------------------------------------------------------------------

    def start(self, actor: str = "hello-world") -> str:
        """Start a job as somebody else would, and give its id."""
        headers = {"Authorization": f"Bearer {self.apify.token}"}
        url = f"{self.apify.url}{self.starts_of('~' + actor)}?{self.query}"
        answer = requests.post(url, headers=headers, timeout=5)
        answer.raise_for_status()
        return str(answer.json()["data"]["id"])

    def abort(self, job_id: str) -> None:
        """Abort a job as somebody else would."""
        headers = {"Authorization": f"Bearer {self.apify.token}"}
        requests.post(f"{self.apify.url}{self.path(job_id)}/abort", headers=headers, timeout=5).raise_for_status()

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, oldest first."""
        return getattr(self.apify, f"{self.name}s")  # type: ignore[no-any-return]

    @property
    def statuses(self) -> list[str]:
        return [job["status"] for job in self.jobs]

    @property
    def starts(self) -> int:
        """How many requests to start a job have reached Apify."""
        return sum(request.method == "POST" and request.path.endswith(f"/{self.name}s") for request in self.requests)

    @property
    def aborts(self) -> int:
        """How many requests to abort a job have reached Apify."""
        return sum(request.path.endswith("/abort") for request in self.requests)

    @property
    def requests(self) -> list[Any]:
        return self.apify.requests

    def started(self, count: int, timeout: float = 10) -> None:
        """Wait until there are ``count`` jobs."""
        self.apify.wait_for(lambda _: len(self.jobs) == count, timeout)

    def ended(self, count: int = 1) -> None:
        """Wait until ``count`` jobs have ended."""
        self.apify.wait_for(lambda _: sum(status in TERMINAL for status in self.statuses) >= count)

    @property
    def seconds(self) -> float:
        """How long jobs take."""
        return getattr(self.apify, f"{self.name}_seconds")  # type: ignore[no-any-return]

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        setattr(self.apify, f"{self.name}_seconds", seconds)

    def set_actor(self, actor: str, *, outcome: str | None = None, seconds: float | None = None) -> None:
        """Change how later jobs of an Actor end, and how long they take."""
        raise NotImplementedError

    def finish(self, job_id: str, status: str = "SUCCEEDED") -> None:
        """End a job now."""
        raise NotImplementedError

    def delete(self, job_id: str) -> None:
        """Delete a job in whatever state."""
        raise NotImplementedError

    def words(self, job: dict[str, Any]) -> dict[str, str]:
        """
        What the log calls a job.

        ``long`` where it may have to be found again, else ``short``. The rest is what follows: ``progress`` that it is
        RUNNING, ``exit`` how long it took, ``cost`` what it cost, ``tagged`` the end that an operator has waited for.
        """
        raise NotImplementedError

    def console_url(self, job: dict[str, Any]) -> str:
        """The address of a job's page."""
        return self.console.format(**job)

    def own_summary(self, job: dict[str, Any], *, awaits_tag: bool) -> dict[str, Any]:
        """What the summary of a job that has ended has beside what all kinds have."""
        raise NotImplementedError


class Builds(Kind):
    job_kind = BUILD
    one_request = {"version": "0.0"}
    query = "version=0.0"
    starts_by = "start_build"
    console = "https://console.apify.com/actors/{actId}#/builds/{buildNumber}"
    said = "ACTOR: ERROR: Build failed."
    reason = "npm ERR! 404"
    operator_class = ApifyBuildOperator
    sensor_class = ApifyBuildSensor
    trigger_class = ApifyBuildTrigger

    def set_actor(self, actor: str, *, outcome: str | None = None, seconds: float | None = None) -> None:
        self.apify.set_actor(actor, outcome=outcome, build_seconds=seconds)

    def finish(self, job_id: str, status: str = "SUCCEEDED") -> None:
        self.apify.finish_build(job_id, status)

    def delete(self, job_id: str) -> None:
        self.apify.delete_build(job_id)

    def words(self, job: dict[str, Any]) -> dict[str, str]:
        number = job["buildNumber"]
        names = {"long": f"{number} ({job['id']})", "short": number}
        return {**names, "progress": "", "exit": "", "cost": "USD", "tagged": " The tag 'latest' is on it."}

    def own_summary(self, job: dict[str, Any], *, awaits_tag: bool) -> dict[str, Any]:
        return {"tag": "latest", "tag_seen": True if awaits_tag and job["status"] == "SUCCEEDED" else None}


class Runs(Kind):
    job_kind = RUN
    one_request: dict[str, Any] = {}
    query = ""
    starts_by = "start_actor_run"
    console = "https://console.apify.com/actors/{actId}/runs/{id}"
    said = "The function passed to Actor.main() threw an exception."
    reason = "403 Forbidden"
    operator_class = ApifyRunActorOperator
    sensor_class = ApifyRunSensor
    trigger_class = ApifyRunTrigger

    def __init__(self, apify: Emulator) -> None:
        super().__init__(apify)
        self.set_actor("always-fails", outcome="FAILED")
        self.set_actor("times-out", outcome="TIMED-OUT")

    def set_actor(self, actor: str, *, outcome: str | None = None, seconds: float | None = None) -> None:
        self.apify.set_actor(actor, run_outcome=outcome, run_seconds=seconds)

    def finish(self, job_id: str, status: str = "SUCCEEDED") -> None:
        self.apify.finish_run(job_id, status)

    def delete(self, job_id: str) -> None:
        self.apify.delete_run(job_id)

    def words(self, job: dict[str, Any]) -> dict[str, str]:
        names = {"long": job["id"], "short": job["id"]}
        code = f" with exit code {job['exitCode']}," if job.get("exitCode") else ""
        return {**names, "progress": " Scraped 5 of 10 items", "exit": code, "cost": "USD so far", "tagged": ""}

    def own_summary(self, job: dict[str, Any], *, awaits_tag: bool) -> dict[str, Any]:
        return {
            "actor_task_id": job.get("actorTaskId"),
            "dataset_id": job["defaultDatasetId"],
            "key_value_store_id": job["defaultKeyValueStoreId"],
            "status_message": job["statusMessage"],
            "exit_code": job.get("exitCode"),
            "charged_event_counts": job.get("chargedEventCounts"),
        }


KINDS: dict[str, type[Kind]] = {"build": Builds, "run": Runs}
