"""Pictures on the machines of a Ray cluster: the jobs of `deploy.folders`, on workers that open the bundle once."""
