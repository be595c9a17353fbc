"""The scanners see what they are there for: each finds a fault that a copy of the repository was given."""

import shutil

import pytest

from mwaa_local.settings import REPOSITORY, Settings
from workbench.scan import scan


@pytest.mark.slow
def test_each_scanner_finds_what_is_wrong_and_nothing_in_what_is_there(tmp_path, capsys):
    settings = Settings(REPOSITORY / ".local", 1, 2, 3)
    assert scan(settings) == 0
    for folder in ("infra", ".github"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    storage = tmp_path / "infra/storage.yml"
    storage.write_text(storage.read_text().replace("BlockPublicAcls: true", "BlockPublicAcls: false", 1))
    release = tmp_path / ".github/workflows/release.yml"
    release.write_text(release.read_text().replace("needs: build", "needs: built"))
    capsys.readouterr()
    assert scan(settings, tmp_path) == 2
    output = capsys.readouterr().out
    assert "CKV_AWS_53" in output
    assert 'job "built"' in output
