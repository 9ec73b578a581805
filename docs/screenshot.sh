#!/usr/bin/env bash
# Makes docs/workbench.png: the workbench in a real terminal under Xvfb, with a picture growing; and docs/sweeps.png: a
# sweep of the embedded family.
# Needs Debian's xvfb, xterm, xdotool, imagemagick and fonts-dejavu-core, and a checkout that is set up (make setup).
#   docs/screenshot.sh [COLUMNSxROWS] [WORKBENCH.png] [SWEEPS.png]
set -euo pipefail
cd "$(dirname "$0")/.."
size=${1:-132x38} out=${2:-docs/workbench.png} sweeps=${3:-docs/sweeps.png}
home=$(mktemp -d)
display=$(mktemp)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$home" "$display"' EXIT
export SAFELIGHT_HOME=$home

Xvfb -displayfd 3 -screen 0 1800x1200x24 -nolisten tcp -noreset 3>"$display" 2>/dev/null &
until [ -s "$display" ]; do sleep 0.1; done
DISPLAY=:$(cat "$display")
export DISPLAY
xterm -b 0 -bw 0 -fa 'DejaVu Sans Mono' -fs 10 -geometry "$size+0+0" \
    -e env COLORTERM=truecolor TERM=xterm-256color .venv/bin/safelight &
sleep 12
for prompt in "a 3d unicorn on a purple background" "a flat pizza on a green background" \
    "a cartoon panda on a teal background" "a 3d rocket on a black background"; do
    xdotool key ctrl+End ctrl+u type "$prompt"
    xdotool key Return
    sleep 4
done
xdotool key ctrl+End ctrl+u type "a 3d (red apple)1.3 on a blue background++"
xdotool key Return Return Return
sleep 1
import -window root -trim +repage "$out"
sleep 8
.venv/bin/safelight sweep "a flat pizza on a green background" "a 3d rocket on a black background" \
    "a cartoon cat on a yellow background" --seeds 2 \
    --models mini,mini-lightning-2step-lora,mini-lightning-4step-unet,mini-lightning-8step-lora
xdotool key F8
sleep 4
xdotool key Return
sleep 1
xdotool key Right
xdotool key Down
xdotool key 5
sleep 1
import -window root -trim +repage "$sweeps"
xdotool key Escape
xdotool key ctrl+q
sleep 1
