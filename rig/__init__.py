"""
What tests, demo and benchmarks share.

The demo uses ``local_airflow`` and what that imports, so these need nothing but Airflow.

=================  =========================================================================
``local_airflow``  a real Airflow around a block of code
``network``        a certificate, a gate that can be shut, a proxy
``tables``         tables of text
``waiting``        wait until something is true; free ports and open files to wait with
=================  =========================================================================
"""
