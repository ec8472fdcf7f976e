"""What all runs on the user's own data have in common: their choices, and what a manifest says of them."""
