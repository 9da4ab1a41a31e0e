"""The HTTP door: one FastAPI app, served by BentoML or by bare uvicorn."""
