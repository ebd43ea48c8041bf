"""
Ask Apify, with one build and one run of it, for what the provider's promises rest on, and print a table of what was
assumed and seen.

APIFY_TOKEN and ACTOR (an id, user/name, or ~name) say what to build and to run, APIFY_API_BASE_URL asks another server
than https://api.apify.com. The build gets the tag airflow-provider-probe, so that no other tag moves; it is run without
an input, for five minutes at most. The table holds no token, name or id.

Exit codes: 0 all is as assumed, 1 something is not, 2 it could not be found out, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import count, pairwise
from typing import Any

import requests

from airflow_provider_apify import __version__
from airflow_provider_apify.api import builds, endpoints, runs
from airflow_provider_apify.api.builds import BUILD, Actor
from airflow_provider_apify.api.errors import (
    AUTHENTICATION,
    INVALID_REQUEST,
    NOT_FOUND,
    PERMISSION,
    ApiError,
    Kind,
    Repeat,
    may_repeat,
)
from airflow_provider_apify.api.job import Job, JobKind
from airflow_provider_apify.api.runs import RUN
from airflow_provider_apify.client.settings import Settings
from airflow_provider_apify.client.worker import SyncTransport
from airflow_provider_apify.jobs.start import LOOK_AGAIN, ORIGINS_OF_OTHERS, Fingerprint
from airflow_provider_apify.jobs.wait import MISSING_GRACE, backoff

#: Tag of the build.
TAG = "airflow-provider-probe"
#: Most seconds assumed until lists show a build, until GET finds it, and until the tag is on it after its end.
LISTED, FOUND, TAGGED = sum(LOOK_AGAIN), MISSING_GRACE, 15.0
#: Seconds for which these are looked for in all, and pause between two looks.
LOOK, PAUSE = 60.0, 0.5
#: Most seconds assumed between a build's end and the answer to a long-poll, and between Apify's own clocks.
AT_ONCE, SAME_CLOCK = 5.0, 60.0
#: Seconds for the build. Apify ends it after 1800; before that it may have to wait for its turn.
JOB_LIMIT = 3600.0
#: Seconds after which Apify ends the run.
RUN_TIMEOUT = 300
#: How often a request is sent in all if it fails and may be sent again.
ATTEMPTS = 5
#: An id as Apify makes them, of nothing.
NOBODY = "doesNotExist00000"
#: Fields of a job that the promises rest on: in GET once it has ended, and in lists.
GET_FIELDS = {
    BUILD: frozenset({"id", "status", "actId", "buildNumber", "startedAt", "finishedAt", "meta"}),
    RUN: frozenset(
        {"id", "status", "actId", "startedAt", "finishedAt", "meta", "defaultDatasetId", "defaultKeyValueStoreId"}
    ),
}
ITEM_FIELDS = {
    BUILD: frozenset({"id", "status", "buildNumber", "startedAt", "meta"}),
    RUN: frozenset({"id", "status", "startedAt", "meta"}),
}

Say = Callable[[str], None]


class Stop(Exception):
    """It cannot be found out."""


@dataclasses.dataclass
class Row:
    what: str
    assumed: str
    seen: str
    holds: bool


class Transport(SyncTransport):
    """The product's own; without a token, none is sent."""

    def __init__(self, settings: Settings, *, with_token: bool = True) -> None:
        self._with_token = with_token
        super().__init__(settings)

    def _new_session(self) -> requests.Session:
        session = super()._new_session()
        if not self._with_token:
            session.auth = None
        return session


class Seen(dict[str, Any]):
    """An object of Apify's that notes which of its fields are read."""

    def __init__(self, data: Any) -> None:
        super().__init__(data if isinstance(data, Mapping) else {})
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    @property
    def shown(self) -> set[str]:
        return {key for key, value in self.items() if value is not None}


