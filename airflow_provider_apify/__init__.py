"""Apache Airflow provider for Apify: build Actors, wait for the builds, pass on their ids and stats."""

__version__ = "0.1.0"
