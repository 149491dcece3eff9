#!/usr/bin/env bash
# build.sh [FOLDER]: builds FOLDER/grid_py.wasm (default target/guests). The pinned tools go into a virtual
# environment under target/guests/tools; exit code 69 says that they cannot be installed.
set -euo pipefail
folder=$(realpath -m "${1:-$(dirname "$0")/../../target/guests}")
cd "$(dirname "$0")"
tools=$(realpath -m ../../target/guests/tools/python)

python3 -m venv "$tools" && "$tools/bin/pip" install --quiet --requirement requirements.txt || exit 69
mkdir -p "$folder"
"$tools/bin/componentize-py" --quiet --wit-path ../../schemas/wit/since_v0.2.0 --world puzzle-plugin \
    componentize grid_py --output "$folder/grid_py.wasm"
echo "built $folder/grid_py.wasm"
