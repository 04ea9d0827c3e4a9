"""What users' rules cost: one core scanning a stream and a body, with 1,000 generated rules and with none.

Corpus as in `inspection`; secrets, malware and rules together, pieces of 64 KiB.
"""

import random
import string

from bench.content import exchange, speed
from bench.inspection import make_corpus
from bench.stats import Figure
from filters.inspection.finding import Direction
from filters.inspection.spec import InspectionSpec
from filters.inspection.toolbox import Toolbox

RULES = 1000
PIECE = 64 << 10
_SPEC = InspectionSpec(frozenset({"secrets", "malware", "rules"}))
_FORMS = (
    ("tcp", 'content:"{0}";'),
    ("tcp", 'content:"{0}"; content:"{1}"; distance:0; within:60;'),
    ("http", 'http.uri; content:"{0}"; http.user_agent; content:"{1}";'),
    ("http", 'file.data; content:"{0}"; nocase; content:"{1}"; distance:0;'),
    ("tcp", 'content:"{0}"; nocase; content:"{1}"; pcre:"/{2}[0-9]+/";'),
)


def measure(rounds: int) -> list[Figure]:
    """Scan in this process, without any network."""
    without, with_rules = Toolbox(), Toolbox(rules=[("generated", make_rules(RULES))])
    corpus = make_corpus()
    figures = []
    for name, target, starts in (
        ("unknown stream, 1,000 rules / none", 0.5, ((Direction.TO_SERVER, b"\0\1"),)),
        ("HTTP body, 1,000 rules / none", 0.5, exchange(b"text/plain", len(corpus))),
    ):
        speeds: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for kept, toolbox in zip(speeds, (with_rules, without), strict=True):
                kept.append(speed(toolbox.judge(_SPEC), starts, corpus, PIECE))
        figures.append(Figure(name, "x", speeds[0], "no rules, MB/s", speeds[1], target, True, True))
    return figures


def make_rules(count: int) -> str:
    """Return rules of five forms with words of 5 to 16 letters, drawn always alike."""
    draw = random.Random(1)
    letters = string.ascii_lowercase + string.digits + "/=._-"
    rules = []
    for number in range(count):
        words = ["".join(draw.choices(letters, k=draw.randint(5, 16))) for _ in range(2)]
        protocol, form = _FORMS[number % len(_FORMS)]
        options = form.format(*words, "".join(draw.choices(string.ascii_lowercase, k=4)))
        rules.append(f'alert {protocol} any any -> any any (msg:"generated"; {options} sid:{number + 1};)')
    return "\n".join(rules)
