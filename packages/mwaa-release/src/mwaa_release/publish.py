"""Publish the audit report of a pipeline's warehouse as one HTML page in S3."""

import contextlib
import datetime
import re
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_release.errors import SetupError, from_aws
from mwaa_release.freshness import warehouse_environment
from mwaa_release.pipelines import PIPELINES
from mwaa_release.repository import github_address


def publish_report(
    secretsmanager: Any, s3: Any, dag_name: str, url: str, days: int = 30, pipelines: Path = PIPELINES
) -> None:
    """Read the audit views as the pipeline's database user, and upload the report to `url`.

    Args:
        secretsmanager: boto3 client.
        s3: boto3 client.
        dag_name: the pipeline.
        url: s3://<bucket>/<key>.
        days: the number of days to show.
        pipelines: the file that describes the pipeline.

    Raises:
        SetupError: a setting is missing or wrong, or the warehouse does not answer.
        DeployError: AWS refused a request.
    """
    # Imported here, because the other commands need neither a warehouse nor a template.
    from audit_report import source
    from audit_report.page import render
    from audit_report.redshift import connect

    address = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)", url)
    if not address:
        raise SetupError(
            f"{url!r} (--url, DEPLOY_REPORT_URL) is not an S3 address; use one such as s3://<bucket>/audit/index.html"
        )
    environment = warehouse_environment(secretsmanager, dag_name, pipelines)
    with contextlib.closing(connect(environment)) as connection:
        audit = source.read(connection, environment["REDSHIFT_SCHEMA"], days)
    warehouse = f"{environment['REDSHIFT_DATABASE']}.{environment['REDSHIFT_SCHEMA']}"
    page = render(audit, warehouse, days, datetime.datetime.now(datetime.UTC), github_address())
    try:
        s3.put_object(
            Bucket=address[1],
            Key=address[2],
            Body=page.encode(),
            ContentType="text/html; charset=utf-8",
            CacheControl="no-cache",
        )
    except (BotoCoreError, ClientError) as error:
        raise from_aws(error, f"uploading the report to {url}") from error
