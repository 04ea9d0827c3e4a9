"""The monitor: the host's trusted core. It starts, watches and restarts the machines."""
