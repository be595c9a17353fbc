"""Only cosmos_internals.py uses private parts of Cosmos, and only with the checked version of Cosmos."""

import importlib
import re
from pathlib import Path

import cosmos
import pytest

from mwaa_pipelines import cosmos_internals
from mwaa_pipelines.settings import PipelineError

PACKAGE = Path(cosmos_internals.__file__).parent
# Private modules of Cosmos, and private methods of its classes that are not ours.
PRIVATE = re.compile(
    r"cosmos[.\w]*\._|_get_producer_task_status|_get_node_status|_fallback_to_non_watcher_run|_parse_dbt_node_status|_make_parse"
)


def test_installed_cosmos_is_the_checked_version() -> None:
    assert cosmos.__version__ == cosmos_internals.CHECKED_VERSION, (
        f"Cosmos is now {cosmos.__version__}. Compare what mwaa_pipelines/cosmos_internals.py uses with that version, "
        "run make test-slow, then change CHECKED_VERSION there"
    )


def test_unchecked_cosmos_version_error_names_the_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosmos, "__version__", "1.16.0")
    with pytest.raises(
        PipelineError, match=r"Cosmos 1\.16\.0 is installed.*astronomer-cosmos==1\.15\.1 in requirements\.txt"
    ):
        importlib.reload(cosmos_internals)


def test_only_cosmos_internals_uses_private_parts_of_cosmos() -> None:
    files = [path.name for path in PACKAGE.glob("*.py") if PRIVATE.search(path.read_text())]
    assert files == ["cosmos_internals.py"]
