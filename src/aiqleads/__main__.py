"""`python -m aiqleads` is the command line."""

from aiqleads.cli import main

main()
