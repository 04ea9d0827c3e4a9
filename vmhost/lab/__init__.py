"""The lab: the same platform on one machine, with namespaces as guests."""
