#!/usr/bin/env bash
# Runs labelr on a CUDA card and prints one JSON object per step: its name, success, seconds, figures and error.
#
#     tests/bench/gpu.sh [--cpu] [--use PACK] [PHOTOS] [STEP...] >result.jsonl
#
# PHOTOS (or the variable PHOTOS) holds train/ and test/, each with images/ and labels.csv; without it those of the pack
# are used, else synthetic images. Without STEPs all of them run, the most important first. What does not fit into LIMIT
# seconds (default: 450) is skipped and reported: name these steps in another call with the same WORK, the directory of
# models and outputs (default: a new temporary one). A step that fails does not stop the others. Run it alone on the
# machine, which needs bash, Python 3.11 or later with PyTorch, and no network.
#
#     tests/bench/gpu.sh --cpu
#
# runs everything on the CPU with tiny settings (LIMIT: 7200): a test of this script where no card is at hand. Steps that
# need a card report so.
#
#     PACK_PYTHON=3.12 tests/bench/gpu.sh --pack PACK PHOTOS
#
# prepares, where there is a network, a folder PACK for a machine without one, with a checkout of at most 64 MiB: PHOTOS,
# reduced, and wheels of what labelr needs for that version of Python, the smallest first, as many as fit. `--use PACK`
# installs those that the machine lacks, or has in too old a version, into WORK. PyTorch and torchvision do not fit: a machine without them is reported in one line.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
bench=("$python" "$root/tests/bench/gpu.py")
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
device=cuda pack=
while [[ ${1:-} == --* ]]; do
    case $1 in
        --cpu) device=cpu ;;
        --use) pack=$(cd "$2" && pwd) && shift ;;
        --pack) shift && exec "${bench[@]}" pack "$@" ;;
        *) echo "gpu.sh: unknown option $1" >&2 && exit 2 ;;
    esac
    shift
done
photos=${PHOTOS:-}
[[ -d ${1:-} ]] && photos=$1 && shift
[[ -z $photos && -d $pack/photos ]] && photos=$pack/photos
[[ -n $photos ]] && photos=$(cd "$photos" && pwd)
wanted=" $* "
work=${WORK:-$(mktemp -d)}
mkdir -p "$work" && cd "$work" || exit 1
export LABELR_HOME=$work/home

small=128 large=224 full=30 half=15 few=3 num_synthetic=1800 num_test=300 num_large_photos=160 patience=1
backbone=resnet50 limit=${LIMIT:-450} tiny=() modes=(default reduce-overhead)
if [[ $device == cpu ]]; then
    small=32 large=40 full=2 half=2 few=2 num_synthetic=60 num_test=12 num_large_photos=4 patience=20
    backbone=mobilenet_v3_small limit=${LIMIT:-7200} tiny=(--threads 1 --workers 1)
fi

# step NAME SECONDS COMMAND...: the command's last line on stdout holds the figures.
step() {
    local name=$1 most=$(($2 * patience)) left=$((limit - SECONDS)) start=$EPOCHREALTIME code=0
    shift 2
    [[ $wanted == "  " || $wanted == *" $name "* ]] || return 0
    if ((left < 10)); then
        code=skipped
    else
        timeout -k 5 "$((most < left ? most : left))" "$@" >"$name.out" 2>"$name.err" || code=$?
    fi
    "${bench[@]}" line "$name" "$code" "$start" "$EPOCHREALTIME"
    [[ $code == 0 ]]
}

# on_card step|fit NAME ...: a step that needs a card.
on_card() {
    if [[ $device == cuda ]]; then
        "$@"
    elif [[ $wanted == "  " || $wanted == *" $2 "* ]]; then
        "${bench[@]}" line "$2" "no card" "$EPOCHREALTIME" "$EPOCHREALTIME"
    fi
}

# fit NAME SECONDS [SWITCH...] -- OPTION...: trains the model NAME, on `$on` where that is set.
fit() {
    local name=$1 most=$2
    shift 2
    step "$name" "$most" "${bench[@]}" fit "$name" "$@" "${tiny[@]}" "${width[@]}" --device "${on:-$device}"
}

# tag NAME MODEL PHOTOS OPTION...: tags photographs into the directory NAME.
tag() {
    local name=$1 model=$2 images=$3
    shift 3
    step "$name" 60 "${bench[@]}" tag "$name" "$images" --model "$model" "$@"
}

width=()
[[ $device == cpu ]] && width=(--width 0.125)
mapfile -t gpu_tests < <(grep -lE 'mark\.gpu|on_cuda' "$root"/tests/test_*.py)

