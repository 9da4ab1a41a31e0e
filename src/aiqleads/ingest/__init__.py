"""From a payload to stored leads: read, check, normalise, link, score, seal, store."""
