"""What happens to a peer that failed: restart within a budget, then quarantine."""
