"""Describe a lab of virtual machines to the host's systemd, which starts it with the host, and again when its monitor dies."""

from pathlib import Path

from vmhost.lab.setup import VM_READY_WITHIN_S
from vmhost.lab.teardown import MONITOR_PID
from vmhost.names import STATE_ROOT, Lab

# what `lab resume` takes beside the machines' start: clearing away what ran before, and waiting for peers
RESUMES_WITHIN_S, ENDS_WITHIN_S = VM_READY_WITHIN_S + 60, 90
_UNIT = """\
# systemd's unit for the virtual machines of lab {lab}. To start them with the host:
#   quotegate-host unit --lab {lab} > /etc/systemd/system/quotegate-{lab}.service
#   systemctl daemon-reload && systemctl enable quotegate-{lab}.service
# A lab that runs is given to systemd so:
#   quotegate lab down --keep --lab {lab} && systemctl start quotegate-{lab}.service

[Unit]
Description=Quotegate: the virtual machines of lab {lab}
After=network.target
RequiresMountsFor={state} {project}
# what can't be started five times in half an hour waits for an operator: systemctl reset-failed, then start
StartLimitIntervalSec=1800
StartLimitBurst=5

[Service]
Type=forking
PIDFile={pid}
ExecStart={command} lab resume --lab {lab}
ExecStop={command} lab down --keep --lab {lab}
KillMode=mixed
# one machine that the kernel ends for want of memory is the monitor's to start again
OOMPolicy=continue
TimeoutStartSec={starts:.0f}
TimeoutStopSec={ends}
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def host_unit(lab: Lab, project: Path, command: Path) -> str:
    """Return the unit's text (systemd.service(5)): where the project lies, and the command `quotegate` of it."""
    return _UNIT.format(
        lab=lab.name, state=_quoted(STATE_ROOT), project=_quoted(project), pid=lab.run_dir / MONITOR_PID,
        command=_quoted(command), starts=RESUMES_WITHIN_S, ends=ENDS_WITHIN_S,
    )  # fmt: skip


def _quoted(path: Path) -> str:
    """Write a path as systemd reads it: blanks kept, no specifiers (systemd.syntax(7)). It takes no quotation mark in a command."""
    return '"{}"'.format(str(path).replace("%", "%%"))
