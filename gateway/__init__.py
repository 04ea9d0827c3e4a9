"""The gateway service, the peer agent and the operator command line."""
