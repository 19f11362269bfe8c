#!/usr/bin/env bash
# Installs what building, trying and testing need on a Debian 12 machine, and
# nothing that is there already. Run it again at any time: it takes a moment
# when nothing is missing.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/bin/tools

packages=(
  ca-certificates git make gcc libc6-dev curl jq
  # building the BPF programs
  clang-14 llvm-14 libbpf-dev
  # running a cluster, and looking at it
  busybox-static iproute2 util-linux procps bpftool tcpdump ethtool
  iputils-ping netcat-openbsd etcd-client iperf3
  # tests: what others say of us
  containernetworking-plugins python3 python3-marathon shellcheck
  # tests on the kernel that Debian has
  qemu-system-x86
)

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# install_packages NAME... installs those that are missing.
install_packages() {
  local missing=() name
  for name in "$@"; do
    installed "$name" || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || fail "not root, and these packages are missing: ${missing[*]}; run as root, or install them and try again"
  say "installing ${missing[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

# version_at_least HAVE WANT compares dotted versions.
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# ensure_go makes the Go release that go.mod asks for available: the machine's
# own if it is new enough, else that release as a module, kept in Go's module
# cache and linked from bin/toolchain (the Makefile looks there first).
ensure_go() {
  local want have
  want=$(awk '$1 == "go" { print $2 }' "$root/go.mod")
  if command -v go >/dev/null; then
    have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || true)
    if version_at_least "${have#go}" "$want"; then return 0; fi
  fi
  if [ -x "$root/bin/toolchain/bin/go" ] &&
    [ "$(GOTOOLCHAIN=local "$root/bin/toolchain/bin/go" env GOVERSION)" = "go$want" ]; then
    return 0
  fi
  install_packages golang-1.19-go
  local module scratch place
  module="golang.org/toolchain@v0.0.1-go$want.linux-$(dpkg --print-architecture)"
  say "getting Go $want"
  scratch=$(mktemp -d)
  (cd "$scratch" && /usr/lib/go-1.19/bin/go mod download "$module")
  rmdir "$scratch"
  place=$(/usr/lib/go-1.19/bin/go env GOMODCACHE)/$module
  # Modules lose the executable bit.
  find "$place/bin" "$place/pkg/tool" -type f -exec chmod a+x {} +
  mkdir -p "$root/bin"
  ln -sfn "$place" "$root/bin/toolchain"
}

# ensure_tools builds the pinned tools of tools/go.mod into bin/tools.
ensure_tools() {
  local stamp
  stamp=$( (cat "$0" "$root/tools/go.mod" "$root/tools/go.sum" && go version) | sha256sum)
  if [ "$(cat "$tools/.stamp" 2>/dev/null)" = "$stamp" ]; then return 0; fi
  say "building tools (once, some minutes on a small machine)"
  mkdir -p "$tools"
  GOBIN=$tools CGO_ENABLED=0 GOFLAGS=-buildvcs=false go -C "$root/tools" install tool
  printf '%s\n' "$stamp" >"$tools/.stamp"
}

# ensure_old_etcd gets the etcd that Debian has for the tests of stores that
# others operate. The package is not installed: it would start a service.
ensure_old_etcd() {
  if [ -x "$tools/debian-etcd" ]; then return 0; fi
  local scratch
  scratch=$(mktemp -d)
  say "getting Debian's etcd for tests"
  (cd "$scratch" && apt-get -qq download etcd-server 2>/dev/null) || { apt-get -qq update && (cd "$scratch" && apt-get -qq download etcd-server); }
  dpkg -x "$scratch"/etcd-server_*.deb "$scratch/root"
  mkdir -p "$tools"
  install -m 755 "$scratch/root/usr/bin/etcd" "$tools/debian-etcd"
  rm -r "$scratch"
}

# ensure_debian_kernel gets the kernel that Debian has, for tests in a virtual
# machine. The package is not installed: this machine is not to boot it.
ensure_debian_kernel() {
  local place=$tools/debian-kernel scratch package release modules
  if [ -e "$place/vmlinuz" ]; then return 0; fi
  [ "$(dpkg --print-architecture)" = amd64 ] || return 0
  scratch=$(mktemp -d)
  say "getting Debian's kernel for tests"
  apt-cache show linux-image-amd64 >/dev/null 2>&1 || apt-get -qq update
  package=$(apt-cache show --no-all-versions linux-image-amd64 | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p')
  (cd "$scratch" && apt-get -qq download "$package" 2>/dev/null) || { apt-get -qq update && (cd "$scratch" && apt-get -qq download "$package"); }
  release=${package#linux-image-}
  modules=./lib/modules/$release/kernel
  dpkg-deb --fsys-tarfile "$scratch"/linux-image-*.deb |
    tar -x -C "$scratch" "./boot/vmlinuz-$release" "./lib/modules/$release/modules."{builtin,order} \
      "$modules/net/"{802,8021q,bridge,core,ipv4,ipv6,llc,sched} "$modules/drivers/net/"{veth.ko,vxlan} "$modules/lib/libcrc32c.ko"
  busybox depmod -b "$scratch" "$release"
  rm -rf "$place"
  mkdir -p "$place"
  mv "$scratch/lib" "$place/lib"
  mv "$scratch/boot/vmlinuz-$release" "$place/vmlinuz"
  rm -r "$scratch"
}

# ensure_bgp_peers installs the BGP daemons that tests and benchmarks talk to.
# None of them is to run as a service here: neither now nor after a reboot.
ensure_bgp_peers() {
  local missing=() name policy=/usr/sbin/policy-rc.d
  for name in frr bird2 gobgpd exabgp; do
    installed "$name" || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  install_packages "${missing[@]}"
  if [ -d /run/systemd/system ]; then
    for name in "${missing[@]}"; do
      systemctl --quiet disable --now "${name%2}.service" 2>/dev/null || true
    done
  fi
}

command -v apt-get >/dev/null || fail "this is no Debian; install by hand: ${packages[*]}, and Go as go.mod asks"
install_packages "${packages[@]}"
ensure_go
PATH=$root/bin/toolchain/bin:$PATH
export PATH
ensure_tools
ensure_old_etcd
ensure_debian_kernel
ensure_bgp_peers
