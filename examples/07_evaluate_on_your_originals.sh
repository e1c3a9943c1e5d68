#!/bin/sh
# Settings side by side on your own pictures: reduced, enlarged again, compared with what they were.
# The folder `quality` gets tables, JSON, a plot of quality against time, and sheets with the worst pictures first.
# tested with: evaluate --limit 1
set -e
idm-deploy evaluate originals --bundle ckpt.bundle --scale 4 --preset draft --preset balanced --preset best -o quality
