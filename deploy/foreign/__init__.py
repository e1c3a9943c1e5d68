"""What users hand over that belongs to other tools: named for what it is, with the tool that runs it."""
