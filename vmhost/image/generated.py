"""Compile ahead what dataclasses write when a program is loaded: several texts a class, hundreds a service.

An emulated processor spends a third of a service's start on it. `appliance-image/python/sitecustomize.py` uses the
result inside. Which texts there will be is found out by importing every module of ours that is in the image.
"""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from vmhost.image.tool import run_tool

FOLDER = "generated"
HOOK = Path("appliance-image/python/sitecustomize.py")
_COLLECT = """
import dataclasses, importlib, marshal, sys
from pathlib import Path
code, target, *packages = sys.argv[1:]
texts = {}
def note(text, names, made):
    compiled = compile(text, "<string>", "exec")
    # the later formats depend on who else holds a name
    texts.setdefault(names["__name__"], {})[text] = marshal.dumps(compiled, 2)
    exec(compiled, names, made)
dataclasses.exec = note
sys.path.insert(0, code)
for package in packages:
    for path in sorted(Path(code, package).rglob("*.py")):
        words = path.relative_to(code).with_suffix("").parts
        importlib.import_module(".".join(words[:-1] if words[-1] == "__init__" else words))
for module, compiled in texts.items():
    Path(target, module).write_bytes(marshal.dumps(dict(sorted(compiled.items())), 2))
"""


def add_generated(code: Path, packages: Iterable[str], source: Path) -> None:
    """Put the compiled texts of these packages below `code`, and the module that uses them; raises HostError."""
    shutil.copyfile(source / HOOK, code / HOOK.name)
    (code / FOLDER).mkdir()
    argv = [sys.executable, "-P", "-B", "-c", _COLLECT, str(code), str(code / FOLDER), *packages]
    run_tool(argv, PYTHONHASHSEED="0")
