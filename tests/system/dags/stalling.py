"""A trigger that blocks the event loop of the triggerer, as a badly written one of somebody else does."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent


class StallingTrigger(BaseTrigger):
    """
    Block the loop until somebody makes the file ``<name>.go-on`` in Airflow's home.

    Only the first to run it does so, and leaves ``<name>.stalled`` behind: a triggerer that takes it over goes on.
    """

    def __init__(self, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "stalling.StallingTrigger", {"name": self.name}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        home = Path(os.environ["AIRFLOW_HOME"])
        try:
            (home / f"{self.name}.stalled").touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            deadline = time.monotonic() + 120
            while not (home / f"{self.name}.go-on").exists() and time.monotonic() < deadline:
                time.sleep(0.1)  # noqa: ASYNC251
        yield TriggerEvent("went on")  # type: ignore[no-untyped-call]


class StallingOperator(BaseOperator):
    template_fields = ("name",)

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name

    def execute(self, context: Any) -> None:
        self.defer(trigger=StallingTrigger(self.name), method_name="go_on")

    def go_on(self, context: Any, event: str) -> str:
        return event
