#!/bin/sh
# Checks for the system packages that the build needs (Debian names) and installs what is missing
# where it can: as root, or with sudo that asks no password. Otherwise it says what to install.
set -eu

missing=""
have() { command -v "$1" >/dev/null 2>&1; }
have c++ || missing="$missing g++"
have cmake || missing="$missing cmake"
have make || have ninja || missing="$missing make"
have git || missing="$missing git"
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"

[ -n "$missing" ] || exit 0
if have apt-get; then
    if [ "$(id -u)" = 0 ]; then sudo=""; elif have sudo && sudo -n true 2>/dev/null; then sudo="sudo"; else sudo=none; fi
    if [ "$sudo" != none ]; then
        echo "installing:$missing"
        $sudo apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing
        exit 0
    fi
fi
echo "ke-gen's build needs these packages (Debian names):$missing" >&2
echo "install them, then run make again" >&2
exit 1
