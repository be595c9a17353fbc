"""The commands of `python -m mwaa_release` for a warehouse: the pipeline's user, sample data, how fresh sources are."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import redshift_connector
import typer
from botocore.exceptions import BotoCoreError, ClientError

from audit_report.redshift import connect, named_warehouse
from mwaa_release.account import check_account
from mwaa_release.bucket import aws_client
from mwaa_release.cli_options import AccountOption, out
from mwaa_release.errors import SetupError, from_aws
from mwaa_release.freshness import check_freshness
from mwaa_release.progress import show_progress
from mwaa_release.publish import publish_report
from mwaa_release.redshift import apply_grants
from mwaa_release.repository import state_folder
from mwaa_release.sample_data import load_sample, upload_sample

CACHE = state_folder() / "sample-data"


@contextmanager
def _warehouse() -> Iterator[redshift_connector.Connection]:
    """A superuser's connection to the warehouse that the REDSHIFT_* variables name."""
    if not named_warehouse():
        raise SetupError("set REDSHIFT_HOST, REDSHIFT_USER and REDSHIFT_PASSWORD to connect as a superuser")
    connection = connect()
    # Some COPY and GRANT take long; only connecting has a time limit.
    connection._usock.settimeout(None)
    try:
        yield connection
    finally:
        connection.close()


def warehouse_user(
    secret_name: Annotated[
        str, typer.Option(help='Secret in AWS Secrets Manager, {"username", "password"}, that the pipeline uses too.')
    ] = "flights/dbt_user",  # noqa: S107 - a name, no password
    source_schema: Annotated[list[str], typer.Option(help="Schema to read; may be given several times.")] = ["raw"],  # noqa: B006
    target_schema: Annotated[str, typer.Option(help="Schema to build in; becomes the user's own.")] = "analytics",
    loading_user: Annotated[
        str | None, typer.Option(help="Who creates tables in the source schemas; default: who runs this.")
    ] = None,
    keep_public_schema: Annotated[
        bool, typer.Option("--keep-public-schema", help="Let all users go on creating tables in schema public.")
    ] = False,
) -> None:
    """Make the database user that a pipeline's dbt runs as, with the least rights. Safe to run again."""
    try:
        text = aws_client("secretsmanager").get_secret_value(SecretId=secret_name)["SecretString"]
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, f"reading the secret {secret_name}") from error
    try:
        secret = json.loads(text)
        user, password = secret["username"], secret["password"]
    except (ValueError, KeyError, TypeError):
        # Without the cause: it would show the secret.
        raise SetupError(f'secret {secret_name} must be JSON with "username" and "password"') from None
    with _warehouse() as connection:
        apply_grants(
            connection,
            user,
            password,
            source_schema,
            target_schema,
            loading_user=loading_user,
            close_public=not keep_public_schema,
        )
    typer.echo(f"{user}: reads {', '.join(source_schema)}, builds in {target_schema}")


def sample_data(
    bucket: Annotated[str, typer.Option(envvar="DEPLOY_LANDING_BUCKET", help="The landing bucket.")],
    iam_role: Annotated[
        str, typer.Option(help="Role with which the warehouse reads the bucket: its ARN, or `default`.")
    ] = "default",
    upload: Annotated[bool, typer.Option(help="Put the files into the bucket.")] = True,
    load: Annotated[bool, typer.Option(help="Load them into schema raw.")] = True,
) -> None:
    """Put the sample data into the landing bucket and load it into schema raw. Safe to run again."""
    s3 = aws_client("s3")
    with show_progress() as progress:
        if upload:
            uploaded = upload_sample(s3, bucket, CACHE, progress)
            typer.echo(f"s3://{bucket}: {len(uploaded)} files uploaded")
        if load:
            with _warehouse() as connection:
                rows = load_sample(s3, connection, bucket, iam_role, progress)
            for table, count in rows.items():
                typer.echo(f"raw.{table}: {count} rows")


def freshness(
    dag: Annotated[str, typer.Option(help="The pipeline, by its dag_name in dags/pipelines.yml.")] = "flights_pipeline",
    account: AccountOption = None,
) -> None:
    """Ask the warehouse how fresh a pipeline's sources are, and fail if one is too stale."""
    check_account(aws_client("sts") if account else None, account)
    for line in check_freshness(aws_client("secretsmanager"), dag):
        out.print(line, markup=False)


def report(
    url: Annotated[str, typer.Option(envvar="DEPLOY_REPORT_URL", help="Where it goes: s3://<bucket>/<key>.")],
    dag: Annotated[str, typer.Option(help="The pipeline, by its dag_name in dags/pipelines.yml.")] = "flights_pipeline",
    days: Annotated[int, typer.Option(min=1, help="How far back it goes.")] = 30,
    account: AccountOption = None,
) -> None:
    """Publish a pipeline's audit report to S3."""
    check_account(aws_client("sts") if account else None, account)
    publish_report(aws_client("secretsmanager"), aws_client("s3"), dag, url, days)
    out.print(f"The report is at {url}.", markup=False)
