"""A DAG uses the release that CURRENT names if it is complete, else the newest complete release."""

import json
import logging
from pathlib import Path

import pytest

from mwaa_pipelines.release import DBT_VERSION, current_release
from mwaa_pipelines.settings import PipelineError

OLD, MIDDLE, NEW = "20260101T000000Z-aaaaaaa", "20260102T000000Z-bbbbbbb", "20260103T000000Z-ccccccc"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DBT_PROJECT_PATH", str(tmp_path / "dbt"))
    folder = tmp_path / "dbt" / "flights"
    for release_id in (OLD, MIDDLE, NEW):
        add(folder, release_id)
    (folder / "CURRENT").write_text(f"{MIDDLE}\n")
    return folder


def add(project: Path, release_id: str) -> Path:
    release = project / release_id
    (release / "models").mkdir(parents=True)
    files = {"dbt_project.yml": "name: flights", "models/one.sql": "select 1", "manifest.json": "{}"}
    for name, text in files.items():
        (release / name).write_text(text)
    content = {
        "release_id": release_id,
        "git_sha": "a" * 40,
        "dbt_version": f"{DBT_VERSION}.1",
        "files": [{"path": name, "size": len(text), "sha256": ""} for name, text in files.items()],
    }
    (release / "release.json").write_text(json.dumps(content))
    return release


def test_current_release_is_used_even_if_newer_releases_exist(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    release = current_release("flights")
    assert (release.release_id, release.path, release.git_sha) == (MIDDLE, project / MIDDLE, "a" * 40)
    assert release.manifest_path == project / MIDDLE / "manifest.json"
    assert caplog.records == []


def remove_file(release: Path) -> None:
    (release / "models" / "one.sql").unlink()


def remove_manifest(release: Path) -> None:
    (release / "manifest.json").unlink()


def remove_release_json(release: Path) -> None:
    (release / "release.json").unlink()


def truncate_file(release: Path) -> None:
    (release / "models" / "one.sql").write_text("sel")


def truncate_release_json(release: Path) -> None:
    text = (release / "release.json").read_text()
    (release / "release.json").write_text(text[: len(text) // 2])


def empty_release_json(release: Path) -> None:
    (release / "release.json").write_text("")


def release_json_is_a_list(release: Path) -> None:
    (release / "release.json").write_text('["files"]')


def release_json_without_files(release: Path) -> None:
    (release / "release.json").write_text(
        json.dumps({"release_id": release.name, "git_sha": "a", "dbt_version": "1.11.1", "files": []})
    )


def binary_release_json(release: Path) -> None:
    (release / "release.json").write_bytes(b"\xff\xfe{}")


def file_is_a_folder(release: Path) -> None:
    (release / "manifest.json").unlink()
    (release / "manifest.json").mkdir()


def folder_is_a_file(release: Path) -> None:
    (release / "models" / "one.sql").unlink()
    (release / "models").rmdir()
    (release / "models").write_text("select 1")


def release_json_of_another_release(release: Path) -> None:
    text = (release / "release.json").read_text()
    (release / "release.json").write_text(text.replace(release.name, "20251231T000000Z-eeeeeee"))


def path_outside_the_release(release: Path) -> None:
    content = json.loads((release / "release.json").read_text())
    content["files"].append({"path": "../CURRENT", "size": len(MIDDLE) + 1, "sha256": ""})
    (release / "release.json").write_text(json.dumps(content))


def truncate_manifest(release: Path) -> None:
    (release / "manifest.json").write_text("{")


def other_dbt_version(release: Path) -> None:
    text = (release / "release.json").read_text()
    (release / "release.json").write_text(text.replace(f"{DBT_VERSION}.1", "1.7.4"))


def no_dbt_version(release: Path) -> None:
    text = (release / "release.json").read_text()
    (release / "release.json").write_text(text.replace(f'"{DBT_VERSION}.1"', "null"))


DAMAGES = [
    *(truncate_manifest, other_dbt_version, no_dbt_version),
    *(
        remove_file,
        remove_manifest,
        remove_release_json,
        truncate_file,
        truncate_release_json,
        empty_release_json,
        release_json_is_a_list,
        release_json_without_files,
    ),
    *(
        binary_release_json,
        file_is_a_folder,
        folder_is_a_file,
        release_json_of_another_release,
        path_outside_the_release,
    ),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_incomplete_current_release_is_replaced_by_the_newest(
    project: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    damage(project / MIDDLE)
    with caplog.at_level(logging.WARNING):
        assert current_release("flights").release_id == NEW
    (record,) = caplog.records
    assert MIDDLE in record.getMessage()
    assert NEW in record.getMessage()


@pytest.mark.parametrize("damage", DAMAGES)
def test_error_names_every_release_if_none_is_complete(project: Path, damage: object) -> None:
    for release_id in (OLD, MIDDLE, NEW):
        damage(project / release_id)
    with pytest.raises(PipelineError) as raised:
        current_release("flights")
    for release_id in (OLD, MIDDLE, NEW):
        assert release_id in str(raised.value)


@pytest.mark.parametrize("current", [None, "", "\n", "20991231T000000Z-fffffff", "words"])
def test_missing_or_invalid_current_selects_the_newest_release(project: Path, current: str | None) -> None:
    (project / "CURRENT").unlink()
    if current is not None:
        (project / "CURRENT").write_text(current)
    assert current_release("flights").release_id == NEW


@pytest.mark.parametrize("current", ["..", ".", "../other/20260101T000000Z-aaaaaaa", "/etc", "a/../../other", "a\x00b"])
def test_current_cannot_point_outside_the_project_folder(project: Path, current: str) -> None:
    add(project.parent / "other", OLD)
    (project / "CURRENT").write_text(current)
    assert current_release("flights").path == project / NEW


def test_binary_current_file_selects_the_newest_release(project: Path) -> None:
    (project / "CURRENT").write_bytes(b"\xff\xfe")
    assert current_release("flights").release_id == NEW


def test_missing_project_error_names_the_command_to_run(project: Path) -> None:
    with pytest.raises(PipelineError, match=r"'other' has no release in .*; create one: python -m mwaa_release apply"):
        current_release("other")


def test_project_without_a_release_is_an_error(project: Path) -> None:
    (project.parent / "empty").mkdir()
    with pytest.raises(PipelineError, match="there is none"):
        current_release("empty")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate_manifest, "the size of manifest.json differs from release.json"),
        (
            other_dbt_version,
            "its manifest is of dbt 1.7.4, but workers run dbt 1.11; build it again: python -m mwaa_release build",
        ),
        (remove_release_json, "release.json is missing"),
        (truncate_release_json, "release.json cannot be read"),
    ],
)
def test_incomplete_release_error_names_cause_and_fix(project: Path, damage: object, words: str) -> None:
    for release_id in (OLD, MIDDLE, NEW):
        damage(project / release_id)
    with pytest.raises(PipelineError, match=words):
        current_release("flights")


def test_releases_and_workers_use_the_same_dbt_version(manifest: dict[str, object]) -> None:
    startup = Path(__file__).parents[4] / "startup.sh"
    assert f"\ndbt-core=={DBT_VERSION}." in startup.read_text()
    assert manifest["metadata"]["dbt_version"].startswith(f"{DBT_VERSION}.")
