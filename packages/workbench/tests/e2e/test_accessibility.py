"""The documentation's site and the report, checked by axe (https://github.com/dequelabs/axe-core) in a real browser."""

import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from fake_history import REPORT_TIME, history

from audit_report.page import render
from mwaa_local.settings import REPOSITORY
from mwaa_local.testing.browser import Browser
from workbench import reference

pytestmark = pytest.mark.slow

AXE = "axe-core@4.14.1"
# The hash from the npm registry.
INTEGRITY = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe, from the npm registry."""
    if not shutil.which("npm"):
        pytest.fail("npm is missing: apt-get install npm")
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, check=True, timeout=120)
    packed = next(folder.glob("*.tgz")).read_bytes()
    assert base64.b64encode(hashlib.sha512(packed).digest()).decode() == INTEGRITY
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(REPOSITORY / "docs", folder / "docs", ignore=shutil.ignore_patterns("reference"))
    shutil.copy(REPOSITORY / "zensical.toml", folder)
    reference.write(folder / "docs" / "reference")
    zensical = Path(sys.executable).with_name("zensical")
    subprocess.run([zensical, "build", "--strict"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / ".local" / "site"


def violations(browser: Browser, axe: str) -> list[str]:
    browser.run(f"{axe}; true")
    violations_by_rule = browser.run(
        "axe.run().then(found => found.violations.map(one => [one.id, one.nodes.map(n => n.html)]))"
    )
    return [f"{rule}: {html[:200]}" for rule, elements in violations_by_rule for html in elements]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("runs", [0, 40])
def test_report_breaks_no_accessibility_rule(browser: Browser, axe: str, tmp_path: Path, scheme: str, runs: int):
    path = tmp_path / "report.html"
    path.write_text(render(history(runs, 8), "dev.analytics", 30, REPORT_TIME), encoding="utf-8")
    browser.open(path, scheme=scheme)
    assert violations(browser, axe) == []


@pytest.mark.parametrize("page", ["index", "tutorial", "reference/settings", "runbooks/pipeline-failed"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "light"), (1280, "dark")])
def test_site_breaks_no_accessibility_rule(browser: Browser, axe: str, site: Path, page: str, width: int, scheme: str):
    # The site keeps the scheme of the first visit.
    forget = browser.call("Page.addScriptToEvaluateOnNewDocument", source="localStorage.clear()")
    browser.open(site / f"{page}.html", width, scheme)
    browser.call("Page.removeScriptToEvaluateOnNewDocument", **forget)
    browser.wait_for(f"document.body.dataset.mdColorScheme === '{'slate' if scheme == 'dark' else 'default'}'")
    assert violations(browser, axe) == []


def test_broken_rules_are_reported(browser: Browser, axe: str, tmp_path: Path):
    path = tmp_path / "bad.html"
    path.write_text("<title>x</title><main><h1>x</h1><img src='data:,'></main>")
    browser.open(path)
    assert {violation.split(":")[0] for violation in violations(browser, axe)} == {"html-has-lang", "image-alt"}
