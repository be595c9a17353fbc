"""The release that a DAG takes: CURRENT if it is whole, else the newest whole one, and never half of one."""

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


def test_current_is_taken_though_others_are_newer(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    release = current_release("flights")
    assert (release.release_id, release.path, release.git_sha) == (MIDDLE, project / MIDDLE, "a" * 40)
    assert release.manifest_path == project / MIDDLE / "manifest.json"
    assert caplog.records == []


def remove_file(release: Path) -> None:
    (release / "models" / "one.sql").unlink()


def remove_manifest(release: Path) -> None:
    (release / "manifest.json").unlink()


def remove_list(release: Path) -> None:
    (release / "release.json").unlink()


def cut_file(release: Path) -> None:
    (release / "models" / "one.sql").write_text("sel")


def cut_list(release: Path) -> None:
    text = (release / "release.json").read_text()
    (release / "release.json").write_text(text[: len(text) // 2])


def empty_list(release: Path) -> None:
    (release / "release.json").write_text("")


def other_json(release: Path) -> None:
    (release / "release.json").write_text('["files"]')


def no_files_in_list(release: Path) -> None:
    (release / "release.json").write_text(
        json.dumps({"release_id": release.name, "git_sha": "a", "dbt_version": "1.11.1", "files": []})
    )


def binary_list(release: Path) -> None:
    (release / "release.json").write_bytes(b"\xff\xfe{}")


def file_is_a_folder(release: Path) -> None:
    (release / "manifest.json").unlink()
    (release / "manifest.json").mkdir()


def folder_is_a_file(release: Path) -> None:
    (release / "models" / "one.sql").unlink()
    (release / "models").rmdir()
    (release / "models").write_text("select 1")


def list_of_another_release(release: Path) -> None:
    text = (release / "release.json").read_text()
    (release / "release.json").write_text(text.replace(release.name, "20251231T000000Z-eeeeeee"))


def path_out_of_the_release(release: Path) -> None:
    content = json.loads((release / "release.json").read_text())
    content["files"].append({"path": "../CURRENT", "size": len(MIDDLE) + 1, "sha256": ""})
    (release / "release.json").write_text(json.dumps(content))


def cut_manifest(release: Path) -> None:
    (release / "manifest.json").write_text("{")


def other_dbt(release: Path) -> None:
    text = (release / "release.json").read_text()
    (release / "release.json").write_text(text.replace(f"{DBT_VERSION}.1", "1.7.4"))


def no_dbt(release: Path) -> None:
    text = (release / "release.json").read_text()
    (release / "release.json").write_text(text.replace(f'"{DBT_VERSION}.1"', "null"))


SPOILERS = [
    *(cut_manifest, other_dbt, no_dbt),
    *(remove_file, remove_manifest, remove_list, cut_file, cut_list, empty_list, other_json, no_files_in_list),
    *(binary_list, file_is_a_folder, folder_is_a_file, list_of_another_release, path_out_of_the_release),
]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_half_of_current_is_not_taken(project: Path, caplog: pytest.LogCaptureFixture, spoil: object) -> None:
    spoil(project / MIDDLE)
    with caplog.at_level(logging.WARNING):
        assert current_release("flights").release_id == NEW
    (record,) = caplog.records
    assert MIDDLE in record.getMessage()
    assert NEW in record.getMessage()


@pytest.mark.parametrize("spoil", SPOILERS)
def test_what_is_wrong_is_said_when_nothing_is_whole(project: Path, spoil: object) -> None:
    for release_id in (OLD, MIDDLE, NEW):
        spoil(project / release_id)
    with pytest.raises(PipelineError) as raised:
        current_release("flights")
    for release_id in (OLD, MIDDLE, NEW):
        assert release_id in str(raised.value)


@pytest.mark.parametrize("current", [None, "", "\n", "20991231T000000Z-fffffff", "words"])
def test_without_a_usable_current_the_newest_is_taken(project: Path, current: str | None) -> None:
    (project / "CURRENT").unlink()
    if current is not None:
        (project / "CURRENT").write_text(current)
    assert current_release("flights").release_id == NEW


@pytest.mark.parametrize("current", ["..", ".", "../other/20260101T000000Z-aaaaaaa", "/etc", "a/../../other", "a\x00b"])
def test_current_leads_nowhere_else(project: Path, current: str) -> None:
    add(project.parent / "other", OLD)
    (project / "CURRENT").write_text(current)
    assert current_release("flights").path == project / NEW


def test_a_binary_current_counts_as_none(project: Path) -> None:
    (project / "CURRENT").write_bytes(b"\xff\xfe")
    assert current_release("flights").release_id == NEW


def test_a_project_that_is_not_there(project: Path) -> None:
    with pytest.raises(PipelineError, match=r"'other' has no release in .*; create one: python -m mwaa_release apply"):
        current_release("other")


def test_a_project_without_a_release(project: Path) -> None:
    (project.parent / "empty").mkdir()
    with pytest.raises(PipelineError, match="there is none"):
        current_release("empty")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_manifest, "the size of manifest.json differs from release.json"),
        (
            other_dbt,
            "its manifest is of dbt 1.7.4, but workers run dbt 1.11; build it again: python -m mwaa_release build",
        ),
        (remove_list, "release.json is missing"),
        (cut_list, "release.json cannot be read"),
    ],
)
def test_what_is_wrong_with_a_release_names_the_fix(project: Path, spoil: object, words: str) -> None:
    for release_id in (OLD, MIDDLE, NEW):
        spoil(project / release_id)
    with pytest.raises(PipelineError, match=words):
        current_release("flights")


def test_the_dbt_of_releases_is_that_of_the_workers(manifest: dict[str, object]) -> None:
    startup = Path(__file__).parents[4] / "startup.sh"
    assert f"\ndbt-core=={DBT_VERSION}." in startup.read_text()
    assert manifest["metadata"]["dbt_version"].startswith(f"{DBT_VERSION}.")
