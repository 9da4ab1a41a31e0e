"""What the running system says of itself: metrics, drift, alerts."""
