"""The release and rollback workflows, step by step as GitHub runs them, against the AWS stand-in.

The steps come from the YAML. A step, or an expression in it, that is not known here fails the test.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.bucket import Bucket

REPOSITORY = Path(__file__).parents[3]


def copy_repository(target: Path) -> None:
    """What git has, or would take, of this repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, target / name)


class Runner:
    """Runs the jobs of a workflow, each in a checkout of its own."""

    def __init__(self, source: Path, work: Path, aws, variables: dict[str, dict[str, str]]) -> None:
        self.source, self.work, self.aws, self.variables = source, work, aws, variables
        self.artifacts: dict[str, Path] = {}
        self.roles: list[str] = []
        self.summary = ""

    def run(self, workflow: str, inputs: dict[str, str] | None = None) -> None:
        content = yaml.safe_load((self.source / ".github/workflows" / workflow).read_text())
        done: set[str] = set()
        waiting = dict(content["jobs"])
        while waiting:
            name = next(name for name, job in waiting.items() if set(self._needs(job)) <= done)
            job = waiting.pop(name)
            if "uses" in job:
                assert job["uses"].startswith("./.github/workflows/")
                self.run(Path(job["uses"]).name, job["with"])
            else:
                self._job(job, inputs or {})
            done.add(name)

    @staticmethod
    def _needs(job: dict[str, Any]) -> list[str]:
        needs = job.get("needs", [])
        return [needs] if isinstance(needs, str) else needs

    def _job(self, job: dict[str, Any], inputs: dict[str, str]) -> None:
        checkout = self.work / secrets.token_hex(4)
        environment = self._filled(job.get("environment", ""), inputs, {})
        variables = self.variables.get(environment, {})
        shell = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LOCAL_", "DEPLOY_"))
        }
        for step in job["steps"]:
            with_ = {name: self._filled(value, inputs, variables) for name, value in step.get("with", {}).items()}
            if "run" in step:
                extra = {name: self._filled(value, inputs, variables) for name, value in step.get("env", {}).items()}
                self._shell(step["run"], checkout, shell | extra)
                continue
            action = step["uses"].split("@")[0]
            if action == "actions/checkout":
                shutil.copytree(self.source, checkout)
                # GitHub's machine installs the tools; here they are there, and `make deps` finds them so.
                (checkout / ".local/venvs").mkdir(parents=True)
                (checkout / ".local/venvs/tools").symlink_to(sys.prefix)
                with (checkout / "requirements/tools.txt").open("rb") as tools:
                    wanted = subprocess.run(["cksum"], stdin=tools, capture_output=True, check=True)
                assert Path(sys.prefix, ".ready").read_bytes() == wanted.stdout, "the tools are out of date: make deps"
            elif action == "./.github/actions/setup":
                for inner in yaml.safe_load((checkout / action / "action.yml").read_text())["runs"]["steps"]:
                    if "run" in inner:
                        self._shell(inner["run"], checkout, shell)
                    else:
                        assert inner["uses"].startswith("astral-sh/setup-uv@")
            elif action == "actions/upload-artifact":
                hidden = with_.get("include-hidden-files")
                self.artifacts[with_["name"]] = self.work / f"artifact-{secrets.token_hex(4)}"
                ignore = None if hidden else shutil.ignore_patterns(".*")
                shutil.copytree(checkout / with_["path"], self.artifacts[with_["name"]], ignore=ignore)
            elif action == "actions/download-artifact":
                shutil.copytree(self.artifacts[with_["name"]], checkout / with_["path"])
            elif action == "aws-actions/configure-aws-credentials":
                assert job["permissions"]["id-token"] == "write"
                assert with_["allowed-account-ids"] == "123456789012"
                self.roles.append(with_["role-to-assume"])
                shell |= self.aws.environment()
            else:
                pytest.fail(f"this test does not know the action {action}")

    def _shell(self, command: str, checkout: Path, environment: dict[str, str]) -> None:
        summary = self.work / "summary"
        done = subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=checkout,
            env=environment | {"GITHUB_STEP_SUMMARY": str(summary)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        self.summary = summary.read_text() if summary.exists() else ""

    @staticmethod
    def _filled(value: Any, inputs: dict[str, str], variables: dict[str, str]) -> Any:
        if not isinstance(value, str):
            return value

        def fill(match: re.Match[str]) -> str:
            context, _, name = match[1].partition(".")
            if context == "inputs":
                return inputs.get(name, "")
            assert context == "vars", f"this test does not know {match[0]}"
            return variables.get(name, "")

        return re.sub(r"\$\{\{ (\S+) \}\}", fill, value)


@pytest.fixture
def buckets(s3) -> dict[str, Bucket]:
    made = {}
    for environment in ("dev", "prod"):
        made[environment] = Bucket(f"{environment}-{secrets.token_hex(6)}", s3)
        s3.create_bucket(Bucket=made[environment].name)
    return made


def test_a_merge_reaches_dev_and_prod_with_the_same_bytes_and_rolls_back(
    tmp_path, aws, buckets, contents, live_release
):
    source = tmp_path / "source"
    copy_repository(source)
    runner = Runner(
        source,
        tmp_path,
        aws,
        {
            environment: {
                "AWS_REGION": "us-east-1",
                "AWS_ACCOUNT_ID": "123456789012",
                "DEPLOY_ROLE_ARN": f"role of {environment}",
                "DEPLOY_BUCKET": bucket.name,
            }
            for environment, bucket in buckets.items()
        },
    )
    runner.run("release.yml")
    assert runner.roles == ["role of dev", "role of prod"]
    first = {environment: contents(bucket) for environment, bucket in buckets.items()}
    assert first["dev"] == first["prod"]
    assert first["dev"]["dags/.airflowignore"] == (source / "dags/.airflowignore").read_bytes()
    assert first["dev"]["startup.sh"] == (source / "startup.sh").read_bytes()
    release = live_release(buckets["prod"])
    assert release in runner.summary
    assert (
        first["dev"][f"dags/dbt/flights/{release}/dbt_project.yml"]
        == (source / "dbt_project/dbt_project.yml").read_bytes()
    )

    (source / "dbt_project/models/one_more.sql").write_text("select 1 as id\n")
    runner.run("release.yml")
    second = live_release(buckets["prod"])
    assert second != release
    assert contents(buckets["prod"])[f"dags/dbt/flights/{second}/models/one_more.sql"] == b"select 1 as id\n"

    runner.run("rollback.yml", {"environment": "prod", "project": "flights"})
    assert live_release(buckets["prod"]) == release
    assert live_release(buckets["dev"]) == second
    runner.run("rollback.yml", {"environment": "prod", "project": "flights", "release": second})
    assert live_release(buckets["prod"]) == second
