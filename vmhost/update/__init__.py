"""A/B update of the gateway's image: two slots on the host, tries that are counted before they are made, a blessing."""
