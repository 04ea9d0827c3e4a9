"""The demonstration: the main job, asserted over independent observation."""
