"""Session control: who may talk to whom, proved afresh for every request."""
