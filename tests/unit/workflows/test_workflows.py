"""The workflows give away nothing: pinned actions, least permissions, time limits, no value from outside in a shell."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

GITHUB = Path(__file__).parents[3] / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))

# Each was looked up once; a newer one comes by Dependabot with its version in the comment.
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


def test_there_are_the_workflows_that_the_manual_speaks_of():
    assert {path.stem for path in WORKFLOWS} >= {"ci", "release", "apply", "rollback"}


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_action_is_pinned_by_sha_with_its_version(path):
    for line in path.read_text().splitlines():
        used = re.search(r"\buses: (.+)", line)
        if used and not used[1].startswith("./"):
            assert PINNED.fullmatch(used[1]), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_is_permitted_by_default_and_no_trigger_runs_foreign_code_with_secrets(path):
    content = load(path)
    assert content["permissions"] == {}
    # YAML 1.1 reads the key `on` as true.
    triggers = content[True]
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers)
    assert "secrets." not in path.read_text()


@pytest.mark.parametrize(("file", "name", "job"), jobs())
def test_a_job_has_a_time_limit_and_only_the_permissions_it_uses(file, name, job):
    if name == "comment":
        assert job["permissions"] == {"pull-requests": "write"}
        # Who may write runs nothing of what was sent in.
        assert not any("checkout" in step.get("uses", "") or "./" in step.get("uses", "") for step in job["steps"])
        assert "head.repo.full_name == github.repository" in job["if"]
        return
    assert set(job["permissions"].items()) <= {("contents", "read"), ("id-token", "write")}
    if "uses" in job:
        return
    assert job["timeout-minutes"] <= 120
    takes_role = any("configure-aws-credentials" in step.get("uses", "") for step in job["steps"])
    assert ("id-token" in job["permissions"]) == takes_role
    # A role is an environment's, so its reviewers and branches stand before it.
    assert ("environment" in job) == takes_role


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_value_is_pasted_into_a_shell_and_no_failure_hides_in_a_pipe(path):
    for step in steps(path):
        run = step.get("run", "")
        assert "${{" not in run, run
        assert "|" not in run, run
        assert len(run.splitlines()) <= 1, "logic belongs into the release tool, where it runs on a laptop too"


def test_pull_requests_need_no_credentials_and_releases_never_overlap():
    ci, release, rollback = (load(GITHUB / "workflows" / f"{name}.yml") for name in ("ci", "release", "rollback"))
    assert set(ci[True]) == {"pull_request", "merge_group"}
    assert not any("id-token" in job["permissions"] for job in ci["jobs"].values())
    assert all(job["permissions"] == {"contents": "read"} for name, job in ci["jobs"].items() if name != "comment")
    assert ci["concurrency"]["cancel-in-progress"] is True
    for content in (release, rollback):
        assert content["concurrency"] == {"group": "release", "cancel-in-progress": False}
    assert release[True] == {"push": {"branches": ["main"]}}
    assert release["jobs"]["prod"]["needs"] == "dev"
    # What prod gets has run on dev.
    assert release["jobs"]["dev"]["with"] == {"environment": "dev", "smoke": True}
    assert release["jobs"]["dev"]["needs"] == "build"


def test_checkouts_leave_no_token_behind():
    for path in WORKFLOWS:
        for step in steps(path):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
