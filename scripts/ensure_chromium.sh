#!/usr/bin/env bash
# Make sure the browser tests have a Chromium: $CHROMIUM, one on PATH, the distribution's, or else Playwright's own.
set -euo pipefail

if [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
    exit 0
fi
# The Python tests and the vitest tests each bring a Playwright, which may want different builds.
playwright install chromium
npm --prefix js exec -- playwright install chromium
