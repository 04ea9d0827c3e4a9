"""Choose who inspects the flows of a capture, and remember which ones nobody does."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from filters.inspection.objects.judge import Judge
from filters.inspection.offline.summary import Endpoint, Flow, Summary

Choose = Callable[[int, Endpoint, Endpoint], Judge | None]
MOST_FLOWS: Final = 16 << 10  # of a kind, at once


class Selection:
    """`choose` says who inspects a flow, by protocol, client and server; None: nobody."""

    def __init__(self, choose: Choose, summary: Summary) -> None:
        self._choose, self._summary = choose, summary
        self._left_out: OrderedDict[tuple[int, Flow], None] = OrderedDict()

    def find(self, protocol: int, *ways: Flow) -> tuple[Flow, Judge] | None:
        """Return the first way to see a new flow in which it is inspected, and by whom. The flow is counted."""
        for flow in ways:
            if (protocol, flow) in self._left_out:
                self._left_out.move_to_end((protocol, flow))
                return None
        self._summary.flows += 1
        for flow in ways:
            judge = self._choose(protocol, flow.client, flow.server)
            if judge is not None:
                return flow, judge
        self._summary.leave_out("flows that no rule inspects")
        self._left_out[protocol, ways[0]] = None
        if len(self._left_out) > MOST_FLOWS:
            self._left_out.popitem(last=False)
        return None
