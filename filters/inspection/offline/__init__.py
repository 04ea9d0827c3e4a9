"""The offline twin: the same inspectors on a capture or a file."""
