"""The host side: namespaces or VMs, isolated bridge, TPMs, the monitor."""
