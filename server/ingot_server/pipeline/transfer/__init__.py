"""Files over HTTP: one request after another until a file is whole."""
