"""Recognise protected documents, or parts of them, by keyed fingerprints of their content."""
