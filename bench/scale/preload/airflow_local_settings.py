"""Import once, in the scheduler, what its tasks would each import anew: they are its forks (Celery does the same)."""

import sys

if "scheduler" in sys.argv:
    import airflow_provider_apify.client.worker
    import airflow_provider_apify.hooks.apify
    import airflow_provider_apify.operators.build
    import airflow_provider_apify.triggers.build  # noqa: F401

__all__: list[str] = []
