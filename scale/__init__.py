"""How far the provider goes: a thousand builds in one triggerer, and Airflow on Celery with a triggerer lost."""
