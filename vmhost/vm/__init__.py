"""Real virtual machines: QEMU with a software TPM, started from measured files, under the monitor."""
