"""Videos to shards: index a corpus, plan its shards, build them with Ray, and look at what came out."""
