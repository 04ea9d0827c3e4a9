"""The `quotegate` command: run one of its words; an error is one clear line."""

import json
import sys

from authn.errors import AuthnError
from filters.errors import FiltersError
from gateway.cli.output import complain
from gateway.cli.parser import build_parser
from gateway.errors import GatewayError


def main() -> None:
    """Run one command; errors are one clear line."""
    arguments = build_parser().parse_args()
    from vmhost.errors import HostError

    try:
        sys.exit(arguments.run(arguments))
    except (GatewayError, FiltersError, AuthnError, HostError) as error:
        told = {"error": {"code": error.code, "message": error.message}}
        as_json = getattr(arguments, "json", False)
        complain(json.dumps(told) if as_json else f"quotegate: {error.code}: {error.message}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


if __name__ == "__main__":
    main()
