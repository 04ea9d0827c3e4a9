"""What a protocol carries: type, archives, scanners."""
