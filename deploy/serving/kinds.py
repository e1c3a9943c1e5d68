"""Names of the views of a job that a browser shows, see `deploy.serving.views`."""

INPUT, BICUBIC, RESULT = "plain", "bicubic", "shown"
