"""
Measured claims, each reproduced by one command; ``make bench`` runs all but ``results`` and ``scale``.

============================  =======================================================================================
``python -m bench.waiting``   what deferred builds cost and how soon their end is seen, and of two others
``python -m bench.imports``   what a DAG file pays for importing operator and sensor
``python -m bench.start``     what starting a build through the operator adds to the bare request
``python -m bench.results``   datasets of any size to a disk and to S3 (``make bench-results``)
``python -m bench.growth``    cost against the number of builds, and memory and descriptors over time
``python -m bench.plots``     drawings of their results
``python -m bench.scale``     a thousand builds in one triggerer, Airflow on Celery with a triggerer lost, short builds
============================  =======================================================================================

Each prints tables and leaves its results in ``bench/results/``.
"""
