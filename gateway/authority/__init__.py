"""The administrator's authority, without which no guest talks to another."""
