"""pytest fixtures of the stand-ins, available wherever this package is installed."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
from xdist.workermanage import NodeManager

from mwaa_local.testing.airflow import airflow_python
from mwaa_local.testing.aws import aws
from mwaa_local.testing.browser import browser
from mwaa_local.testing.buckets import contents, live_release, s3
from mwaa_local.testing.orphans import end_orphans
from mwaa_local.testing.stacks import stacks

__all__ = ["airflow_python", "aws", "browser", "contents", "default_hangup", "live_release", "s3", "stacks"]

# After Ctrl-C, xdist waits 10 seconds for tests to end. The servers that they have started stop with them.
NodeManager.EXIT_TIMEOUT = 1


# Parts of paths. The longest files first and unit tests last, so that all processes of xdist end at the same time.
# Other end-to-end tests wait until the first one has installed dbt for all of them.
_ORDER = [
    "tests/e2e/test_pipeline.py",
    *("test_leftovers.py", "test_documentation.py", "test_copy.py", "test_kills.py", "test_node_states.py"),
    *("e2e/test_ecs.py", "e2e/test_serverless", "test_folders.py", "test_airflow_versions.py"),
    *("test_domains.py", "test_two_pipelines.py"),
    *("test_brought_projects.py", "test_two_environments.py", "test_failures.py", "test_random_kills.py"),
    *("test_many_sensors.py", "test_no_package_index.py", "test_faults_parse.py", "test_retries.py"),
    "/integration/",
    "/e2e/",
]


def pytest_configure() -> None:
    """Choose the seed of random tests, the same for all processes of xdist."""
    os.environ.setdefault("RANDOM_KILLS_SEED", str(time.time_ns() % 1_000_000))


def pytest_report_header() -> str:
    """Print the seed."""
    return f"RANDOM_KILLS_SEED={os.environ['RANDOM_KILLS_SEED']}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by the parts of their paths. Otherwise, they keep their order."""
    items.sort(key=lambda item: next((n for n, part in enumerate(_ORDER) if part in item.nodeid), len(_ORDER)))


def pytest_sessionstart(session: pytest.Session) -> None:
    """End stand-ins of tests that were killed. SIGTERM and a closed terminal stop these tests as Ctrl-C does."""
    if not hasattr(session.config, "workerinput"):
        for number in (signal.SIGTERM, signal.SIGHUP):
            # nohup ignores SIGHUP.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)
        end_orphans()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the stand-ins of processes of xdist that were killed, because they did not end in time."""
    if not hasattr(config, "workerinput"):
        end_orphans()


@pytest.fixture
def default_hangup() -> Iterator[None]:
    """Let SIGHUP stop the commands that tests start, also when nohup started the tests, which then ignore it."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, previous)
