#!/bin/sh
# From a checkpoint, as its training code saved it, to a bundle that runs without torch, and a picture.
# Needs idm-deploy[export,cpu].
# tested with: export --force
set -e
idm-deploy inspect ckpt.pt
idm-deploy export ckpt.pt
idm-deploy verify ckpt.bundle --against ckpt.pt
idm-deploy infer photo.png --scale 4
