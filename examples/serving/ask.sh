#!/bin/sh
# Ask a service with curl:  sh examples/serving/ask.sh http://127.0.0.1:8080 photo.png
set -eu
service=$1
photo=$2

# What there is, and what a picture will take before it is sent.
curl -sSf "$service/v1/models"
curl -sSf -H 'Content-Type: application/json' -d '{"width": 64, "height": 64, "scale": 4}' "$service/v1/estimate"

# A picture in, a picture out. --fail-with-body shows the sentence of a refusal.
curl -sS --fail-with-body -F image=@"$photo" -F scale=2 -F format=jpeg -F quality=90 "$service/v1/upscale" -o larger.jpg

# As a job: follow it, fetch it, forget it.
job=$(curl -sSf -F image=@"$photo" -F scale=2 "$service/v1/upscale?wait=false" | sed 's/.*"self":"\([^"]*\)".*/\1/')
curl -sSfN "$service$job/events"
curl -sSf "$service$job/result" -o larger.png
curl -sSf -X DELETE "$service$job"
