"""The control port: connections of peers, from first frame to beacons."""
