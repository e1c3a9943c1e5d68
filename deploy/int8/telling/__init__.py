"""What int8 cost on held-out pictures, as tables, records and a report folder."""
