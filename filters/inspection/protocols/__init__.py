"""One directory or file a protocol: strict parsers that tell a Sink what they read."""
