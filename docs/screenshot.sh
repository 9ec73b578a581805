#!/usr/bin/env bash
# Makes docs/sweeps.png: a sweep of the embedded family, in a real terminal under Xvfb. (docs/recording.py makes the
# recording of the workbench, and the still of it.)
# Needs Debian's xvfb, xterm, xdotool, imagemagick and fonts-dejavu-core, and a checkout that is set up (make setup).
#   docs/screenshot.sh [COLUMNSxROWS] [SWEEPS.png]
set -euo pipefail
cd "$(dirname "$0")/.."
size=${1:-132x38} sweeps=${2:-docs/sweeps.png}
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
