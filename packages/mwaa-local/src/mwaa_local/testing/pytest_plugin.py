"""pytest fixtures of the stand-ins, available wherever this package is installed."""

import signal
from collections.abc import Iterator

import pytest
from xdist.workermanage import NodeManager

from mwaa_local.testing.airflow import airflow_python
from mwaa_local.testing.aws import aws
from mwaa_local.testing.browser import browser
from mwaa_local.testing.buckets import contents, live_release, s3
from mwaa_local.testing.stacks import stacks

__all__ = ["airflow_python", "aws", "browser", "contents", "default_hangup", "live_release", "s3", "stacks"]

# After Ctrl-C, xdist waits 10 seconds for tests to end. The servers that they have started stop with them.
NodeManager.EXIT_TIMEOUT = 1


# The longest kinds first. Unit tests at the end keep all processes of xdist busy.
_KINDS = ["e2e", "integration"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by the folders of their kinds. Each kind keeps its order."""
    places = {kind: place for place, kind in enumerate(_KINDS)}
    items.sort(key=lambda item: min((places[part] for part in item.path.parts if part in places), default=len(places)))


@pytest.fixture
def default_hangup() -> Iterator[None]:
    """Let SIGHUP stop the commands that tests start, also when nohup started the tests, which then ignore it."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, previous)
