#!/bin/sh
# Writes the assembly source of a table {name, start, end} over the files given, each included as it stands. One that is
# to have another name than its path is given as NAME=PATH.
set -eu
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
printf '.dc.a 0, 0, 0\n.section .note.GNU-stack,"",%%progbits\n'
