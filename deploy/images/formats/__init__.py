"""Picture files: `contract` says what a format owes, `table` lists them, one file has each."""
