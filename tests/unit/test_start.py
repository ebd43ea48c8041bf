"""Promise 1: one logical start, one build. jobs/start.py against an Apify made of plain lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pendulum
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_apify.api.builds import BUILD, Build
from airflow_provider_apify.api.endpoints import PAGE_LIMIT, Request
from airflow_provider_apify.api.errors import (
    AUTHENTICATION,
    CAPACITY,
    INVALID_REQUEST,
    NETWORK,
    NOT_FOUND,
    PERMISSION,
    RATE_LIMIT,
    SERVER,
    ApiError,
)
from airflow_provider_apify.api.job import Job, JobKind
from airflow_provider_apify.client.wire import headers
from airflow_provider_apify.jobs.start import (
    LOOK_AGAIN,
    Clock,
    Fingerprint,
    Moment,
    Remembered,
    StartUnclear,
    Superseded,
    start_once,
)
from airflow_provider_apify.jobs.wait import FIRST_PAUSE

GET = Request("GET", "/v2/actor-builds/b1")
TASK = ("dag", "run", "2026-11-23", "task", -1)
MARK = Fingerprint.of(*TASK, epoch=3)
EARLIER, LATER = MARK._replace(epoch=1), MARK._replace(epoch=4)
OTHER = Fingerprint.of("dag", "run", "2026-11-23", "other task", -1, epoch=3)

ANSWERED, LOST_AFTER, LOST_BEFORE, CRASH_AFTER, CRASH_BEFORE = (
    "answered",
    "lost after the work",
    "lost before the work",
    "worker dies after the work",
    "worker dies before the work",
)
FATES = (ANSWERED, LOST_AFTER, LOST_BEFORE, CRASH_AFTER, CRASH_BEFORE)


class WorkerDied(BaseException):
    """The process is gone: nothing catches it."""


_full_lists = [False]


@pytest.fixture(autouse=True, scope="module", params=[False, True], ids=["plain lists", "full lists"])
def full_lists(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Every promise holds whatever lists show of a build."""
    _full_lists.append(request.param)
    yield request.param
    _full_lists.pop()


@dataclass
class Apify:
    """Apify as a start sees it: builds, a list that may lag, answers that may be lost."""

    #: What becomes of the next requests to start: a fate, or an error with which nothing is started.
    sends: list[str | ApiError] = field(default_factory=list)
    #: For how many lists each build started from now on is missing.
    lags: list[int] = field(default_factory=list)
    #: Errors of the next requests for the list; ``None`` for one that is answered.
    list_errors: list[ApiError | None] = field(default_factory=list)
    rewrites_user_agent: bool = False
    #: Whether the list shows the User-Agent, as Apify's definition allows and no recorded list does.
    full_lists: bool = field(default_factory=lambda: _full_lists[-1])
    clock_offset_seen: float | None = 0.0
    stops_at_send: int = 99
    is_stale: bool = False
    builds: dict[str, Build] = field(default_factory=dict)
    missing_for: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    #: How many starts had been sent each time when it was written down that one is about to be.
    intended: list[int] = field(default_factory=list)
    intended_unsure: bool | None = None
    kind: JobKind[Job] = BUILD
    #: Ids of jobs that are not enough although they succeeded.
    poor: set[str] = field(default_factory=set)
    _clock: int = 0

    def add(self, mark: object, status: str = "RUNNING", *, started: int | None = None) -> Build:
        self._clock += 1
        user_agent = "a proxy" if self.rewrites_user_agent else headers(GET, mark)["User-Agent"]
        build = Build(
            f"b{self._clock}",
            status,
            started_at=pendulum.datetime(2026, 11, 23).add(seconds=self._clock if started is None else started),
            meta={"origin": "API", "userAgent": user_agent},
        )
        self.builds[build.id] = build
        return build

    def end(self, build: Build, status: str) -> None:
        self.builds[build.id] = replace(build, status=status)

    def statuses(self) -> list[str]:
        return [build.status for build in self.builds.values()]

    def sent(self) -> int:
        return self.calls.count("send")

    def done(self) -> list[str]:
        """What was called, but for the questions whose a build is."""
        return [call for call in self.calls if call != "get"]

    # What start_once calls.

    def prepare(self) -> None:
        pass

    def intend(self, unsure: bool, /) -> None:
        self.intended.append(self.sent())
        self.intended_unsure = unsure

    def send(self) -> Build:
        self.calls.append("send")
        fate = self.sends.pop(0) if self.sends else ANSWERED
        lag = self.lags.pop(0) if self.lags else 0
        if isinstance(fate, ApiError):
            raise fate
        if fate == CRASH_BEFORE:
            raise WorkerDied
        if fate == LOST_BEFORE:
            raise ApiError("timed out", NETWORK, outcome_unknown=True)
        build = self.add(MARK, "READY")
        self.missing_for[build.id] = lag
        if fate == CRASH_AFTER:
            raise WorkerDied
        if fate == LOST_AFTER:
            raise ApiError("bad gateway", SERVER, status=502)
        return build

    def recent(self, offset: int, /) -> Sequence[Build]:
        error = self.list_errors.pop(0) if self.list_errors else None
        if error:
            self.calls.append("list fails")
            raise error
        self.calls.append("list")
        listed = [build for build in self.builds.values() if not self.missing_for.get(build.id)]
        self.missing_for = {build_id: max(0, lag - 1) for build_id, lag in self.missing_for.items()}
        if not self.full_lists:
            listed = [replace(build, meta={**(build.meta or {}), "userAgent": None}) for build in listed]
        return sorted(listed, key=lambda build: str(build.started_at), reverse=True)[offset : offset + PAGE_LIMIT]

    def excludes(self, job: Job, /) -> bool:
        return job.build_number is not None

    def is_enough(self, job: Job, /) -> bool:
        return job.id not in self.poor

    def clock_offset(self) -> float | None:
        return self.clock_offset_seen

    def now(self) -> float:
        return SINCE.at + self._clock

    def get(self, build_id: str, /, *, attempts: int = 8) -> Build:
        self.calls.append("get")
        if build_id not in self.builds:
            raise ApiError("no such build", NOT_FOUND, status=404)
        return self.builds[build_id]

    def abort(self, build_id: str, /) -> None:
        self.calls.append(f"abort {build_id}")
        if self.builds[build_id].is_live:
            self.end(self.builds[build_id], "ABORTED")

    def pause(self, seconds: float, /) -> None:
        self.pauses.append(seconds)

    def stale(self) -> bool:
        return self.is_stale

    def stopped(self) -> bool:
        return self.sent() >= self.stops_at_send


