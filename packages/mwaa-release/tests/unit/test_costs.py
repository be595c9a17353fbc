"""The costs in docs/how-to/run-in-mwaa-serverless.md follow from prices.yaml."""

import re
from pathlib import Path

import yaml

from mwaa_local.settings import REPOSITORY
from mwaa_release import serverless

PRICES = yaml.safe_load(Path(serverless.__file__).with_name("prices.yaml").read_text())
PAGE = REPOSITORY / "docs/how-to/run-in-mwaa-serverless.md"
HOURS = 730
# Of the tasks for the audit table and the check: the least that is billed.
FURTHER_MINUTES = 2


def _price(name: str) -> float:
    return float(PRICES[name]["value"])


def _costs(runs: int, minutes: int) -> tuple[float, float, float]:
    environment = HOURS * _price("environment_hour")
    task = _price("fargate_vcpu_hour") + 2 * _price("fargate_gb_hour")
    workflow = runs * (minutes + FURTHER_MINUTES) / 60 * _price("serverless_task_hour")
    return environment, environment + runs * minutes / 60 * task, workflow


def test_table_of_costs_follows_from_the_prices() -> None:
    rows = re.findall(
        r"^\| [^|]+ \| ([\d,]+) \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \|$", PAGE.read_text(), re.MULTILINE
    )
    assert len(rows) == 3
    for runs, minutes, *listed in rows:
        costs = _costs(int(runs.replace(",", "")), int(minutes))
        computed = [f"{cost:.0f}" if cost >= 1 else f"{cost:.2f}" for cost in costs]
        assert computed == listed, f"{runs} runs"


def test_prices_have_a_source_and_a_date() -> None:
    assert PRICES["read"].isoformat() in PAGE.read_text() or f"{PRICES['read']:%B %Y}" in PAGE.read_text()
    entries = [entry for entry in PRICES.values() if isinstance(entry, dict)]
    assert len(entries) == 4
    assert all(entry["source"].startswith("https://") and entry["value"] > 0 for entry in entries)
