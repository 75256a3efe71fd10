#!/bin/sh
# One of our two models under our plans and every rival's at 2 to 10 evaluations, three ranges of 5,000 images a cell, scored by
# three feature networks: the small classifier of the data, and EfficientNet-lite0 and -lite2 of ImageNet.
#
#     bench/compare.sh fashion-mnist|cifar10 DATA OUT [FURTHER OPTIONS OF fewstep compare]
#
# Rivals: OSS, GITS and rho = 7 under five solvers, LD3 (levels by gradient: +levels) and what S4S and GAS do (levels and
# coefficients by gradient: +rollout). DATA: the training images (Fashion-MNIST's folder, CIFAR-10). OUT: a folder; with the cells
# that an earlier run left there it goes on. OUT.features gets the networks and what they make of DATA; EFFICIENTNETS names
# others (of bench/efficientnet.py, "lite0:96 lite2:128"). About 14 hours a model on two idle cores. (A GPU and a CPU round
# differently: keep their cells apart.) cifar10 is the second model (bench/cifar10). Needs Python with torch.
set -eu

here=$(dirname "$0")
[ $# -ge 3 ] || set -- help help help
data=$2 out=$3
case $1 in
    fashion-mnist) model=fashion-mnist small=$here/../crates/fewstep/assets/features.safetensors ;;
    cifar10) model=$here/cifar10/model.safetensors small=$here/cifar10/features.safetensors ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
pad=
[ "$1" = fashion-mnist ] && pad="--pad-to 32"
shift 3
fewstep=${FEWSTEP:-"cargo run --release --quiet -p fewstep-cli --"}

mkdir -p "$out.features"
features= references=
for name in small ${EFFICIENTNETS:-lite0:96 lite2:128}; do
    network=$small
    if [ "$name" != small ]; then
        file=$out.features/efficientnet-${name%:*}-${name#*:}.pt
        [ -f "$file" ] || "${PYTHON:-python3}" "$here/efficientnet.py" "$file" "${name#*:}" "${name%:*}"
        network=$file@bytes
    fi
    reference=$out.features/reference-${name%:*}-${name#*:}.npz
    # shellcheck disable=SC2086 # words are meant
    [ -f "$reference" ] || $fewstep ref --data "$data" $pad --features "$network" --keep-features --out "$reference"
    features=$features,$network references=$references,$reference
done

ours=least-squares+gauss-newton
methods=$ours+data-moments,$ours+moments,$ours,karras/ipndm4+levels,karras/ipndm4+rollout
for solver in ipndm4 dpmpp3m unipc3_bh2 deis_tab3 euler; do
    for search in oss gits karras; do
        methods=$methods,$search/$solver
    done
done
resume=
[ -f "$out/run.json" ] && resume=--resume
# shellcheck disable=SC2086 # words are meant
$fewstep compare "$model" --methods "$methods" --features "${features#,}" --ref "${references#,}" --data "$data" $pad \
    --steps 2-10 --images 5000 --set ranges=3 --precision bf16 --out "$out" $resume "$@"
