"""HTTP/1.x: RFC 9110 and RFC 9112, read strictly."""
