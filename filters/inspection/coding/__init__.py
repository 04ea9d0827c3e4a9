"""Undo content and transfer codings, with limits."""
