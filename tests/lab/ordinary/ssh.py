"""sshd with keys of its own, once for all tests."""

import subprocess
from pathlib import Path

from tests.lab.ordinary.world import STRICT, World, need


def start_sshd(world: World) -> list[object]:
    """Start sshd in db, below the rule that demands SSH; return the options for ssh, scp and sftp."""
    need("sshd", "scp")
    room, port = world.folder / "ssh", STRICT["ssh"]
    if not room.exists():
        world.room("ssh").chmod(0o755)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", room / name], check=True)
        (room / "known").write_text(f"[{world.ip()}]:{port} {(room / 'host.pub').read_text()}")
        Path("/run/sshd").mkdir(exist_ok=True, mode=0o755)  # sshd insists; at a boot systemd makes it
        (room / "sshd.conf").write_text(
            f"Port {port}\nHostKey {room}/host\nAuthorizedKeysFile {room}/user.pub\nStrictModes no\nUsePAM no\n"
            f"PermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp\n"
        )
        world.serve(["/usr/sbin/sshd", "-D", "-e", "-f", room / "sshd.conf"], port)
    return ["-F", "none", "-o", f"Port={port}", "-o", f"IdentityFile={room}/user", "-o", "User=root", "-o",
            f"UserKnownHostsFile={room}/known", "-o", "BatchMode=yes"]  # fmt: skip
