#!/usr/bin/env bash
# Makes everything that a release consists of, in target/dist: static programs with manual pages, completions and units in an archive, the same as a
# package for Debian, the clients for Python and Node, the crates, a bill of materials of each program, and the checksums of all of it.
#
#   deploy/dist.sh
#
# It installs what it builds with (cargo-deb, cargo-cyclonedx, Python's build) below target/dist-tools, and nothing on the machine. It needs a C compiler,
# dpkg, Python 3.9 with venv, and Node 20.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD dist=$PWD/target/dist tools=$PWD/target/dist-tools
for tool in cargo cc dpkg-deb python3 npm sha256sum; do
    command -v "$tool" > /dev/null || { echo "$tool is not installed. On Debian: apt-get install build-essential python3-venv nodejs npm; Rust is at https://rustup.rs" >&2; exit 1; }
done
version=$(sed -n '/^\[workspace.package\]/,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)
target=$(rustc -vV | sed -n 's/^host: //p')
rm -rf "$dist"
mkdir -p "$dist" "$tools"

echo "tools"
for tool in cargo-deb cargo-cyclonedx; do
    [ -x "$tools/bin/$tool" ] || cargo install --quiet --locked --root "$tools" "$tool"
done
# By the interpreter, as programs of an environment do not start once its folder has moved.
python=$tools/python/bin/python
"$python" -m build --version > /dev/null 2>&1 || { python3 -m venv --clear "$tools/python" && "$python" -m pip install --quiet build; }

echo "programs"
# As deploy/Dockerfile does. The linker's flags hold for programs only, as the target is named.
RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --profile release-lto --locked --target "$target" -p redial-worker -p redial-cli
programs=target/$target/release-lto

echo "manual pages, completions, settings"
# Where worker/Cargo.toml has the package for Debian take them from.
pages=target/dist-pages
rm -rf "$pages"
mkdir -p "$pages/man"
"$programs/redial" man-pages "$pages/man"
"$programs/redial-worker" --man-page > "$pages/man/redial-worker.1"
for shell in bash zsh fish; do
    mkdir -p "$pages/completions/$shell"
done
for program in redial redial-worker; do
    complete() { case $program in redial) "$programs/redial" completions "$1" ;; *) "$programs/redial-worker" --completions "$1" ;; esac; }
    complete bash > "$pages/completions/bash/$program"
    complete zsh > "$pages/completions/zsh/_$program"
    complete fish > "$pages/completions/fish/$program.fish"
done
# Everything is a comment, so that defaults of a later release hold where nothing was changed.
"$programs/redial-worker" --print-config | sed 's/^\([^#]\)/#\1/' > "$pages/redial.toml"

echo "archive"
name=redial-$version-$target
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name"
cp -r "$programs/redial" "$programs/redial-worker" "$pages/man" "$pages/completions" "$pages/redial.toml" deploy/systemd LICENSE-APACHE LICENSE-MIT README.md \
    CHANGELOG.md "$stage/$name/"
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$stage" -czf "$dist/$name.tar.gz" "$name"

echo "package for Debian"
PATH="$tools/bin:$PATH" cargo deb --quiet --profile release-lto --no-build --no-strip --target "$target" -p redial-worker --output "$dist/"

echo "bills of materials"
# It writes beside each Cargo.toml of the workspace.
PATH="$tools/bin:$PATH" cargo cyclonedx --quiet --format json --target "$target" --override-filename dist-bill
mv worker/dist-bill.json "$dist/redial-worker-$version.cdx.json"
mv producer/cli/dist-bill.json "$dist/redial-$version.cdx.json"
git ls-files --others --exclude-standard -z -- '*/dist-bill.json' 'dist-bill.json' | xargs -0 rm -f

echo "crates"
crates=(redial-core redial-traces redial redial-gateway redial-cli redial-worker)
cargo package --quiet --locked --no-verify "${crates[@]/#/--package=}"
for crate in "${crates[@]}"; do
    cp "target/package/$crate-$version.crate" "$dist/"
done

echo "clients"
(cd producer/python && "$python" -m build --outdir "$dist" . > /dev/null)
# Its TypeScript is compiled by `prepare`, which npm runs before it packs.
cp -r producer/typescript "$stage/typescript"
(cd "$stage/typescript" && npm install --silent --no-audit --no-fund --no-package-lock && npm pack --silent --pack-destination "$dist" > /dev/null)

(cd "$dist" && sha256sum -- * > SHA256SUMS)
(cd "$dist" && ls -l --human-readable | awk 'NR > 1 {print $5, $9}')
