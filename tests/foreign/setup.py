"""Read what provisioning gave a peer (docs/protocol.md, "Provisioning")."""

import json
from pathlib import Path

from tests.foreign.appraisal import GatewayKey, demand, load_references, read_references, selection_of


class Setup:
    """What provisioning gave this peer."""

    def __init__(self, path: str) -> None:
        data = json.loads(Path(path).read_text())
        self.peer_id, self.gateway_id = data["peer_id"], data["gateway_id"]
        self.address = data["gateway_ip"], data["control_port"]
        self.profile, self.own_profile = data["gateway_profile"], data["profile"]
        self.selection = selection_of(sorted(map(int, self.own_profile["references"])))
        ak, ek = bytes.fromhex(data["gateway_ak_public"]), bytes.fromhex(data["gateway_ek_public"])
        self.gateway = GatewayKey(ak, ek, sorted(map(int, self.profile["references"])))
        self.reference_keys = data["reference_keys"]
        self.references = load_references(data["references"], self.reference_keys)
        self.tpm, self.event_log = data["tpm"], Path(data["event_log"])
        self.certificate = Path(data["ek_certificate"])

    def take_references(self, data: bytes) -> None:
        """Go by a newer set that the gateway brought."""
        brought = read_references(data, self.reference_keys)
        demand(brought["version"] > self.references["version"], "outdated")
        self.references = brought
