"""`python -m mwaa_local.aws`: the AWS stand-in in the foreground, on `LOCAL_AWS_PORT`, until SIGTERM or Ctrl-C.

Everything it holds is in memory and gone when it stops. Exit codes: 0 stopped, 2 set-up failed.
"""

import signal
import sys

from mwaa_local.settings import Settings, SetupError, check_port


def main() -> int:
    """Serve until told to stop."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        settings = Settings.from_environment()
        check_port(settings.aws_port, "LOCAL_AWS_PORT")
    except SetupError as error:
        print(f"Set-up failed: {error}", file=sys.stderr)
        return 2
    # Imported this late because moto takes a second, and a wrong setting should be told at once.
    from mwaa_local.aws.server import serve

    serve(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
