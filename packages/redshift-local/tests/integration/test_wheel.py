"""The wheel works on its own: installed into an empty virtual environment, it serves a dbt project."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from redshift_local.pytest_plugin import free_port

PACKAGE = Path(__file__).parents[2]
UV = shutil.which("uv") or str(Path(sys.prefix).parent / "uv" / "bin" / "uv")
FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0.0"
profile: shop
flags: {send_anonymous_usage_stats: false}
""",
    "profiles.yml": """
shop:
  target: local
  outputs:
    local:
      type: redshift
      host: 127.0.0.1
      port: "{{ env_var('PORT') | as_number }}"
      user: awsuser
      password: "{{ env_var('PASSWORD') }}"
      dbname: dev
      schema: shop
      sslmode: disable
      threads: 2
""",
    "seeds/orders.csv": "order_id,customer,ordered_on\n1,Ann,2024-01-30\n2,Bob,2024-02-01\n3,Ann,2024-02-02\n",
    "models/customers.sql": """
{{ config(materialized='table', dist='customer') }}
select customer, count(*) as orders, dateadd(month, 1, min(ordered_on)) as reminder
from {{ ref('orders') }}
group by 1
""",
    "models/customers.yml": """
models:
  - name: customers
    columns:
      - name: customer
        data_tests: [unique, not_null]
""",
}


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    completed = subprocess.run(
        command, cwd=cwd, env=environment | variables, capture_output=True, text=True, timeout=240, check=False
    )
    assert completed.returncode == 0, completed.stdout[-3000:] + completed.stderr[-3000:]
    return completed.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", folder, PACKAGE, cwd=folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_wheel_contains_every_module_and_sql_file(wheel):
    source = PACKAGE / "src"
    files = {str(path.relative_to(source)) for kind in ("py", "sql") for path in source.rglob(f"*.{kind}")}
    assert len([name for name in files if name.endswith(".sql")]) > 5
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == files


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_dbt_builds_against_the_installed_wheel(wheel, tmp_path):
    environment = tmp_path / "venv"
    run(UV, "venv", "--quiet", "--python", sys.executable, environment, cwd=tmp_path)
    run(UV, "pip", "install", "--quiet", "--python", environment / "bin" / "python", wheel, cwd=tmp_path)
    project = tmp_path / "shop"
    for name, text in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text.lstrip())
    command = [environment / "bin" / "redshift-local", "serve", f"--port={free_port()}"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert "accepts connections" in process.stdout.readline()
            address = urlsplit(process.stdout.readline().strip())
            variables = {"PORT": str(address.port), "PASSWORD": address.password}
            output = run(Path(sys.executable).with_name("dbt"), "--no-use-colors", "build", cwd=project, **variables)
        finally:
            process.send_signal(signal.SIGINT)
    assert "PASS=4 WARN=0 ERROR=0" in output
    assert process.returncode == 130
    assert (project / ".redshift-local" / "passwords.json").stat().st_mode & 0o777 == 0o600
