#!/bin/sh
# Say what a bare Debian or Ubuntu lacks before anything is installed: Python 3.11 or newer with its venv module, and a C
# compiler with Python's headers (pesq is compiled on installation). Usage: check-system.sh PYTHON
python=$1
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
if [ -z "$version" ]; then
    echo "error: there is no working $python here: install Python 3.11 or newer, or name it: make PYTHON=python3.12 ..." >&2
    echo "  on Debian or Ubuntu: sudo apt install python3 python3-venv python3-dev build-essential" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: $python is Python $version; 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2
    echo "  on Debian or Ubuntu: sudo apt install python3.11 python3.11-venv python3.11-dev build-essential" >&2
    exit 1
fi
packages=
"$python" -c 'import venv, ensurepip' 2>/dev/null || packages="$packages python$version-venv"
command -v "${CC:-cc}" >/dev/null 2>&1 || packages="$packages build-essential"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
    packages="$packages python$version-dev"
if [ -n "$packages" ]; then
    echo "error: this system lacks$packages" >&2
    echo "  on Debian or Ubuntu: sudo apt install$packages" >&2
    exit 1
fi
