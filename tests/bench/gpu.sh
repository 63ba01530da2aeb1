#!/usr/bin/env bash
# Runs labelr on a CUDA card and prints one JSON object per step: its name, success, seconds, figures and error.
#
#     tests/bench/gpu.sh PHOTOS [STEP...] >result.jsonl
#
# PHOTOS holds train/ and test/, each with images/ and labels.csv. Without STEPs all of them run, the most important
# first. What does not fit into LIMIT seconds (default: 450) is skipped and reported: name these steps in another call
# with the same WORK, the directory of models and outputs (default: a new temporary one). A step that fails does not stop
# the others. Run it alone on the machine.
#
#     DEVICE=cpu tests/bench/gpu.sh PHOTOS
#
# runs everything on the CPU with tiny settings: a test of this script where no card is at hand.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
photos=$(cd "$1" && pwd)
shift
wanted=" $* "
device=${DEVICE:-cuda}
limit=${LIMIT:-450}
python=${PYTHON:-python3}
work=${WORK:-$(mktemp -d)}
export LABELR_HOME=$work/home PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$work" && cd "$work" || exit 1
bench=("$python" "$root/tests/bench/gpu.py")
train=$photos/train test=$photos/test

small=128 large=224 full=30 half=15 few=3 num_synthetic=1800 num_large_photos=160 patience=1
tiny=()
if [[ $device == cpu ]]; then
    small=32 large=40 full=3 half=2 few=2 num_synthetic=100 num_large_photos=4 patience=5
    tiny=(--width 0.125 --threads 1 --workers 1)
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
}

# fit NAME SECONDS [SWITCH...] -- OPTION...: trains the model NAME, on `$on` where that is set.
fit() {
    local name=$1 most=$2
    shift 2
    step "$name" "$most" "${bench[@]}" fit "$name" "$@" "${tiny[@]}" --device "${on:-$device}"
}

# tag NAME MODEL PHOTOS OPTION...: tags photographs into the directory NAME.
tag() {
    local name=$1 model=$2 images=$3
    shift 3
    step "$name" 60 "${bench[@]}" tag "$name" "$images" --model "$model" "$@"
}

mapfile -t gpu_tests < <(grep -l 'mark\.gpu' "$root"/tests/test_*.py)

step environment 120 "${bench[@]}" environment
step gpu_tests 90 "$python" -m pytest -q -p no:cacheprovider -p no:benchmark --rootdir "$root" -m gpu "${gpu_tests[@]}"

# Training, and its share of the bare step.
fit fit_128 90 -- "$train" --image-size "$small" --epochs "$full" --patience 100
step bare_128 40 "${bench[@]}" bare fit_128 "$device"
fit fit_224 90 -- "$train" --image-size "$large" --epochs "$half" --patience 100
step bare_224 40 "${bench[@]}" bare fit_224 "$device"

# Too large a batch: the run should continue with fewer images at a time.
fit too_large_batch 40 memory=3 -- "$train" --image-size "$large" --batch-size 512 --epochs 2

# Prediction: speed, and agreement between devices and precisions.
step evaluate 40 "${bench[@]}" evaluate "$test" --model fit_128 --device "$device"
step make_photos 40 "${bench[@]}" photos "$train/images" large_photos "$num_large_photos"
tag tag_large fit_224 large_photos --device "$device"
step limits 40 "${bench[@]}" limits large_photos fit_224 "$device"
tag cpu_fp32 fit_128 "$test/images" --device cpu --no-amp
tag cpu_bf16 fit_128 "$test/images" --device cpu --amp
tag card_fp32 fit_128 "$test/images" --device "$device" --no-amp
tag card_bf16 fit_128 "$test/images" --device "$device" --amp
step agree 20 "${bench[@]}" agree cpu_fp32 cpu_bf16 card_fp32 card_bf16

# A run that was killed after its first epoch and resumed; two runs on one card; a compiled network.
fit whole 40 -- "$train" --image-size "$small" --epochs "$few" --seed 1
fit resumed 60 kill=1 -- "$train" --image-size "$small" --epochs "$few" --seed 1
step same_resumed 20 "${bench[@]}" same whole resumed
step pair 60 "${bench[@]}" pair "$train" --image-size "$small" --epochs 6 "${tiny[@]}" --device "$device"
fit compiled 90 -- "$train" --image-size "$large" --epochs "$few" --no-progressive --compile

# Precisions; the losses of one epoch are compared with those of the CPU in fp32.
on=cpu fit loss_cpu 40 -- "$train" --image-size "$small" --epochs 1 --no-amp
fit loss_fp32 30 no-tf32 -- "$train" --image-size "$small" --epochs 1 --no-amp
step same_fp32 20 "${bench[@]}" same loss_cpu loss_fp32
fit loss_tf32 30 -- "$train" --image-size "$small" --epochs 1 --no-amp
step same_tf32 20 "${bench[@]}" same loss_cpu loss_tf32
fit fp32 40 -- "$train" --image-size "$large" --epochs "$few" --no-progressive --no-amp
fit fp16 40 fp16 -- "$train" --image-size "$large" --epochs "$few" --no-progressive --amp

# Where the time goes, many small images, and a card without memory, which should end in an error message.
fit syncs 40 syncs -- "$train" --image-size "$small" --epochs 1
fit profile 60 profile -- "$train" --image-size "$small" --epochs "$few"
tag tag_small fit_128 "$train/images" --device "$device"
fit fit_synthetic 90 -- --synthetic "$num_synthetic" --epochs "$half"
fit full_card 30 memory=0.05 -- "$train" --image-size "$large" --epochs 2
echo "{\"step\": \"end\", \"ok\": true, \"seconds\": $SECONDS, \"figures\": {\"work\": \"$work\"}, \"error\": null}"
