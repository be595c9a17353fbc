"""The security scanners find no fault in the repository and find a fault in a changed copy."""

import shutil

import pytest

from mwaa_local.settings import REPOSITORY, Settings
from mwaa_local.testing.state import STATE
from workbench.scan import scan


@pytest.mark.slow
def test_scanners_find_faults_in_a_changed_copy_and_none_here(tmp_path, capsys):
    settings = Settings(STATE, 1, 2, 3)
    assert scan(settings) == 0
    # In a copy of the template, the last one is in infra too, after `make add-serverless`.
    for folder in ("infra", ".github", "packages/mwaa-release/src/mwaa_release/serverless"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    storage = tmp_path / "infra/storage.yml"
    storage.write_text(storage.read_text().replace("BlockPublicAcls: true", "BlockPublicAcls: false", 1))
    release = tmp_path / ".github/workflows/release.yml"
    release.write_text(release.read_text().replace("needs: build", "needs: built"))
    workflow = tmp_path / "packages/mwaa-release/src/mwaa_release/serverless/workflow.yml"
    workflow.write_text(workflow.read_text().replace(", KmsKeyId: !Ref KeyArn", "", 1))
    capsys.readouterr()
    assert scan(settings, tmp_path) == 2
    output = capsys.readouterr().out
    assert "CKV_AWS_53" in output
    assert "CKV_AWS_158" in output
    assert 'job "built"' in output