if [[ -n $pack ]]; then
    mapfile -t wheels < <("${bench[@]}" missing "$pack")
    if ((${#wheels[@]})); then
        step install 60 "$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$work/site" "${wheels[@]}"
        export PYTHONPATH=$PYTHONPATH:$work/site
    fi
fi
wanted_here=$wanted wanted="  "
step environment 120 "${bench[@]}" environment || exit 0
if [[ -z $photos ]]; then
    photos=$work/photos
    [[ -d $photos ]] || step make_photographs 60 "${bench[@]}" synthetic "$photos" "$num_synthetic" "$num_test"
elif [[ $device == cpu ]]; then
    [[ -d $work/few ]] || step pick 60 "${bench[@]}" pick "$photos" "$work/few" "$num_synthetic" "$num_test"
    photos=$work/few
fi
wanted=$wanted_here
train=$photos/train test=$photos/test
step gpu_tests 120 "$python" -m pytest -q -p no:cacheprovider -p no:benchmark --rootdir "$root" -m gpu "${gpu_tests[@]}"

# Training: its share of the bare step, and where the time goes.
fit fit_128 90 -- "$train" --image-size "$small" --epochs "$full"
step bare_128 40 "${bench[@]}" bare fit_128 "$device"
fit profile_128 40 profile -- "$train" --image-size "$small" --epochs "$few" --no-progressive
fit fit_224 90 -- "$train" --image-size "$large" --epochs "$half"
step bare_224 40 "${bench[@]}" bare fit_224 "$device"
fit profile_224 40 profile -- "$train" --image-size "$large" --epochs "$few" --no-progressive

# Prediction: speed, its limits, and agreement between devices and precisions.
step evaluate 40 "${bench[@]}" evaluate "$test" --model fit_128 --device "$device"
step make_photos 40 "${bench[@]}" photos "$train/images" large_photos "$num_large_photos"
step decode 40 "${bench[@]}" decode large_photos fit_224
tag tag_large fit_224 large_photos --device "$device"
step predict 40 "${bench[@]}" predict fit_224 "$device"
on_card step nvjpeg 40 "${bench[@]}" nvjpeg large_photos fit_224
tag cpu_fp32 fit_128 "$test/images" --device cpu --no-amp
tag cpu_bf16 fit_128 "$test/images" --device cpu --amp
tag card_fp32 fit_128 "$test/images" --device "$device" --no-amp
tag card_bf16 fit_128 "$test/images" --device "$device" --amp
step agree 20 "${bench[@]}" agree cpu_fp32 cpu_bf16 card_fp32 card_bf16

# Too large a batch: the run should continue with fewer images at a time. A run that was killed after its first epoch
# and resumed; two runs on one card; a search by two workers.
fit too_large_batch 40 memory=3 -- "$train" --image-size "$large" --batch-size 512 --epochs 2
fit whole 40 -- "$train" --image-size "$small" --epochs "$few" --seed 1
fit resumed 60 kill=1 -- "$train" --image-size "$small" --epochs "$few" --seed 1
step same_resumed 20 "${bench[@]}" same whole resumed
step pair 60 "${bench[@]}" pair "$train" --image-size "$small" --epochs "$few" "${tiny[@]}" "${width[@]}" --device "$device"
step tune 60 "${bench[@]}" tune "$train" --lr 1e-3,4e-3 --jobs 2 --epochs 2 --image-size "$small" "${width[@]}" \
    --device "$device" --no-refit

# A compiled network, with the modes of torch.compile on the bare step; precisions; a backbone.
fit compiled 90 -- "$train" --image-size "$large" --epochs "$few" --no-progressive --compile
for mode in "${modes[@]}"; do
    step "bare_compiled_${mode/-/_}" 60 "${bench[@]}" bare fit_224 "$device" "$mode"
done
fit bf16 40 -- "$train" --image-size "$large" --epochs "$few" --no-progressive --amp
fit fp32 40 -- "$train" --image-size "$large" --epochs "$few" --no-progressive --no-amp
on_card fit tf32 40 -- "$train" --image-size "$large" --epochs "$few" --no-progressive --tf32
on_card fit fp16 40 fp16 -- "$train" --image-size "$large" --epochs "$few" --no-progressive --amp
step make_weights 30 "${bench[@]}" weights "$backbone" "$backbone.pth"
width=()
fit backbone 60 -- "$train" --backbone "$backbone" --weights "$backbone.pth" --train all --image-size "$large" --epochs "$few"
[[ $device == cpu ]] && width=(--width 0.125)

# The losses of one epoch against those of the CPU; synchronizations; many small images; a card without memory, which
# should end in an error message.
on=cpu fit loss_cpu 60 -- "$train" --image-size "$small" --epochs 1 --no-amp
fit loss_fp32 30 -- "$train" --image-size "$small" --epochs 1 --no-amp
step same_fp32 20 "${bench[@]}" same loss_cpu loss_fp32
fit syncs 40 syncs -- "$train" --image-size "$small" --epochs 1
tag tag_small fit_128 "$train/images" --device "$device"
fit fit_synthetic 90 -- --synthetic "$num_synthetic" --epochs "$half"
step full_card 30 "${bench[@]}" refused full_card memory=0.05 -- "$train" --image-size "$large" --epochs 2 "${tiny[@]}" \
    "${width[@]}" --device "$device"
echo "{\"step\": \"end\", \"ok\": true, \"seconds\": $SECONDS, \"figures\": {\"work\": \"$work\"}, \"error\": null}"
