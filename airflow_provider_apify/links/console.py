"""The button from a task to its job in Apify Console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey


class ApifyConsoleLink(BaseOperatorLink):
    """
    The page of the task's job. There from the moment the job is known, while the task waits and after it.

    Airflow asks the worker for the link whenever the task leaves it, and shows what it then put into XCom.
    """

    name = "Apify Console"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Give what this process knows, else what an earlier one (before a deferral) has stored."""
        known = getattr(operator, "console_url", None)
        if known is not None:
            return str(known)
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""
