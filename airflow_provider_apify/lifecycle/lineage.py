"""What OpenLineage learns of a job. Only that provider calls this, so where it is missing nothing is imported."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

#: What of a summary is in the facet, and how Apify and OpenLineage write such names.
_FIELDS = {
    "actor_id": "actorId",
    "actor_name": "actorName",
    "actor_task_id": "actorTaskId",
    "build_id": "buildId",
    "build_number": "buildNumber",
    "run_id": "runId",
    "dataset_id": "datasetId",
    "key_value_store_id": "keyValueStoreId",
    "status": "status",
    "console_url": "consoleUrl",
}


class TellsLineage:
    """For tasks: ``known_job`` is the summary of the task's job, or as much as is known of it; empty for nothing."""

    known_job: Mapping[str, Any] = {}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """
        Give an ``OperatorLineage`` with the run facet ``apify``, also of a task that has failed.

        It names neither inputs nor outputs: these OpenLineage takes from the task's inlets and outlets, and from what
        was written through Airflow's ``ObjectStoragePath``.
        """
        from airflow.providers.openlineage.extractors import OperatorLineage

        known = {facet: self.known_job.get(name) for name, facet in _FIELDS.items()}
        return OperatorLineage(run_facets={"apify": _facet_class()(**known)} if self.known_job else {})


@cache
def _facet_class() -> Any:
    import attr
    from airflow.providers.common.compat.openlineage.facet import RunFacet

    fields = {facet: attr.field(default=None) for facet in _FIELDS.values()}
    return attr.make_class("ApifyJobRunFacet", fields, bases=(RunFacet,))
