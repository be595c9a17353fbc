"""The MWAA stand-in: runs startup.sh, requirements.txt and Airflow from a bucket, as Amazon's containers do."""
