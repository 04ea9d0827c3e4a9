"""Examine the machine and say what is wrong and how to mend it. Judging is pure; `probe_…` and `read_…` look."""