#: When the first try of the attempt sent its first start.
SINCE = Moment(pendulum.datetime(2026, 11, 23).timestamp(), Clock.APIFY)


def start(apify: Apify, **options: Any) -> Any:
    """The first try of a task."""
    options = {"first_try": True, "earlier_tries": False, "since": SINCE, **options}
    return start_once(apify, MARK, **options)


def retry(apify: Apify, **options: Any) -> Any:
    return start(apify, **{"first_try": False, "earlier_tries": True, **options})


def test_first_try_sends_once_without_looking() -> None:
    apify = Apify()
    started = start(apify)
    assert (apify.calls, started.adopted, started.job.id) == (["send"], False, "b1")


def test_lost_answer_adopts_the_build_that_was_started() -> None:
    apify = Apify(sends=[LOST_AFTER])
    started = start(apify)
    assert (started.job.id, started.adopted) == ("b1", True)
    assert (apify.sent(), len(apify.builds)) == (1, 1)


@pytest.mark.parametrize("lag", [1, 2, 3])
def test_lost_answer_adopts_a_build_that_the_list_shows_late(lag: int) -> None:
    apify = Apify(sends=[LOST_AFTER], lags=[lag])
    assert start(apify).job.id == "b1"
    assert (apify.sent(), apify.calls.count("list")) == (1, lag + 1)


def test_looks_go_on_for_longer_than_replicas_lag() -> None:
    apify = Apify(sends=[LOST_BEFORE])
    start(apify)
    assert sum(apify.pauses) >= 3 and apify.pauses == sorted(apify.pauses)


def test_request_lost_before_the_work_is_sent_again_after_looking() -> None:
    apify = Apify(sends=[LOST_BEFORE])
    started = start(apify)
    assert (started.adopted, len(apify.builds)) == (False, 1)
    assert apify.calls[0] == apify.calls[-1] == "send" and set(apify.calls[1:-1]) == {"list"}


def test_start_gives_up_with_its_last_error_and_says_that_a_build_may_be_there() -> None:
    apify = Apify(sends=[LOST_BEFORE] * 9)
    with pytest.raises(ApiError, check=lambda error: error.kind is NETWORK, match="timed out") as caught:
        start(apify)
    assert caught.value.outcome_unknown
    assert 1 < apify.sent() < 9 and apify.calls[-1] == "list"
    assert apify.pauses == [*LOOK_AGAIN] * apify.sent()


def test_failure_of_the_look_after_a_lost_answer_says_that_a_build_may_be_there() -> None:
    apify = Apify(sends=[LOST_AFTER], list_errors=[ApiError("slow down", RATE_LIMIT, status=429)])
    with pytest.raises(ApiError) as caught:
        start(apify)
    assert caught.value.outcome_unknown
    assert apify.sent() == 1


def test_end_of_the_task_after_a_lost_answer_says_that_a_build_may_be_there() -> None:
    apify = Apify(sends=[LOST_AFTER], lags=[99], stops_at_send=1)
    with pytest.raises(Superseded) as caught:
        start(apify)
    assert getattr(caught.value, "outcome_unknown", False)
    assert apify.sent() == 1


@pytest.mark.parametrize(
    "error", [ApiError("slow down", RATE_LIMIT, status=429), ApiError("refused", NETWORK, outcome_unknown=False)]
)
def test_failure_that_proves_that_nothing_started_is_sent_again(error: ApiError) -> None:
    apify = Apify(sends=[error, error])
    said: list[str] = []
    assert not start(apify, warn=said.append).adopted
    assert apify.calls == ["send"] * 3
    first, second = apify.pauses
    assert FIRST_PAUSE / 2 <= first <= FIRST_PAUSE <= second <= 2 * FIRST_PAUSE
    assert said == [f"{error} Sending again in {pause:.1f} s." for pause in apify.pauses]


def test_failure_that_proves_that_nothing_started_is_raised_in_the_end() -> None:
    error = ApiError("slow down", RATE_LIMIT, status=429)
    apify = Apify(sends=[error] * 20)
    with pytest.raises(ApiError, check=lambda error: error.kind is RATE_LIMIT) as caught:
        start(apify)
    assert caught.value is error and not error.outcome_unknown
    assert apify.sent() == 8


