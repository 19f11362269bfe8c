#!/usr/bin/env bash
# Says whether the generated files are what their sources make of them. It
# generates in a copy, so that the work tree may hold whatever it holds.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/tree"
tar --create --exclude=./bin --exclude=./bench --exclude=./.git . | tar --extract --directory "$scratch/tree"
cp --archive "$scratch/tree" "$scratch/generated"
mkdir "$scratch/generated/bin"
ln -s "$PWD/bin/tools" "$scratch/generated/bin/tools"
(cd "$scratch/generated" && buf generate && GOFLAGS=-buildvcs=false go generate ./...)

cd "$scratch"
if ! different=$(diff --recursive --brief --new-file --exclude=bin tree generated |
  sed 's|^Files tree/\(.*\) and generated/.* differ$|  \1|'); then
  printf 'generated files differ from what their sources make of them:\n%s\n' "$different" >&2
  printf 'run make generate, look at the changes, and commit them\n' >&2
  exit 1
fi
