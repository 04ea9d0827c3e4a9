"""The TPM daemon: the only process that talks to the gateway's TPM."""
