"""All checks of `doctor` succeed after the documented steps, and each failed check prints its fix."""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from mwaa_local.aws import roles, seed
from mwaa_local.settings import ACCOUNT_ID, ENVIRONMENT, Passwords
from mwaa_local.testing.aws import Aws, running_aws
from mwaa_local.testing.fake_airflow import serving
from mwaa_local.testing.permissions import without_each_permission
from mwaa_pipelines.release import release_tag
from mwaa_release import cli
from mwaa_release.apply import apply
from mwaa_release.bucket import Bucket
from mwaa_release.doctor import CHECKS, SMOKE_CHECKS, SQL
from mwaa_release.doctor.check import Account, Outcome, run_checks
from mwaa_release.doctor.explain import require_superuser
from mwaa_release.errors import SetupError
from mwaa_release.pipelines import PIPELINES, find_pipeline
from mwaa_release.redshift import apply_grants
from mwaa_release.release import LAMBDA_ZIP, RELEASE_FILE, Artifact, Release, list_files
from redshift_local.pytest_plugin import Warehouse, free_port

REPOSITORY = Path(__file__).parents[4]
PASSWORD = "Doctor 1"
RELEASE = "20260101T000000Z-abcdef1"
FOLDER = f"dags/dbt/flights/{RELEASE}"
MANIFEST = {
    "metadata": {"project_name": "flights"},
    "sources": {"source.flights.landing.planes": {"schema": "landing", "identifier": "planes"}},
    "nodes": {
        "model.shop.planes": {"resource_type": "model", "package_name": "shop", "config": {"schema": None}},
        "test.shop.one": {"resource_type": "test", "package_name": "shop", "config": {"schema": "dbt_test__audit"}},
    },
}
# A fake of GitHub's CLI.
GH = '#!/bin/sh\necho "${GH_ANSWER}"\nexit "${GH_EXIT:-0}"\n'
WITHOUT_IDS = {"use_default": True, "use_immutable_subject": False, "sub_claim_prefix": "repo:acme/data"}
WITH_IDS = {"use_default": True, "use_immutable_subject": True, "sub_claim_prefix": "repo:acme@12/data@34"}
PUBLIC_BUCKET, HALF_BUCKET = "doctor-public", "doctor-half"
PROVIDER = {"OpenIDConnectProviderArn": roles.PROVIDER}
RELEASE_ROLE, EXECUTION_ROLE = seed.RELEASE_ROLE_ARN.rpartition("/")[2], "environment-ExecutionRole"
TOPIC_PREFIX = f"arn:aws:sns:us-east-1:{ACCOUNT_ID}:"


def answer_as_airflow(_method: str, path: str, _body: Any) -> tuple[int, Any]:
    """Fake an Airflow that has a connection from its UI and a pipeline that cannot start."""
    if path.endswith("/connections/ui_redshift"):
        return 200, {"host": "warehouse.example.com", "port": None, "schema": "dev", "extra": None}
    if path.endswith("/details"):
        return 200, {"tags": [{"name": release_tag(RELEASE)}], "doc_md": RELEASE, "is_paused": False}
    return (409, {"detail": "cannot start"}) if path.endswith("/dagRuns") else (404, {"detail": "not found"})


