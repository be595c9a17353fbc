"""Keeps dbt's parsed project in S3, so that only the first task of a release parses all of it.

dbt decides whether it can use the file: target, variables, profile and version must be the same.
"""

import logging
import threading
from pathlib import Path
from typing import Any

import msgpack
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.reporting import RUN_RESULTS
from mwaa_pipelines.runner.stream import split_url

_FILE = RUN_RESULTS.with_name("partial_parse.msgpack")
# The event of dbt's output when it cannot use the file, or has none.
_PARSES_ALL = "UnableToPartialParse"
# The event after it has written the file.
_HAS_PARSED = "FoundStats"

log = logging.getLogger(__name__)


class ParsedProject:
    """The parsed project of a release. Errors are logged, because dbt can do without it.

    Args:
        s3_client: boto3 client.
        url: `s3://bucket/key` of the file; empty: keep none.
        project: the folder that dbt runs in.
    """

    def __init__(self, s3_client: Any, url: str, project: Path) -> None:
        self._s3, self._url, self._project = s3_client, url, project
        self._is_new = False

    def load(self) -> None:
        """Copy the file from S3, if there is one."""
        if not self._url:
            return
        bucket, key = split_url(self._url)
        try:
            data = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            content = msgpack.unpackb(data)
            for node in content["nodes"].values():
                # dbt reads a seed from the folder in which it was parsed.
                if node.get("root_path"):
                    node["root_path"] = str(self._project)
            (self._project / _FILE).parent.mkdir(exist_ok=True)
            (self._project / _FILE).write_bytes(msgpack.packb(content))
        except self._s3.exceptions.NoSuchKey:
            pass
        except (BotoCoreError, ClientError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s cannot be used: %s", self._url, error)

    def read(self, line: str) -> None:
        """Copy the file to S3 when a line of dbt's output says that dbt has parsed the whole project."""
        self._is_new = self._is_new or _PARSES_ALL in line
        if self._url and self._is_new and _HAS_PARSED in line:
            self._is_new = False
            # Airflow's task need not wait for it.
            threading.Thread(target=self._save, daemon=True).start()

    def _save(self) -> None:
        bucket, key = split_url(self._url)
        try:
            self._s3.put_object(Bucket=bucket, Key=key, Body=(self._project / _FILE).read_bytes())
        except (OSError, BotoCoreError, ClientError) as error:
            log.warning("%s cannot be written: %s", self._url, error)
