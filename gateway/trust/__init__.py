"""Trust: who has proved itself, until when, and what happens when it ends."""
