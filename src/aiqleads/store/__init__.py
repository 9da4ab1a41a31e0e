"""What is kept: SQL tables, Parquet frames, the journal of served rankings."""
