"""The simulated market with the product inside: publish, rank, sell, learn, day after day."""
