"""The code package of workflows: its content, its name, and the limit of its size."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from mwaa_pipelines.serverless.limits import limit
from mwaa_release.errors import BuildError
from mwaa_release.progress import no_progress
from mwaa_release.serverless.code_package import LINUX, _install, build_code_package

PINS = "dbt-core==1.11.16\n"
STARTUP = f"# pins: begin (make lock writes the lines between these two)\n{PINS}# pins: end\n"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """startup.sh, a folder of mwaa_pipelines, and a cache in which pip has installed dbt."""
    (tmp_path / "startup.sh").write_text(STARTUP)
    package, cache = tmp_path / "mwaa_pipelines", tmp_path / "cache"
    (package / "serverless").mkdir(parents=True)
    (package / "serverless" / "pipeline_tasks.py").write_text("tasks")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_text("compiled")
    installed = cache / hashlib.sha256(f"{PINS}{LINUX}".encode()).hexdigest()[:16]
    for name in ("dbt/cli/main.py", "bin/dbt", "tests/test_x.py", "dbt/tests/util.py", ".ready"):
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / name).write_text(name)
    return tmp_path / "startup.sh", package, cache


def _installed(cache: Path) -> Path:
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    return folder


def test_package_has_the_tasks_at_its_root_and_dbt_in_a_folder(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    key = build_code_package(*folders[:2], tmp_path / "one", folders[2], no_progress)
    with zipfile.ZipFile(tmp_path / "one" / key) as archive:
        assert sorted(archive.namelist()) == [
            "dbt_environment/dbt/cli/main.py",
            "dbt_environment/dbt/tests/util.py",
            "mwaa_pipelines/serverless/pipeline_tasks.py",
            "pipeline_tasks.py",
        ]
        assert archive.read("pipeline_tasks.py") == b"tasks"


def test_same_files_give_the_same_package_and_others_another_name(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    keys = []
    for name in ("one", "two"):
        keys.append(build_code_package(*folders[:2], tmp_path / name, folders[2], no_progress))
        for path in folders[2].glob("*.zip"):
            path.unlink()
    assert keys[0] == keys[1]
    assert (tmp_path / "one" / keys[0]).read_bytes() == (tmp_path / "two" / keys[0]).read_bytes()
    (folders[1] / "serverless" / "pipeline_tasks.py").write_text("other tasks")
    assert build_code_package(*folders[:2], tmp_path / "three", folders[2], no_progress) != keys[0]


def test_package_beyond_the_limit_is_refused_with_its_largest_part(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    large = _installed(folders[2]) / "pandas" / "lib.so"
    large.parent.mkdir()
    with large.open("wb") as file:
        # Takes no space on the disk.
        file.truncate(limit("code_bytes"))
    words = r"has 250,000,\d\d\d bytes, and Amazon MWAA .* allows 250,000,000.*dbt_environment/pandas with 250,000,000"
    with pytest.raises(BuildError, match=words):
        build_code_package(*folders[:2], tmp_path / "one", folders[2], no_progress)
    assert not (tmp_path / "one").exists()


def _wheel(folder: Path) -> Path:
    """Write a wheel with a program."""
    path = folder / "shop-1.0-py3-none-any.whl"
    files = {
        "shop.py": "def main() -> None: pass",
        "shop-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n",
        "shop-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "shop-1.0.dist-info/entry_points.txt": "[console_scripts]\nshop = shop:main\n",
        "shop-1.0.dist-info/RECORD": "shop.py,,\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_package_does_not_depend_on_the_path_of_python(tmp_path: Path) -> None:
    installed = tmp_path / "cache" / "installed"
    for _ in range(2):
        # The second one finds that another build was faster.
        _install(str(_wheel(tmp_path)), installed, LINUX)
    assert (installed / "bin" / "shop").is_file()
    assert "shop.py" in (record := (installed / "shop-1.0.dist-info" / "RECORD").read_text())
    assert "bin/shop" not in record
