"""Contracts with AWS and GitHub name their source, become outdated, and match the project."""

import datetime
import re
from pathlib import Path

import pytest

from mwaa_release import contracts
from mwaa_release.repository import REPOSITORY

NAMES = sorted(path.stem for path in Path(contracts.__file__).parent.glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_contract_names_its_source_and_the_date_of_its_check(name: str) -> None:
    content = contracts.contract(name)
    assert re.search(r"https://|page of", content["source"])
    assert content["checked"] <= datetime.datetime.now(datetime.UTC).date()


def test_contract_is_outdated_after_180_days() -> None:
    newest = max(contracts.contract(name)["checked"] for name in NAMES)
    oldest = min(contracts.contract(name)["checked"] for name in NAMES)
    assert contracts.outdated(oldest + datetime.timedelta(days=180)) == []
    messages = contracts.outdated(newest + datetime.timedelta(days=181))
    assert [message.split(".toml")[0] for message in messages] == NAMES
    assert "Compare it with https://" in messages[0] or "Compare it with the" in messages[0]


def test_workflows_use_the_action_versions_of_the_contract() -> None:
    text = "\n".join(path.read_text() for path in (REPOSITORY / ".github").rglob("*.yml"))
    used = set(re.findall(r"uses: ([\w-]+/[\w-]+)@[0-9a-f]{40} # (v[\d.]+)", text))
    assert used == set(contracts.contract("github_actions")["versions"].items())
