"""Read an image's recipe (`appliance-image/NAME/recipe.toml`)."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from vmhost.errors import HostError

EPOCH = 1_767_225_600  # every file's time in an image: the same build gives the same bytes


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into an image. `directory` has the recipe itself and `files/`, which are copied as they are."""

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

    @classmethod
    def load(cls, directory: Path) -> "Recipe":
        """Read a recipe; raises HostError `bad-recipe`."""
        path = directory / "recipe.toml"
        try:
            data = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise HostError("bad-recipe", f"{path}: {error}") from error
        expected = {field.name: field.type for field in fields(cls) if field.name != "directory"}
        if set(data) != set(expected):
            odd = ", ".join(sorted(set(data) ^ set(expected)))
            raise HostError("bad-recipe", f"{path}: expected exactly {', '.join(expected)}; see {odd}")
        values: dict[str, str | tuple[str, ...]] = {}
        for name, kind in expected.items():
            value = data[name]
            if kind is str and isinstance(value, str):
                values[name] = value
            elif kind is not str and isinstance(value, list) and all(isinstance(one, str) for one in value):
                values[name] = tuple(value)
            else:
                raise HostError(
                    "bad-recipe", f"{path}: {name}: expected a text or a list of texts, got {value!r}"
                )
        return cls(directory, **values)  # type: ignore[arg-type]
