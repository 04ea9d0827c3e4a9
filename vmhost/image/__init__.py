"""Build images, and compute what they will measure when they boot."""
