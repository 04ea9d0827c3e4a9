"""Who the peers are and which state each is in."""
