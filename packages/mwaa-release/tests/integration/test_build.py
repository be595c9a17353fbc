"""`build` parses with the real dbt and creates the same manifest for the same source."""

import io
import json
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mwaa_release.apply import apply
from mwaa_release.build import build, find_projects, git_state
from mwaa_release.errors import BuildError, SetupError
from mwaa_release.release import RELEASE_ID, Artifact

REPOSITORY = Path(__file__).parents[4]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_artifact_contains_only_files_that_run(toy_repository, tmp_path, monkeypatch):
    # A developer's environment variables must not affect a release.
    monkeypatch.setenv("REDSHIFT_SCHEMA", "dbt_jane")
    # Developers often store credentials in this file.
    (toy_repository / "dbt_project" / ".env").write_text("REDSHIFT_PASSWORD=hers")
    before = snapshot(toy_repository)
    messages = []
    artifact = build(
        tmp_path / "out",
        repository=toy_repository,
        progress=lambda what, done, total: messages.append((what, done, total)),
    )
    assert snapshot(toy_repository) == before
    assert messages[0] == ("dbt parse: toy", 0, 1)
    (release,) = artifact.releases
    assert RELEASE_ID.fullmatch(release.release_id)
    assert release.release_id.endswith("-unknown")
    assert {file.path for file in release.files} == {
        "dbt_project.yml",
        "manifest.json",
        "models/first.sql",
        "models/first.yml",
        "models/second.sql",
        "seeds/codes.csv",
        "selections/audit.json",
        "selections/everything.json",
        "tests/no_rows.sql",
    }
    package = {file for file in artifact.files if file.startswith("dags/mwaa_pipelines/")}
    assert {"dags/mwaa_pipelines/__init__.py", "dags/mwaa_pipelines/sensors.py"} <= package
    assert not [file for file in package if "__pycache__" in file]
    assert (artifact.folder / "dags/.airflowignore").read_text() == "dbt/\nmwaa_pipelines/\ndbt/\n"
    assert artifact.wheels == ()
    assert set(artifact.files) - package == {
        "dags/.airflowignore",
        "dags/parts/__init__.py",
        "dags/pipelines.py",
        "requirements.txt",
        "startup.sh",
    }
    manifest = (artifact.folder / release.prefix / "manifest.json").read_text()
    assert json.loads(manifest)["nodes"]["model.toy.first"]["schema"] == "analytics"
    for private in (str(tmp_path), str(REPOSITORY), "nobody", "dbt_jane"):
        assert private not in manifest
    assert zipfile.ZipFile(artifact.folder / "lambda.zip").namelist() == ["handler.py", "overdue_runs.py"]

    # The same source gives the same content at any time and in any folder.
    again = build(tmp_path / "again", repository=toy_repository)
    assert again.releases[0].content_sha256 == release.content_sha256
    assert (again.folder / "lambda.zip").read_bytes() == (artifact.folder / "lambda.zip").read_bytes()


def test_broken_model_is_reported_and_the_earlier_artifact_is_kept(toy_repository, tmp_path):
    earlier = tmp_path / "out" / "earlier.txt"
    earlier.parent.mkdir()
    earlier.write_text("x")
    for text, messages in (
        ("select *\nfrom {{ ref('nowhere') }}\n", r"(?s)broken\.sql.*nowhere"),
        ("select *\nfrom {{ ref('first' }}\n", r"(?s)broken.*line 2"),
    ):
        (toy_repository / "dbt_project/models/broken.sql").write_text(text)
        with pytest.raises(BuildError, match=messages):
            build(tmp_path / "out", repository=toy_repository)
        assert earlier.exists()
        assert not (tmp_path / "out.partial").exists()


def test_syntax_error_in_a_dag_file_is_an_error_with_its_line(toy_repository, tmp_path):
    path = toy_repository / "dags" / "own_tasks.py"
    path.write_text("first = 1\ndef broken(:\n")
    with pytest.raises(BuildError) as raised:
        build(tmp_path / "artifact", repository=toy_repository)
    assert str(raised.value).startswith(f"{path}:2: SyntaxError: invalid syntax\n    def broken(:\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: 7up\n", "`name` must be"),
        ("name: [\n", "is not valid YAML"),
        ("- a\n", "`name` must be"),
        ("name: toy\nprofile: other\n", "other"),
    ],
)
def test_invalid_dbt_project_file_is_an_error_that_names_the_cause(toy_repository, tmp_path, text, message):
    (toy_repository / "dbt_project/dbt_project.yml").write_text(text)
    with pytest.raises(BuildError, match=re.escape(message)):
        build(tmp_path / "out", repository=toy_repository)


