"""The policy in force: how it changes, what a change would do, and how it returns by itself."""
