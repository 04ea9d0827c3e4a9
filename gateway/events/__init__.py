"""Security events: typed objects, and their OCSF form."""