@pytest.fixture
def package_index(tmp_path, monkeypatch) -> Path:
    """A folder that is the only source of packages for pip."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, version in (("dbt_toy", "1.0"), ("cosmos_toy", "2.0")):
        information = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(folder / f"{name}-{version}-cp312-cp312-manylinux_2_28_x86_64.whl", "w") as wheel:
            wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\n")
            wheel.writestr(f"{information}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.slow
def test_wheels_of_both_pin_lists_are_built_on_request(toy_repository, tmp_path, package_index, bucket):
    (toy_repository / "startup.sh").write_text("# pins: begin (x)\ndbt-toy==1.0 ; python_version >= '3'\n# pins: end\n")
    (toy_repository / "requirements.txt").write_text("# Comment\ncosmos-toy==2.0\n")
    artifact = build(tmp_path / "out", repository=toy_repository, wheels=True)
    wheels = [
        "wheels/dbt/dbt_toy-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        "wheels/requirements/cosmos_toy-2.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    ]
    assert [file.path for file in artifact.wheels] == wheels
    applied = apply(artifact, bucket)
    assert [file.path for file in applied.plan.wheels] == wheels
    # Containers that already run need the wheels of their startup.sh, so a release deletes none.
    bucket.s3.put_object(Bucket=bucket.name, Key="wheels/dbt/dbt_toy-0.9-py3-none-any.whl", Body=b"x")
    assert not apply(artifact, bucket).changed
    assert len(bucket.sizes("wheels/")) == 3


def test_wheel_that_cannot_be_downloaded_is_an_error_that_names_it(toy_repository, tmp_path, package_index):
    (toy_repository / "startup.sh").write_text("# pins: begin (x)\ndbt-toy==1.0\n# pins: end\n")
    for line, words in (
        ("cosmos-toy==9.0", "wheels of requirements.txt: ERROR: Could not find a version that satisfies"),
        ("cosmos-toy>=2.0", "'cosmos-toy>=2.0' does not pin a version"),
    ):
        (toy_repository / "requirements.txt").write_text(f"{line}\n")
        with pytest.raises(BuildError, match=re.escape(words)):
            build(tmp_path / "out", repository=toy_repository, wheels=True)
    (toy_repository / "startup.sh").write_text("#!/bin/bash\n")
    with pytest.raises(BuildError, match="restore them"):
        build(tmp_path / "out", repository=toy_repository, wheels=True)


def test_two_projects_with_the_same_name_are_rejected(toy_repository, tmp_path):
    (toy_repository / "second").mkdir()
    (toy_repository / "second/dbt_project.yml").write_text("name: toy\n")
    with pytest.raises(BuildError, match="have the same name 'toy'"):
        build(tmp_path / "out", repository=toy_repository)


def test_missing_project_profile_or_artifact_is_named(toy_repository, tmp_path):
    (toy_repository / "dbt_project/profiles.yml").unlink()
    with pytest.raises(SetupError, match=r"profiles\.yml is missing"):
        build(tmp_path / "out", repository=toy_repository)
    (toy_repository / "dbt_project/dbt_project.yml").unlink()
    with pytest.raises(SetupError, match="has no dbt project"):
        build(tmp_path / "out", repository=toy_repository)
    with pytest.raises(SetupError, match="run: python -m mwaa_release build"):
        Artifact.read(tmp_path / "out")


def test_release_records_the_commit_and_uncommitted_changes(toy_repository, tmp_path):
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments]
        return subprocess.run(command, cwd=toy_repository, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")
    commit = git("rev-parse", "HEAD")
    projects = [toy_repository / "dbt_project"]
    assert git_state(toy_repository, projects) == (commit, False)
    (toy_repository / "notes.txt").write_text("a file that is not shipped")
    assert git_state(toy_repository, projects) == (commit, False)
    assert git_state(toy_repository, [tmp_path / "altered copy"]) == (commit, True)
    (toy_repository / "dags/pipelines.py").write_text("x")
    assert git_state(toy_repository, projects) == (commit, True)


def test_this_repository_can_be_released(bucket, tmp_path, live_release):
    assert REPOSITORY / "dbt_project" in find_projects()
    artifact = build(tmp_path / "out")
    apply(artifact, bucket)
    assert live_release(bucket) == artifact.releases[0].release_id
    # Lambda imports the handler from the top level of the archive.
    names = zipfile.ZipFile(io.BytesIO((artifact.folder / "lambda.zip").read_bytes())).namelist()
    assert "handler.py" in names


@pytest.mark.slow
def test_second_project_is_released_and_its_manifest_works_as_dbt_state(toy_repository, tmp_path, bucket, live_release):
    second = toy_repository / "dbt_second"
    second.mkdir()
    (second / "dbt_project.yml").write_text("name: second\nversion: '1.0'\nprofile: toy\n")
    (second / "profiles.yml").write_text((toy_repository / "dbt_project/profiles.yml").read_text())
    (second / "models").mkdir()
    (second / "models/only.sql").write_text("select 1 as id\n")
    artifact = build(tmp_path / "out", repository=toy_repository)
    apply(artifact, bucket)
    assert live_release(bucket, "toy") == live_release(bucket, "second")

    # Slim CI compares a branch with the released manifest.
    (state,) = (artifact.folder / release.prefix for release in artifact.releases if release.project_name == "toy")
    project = toy_repository / "dbt_project"
    (project / "models/second.sql").write_text("select 2 as id from {{ ref('first') }}\n")
    run = subprocess.run(
        [Path(sys.executable).with_name("dbt"), "-q", "ls", "--select", "state:modified", "--state", state],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.split() == ["toy.second"], run.stdout + run.stderr


@pytest.mark.slow
def test_local_dbt_packages_are_part_of_the_release(toy_repository, tmp_path):
    project = toy_repository / "dbt_project"
    for name, text in {
        "packages.yml": "packages:\n  - local: own/money\n",
        "own/money/dbt_project.yml": "name: money\nversion: '1.0'\n",
        "own/money/macros/dollars.sql": "{% macro dollars(cents) %}{{ cents }} / 100.0{% endmacro %}\n",
        "own/money/target/manifest.json": "{}",
        "models/paid.sql": "select {{ money.dollars(250) }} as paid\n",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    (release,) = build(tmp_path / "out", repository=toy_repository).releases
    files = {file.path for file in release.files}
    assert {"dbt_packages/money/dbt_project.yml", "dbt_packages/money/macros/dollars.sql"} <= files
    # Only once, and without the files that dbt generates in the package's folder.
    assert not [file for file in files if file.startswith("own/") or "target/" in file]
    assert not any(file.startswith("dbt_packages/.") or file == "package-lock.yml" for file in files)
    # dbt packages are installed again only if packages.yml has changed.
    installed = (project / "dbt_packages" / "money").lstat().st_mtime_ns
    build(tmp_path / "out", repository=toy_repository)
    assert (project / "dbt_packages" / "money").lstat().st_mtime_ns == installed
    # A package can have packages.
    (project / "own" / "coins").mkdir()
    (project / "own" / "coins" / "dbt_project.yml").write_text("name: coins\nversion: '1.0'\n")
    (project / "own" / "money" / "packages.yml").write_text("packages:\n  - local: own/coins\n")
    (release,) = build(tmp_path / "out", repository=toy_repository).releases
    files = {file.path for file in release.files}
    assert "dbt_packages/coins/dbt_project.yml" in files
    assert not [file for file in files if file.startswith("own/")]
    # And these can have packages, too.
    (project / "own" / "banks").mkdir()
    (project / "own" / "banks" / "dbt_project.yml").write_text("name: banks\nversion: '1.0'\n")
    (project / "own" / "coins" / "packages.yml").write_text("packages:\n  - local: own/banks\n")
    (release,) = build(tmp_path / "out", repository=toy_repository).releases
    assert "dbt_packages/banks/dbt_project.yml" in {file.path for file in release.files}
    assert (project / "dbt_packages" / "money").lstat().st_mtime_ns != installed
    # A lock file that a team keeps in git is not replaced.
    subprocess.run(["git", "init", "--quiet"], cwd=toy_repository, check=True)
    subprocess.run(["git", "add", "--force", "dbt_project/package-lock.yml"], cwd=toy_repository, check=True)
    lock = (project / "package-lock.yml").read_text()
    (project / "own" / "banks" / "packages.yml").write_text("packages:\n  - local: own/money\n")
    with pytest.raises(BuildError, match=r"package-lock\.yml is older than .* git tracks it.* dbt deps --upgrade"):
        build(tmp_path / "out", repository=toy_repository)
    assert (project / "package-lock.yml").read_text() == lock


@pytest.mark.slow
def test_packages_can_come_from_a_private_hub_with_a_token(toy_repository, tmp_path, monkeypatch):
    requested_paths = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            requested_paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setenv("DBT_PACKAGE_HUB_URL", f"http://127.0.0.1:{hub.server_port}/")
        monkeypatch.setenv("DBT_ENV_SECRET_TOKEN", "t0ken")
        packages = toy_repository / "dbt_project" / "packages.yml"
        packages.write_text("packages:\n  - {package: acme/money, version: 1.0.0}\n")
        with pytest.raises(BuildError, match="acme/money was not found in the package index"):
            build(tmp_path / "out", repository=toy_repository)
        url = f"http://127.0.0.1:{hub.server_port}/{{{{ env_var('DBT_ENV_SECRET_TOKEN') }}}}.tar.gz"
        packages.write_text(f'packages:\n  - {{name: money, tarball: "{url}"}}\n')
        with pytest.raises(BuildError) as raised:
            build(tmp_path / "again", repository=toy_repository)
        hub.shutdown()
    assert requested_paths[-1] == "/t0ken.tar.gz"
    assert "t0ken" not in str(raised.value)


@pytest.mark.slow
def test_dbt_package_download_error_is_a_few_lines(toy_repository, tmp_path):
    packages = toy_repository / "dbt_project" / "packages.yml"
    packages.write_text("packages:\n  - {name: money, tarball: 'http://127.0.0.1:1/money.tar.gz'}\n")
    with pytest.raises(BuildError) as raised:
        build(tmp_path / "out", repository=toy_repository)
    first, *messages = str(raised.value).splitlines()
    assert first == "dbt deps failed for project 'toy':"
    assert "/money.tar.gz" in "\n".join(messages)
    assert len(messages) < 5
    assert messages[-1].endswith("A package inside the project, declared with `local: <folder>`, needs no network")


def test_release_holds_the_project_and_nothing_that_git_ignores(toy_repository, tmp_path):
    project = toy_repository / "dbt_project"
    shared = {
        "lib/dbt_project.yml": "name: lib\nversion: '1.0'\n",
        "lib/models/shared.sql": "select 1 as id\n",
        "dbt_project/packages.yml": "packages:\n  - local: ../lib\n",
        # dbt's own folders, and folders of models with their names.
        "dbt_project/target/manifest.json": "{}",
        "dbt_project/logs/dbt.log": "",
        "dbt_project/models/target/stg_target_orders.sql": "select 1 as id\n",
        "dbt_project/models/logs/stg_logs.sql": "select * from {{ ref('shared') }}\n",
        ".gitignore": "dbt_packages/\ntarget/\n*.duckdb\n!dbt_project/models/target/\n",
        "dbt_project/notes.duckdb": "local data",
    }
    for name, text in shared.items():
        (toy_repository / name).parent.mkdir(parents=True, exist_ok=True)
        (toy_repository / name).write_text(text)
    git = ["git", "-C", toy_repository]
    subprocess.run([*git, "init", "-q"], check=True)
    # The package of two projects is not a project.
    (release,) = build(tmp_path / "out", repository=toy_repository).releases
    files = {file.path for file in release.files}
    assert {
        "models/first.sql",
        "models/target/stg_target_orders.sql",
        "models/logs/stg_logs.sql",
        "dbt_packages/lib/models/shared.sql",
    } <= files
    assert not [file for file in files if file.endswith(".duckdb") or file.startswith(("target/", "logs/"))]
    nodes = json.loads((tmp_path / "out" / release.prefix / "selections" / "everything.json").read_text())["nodes"]
    assert {"model.toy.stg_logs", "model.toy.stg_target_orders", "model.lib.shared"} <= set(nodes)
    (toy_repository / ".gitignore").write_text("dbt_packages/\nlogs/\n")
    with pytest.raises(BuildError, match=r"^git ignores \S+/models/logs, so the release would be without it"):
        build(tmp_path / "out", repository=toy_repository)
    # A changed copy of a project, in a folder that git ignores.
    (toy_repository / ".gitignore").write_text("dbt_packages/\ncopies/\n")
    shutil.copytree(project, toy_repository / "copies" / "toy", symlinks=True)
    (copy,) = build(tmp_path / "copy", [toy_repository / "copies" / "toy"], toy_repository).releases
    assert {"models/first.sql", "models/logs/stg_logs.sql"} <= {file.path for file in copy.files}


def test_variables_without_a_value_are_listed_and_come_from_the_entry(toy_repository, tmp_path):
    models = toy_repository / "dbt_project" / "models"
    (models / "layered.sql").write_text("select '{{ env_var('LAYER') }}' as a, '{{ env_var('TEAM', 'all') }}' as b\n")
    (models / "regional.sql").write_text("select '{{ env_var(\"REGION\") }}' as region\n")
    with pytest.raises(BuildError) as raised:
        build(tmp_path / "out", repository=toy_repository)
    lines = str(raised.value).splitlines()
    assert lines[-3].startswith("Set these variables in `env:` of the pipeline in pipelines.yml")
    assert lines[-2:] == ["  LAYER: models/layered.sql", "  REGION: models/regional.sql"]
    entry = "{dag_name: daily, project_name: toy, redshift_connection_id: c, target_database: dev, target_schema: s"
    pipelines = toy_repository / "dags" / "pipelines.yml"
    pipelines.write_text(f"pipelines:\n  - {entry}, env: {{LAYER: gold}}, secret_env: {{REGION: eu/key}}}}\n")
    (release,) = build(tmp_path / "out", repository=toy_repository).releases
    assert "selections/pipelines/daily.json" in {file.path for file in release.files}
