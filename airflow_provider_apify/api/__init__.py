"""What Apify says: requests, answers and errors as values, and what may be sent again. No Airflow, no I/O."""
