"""
Measured claims, each reproduced by one command; ``make bench`` runs them all.

=================================  ==================================================================================
``python -m benchmarks.waiting``   what deferred builds cost and how soon their end is seen, and of two others
``python -m benchmarks.imports``   what a DAG file pays for importing operator and sensor
``python -m benchmarks.start``     what starting a build through the operator adds to the bare request
``python -m benchmarks.growth``    cost against the number of builds, and memory and descriptors over time
``python -m benchmarks.plots``     drawings of their results
=================================  ==================================================================================

Each prints tables and leaves its results in ``benchmarks/results/``.
"""
