"""From a payload to stored leads: read, check, normalise, deduplicate, score, store."""
