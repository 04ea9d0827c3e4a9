"""The appliance's state: an encrypted disk whose key the machine's own TPM gives out, to approved images alone."""
