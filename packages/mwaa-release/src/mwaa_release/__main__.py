"""`python -m mwaa_release`."""

from mwaa_release.cli import main

main()
