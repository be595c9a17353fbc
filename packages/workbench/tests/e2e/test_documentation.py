"""The documented commands work in a new copy, in the order of the site's pages.

The test runs each `sh` block, unless its first line is `# needs …`. A block with a title is written to that file.
A command that was the whole block of an earlier page is not run again.
"""

import json
import os
import re
import subprocess
import textwrap
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from mwaa_local.settings import REPOSITORY
from mwaa_local.testing.checkout import Checkout, new_checkout
from mwaa_local.testing.repository import committed_copy

# Several runs of the pipeline and drills, one after another.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

_BLOCK = re.compile(
    r'^(?P<indent> *)```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^(?P=indent)```$',
    re.MULTILINE | re.DOTALL,
)
# tests/e2e/test_pipeline.py runs it with the same stand-ins.
_RUN_ELSEWHERE = {"make drill"}
# `make test` runs the unit tests. Here, make test-fast only has to find them.
_ONLY_COLLECT = {"PYTEST_ADDOPTS": "--collect-only"}
IDENTITY = {f"GIT_{who}_{what}": "test@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def pages() -> list[str]:
    """Return the Markdown files in the order of the site's navigation, without generated pages."""

    def files(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for item in entry.values() if isinstance(entry, dict) else entry:
                yield from files(item)

    nav = tomllib.loads((REPOSITORY / "zensical.toml").read_text())["project"]["nav"]
    return [page for page in files(nav) if not page.startswith("reference/")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("documentation")
    checkout_copy = new_checkout(folder / "state", committed_copy(folder / "repository"))
    try:
        yield checkout_copy
    finally:
        checkout_copy.command("down")


@pytest.fixture(scope="module")
def typed() -> set[str]:
    """The blocks that have run so far. A drill that several pages show runs only once."""
    return set(_RUN_ELSEWHERE)


def play(checkout: Checkout, page: str, typed: set[str]) -> str:
    """Run the commands of a page, and return their output."""
    before, output = set(typed), ""
    for block in _BLOCK.finditer((checkout.repository / "docs" / page).read_text()):
        text = textwrap.dedent(block["text"])
        if block["title"]:
            (checkout.repository / block["title"]).write_text(text)
        elif block["language"] == "sh" and not text.startswith("# needs ") and text.strip() not in before:
            typed.add(text.strip())
            commands = [line for line in text.splitlines() if line.partition("  #")[0].strip() not in before]
            completed = subprocess.run(
                ["bash", "-e", "-u", "-c", "\n".join(commands)],
                cwd=checkout.repository,
                env={**os.environ, **checkout.environment, **IDENTITY, **_ONLY_COLLECT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert completed.returncode == 0, f"{page}:\n{text}\n{completed.stdout}"
            output += completed.stdout
    return output


def last_run(checkout: Checkout) -> dict[str, Any]:
    return json.loads((checkout.state / "last-run.json").read_text())


def test_tutorial_ends_with_the_new_model_in_the_audit_table(checkout: Checkout, typed: set[str]):
    output = play(checkout, "tutorial.md", typed)
    run = last_run(checkout)
    assert run["state"] == "success"
    assert run["tasks"]["transform_data.punctual_carriers.run"] == "success"
    assert run["tasks"]["transform_data.punctual_carriers.test"] == "success"
    # Only this run has the model.
    (row,) = re.findall(r"^punctual_carriers\t(\w+)\t", output, re.MULTILINE)
    assert row == "success"


@pytest.mark.parametrize("page", ["../AGENTS.md", *(page for page in pages() if page != "tutorial.md")])
def test_commands_of_a_page_work(checkout: Checkout, typed: set[str], page: str):
    play(checkout, page, typed)
