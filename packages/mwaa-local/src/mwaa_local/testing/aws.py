"""Fixtures: the AWS stand-in, started once per test session on a free port."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from mwaa_local.settings import REPOSITORY, Settings
from redshift_local.pytest_plugin import free_port


@dataclass(frozen=True)
class Aws:
    """A running `python -m mwaa_local aws`."""

    settings: Settings
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """The address of the stand-in."""
        return self.settings.aws_url

    def environment(self) -> dict[str, str]:
        """Return the variables that point boto3 to the stand-in and to nothing else."""
        return self.settings.aws_environment()

    def client(self, service: str, **options: Any) -> Any:
        """Return a boto3 client of `service` with boto3's options."""
        environment = self.environment()
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=environment["AWS_REGION"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            **options,
        )


@contextmanager
def running_aws(state: Path, airflow_port: int = 1, warehouse_port: int = 2) -> Iterator[Aws]:
    """Start a stand-in on a free port with its files under `state`, and stop it at the end."""
    port = free_port()
    settings = Settings(state=state, warehouse_port=warehouse_port, aws_port=port, airflow_port=airflow_port)
    numbers = {"LOCAL_AWS_PORT": port, "LOCAL_AIRFLOW_PORT": airflow_port, "LOCAL_WAREHOUSE_PORT": warehouse_port}
    ports = {name: str(number) for name, number in numbers.items()}
    with open(state / "aws.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mwaa_local", "aws", "--with-parent"],
            cwd=REPOSITORY,
            env={**os.environ, **ports, "LOCAL_DIR": str(state), "TMPDIR": str(state)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert settings.aws_url in line, f"{line}\n{(state / 'aws.log').read_text()}"
        yield Aws(settings, process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """The AWS stand-in that all tests share. Delete your resources or give them unique names."""
    with running_aws(tmp_path_factory.mktemp("aws")) as running:
        yield running
