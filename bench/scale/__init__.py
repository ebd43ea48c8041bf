"""How far the provider goes in a whole Airflow: ``python -m bench.scale``."""
