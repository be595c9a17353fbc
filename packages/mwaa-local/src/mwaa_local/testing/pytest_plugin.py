"""pytest fixtures of the stand-ins, for everyone who has this package installed: `aws`, `airflow_python`, `browser`."""

from mwaa_local.testing.airflow import airflow_python
from mwaa_local.testing.aws import aws
from mwaa_local.testing.browser import browser

__all__ = ["airflow_python", "aws", "browser"]
