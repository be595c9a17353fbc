"""Wheels in S3 replace the package index: startup.sh downloads them, and requirements.txt is complete."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mwaa_local.mwaa.image import LOCK
from mwaa_local.settings import REPOSITORY
from mwaa_local.testing.aws import Aws

BUCKET = "wheels-of-the-tests"
# `python3 -` downloads the wheels. All other Python commands fail at once.
PYTHON = f'#!/bin/bash\n[ "$1" = - ] && exec {sys.executable} "$@"\nexit 1\n'

# Packages of 001-install-required-pip-packages.sh in aws/amazon-mwaa-docker-images (3.3.1, read 2026-11). Its bill of
# materials also lists msgpack.
IMAGE = [
    *("apache-airflow", "apache-airflow-providers-amazon", "apache-airflow-providers-postgres"),
    *("apache-airflow-providers-standard", "msgpack", "psycopg2-binary", "virtualenv"),
]
# Prints the dependencies of the image and of Cosmos.
CLOSURES = """
import importlib.metadata, json, sys
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

def closure(names):
    names_seen, waiting = set(), list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in names_seen:
            names_seen.add(name)
            for text in importlib.metadata.requires(name) or ():
                requirement = Requirement(text)
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    waiting.append(requirement.name)
    return sorted(names_seen)

json.dump([closure(json.loads(sys.argv[1])), closure(["astronomer-cosmos"])], sys.stdout)
"""


def start(aws: Aws, home: Path, address: str) -> subprocess.CompletedProcess[str]:
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python3").write_text(PYTHON)
    (home / "bin" / "python3").chmod(0o755)
    container = {"AIRFLOW_HOME": str(home), "MWAA_AIRFLOW_COMPONENT": "worker", "AIRFLOW__DBT__WHEELS": address}
    return subprocess.run(
        [shutil.which("bash"), "-c", "source startup.sh; echo alive"],
        cwd=REPOSITORY,
        env={**aws.environment(), **container, "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture
def s3(aws: Aws):
    client = aws.client("s3")
    client.create_bucket(Bucket=BUCKET)
    return client


def test_startup_downloads_the_wheels_of_dbt_and_of_requirements(aws: Aws, s3, tmp_path: Path) -> None:
    needed = ["dbt/dbt_redshift-1.11.1-py3-none-any.whl", "dbt/jinja2-3.1.6-py3-none-any.whl"]
    needed += ["requirements/aenum-3.1.17-py3-none-any.whl"]
    for name in [*needed, "dbt/dbt_redshift-1.10.0-py3-none-any.whl"]:
        s3.put_object(Bucket=BUCKET, Key=f"wheels/{name}", Body=name.encode())
    assert "alive" in start(aws, tmp_path, f"s3://{BUCKET}/wheels").stdout
    downloaded = {path.name: path.read_text() for path in (tmp_path / "wheels").iterdir()}
    assert downloaded == {Path(name).name: name for name in needed}


def test_startup_error_names_the_folder_without_wheels(aws: Aws, s3, tmp_path: Path) -> None:
    for address, words in (
        (f"s3://{BUCKET}/nothing", f"s3://{BUCKET}/nothing is empty; release what this command builds: "),
        ("s3://no-such-bucket/wheels", "The specified bucket does not exist"),
    ):
        home = tmp_path / address.rpartition("/")[2]
        assert "alive" in start(aws, home, address).stdout
        error = (home / "dbt_venv.error").read_text()
        assert f"the wheels in {address} could not be downloaded: " in error
        assert words in error


def test_requirements_pin_every_package_that_the_image_lacks(airflow_python: Path) -> None:
    command = [airflow_python, "-c", CLOSURES, json.dumps(IMAGE)]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    image, cosmos = (set(names) for names in json.loads(completed.stdout))
    text = (REPOSITORY / "requirements.txt").read_text()
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", text, re.MULTILINE))
    assert set(pinned) >= cosmos - image
    # MWAA constrains pip to the versions of its image.
    constraints = dict(re.findall(r"^([\w-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))
    assert {name: version for name, version in pinned.items() if constraints.get(name, version) != version} == {}
