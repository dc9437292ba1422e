"""What is known beforehand: notes on constraints, guidance and hardware, and finding them."""
