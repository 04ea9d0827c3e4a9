"""Write profiles and peers as a policy has them."""

from authn.portmap import PortEntry
from authn.profile import IMA_PREFIX, Profile

# the monitor restarts what it started: other machines stay cut until somebody restarts them
ON_FAIL_CUT = 'on_fail = { peer = "none" }'
ON_FAIL = 'on_fail = { peer = "restart", max_restarts = 3, window = "15m", then = "quarantine" }'


def profile_text(profile: Profile, on_fail: str = ON_FAIL) -> str:
    """Write a profile: what a quote must prove, what follows a failure."""
    return f"{measured_text(profile)}{on_fail}\n"


def measured_text(profile: Profile) -> str:
    """Write what a profile measures."""
    values = ", ".join(
        f'{pcr} = "{name if name.startswith(IMA_PREFIX) else "ref:" + name}"'
        for pcr, name in sorted(profile.references.items())
    )
    bank = profile.selection.bank.name.lower()
    return f"[profile.{profile.id}]\npcrs = {{ {bank} = {{ {values} }} }}\n"


def peer_text(entry: PortEntry, profile: str) -> str:
    """Write a peer: where it stands, and what it must prove."""
    match = f'match = {{ port = "{entry.port}", mac = "{entry.mac}", ip = "{entry.ip}" }}'
    return f'\n[peer.{entry.peer}]\n{match}\nprofile = "{profile}"\n'
