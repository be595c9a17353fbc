"""Copies the bucket's dags/ into the DAGs folder file by file, including deletions, as MWAA does."""

import logging
import threading
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

log = logging.getLogger(__name__)


class DagsSync:
    """Mirrors `s3://<bucket>/<prefix>` in `folder`.

    MWAA copies about every 30 seconds. The copy is not atomic: a reader can see half of a release.
    """

    def __init__(self, client: Any, bucket: str, folder: Path, prefix: str = "dags/") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._folder = folder
        self._seen: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def once(self) -> int:
        """Copy changed files and delete removed ones.

        Returns:
            The number of files copied or deleted.

        Raises:
            BotoCoreError, ClientError: the bucket cannot be read.
        """
        etags: dict[str, str] = {}
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
            for item in page.get("Contents", ()):
                relative = item["Key"].removeprefix(self._prefix)
                if relative and not relative.endswith("/"):
                    etags[relative] = item["ETag"]
        changed = 0
        for relative, etag in etags.items():
            target = self._target(relative)
            if self._seen.get(relative) != etag or not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + relative)["Body"]
                target.write_bytes(body.read())
                changed += 1
        for path in sorted(self._folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            elif (
                path.is_file() and "__pycache__" not in path.parts and str(path.relative_to(self._folder)) not in etags
            ):
                path.unlink()
                changed += 1
        self._seen = etags
        return changed

    def start(self, seconds: float) -> None:
        """Start a thread that copies every `seconds` until `stop`."""
        self._thread = threading.Thread(target=self._loop, args=(seconds,), name="dags-sync", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread:
            self._thread.join(5)

    def _loop(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            try:
                self.once()
            except (BotoCoreError, ClientError, OSError) as error:
                log.warning("the bucket could not be copied, trying again in %s s: %s", seconds, error)

    def _target(self, relative: str) -> Path:
        target = (self._folder / relative).resolve()
        if not target.is_relative_to(self._folder.resolve()):
            raise OSError(f"the object {self._prefix}{relative} would be written outside {self._folder}")
        return target
