"""Pure geometry of a market: cells, plane coordinates, regions, and what may be shown."""
