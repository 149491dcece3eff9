#!/usr/bin/env bash
# build.sh [FOLDER]: builds FOLDER/grid_py.wasm (default target/guests). The pinned tools go into a virtual
# environment under target/guests/tools; exit code 69 says that they cannot be installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../target/guests}
tools=$here/../../target/guests/tools/python
mkdir -p "$folder" "$tools"
folder=$(cd "$folder" && pwd) tools=$(cd "$tools" && pwd)
cd "$here"

python3 -m venv "$tools" && "$tools/bin/pip" install --quiet --requirement requirements.txt || exit 69
"$tools/bin/componentize-py" --quiet --wit-path ../../schemas/wit/since_v0.2.0 --world puzzle-plugin \
    componentize grid_py --output "$folder/grid_py.wasm"
echo "built $folder/grid_py.wasm"
