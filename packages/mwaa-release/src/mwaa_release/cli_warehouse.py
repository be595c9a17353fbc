"""The commands of `python -m mwaa_release` for a warehouse: database user, sample data, freshness and report."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import redshift_connector
import typer

from audit_report.redshift import connect, named_warehouse
from mwaa_pipelines.sql import remove_time_limit
from mwaa_release.account import check_account
from mwaa_release.bucket import aws_client
from mwaa_release.cli_options import AccountOption, DagOption, out
from mwaa_release.errors import SetupError
from mwaa_release.freshness import check_freshness
from mwaa_release.pipelines import all_pipelines, find_pipeline, pipeline_with_secret
from mwaa_release.progress import show_progress
from mwaa_release.publish import publish_report
from mwaa_release.redshift import apply_grants
from mwaa_release.repository import state_folder
from mwaa_release.sample_data import TABLES, create_tables, upload_sample
from mwaa_release.secret import read_login

CACHE = state_folder() / "sample-data"


@contextmanager
def _warehouse() -> Iterator[redshift_connector.Connection]:
    """Connect as a superuser to the warehouse of the REDSHIFT_* variables."""
    if not named_warehouse():
        raise SetupError("set REDSHIFT_HOST, REDSHIFT_USER and REDSHIFT_PASSWORD to connect as a superuser")
    connection = connect()
    # COPY and GRANT can take long.
    remove_time_limit(connection)
    try:
        yield connection
    finally:
        connection.close()


_SOURCES = ["landing"]
_NONE: list[str] = []


def _loaded_tables(secret_name: str) -> list[str]:
    """Return the tables into which the pipelines with this login load files. There may be no pipeline yet."""
    try:
        pipelines = all_pipelines()
    except SetupError:
        return []
    return [table.table for pipeline in pipelines if pipeline.secret_name == secret_name for table in pipeline.load]


def warehouse_user(
    dag: DagOption = None,
    secret_name: Annotated[
        str | None,
        typer.Option(
            help='Secret of the database user in AWS Secrets Manager, JSON with "username" and "password"; '
            "default: the pipeline's secret_name."
        ),
    ] = None,
    source_schema: Annotated[
        list[str], typer.Option(help="Schema to read, created if missing; repeatable.")
    ] = _SOURCES,
    target_schema: Annotated[
        str | None,
        typer.Option(help="Schema to build in. The user becomes its owner. Default: the pipeline's target_schema."),
    ] = None,
    public_schema: Annotated[
        list[str],
        typer.Option(help="Schema of another pipeline, to read its public models; repeatable."),
    ] = _NONE,
    loading_user: Annotated[
        str | None, typer.Option(help="User that creates tables in the source schemas; default: the connected user.")
    ] = None,
    keep_public_schema: Annotated[
        bool,
        typer.Option(
            "--keep-public-schema", help="Do not revoke the default privilege to create tables in schema public."
        ),
    ] = False,
) -> None:
    """Create or update the database user of a pipeline, with least privileges."""
    # Reads the file only if a setting is missing, so a user can be prepared before its pipeline has an entry.
    secret_name = secret_name or pipeline_with_secret(dag).secret_name
    target_schema = target_schema or find_pipeline(dag).target_schema
    loaded_tables = _loaded_tables(secret_name)
    user, password = read_login(aws_client("secretsmanager"), secret_name)
    with _warehouse() as connection:
        apply_grants(
            connection,
            user,
            password,
            source_schema,
            target_schema,
            public_schemas=public_schema,
            loading_user=loading_user,
            close_public=not keep_public_schema,
            loaded_tables=loaded_tables,
        )
    public = [f"the public models of {schema}" for schema in public_schema]
    typer.echo(f"{user}: reads {', '.join([*source_schema, *public])}, builds in {target_schema}")


def sample_data(
    bucket: Annotated[str, typer.Option(envvar="DEPLOY_LANDING_BUCKET", help="The landing bucket.")],
    dag: DagOption = None,
    upload: Annotated[bool, typer.Option(help="Upload the files to the bucket.")] = True,
    create: Annotated[bool, typer.Option(help="Create the tables in schema landing.")] = True,
) -> None:
    """Upload the sample data to the landing bucket, and create its tables. The pipeline loads the files."""
    if upload:
        with show_progress() as progress:
            uploaded = upload_sample(aws_client("s3"), bucket, CACHE, progress)
        typer.echo(f"s3://{bucket}: {len(uploaded)} files uploaded")
    if create:
        with _warehouse() as connection:
            create_tables(connection, find_pipeline(dag).target_schema)
        typer.echo(f"schema landing: {', '.join(TABLES)}")


def freshness(
    dag: DagOption = None,
    account: AccountOption = None,
) -> None:
    """Check the freshness of a pipeline's sources. Fails if a source is stale."""
    check_account(aws_client("sts") if account else None, account)
    for line in check_freshness(aws_client("secretsmanager"), find_pipeline(dag).dag_name):
        out.print(line, markup=False)


def report(
    url: Annotated[str, typer.Option(envvar="DEPLOY_REPORT_URL", help="Address of the report: s3://<bucket>/<key>.")],
    dag: DagOption = None,
    days: Annotated[int, typer.Option(min=1, help="Number of days in the report.")] = 30,
    account: AccountOption = None,
) -> None:
    """Publish a pipeline's audit report to S3."""
    check_account(aws_client("sts") if account else None, account)
    publish_report(aws_client("secretsmanager"), aws_client("s3"), find_pipeline(dag).dag_name, url, days)
    out.print(f"Published the report to {url}", markup=False)
