"""Prove and verify what a machine runs: TPM quotes, enrollment, handshake, channel."""
