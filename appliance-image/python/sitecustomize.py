"""Run what dataclasses write about themselves without compiling it at every start; Python imports this first of all.

The standard library writes each method of a dataclass as text and gives that to `exec`. A third of a service's start
was the compiling of such texts; the image's builder did it (`vmhost/image/generated.py`), one file a module. The text
is the key, so what runs is what Python would have made of it. A text that nobody compiled ahead is compiled here.
"""

import dataclasses
import marshal

_FOLDER = __file__.rpartition("/")[0] + "/generated/"
_of: object = None
_compiled: dict[str, bytes] = {}  # the texts of the module that is being loaded


def run(text: str, names: dict[str, object], made: dict[str, object]) -> None:
    """Stand in for `exec` where dataclasses call it."""
    global _of, _compiled  # noqa: PLW0603 - imports nest, so no caller could carry it
    if names.get("__name__") != _of:
        _of = names.get("__name__")
        try:
            with open(f"{_FOLDER}{_of}", "rb") as file:  # noqa: PTH123 - loading pathlib takes time
                _compiled = marshal.load(file)  # noqa: S302 - it is part of the image, as this file
        except FileNotFoundError:
            _compiled = {}
    code = _compiled.get(text)
    exec(text if code is None else marshal.loads(code), names, made)  # noqa: S102, S302 - as dataclasses do


dataclasses.exec = run  # type: ignore[attr-defined]
