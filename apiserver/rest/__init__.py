"""The HTTPS front end: paths, queries and media types in, the pipeline's bytes out."""
