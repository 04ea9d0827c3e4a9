"""Run nft text through libnftables, in this process: one text is one transaction."""

import threading
from typing import Final

import nftables

from filters.errors import NetdError
from filters.netd.protocol import NetdCode
from filters.ruleset.names import FAMILY, TABLE

_SHOWN: Final = 2000

# What holds until the first policy: nothing in, through or out but loopback, before any interface is up.
CLOSED_RULESET: Final = f"""\
table {FAMILY} {TABLE} {{ }}
delete table {FAMILY} {TABLE}
table {FAMILY} {TABLE} {{
	chain guard {{
		type filter hook prerouting priority -450; policy drop;
		iifname lo accept
	}}
	chain input {{
		type filter hook input priority 0; policy drop;
		iifname lo accept
	}}
	chain forward {{
		type filter hook forward priority 0; policy drop;
	}}
	chain output {{
		type filter hook output priority 0; policy drop;
		oifname lo accept
	}}
}}
"""


class Libnftables:
    """One libnftables context. Calls may come from several threads; they wait for each other."""

    def __init__(self) -> None:
        self._context = nftables.Nftables()
        self._lock = threading.Lock()

    def run(self, text: str) -> str:
        """Run commands and return their output; raises NetdError `kernel`, and then nothing was changed."""
        with self._lock:
            return self._run(text)

    def check(self, text: str) -> None:
        """Ask whether the kernel would take these commands; raises NetdError `kernel`. Changes nothing."""
        with self._lock:
            self._context.set_dry_run(True)
            try:
                self._run(text)
            finally:
                self._context.set_dry_run(False)

    def accepts(self, text: str) -> bool:
        """Tell whether the kernel would take these commands; changes nothing."""
        try:
            self.check(text)
        except NetdError:
            return False
        return True

    def _run(self, text: str) -> str:
        code, output, errors = self._context.cmd(text)
        if code:
            message = errors.strip()[:_SHOWN] or f"libnftables failed with {code}"
            raise NetdError(NetdCode.KERNEL.value, message)
        return str(output)