class _Page:
    """A page of a list: the item of one job, and its order."""

    def __init__(self, kind: JobKind[Job], job_id: str) -> None:
        self._kind, self._job_id = kind, job_id
        self.item = Seen({})
        self.newest_first = False

    def has(self, page: Any) -> bool:
        """Whether a page shows the job."""
        items = page.get("items") if isinstance(page, Mapping) else None
        jobs = [self._kind.job.from_api(item) for item in items] if isinstance(items, list) else []
        times = [job.started_at for job in jobs if job.started_at]
        self.newest_first = all(one >= other for one, other in pairwise(times))
        for job, item in zip(jobs, items or (), strict=False):
            if job.id == self._job_id:
                self.item = Seen(item)
        return bool(self.item)


class Probe:
    """The questions to one Actor, and the rows that they give."""

    def __init__(self, settings: Settings, actor_id: str, say: Say) -> None:
        self.rows: list[Row] = []
        self._settings, self._actor_id, self._say = settings, actor_id, say
        self._transport = Transport(settings)
        self._fingerprint = Fingerprint(secrets.token_hex(16), 1)
        #: What was started, as last seen.
        self._jobs: dict[JobKind[Job], Job] = {}
        #: The list that a start was sent to of which it is not known what came of it.
        self._in_doubt: tuple[JobKind[Job], str] | None = None

    def run(self) -> None:
        """
        Ask everything, and leave no unfinished job behind.

        :raises Stop: it cannot go on; ``rows`` has what was found before.
        """
        try:
            actor = Actor.from_api(self._ask(endpoints.get_actor(self._actor_id)))
            if not actor.versions:
                raise Stop(f"The Actor {self._actor_id} has no version to build: name another one with ACTOR=...")
            self._refusals(actor)
            if not self._jobs:
                self._one_run(actor, self._one_build(actor))
        except (ApiError, ValueError) as error:
            raise Stop(str(error)) from None
        finally:
            # A second Ctrl-C must not leave anything running.
            for ending in (signal.SIGINT, signal.SIGTERM):
                signal.signal(ending, signal.SIG_IGN)
            self._leave_nothing()
            self._transport.close()

    # -- the questions --------------------------------------------------------------------------------------------

    def _refusals(self, actor: Actor) -> None:
        self._say("asking for what has to be refused")
        versions = {version.version_number for version in actor.versions}
        unknown = next(number for number in (f"99.{minor}" for minor in range(99, -1, -1)) if number not in versions)
        known = actor.versions[0].version_number
        ours = self._transport
        nobody = Transport(self._settings, with_token=False)
        wrong = Transport(dataclasses.replace(self._settings, token=f"apify_api_{'0' * 36}"))
        start = builds.start_build(actor.id, version=known, tag=TAG).request
        bad_version = builds.start_build(actor.id, version=unknown, tag=TAG).request
        bad_actor = builds.start_build(NOBODY, version=known, tag=TAG).request
        bad_build = runs.start_run(runs.actor_runs(actor.id), build=NOBODY, run_timeout=RUN_TIMEOUT).request
        self._refused("start of an unknown version", ours, bad_version, "400 or 404", INVALID_REQUEST, NOT_FOUND)
        self._refused("start of an unknown Actor", ours, bad_actor, "404", NOT_FOUND)
        self._refused("start without a token", nobody, start, "401", AUTHENTICATION)
        self._refused("start with a wrong token", wrong, start, "401", AUTHENTICATION)
        self._refused("GET of an unknown build", ours, endpoints.get_job(BUILD, NOBODY), "404", NOT_FOUND)
        self._refused("GET of an unknown run", ours, endpoints.get_job(RUN, NOBODY), "404", NOT_FOUND)
        kinds = INVALID_REQUEST, NOT_FOUND
        self._refused("run of an unknown build", ours, bad_build, "400, 403 or 404", *kinds, kind=RUN)

    def _refused(
        self,
        what: str,
        transport: Transport,
        request: endpoints.Request,
        status: str,
        *kinds: Kind,
        kind: JobKind[Job] = BUILD,
    ) -> None:
        if self._jobs:
            return
        assumed = f"refused: {status} with a type"
        try:
            data = self._ask(request, transport)
        except ApiError as error:
            # The latter: the token may start nothing at all.
            if error.transient or error.type == "insufficient-permissions":
                raise
            seen = f"{error.status}, {error.type or 'no type'}"
            self._row(what, assumed, seen, error.kind in kinds and error.type is not None)
            return
        self._row(what, assumed, "not refused", False)
        if request.repeat is Repeat.STARTS_ANOTHER:
            self._jobs[kind] = kind.job.from_api(data)

    def _one_build(self, actor: Actor) -> Job:
        # Whatever runs is of the version with this tag, so it most likely builds.
        version = next((item for item in actor.versions if item.build_tag == "latest"), actor.versions[0])
        start = builds.start_build(actor.id, version=version.version_number, tag=TAG)
        ended = self._one_job(BUILD, start, Seen(self._ask(start.request)))
        build = self._jobs[BUILD]
        if not build.is_succeeded:
            raise Stop(f"The build is {build.status}: name an Actor that builds with ACTOR=..., its log says why not.")
        self._tag(actor, build)
        self._abort(BUILD, ended)
        return build

    def _one_run(self, actor: Actor, build: Job) -> None:
        start = runs.start_run(runs.actor_runs(actor.id), build=build.build_number or TAG, run_timeout=RUN_TIMEOUT)
        try:
            answer = Seen(self._ask(start.request))
        except ApiError as error:
            if error.kind != INVALID_REQUEST:
                raise
            raise Stop(f"The Actor cannot be run without an input: name another one with ACTOR=... {error}") from None
        self._abort(RUN, self._one_job(RUN, start, answer))

    def _one_job(self, kind: JobKind[Job], start: endpoints.Start[Job], answer: Seen) -> Seen:
        """Ask all that is asked of every kind of job, and give the job as it ended."""
        started = time.time()
        job = self._jobs[kind] = kind.job.from_api(answer)
        self._say(f"the {kind.name} is started")
        self._clock(kind, job)
        item = self._shows(kind, start.collection, job, started)
        ended = self._end(kind, job)
        self._fields(kind, answer, item, ended)
        return ended

    def _clock(self, kind: JobKind[Job], job: Job) -> None:
        offset = self._transport.clock_offset
        if kind is BUILD:
            seen = "not shown" if offset is None else f"shown; this machine's clock is {-offset:+.0f} s off"
            self._row("Date header of answers", "shown or not", seen, True)
        if offset is not None and job.started_at:
            apart = job.started_at.timestamp() - (time.time() + offset)
            what = f"startedAt of a {kind.name} against the Date of its answer"
            self._row(what, f"at most {SAME_CLOCK:.0f} s", f"{apart:+.0f} s", abs(apart) <= SAME_CLOCK)

    def _shows(self, kind: JobKind[Job], collection: str, job: Job, started: float) -> Seen:
        """Look at the job and at both lists until all show it, and give the item of the Actor's list."""
        got, of_actor, of_account = Seen({}), _Page(kind, job.id), _Page(kind, job.id)

        def gets() -> bool:
            got.update(self._ask(endpoints.get_job(kind, job.id)))
            return bool(got)

        self._within(
            started,
            (FOUND, f"GET shows the {kind.name}", gets),
            (
                LISTED,
                f"the Actor's list shows the {kind.name}",
                lambda: of_actor.has(self._ask(endpoints.list_jobs(collection))),
            ),
            (
                LISTED,
                f"the account's list shows the {kind.name}",
                lambda: of_account.has(self._ask(endpoints.list_jobs(kind.path))),
            ),
        )
        shown = kind.job.from_api(got or {"id": job.id, "status": job.status})
        ours = Fingerprint.found_in(shown.user_agent) == self._fingerprint
        seen = "shown" if ours else "another one" if shown.user_agent else "not shown"
        self._row(f"User-Agent of the start in GET of a {kind.name}", "shown", seen, ours)
        origin = str((shown.meta or {}).get("origin"))
        self._row(f"origin of the {kind.name}", "API, or a new word", origin[:40], origin not in ORIGINS_OF_OTHERS)
        for whose, page in (("the Actor's", of_actor), ("the account's", of_account)):
            if page.item:
                seen = "shown" if kind.job.from_api(page.item).user_agent else "not shown"
                self._row(f"User-Agent in {whose} list of {kind.name}s", "shown or not", seen, True)
                order = "newest first" if page.newest_first else "another"
                self._row(f"order of {whose} list of {kind.name}s", "newest first", order, page.newest_first)
        return of_actor.item

    def _end(self, kind: JobKind[Job], job: Job) -> Seen:
        deadline = time.monotonic() + JOB_LIMIT
        while True:
            asked = time.time()
            data = Seen(self._ask(endpoints.get_job(kind, job.id, wait_for_finish=endpoints.MAX_WAIT_SECONDS)))
            job = self._jobs[kind] = kind.job.from_api(data)
            if job.is_terminal:
                break
            if time.monotonic() > deadline:
                raise Stop(f"The {kind.name} has not ended after {JOB_LIMIT:.0f} s: name an Actor that is quicker.")
        self._say(f"the {kind.name} has ended: {job.status}")
        offset = self._transport.clock_offset
        if job.finished_at and offset is not None and job.finished_at.timestamp() > asked + offset:
            late = time.time() + offset - job.finished_at.timestamp()
            what = f"long-poll answers after the end of a {kind.name}"
            self._row(what, f"at most {AT_ONCE:.0f} s", f"{late:.1f} s", late <= AT_ONCE)
        return data

    def _tag(self, actor: Actor, build: Job) -> None:
        def moved() -> bool:
            holder = Actor.from_api(self._ask(endpoints.get_actor(actor.id))).tagged_builds.get(TAG)
            return holder is not None and holder.build_id == build.id

        self._within(time.time(), (TAGGED, "the tag is on the build after SUCCEEDED", moved))

    def _abort(self, kind: JobKind[Job], ended: Seen) -> None:
        before = kind.job.from_api(ended)
        try:
            after = kind.job.from_api(self._ask(endpoints.abort_job(kind, before.id)))
        except ApiError as error:
            if error.transient:
                raise
            seen, same = f"{error.status}, {error.type or 'no type'}", False
        else:
            same = (after.status, after.finished_at) == (before.status, before.finished_at)
            seen = "200, nothing" if same else f"200, the {kind.name} is {after.status}"
        self._row(f"abort of a {kind.name} that has ended", "200, nothing", seen, same)

    def _fields(self, kind: JobKind[Job], answer: Seen, item: Seen, ended: Seen) -> None:
        for data in (answer, item, ended):
            with suppress(ValueError):
                kind.job.from_api(data)
        for what, needed, data in (("in GET", GET_FIELDS[kind], ended), ("in lists", ITEM_FIELDS[kind], item)):
            missing = needed - data.shown
            what = f"fields of a {kind.name} that are needed {what}"
            self._row(what, "all shown", _listed(missing) or "all shown", not missing)
        never = (answer.read | item.read | ended.read) - answer.shown - item.shown - ended.shown
        self._row(f"other fields of a {kind.name} that are read", "shown or not", _listed(never) or "all shown", True)

    # -- how they are asked ---------------------------------------------------------------------------------------

    def _row(self, what: str, assumed: str, seen: str, holds: bool) -> None:
        self.rows.append(Row(what, assumed, seen, holds))

    def _within(self, since: float, *looks: tuple[float, str, Callable[[], bool]]) -> None:
        """Look until everything is seen; add how long after ``since`` that was, and whether within the most seconds."""
        missing = dict.fromkeys(looks)
        took: dict[str, float] = {}
        while missing and time.time() < since + LOOK:
            for look in list(missing):
                if _is_seen(look[2]):
                    took[look[1]] = time.time() - since
                    del missing[look]
            time.sleep(PAUSE if missing else 0)
        for most, what, _ in looks:
            seen = f"after {took[what]:.1f} s" if what in took else f"not within {LOOK:.0f} s"
            self._row(what, f"within {most:g} s", seen, took.get(what, LOOK) <= most)

    def _ask(self, request: endpoints.Request, transport: Transport | None = None) -> Any:
        """Send a request as the product does, again where that is allowed, and give its ``data``."""
        starts = request.repeat is Repeat.STARTS_ANOTHER
        kind = RUN if request.path.endswith("/runs") else BUILD
        for attempt in count(1):
            if starts:
                self._in_doubt = kind, request.path
            try:
                data = (transport or self._transport).send(request, self._fingerprint if starts else "")
            except ApiError as error:
                if starts:
                    self._in_doubt = (kind, request.path) if error.outcome_unknown else None
                if attempt == ATTEMPTS or not may_repeat(request.repeat, error):
                    raise
                time.sleep(backoff(attempt - 1, error))
            else:
                if starts:
                    self._in_doubt = None
                return data

    def _leave_nothing(self) -> None:
        """Abort what was started, or may have been, unless it has ended."""
        try:
            left = list(self._jobs.items())
            if self._in_doubt:
                kind, collection = self._in_doubt
                time.sleep(LISTED)
                page = self._ask(endpoints.list_jobs(collection, limit=10))
                got = (kind.job.from_api(self._ask(endpoints.get_job(kind, item["id"]))) for item in page["items"])
                left += [(kind, job) for job in got if Fingerprint.found_in(job.user_agent) == self._fingerprint]
            for kind, job in left:
                if not job.is_terminal:
                    self._ask(endpoints.abort_job(kind, job.id))
                    self._say(f"the {kind.name} is aborted")
        except (ApiError, ValueError, LookupError, TypeError) as error:
            self._say(f"a build or run may be left: look for one with {self._fingerprint} in its User-Agent. {error}")