@dataclass
class Stage:
    """An AWS account after the documented steps, with additional resources that have one error each."""

    aws: Aws
    warehouse: Warehouse

    def client(self, service: str) -> Any:
        return seed.client(self.aws.settings, service)

    def account(self, **changes: Any) -> Account:
        pipeline = find_pipeline().model_copy(update=changes.pop("pipeline", {}))
        account = Account(
            self.client, ENVIRONMENT, pipeline, repository=roles.GITHUB_REPOSITORY, release_role=RELEASE_ROLE
        )
        return replace(account, **changes)

    def outcomes(self, name: str = "", **changes: Any) -> dict[str, Outcome]:
        """Run a check and the checks that it needs, or all checks without a name."""
        needed = {name} if name else {check.name for check in CHECKS}
        for check in reversed(CHECKS):
            if check.name in needed:
                needed |= set(check.needs)
        checks = [check for check in CHECKS if check.name in needed]
        return {outcome.check.name: outcome for outcome in run_checks(checks, self.account(**changes))}

    def sql(self, *statements: str) -> None:
        with contextlib.closing(self.warehouse.connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

    def secret(self, name: str, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.client("secretsmanager").create_secret(Name=name, SecretString=text)

    def wait_for_environments(self) -> None:
        """Wait until no environment is being created or updated."""
        mwaa = self.client("mwaa")
        while any(
            mwaa.get_environment(Name=name)["Environment"]["Status"] in ("CREATING", "UPDATING")
            for name in mwaa.list_environments()["Environments"]
        ):
            time.sleep(0.1)

    def environment(self, name: str, options: dict[str, str | None] | None = None, **changes: Any) -> None:
        """Create another environment: a changed copy of the environment of infra/."""
        properties = self.client("mwaa").get_environment(Name=ENVIRONMENT)["Environment"]
        names = self.client("mwaa").meta.service_model.operation_model("CreateEnvironment").input_shape.members
        properties = {key: value for key, value in properties.items() if key in names}
        merged = {**properties["AirflowConfigurationOptions"], **(options or {})}
        changes |= {"Name": name, "AirflowConfigurationOptions": without_none(merged)}
        self.client("mwaa").create_environment(**without_none(properties | changes))


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def make_artifact(folder: Path) -> Artifact:
    files = {
        f"{FOLDER}/manifest.json": json.dumps(MANIFEST),
        "dags/pipelines.py": "",
        "requirements.txt": "",
        "startup.sh": "",
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    release = Release(RELEASE, "flights", "abcdef1" * 5, "2026-01-01", "1.11.16", list_files(folder / FOLDER))
    (folder / FOLDER / RELEASE_FILE).write_bytes(release.to_json())
    (folder / LAMBDA_ZIP).write_bytes(seed._zipped_handler())
    return Artifact.read(folder)


def make_wrong_resources(stage: Stage, artifact: Artifact) -> None:
    s3, iam, sns = stage.client("s3"), stage.client("iam"), stage.client("sns")
    for bucket in (PUBLIC_BUCKET, HALF_BUCKET):
        s3.create_bucket(Bucket=bucket)
    apply(artifact, Bucket(HALF_BUCKET, s3))
    s3.put_object(Bucket=HALF_BUCKET, Key=f"{FOLDER}/manifest.json", Body=b"cut")
    s3.put_object(Bucket=PUBLIC_BUCKET, Key="dags/dbt/flights/CURRENT", Body=RELEASE.encode())
    versions = {"RequirementsS3ObjectVersion": None, "StartupScriptS3ObjectVersion": None}
    stage.environment("elsewhere", SourceBucketArn=f"arn:aws:s3:::{HALF_BUCKET}", **versions)
    stage.environment("folder", DagS3Path="workflows")
    stage.environment("old", AirflowVersion="2.10.3")
    stage.environment("unknown", EnvironmentClass="mw2.small")
    stage.environment("micro", EnvironmentClass="mw1.micro", MaxWorkers=2)
    stage.environment("options", {"dbt.kept_results": None, "usage_data_collection.enabled": "True"})
    stage.environment("prod", {"dbt.environment": "prod"})
    stage.environment("backend", {"secrets.backend": None})
    stage.environment("kwargs", {"secrets.backend_kwargs": "{"})
    stage.environment("pattern", {"secrets.backend_kwargs": '{"connections_lookup_pattern": "^shop_"}'})
    stage.environment("behind", RequirementsS3Path=None, RequirementsS3ObjectVersion=None)
    stage.secret("airflow/connections/half_redshift", {"host": "h", "port": 5439})
    stage.secret("airflow/connections/uri_redshift", "redshift://warehouse.example.com:5439/dev")
    closed = {"conn_type": "redshift", "host": "127.0.0.1", "port": free_port(), "schema": "dev"}
    stage.secret("airflow/connections/closed_redshift", closed | {"extra": {"sslmode": "disable"}})
    stage.secret("half/dbt_user", {"username": "dbt_user", "passwort": "hidden"})
    stage.secret("empty/dbt_user", {"username": "dbt_user", "password": ""})
    stage.secret("wrong/dbt_user", {"username": "dbt_user", "password": "hidden"})
    for repository in ("stranger/data", "*/data"):
        parameters = {"Repository": repository, "GitHubEnvironment": "dev", "ProviderArn": roles.PROVIDER}
        parameters |= {"DagsBucketName": seed.DAGS_BUCKET, "KeyArn": "*", "Name": repository[0].replace("*", "any")}
        roles.make(iam, "github.yml", **parameters)
    trust = iam.get_role(RoleName="any-release-dev")["Role"]["AssumeRolePolicyDocument"]
    (statement,) = trust["Statement"]
    statement["Condition"] = {"StringLike": {f"{roles.ISSUER}:sub": "repo:*"}}
    iam.update_assume_role_policy(RoleName="any-release-dev", PolicyDocument=json.dumps(trust))
    topics = {name: sns.create_topic(Name=name)["TopicArn"] for name in ("empty", "pending")}
    sns.subscribe(TopicArn=topics["pending"], Protocol="email", Endpoint="you@example.com")
    code = seed._zipped_handler()
    for name, topic, handler in (
        ("no_variable", "", code),
        ("no_code", topics["empty"], b"x"),
        ("no_topic", f"{TOPIC_PREFIX}missing", code),
        ("no_subscription", topics["empty"], code),
        ("not_confirmed", topics["pending"], code),
    ):
        stage.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.12",
            Handler="handler.lambda_handler",
            Role=f"arn:aws:iam::{ACCOUNT_ID}:role/{seed.ROLE}",
            Environment={"Variables": {"TOPIC_ARN": topic} if topic else {}},
            Code={"ZipFile": handler},
        )


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, start_redshift: Callable[..., Warehouse]) -> Iterator[Stage]:
    folder, warehouse = tmp_path_factory.mktemp("doctor"), start_redshift()
    (folder / "bin").mkdir()
    (folder / "bin" / "gh").write_text(GH)
    (folder / "bin" / "gh").chmod(0o755)
    Passwords.generate(folder)
    with (
        serving(answer_as_airflow) as airflow_port,
        running_aws(folder, airflow_port) as aws,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        patch.setenv("GH_ANSWER", json.dumps(WITHOUT_IDS))
        seed.seed(aws.settings, SimpleNamespace(dbt_user=PASSWORD), warehouse.host, warehouse.port)
        stage, artifact = Stage(aws, warehouse), make_artifact(folder / "artifact")
        stage.sql("create schema landing", "create table landing.planes (tailnum varchar(10))")
        with contextlib.closing(warehouse.connect()) as connection:
            apply_grants(connection, "dbt_user", PASSWORD)
        bucket = Bucket(seed.DAGS_BUCKET, stage.client("s3"))
        functions, mwaa = stage.client("lambda"), stage.client("mwaa")
        apply(artifact, bucket, lambda *_: None, functions, [seed.FUNCTION], mwaa, ENVIRONMENT)
        make_wrong_resources(stage, artifact)
        stage.wait_for_environments()
        yield stage


@pytest.fixture
def deploy(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """A function that runs a release command in this process and returns exit code, output and errors."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "DEPLOY_"))]:
        monkeypatch.delenv(name)
    for name, value in stage.aws.environment().items():
        monkeypatch.setenv(name, value)
    # An earlier test in this process may have set a default session with other credentials.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mwaa_release", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def test_all_checks_succeed_after_the_documented_steps(stage: Stage) -> None:
    outcomes = stage.outcomes()
    assert [(name, outcome.text) for name, outcome in outcomes.items() if outcome.status != "ok"] == []


def test_check_prints_one_line_and_failed_check_also_its_fix(deploy: Callable[..., tuple[int, str, str]]) -> None:
    options = ("--repository", roles.GITHUB_REPOSITORY, "--release-role", seed.RELEASE_ROLE_ARN)
    code, text, _ = deploy("doctor", "--environment", ENVIRONMENT, *options)
    assert code == 0, text
    *lines, _, summary, hint = text.splitlines()
    assert [line[:22].rstrip() for line in lines] == [f"✓ {check.name}" for check in CHECKS]
    assert re.fullmatch(rf"{len(CHECKS)} ok, 0 failed, 0 not checked in \d+ s", summary)
    assert hint.endswith("add --explain")

    code, text, errors = deploy("doctor", "--environment", "nobody", "--bucket", seed.DAGS_BUCKET, *options)
    assert (code, errors) == (1, f"Error: 1 of {len(CHECKS)} checks failed. Fix the first one, then run doctor again\n")
    lines = text.splitlines()
    assert lines[1] == "✗ environment         there is no environment 'nobody' in us-east-1"
    assert lines[2].startswith("                      fix: create it by step 8 of infra/README.md")
    assert lines[3] == "- Airflow version     not checked: needs environment"


ENVIRONMENT_CASES = [
    ("nobody", "environment", "there is no environment 'nobody' in us-east-1", "mwaa list-environments"),
    ("folder", "environment", "reads DAGs from workflows/", "update-environment --name folder --dag-s3-path dags"),
    ("old", "Airflow version", r"Airflow 2\.10\.3; .* 3\.0\.6, 3\.2\.1, 3\.3\.1", "--airflow-version 3.3.1"),
    ("unknown", "environment class", "mw2.small is unknown", "--environment-class mw1.small"),
    ("micro", "environment class", "mw1.micro with MaxWorkers=2, which must be 1", "--max-workers 1"),
    (
        "options",
        "Airflow options",
        "dbt.kept_results is not set instead of s3://local-mwaa/kept_results; "
        "usage_data_collection.enabled is True instead of False",
        '"dbt.kept_results": "s3://local-mwaa/kept_results"',
    ),
    ("backend", "Airflow options", "secrets.backend is not set instead of airflow.providers", "SecretsManagerBackend"),
    ("backend", "connection", "does not look in Secrets Manager", "as infra/environment.yml"),
    ("kwargs", "connection", "secrets.backend_kwargs is '{', which is not a JSON object", "as infra/environment.yml"),
    ("pattern", "connection", r"does not look for flights_redshift .* '\^shop_'", "as infra/environment.yml"),
    (
        "behind",
        "released files",
        "another requirements.txt than s3://local-mwaa",
        "apply --bucket local-mwaa --environment behind",
    ),
]


@pytest.mark.parametrize(("environment", "check", "problem", "fix"), ENVIRONMENT_CASES)
def test_environment_error_is_reported_with_its_fix(
    stage: Stage, environment: str, check: str, problem: str, fix: str
) -> None:
    outcome = stage.outcomes(check, environment_name=environment)[check]
    assert outcome.status == "failed"
    assert re.search(problem, outcome.text)
    assert fix in outcome.fix


def test_settings_are_those_of_the_mwaa_environments_option(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "pipelines.yml"
    text = PIPELINES.read_text()
    assert text.count("    target_schema: analytics\n") == 1
    path.write_text(text + "    environments: {dev: {target_schema: dev_marts}, prod: {}}\n")
    account = replace(stage.account(), pipeline=find_pipeline(path=path), pipelines_file=path, environment_name="prod")
    assert account.pipeline.target_schema == "dev_marts"
    statuses = {outcome.check.name: outcome.status for outcome in run_checks(CHECKS[:5], account)}
    assert (statuses["environment"], statuses["Airflow options"]) == ("ok", "ok")
    assert (account.pipeline.environment, account.pipeline.target_schema) == ("prod", "analytics")

    account = replace(account, environment_name=ENVIRONMENT)
    (outcome,) = [outcome for outcome in run_checks(CHECKS[:2], account) if outcome.check.name == "environment"]
    assert (
        outcome.text == "the option dbt.environment is not set, but dags/pipelines.yml has the environments dev, prod"
    )
    assert "PipelinesEnvironment=dev" in outcome.fix


def test_environment_that_is_updating_or_reads_another_bucket_is_reported(stage: Stage) -> None:
    stage.environment("changing")
    outcome = stage.outcomes("environment", environment_name="changing")["environment"]
    assert (outcome.text, outcome.fix.endswith("get-environment --name changing")) == ("changing is CREATING", True)
    outcome = stage.outcomes("environment", bucket_name=HALF_BUCKET)["environment"]
    assert outcome.text == f"local reads arn:aws:s3:::local-mwaa, not s3://{HALF_BUCKET} (--bucket)"
    assert outcome.fix.endswith("--bucket local-mwaa")
    outcome = stage.outcomes("credentials", expected_account="210987654321")["credentials"]
    assert outcome.text.startswith(f"the credentials belong to account {ACCOUNT_ID}, not 210987654321")


@pytest.mark.parametrize(
    ("check", "problem", "fix"),
    [
        ("bucket versioning", "is not versioned", "put-bucket-versioning --bucket doctor-public"),
        ("bucket encryption", "no default encryption", "put-bucket-encryption --bucket doctor-public"),
        ("bucket access", "can become public", "BlockPublicAcls=true,IgnorePublicAcls=true,"),
        ("live release", f"CURRENT names {RELEASE}, which is incomplete", "mwaa_release apply --bucket doctor-public"),
    ],
)
def test_bucket_error_is_reported_with_its_fix(stage: Stage, check: str, problem: str, fix: str) -> None:
    outcome = stage.outcomes(check, bucket_name=PUBLIC_BUCKET)[check]
    assert outcome.status == "failed"
    assert problem in outcome.text
    assert fix in outcome.fix


def test_damaged_and_missing_releases_are_reported(stage: Stage) -> None:
    damaged = stage.outcomes("live release", bucket_name=HALF_BUCKET)["live release"]
    assert damaged.text == f"{RELEASE} is damaged: {FOLDER}/manifest.json is missing or has another size"
    missing = stage.outcomes("live release", bucket_name=HALF_BUCKET, pipeline={"project_name": "shop"})["live release"]
    assert missing.text == "shop has no live release: dags/dbt/shop/CURRENT does not exist"
    unversioned = stage.outcomes("released files", environment_name="elsewhere")["released files"]
    assert "is not versioned" in unversioned.text
    outcomes = stage.outcomes(environment_name="nobody")
    assert outcomes["bucket access"].text == "the bucket is unknown without the environment; set --bucket"
    assert outcomes["audit table"].text == "needs warehouse login"


@pytest.mark.parametrize(
    ("pipeline", "check", "problem", "fix"),
    [
        (
            {"redshift_connection_id": "shop_redshift"},
            "connection",
            "secret airflow/connections/shop_redshift does not exist",
            "aws secretsmanager create-secret --name airflow/connections/shop_redshift --secret-string '{",
        ),
        ({"redshift_connection_id": "half_redshift"}, "connection", "has no conn_type and no schema", "put-secret"),
        ({"redshift_connection_id": "uri_redshift"}, "connection", "must be JSON with host and port", "put-secret"),
        ({"secret_name": "no/dbt_user"}, "secret", "secret no/dbt_user does not exist", "create-secret --name no/dbt"),
        ({"secret_name": "half/dbt_user"}, "secret", "must be JSON with username and password", "put-secret-value"),
        ({"secret_name": "empty/dbt_user"}, "secret", "has an empty username or password", "put-secret-value"),
        ({"secret_name": "wrong/dbt_user"}, "warehouse login", "authentication failed", "mwaa_release warehouse-user"),
        (
            {"redshift_connection_id": "closed_redshift"},
            "warehouse login",
            "cannot connect to 127",
            "on a machine that",
        ),
        ({"target_schema": "raw"}, "schema names", "raw is a reserved word of Redshift", "rename the schema"),
        ({"target_schema": "marts"}, "target schema", "schema marts does not exist", "--target-schema marts"),
        ({"target_schema": "landing"}, "target schema", "landing belongs to awsuser", "--target-schema landing"),
        ({"sns_lambda_function_name": "no"}, "alert function", "no function 'no'", "step 4 of infra/README.md"),
        (
            {"sns_lambda_function_name": "no_variable"},
            "alert function",
            "no variable TOPIC_ARN",
            "update-function-conf",
        ),
        ({"sns_lambda_function_name": "no_code"}, "alert function", "no_code has no code", "--lambda-function no_code"),
        (
            {"sns_lambda_function_name": "no_topic"},
            "alert topic",
            "missing does not exist",
            "step 4 of infra/README.md",
        ),
        (
            {"sns_lambda_function_name": "no_subscription"},
            "alert topic",
            "nobody receives",
            "sns subscribe --topic-arn",
        ),
        (
            {"sns_lambda_function_name": "not_confirmed"},
            "alert topic",
            "not confirmed: you@example.com",
            "open the link",
        ),
    ],
)
def test_pipeline_setting_error_is_reported_with_its_fix(
    stage: Stage, pipeline: dict[str, str], check: str, problem: str, fix: str
) -> None:
    outcome = stage.outcomes(check, pipeline=pipeline, bucket_name=seed.DAGS_BUCKET)[check]
    assert outcome.status == "failed"
    assert problem in outcome.text
    assert fix in outcome.fix
    assert "hidden" not in outcome.text + outcome.fix


@pytest.mark.parametrize(
    ("check", "problem", "fix", "statements", "undo"),
    [
        (
            "sources",
            "landing.planes cannot be read for dbt_user",
            "warehouse-user --source-schema landing",
            ["revoke select on landing.planes from group dbt_user_readers"],
            ["grant select on landing.planes to group dbt_user_readers"],
        ),
        (
            "sources",
            "landing.planes does not exist for dbt_user",
            "load the sources",
            ["alter table landing.planes rename to other"],
            ["alter table landing.other rename to planes"],
        ),
        (
            "target schema",
            "dbt_user cannot create temporary tables",
            "mwaa_release warehouse-user",
            [
                "revoke temporary on database dev from public",
                "revoke temporary on database dev from group dbt_user_readers",
            ],
            ["grant temporary on database dev to public", "grant temporary on database dev to group dbt_user_readers"],
        ),
        (
            "other schemas",
            "dbt_user can also create tables in new schemas, landing",
            'as a superuser: revoke create on schema "landing" from "dbt_user", public; revoke create on database',
            ["grant create on schema landing to dbt_user", "grant create on database dev to dbt_user"],
            ["revoke create on schema landing from dbt_user", "revoke create on database dev from dbt_user"],
        ),
        (
            "audit table",
            "analytics.audit_table belongs to awsuser",
            "alter table analytics.audit_table owner to dbt_user",
            ["create table analytics.audit_table (load_id varchar(10))"],
            ["drop table if exists analytics.audit_table"],
        ),
        (
            "audit table",
            "analytics.audit_table is not a table",
            "drop view analytics.audit_table",
            ["create view analytics.audit_table as select 1 as load_id"],
            ["drop view if exists analytics.audit_table"],
        ),
    ],
)
def test_missing_or_excess_grant_is_reported_with_its_fix(
    stage: Stage, check: str, problem: str, fix: str, statements: list[str], undo: list[str]
) -> None:
    stage.sql(*statements)
    try:
        outcome = stage.outcomes(check)[check]
        if sql := outcome.fix.partition("as a superuser: ")[2]:
            stage.sql(*sql.split("; "))
            assert stage.outcomes(check)[check].status == "ok"
    finally:
        stage.sql(*undo)
    assert problem in outcome.text
    assert fix in outcome.fix


def test_audit_table_of_the_user_is_accepted(stage: Stage) -> None:
    stage.sql("create table analytics.audit_table (a integer)", "alter table analytics.audit_table owner to dbt_user")
    try:
        assert stage.outcomes("audit table")["audit table"].text == "analytics.audit_table belongs to dbt_user"
    finally:
        stage.sql("drop table analytics.audit_table")


def test_connection_from_airflows_ui_is_accepted(stage: Stage) -> None:
    outcomes = stage.outcomes("execution role", pipeline={"redshift_connection_id": "ui_redshift"})
    assert outcomes["connection"].text == "ui_redshift in Airflow's database: warehouse.example.com:5439"
    assert outcomes["execution role"].status == "ok"


@pytest.mark.slow
def test_missing_permission_of_the_execution_role_is_named(stage: Stage) -> None:
    for permission in without_each_permission(stage.aws, EXECUTION_ROLE):
        if permission.resource.startswith("arn:aws:s3") and ("Object" in permission.action) != (
            "/" in permission.resource
        ):
            # One statement covers the bucket and its objects, so some pairs of action and resource have no effect.
            continue
        outcome = stage.outcomes("execution role")["execution role"]
        assert outcome.status == "failed", permission
        assert permission.action.rstrip("*") in outcome.text
        assert f"put-role-policy --role-name {EXECUTION_ROLE}" in outcome.fix
        document = json.loads(outcome.fix.partition("--policy-document '")[2].rstrip("'"))
        assert all(statement["Resource"] for statement in document["Statement"])
    assert stage.outcomes("execution role")["execution role"].status == "ok"


def test_missing_oidc_provider_and_wrong_audience_are_reported(stage: Stage) -> None:
    iam = stage.client("iam")
    iam.delete_open_id_connect_provider(**PROVIDER)
    issuer = {"Url": f"https://{roles.ISSUER}"}
    try:
        missing = stage.outcomes("GitHub login")["GitHub login"]
        iam.create_open_id_connect_provider(**issuer, ClientIDList=["sigstore"])
        other = stage.outcomes("GitHub login")["GitHub login"]
    finally:
        iam.delete_open_id_connect_provider(**PROVIDER)
        iam.create_open_id_connect_provider(**issuer, ClientIDList=["sts.amazonaws.com"])
    assert (missing.text, missing.fix) == (
        "the account has no OIDC provider for GitHub",
        "create it by step 6 of infra/README.md",
    )
    assert "audiences sigstore, not sts.amazonaws.com" in other.text
    assert other.fix.startswith("aws iam add-client-id-to-open-id-connect-provider --client-id sts.amazonaws.com")


def test_release_role_must_trust_the_subject_of_this_repository(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(role: str = RELEASE_ROLE, **changes: str) -> Outcome:
        return stage.outcomes("release role", release_role=role, **changes)["release role"]

    assert "there is no role 'nobody'" in outcome("nobody").text
    assert outcome("s-release-dev").text == "s-release-dev does not trust repo:acme/data:environment:dev"
    assert "trusts repo:stranger/data:environment:dev too" in outcome("any-release-dev").text
    assert outcome(github_environment="prod").text.endswith("does not trust repo:acme/data:environment:prod")
    monkeypatch.setenv("GH_ANSWER", json.dumps(WITH_IDS))
    with_ids = outcome()
    assert with_ids.text == f"{RELEASE_ROLE} does not trust repo:acme@12/data@34:environment:dev"
    assert with_ids.fix.endswith("Repository=acme/data GitHubEnvironment=dev OwnerId=12 RepositoryId=34")


def test_unknown_subject_is_not_checked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def text(**changes: str) -> str:
        outcomes = stage.outcomes("release role", **changes)
        last = outcomes["release role"] if outcomes["GitHub login"].status == "ok" else outcomes["GitHub login"]
        assert last.status == "not checked"
        return last.text

    assert text(repository="") == "this repository has no remote on GitHub; set --repository owner/name"
    monkeypatch.setenv("GH_ANSWER", json.dumps({"use_default": False, "include_claim_keys": ["actor"]}))
    assert "custom subject (actor)" in text()
    monkeypatch.setenv("GH_EXIT", "1")
    assert text().endswith("sign in: gh auth login")
    monkeypatch.setenv("PATH", "")
    assert text() == "GitHub's CLI `gh` is not installed, so the repository's subject is unknown"


@pytest.fixture
def inspector(stage: Stage) -> Iterator[tuple[str, Callable[[str], Any]]]:
    """A role with the documented permissions, and clients with its credentials."""
    page = (REPOSITORY / "docs/how-to/connect-an-account.md").read_text()
    permissions = page.partition("Permissions of the caller: ")[2].partition("\n\n")[0]
    actions = sorted(set(re.findall(r"`([a-z0-9-]+:[A-Z]\w+)`", permissions)))
    iam, name = stage.client("iam"), "inspector"
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"}, "Action": "sts:AssumeRole"}
    trust = {"Version": "2012-10-17", "Statement": [statement]}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    allowed = trust | {"Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_role_policy(RoleName=name, PolicyName="doctor", PolicyDocument=json.dumps(allowed))
    arn = f"arn:aws:iam::{ACCOUNT_ID}:role/{name}"
    keys = stage.client("sts").assume_role(RoleArn=arn, RoleSessionName="doctor")["Credentials"]
    session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    yield name, lambda service: roles.client_of(session, stage.aws.settings, service)
    iam.delete_role_policy(RoleName=name, PolicyName="doctor")
    iam.delete_role(RoleName=name)


@pytest.mark.slow
def test_documented_permissions_suffice_and_missing_ones_are_named(
    stage: Stage, inspector: tuple[str, Callable[[str], Any]]
) -> None:
    role, client = inspector
    outcomes = stage.outcomes(client=client)
    assert {name: outcome.text for name, outcome in outcomes.items() if outcome.status != "ok"} == {}
    removed_actions = set()
    for permission in without_each_permission(stage.aws, role):
        failed = [outcome for outcome in stage.outcomes(client=client).values() if outcome.status == "failed"]
        assert failed, permission
        for outcome in failed:
            assert outcome.text.startswith("no permission for ")
            assert permission.action in outcome.text
            assert permission.action in outcome.fix
            assert permission.action in outcome.check.actions
        removed_actions.add(permission.action)
    assert removed_actions == {action for check in CHECKS for action in check.actions}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A small valid project with a node of each resource type."""
    snapshot = {"name": "seen", "relation": "ref('tails')", "config": {"strategy": "check", "check_cols": "all"}}
    snapshot["config"] |= {"unique_key": "tailnum"}
    files = {
        "dbt_project.yml": "name: flights\nprofile: flights\n",
        "profiles.yml": (REPOSITORY / "dbt_project/profiles.yml").read_text(),
        "seeds/codes.csv": "code,wide,since\nN1,true,2013-01-01\n",
        # Schema `elsewhere` does not exist. The check must neither write to it nor run the hook.
        "models/tails.sql": "{{ config(materialized='table', schema='elsewhere', pre_hook='drop table landing.planes')"
        " }} select tailnum, since from landing.planes join {{ ref('codes') }} on tailnum = code where wide",
        "models/upper_tails.sql": "{{ config(bind=false) }} select upper(tailnum) as tailnum from {{ ref('tails') }}",
        "models/schema.yml": json.dumps({"models": [{"name": "upper_tails", "columns": [TESTED]}]}),
        "snapshots/seen.yml": json.dumps({"snapshots": [snapshot]}),
        "tests/seen_once.sql": "select tailnum from {{ ref('seen') }} where dbt_valid_to is null",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


TESTED = {"name": "tailnum", "data_tests": ["not_null"]}


@pytest.mark.slow
def test_explain_reports_queries_that_the_warehouse_rejects(
    stage: Stage, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explain() -> Outcome:
        *_, outcome = run_checks((*CHECKS, SQL), stage.account(project=shop))
        return outcome

    with pytest.raises(SetupError, match="--explain creates a scratch schema; set REDSHIFT_HOST"):
        require_superuser()
    for name in ("host", "port", "user", "password"):
        monkeypatch.setenv(f"REDSHIFT_{name.upper()}", str(getattr(stage.warehouse, name)))
    monkeypatch.setenv("REDSHIFT_SSLMODE", "disable")
    assert explain().text == "6 queries explained"

    (shop / "tests/seen_once.sql").write_text("select never from {{ ref('seen') }}")
    (shop / "models/tails.sql").write_text("{{ config(materialized='table') }} select tailnum, 1 as since from nowhere")
    outcome = explain()
    assert outcome.text.splitlines() == [
        "the warehouse refuses 1 of 6 queries:",
        'models/tails.sql: relation "nowhere" does not exist',
        "Not explained, because they read these: 4",
    ]
    with contextlib.closing(stage.warehouse.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("select nspname from pg_namespace where nspname like 'doctor%' or nspname = 'elsewhere'")
        assert cursor.fetchall() == ()
        cursor.execute("select count(*) from landing.planes")
        assert cursor.fetchall() == ([0],)


def test_release_role_can_run_the_checks_of_a_smoke_test(stage: Stage) -> None:
    session = roles.job_session(stage.aws.settings, seed.RELEASE_ROLE_ARN)
    account = stage.account(client=lambda service: roles.client_of(session, stage.aws.settings, service))
    outcomes = list(run_checks(SMOKE_CHECKS, account))
    assert [outcome.text for outcome in outcomes if outcome.status != "ok"] == []


def test_smoke_test_stops_only_if_it_cannot_succeed(deploy: Callable[..., tuple[int, str, str]]) -> None:
    options = ("--dag", "flights_pipeline", "--release", RELEASE)
    code, text, errors = deploy("smoke", "--environment", "nobody", *options)
    assert (code, errors) == (1, "Error: the smoke test did not start, because it cannot succeed\n")
    assert "✗ environment         there is no environment 'nobody'" in text
    code, text, errors = deploy("smoke", "--environment", "old", *options)
    assert code == 1
    assert "✗ Airflow version     Airflow 2.10.3" in text
    assert "cannot start" in errors
