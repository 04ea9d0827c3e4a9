"""What the gateway must remember: identities, counters, restarts, policy, authority."""
