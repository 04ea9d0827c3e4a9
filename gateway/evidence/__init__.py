"""The evidence of each peer's last handshakes, kept for outsiders."""
