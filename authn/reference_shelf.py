"""The reference sets by which a peer judges its gateway: those it was provisioned with, and newer ones that gateways bring.

Whoever brings a set, it counts by its signature alone. Versions only grow: a brought set is newer than every provisioned
one, and of the brought ones the newest few are kept: the image in force and those that were tried and given up.
"""

from collections.abc import Mapping, Sequence

from authn.reference import KIND, ReferenceSet
from authn.signing import DocumentError, verify_document

MOST_BROUGHT = 8


class ReferenceShelf:
    """All sets of one peer. `keys` are those that may sign them, by key id."""

    def __init__(self, provisioned: Sequence[ReferenceSet], keys: Mapping[str, bytes]) -> None:
        self._provisioned, self._keys = tuple(provisioned), keys
        self._brought: dict[int, ReferenceSet] = {}

    @property
    def sets(self) -> tuple[ReferenceSet, ...]:
        """Return every set that counts; whether it has expired is looked at when it is used."""
        return (*self._provisioned, *self._brought.values())

    def take(self, untrusted: bytes, now: float) -> None:
        """Take up a set that a gateway brought; raises DocumentError, and everything is as before then."""
        document = verify_document(untrusted, KIND, self._keys, now)
        found = ReferenceSet.from_document(document)
        known = self._brought.get(found.version)
        if (
            known is not None and known.values == found.values
        ):  # signed anew: the one that holds longer counts
            found = max(known, found, key=lambda one: one.not_after)
        elif known is not None:
            raise DocumentError("ambiguous", f"there is another reference set of version {found.version}")
        if found.version < self._least:
            raise DocumentError(
                "outdated", f"the reference set has version {found.version}, expected {self._least} or more"
            )
        self._brought[found.version] = found
        if len(self._brought) > MOST_BROUGHT:
            del self._brought[min(self._brought)]

    @property
    def _least(self) -> int:
        newest = max((one.version for one in self._provisioned), default=0)
        full = len(self._brought) == MOST_BROUGHT
        return max(newest + 1, min(self._brought)) if full else newest + 1
