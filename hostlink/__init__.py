"""The line between the gateway's VM and its host: many connections over one serial port, and no network."""
