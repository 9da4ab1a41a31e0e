"""`aiqleads` and `python -m aiqleads`: the command line, once its figures are found good."""

import sys

from aiqleads.errors import AIQLeadsError


def main() -> None:
    """Runs the command line; a fault in tiers.toml is one line, as every other is."""
    try:
        from aiqleads import cli
    except AIQLeadsError as error:
        print(f"aiqleads: {' '.join(error.detail.split())}", file=sys.stderr)
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
