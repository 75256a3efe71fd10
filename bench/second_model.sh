#!/bin/sh
# The second model of our comparisons: a class-conditional NCSN++ of CIFAR-10, as large as two cores train to recognisable
# images, with a feature network and statistics to score it by. It is measured on and no part of the program.
#
#     bench/second_model.sh DATA OUT [IMAGES]
#
# DATA: CIFAR-10 as an archive of its own site, an EDM zip or a folder of images in classes. OUT: a folder. IMAGES: training
# images to see (default 1000000; about three hours on two idle cores). bench/cifar10 is such a run, stopped early. Run again,
# it goes on where it stopped; with more IMAGES it trains further, exactly as if it had never stopped.
set -eu

[ $# -ge 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 out=$2 images=${3:-1000000}
fewstep=${FEWSTEP:-"cargo run --release --quiet -p fewstep-cli --"}
mkdir -p "$out"

if ! [ -f "$out/features.safetensors" ]; then
    $fewstep features --data "$data" --out "$out/features.safetensors" --epochs 12 --seed 0 --precision bf16
fi
if ! [ -f "$out/reference.npz" ]; then
    $fewstep ref --data "$data" --features "$out/features.safetensors" --out "$out/reference.npz"
fi
resume=
[ -f "$out/train/run.json" ] && resume=--resume
$fewstep train --data "$data" --out "$out/train" --cond --arch ncsnpp --channels 32 --channel-mult 1,2,2 --blocks 2 \
    --attention 8 --set network.dropout=0 --augment 0 --batch 128 --lr 1e-3 --seed 0 \
    --set training.xflip=true --set training.rampup_images=10000 --set training.ema_images=50000 \
    --precision bf16 --set output.save_every=12800 --set output.grid_every=128000 --set output.half=true --images "$images" $resume
