"""Find patterns in streams, in two stages."""
