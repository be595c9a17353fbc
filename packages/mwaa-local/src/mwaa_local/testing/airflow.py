"""Fixture: the Python environment of Airflow, which the stand-ins use: Amazon's image and requirements.txt."""

from pathlib import Path

import pytest

from mwaa_local.mwaa.environment import Mwaa
from mwaa_local.processes import base_environment
from mwaa_local.settings import REPOSITORY, Passwords, Settings
from mwaa_local.testing.aws import Aws
from mwaa_local.testing.state import STATE

BUCKET = "airflow-environment-of-the-tests"


@pytest.fixture(scope="session")
def airflow_python(aws: Aws) -> Path:
    """The Python with Airflow and Cosmos, in the state folder. The first use installs it."""
    settings = Settings(state=STATE, warehouse_port=1, aws_port=aws.settings.aws_port, airflow_port=1)
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="requirements.txt", Body=(REPOSITORY / "requirements.txt").read_bytes())
    mwaa = Mwaa(settings, Passwords("", "", "", "", ""), s3, BUCKET)
    mwaa.home.mkdir(parents=True, exist_ok=True)
    mwaa.install_image()
    mwaa.install_requirements(base_environment())
    return mwaa.venv / "bin" / "python"
