"""
Apache Airflow provider for Apify: build and run Actors, wait for builds and runs, bring what they scraped on.

What DAGs use can be imported from here. It is loaded when it is first used: Airflow imports this package in each of its
components, and most of them need none of it.
"""

TYPE_CHECKING = False  # Importing typing for it would cost more than all of this.
if TYPE_CHECKING:
    from airflow_provider_apify._version import __version__
    from airflow_provider_apify.hooks.apify import ApifyHook
    from airflow_provider_apify.operators.build import ApifyBuildOperator
    from airflow_provider_apify.operators.run import ApifyRunActorOperator, ApifyRunTaskOperator
    from airflow_provider_apify.operators.tag import ApifyTagBuildOperator
    from airflow_provider_apify.sensors.build import ApifyBuildSensor
    from airflow_provider_apify.sensors.run import ApifyRunSensor
    from airflow_provider_apify.transfers.dataset_to_object_storage import ApifyDatasetToObjectStorageOperator
    from airflow_provider_apify.triggers.build import ApifyBuildTrigger
    from airflow_provider_apify.triggers.capacity import ApifyCapacityTrigger
    from airflow_provider_apify.triggers.events import ApifyBuildsEventTrigger, ApifyRunsEventTrigger
    from airflow_provider_apify.triggers.run import ApifyRunTrigger

__all__ = [
    "ApifyBuildOperator",
    "ApifyBuildSensor",
    "ApifyBuildTrigger",
    "ApifyBuildsEventTrigger",
    "ApifyCapacityTrigger",
    "ApifyDatasetToObjectStorageOperator",
    "ApifyHook",
    "ApifyRunActorOperator",
    "ApifyRunSensor",
    "ApifyRunTaskOperator",
    "ApifyRunTrigger",
    "ApifyRunsEventTrigger",
    "ApifyTagBuildOperator",
    "__version__",
]

_HOMES = {
    "ApifyBuildOperator": "operators.build",
    "ApifyBuildSensor": "sensors.build",
    "ApifyBuildTrigger": "triggers.build",
    "ApifyBuildsEventTrigger": "triggers.events",
    "ApifyCapacityTrigger": "triggers.capacity",
    "ApifyDatasetToObjectStorageOperator": "transfers.dataset_to_object_storage",
    "ApifyHook": "hooks.apify",
    "ApifyRunActorOperator": "operators.run",
    "ApifyRunSensor": "sensors.run",
    "ApifyRunTaskOperator": "operators.run",
    "ApifyRunTrigger": "triggers.run",
    "ApifyRunsEventTrigger": "triggers.events",
    "ApifyTagBuildOperator": "operators.tag",
    "__version__": "_version",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
