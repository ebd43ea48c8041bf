"""What an account may use at the same time, and what it uses now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_apify.api import fields
from airflow_provider_apify.api.endpoints import Request


@dataclass(frozen=True)
class Account:
    """
    Memory and jobs of an account, a moment ago.

    :param most_mbytes: memory that all its unfinished builds and runs may take, in MB.
    :param free_mbytes: what is left of it.
    :param free_jobs: how many more may be unfinished; ``inf`` where Apify does not say.
    """

    most_mbytes: float
    free_mbytes: float
    free_jobs: float

    @classmethod
    def from_api(cls, data: object) -> Account:
        """
        Parse what Apify answers to :func:`get_limits`.

        :raises ValueError: it says nothing of the memory.
        """
        limits, current = (
            fields.mapping(data, name) or {} if isinstance(data, Mapping) else {} for name in ("limits", "current")
        )
        most, used = fields.number(limits, "maxActorMemoryGbytes"), fields.number(current, "actorMemoryGbytes")
        if most is None or used is None:
            raise ValueError("maxActorMemoryGbytes, actorMemoryGbytes")
        jobs, active = fields.number(limits, "maxConcurrentActorJobs"), fields.number(current, "activeActorJobCount")
        return cls(
            most_mbytes=most * 1024,
            free_mbytes=(most - used) * 1024,
            free_jobs=math.inf if jobs is None or active is None else jobs - active,
        )

    def has_room(self, mbytes: float) -> bool:
        """Whether one more job can start that takes this memory."""
        return mbytes <= self.free_mbytes and self.free_jobs >= 1


def get_limits() -> Request:
    """Ask for the account's limits and usage (https://docs.apify.com/api/v2/users-me-limits-get)."""
    return Request("GET", "/v2/users/me/limits")
