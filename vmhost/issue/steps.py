"""Say what to put where. Pure text, for the terminal and for a file beside what was issued."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from authn.portmap import PortEntry
from vmhost.issue.guest import SETTINGS
from vmhost.issue.new_tpm import start_text

FILE = "README"


@dataclass(frozen=True, slots=True)
class Issued:
    """What the steps speak of."""

    place: PortEntry
    directory: Path
    gateway_directory: Path
    certificate: str  # its fingerprint
    has_tpm: bool


def steps(issued: Issued) -> str:
    """Return the steps, in their order."""
    place = issued.place
    at, there = (shlex.quote(str(one)) for one in (issued.directory, issued.gateway_directory))
    policy = f"{there}/policy-{place.peer}.toml"
    parts = [
        f"""1. On the host, once {place.port} is there (your VM's tap, which only its own uid may open), in the bridge's network namespace:
   nft -f {at}/host/antispoof.nft
   sh {at}/host/port.sh
   Start {place.peer} with MAC {place.mac} and uuid {place.uuid}."""
    ]
    if issued.has_tpm:
        parts.append(
            f"""   Its TPM is in {at}/tpm; swtpm, as the uid that has the state, for QEMU's tpmdev emulator (SOCKET: one you name):
   {start_text(issued.directory / "tpm")}"""
        )
    parts += [
        f"""2. On the gateway: keep its setup, put the new files beside it, restart its services (sessions end, machines prove themselves anew):
   cp -p {there}/setup.json {there}/setup.json.before
   cp {at}/gateway/* {there}/""",
        f"""3. Add {policy} to the policy, with the rules that {place.peer} needs, and put it in force:
   quotegate policy plan FILE; quotegate policy apply --confirm 60s FILE""",
        f"""4. Approve its TPM beforehand (or later: quotegate peer approve {place.peer}):
   quotegate peer enroll {place.peer} --ek {issued.certificate}""",
        f"""5. In {place.peer}, with the address {place.ip}: put the files of {at}/guest/ into {SETTINGS}/, as root's, readable by all:
   systemctl enable --now quotegate-agent; quotegate-agent status""",
        """Issue the next machine after step 2: it is added to the port map that the gateway has then.""",
    ]
    return "\n".join(parts) + "\n"
