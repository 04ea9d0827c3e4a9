"""Give a machine what it needs behind a gateway: its certificate, its setup, its place in map and policy."""
