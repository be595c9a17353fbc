"""All readers of LOCAL_DIR and the AWS Region use the same value."""

import os
import subprocess
from pathlib import Path

import pytest

from mwaa_local.settings import Settings
from mwaa_release.bucket import aws_client, aws_region
from mwaa_release.repository import REPOSITORY, state_folder


def state_of_make() -> Path:
    # The rule comes after the Makefile's own variables.
    rule = "print-state: ; @echo $(STATE)"
    command = ["make", "--no-print-directory", f"--eval={rule}", "print-state"]
    completed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return REPOSITORY / completed.stdout.strip()


def state_of_bootstrap() -> Path:
    script = (REPOSITORY / ".ci" / "bootstrap.sh").read_text()
    (assignment,) = [line for line in script.splitlines() if line.startswith("state=")]
    completed = subprocess.run(
        ["sh", "-c", f'{assignment}; echo "$state"'], env=os.environ, capture_output=True, text=True, check=True
    )
    return REPOSITORY / completed.stdout.strip()


@pytest.mark.parametrize(
    ("value", "folder"), [(None, ".local"), ("", ".local"), ("elsewhere", "elsewhere"), ("/srv/state", "/srv/state")]
)
def test_make_bootstrap_and_python_use_the_same_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCAL_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("LOCAL_DIR", value)
    folders = {state_folder(), Settings.from_environment().state, state_of_make(), state_of_bootstrap()}
    assert folders == {REPOSITORY / folder}


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
    ],
)
def test_aws_clients_use_both_region_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert aws_region() == region
    assert aws_client("sqs").meta.region_name == region
