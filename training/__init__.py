"""Training of the demo checkpoints, without any download.

    python -m training idm         --out DIR --minutes 25
    python -m training first-stage --out DIR --minutes 9
    python -m training latent      --out DIR --minutes 14 --first-stage DIR/ema.safetensors

`photographs` and `leaves` are the pictures, `pictures` keeps them on the training device and cuts batches out
of them, `quick_networks` computes the published networks faster during training, `idm`, `first_stage` and
`latent` are what is trained, `loop` is how, `checks` looks at held-out photographs while it runs.
"""
