"""Addresses and ports of a rule's header: any, one, ranges, lists, negations, variables."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

_DEEPEST: Final = 8
_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_PORT = re.compile(r"([0-9]{1,5})?(?:(:)([0-9]{1,5})?)?")
Range = tuple[int, int, int]  # a kind (version of IP, or 0 for ports), first, last
Single = Callable[[str], Range]


@dataclass(frozen=True, slots=True)
class _Ranges:
    """Numbers inside some ranges and outside others; no range at all means any."""

    inside: tuple[Range, ...] = ()
    outside: tuple[Range, ...] = ()

    def _has(self, kind: int, number: int) -> bool:
        if self.inside and not any(one == kind and low <= number <= high for one, low, high in self.inside):
            return False
        return not any(one == kind and low <= number <= high for one, low, high in self.outside)


class Addresses(_Ranges):
    """Addresses that a rule speaks of."""

    __slots__ = ()

    def __contains__(self, address: str) -> bool:
        if not self.inside and not self.outside:
            return True
        found = ip_address(address)
        return self._has(found.version, int(found))


class Ports(_Ranges):
    """Ports that a rule speaks of."""

    __slots__ = ()

    def __contains__(self, port: int) -> bool:
        return self._has(0, port)


@dataclass(slots=True)
class Reader:
    """Reads both, with the operator's variables. `assumed` collects those that nobody set: they are any."""

    variables: Mapping[str, str]
    assumed: set[str]

    def addresses(self, text: str) -> Addresses:
        """Read addresses; raises ValueError."""
        return Addresses(*self._ranges(text, _network))

    def ports(self, text: str) -> Ports:
        """Read ports; raises ValueError."""
        return Ports(*self._ranges(text, _ports))

    def _ranges(self, text: str, single: Single) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
        inside, outside = list[Range](), list[Range]()
        anything = False
        for negated, word in self._words(text, negated=False, depth=0):
            if word != "any":
                (outside if negated else inside).append(single(word))
            elif negated:
                raise ValueError("!any is nobody")
            else:
                anything = True
        return (() if anything else tuple(inside)), tuple(outside)

    def _words(self, text: str, *, negated: bool, depth: int) -> Iterator[tuple[bool, str]]:
        if depth > _DEEPEST:
            raise ValueError(f"lists or variables more than {_DEEPEST} deep")
        while text.startswith("!"):
            negated, text = not negated, text[1:]
        if _VARIABLE.fullmatch(text):
            value = self.variables.get(text[1:])
            if value is None:
                self.assumed.add(text[1:])
                yield False, "any"  # also where it is negated: nobody is no better guess
            else:
                yield from self._words(value.replace(" ", ""), negated=negated, depth=depth + 1)
        elif text.startswith("[") and text.endswith("]"):
            for part in _parts(text[1:-1]):
                yield from self._words(part, negated=negated, depth=depth + 1)
        else:
            yield negated, text


def _parts(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for at, one in enumerate(text):
        depth += {"[": 1, "]": -1}.get(one, 0)
        if one == "," and not depth:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _network(text: str) -> Range:
    try:
        if "-" in text:
            first, last = (ip_address(one) for one in text.split("-", 1))
            if first.version == last.version and int(first) <= int(last):
                return first.version, int(first), int(last)
        else:
            found = ip_network(text, strict=False)
            return found.version, int(found[0]), int(found[-1])
    except ValueError:
        pass
    raise ValueError(f"expected an address, a network, a list or any; got {text[:40]!r}")


def _ports(text: str) -> Range:
    match = _PORT.fullmatch(text)
    if match and (match[1] or match[3]):
        low = int(match[1] or 0)
        high = int(match[3] or 65535) if match[2] else low
        if low <= high <= 65535:
            return 0, low, high
    raise ValueError(f"expected a port, a range such as 80:90, a list or any; got {text[:40]!r}")
