"""A transcoding service: handlers, domain, data access and media work."""
