"""A job of Apify's inside an Airflow task, of whatever kind: started once, held, waited for, its outcome passed on."""
