"""Users' own rules in Suricata's language: read, compiled into the engine of this package, every rule accounted for."""
