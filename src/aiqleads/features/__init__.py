"""What a ranker may know about a lead and an agent at one moment, and nothing later."""
