"""Keep what each peer last proved, and what it was last refused for: one bundle a file, whole or not at all."""

import asyncio
import contextlib
import errno
import json
import logging
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from authn import labels
from authn.bundle import ACCEPTED, Anchors, EvidenceBundle
from authn.failure import AttestationFailure
from authn.handshake_gateway import PeerFacts, SignedEvidence
from gateway.audit.spool import START_ROOM, free_on_disk
from gateway.errors import GatewayError
from gateway.store.store import StoredIdentity

_log = logging.getLogger(__name__)


class Kept(StrEnum):
    """Which of a peer's bundles."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


class EvidenceKeeper:
    """Bundles below `directory`, two a peer; `anchors` and `reference_sets` are those this gateway judges by."""

    def __init__(
        self,
        directory: Path,
        gateway_id: str,
        anchors: Anchors,
        reference_sets: tuple[bytes, ...],
        free: Callable[[Path], int] = free_on_disk,
    ) -> None:
        self._directory, self._gateway_id, self._free = directory, gateway_id, free
        self._anchors, self._reference_sets = anchors, reference_sets
        directory.mkdir(mode=0o700, exist_ok=True)

    async def keep(
        self,
        identity: StoredIdentity,
        facts: PeerFacts,
        signed: SignedEvidence,
        taken_at: float,
        failure: AttestationFailure | None,
    ) -> None:
        """Keep the evidence of one handshake; returns when it is on the disk, or that it can't be is told.

        Nobody's session depends on it: the handshake itself is on record.
        """
        bundle = EvidenceBundle(
            peer_id=facts.peer_id,
            gateway_id=self._gateway_id,
            taken_at=taken_at,
            verdict=ACCEPTED if failure is None else failure.value,
            ek_certificate=identity.ek_certificate,
            ek_public=identity.ek_public,
            ak_public=identity.key.public,
            th2=signed.th2,
            qualifying_data=labels.peer_handshake(signed.th2),
            selection=facts.profile.selection.encode(),
            profile=facts.profile,
            layers=signed.layers,
            previous=facts.previous,
            reference_sets=self._reference_sets,
            anchors=self._anchors,
        )
        which = Kept.ACCEPTED if failure is None else Kept.REFUSED
        path = self._path(identity.peer, which)
        try:
            await asyncio.to_thread(self._write, path, bundle)
        except OSError as error:
            _log.warning(
                "%s: not written, what an earlier handshake showed stays: %s; mend the disk", path, error
            )

    def _write(self, path: Path, bundle: EvidenceBundle) -> None:
        """Raises OSError; what a start and the way out of a full disk need is not taken: a peer's logs may be large."""
        temporary, text = path.with_suffix(".new"), json.dumps(bundle.to_json())
        if self._free(path) - len(text) < START_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            with temporary.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()  # a part of it would fill the disk further
            raise

    def load(self, peer: str, which: Kept) -> dict[str, Any]:
        """Return a kept bundle; raises GatewayError `no-evidence`."""
        try:
            bundle: dict[str, Any] = json.loads(self._path(peer, which).read_text())
        except OSError:
            raise GatewayError(
                "no-evidence", f"no {which} handshake of {peer} is on record; see: quotegate peers"
            ) from None
        return bundle

    def _path(self, peer: str, which: Kept) -> Path:
        return self._directory / f"{peer}-{which}.json"
