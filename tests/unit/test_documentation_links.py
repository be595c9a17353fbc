"""Relative links in Markdown files point to files and headings of this repository, and tests that they name exist."""

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
_CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_TEST_NAME = re.compile(r"`(?:[\w./:]*[/:])?(test_\w+)(?:\.py)?`")
_TEST = re.compile(r"^ *def (test_\w+)", re.MULTILINE)
# Tests of dbt-redshift, redshift_connector and sqlalchemy-redshift.
_TESTS_OF_OTHERS = {
    "test_quoted_description_not_applied_on_case_mismatch",
    "test_autocommit_deactivated_prevents_DDL",
    "test_view_reflection",
}


def tracked_files() -> list[Path]:
    """Return the paths of all existing files that git tracks, relative to the repository."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True, text=True)
    return [path for name in listing.stdout.split("\0") if name and (REPOSITORY / (path := Path(name))).is_file()]


def heading_anchors(text: str) -> set[str]:
    """Return the anchors that GitHub creates for the headings of a page."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def broken_links(page: Path, targets: set[Path]) -> list[str]:
    """Return the relative links of a page to missing targets or headings."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    broken = []
    for link in _LINK.findall(_CODE.sub("", text)):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (REPOSITORY / page.parent / name).resolve() if name else REPOSITORY / page
        is_broken = not target.is_relative_to(REPOSITORY) or target.relative_to(REPOSITORY) not in targets
        if is_broken or (anchor and anchor not in heading_anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def missing_tests(text: str, tests: set[str]) -> list[str]:
    """Return the tests and test files that a page names and that do not exist."""
    return [name for name in _TEST_NAME.findall(text) if name not in tests]


FILES = tracked_files()
PAGES = [path for path in FILES if path.suffix == ".md"]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_relative_links_resolve(page: Path):
    folders = {folder for path in FILES for folder in path.parents}
    assert broken_links(page, {*FILES, *folders}) == []


@pytest.fixture(scope="module")
def tests() -> set[str]:
    """Names of all test files and test functions."""
    files = [path for path in FILES if path.name.startswith("test_") and path.suffix == ".py"]
    functions = {name for path in files for name in _TEST.findall((REPOSITORY / path).read_text(encoding="utf-8"))}
    return {*functions, *(path.stem for path in files)}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_named_tests_exist(page: Path, tests: set[str]):
    assert missing_tests((REPOSITORY / page).read_text(encoding="utf-8"), tests | _TESTS_OF_OTHERS) == []


def test_missing_tests_are_reported(tests: set[str]):
    text = "`test_x` `tests/unit/test_english.py` `test_english.py::test_gone` `pytest test_y` `test_named_tests_exist`"
    assert missing_tests(text, tests) == ["test_x", "test_gone"]


def test_broken_links_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.REPOSITORY", tmp_path)
    (tmp_path / "page.md").write_text(
        "# My page!\n[a](gone.md) [b](page.md#my-page) [c](#other) [d](../x.md) `[e](f)`\n"
    )
    assert broken_links(Path("page.md"), {Path("page.md")}) == ["gone.md", "#other", "../x.md"]
