"""An account with workflows of MWAA Serverless: the stand-in, a warehouse, and a code package in the bucket."""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from audit_report import DBT_PACKAGE
from mwaa_local.aws import seed, seed_ecs
from mwaa_local.aws.container import images_folder
from mwaa_local.aws.seed_serverless import seed_workflow
from mwaa_local.serverless.service_airflow import install_airflow
from mwaa_local.settings import ACCOUNT_ID, HOST, REGION, REPOSITORY, Passwords
from mwaa_local.testing.aws import running_aws
from mwaa_local.testing.state import STATE
from mwaa_pipelines.settings import Pipeline
from mwaa_release.build import pipelines_package
from mwaa_release.progress import no_progress
from mwaa_release.release import Release, list_files
from mwaa_release.serverless.code_package import DBT_FOLDER, build_code_package
from mwaa_release.serverless.definition import write_workflow
from mwaa_release.serverless.run import WorkflowRun, run_workflow
from mwaa_release.serverless.workflows import Target, Workflows, find_targets

PASSWORD = "Pa55-of-workflow"
RELEASE = "20260101T000000Z-1111111"
# Ten billion rows take longer than any test.
DIGITS = "with digits as (" + " union all ".join(f"select {number} as d" for number in range(10)) + ")"
SLOW = f"{DIGITS} select count(*) as row_count from " + ", ".join(f"digits as d{number}" for number in range(10))
MODELS = {
    "first": "select 1 as id",
    "second": "select id from {{ ref('first') }}",
    "broken": "select id / (id - id) as ratio from {{ ref('first') }}",
    # Waits while a test locks the table.
    "gated": "select id, (select count(*) from {{ target.schema }}.gate) as gates from {{ ref('first') }}",
    "slow": f"{SLOW} where 1 = (select id from {{{{ ref('first') }}}})",
}
TESTS = "models: [{name: first, columns: [{name: id, data_tests: [not_null]}]}]"
TABLE = {"+materialized": "table"}
PROJECT = {"version": "1.0"}


@contextmanager
def workflow_account(warehouse: Any, folder: Path) -> Iterator["WorkflowAccount"]:
    """Run an account in which the service's Airflow is installed.

    Args:
        warehouse: the fixture `redshift`.
        folder: an empty folder for the account's state and its releases.
    """
    installed = install_airflow(STATE)
    state, artifact = folder / "state", folder / "artifact"
    (state / "venvs").mkdir(parents=True)
    (state / "venvs" / installed.name).symlink_to(installed)
    artifact.mkdir()
    with running_aws(state) as aws:
        yield WorkflowAccount(aws, warehouse, artifact)


