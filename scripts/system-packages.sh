#!/bin/sh
# Checks for the system packages that the build and the tests need (Debian names) and installs what
# is missing where it can: as root, or with sudo that asks no password. Otherwise it says what to
# install. Without those of the build it fails; without those of the tests, some tests are skipped.
set -eu

build="" tests=""
have() { command -v "$1" >/dev/null 2>&1; }
have c++ || build="$build g++"
have cmake || build="$build cmake"
have make || have ninja || build="$build make"
have git || build="$build git"
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || build="$build python3-venv"
have chromium || have google-chrome || tests="$tests chromium"
have initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || tests="$tests postgresql"

install_packages() {
    have apt-get || return 1
    if [ "$(id -u)" = 0 ]; then sudo=""; elif have sudo && sudo -n true 2>/dev/null; then sudo="sudo"; else return 1; fi
    echo "installing: $*"
    $sudo apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@"
}

# shellcheck disable=SC2086
if [ -n "$build" ] && ! install_packages $build; then
    echo "ke-gen's build needs these packages (Debian names):$build" >&2
    echo "install them, then run make again" >&2
    exit 1
fi
# shellcheck disable=SC2086
if [ -n "$tests" ] && ! install_packages $tests; then
    echo "some tests are skipped without these packages (Debian names):$tests" >&2
fi
