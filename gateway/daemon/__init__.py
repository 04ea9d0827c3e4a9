"""quotegated: the service that joins the parts."""
