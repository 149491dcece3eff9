#!/usr/bin/env bash
# build.sh [FOLDER]: builds FOLDER/grid_c.wasm (default target/guests). The pinned tools go into a virtual
# environment under target/guests/tools; exit code 69 says that they cannot be installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../target/guests}
tools=$here/../../target/guests/tools/c-guest
mkdir -p "$folder" "$tools"
folder=$(cd "$folder" && pwd) tools=$(cd "$tools" && pwd)
cd "$here"

python3 -m venv "$tools" && "$tools/bin/pip" install --quiet --requirement requirements.txt || exit 69
# The module in the component needs no more stack than this; the compiler's default is 16 MiB of memory.
ZIG_GLOBAL_CACHE_DIR=$tools/cache "$tools/bin/python" -m ziglang cc -target wasm32-wasi -mexec-model=reactor \
    -std=c17 -Os -s -Wall -Wextra -Werror -Wl,-z,stack-size=65536 \
    -o "$tools/grid_c.core.wasm" grid_c.c generated/puzzle_plugin.c
"$tools/bin/wasm-tools" component embed ../../schemas/wit/since_v0.2.0 --world puzzle-plugin \
    "$tools/grid_c.core.wasm" --output "$tools/grid_c.typed.wasm"
"$tools/bin/wasm-tools" component new "$tools/grid_c.typed.wasm" --output "$folder/grid_c.wasm"
echo "built $folder/grid_c.wasm"
