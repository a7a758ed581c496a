"""One module per engine: what is run, and when."""