def test_a_try_frozen_between_two_requests_looks_before_it_sends_again() -> None:
    apify = Apify(sends=[ApiError("slow down", RATE_LIMIT, status=429)])

    def freeze(seconds: float) -> None:
        apify.add(MARK)  # by the retry that replaced it
        apify.is_stale = True

    apify.pause = freeze  # type: ignore[method-assign]
    started = start(apify)
    assert (apify.done(), started.job.id, started.adopted) == (["send", "list"], "b1", True)


@pytest.mark.parametrize("lag", [0, 9])
def test_a_try_frozen_in_its_request_gives_way_to_the_one_that_replaced_it(lag: int) -> None:
    apify = Apify(lags=[lag])
    send = apify.send

    def freeze() -> Build:
        apify.add(MARK)
        apify.is_stale = True
        return send()

    apify.send = freeze  # type: ignore[method-assign]
    started = start(apify)
    assert (started.job.id, started.adopted) == ("b1", True)
    assert apify.statuses() == ["RUNNING", "ABORTED"]


def frozen_while_sending(apify: Apify) -> Apify:
    """Freeze the try in its request."""
    send = apify.send

    def freeze() -> Build:
        apify.is_stale = True
        return send()

    apify.send = freeze  # type: ignore[method-assign]
    return apify


def test_a_try_that_was_overtaken_in_its_request_aborts_what_it_started() -> None:
    apify = Apify()
    apify.add(LATER)
    with pytest.raises(Superseded, match=r"^A newer attempt of this task has started its build"):
        start(frozen_while_sending(apify))
    assert apify.statuses() == ["RUNNING", "ABORTED"]


def test_a_try_frozen_in_its_request_keeps_its_build_while_the_list_cannot_be_read() -> None:
    apify = frozen_while_sending(Apify(list_errors=[ApiError("bad gateway", SERVER, status=502)]))
    started = start(apify)
    assert (started.job.id, started.adopted, apify.statuses()) == ("b1", False, ["READY"])


@pytest.mark.parametrize("first_try", [True, False])
def test_each_start_is_written_down_before_it_is_sent(first_try: bool) -> None:
    apify = Apify()
    apify.add(MARK, "FAILED")
    remembered = None if first_try else Remembered(MARK, "b1")
    start(apify, first_try=first_try, earlier_tries=not first_try, remembered=remembered)
    assert (apify.intended, apify.sent()) == ([0], 1)


def test_nothing_is_written_down_if_there_is_a_build() -> None:
    apify = Apify()
    apify.add(MARK)
    assert retry(apify).adopted and apify.intended == []


