"""Why PostgreSQL stopped, as a message for clients and for the terminal."""

from redshift_local.server.postgres import Postgres

DISK_FULL = "53100"  # SQLSTATE disk_full
_TAIL = 4096  # bytes of PostgreSQL's log


def full_disk(folder: object) -> str:
    """Return the message that a disk is full."""
    return f"the disk is full: {folder}. Free some space, then start the warehouse again; committed data is safe"


def reason(postgres: Postgres) -> tuple[str, str]:
    """Return SQLSTATE and message for a server that closed its connections."""
    tail = postgres.log.read_bytes()[-_TAIL:] if postgres.log.exists() else b""
    if b"No space left on device" in tail:
        return DISK_FULL, full_disk(postgres.folder)
    return "57P01", f"PostgreSQL closed the connection; see {postgres.log}"
