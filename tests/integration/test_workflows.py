"""The workflows run step by step, as on GitHub, against the stand-ins.

The steps come from the YAML. An unknown step or expression fails the test.
"""

import os
import secrets
import subprocess
from pathlib import Path

import pytest
import yaml
from botocore.exceptions import ClientError

from mwaa_local.aws.roles import GITHUB_REPOSITORY, PROVIDER, make
from mwaa_local.settings import Settings
from mwaa_local.testing.checkout import copy_repository
from mwaa_local.testing.state import STATE
from mwaa_local.testing.workflows import Runner
from mwaa_release.bucket import Bucket
from redshift_local.pytest_plugin import free_port
from workbench.scan import environment as scanners


@pytest.fixture
def buckets(s3) -> dict[str, Bucket]:
    created = {}
    for environment in ("dev", "prod"):
        created[environment] = Bucket(f"{environment}-{secrets.token_hex(6)}", s3)
        s3.create_bucket(Bucket=created[environment].name)
    return created


def test_merge_is_released_to_dev_and_prod_and_can_be_rolled_back(tmp_path, aws, buckets, contents, live_release):
    source = tmp_path / "source"
    copy_repository(source)
    credentials = {
        environment: make(
            aws.client("iam"),
            "github.yml",
            Name=f"t{secrets.token_hex(4)}",
            Repository=GITHUB_REPOSITORY,
            OwnerId="1234",
            RepositoryId="5678",
            GitHubEnvironment=environment,
            ProviderArn=PROVIDER,
            DagsBucketName=bucket.name,
            KeyArn="arn:aws:kms:us-east-1:123456789012:key/one",
        )["Role"]
        for environment, bucket in buckets.items()
    }
    runner = Runner(
        source,
        tmp_path,
        aws,
        {
            environment: {
                "AWS_REGION": "us-east-1",
                "AWS_ACCOUNT_ID": "123456789012",
                "DEPLOY_ROLE_ARN": credentials[environment],
                "DEPLOY_BUCKET": bucket.name,
            }
            for environment, bucket in buckets.items()
        },
    )
    runner.run("release.yml")
    assert runner.roles == [credentials["dev"], credentials["prod"]]
    first = {environment: contents(bucket) for environment, bucket in buckets.items()}
    assert first["dev"] == first["prod"]
    assert first["dev"]["dags/.airflowignore"] == b"mwaa_pipelines/\ndbt/\n"
    assert first["dev"]["startup.sh"] == (source / "startup.sh").read_bytes()
    release = live_release(buckets["prod"])
    assert release in runner.summary
    assert (
        first["dev"][f"dags/dbt/flights/{release}/dbt_project.yml"]
        == (source / "dbt_project/dbt_project.yml").read_bytes()
    )

    # A repository that was created since July 2026 sends its IDs in the subject.
    runner.repository = "acme@1234/data@5678"
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
    # The role of one environment cannot access another environment.
    variables = runner.variables["prod"]
    runner.variables["prod"] = variables | {"DEPLOY_BUCKET": buckets["dev"].name}
    with pytest.raises(AssertionError, match=r"access denied by AWS .*is not authorized to perform: s3:"):
        runner.run("rollback.yml", {"environment": "prod", "project": "flights"})
    runner.variables["prod"] = variables | {"DEPLOY_ROLE_ARN": credentials["dev"]}
    with pytest.raises(ClientError, match="Not authorized to perform sts:AssumeRoleWithWebIdentity"):
        runner.run("rollback.yml", {"environment": "prod", "project": "flights"})
    runner.variables["prod"] = variables
    for stranger in ("acme@1234/data@9999", "acme@9999/data@5678", "other/data"):
        runner.repository = stranger
        with pytest.raises(ClientError, match="Not authorized to perform sts:AssumeRoleWithWebIdentity"):
            runner.run("rollback.yml", {"environment": "prod", "project": "flights"})


def git(folder: Path, *arguments: str) -> None:
    names = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pull_request_is_checked_without_credentials_and_gets_one_comment(tmp_path, aws):
    source = copy_repository(tmp_path / "source")
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-qm", "base")
    model = source / "dbt_project/models/marts/carriers.sql"
    model.write_text("-- changed\n" + model.read_text())
    git(source, "commit", "-qam", "change")
    # `make lint` and `make test` would run this test again, and gh would connect to GitHub.
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("make", "gh"):
        (stubs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\n')
        (stubs / name).chmod(0o755)
    (stubs / "gh").write_text((stubs / "gh").read_text() + f"cp comment.md {tmp_path}\n")
    ports = {name: str(free_port()) for name in ("LOCAL_WAREHOUSE_PORT", "LOCAL_AWS_PORT", "LOCAL_AIRFLOW_PORT")}
    # Install the scanners of this checkout, which all checkouts share.
    scanners(Settings(STATE, 1, 2, 3))
    event = {
        "github.event_name": "pull_request",
        "github.repository": "acme/data",
        "github.event.pull_request.head.repo.full_name": "acme/data",
        "github.event.pull_request.number": "7",
        "github.token": "one that lasts as long as the job",
    }
    path = f"{stubs}:{os.environ['PATH']}"
    runner = Runner(source, tmp_path, aws, event=event, extra={**ports, "PATH": path, "TMPDIR": str(tmp_path)})
    runner.run("ci.yml")
    called = (tmp_path / "called").read_text().splitlines()
    comments = [line for line in called if line.startswith("gh ")]
    assert {"make lint", "make test"} <= set(called)
    assert runner.roles == []
    text = (tmp_path / "comment.md").read_text()
    for messages in (
        "**Lint**",
        "**Test**",
        "**Change**",
        "~ models/marts/carriers.sql",
        "table model dbt_change.carriers",
    ):
        assert messages in text
    # Unchanged models are read from production and not built.
    assert "departures, stg_airlines, with their parents" in text
    assert "dbt_change.departures" not in text
    assert (runner.artifacts["docs"] / "flights.html").stat().st_size > 100_000
    assert comments == ["gh pr comment 7 --edit-last --create-if-none --body-file comment.md"]
    # The run of a fork has no permission to comment, so its results are in the summary.
    comment = yaml.safe_load((source / ".github/workflows/ci.yml").read_text())["jobs"]["comment"]
    assert runner.wanted(comment)
    event["github.event.pull_request.head.repo.full_name"] = "somebody/data"
    assert not runner.wanted(comment)
    assert "**Change**" in runner.summary
