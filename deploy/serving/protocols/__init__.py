"""What other tools speak, as thin layers over the same jobs."""
