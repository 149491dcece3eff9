#!/usr/bin/env bash
# build_guests.sh [FOLDER]: builds the plugins that are not written in Rust into FOLDER (default target/guests). One
# whose tools cannot be installed here is skipped, with the reason; one that does not build is a failure.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../target/guests}
mkdir -p "$folder"

for language in python javascript c-guest; do
    code=0
    "$here/$language/build.sh" "$folder" >"$folder/$language.log" 2>&1 || code=$?
    case $code in
        0) tail -n 1 "$folder/$language.log" ;;
        69) echo "skipped: sdk/$language, its tools cannot be installed: $(head -n 1 "$folder/$language.log")" ;;
        *) cat "$folder/$language.log"; exit "$code" ;;
    esac
done
