"""One function for each ATen operator, by family."""
