"""The simulated market: invented agents on the real leads, labelled as simulated."""
