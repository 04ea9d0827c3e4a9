"""The peer agent: proves its machine to the gateway and opens sessions for local programs."""
