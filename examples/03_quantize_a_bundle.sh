#!/bin/sh
# Add int8 graphs to a bundle, see what that changed on originals, and let the faster one be chosen.
# Needs idm-deploy[cpu,quantize]. Minutes for a small model, an hour for a large one; a killed run goes on.
# slow: quantize calibrates on 16 pictures
# tested with: quantize --pictures 1 --crop 16 --scale 2 --targets ort; evaluate --crop 32; build-engine --size 16x16
set -e
idm-deploy quantize ckpt.bundle
idm-deploy evaluate originals --bundle ckpt.bundle --precision fp32 --precision int8
idm-deploy build-engine ckpt.bundle
