"""The network daemon: the only process that may change packet filtering, and its client."""
