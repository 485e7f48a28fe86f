#!/usr/bin/env bash
# build.sh BIN SOURCE_DIR OUT: the test programs, as a user builds them: m4 with the macro file, netvm-cc.
set -euo pipefail
bin=$1 source=$2 out=$3
command -v m4 >/dev/null || { echo "m4 is not installed"; exit 77; }
mkdir -p "$out"
macros=$("$bin/netvm-cc" --macros)
for program in suite suite_queue one_by_one private_globals misuse; do
  (cd "$source" && m4 -s "$macros" "$program.C") >"$out/$program.c"
done
(cd "$source" && m4 -P -s "$macros" atomics.C) >"$out/atomics.c"
cp "$source/suite.h" "$out"
cd "$out"
for program in suite suite_queue misuse; do "$bin/netvm-cc" -O2 -g -Wall -Wextra -Werror -std=c11 -D_DEFAULT_SOURCE -c "$program.c"; done
"$bin/netvm-cc" -o suite suite.o suite_queue.o -lm
"$bin/netvm-cc" -o misuse misuse.o
"$bin/netvm-cc" -O1 -std=gnu89 -D_FILE_OFFSET_BITS=64 -static -o one_by_one one_by_one.c -lm
"$bin/netvm-cc" -O2 -std=gnu11 atomics.c -o atomics
"$bin/netvm-cc" -O2 --private-globals private_globals.c -o private_globals
"$bin/netvm-c++" -O2 -x c++ misuse.c -o misuse_cxx
# A program that uses the macros but was linked by hand: --show prints what netvm-cc would run.
include=$("$bin/netvm-cc" --show -c x.c | sed 's/.* -I\([^ ]*\) .*/\1/')
library=$("$bin/netvm-cc" --show x.o | sed 's/.* -L\([^ ]*\) .*/\1/')
cc -O2 -I"$include" private_globals.c -o by_hand "-L$library" "-Wl,-rpath,$library" -lnetvm_kit
# Objects that were compiled without -fPIC would put stdout among the program's data: the linker says so.
cc -O2 -I"$include" -fno-pic -fno-pie -c one_by_one.c -std=gnu89 -o not_pic.o
if "$bin/netvm-cc" not_pic.o -o not_pic 2>not_pic.log; then echo "linking code without -fPIC must fail"; exit 1; fi
# Linked by hand with parts left out: position independent, and with globals that do not fill pages of their own.
cc -O2 -fPIC -I"$include" -c private_globals.c -o part.o
sh -c "$("$bin/netvm-cc" --show part.o -o pie | sed 's/-no-pie/-pie/')"
sh -c "$("$bin/netvm-cc" --show part.o -o lazy | sed 's/-Wl,-z,now/-Wl,-z,lazy/')"
