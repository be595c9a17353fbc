"""Releases all pipelines as workflows, whatever dags/pipelines.yml says."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mwaa_local.aws import roles, seed
from mwaa_local.aws.seed_serverless import seed_workflow
from mwaa_local.settings import REPOSITORY, Settings
from mwaa_local.target import workflows_file
from mwaa_pipelines.config_file import ENVIRONMENT, environments, read_pipelines
from mwaa_release.build import PIPELINES_FILE, build
from mwaa_release.release import Artifact
from mwaa_release.serverless.workflows import Workflows


class Releases:
    """Releases of one stand-in.

    Args:
        settings: of a stand-in after `seed.seed`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def build(self, folder: Path, projects: list[Path], say: Callable[..., None]) -> Artifact:
        """Build an artifact whose pipelines are workflows, and create the stack of each.

        Args:
            folder: for the artifact.
            projects: the dbt projects.
            say: receives the progress.

        Raises:
            BuildError: a pipeline cannot be a workflow.
        """
        path = workflows_file(REPOSITORY / PIPELINES_FILE, self._settings.state / "serverless")
        if (names := environments(path)) and ENVIRONMENT not in os.environ:
            os.environ[ENVIRONMENT] = names[0]
        for pipeline in read_pipelines(path).pipelines:
            seed_workflow(self._settings, pipeline)
        cache = self._settings.parse_cache
        return build(folder, projects, progress=say, cache=cache, platforms=(), pipelines_file=path)

    def workflows(self, session: Any) -> Workflows:
        """Return the workflows as a session sees them."""
        clients = (roles.client_of(session, self._settings, service) for service in ("mwaa-serverless", "ssm"))
        return Workflows(*clients, seed.DAGS_BUCKET)
