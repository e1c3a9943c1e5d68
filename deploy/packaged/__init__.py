"""The packaged checkpoints, bundle and pictures, and where they lie."""
