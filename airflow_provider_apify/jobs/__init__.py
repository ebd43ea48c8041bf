"""What this provider promises about a job on Apify, as logic over injected calls: no Airflow, no I/O."""
