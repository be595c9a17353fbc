"""The MWAA stand-in: what Amazon's containers do with a bucket, startup.sh, requirements.txt and Airflow."""
