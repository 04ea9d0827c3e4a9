"""The `quotegate` command: run one of its words; an error is one clear line."""

import argparse
import json
import sys

from authn.errors import AuthnError
from filters.errors import FiltersError
from gateway.cli.output import answering, complain
from gateway.cli.parser import build_parser
from gateway.errors import GatewayError


def main() -> None:
    """Run one command; errors are one clear line."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


def _run() -> int:
    from vmhost.errors import HostError

    as_json = False
    try:
        with answering():
            arguments = _words()
        as_json = getattr(arguments, "json", False)
        return int(arguments.run(arguments))
    except (GatewayError, FiltersError, AuthnError, HostError) as error:
        told = {"error": {"code": error.code, "message": error.message}}
        complain(json.dumps(told) if as_json else f"quotegate: {error.code}: {error.message}")
        return 1


def _words() -> argparse.Namespace:
    try:
        return build_parser().parse_args()
    except SystemExit:
        if sys.stdout is not None:
            sys.stdout.flush()  # of help and version: whoever reads them may be gone
        raise


if __name__ == "__main__":
    main()
