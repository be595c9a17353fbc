"""Runs the tests of dbt-redshift, unmodified, against a new local warehouse.

    python packages/redshift-local/tests/public_dbt_redshift_suite.py <folder>
    python packages/redshift-local/tests/public_dbt_redshift_suite.py <folder> tests/functional/adapter/test_basic.py

The folder gets dbt-redshift's source from the package index, an environment, and a log for each test file. Everything
takes about 25 minutes. The tests of redshift_connector and sqlalchemy-redshift, and the packages of the dbt hub, are
not on the package index.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from redshift_local.pytest_plugin import Warehouse, start_warehouse, stop_warehouse

_PACKAGE = "dbt-redshift==1.11.1"
_REQUIREMENTS = ("dbt-core==1.11.16", "dbt-tests-adapter==1.20.0", "freezegun", "pytest<9", "pytest-dotenv")
_USERS = ("dbt_test_user_1", "dbt_test_user_2", "dbt_test_user_3")
_SETUP = (
    *(f"create user {user} password 'Abcdef123'" for user in _USERS),
    "create group dbt_test_group_1",
    "create database crossdb",
    'create database "my-hyphen-db"',
    # test_autocommit.py creates it and expects an error, as it exists on dbt Labs' cluster.
    "create database db_for_test__do_delete_if_you_see_this",
)
# The local warehouse has no TLS, and the tests have no setting for that.
_PYTEST = """
import sys, pytest, redshift_connector
connect = redshift_connector.connect
redshift_connector.connect = lambda *args, **settings: connect(*args, **{**settings, "ssl": False})
sys.exit(pytest.main(sys.argv[1:]))
"""


def main() -> int:
    """Run the tests, print the last line of each log, and return how many files failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", nargs="*", help="test files; without, all functional and boundary tests")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    python, source = _install(folder)
    patterns = ("tests/functional/**/test_*.py", "tests/boundary/test_*.py")
    files = arguments.files or [
        str(file.relative_to(source)) for pattern in patterns for file in sorted(source.glob(pattern))
    ]
    with tempfile.TemporaryDirectory(dir=folder) as state:
        warehouse = start_warehouse(Path(state))
        try:
            with warehouse.connect() as session:
                session.autocommit = True
                for statement in _SETUP:
                    session.run(statement)
            return sum(_run(python, source, file, warehouse) for file in files)
        finally:
            stop_warehouse(warehouse)


def _install(folder: Path) -> tuple[Path, Path]:
    """Download and install dbt-redshift; returns the environment's Python, and the source."""
    python, source = folder / "venv" / "bin" / "python", folder / _PACKAGE.replace("-", "_").replace("==", "-")
    if not source.exists():
        venv.create(folder / "venv", with_pip=True)
        pip = [python, "-m", "pip", "--quiet"]
        subprocess.run([*pip, "install", _PACKAGE, *_REQUIREMENTS], check=True)
        subprocess.run([*pip, "download", "--no-deps", "--no-binary=:all:", "--dest", folder, _PACKAGE], check=True)
        subprocess.run(["tar", "--extract", "--directory", folder, "--file", f"{source}.tar.gz"], check=True)
    return python, source


def _run(python: Path, source: Path, file: str, warehouse: Warehouse) -> bool:
    """Run one test file; returns whether it failed."""
    environment = {
        **os.environ,
        **{f"DBT_TEST_USER_{number}": user for number, user in enumerate(_USERS, 1)},
        "DBT_TEST_GROUP_1": "dbt_test_group_1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "REDSHIFT_TEST_HOST": warehouse.host,
        "REDSHIFT_TEST_PORT": str(warehouse.port),
        "REDSHIFT_TEST_USER": warehouse.user,
        "REDSHIFT_TEST_PASS": warehouse.password,
        "REDSHIFT_TEST_DBNAME": warehouse.database,
        "REDSHIFT_TEST_REGION": "us-east-1",
        "REDSHIFT_TEST_CROSS_DBNAME": "crossdb",
        "REDSHIFT_TEST_DBNAME_W_HYPHEN": "my-hyphen-db",
    }
    log = source.parent / f"{file.replace('/', '_')}.log"
    command = [python, "-c", _PYTEST, "-q", "--tb=short", "-p", "no:cacheprovider", "--override-ini=addopts=", file]
    with log.open("w") as output:
        code = subprocess.run(command, cwd=source, env=environment, stdout=output, stderr=output).returncode
    print(f"{file}: {log.read_text().splitlines()[-1].strip('= ')}", flush=True)
    return code != 0


if __name__ == "__main__":
    sys.exit(main())
