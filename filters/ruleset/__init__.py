"""Compile a policy into the kernel's nftables ruleset: pure text in, pure text out, no I/O."""
