"""Selection policies: which candidates to expand next."""
