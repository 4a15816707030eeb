#!/bin/sh
# An arm64 Debian for qemu-user: Python, what the C++ runner links, and the wheels that
# `quantface-export verify` imports. Packages are unpacked, not installed, so that neither root nor
# binfmt is needed; apt's lists and archives stay in the folder.
#
# usage: root.sh FOLDER PYTHON
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
python=$2
# ONNX Runtime 1.31's arm64 wheel crashes under qemu.
onnxruntime=1.23.2

mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
: > "$folder/apt/status"
cat > "$folder/apt/conf" << END
APT::Architecture "arm64";
APT::Architectures "arm64";
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::Cache "$folder/apt/cache";
Dir::State::lists "$folder/apt/lists";
Dir::State::status "$folder/apt/status";
END
export APT_CONFIG="$folder/apt/conf"
apt-get update -q
apt-get install -qy --download-only --no-install-recommends \
    python3 libstdc++6 libpng16-16 libturbojpeg0
# Without the C library's headers, which the cross compiler has itself.
(cd "$folder/apt/cache/archives" && apt-get download -q libpng-dev libturbojpeg0-dev)

rm -rf "$folder/root" "$folder/wheels"
mkdir -p "$folder/root/usr/bin" "$folder/root/usr/lib" "$folder/root/usr/sbin"
ln -s usr/bin usr/lib usr/sbin "$folder/root/"
for package in "$folder"/apt/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$folder/root"
done

version=$(basename "$(echo "$folder"/root/usr/bin/python3.[0-9]*)" | sed 's/python//')
grep -Ev '^(#|onnxruntime==)' constraints.txt | sed 's/ ;.*//' > "$folder/constraints.txt"
"$python" -m pip --disable-pip-version-check install --quiet --target "$folder/wheels" \
    --only-binary=:all: --python-version "$version" --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 -c "$folder/constraints.txt" \
    "onnxruntime==$onnxruntime" numpy onnx rich typer