class WorkflowAccount:
    """An account. Each stand-in can have one."""

    def __init__(self, aws: Any, warehouse: Any, folder: Path) -> None:
        self.aws, self.warehouse, self.folder = aws, warehouse, folder
        settings = aws.settings
        seed.seed(settings, Passwords("a", "Aa1", "a", "a", "a"), HOST, 1)
        self.s3, self.secrets = aws.client("s3"), aws.client("secretsmanager")
        self.serverless = aws.client("mwaa-serverless")
        self.workflows = Workflows(self.serverless, aws.client("ssm"), seed.DAGS_BUCKET)
        cache = STATE / "serverless"
        self.code = build_code_package(
            REPOSITORY / "startup.sh", pipelines_package(), folder, cache, no_progress, platforms=()
        )
        self.s3.upload_file(str(folder / self.code), seed.DAGS_BUCKET, self.code)

    def pipeline(self, name: str, **changes: Any) -> Pipeline:
        """Create the secrets, the database user and the stack of a pipeline."""
        pipeline = Pipeline(
            **{
                "dag_name": f"{name}_pipeline",
                "project_name": name,
                "redshift_connection_id": f"{name}_redshift",
                "secret_name": f"{name}/dbt_user",
                "target_database": "dev",
                "target_schema": name,
                "sns_lambda_function_name": seed.FUNCTION,
                "execution_mode": "serverless",
                "retries": 0,
                **changes,
            }
        )
        key = seed.key_arn(self.aws.settings)
        connection = {
            "conn_type": "redshift",
            "host": self.warehouse.host,
            "port": self.warehouse.port,
            "schema": "dev",
        }
        login = {"username": f"{name}_user", "password": PASSWORD}
        for secret, value in (
            (f"airflow/connections/{name}_redshift", {**connection, "extra": {"sslmode": "disable"}}),
            (f"{name}/dbt_user", login),
        ):
            self.secrets.create_secret(Name=secret, SecretString=json.dumps(value), KmsKeyId=key)
        with self.warehouse.connect() as admin, admin.cursor() as cursor:
            cursor.execute(f"create user {name}_user password '{PASSWORD}'")
            cursor.execute(f"create schema {name} authorization {name}_user")
            admin.commit()
        seed_workflow(self.aws.settings, pipeline)
        return pipeline

    def release(self, pipeline: Pipeline, *models: str, audit: bool = False, release_id: str = RELEASE) -> list[Target]:
        """Release these models, and create or update the workflow. Return the workflows of the release."""
        name = pipeline.project_name
        folder = self.folder / "dags/dbt" / name / release_id
        shutil.rmtree(folder, ignore_errors=True)
        files = {f"models/{model}.sql": MODELS[model] for model in models} | {"models/tests.yml": TESTS}
        files["dbt_project.yml"] = yaml.safe_dump({**PROJECT, "name": name, "profile": name, "models": {name: TABLE}})
        if audit:
            for path in DBT_PACKAGE.rglob("*"):
                if path.is_file() and not {"tests", "target", "logs"} & set(path.relative_to(DBT_PACKAGE).parts):
                    files[f"dbt_packages/audit_trail/{path.relative_to(DBT_PACKAGE)}"] = path.read_text()
        nodes = [_node(name, model) for model in models] + [_test_of_first(name)]
        selection = {"select": [], "exclude": ["tag:audit", "tag:audit_view"], "selector": None}
        audited = {"model.audit_trail.audit_table": {}} if audit else {}
        files["selections/audit.json"] = json.dumps({"nodes": audited})
        files[f"selections/pipelines/{pipeline.dag_name}.json"] = json.dumps(
            {"nodes": {node["unique_id"]: node for node in nodes}, "selection": selection}
        )
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        write_workflow(folder, pipeline, Path("dags/pipelines.yml"))
        (folder / "workflows/CODE").write_text(f"{self.code}\n")
        release = Release(release_id, name, "1111111", "2026-01-01", "1.11.0", list_files(folder))
        for file in release.files:
            self.s3.upload_file(str(folder / file.path), seed.DAGS_BUCKET, release.prefix + file.path)
        self.s3.put_object(Bucket=seed.DAGS_BUCKET, Key=f"{release.prefix}release.json", Body=release.to_json())
        targets = find_targets(release, lambda key: (self.folder / key).read_bytes())
        self.workflows.deploy(targets, no_progress)
        return targets

    def use_ecs(self, folder: Path) -> None:
        """Create the stack of ECS, with an image of the code package. Its tasks can read the secrets of all pipelines.

        Args:
            folder: an empty folder for the image's files.
        """
        settings = self.aws.settings
        seed_ecs.seed_ecs(settings)
        with zipfile.ZipFile(self.folder / self.code) as archive:
            archive.extractall(folder)
        path = images_folder(settings.state) / seed_ecs.CLUSTER / seed_ecs.TAG / "image.json"
        image = json.loads(path.read_text())
        image["environment"]["PYTHONPATH"] = os.pathsep.join([str(folder / DBT_FOLDER), str(folder)])
        image["entrypoint"] = [sys.executable, "-S", *image["entrypoint"][1:]]
        path.write_text(json.dumps(image))
        resource = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT_ID}:secret:*/dbt_user-??????"
        statement = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": resource}
        self.aws.client("iam").put_role_policy(
            RoleName=seed_ecs.TASK_ROLE,
            PolicyName="secrets",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )

    def run(self, pipeline: Pipeline) -> WorkflowRun:
        return run_workflow(self.serverless, self.workflows, pipeline.dag_name, poll_seconds=0.2)

    def rows(self, query: str) -> list[Any]:
        with self.warehouse.connect() as admin, admin.cursor() as cursor:
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]

    def log(self, pipeline: Pipeline) -> str:
        """Return the output of the last run of a workflow."""
        logs = (self.aws.settings.state / "logs" / "workflows").glob(f"{pipeline.dag_name}-*.log")
        return max(logs, key=lambda path: path.stat().st_mtime).read_text()


def _node(project: str, model: str) -> dict[str, Any]:
    return {
        "unique_id": f"model.{project}.{model}",
        "resource_type": "model",
        "package_name": project,
        "original_file_path": f"models/{model}.sql",
        "fqn": [project, model],
        "tags": [],
        "depends_on": {"nodes": [] if model == "first" else [f"model.{project}.first"]},
    }


def _test_of_first(project: str) -> dict[str, Any]:
    name = "not_null_first_id"
    return {
        **_node(project, name),
        "unique_id": f"test.{project}.{name}.0",
        "resource_type": "test",
        "original_file_path": "models/tests.yml",
        "depends_on": {"nodes": [f"model.{project}.first"]},
    }
