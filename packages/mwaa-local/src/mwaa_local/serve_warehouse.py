"""`make warehouse`: the Redshift stand-in alone, with the users that a pipeline needs."""

import contextlib
import time

from mwaa_local.settings import Passwords, Settings, check_port
from mwaa_local.stack import Stack, clean, connect, rows
from mwaa_local.up import dsn
from mwaa_release.pipelines import first_pipeline
from mwaa_release.redshift import apply_grants


def serve_warehouse(settings: Settings) -> None:
    """Start the warehouse, create dbt_user, print one line with the address of each user, and wait for Ctrl-C.

    Raises:
        SetupError: the port is busy, or the warehouse ended.
    """
    stack = Stack(settings)
    try:
        stack.take_lock()
        clean(settings)
        check_port(settings.warehouse_port, "LOCAL_WAREHOUSE_PORT")
        passwords = Passwords.generate(settings.state)
        stack.start_warehouse()
        with contextlib.closing(connect(settings, "awsuser", passwords.awsuser)) as connection:
            rows(connection, "create schema if not exists landing")
            connection.commit()
            apply_grants(connection, "dbt_user", passwords.dbt_user, "landing", first_pipeline().target_schema)
        for user in ("dbt_user", "awsuser"):
            print(dsn(settings, user, getattr(passwords, user)), flush=True)
        while True:
            stack.check()
            time.sleep(0.5)
    finally:
        stack.stop()
