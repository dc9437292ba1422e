"""A language model as the search's operator: client, language page, prompts and replies."""
