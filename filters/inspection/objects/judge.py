"""Judge one object: its type, what scanners say, and everything inside it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

from filters.inspection.coding.decoder import PIECE
from filters.inspection.coding.said import Said
from filters.inspection.finding import Finding, LimitHit, Refusal
from filters.inspection.fingerprints.markup import is_markup, plain
from filters.inspection.limits import Limits
from filters.inspection.matching.database import Database
from filters.inspection.matching.scanner import Match, Scanner, scan_whole
from filters.inspection.objects.archive import Budget, members
from filters.inspection.objects.archive_kinds import is_compressed
from filters.inspection.objects.as_sent import AsSent, hides_archive, own_type
from filters.inspection.objects.file_type import FileType, file_type
from filters.inspection.objects.holding import is_container
from filters.inspection.objects.mail_text import is_message, is_surely_mail, looks_like_mail, stored_mails
from filters.inspection.objects.mime import Part, begins_with_part, form_parts, message_parts
from filters.inspection.objects.rulebook import Rulebook
from filters.inspection.objects.zip_signs import marks
from filters.inspection.patterns.pattern import redact
from filters.inspection.spec import InspectionSpec
from filters.inspection.suricata.ruleset import RuleSet
from filters.inspection.suricata.tracker import RuleTracker
from filters.reason import DropReason

if TYPE_CHECKING:
    from filters.inspection.fingerprints.engine import Engine as Fingerprints

_MARKUP: Final = 4 << 20  # bytes: taking marks out is slow
_IN_MAIL: Final = ("text/", "message/", "application/octet-stream", "application/javascript")
Engine = Callable[[bytes, float], list[Finding]]


@dataclass(frozen=True, slots=True)
class Judge:
    """What objects are judged by. `engines` are further scanners (clamd)."""

    spec: InspectionSpec
    limits: Limits
    patterns: Database
    rulebook: Rulebook | None
    engines: tuple[Engine, ...] = ()
    fingerprints: "Fingerprints | None" = None
    rules: RuleSet | None = None  # about flows, in Suricata's language

    def track(
        self, client: tuple[str, int], server: tuple[str, int], *, is_tcp: bool = True
    ) -> RuleTracker | None:
        """Return what follows one flow for the users' rules, if there are any."""
        return RuleTracker(self.rules, client, server, is_tcp=is_tcp) if self.rules else None

    def judge(
        self,
        data: bytes,
        name: str,
        media_type: str = "",
        *,
        whole: bool = True,
        as_sent: Sequence[AsSent] = (),
    ) -> list[Finding]:
        """Return what is wrong with an object; its own text was scanned on its way already.

        media_type: what the protocol said it is; only for multipart and messages is that believed.
        whole: false while more is to come; nothing is unpacked then.
        as_sent: the bytes that it was decoded from.
        """
        budget = Budget(self.limits)
        found: list[Finding] = []
        try:
            for sent in as_sent:
                found += self._as_sent(sent, data, name, whole=whole)
            if not data:
                pass  # nothing has no type and no parts
            elif is_container(media_type):
                found += self._parts(data, name, media_type, budget)
            else:
                found += self._one(data, name, 0, budget, whole=whole)
        except Refusal as refusal:
            found.append(refusal.finding().at(None, "", name))
        return found

    def _as_sent(self, sent: AsSent, data: bytes, name: str, *, whole: bool) -> Iterator[Finding]:
        """Judge coded bytes as they are: some receivers keep them so."""
        if kind := own_type(sent):
            yield from self._type(kind, name)
        yield from self._scan(sent.data, name)
        if whole and hides_archive(sent, data):
            raise Refusal(
                "coding-archive",
                "the coded bytes are an archive as they are; expected what they decode to, and no more",
            )

    def _parts(self, data: bytes, name: str, media_type: str, budget: Budget) -> Iterator[Finding]:
        message = is_message(media_type)
        shown = Counter[bytes]()
        for part in message_parts(data, budget) if message else form_parts(data, media_type, budget):
            shown += marks(part.content) if part.media_type else Counter()
            yield from self._part(part, name, 1, budget)
        # and as one file: not everybody takes it apart
        kind = file_type(data)
        if not (_may_be_mail(kind, data) if message else begins_with_part(data, media_type)):
            yield from self._type(kind, name)
        yield from self._scan(data, name)
        yield from self._members(kind, data, name, 0, Budget(self.limits), shown)

    def _one(
        self, data: bytes, name: str, depth: int, budget: Budget, *, whole: bool = True
    ) -> Iterator[Finding]:
        kind = file_type(data)
        yield from self._type(kind, name)
        yield from self._scan(data, name)
        if whole and looks_like_mail(data):
            for mail in stored_mails(data):
                yield from self._mail(mail, name, depth, Budget(self.limits))  # a box holds thousands
        if whole:
            yield from self._members(kind, data, name, depth, budget)

    def _scan(self, data: bytes, name: str) -> Iterator[Finding]:
        if self.rulebook:
            yield from (one.at(None, "", name) for one in self.rulebook.scan(data, self.limits.scan_s))
        for engine in self.engines:
            yield from (one.at(None, "", name) for one in engine(data, self.limits.scan_s))

    def _members(
        self,
        kind: FileType,
        data: bytes,
        name: str,
        depth: int,
        budget: Budget,
        shown: Counter[bytes] | None = None,
    ) -> Iterator[Finding]:
        if "archive" not in kind.families:
            return
        if depth >= self.limits.depth:
            raise LimitHit("depth", self.limits.depth, " objects inside one another")
        for inner, content in members(data, kind.media_type, budget, shown):
            path = f"{name}/{_printable(inner)}" if inner else name
            yield from self.text(content, path)
            # a compressed archive is one object, what is compressed twice is two
            deeper = depth + 1 if inner or is_compressed(content) else depth
            yield from self._one(content, path, deeper, budget)

    def _mail(self, data: bytes, name: str, depth: int, budget: Budget) -> Iterator[Finding]:
        """Judge the parts of what looks like a stored mail: as far as it is one, for much looks so (patches, logs)."""
        doubts: list[Refusal] = []
        parts = message_parts(data, budget, depth, doubts)
        while True:
            try:
                part = next(parts)
            except LimitHit:
                raise
            except (StopIteration, Refusal):
                break
            if depth >= self.limits.depth:
                raise LimitHit("depth", self.limits.depth, " objects inside one another")
            yield from self._part(part, name, depth + 1, budget)
        if doubts and is_surely_mail(data):
            yield doubts[0].finding().at(None, "", name)

    def _part(self, part: Part, name: str, depth: int, budget: Budget) -> Iterator[Finding]:
        path = f"{name}/{_printable(part.name)}"
        yield from self.text(part.content, path, part.media_type or "")
        if part.media_type:
            yield from self._one(part.content, path, depth, budget)

    def _type(self, kind: FileType, name: str) -> Iterator[Finding]:
        words = {kind.media_type, *kind.families}
        if denied := words & self.spec.deny_types:
            yield Finding(
                DropReason.DENIED_BY_RULE,
                "object-type",
                f"{kind.media_type} is {min(denied)}, which the rule denies",
                inside=name,
            )
        elif self.spec.allow_types and not words & self.spec.allow_types:
            allowed = ", ".join(sorted(self.spec.allow_types))
            yield Finding(
                DropReason.DENIED_BY_RULE,
                "object-type",
                f"{kind.media_type} is none of {allowed}, which the rule allows",
                inside=name,
            )

    def text(self, data: bytes, name: str, media_type: str = "") -> Iterator[Finding]:
        """Yield what the patterns and fingerprints find in bytes that stand alone."""
        if self.fingerprints:
            yield from (one.at(None, "", name) for one in self.fingerprints.inside(data))
        seen = set()
        for match in scan_whole(self.patterns, data):
            seen.add(match.pattern)
            yield _finding(match, name)
        told = _matches_said(self.patterns, data, media_type)
        yield from (_finding(match, name) for match in told if match.pattern not in seen)
        if len(data) <= _MARKUP and is_markup(data):  # marks may stand in the middle of a word
            told = scan_whole(self.patterns, plain(data))
            yield from (_finding(match, name) for match in told if match.pattern not in seen)


def _matches_said(patterns: Database, data: bytes, media_type: str) -> Iterator[Match]:
    """Yield the matches in what a whole text says beside its bytes; in steps, for it may be large."""
    said, scanners = Said(media_type), dict[str, Scanner]()
    steps = (said.feed(data[at : at + PIECE]) for at in range(0, len(data), PIECE))
    try:
        for how, text in chain(chain.from_iterable(steps), said.finish()):
            if text is None:
                scanners.pop(how).close()
                continue
            if how not in scanners:
                scanners[how] = Scanner(patterns)
            yield from scanners[how].scan(text)
        yield from (one.doubtful for one in scanners.values() if one.doubtful)
    finally:
        for one in scanners.values():
            one.close()


def _may_be_mail(kind: FileType, data: bytes) -> bool:
    """Tell whether libmagic takes for a mail, or for the text that is in one, what is said to be one."""
    told = kind.media_type.startswith(_IN_MAIL) and kind.families <= {"text", "script"}
    return told and not data.startswith(b"#!")


def _finding(match: Match, name: str) -> Finding:
    one = match.pattern
    return Finding(one.reason, one.name, one.detail, None, match.end, "", name, redact(match.text))


def _printable(name: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in name)[:120]
