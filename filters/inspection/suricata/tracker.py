"""Follow one flow for rules: what its streams and messages have shown, and which rules that fulfils."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from filters.inspection.finding import Direction, Finding
from filters.inspection.suricata.matching import matches_any
from filters.inspection.suricata.model import BODIES, Action, Group, Rule
from filters.inspection.suricata.ruleset import RuleSet
from filters.inspection.suricata.streams import StreamWatch

_REPEATED: Final = frozenset(
    {"http", "dns"}
)  # a rule is told for each of their messages; elsewhere once a flow
_Key = tuple[int, Direction]
_Fulfilled = tuple[Rule, Direction, str]  # with the protocol of its message; of bytes alone none


@dataclass(slots=True)
class _Message:
    """One message of a direction: its whole fields, and which rules' parts its body has fulfilled."""

    protocol: str = ""
    fields: dict[str, list[bytes]] = field(default_factory=dict)
    done: set[tuple[int, str]] = field(default_factory=set)


class RuleTracker:
    """One flow. Say what comes, then take the findings with `conclude`; raises LimitHit."""

    def __init__(
        self, rules: RuleSet, client: tuple[str, int], server: tuple[str, int], *, is_tcp: bool = True
    ) -> None:
        self._rules, self._client, self._server, self._is_tcp = rules, client, server, is_tcp
        self._raw: dict[Direction, StreamWatch] = {}
        self._bodies: dict[Direction, StreamWatch] = {}
        self._messages = {way: _Message() for way in Direction}
        self._concerned: dict[_Key, bool] = {}
        self._raw_done: set[_Key] = set()
        self._message_done: dict[_Key, str] = {}  # of rules that also speak of the stream: in which protocol
        self._told: set[_Key] = set()
        self._fulfilled: list[_Fulfilled] = []
        self._waiting: list[_Fulfilled] = []  # for the protocol to show
        self._spoken = ""  # at the latest conclusion, as far as that was sure
        self._lacking: dict[_Key, _Fulfilled] = {}  # for another rule to set a bit
        self._bits: set[str] = set()

    def stream(self, direction: Direction, data: bytes) -> None:
        """Take more bytes of a direction, as TCP carries them."""
        plan = self._rules.raw[direction]
        if plan.is_empty:
            return
        watch = self._raw.get(direction)
        if watch is None:
            watch = self._raw[direction] = StreamWatch(plan, lambda rule: self._concerns(rule, direction))
        for part in watch.scan(data):
            key = part.rule.number, direction
            self._raw_done.add(key)
            if not part.rule.transaction or key in self._message_done:
                self._tell_once(part.rule, direction, self._message_done.get(key, ""))

    def fields(self, direction: Direction, protocol: str, pairs: Sequence[tuple[str, bytes]]) -> None:
        """Take the whole fields of a message that begins; its body follows."""
        message = self._messages[direction] = _Message(protocol)
        pairs = self._rules.named(pairs)
        for name, data in pairs:
            message.fields.setdefault(name, []).append(data)
        for rule in self._rules.fields.candidates(protocol, pairs):
            if self._concerns(rule, direction) and _fits(rule, message):
                self._message_fits(rule, direction)

    def begin_body(self, direction: Direction) -> None:
        """Say that the body of the latest message begins."""
        self._drop_body(direction)
        plan = self._rules.bodies[direction]
        if self._messages[direction].protocol == "http" and not plan.is_empty:
            self._bodies[direction] = StreamWatch(plan, lambda rule: self._concerns(rule, direction))

    def body(self, direction: Direction, data: bytes) -> None:
        """Take more of the body, decoded."""
        if watch := self._bodies.get(direction):
            for part in watch.scan(data):
                self._body_fits(part.rule, part.group, direction)

    def end_body(self, direction: Direction) -> None:
        """Say that the body is complete."""
        if watch := self._bodies.get(direction):
            for part in watch.end():
                self._body_fits(part.rule, part.group, direction)
            self._drop_body(direction)

    def conclude(self, protocol: str, *, sure: bool = True) -> list[Finding]:
        """Return what was found since the last time; `protocol` is what has shown so far, or empty.

        sure: it stays so. What is not sure yet lets rules wait that ask for another protocol.
        """
        pending, self._fulfilled = [*self._waiting, *self._fulfilled], []
        found = [one for one in pending if self._is_spoken(one, protocol)]
        waits = not (protocol and sure)
        self._waiting = [one for one in pending if waits and not self._is_spoken(one, protocol)]
        self._spoken = protocol if sure else ""
        return [_finding(*one) for one in (self._bitwise(found) if found else ()) if not one[0].silent]

    def _is_spoken(self, one: _Fulfilled, protocol: str) -> bool:
        """Tell whether a rule is about what was spoken: by its message, else before or behind the latest bytes."""
        rule, _, own = one
        return rule.accepts(own) if own else rule.accepts(protocol) or rule.accepts(self._spoken)

    def _bitwise(self, found: list[_Fulfilled]) -> list[_Fulfilled]:
        """Return the rules whose bits are set, by whichever rule and whenever on this flow."""
        ready = list[_Fulfilled]()
        while found:
            for rule, way, protocol in found:
                if all(one & self._bits for one in rule.needs):
                    self._bits |= rule.sets
                    self._lacking.pop((rule.number, way), None)
                    ready.append((rule, way, protocol))
                else:
                    self._lacking[rule.number, way] = rule, way, protocol
            found = [one for one in self._lacking.values() if all(bits & self._bits for bits in one[0].needs)]
        return ready

    def close(self) -> None:
        """Free what the engines hold."""
        for watch in (*self._raw.values(), *self._bodies.values()):
            watch.close()
        self._raw.clear()
        self._bodies.clear()

    def _drop_body(self, direction: Direction) -> None:
        if watch := self._bodies.pop(direction, None):
            watch.close()

    def _concerns(self, rule: Rule, direction: Direction) -> bool:
        key = rule.number, direction
        known = self._concerned.get(key)
        if known is None:
            known = rule.speaks_of(direction, self._client, self._server) and (
                self._is_tcp or not rule.tcp_only
            )
            self._concerned[key] = known
        return known

    def _body_fits(self, rule: Rule, group: Group, direction: Direction) -> None:
        message = self._messages[direction]
        message.done.add((rule.number, group.buffer))
        bodies = [one for one in rule.transaction if one.buffer in BODIES]
        if all((rule.number, one.buffer) in message.done for one in bodies) and _fits(rule, message):
            self._message_fits(rule, direction)

    def _message_fits(self, rule: Rule, direction: Direction) -> None:
        protocol = self._messages[direction].protocol
        if rule.raw is None:
            if protocol in _REPEATED:
                self._fulfilled.append((rule, direction, protocol))
            else:
                self._tell_once(rule, direction, protocol)
            return
        self._message_done[rule.number, direction] = protocol
        if (rule.number, direction) in self._raw_done:
            self._tell_once(rule, direction, protocol)

    def _tell_once(self, rule: Rule, direction: Direction, protocol: str) -> None:
        if (rule.number, direction) not in self._told:
            self._told.add((rule.number, direction))
            self._fulfilled.append((rule, direction, protocol))


def _fits(rule: Rule, message: _Message) -> bool:
    """Tell whether the whole fields of a message are what a rule says."""
    for group in rule.transaction:
        if group.buffer in BODIES:
            continue
        found = message.fields.get(group.buffer, [])
        if group.absent != (not found) or (found and not matches_any(group, found)):
            return False
    return True


def _finding(rule: Rule, direction: Direction, protocol: str) -> Finding:
    inside = "body" if any(one.buffer in BODIES for one in rule.groups) else ""
    cuts = rule.action is Action.DROP
    return Finding(
        rule.reason, rule.check, rule.message, direction, protocol=protocol, inside=inside, cuts=cuts
    )
