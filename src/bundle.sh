#!/bin/sh
# Writes the assembly source of a table {name, start, end} over the files given, each included as it stands. One that is
# to have another name than its path is given as NAME=PATH. They are in the order of their names, as strcmp has it.
set -euf
IFS='
'
# shellcheck disable=SC2046 # a name is a line
set -- $(printf '%s\n' "$@" | LC_ALL=C sort -t= -k1,1)
echo '.section .rodata'
number=0
for file in "$@"; do
  printf '.Ln%d: .asciz "%s"\n.Lb%d: .incbin "%s"\n.Le%d: .byte 0\n' \
    "$number" "${file%%=*}" "$number" "${file#*=}" "$number"
  number=$((number + 1))
done
printf '.section .data.rel.ro,"aw"\n.balign 8\n.globl parley_bundle\nparley_bundle:\n'
index=0
while [ "$index" -lt "$number" ]; do
  printf '.dc.a .Ln%d, .Lb%d, .Le%d\n' "$index" "$index" "$index"
  index=$((index + 1))
done
printf '.globl parley_bundle_length\nparley_bundle_length: .dc.a %d\n' "$number"
printf '.section .note.GNU-stack,"",%%progbits\n'
