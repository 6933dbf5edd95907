#!/bin/sh
# From videos of one GRID speaker to reports: sh configs/grid.sh FOLDER
# FOLDER holds LRS2-BBC/main, LRS2_crop and the split lists. Run again, it resumes where it stopped. Meant for one GPU.
set -eu
folder=${1:?"the folder with LRS2-BBC, LRS2_crop and train.txt, val.txt, test.txt"}
train="python -m train --config configs/grid.yaml --resume auto"

pipeline build --config configs/grid.yaml --root "$folder/LRS2-BBC"
test -e data/grid-shards/tokenizer.model || pipeline tokenizer data/grid-shards
$train --task vsr
$train --task asr
$train --init-vsr runs/grid-vsr/best.pt --init-asr runs/grid-asr/best.pt
for split in val test; do
    python -m eval --checkpoint runs/grid/best.pt --shards data/grid-shards --split "$split" \
           --out "reports/grid-$split" --asr runs/grid-asr/best.pt \
           --systems '[network,shuffled_lips,untrained,mean_mel,ceiling,original]'
done
