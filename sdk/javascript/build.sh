#!/usr/bin/env bash
# build.sh [FOLDER]: builds FOLDER/grid_js.wasm (default target/guests). The pinned tools go into node_modules
# under target/guests/tools; exit code 69 says that they cannot be installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../target/guests}
tools=$here/../../target/guests/tools/javascript
mkdir -p "$folder" "$tools"
folder=$(cd "$folder" && pwd) tools=$(cd "$tools" && pwd)
cd "$here"

cp package.json package-lock.json "$tools"
# Not `npm ci`: it fails where a binding for some other platform was never published.
npm --prefix "$tools" install --no-audit --no-fund --loglevel=error || exit 69
# Without --sync a component waits for its host, which only an async host can answer.
"$tools/node_modules/.bin/componentize-qjs" --wit ../../schemas/wit/since_v0.2.0 --world puzzle-plugin --sync \
    --js grid_js.js --output "$folder/grid_js.wasm"
echo "built $folder/grid_js.wasm"
