"""Read an image's recipe (`appliance-image/NAME/recipe.toml`)."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from vmhost.errors import HostError

EPOCH = 1_767_225_600  # every file's time in an image: the same build gives the same bytes


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into an image. `directory` has the recipe itself and `files/`, which are copied as they are.

    `programs` go to `/usr/bin`, `data` are files that keep their paths. An image with a `root` of its own (a recipe
    in the folder `root`) mounts that read-only, verified block by block; this one is only its initrd then.
    """

    directory: Path
    name: str
    suite: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    libraries: tuple[str, ...]
    modules: tuple[str, ...]
    wheels: tuple[str, ...]
    code: tuple[str, ...]
    left_out: tuple[str, ...]
    command_line: str
    data: tuple[str, ...] = ()
    root: "Recipe | None" = None

    @classmethod
    def load(cls, directory: Path) -> "Recipe":
        """Read a recipe; raises HostError `bad-recipe`."""
        path = directory / "recipe.toml"
        try:
            data = tomllib.loads(path.read_text())
        except OSError as error:
            there = ", ".join(sorted(one.parent.name for one in directory.parent.glob("*/recipe.toml")))
            raise HostError(
                "no-recipe", f"{path}: {error.strerror}; there are recipes of {there or 'nothing'}"
            ) from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise HostError("bad-recipe", f"{path}: {error}") from error
        kinds = {one.name: one.type for one in fields(cls) if one.name not in ("directory", "root")}
        if odd := (set(kinds) - set(data) - {"data"}) | (set(data) - set(kinds)):
            raise HostError(
                "bad-recipe", f"{path}: expected exactly {', '.join(kinds)}; see {', '.join(sorted(odd))}"
            )
        values: dict[str, str | tuple[str, ...]] = {}
        for name, value in data.items():
            kind = kinds[name]
            if kind is str and isinstance(value, str):
                values[name] = value
            elif kind is not str and isinstance(value, list) and all(isinstance(one, str) for one in value):
                values[name] = tuple(value)
            else:
                raise HostError(
                    "bad-recipe", f"{path}: {name}: expected a text or a list of texts, got {value!r}"
                )
        root = cls.load(directory / "root") if (directory / "root" / "recipe.toml").exists() else None
        return cls(directory, **values, root=root)  # type: ignore[arg-type]
