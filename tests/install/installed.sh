# For scripts in this folder (source it): installs BUILD_DIR into $prefix, in a new $folder that goes at the end.
# Arguments of the script: SOURCE_DIR BUILD_DIR COMPILER.
source_dir=$1
build_dir=$2
compiler=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
prefix=$folder/prefix
cmake --install "$build_dir" --prefix "$prefix" >"$folder/install.log"
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig

# program_of DOCUMENT [N]: its N-th C++ block (the first), word for word.
program_of() { awk -v n="${2:-1}" '/^```cpp/ {inside = ++block == n; next} /^```/ {inside = 0} inside' "$source_dir/$1"; }

# compile SOURCE PROGRAM: as a user without CMake does.
compile() {
  # shellcheck disable=SC2046  # flags are several words
  "$compiler" -std=c++20 -O2 -Wall -Wextra -Wpedantic -Werror "$1" -o "$2" $(pkg-config --cflags --libs netvm)
}
