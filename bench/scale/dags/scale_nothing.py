"""The same shape without builds: what Airflow itself takes to start, defer and resume a task."""

import os
from datetime import timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator


class DeferOnly(BaseOperator):
    """Defer for a while, then succeed."""

    def __init__(self, *, number: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def execute(self, context: Any) -> None:
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=10)), method_name="resume")

    def resume(self, context: Any, event: Any = None) -> int:
        return self.number


with DAG("scale_nothing", schedule=None, max_active_tasks=10_000):
    DeferOnly.partial(task_id="nothing").expand(number=list(range(int(os.environ["SCALE_NOTHING"]))))
