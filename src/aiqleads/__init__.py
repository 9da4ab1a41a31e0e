"""AIQLeads: a real-estate lead marketplace, from feed to sale."""
