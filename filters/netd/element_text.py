"""Write elements as nft text, for transactions that also change rules. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from ipaddress import IPv4Address

from filters.flow import Protocol
from filters.netd.elements import Element, read_lease_key, read_mark
from filters.ruleset.names import FAMILY, TABLE, MapName, SetName


def add_text(elements: Iterable[Element]) -> str:
    """Write the commands that add elements, one command per set."""
    return _commands("add", elements, full=True)


def remove_text(elements: Iterable[Element]) -> str:
    """Write the commands that remove elements whether present or not (see `nf_tables.remove`)."""
    listed = list(elements)
    return add_text(listed) + _commands("delete", listed, full=False)


def _commands(verb: str, elements: Iterable[Element], *, full: bool) -> str:
    by_place: dict[SetName | MapName, list[str]] = defaultdict(list)
    for element in elements:
        by_place[element.place].append(_text(element) if full else _key(element))
    return "".join(
        f"{verb} element {FAMILY} {TABLE} {place} {{ {', '.join(members)} }}\n"
        for place, members in by_place.items()
    )


def _text(element: Element) -> str:
    text = _key(element)
    if element.timeout_ms is not None:
        text += f" timeout {element.timeout_ms}ms"
    if element.data is not None:
        text += f" : {read_mark(element.data):#x}"
    return text


def _key(element: Element) -> str:
    match element.place:
        case SetName.LIVE:
            return f"{read_mark(element.key):#x}"
        case SetName.AUTHORITY | SetName.AUTHORITY_HAD:
            return f'"{element.key.rstrip(bytes(1)).decode()}"'
        case MapName.LEASE | MapName.LEASE_ICMP:
            key = read_lease_key(element.key)
            text = f"{key.source} . {key.destination}"
            if key.service.protocol is Protocol.ICMP:
                return text
            return f"{text} . {key.service.protocol.name.lower()} . {key.service.port}"
    return str(IPv4Address(element.key))
