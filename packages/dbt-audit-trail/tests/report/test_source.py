"""The report reads audit views that dbt built in redshift-local. The command reports errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit_report import source
from audit_report.source import read
from mwaa_local.aws.roles import client_of
from mwaa_local.testing.permissions import warehouse_session
from mwaa_local.testing.project import sample_project
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.publish import publish_report
from redshift_local.testing.preloaded_dbt import run_preloaded_dbt

REPOSITORY = Path(__file__).parents[4]
SCHEMA = "report"


def address(warehouse, **more: str) -> dict[str, str]:
    return {
        "REDSHIFT_HOST": warehouse.host,
        "REDSHIFT_PORT": str(warehouse.port),
        "REDSHIFT_USER": warehouse.user,
        "REDSHIFT_PASSWORD": warehouse.password,
        "REDSHIFT_DATABASE": warehouse.database,
        "REDSHIFT_SCHEMA": SCHEMA,
        "REDSHIFT_SSLMODE": "disable",
        **more,
    }


def report(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("REDSHIFT_", "LOCAL_"))}
    return subprocess.run(
        [sys.executable, "-m", "mwaa_local", "report", *arguments],
        cwd=REPOSITORY,
        env={**variables, "LOCAL_DIR": str(tmp_path / "state"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def audited(redshift, tmp_path_factory):
    """A warehouse with the audit table and views, and the audit rows of the invocations that built them."""
    project = sample_project(tmp_path_factory.mktemp("project") / "dbt_project")
    for chosen in ("tag:audit", "tag:audit_view"):
        environment = {**os.environ, **address(redshift)}
        completed = run_preloaded_dbt("run", "--target", "prod", "--select", chosen, cwd=project, env=environment)
        assert completed.returncode == 0, completed.stdout
    with redshift.connect() as connection:
        # redshift-local writes its query history at once for a statement that names a system view, and otherwise every
        # second. The report reads it through audit_queries.
        connection.run("select count(*) from sys_query_history")
    return redshift


def test_report_reads_every_view(audited):
    connection = audited.connect()
    try:
        history = read(connection, SCHEMA, 1)
    finally:
        connection.close()
    assert [row["outcome"] for row in history["runs"]] == ["passed", "passed"]
    assert {row["name"] for row in history["nodes"]} >= {"audit_table", "audit_runs"}
    assert len(history["nodes"]) == sum(row["nodes"] for row in history["runs"]) == len(history["statistics"])
    assert history["tests"] == history["marts"] == []
    assert {row["run_key"] for row in history["costs"]} == {row["run_key"] for row in history["runs"]}
    assert all(row["execution_seconds"] > 0 for row in history["costs"])


def test_runs_over_the_limit_are_only_counted(audited, monkeypatch):
    monkeypatch.setattr(source, "MAX_NODES", 5)
    connection = audited.connect()
    try:
        history = read(connection, SCHEMA, 1)
    finally:
        connection.close()
    assert len(history["runs"]) == 2
    assert history["nodes"] == []


def test_command_writes_a_page_and_prints_its_path(audited, tmp_path):
    path = tmp_path / "deep" / "audit.html"
    completed = report(tmp_path, "--output", str(path), "--days", "2", **address(audited))
    assert (completed.returncode, completed.stdout.strip(), completed.stderr) == (0, str(path), "")
    page = path.read_text(encoding="utf-8")
    assert "audit_critical_paths" in page
    assert "the last 2 days" in page
    assert audited.password not in page
    assert [other.name for other in path.parent.iterdir()] == ["audit.html"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"REDSHIFT_SCHEMA": 'nobody\'s "own"'}, "has no audit views ("),
        ({"REDSHIFT_PASSWORD": "Wrong1234"}, "Check REDSHIFT_*"),
        ({"REDSHIFT_PASSWORD": ""}, "REDSHIFT_PASSWORD is not. Set both"),
        ({"REDSHIFT_PORT": "1"}, "user awsuser cannot connect to 127.0.0.1:1"),
        ({"REDSHIFT_PORT": "x"}, "REDSHIFT_PORT='x' is not a port"),
        ({"REDSHIFT_SSLMODE": "maybe"}, "REDSHIFT_SSLMODE='maybe' is unknown"),
        ({"REDSHIFT_HOST": ""}, "make up; or name a warehouse with REDSHIFT_HOST"),
    ],
)
def test_invalid_settings_are_one_error_message(redshift, tmp_path, changed, message):
    completed = report(tmp_path, **{**address(redshift), **changed})
    assert completed.returncode == 2
    assert completed.stderr.startswith("Set-up failed: ")
    assert message in completed.stderr
    assert "Traceback" not in completed.stderr
    assert not list(tmp_path.rglob("report.html*"))


def test_unwritable_path_error_names_the_option(audited, tmp_path):
    (tmp_path / "file").touch()
    completed = report(tmp_path, "--output", str(tmp_path / "file" / "audit.html"), **address(audited))
    assert completed.returncode == 2
    assert "cannot be written" in completed.stderr
    assert "--output" in completed.stderr


def test_report_is_published_to_s3(audited, aws, tmp_path):
    secretsmanager, s3 = aws.client("secretsmanager"), aws.client("s3")
    login = {"username": audited.user, "password": audited.password}
    where = {"host": audited.host, "port": audited.port, "extra": {"sslmode": "disable"}}
    for name, content in (("published/user", login), ("airflow/connections/published", where)):
        secretsmanager.create_secret(Name=name, SecretString=json.dumps(content))
    s3.create_bucket(Bucket="published")
    pipeline = {"dag_name": "published", "secret_name": "published/user", "redshift_connection_id": "published"}
    pipeline |= {"target_database": audited.database, "target_schema": SCHEMA, "project_name": "flights"}
    pipelines = tmp_path / "pipelines.yml"
    pipelines.write_text(json.dumps({"pipelines": [pipeline]}))
    values = {"SecretName": "published/user", "ConnectionId": "published", "ReportBucketName": "published"}
    session = warehouse_session(aws, **values)
    secretsmanager, s3_client = (client_of(session, aws.settings, service) for service in ("secretsmanager", "s3"))
    publish_report(secretsmanager, s3_client, "published", "s3://published/audit/index.html", pipelines=pipelines)
    page = s3.get_object(Bucket="published", Key="audit/index.html")
    assert page["ContentType"] == "text/html; charset=utf-8"
    text = page["Body"].read().decode()
    assert f"{audited.database}.{SCHEMA}" in text
    assert "model.audit_trail.audit_table" in text
    assert audited.password not in text
    with pytest.raises(
        DeployError, match=r"is not authorized to perform: s3:PutObject on resource: .*:published/index"
    ):
        publish_report(secretsmanager, s3_client, "published", "s3://published/index.html", pipelines=pipelines)
    with pytest.raises(DeployError, match="s3://no-such-bucket/x"):
        publish_report(secretsmanager, s3, "published", "s3://no-such-bucket/x", pipelines=pipelines)
    for url in ("https://published/x", "s3://published", "s3://published/", "published/x"):
        with pytest.raises(SetupError, match="is not an S3 address"):
            publish_report(secretsmanager, s3, "published", url, pipelines=pipelines)
