"""`make start-fresh` and `make upgrade`, in clones of the working tree."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mwaa_local.mwaa.image import find_uv
from mwaa_local.processes import base_environment
from mwaa_local.settings import REPOSITORY, SetupError
from mwaa_local.testing.repository import clone, commit, committed_copy, git
from mwaa_local.testing.state import STATE
from mwaa_release.manifest import install_packages
from workbench import template as template_module
from workbench.template import ANSWERS, Upgrade, start_fresh

CHECK = """
import sys
from pathlib import Path
from workbench.check_conventions import parse, problems
project, target = map(Path, sys.argv[1:])
assert parse(project, target)
assert problems(target / "manifest.json") == []
"""

pytestmark = pytest.mark.timeout(600)

MOST_FILES = 120
MOST_LINES = 6500


def workbench(folder: Path, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workbench", *arguments]
    return subprocess.run(command, cwd=folder, input=answer, capture_output=True, text=True, check=False)


def changed(folder: Path) -> str:
    return git(folder, "status", "--porcelain").stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """The template, in version 1."""
    return committed_copy(tmp_path_factory.mktemp("template") / "template")


@pytest.fixture(scope="module")
def first_copy(template, tmp_path_factory) -> Path:
    """A clone of the template after `start-fresh`, staged and not committed."""
    folder = clone(template, tmp_path_factory.mktemp("copy") / "copy")
    completed = workbench(folder, "start-fresh", "--yes")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return folder


@pytest.fixture(scope="module")
def newer_template(template, first_copy) -> Path:
    """The template after a release that changes a file of every kind. The copy has the previous version."""
    for name in ("startup.sh", "requirements.txt", ".github/workflows/release.yml", "dags/pipelines.yml", "README.md"):
        path = template / name
        path.write_text(f"{path.read_text()}# version 2\n")
    for name in ("docs/how-to/alerts.md", "docs/how-to/backfill.md", "dbt_project/models/staging/stg_airlines.sql"):
        path = template / name
        path.write_text(f"{path.read_text()}\nversion 2\n")
    for path in template.glob("packages/*/pyproject.toml"):
        path.write_text(path.read_text().replace('version = "0.', 'version = "1.', 1))
    commit(template, "version 2")
    return template


@pytest.fixture
def copy(first_copy, tmp_path) -> Path:
    """A committed copy with a model and other changes of a team."""
    folder = tmp_path / "copy"
    git(first_copy, "commit", "--quiet", "--message", "Start")
    clone(first_copy, folder)
    (folder / "dbt_project/models/marts/orders.sql").write_text("select 1 as order_id\n")
    for name in ("dags/pipelines.yml", "docs/how-to/alerts.md", "lambda/handler.py"):
        path = folder / name
        path.write_text(f"{path.read_text()}# ours\n")
    commit(folder, "our work")
    return folder


def test_start_fresh_refuses_uncommitted_changes(template, tmp_path):
    folder = clone(template, tmp_path / "clone")
    (folder / "note.txt").write_text("mine\n")
    completed = workbench(folder, "start-fresh", "--yes")
    assert completed.returncode == 2
    assert "there are uncommitted changes. Commit them first: git add --all && git commit" in completed.stderr
    assert changed(folder) == "?? note.txt\n"


@pytest.mark.parametrize(("answer", "code"), [("", 2), ("no\n", 1)])
def test_start_fresh_changes_nothing_without_confirmation(template, tmp_path, answer, code):
    folder = clone(template, tmp_path / "clone")
    completed = workbench(folder, "start-fresh", answer=answer)
    assert completed.returncode == code, completed.stdout + completed.stderr
    assert changed(folder) == ""


@pytest.mark.usefixtures("default_hangup")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "closed terminal"])
def test_start_fresh_that_is_stopped_leaves_nothing(template, tmp_path, number):
    folder, temporary = clone(template, tmp_path / "clone"), tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench", "start-fresh", "--yes"],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    until = time.monotonic() + 60
    while not list(temporary.glob("**/copier*")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, output = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output == (b"Stopped.\n" if number == signal.SIGINT else b"")
    assert list(temporary.iterdir()) == []
    assert changed(folder) == ""


def test_start_fresh_cannot_be_stopped_while_it_replaces_files(tmp_path, monkeypatch):
    def copier(_venvs, _temporary, _command, _version, _source, target):
        (Path(target) / "dags").mkdir(parents=True)
        (Path(target) / ANSWERS).touch()

    def interrupted_copy(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return copytree(*arguments, **options)

    copytree = shutil.copytree
    monkeypatch.setattr(template_module, "_copier", copier)
    monkeypatch.setattr(shutil, "copytree", interrupted_copy)
    (tmp_path / "copier.yml").touch()
    git(tmp_path, "init", "--quiet")
    for name, value in (("user.name", "test"), ("user.email", "test@example.com")):
        git(tmp_path, "config", name, value)
    commit(tmp_path)
    assert start_fresh(tmp_path, "https://example.com/template", tmp_path) == 1
    assert changed(tmp_path) == f"A  {ANSWERS}\nD  copier.yml\n"


def test_start_fresh_needs_the_address_of_the_template(template, tmp_path):
    folder = clone(template, tmp_path / "clone")
    git(folder, "remote", "remove", "origin")
    completed = workbench(folder, "start-fresh", "--yes")
    assert completed.returncode == 2
    assert (
        "this clone has no remote `origin`. Name the template: make start-fresh TEMPLATE=<address>" in completed.stderr
    )
    assert changed(folder) == ""


def test_copy_is_small_and_has_wheels_instead_of_packages(first_copy):
    files = git(first_copy, "ls-files").stdout.splitlines()
    assert len(files) <= MOST_FILES
    texts = [path.read_text() for name in files if (path := first_copy / name).suffix not in {".whl", ".png"}]
    assert sum(len(text.splitlines()) for text in texts) <= MOST_LINES
    assert len([name for name in files if name.endswith(".whl")]) == 6
    assert not [name for name in files if name.startswith(("packages/", "benchmarks/"))]
    assert not (first_copy / "packages").exists()
    assert not [text for text in texts if "copier: if" in text or "copier: endif" in text]


def test_copy_does_not_mention_files_of_packages(first_copy):
    packages = "|".join([r"\*", *(path.name for path in (REPOSITORY / "packages").iterdir())])
    for name in git(first_copy, "ls-files").stdout.splitlines():
        # The template uses the same bootstrap script.
        if not name.endswith(".whl") and name != ".ci/bootstrap.sh":
            assert not re.search(rf"packages/({packages})", (first_copy / name).read_text()), name


def test_links_in_a_copy_resolve(first_copy):
    pages = [first_copy / name for name in git(first_copy, "ls-files", "*.md").stdout.splitlines()]
    assert pages
    targets = [(page, target) for page in pages for target in re.findall(r"\]\(([^)#:]+)[)#]", page.read_text())]
    # `make site` generates this folder.
    broken = [(page.name, target) for page, target in targets if not (page.parent / target).exists()]
    assert [link for link in broken if "reference/" not in link[1]] == []


def test_copy_is_a_valid_project_without_the_sample(first_copy, tmp_path):
    project = first_copy / "dbt_project"
    assert {path.parent.name for path in project.rglob(".gitkeep")} == {"staging", "marts", "seeds", "snapshots"}
    assert not list(project.glob("models/marts/*.sql"))
    install_packages(project)
    # In a process of its own, because dbt keeps state of the projects that other tests parse.
    command = [sys.executable, "-c", CHECK, project, tmp_path]
    completed = subprocess.run(command, env=base_environment(), capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_copy_cannot_start_fresh_again(copy):
    completed = workbench(copy, "start-fresh", "--yes")
    assert completed.returncode == 2
    assert "is a copy already" in completed.stderr


@pytest.mark.slow
def test_copier_makes_the_same_copy(template, first_copy, tmp_path):
    copier = Path(sys.executable).with_name("copier")
    completed = subprocess.run(
        [copier, "copy", "--trust", "--defaults", "--vcs-ref=HEAD", template, tmp_path / "copy"],
        env={**os.environ, "UV": find_uv(STATE / "venvs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    copied_files = {
        str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()
    }
    assert copied_files == set(git(first_copy, "ls-files").stdout.splitlines())
    assert not [
        name for name in copied_files if (tmp_path / "copy" / name).read_bytes() != (first_copy / name).read_bytes()
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("newer_template")
def test_upgrade_shows_its_changes_and_needs_confirmation(copy):
    completed = workbench(copy, "upgrade")
    assert completed.returncode == 2
    assert "+# version 2" in completed.stdout
    assert "To confirm without one: make upgrade YES=1" in completed.stderr
    assert changed(copy) == ""


@pytest.mark.slow
def test_upgrade_replaces_machinery_and_keeps_the_teams_files(newer_template, copy):
    completed = workbench(copy, "upgrade", "--yes")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    for name in ("startup.sh", "requirements.txt", ".github/workflows/release.yml", "docs/how-to/backfill.md"):
        assert (copy / name).read_text().endswith("version 2\n"), name
    for name in ("dags/pipelines.yml", "docs/how-to/alerts.md", "lambda/handler.py"):
        assert (copy / name).read_text().endswith("# ours\n"), name
        assert "version 2" not in (copy / name).read_text(), name
    assert "version 2" not in (copy / "README.md").read_text()
    models = copy / "dbt_project" / "models"
    assert [path.name for path in models.rglob("*.sql")] == ["orders.sql"]
    wheels = [path.name.split("-")[1] for path in (copy / "wheels").glob("*.whl")]
    assert len(wheels) == 6
    assert all(version.startswith("1.") for version in wheels)
    assert "mwaa-local==1." in (copy / "wheels" / "requirements.txt").read_text()
    answers = yaml.safe_load((copy / ANSWERS).read_text())
    assert git(newer_template, "rev-parse", "HEAD").stdout.startswith(answers["_commit"])

    commit(copy, "upgrade")
    completed = workbench(copy, "upgrade", "--yes")
    assert (completed.returncode, completed.stdout) == (0, "This copy has the template's newest version already.\n")


@pytest.mark.slow
def test_upgrade_refuses_a_file_that_the_team_changed_too(newer_template, copy):
    startup = copy / "startup.sh"
    startup.write_text(startup.read_text().replace("#!/bin/bash\n", "#!/bin/bash\n# ours\n"))
    commit(copy, "our startup.sh")
    completed = workbench(copy, "upgrade", "--yes")
    assert completed.returncode == 2
    message = " ".join(completed.stderr.split())
    assert "the new version changes files that were changed here too: startup.sh. Nothing was changed." in message
    assert "copier update --trust" in message
    assert changed(copy) == ""
    assert git(copy, "log", "-1", "--format=%s").stdout == "our startup.sh\n"


@pytest.mark.slow
def test_upgrade_accepts_a_new_address_of_the_template(newer_template, copy, tmp_path):
    newer_template.rename(tmp_path / "moved")
    try:
        lost = workbench(copy, "upgrade", "--yes")
        assert lost.returncode == 2
        assert "template moved: make upgrade TEMPLATE=<address>" in " ".join(lost.stderr.split())
        assert "Traceback" not in lost.stderr
        with Upgrade(copy, str(tmp_path / "moved"), STATE / "venvs") as upgrade:
            assert upgrade.conflicts == []
            upgrade.apply()
    finally:
        (tmp_path / "moved").rename(newer_template)
    assert yaml.safe_load((copy / ANSWERS).read_text())["_src_path"] == str(tmp_path / "moved")


def test_upgrade_needs_a_copy(template, copy):
    venvs = STATE / "venvs"
    with pytest.raises(SetupError, match="is the template itself"):
        Upgrade(template, "", venvs)
    (copy / ANSWERS).unlink()
    commit(copy, "lost")
    with pytest.raises(SetupError, match=r"\.copier-answers\.yml is missing"):
        Upgrade(copy, "", venvs)


def bootstrap(folder: Path, state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    state.mkdir(exist_ok=True)
    if not (state / "venvs").exists():
        (state / "venvs").mkdir()
        (state / "venvs" / "uv").symlink_to(STATE / "venvs" / "uv")
    return subprocess.run(
        [folder / ".ci" / "bootstrap.sh", *options],
        env={**os.environ, "LOCAL_DIR": str(state), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("rm wheels/mwaa_release-*", "mwaa-release was not found"),
        ("for wheel in wheels/mwaa_local-*; do echo >> $wheel; done", "Failed to download `mwaa-local=="),
        ("sed -i s/mwaa-release==/mwaa-release==9/ wheels/requirements.txt", "there is no version of mwaa-release==9"),
        (
            "sed -i /redshift-local/d wheels/requirements.txt",
            "wheels/requirements.txt has no version of redshift-local",
        ),
        ("rm wheels/requirements.txt", "wheels/requirements.txt is missing"),
    ],
)
def test_missing_or_wrong_wheels_error_says_how_to_restore_them(copy, tmp_path, damage, message):
    subprocess.run(["sh", "-c", damage], cwd=copy, check=True)
    completed = bootstrap(copy, tmp_path / "state")
    assert completed.returncode == 2
    assert message in completed.stderr
    assert "Restore it: git checkout HEAD -- wheels" in completed.stderr
    assert not (tmp_path / "state" / "venvs" / "tools" / ".ready").exists()
