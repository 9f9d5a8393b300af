#!/usr/bin/env bash
# Builds the Collector of builder.yaml, unless it was built before, and prints the path of its binary. Needs Go.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/otel-sessions
binary=$folder/otelcol-sessions-$(sha256sum "$here/builder.yaml" | cut -c1-12)
if [ ! -x "$binary" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    CGO_ENABLED=0 go run go.opentelemetry.io/collector/cmd/builder@v0.161.0 --config "$here/builder.yaml" >&2
    mkdir -p "$folder"
    mv build/otelcol-sessions "$binary.$$"
    mv "$binary.$$" "$binary"
fi
echo "$binary"