def _is_seen(look: Callable[[], bool]) -> bool:
    """Look; what is not found, or may not be seen, is not seen."""
    try:
        return look()
    except ApiError as error:
        if error.kind in (NOT_FOUND, PERMISSION):
            return False
        raise


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    # make passes SIGTERM on; both end it in the same orderly way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    token, actor, host = (os.environ.get(name, "") for name in ("APIFY_TOKEN", "ACTOR", "APIFY_API_BASE_URL"))
    try:
        probe = Probe(_settings(token, actor, host), actor, lambda line: print(line, file=sys.stderr, flush=True))
    except Stop as stop:
        print(stop, file=sys.stderr)
        return 2
    try:
        probe.run()
    except Stop as stop:
        code, why = 2, f"\nNot everything could be found out. {stop}"
    except KeyboardInterrupt:
        code, why = 130, "\nStopped."
    else:
        code, why = 0, ""
    if probe.rows:
        print(table(probe.rows).replace(token, "***"))
    if why:
        print(why.replace(token, "***"), file=sys.stderr)
    return code or (0 if all(row.holds for row in probe.rows) else 1)


def _settings(token: str, actor: str, host: str) -> Settings:
    if not token or not actor:
        raise Stop(
            "Set both: APIFY_TOKEN=... (Apify Console, Settings, API & Integrations) and ACTOR=... (an id, user/name,"
            " or ~name), an Actor of yours that builds. It is built and run once."
        )
    try:
        return Settings.of("of APIFY_TOKEN and APIFY_API_BASE_URL", host=host, port=None, password=token, extra={})
    except ValueError as error:
        raise Stop(str(error)) from None


def table(rows: list[Row]) -> str:
    """Plain text to paste: what was asked, what is assumed, and what was seen."""
    cells = [("", "Asked", "Assumed", "Seen")]
    cells += [("ok" if row.holds else "NOT SO", row.what, row.assumed, row.seen) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return "\n".join([f"airflow-provider-apify {__version__}, Python {platform.python_version()}, {day}", "", *lines])


def _listed(fields: Iterable[str]) -> str:
    return ", ".join(f"no {name}" for name in sorted(fields))


if __name__ == "__main__":
    sys.exit(main())
