"""Runs the workflows of `.github/` as GitHub does. An unknown step fails."""

import os
import re
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from mwaa_local.aws.roles import GITHUB_REPOSITORY, job_session, keys
from mwaa_local.testing.aws import Aws


@dataclass
class Runner:
    """Runs the jobs of a workflow, each in a new checkout.

    Args:
        source: the repository.
        work: a folder for checkouts and artifacts.
        aws: the AWS stand-in.
        variables: the variables of each GitHub environment.
        event: the values of `github.…` by full name.
        extra: more environment variables for every step.
        repository: the repository's name in the subject of GitHub's token.
    """

    source: Path
    work: Path
    aws: Aws
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    event: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)
    roles: list[str] = field(default_factory=list)
    summary: str = ""
    repository: str = GITHUB_REPOSITORY

    def run(self, workflow: str, inputs: dict[str, str] | None = None) -> None:
        """Run a workflow. A failed step fails the test."""
        content = yaml.safe_load((self.source / ".github/workflows" / workflow).read_text())
        completed: set[str] = set()
        waiting = dict(content["jobs"])
        while waiting:
            name = next(name for name, job in waiting.items() if set(self._needs(job)) <= completed)
            job = waiting.pop(name)
            completed.add(name)
            if not self.wanted(job):
                continue
            if "uses" in job:
                assert job["uses"].startswith("./.github/workflows/")
                self.run(Path(job["uses"]).name, job["with"])
            else:
                self._job(job, inputs or {})

    @staticmethod
    def _needs(job: dict[str, Any]) -> list[str]:
        needs = job.get("needs", [])
        return [needs] if isinstance(needs, str) else needs

    def wanted(
        self, part: dict[str, Any], variables: dict[str, str] | None = None, inputs: dict[str, Any] | None = None
    ) -> bool:
        """Evaluate an `if`: comparisons, values, alternatives in parentheses and known functions, joined by &&."""
        condition = str(part.get("if", "")).removeprefix("${{ ").removesuffix(" }}")
        for term in filter(None, condition.split(" && ")):
            # All steps succeed in a test, so both are true.
            if term in ("!cancelled()", "always()"):
                continue
            left, _, right = term.removeprefix("(").removesuffix(")").partition(" == ")
            value = self._value(left, inputs or {}, variables or {})
            if (value != self._value(right, {}, variables or {})) if right else not value:
                return False
        return True

    def _job(self, job: dict[str, Any], inputs: dict[str, str]) -> None:
        checkout = self.work / secrets.token_hex(4)
        checkout.mkdir()
        environment = self._filled(job.get("environment", ""), inputs, {})
        variables = self.variables.get(environment, {})
        shell = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LOCAL_", "DEPLOY_"))
        } | self.extra
        for step in job["steps"]:
            if self.wanted(step, variables, inputs):
                self._step(step, job, checkout, shell, inputs, variables)

    @staticmethod
    def _tools_are_ready(checkout: Path) -> bool:
        """Return whether the tools are up to date. Otherwise `make deps` would change the environment of the tests."""
        environment = {name: value for name, value in os.environ.items() if name != "LOCAL_DIR"}
        return subprocess.run([checkout / ".ci/bootstrap.sh", "--check"], env=environment, check=False).returncode == 0

    def _step(
        self,
        step: dict[str, Any],
        job: dict[str, Any],
        checkout: Path,
        shell: dict[str, str],
        inputs: dict[str, str],
        variables: dict[str, str],
    ) -> None:
        with_ = {name: self._filled(value, inputs, variables) for name, value in step.get("with", {}).items()}
        if "run" in step:
            extra = {name: self._filled(value, inputs, variables) for name, value in step.get("env", {}).items()}
            self._shell(step["run"], checkout, shell | extra)
            return
        action = step["uses"].split("@")[0]
        if action == "actions/checkout":
            shutil.copytree(self.source, checkout, dirs_exist_ok=True)
            # GitHub's runner installs the tools. Here `make deps` finds the installed tools.
            (checkout / ".local/venvs").mkdir(parents=True)
            (checkout / ".local/venvs/tools").symlink_to(sys.prefix)
            (checkout / ".local/venvs/scan").symlink_to(Path(sys.prefix).with_name("scan"))
            assert self._tools_are_ready(checkout), "the tools are out of date: make deps"
        elif action.startswith("./.github/actions/"):
            content = yaml.safe_load((checkout / action / "action.yml").read_text())
            for inner in content["runs"]["steps"]:
                self._step(inner, job, checkout, shell, with_, variables)
        elif action == "astral-sh/setup-uv":
            assert with_["enable-cache"] is False
        elif action == "actions/upload-artifact":
            self._upload(checkout / with_["path"], with_)
        elif action == "actions/download-artifact":
            pattern = with_.get("pattern", with_.get("name"))
            paths = [path for name, path in self.artifacts.items() if Path(name).match(pattern)]
            assert paths, pattern
            for path in paths:
                shutil.copytree(path, checkout / with_["path"], dirs_exist_ok=True)
        elif action == "aws-actions/configure-aws-credentials":
            assert job["permissions"]["id-token"] == "write"
            assert with_["allowed-account-ids"] == "123456789012"
            self.roles.append(with_["role-to-assume"])
            subject = f"repo:{self.repository}:environment:{self._filled(job['environment'], inputs, variables)}"
            shell |= self.aws.environment() | keys(job_session(self.aws.settings, with_["role-to-assume"], subject))
        else:
            pytest.fail(f"this test does not know the action {action}")

    def _upload(self, path: Path, with_: dict[str, Any]) -> None:
        target = self.artifacts[with_["name"]] = self.work / f"artifact-{secrets.token_hex(4)}"
        if path.is_dir():
            ignore = None if with_.get("include-hidden-files") else shutil.ignore_patterns(".*")
            shutil.copytree(path, target, ignore=ignore)
        else:
            target.mkdir()
            shutil.copy(path, target)

    def _shell(self, command: str, checkout: Path, environment: dict[str, str]) -> None:
        summary = self.work / "summary"
        completed = subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=checkout,
            env=environment | {"GITHUB_STEP_SUMMARY": str(summary)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 0, f"{command}\n{completed.stdout}\n{completed.stderr}"
        self.summary = summary.read_text() if summary.exists() else ""

    def _filled(self, value: Any, inputs: dict[str, str], variables: dict[str, str]) -> Any:
        if not isinstance(value, str):
            return value
        return re.sub(r"\$\{\{ (.+?) \}\}", lambda match: self._value(match[1], inputs, variables), value)

    def _value(self, expression: str, inputs: dict[str, str], variables: dict[str, str]) -> str:
        if expression.startswith("'"):
            return expression.strip("'")
        first, _, second = expression.partition(" || ")
        if second:
            return self._value(first, inputs, variables) or self._value(second, inputs, variables)
        context, _, name = expression.partition(".")
        known = {"inputs": inputs, "vars": variables}
        if context in known:
            return known[context].get(name, "")
        assert expression in self.event, f"this test does not know {expression}"
        return self.event[expression]
