"""One folder for each technology behind a port."""
