"""A target with a mistake in it, to show that the fuzzer finds mistakes: started like `tests.fuzz.run`."""

import sys

import atheris

from authn.fields import Reader


@atheris.instrument_func  # type: ignore[untyped-decorator]
def careless(data: bytes) -> None:
    """Read a length and trust it."""
    try:
        cursor = Reader(data)
        if cursor.u8() == 0x51 and cursor.u8() == 0x47:
            _ = data[2 : 3 + cursor.u8()][200]
    except Exception as error:
        if isinstance(error, IndexError):
            raise


def main() -> None:
    atheris.Setup([sys.argv[0], *sys.argv[3:]], careless)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
