#!/usr/bin/env bash
# Makes the images that deploy/Dockerfile and docker-compose.yml start from, for a machine whose Docker engine reaches no registry of images: from Debian's
# packages (debootstrap), the Rust of this machine, and the crates of Cargo.lock. They carry the tags of the real ones and stand in for them, so use them to
# try the stack (deploy/try-compose.sh), and not for what you release.
#
#   deploy/make-base-images.sh [folder]    # needs root, debootstrap and docker; the folder keeps the file systems for the next run
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
for tool in debootstrap docker cargo rustc; do
    command -v "$tool" > /dev/null || { echo "$tool is not installed. On Debian: apt-get install debootstrap docker.io; Rust is at https://rustup.rs" >&2; exit 1; }
done

# The tag by which docker-compose.yml names an image.
tag_of() { sed -n "s#^ *image: \($1:.*\)#\1#p" docker-compose.yml; }
rust=$(sed -n 's/^ARG RUST=//p' deploy/Dockerfile)

if ! [ -e "$folder/debian/etc/ssl/certs/ca-certificates.crt" ]; then
    debootstrap --variant=minbase --include=ca-certificates,build-essential,redis-server,prometheus bookworm "$folder/debian"
fi

# Redis and Prometheus as Debian has them.
tar -C "$folder/debian" -c . | docker import --change 'VOLUME /data' --change 'WORKDIR /data' --change 'CMD ["redis-server"]' - "$(tag_of redis)"
tar -C "$folder/debian" -c . | docker import --change 'VOLUME /prometheus' --change 'WORKDIR /prometheus' --change 'EXPOSE 9090' \
    --change 'ENTRYPOINT ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]' - "$(tag_of prom/prometheus)"

# No shell: the certificates of public authorities, and users.
static=$folder/static
mkdir -p "$static/etc/ssl/certs" "$static/tmp"
chmod 1777 "$static/tmp"
cp "$folder/debian/etc/ssl/certs/ca-certificates.crt" "$static/etc/ssl/certs/"
printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n' > "$static/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' > "$static/etc/group"
tar -C "$static" -c . | docker import --change 'USER 65532' --change 'WORKDIR /tmp' \
    --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' - gcr.io/distroless/static-debian12:nonroot

# A compiler, Rust, and the crates, so that the build needs no network.
rm -rf "$folder/build"
cp -al "$folder/debian" "$folder/build"
sysroot=$(rustc --print sysroot)
cp -a "$sysroot/bin" "$sysroot/lib" "$folder/build/usr/local/"
mkdir -p "$folder/build/usr/local/cargo"
cargo vendor --quiet "$folder/build/usr/local/crates" > /dev/null
printf '[source.crates-io]\nreplace-with = "here"\n[source.here]\ndirectory = "/usr/local/crates"\n' > "$folder/build/usr/local/cargo/config.toml"
tar -C "$folder/build" -c . | docker import --change 'ENV CARGO_HOME=/usr/local/cargo' - "rust:$rust-bookworm"
docker image ls --format '{{.Repository}}:{{.Tag}} {{.Size}}'
