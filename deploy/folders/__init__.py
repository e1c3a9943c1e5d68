"""Many pictures from files into files: found in folders, made once, safe to end at any moment and to run again."""
