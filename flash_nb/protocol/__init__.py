"""What travels between the parts of flash_nb; no IO.

`channel` describes the frames of the local engine's stream (their bytes: `flash_nb.worker.frames`),
`live` says the same jobs in Flash's words, for workers that are not ours. `graphql` and `catalog` read
what Runpod's control APIs say, `urls` knows where they are.
"""
