#!/bin/sh
# One of our two models under our plans and every rival's at 3 to 10 evaluations, 5,000 images a cell.
#
#     bench/compare.sh fashion-mnist|cifar10 OUT [FURTHER OPTIONS OF fewstep compare]
#
# Rivals: OSS, GITS and rho = 7 under five solvers, LD3 (levels by gradient: +levels) and what S4S and GAS do (levels and
# coefficients by gradient: +rollout). OUT: a folder; with the cells that an earlier run left there it goes on. Hours a model
# on two idle cores. (A GPU and a CPU round differently: keep their cells apart.) cifar10 is the second model (bench/cifar10);
# the method that looks at training images needs them: --data CIFAR-10.
set -eu

[ $# -ge 2 ] || set -- help help
out=$2
case $1 in
    fashion-mnist) model=fashion-mnist ;;
    cifar10)
        at=$(dirname "$0")/cifar10
        model="$at/model.safetensors --features $at/features.safetensors --ref $at/reference.npz"
        ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
shift 2
fewstep=${FEWSTEP:-"cargo run --release --quiet -p fewstep-cli --"}

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
$fewstep compare $model --methods "$methods" --steps 3-10 --images 5000 --precision bf16 --out "$out" $resume "$@"
