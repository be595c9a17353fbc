"""The workflows are safe: pinned actions, least permissions, time limits, and no untrusted value in a shell."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

GITHUB = Path(__file__).parents[3] / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))

# Dependabot updates the SHA and the version in the comment together.
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def load(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text())


def jobs() -> list[Any]:
    return [
        pytest.param(path.name, name, job, id=f"{path.stem}-{name}")
        for path in WORKFLOWS
        for name, job in load(path)["jobs"].items()
    ]


def steps(path: Path) -> list[dict[str, Any]]:
    content = load(path)
    if "runs" in content:
        return content["runs"]["steps"]
    return [step for job in content["jobs"].values() for step in job.get("steps", [])]


def test_documented_workflows_exist():
    assert {path.stem for path in WORKFLOWS} >= {"ci", "release", "apply", "rollback"}


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_actions_are_pinned_by_sha_with_their_version(path):
    for line in path.read_text().splitlines():
        action = re.search(r"\buses: (.+)", line)
        if action and not action[1].startswith("./"):
            assert PINNED.fullmatch(action[1]), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_grant_nothing_by_default_and_expose_no_secret(path):
    content = load(path)
    assert content["permissions"] == {}
    # YAML 1.1 reads the key `on` as true.
    triggers = content[True]
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers)
    assert "secrets." not in path.read_text()


@pytest.mark.parametrize(("file", "name", "job"), jobs())
def test_jobs_have_a_time_limit_and_least_permissions(file, name, job):
    if name == "comment":
        assert job["permissions"] == {"pull-requests": "write"}
        # A job with a write permission runs no code of the pull request.
        assert not any("checkout" in step.get("uses", "") or "./" in step.get("uses", "") for step in job["steps"])
        assert "head.repo.full_name == github.repository" in job["if"]
        return
    assert set(job["permissions"].items()) <= {("contents", "read"), ("id-token", "write")}
    if "uses" in job:
        return
    assert job["timeout-minutes"] <= 120
    assumes_role = any("configure-aws-credentials" in step.get("uses", "") for step in job["steps"])
    publishes = any(step.get("run", "").startswith("uv publish --trusted-publishing always") for step in job["steps"])
    assert ("id-token" in job["permissions"]) == (assumes_role or publishes)
    # A role, or the right to publish, belongs to an environment, whose reviewers and branches protect it.
    assert ("environment" in job) == (assumes_role or publishes)


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shell_steps_have_no_expression_and_no_pipe(path):
    for step in steps(path):
        run = step.get("run", "")
        assert "${{" not in run, run
        assert "|" not in run, run
        assert len(run.splitlines()) <= 1, "put logic into a Python module, which also runs on a laptop"


def test_steps_use_only_make_and_installed_modules():
    # A copy of the template has no packages/, so no step can call a script of the repository.
    commands = re.compile(
        r"(\.local/venvs/tools/bin/python -m workbench[. ]summary \w+ -- )?"
        r"(make [\w-]+|\.local/venvs/tools/bin/python -m (?P<module>[\w.]+).*)"
    )
    exceptions = ("cat summaries/*.md", "gh pr comment", "uv publish")
    for path in WORKFLOWS + ACTIONS:
        for run in (step["run"] for step in steps(path) if "run" in step):
            match = commands.fullmatch(run)
            assert match or run.startswith(exceptions), f"{path.name}: {run}"
            if match and match["module"]:
                assert importlib.util.find_spec(match["module"]), f"{path.name}: {run}"


def test_pull_requests_are_checked_without_credentials():
    ci = load(GITHUB / "workflows" / "ci.yml")
    assert set(ci[True]) == {"pull_request", "merge_group"}
    assert not any("id-token" in job["permissions"] for job in ci["jobs"].values())
    assert all(job["permissions"] == {"contents": "read"} for name, job in ci["jobs"].items() if name != "comment")
    assert ci["concurrency"]["cancel-in-progress"] is True


def test_releases_run_one_at_a_time_and_reach_prod_after_dev():
    release = load(GITHUB / "workflows" / "release.yml")
    assert release["concurrency"] == {"group": "release", "cancel-in-progress": False}
    assert release[True] == {"push": {"branches": ["main"]}, "workflow_dispatch": None}
    assert release["jobs"]["dev"]["needs"] == "build"
    assert release["jobs"]["dev"]["with"] == {"environment": "dev", "smoke": True}
    assert release["jobs"]["prod"]["needs"] == "dev"


def test_rollback_does_not_wait_for_a_release():
    rollback, release = (load(GITHUB / "workflows" / f"{name}.yml") for name in ("rollback", "release"))
    assert rollback["concurrency"] == {"group": "rollback-${{ inputs.environment }}", "cancel-in-progress": False}
    assert not rollback["concurrency"]["group"].startswith(release["concurrency"]["group"])


def test_checkouts_keep_no_token():
    for path in WORKFLOWS:
        for step in steps(path):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