@pytest.mark.parametrize(
    "error",
    [
        ApiError("memory", CAPACITY, status=402),
        ApiError("who are you", AUTHENTICATION, status=401),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failure_that_proves_that_nothing_started_is_raised_at_once(error: ApiError) -> None:
    apify = Apify(sends=[error])
    with pytest.raises(type(error)) as caught:
        start(apify)
    assert caught.value is error
    assert (apify.calls, apify.pauses) == (["send"], [])


def test_nothing_is_sent_while_the_list_cannot_be_read() -> None:
    apify = Apify(list_errors=[ApiError("down", SERVER)])
    with pytest.raises(ApiError, check=lambda error: error.kind is SERVER):
        retry(apify)
    assert apify.sent() == 0


@pytest.mark.parametrize("remembered", ["FAILED", "deleted", "earlier attempt"])
def test_nothing_is_sent_while_the_list_cannot_be_read_and_the_remembered_build_is_of_no_use(remembered: str) -> None:
    apify = Apify(list_errors=[ApiError("down", SERVER)])
    mark = EARLIER if remembered == "earlier attempt" else MARK
    build = apify.add(mark, "FAILED")
    if remembered == "deleted":
        del apify.builds[build.id]
    apify.add(MARK)  # started by a try that died before it could write that down
    with pytest.raises(ApiError, check=lambda error: error.kind is SERVER):
        retry(apify, remembered=Remembered(mark, build.id))
    assert apify.sent() == 0


def test_lost_answer_is_not_sent_again_while_the_list_cannot_be_read() -> None:
    apify = Apify(sends=[LOST_AFTER], list_errors=[None, *[ApiError("down", SERVER)] * 20])
    cleared = apify.add(EARLIER, "SUCCEEDED")
    with pytest.raises(ApiError):
        retry(apify, remembered=Remembered(EARLIER, cleared.id))
    assert apify.sent() == 1


@pytest.mark.parametrize("status", ["READY", "RUNNING", "SUCCEEDED", "SOMETHING-NEW"])
def test_retry_adopts_a_build_that_may_still_do(status: str) -> None:
    apify = Apify()
    build = apify.add(MARK, status)
    started = retry(apify)
    assert (started.job, started.adopted) == (build, True)
    assert apify.calls == (["list"] if apify.full_lists else ["list", "get"])


@pytest.mark.parametrize("status", ["FAILED", "ABORTED", "TIMED-OUT", "ABORTING", "TIMING-OUT"])
def test_retry_replaces_a_build_that_failed_or_is_bound_to(status: str) -> None:
    apify = Apify()
    apify.add(MARK, status)
    started = retry(apify)
    assert (started.job.id, started.adopted) == ("b2", False)
    assert (apify.calls, apify.statuses()) == (["list", "send"], [status, "READY"])


def test_retry_prefers_a_build_that_succeeded_and_aborts_the_live_one() -> None:
    apify = Apify()
    apify.add(MARK, "RUNNING")
    done = apify.add(MARK, "SUCCEEDED")
    assert retry(apify).job == done
    assert apify.statuses() == ["ABORTED", "SUCCEEDED"]


@pytest.mark.parametrize("ages", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_of_several_live_builds_the_oldest_stays(ages: tuple[int, ...]) -> None:
    apify = Apify()
    for age in ages:
        apify.add(MARK, started=age)
    oldest = f"b{ages.index(1) + 1}"
    assert retry(apify).job.id == oldest
    assert [build.id for build in apify.builds.values() if build.is_live] == [oldest]


def test_builds_without_a_start_time_converge_too() -> None:
    apify = Apify()
    for _ in range(3):
        build = apify.add(MARK)
        apify.builds[build.id] = replace(build, started_at=None)
    assert retry(apify).job.id == "b1"
    assert apify.statuses() == ["RUNNING", "ABORTED", "ABORTED"]


def test_second_start_behind_a_stale_list_converges_at_the_next_look() -> None:
    apify = Apify(sends=[LOST_AFTER], lags=[20])
    assert start(apify).job.id == "b2"
    assert apify.statuses() == ["READY", "READY"]
    apify.missing_for.clear()
    assert retry(apify).job.id == "b1"
    assert apify.statuses() == ["READY", "ABORTED"]


@pytest.mark.parametrize("status", ["READY", "RUNNING", "SOMETHING-NEW"])
def test_new_attempt_aborts_what_an_earlier_one_left_and_starts_anew(status: str) -> None:
    apify = Apify()
    apify.add(EARLIER, status)
    started = retry(apify)
    assert (started.job.id, started.adopted) == ("b2", False)
    assert apify.statuses() == ["ABORTED", "READY"]


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "ABORTING", "TIMING-OUT"])
def test_new_attempt_neither_adopts_nor_aborts_an_ended_build_of_an_earlier_one(status: str) -> None:
    apify = Apify()
    apify.add(EARLIER, status)
    assert not retry(apify).adopted
    assert (apify.done(), apify.statuses()) == (["list", "send"], [status, "READY"])


def test_new_attempt_aborts_none_if_told_so() -> None:
    apify = Apify()
    apify.add(EARLIER)
    assert not retry(apify, abort_earlier=False).adopted
    assert apify.statuses() == ["RUNNING", "READY"]


@pytest.mark.parametrize(
    "mark", [OTHER, OTHER._replace(epoch=1), OTHER._replace(epoch=9), "", "airflow/abc.1"], ids=str
)
def test_builds_of_others_are_neither_adopted_nor_aborted(mark: object) -> None:
    apify = Apify()
    apify.add(mark)
    assert not retry(apify).adopted
    assert apify.statuses() == ["RUNNING", "READY"]


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED", "FAILED"])
def test_try_that_was_overtaken_starts_and_aborts_nothing(status: str) -> None:
    # One that failed is not asked whose it is.
    apify = Apify(full_lists=_full_lists[-1] or status == "FAILED")
    apify.add(EARLIER)
    apify.add(MARK)
    apify.add(LATER, status)
    with pytest.raises(Superseded, match="newer attempt"):
        retry(apify)
    assert (apify.done(), apify.statuses()) == (["list"], ["RUNNING", "RUNNING", status])


def test_try_that_was_overtaken_learns_it_from_what_was_written_down() -> None:
    apify = Apify(rewrites_user_agent=True)
    build = apify.add(LATER)
    with pytest.raises(Superseded, match="newer attempt"):
        retry(apify, remembered=Remembered(LATER, build.id))
    assert apify.sent() == 0


@pytest.mark.parametrize("first_try", [True, False])
def test_task_being_ended_starts_nothing(first_try: bool) -> None:
    apify = Apify(stops_at_send=0)
    with pytest.raises(Superseded, match="being ended"):
        start(apify, first_try=first_try)
    assert apify.builds == {}


def test_remembered_build_is_adopted_though_its_user_agent_was_rewritten() -> None:
    apify = Apify(rewrites_user_agent=True)
    build = apify.add(MARK)
    assert retry(apify, remembered=Remembered(MARK, build.id)).job.id == build.id
    assert apify.sent() == 0


def test_remembered_build_is_adopted_though_the_list_fails() -> None:
    apify = Apify(list_errors=[ApiError("down", SERVER)])
    build = apify.add(MARK)
    assert retry(apify, remembered=Remembered(MARK, build.id)).job == build
    assert apify.sent() == 0


def test_remembered_build_of_an_earlier_attempt_is_aborted_though_its_user_agent_was_rewritten() -> None:
    apify = Apify(rewrites_user_agent=True)
    build = apify.add(EARLIER)
    assert not retry(apify, remembered=Remembered(EARLIER, build.id)).adopted
    assert apify.statuses() == ["ABORTED", "READY"]


def test_remembered_build_that_was_deleted_is_replaced() -> None:
    apify = Apify()
    assert not retry(apify, remembered=Remembered(MARK, "gone")).adopted
    assert apify.done() == ["list", "send"]


def test_nothing_is_sent_while_the_remembered_build_cannot_be_read() -> None:
    class Unreadable(Apify):
        def get(self, build_id: str, /, *, attempts: int = 8) -> Build:
            raise ApiError("down", SERVER)

    apify = Unreadable()
    with pytest.raises(ApiError, check=lambda error: error.kind is SERVER):
        retry(apify, remembered=Remembered(MARK, "b1"))
    assert apify.sent() == 0


def test_what_is_done_besides_starting_is_said() -> None:
    said: list[str] = []
    apify = Apify(sends=[LOST_AFTER])
    earlier = apify.add(EARLIER)
    retry(apify, warn=said.append)
    assert [earlier.id in said[0], "bad gateway" in said[1]] == [True, True]


trouble = st.sampled_from((None, ApiError("down", SERVER), ApiError("slow down", RATE_LIMIT)))


@settings(max_examples=400)
@given(
    sends=st.lists(st.sampled_from(FATES), max_size=12),
    lags=st.lists(st.integers(0, 6), max_size=12),
    list_errors=st.lists(trouble, max_size=12),
    fails_in_tries=st.sets(st.integers(1, 6)),
    with_store=st.booleans(),
)
@example([ANSWERED, CRASH_AFTER], [], [None, ApiError("down", SERVER)], {1}, True)
@example([LOST_AFTER, LOST_AFTER, LOST_AFTER], [6, 6, 6], [], set(), False)
def test_whatever_happens_one_build_of_an_attempt_is_left(
    sends: list[str | ApiError],
    lags: list[int],
    list_errors: list[ApiError | None],
    fails_in_tries: set[int],
    with_store: bool,
) -> None:
    apify = Apify(sends=list(sends), lags=list(lags), list_errors=list(list_errors))
    remembered: Remembered | None = None
    for number in range(1, 7):
        try:
            started = start(apify, first_try=number == 1, earlier_tries=number > 1, remembered=remembered)
        except (ApiError, WorkerDied):
            # Written down before each first start.
            if with_store and apify.intended_unsure is not None:
                remembered = Remembered(MARK, None, apify.intended_unsure)
            continue
        finally:
            apify.intended_unsure = None
        build = started.job
        if with_store:
            remembered = Remembered(MARK, build.id, started.unsure)
        if number not in fails_in_tries:
            break
        apify.end(build, "FAILED")

    looked = True
    for call in apify.calls:
        assert call != "send" or looked, f"a start was sent again without a look: {apify.calls}"
        looked = call == "list" or (looked and call != "send")

    apify.sends, apify.list_errors = [], []
    apify.missing_for.clear()
    build = retry(apify, remembered=remembered).job
    usable = [item.id for item in apify.builds.values() if item.is_live or item.is_succeeded]
    assert usable == [build.id]


@given(epoch=st.integers(0, 999_999_999), parts=st.lists(st.text() | st.integers()))
def test_fingerprint_survives_the_user_agent(epoch: int, parts: list[object]) -> None:
    mark = Fingerprint.of(*parts, epoch=epoch)
    assert Fingerprint.found_in(headers(GET, mark)["User-Agent"]) == mark
    assert Fingerprint.found_in(f"{headers(GET, mark)['User-Agent']} proxy/1.0") == mark


@pytest.mark.parametrize(
    "user_agent",
    [
        "",
        headers(GET)["User-Agent"],
        "airflow/1.2",
        f"airflow/{'a' * 32}",
        f"airflow/{'g' * 32}.1",
        f"x{MARK}",
        f"{MARK}x",
    ],
)
def test_user_agent_of_others_has_no_fingerprint(user_agent: str) -> None:
    assert Fingerprint.found_in(user_agent) is None


@pytest.mark.parametrize("position", range(len(TASK)))
def test_fingerprint_differs_for_each_part(position: int) -> None:
    parts: list[object] = list(TASK)
    parts[position] = f"{parts[position]}2"
    assert Fingerprint.of(*parts, epoch=1).task != Fingerprint.of(*TASK, epoch=1).task


def test_fingerprint_is_the_same_in_another_process_and_release() -> None:
    # Builds that are under way during an upgrade carry it: it must not change.
    assert (
        str(Fingerprint.of("dag", "run", "start", "task", -1, epoch=1)) == "airflow/a0952d348a384632b13b5e0ebdd652bb.1"
    )


@given(st.lists(st.text()), st.lists(st.text()))
@example(["ab", "c"], ["a", "bc"])
@example(["a,b"], ["a", "b"])
@example(['a", "b'], ["a", "b"])
@example([""], [])
def test_parts_of_a_fingerprint_do_not_run_together(some: list[str], others: list[str]) -> None:
    same = Fingerprint.of(*some, epoch=1) == Fingerprint.of(*others, epoch=1)
    assert same is (some == others)


def test_retry_in_doubt_looks_until_the_list_can_have_caught_up() -> None:
    """The worker died between its request and writing the id down, and the next try is quicker than the list."""
    apify = Apify()
    build = apify.add(MARK)
    apify.missing_for[build.id] = 2
    started = retry(apify, remembered=Remembered(MARK, None))
    assert (started.job.id, started.adopted, apify.sent()) == (build.id, True, 0)


def test_first_try_that_was_frozen_looks_before_it_starts() -> None:
    """Its worker may have been given up for dead, and the retry have started the build."""
    apify = Apify(is_stale=True)
    build = apify.add(MARK)
    started = start(apify)
    assert (started.job.id, started.adopted, apify.sent()) == (build.id, True, 0)


def test_a_build_that_an_earlier_try_had_for_certain_costs_one_request() -> None:
    apify = Apify()
    build = apify.add(MARK)
    started = retry(apify, remembered=Remembered(MARK, build.id, unsure=False))
    assert (started.job, started.adopted, started.unsure, apify.calls) == (build, True, False, ["get"])


@pytest.mark.parametrize("status", ["FAILED", "ABORTING", "deleted"])
def test_a_build_that_an_earlier_try_had_for_certain_and_that_will_not_do_is_replaced(status: str) -> None:
    apify = Apify()
    build = apify.add(MARK, status)
    if status == "deleted":
        del apify.builds[build.id]
    started = retry(apify, remembered=Remembered(MARK, build.id, unsure=False))
    assert (started.adopted, apify.done()) == (False, ["list", "send"])


@pytest.mark.parametrize(
    ("sends", "unsure"),
    [([ANSWERED], False), ([ApiError("slow down", RATE_LIMIT)], False), ([LOST_AFTER], False), ([LOST_BEFORE], True)],
    ids=["answered", "refused, then answered", "lost and found", "lost, then answered"],
)
def test_a_start_says_whether_a_further_build_may_be_there(sends: list[str | ApiError], unsure: bool) -> None:
    assert start(Apify(sends=list(sends))).unsure is unsure


@pytest.mark.parametrize(
    ("remembered", "unsure"),
    [
        (None, True),
        (Remembered(MARK, None, unsure=False), True),
        (Remembered(MARK, "b1"), True),
        (Remembered(MARK, "b1", unsure=False), False),
        (Remembered(EARLIER, "b1", unsure=False), True),
    ],
    ids=["nothing", "an intent", "a build in doubt", "a build", "an earlier attempt"],
)
def test_doubt_stays_from_try_to_try(remembered: Remembered | None, unsure: bool) -> None:
    apify = Apify()
    apify.add(MARK, "FAILED")
    assert retry(apify, remembered=remembered).unsure is unsure


def test_the_first_try_after_a_clear_is_in_no_doubt() -> None:
    assert not start(Apify(), first_try=False).unsure


def test_the_first_try_after_a_clear_asks_only_what_an_earlier_attempt_may_have_left() -> None:
    apify = Apify(full_lists=False)
    apify.add(EARLIER, "SUCCEEDED")
    left = apify.add(EARLIER, "RUNNING")
    silent = apify.add("", "RUNNING")
    apify.builds[silent.id] = replace(silent, meta={"origin": "API"})
    start(apify, first_try=False)
    assert apify.statuses() == ["SUCCEEDED", "ABORTED", "RUNNING", "READY"]
    assert (apify.calls.count("get"), left.id) == (2, "b2")


def times(*seconds: int, status: str = "SUCCEEDED", mark: object = OTHER, **fields: Any) -> Apify:
    """Builds of others that began so many seconds after the attempt's first start."""
    apify = Apify(full_lists=False)
    for second in seconds:
        build = apify.add(mark, status, started=second)
        apify.builds[build.id] = replace(build, **fields)
    return apify


@pytest.mark.parametrize("unsure", [False, True])
def test_where_there_can_be_only_one_nothing_is_asked_for_once_it_is_found(unsure: bool) -> None:
    apify = times(10, 20, 30)
    build = apify.add(MARK, started=15)
    assert retry(apify, remembered=Remembered(MARK, None, unsure)).job == build
    assert apify.calls.count("get") == (4 if unsure else 2)


def test_a_second_request_is_written_down_before_it_is_sent() -> None:
    apify = Apify(sends=[LOST_BEFORE, CRASH_AFTER])
    with pytest.raises(WorkerDied):
        start(apify)
    assert (apify.intended, apify.intended_unsure) == ([0, 1], True)


def asked(apify: Apify, **options: Any) -> int:
    """How many builds a retry asks about."""
    retry(apify, **options)
    return apify.calls.count("get")


def test_only_builds_that_may_be_the_one_are_asked_whose_they_are() -> None:
    assert asked(times(-3600, -59, 0, 59, 3600)) == 4
    assert asked(times(-3600, status="RUNNING")) == 1, "unfinished"
    assert asked(times(-3600, status="SOMETHING-NEW")) == 1
    assert asked(times(-3600, started_at=None)) == 1
    for status in ("FAILED", "ABORTED", "TIMED-OUT", "ABORTING", "TIMING-OUT"):
        assert asked(times(0, status=status)) == 0
    assert asked(times(0, build_number="another version")) == 0


@pytest.mark.parametrize("origin", ["WEB", "SCHEDULER", "CLI", "CI", "MCP", "API", "AIRFLOW", None])
def test_builds_of_an_origin_known_to_be_of_others_are_not_asked(origin: str | None) -> None:
    apify = times(0)
    (build,) = apify.builds.values()
    apify.builds[build.id] = replace(build, meta={"origin": origin, "userAgent": "a browser"})
    assert asked(apify) == (origin in ("API", "AIRFLOW", None))


#: Whose clock the time of the first start is by, how far Apify's is ahead of ours, and the earliest build to ask about.
WINDOWS = {
    "Apify's": (Clock.APIFY, 7200.0, -60),
    "Apify's, with ours unknown": (Clock.APIFY, None, -60),
    "ours": (Clock.OURS, 7200.0, 7200 - 60),
    "ours, behind": (Clock.OURS, -7200.0, -7200 - 60),
    "ours, with Apify's unknown": (Clock.OURS, None, -600),
    "another machine's": (Clock.OTHERS, 7200.0, -600),
    "another machine's, behind": (Clock.OTHERS, -7200.0, -7200 - 600),
    "another machine's, with Apify's unknown": (Clock.OTHERS, None, -600),
}


@pytest.mark.parametrize(("clock", "offset", "earliest"), WINDOWS.values(), ids=WINDOWS)
def test_the_time_of_a_first_start_is_put_back_to_be_sure(clock: Clock, offset: float | None, earliest: int) -> None:
    for second, expected in ((earliest, 1), (earliest - 1, 0)):
        apify = times(second)
        apify.clock_offset_seen = offset
        assert asked(apify, since=Moment(SINCE.at, clock)) == expected


def test_the_builds_nearest_to_the_first_start_are_asked_first() -> None:
    apify = times(900, 5, 30, 600)
    order: list[str] = []
    get = apify.get

    def noted(build_id: str, /, **options: Any) -> Build:
        order.append(build_id)
        return get(build_id, **options)

    apify.get = noted  # type: ignore[method-assign]
    retry(apify)
    assert order == ["b2", "b3", "b4", "b1"]


def test_what_a_build_has_said_is_remembered_from_look_to_look() -> None:
    apify = times(1, 2, 3)
    apify.sends = [LOST_BEFORE]
    start(apify)
    assert (apify.calls.count("list"), apify.calls.count("get")) == (len(LOOK_AGAIN), 3)


@pytest.mark.parametrize("sends", [[], [LOST_BEFORE]], ids=["before a start", "after a lost answer"])
@pytest.mark.parametrize(
    "error",
    [ApiError("down", SERVER), ApiError("slow down", RATE_LIMIT), ApiError("bad", INVALID_REQUEST)],
    ids=lambda e: type(e).__name__,
)
def test_doubt_starts_nothing(error: ApiError, sends: list[str | ApiError]) -> None:
    """A build that may be the attempt's cannot be read."""
    apify = times(1)
    apify.sends = list(sends)

    def get(build_id: str, /, *, attempts: int = 8) -> Build:
        raise error

    apify.get = get  # type: ignore[method-assign]
    with pytest.raises(StartUnclear, match=f"build .*b1.* may be the one, and it cannot be read .{error}.") as caught:
        start(apify) if sends else retry(apify)
    assert apify.sent() == len(sends)
    assert caught.value.outcome_unknown


def test_a_token_refused_while_looking_is_said_as_such() -> None:
    apify = times(1)

    def get(build_id: str, /, *, attempts: int = 8) -> Build:
        raise ApiError("who are you", AUTHENTICATION)

    apify.get = get  # type: ignore[method-assign]
    with pytest.raises(ApiError, check=lambda error: error.kind is AUTHENTICATION):
        retry(apify)
    assert apify.sent() == 0


def test_a_build_that_this_token_may_not_see_is_not_the_one() -> None:
    apify = times(1)
    apify.sends = [LOST_BEFORE]
    questions = 0

    def get(build_id: str, /, *, attempts: int = 8) -> Build:
        nonlocal questions
        questions += 1
        raise ApiError("not yours", PERMISSION)

    apify.get = get  # type: ignore[method-assign]
    assert not retry(apify).adopted
    assert questions == 1


def test_a_build_listed_before_it_can_be_read_is_asked_again() -> None:
    apify = Apify(full_lists=False)
    build = apify.add(MARK)
    get, missing = apify.get, [True, True]

    def get_late(build_id: str, /, *, attempts: int = 8) -> Build:
        if missing and missing.pop():
            raise ApiError("not yet", NOT_FOUND)
        return get(build_id)

    apify.get = get_late  # type: ignore[method-assign]
    assert retry(apify, remembered=Remembered(MARK, None)).job.id == build.id
    assert apify.sent() == 0


@pytest.mark.parametrize(
    ("second", "status", "unclear"), [(0, "RUNNING", True), (0, "SUCCEEDED", True), (-99, "RUNNING", False)]
)
def test_a_build_that_does_not_say_who_started_it_is_a_doubt_if_it_began_since(
    second: int, status: str, unclear: bool
) -> None:
    apify = times(second, status=status, meta={"origin": "API"})
    if unclear:
        with pytest.raises(StartUnclear, match="does not show who started it"):
            retry(apify)
    else:
        assert not retry(apify).adopted
    assert apify.sent() == (not unclear)


def test_a_bound_that_is_met_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_apify.jobs.start.MOST_GETS", 3)
    with pytest.raises(StartUnclear, match="more than can be asked for"):
        retry(times(1, 2, 3, 4))
    monkeypatch.setattr("airflow_provider_apify.jobs.start.LONGEST_LOOK", -1.0)
    with pytest.raises(StartUnclear, match="more than can be asked for"):
        retry(times(1))


def test_a_bound_that_is_met_after_the_build_was_found_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_apify.jobs.start.MOST_GETS", 3)
    apify = times(10, 20, 30, 40)
    build = apify.add(MARK, started=1)
    assert retry(apify).job == build


@pytest.mark.parametrize(("others", "pages"), [(PAGE_LIMIT - 2, 1), (PAGE_LIMIT + 1, 2)])
def test_the_list_is_read_back_to_the_first_start(others: int, pages: int) -> None:
    apify = times(*range(10, 10 + others), status="FAILED")
    build = apify.add(MARK, started=1)
    assert retry(apify).job == build
    assert apify.calls.count("list") == pages


def test_a_list_that_reaches_back_is_read_no_further() -> None:
    apify = times(*range(-PAGE_LIMIT, 0), status="FAILED")
    retry(apify)
    assert apify.calls.count("list") == 1


def test_a_list_longer_than_can_be_read_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_apify.jobs.start.MOST_LISTED", PAGE_LIMIT)
    with pytest.raises(StartUnclear, match="more than 1000 builds of its Actor"):
        retry(times(*range(PAGE_LIMIT), status="FAILED"))


def test_a_list_longer_than_can_be_read_does_no_harm_if_the_build_was_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_apify.jobs.start.MOST_LISTED", PAGE_LIMIT)
    apify = times(*range(1, PAGE_LIMIT + 1), status="FAILED")
    build = apify.add(MARK, started=0)
    assert retry(apify, remembered=Remembered(MARK, build.id)).job.id == build.id


def test_a_list_that_repeats_itself_ends() -> None:
    apify = times(*range(PAGE_LIMIT), status="FAILED")
    recent = apify.recent
    apify.recent = lambda offset: recent(0)  # type: ignore[method-assign]
    with pytest.raises(StartUnclear, match="more than 1000 builds of its Actor"):
        retry(apify)


def test_failed_builds_are_listed_as_far_back_as_need_be() -> None:
    assert not retry(times(*range(2 * PAGE_LIMIT + 100), status="FAILED")).adopted


def test_a_task_being_ended_asks_no_further() -> None:
    apify = times(1, 2, 3)
    apify.stops_at_send = 0
    with pytest.raises(Superseded, match="being ended"):
        retry(apify)
    assert "get" not in apify.calls


def test_an_unfinished_build_of_another_version_may_be_what_an_earlier_attempt_has_left() -> None:
    apify = Apify(full_lists=False)
    for mark, status in ((EARLIER, "RUNNING"), (EARLIER, "SUCCEEDED")):
        build = apify.add(mark, status)
        apify.builds[build.id] = replace(build, build_number="another version")
    retry(apify)
    assert apify.statuses() == ["ABORTED", "SUCCEEDED", "READY"]
    assert apify.calls.count("get") == 1


def test_a_first_try_that_is_late_asks_only_about_what_began_since() -> None:
    apify = times(*range(-900, -600), status="RUNNING")
    apify.is_stale = True
    apify.sends = [ApiError("slow down", RATE_LIMIT)]
    started = start(apify)
    assert apify.calls.count("get") == 1, "about its own"
    assert not started.adopted


@pytest.mark.parametrize("earlier_tries", [False, True])
@pytest.mark.parametrize(
    "error", [ApiError("down", SERVER), None], ids=["cannot be read", "does not say who started it"]
)
def test_a_build_that_began_before_is_no_doubt(error: ApiError | None, earlier_tries: bool) -> None:
    """Clearing the task, as the error advises, starts a new attempt."""
    apify = times(-3600, status="RUNNING", meta={"origin": "API"})
    get = apify.get

    def unreadable(build_id: str, /, *, attempts: int = 8) -> Build:
        if error:
            raise error
        return get(build_id)

    apify.get = unreadable  # type: ignore[method-assign]
    said: list[str] = []
    assert not start(apify, first_try=False, earlier_tries=earlier_tries, warn=said.append).adopted
    assert "left build (no number) (b1) is not known" in said[0]


def test_a_build_that_cannot_be_read_is_no_doubt_once_ours_is_found() -> None:
    apify = times(1, 3)
    build = apify.add(MARK, started=2)
    get = apify.get

    def unreadable(build_id: str, /, *, attempts: int = 8) -> Build:
        if build_id != build.id:
            raise ApiError("down", SERVER)
        return get(build_id)

    apify.get = unreadable  # type: ignore[method-assign]
    assert retry(apify).job == build


@pytest.mark.parametrize("earlier_tries", [False, True])
def test_what_ends_a_try_while_it_looks_says_whether_a_build_may_be_there(earlier_tries: bool) -> None:
    apify = times(1, status="RUNNING")
    apify.stops_at_send = 0
    with pytest.raises(Superseded) as caught:
        start(apify, first_try=False, earlier_tries=earlier_tries)
    assert caught.value.outcome_unknown is earlier_tries


def test_any_error_after_a_lost_answer_says_that_a_build_may_be_there() -> None:
    class Misconfigured(Exception):
        """Such as a connection that was changed meanwhile."""

    apify = Apify(sends=[LOST_AFTER])

    def recent(offset: int, /) -> Sequence[Build]:
        raise Misconfigured

    apify.recent = recent  # type: ignore[method-assign]
    with pytest.raises(Misconfigured) as caught:
        start(apify)
    assert caught.value.outcome_unknown  # type: ignore[attr-defined]


def test_after_a_lost_answer_the_builds_nearest_to_the_request_are_asked_first() -> None:
    """The try may have begun long before it: it was told to slow down."""
    apify = times(*range(1, 60))
    apify.sends = [LOST_AFTER]
    assert start(apify).adopted
    assert apify.calls.count("get") <= 2


def test_a_doubt_that_passes_costs_no_try() -> None:
    apify = Apify(full_lists=False)
    build = apify.add(MARK)
    get, fails = apify.get, [True, True]

    def get_late(build_id: str, /, *, attempts: int = 8) -> Build:
        if fails and fails.pop():
            raise ApiError("down", SERVER)
        return get(build_id)

    apify.get = get_late  # type: ignore[method-assign]
    assert retry(apify).job == build
    assert apify.sent() == 0


def test_a_time_of_another_machine_is_written_down_as_it_was_read() -> None:
    """Else each try would move it by its own clock's error."""
    read = Moment(SINCE.at, Clock.OTHERS)
    assert read.by_apify(7200.0) == read
