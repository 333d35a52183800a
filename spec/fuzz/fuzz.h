/* What the harnesses share. libFuzzer calls LLVMFuzzerTestOneInput with one input after the other; one that breaks a
 * promise ends the process, and run.sh shows it. */
#ifndef PARLEY_FUZZ_H
#define PARLEY_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_require(bool holds, const char *promise)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", promise);
    abort();
}

/* The length of the next piece of an input that is cut by chance, from 1 to 7; all that is left when *chance is 0. */
static inline size_t fuzz_piece(uint32_t *chance, size_t left)
{
    if (*chance == 0)
        return left;
    *chance = *chance * 1103515245u + 12345u;
    *chance |= 1; /* never 0 */
    size_t length = 1 + (*chance >> 16) % 7;
    return length < left ? length : left;
}

/* Lets a short input be a long one: 0xFF, a byte and a count stand for a run of that byte, `unit` times as long. Writes
 * at most `room` bytes, and returns how many. */
static inline size_t fuzz_unfold(const uint8_t *data, size_t size, size_t unit, char *out, size_t room)
{
    size_t length = 0;
    for (size_t i = 0; i < size; i++) {
        size_t count = 1;
        uint8_t byte = data[i];
        if (byte == 0xFF && size - i > 2) {
            byte = data[i + 1];
            count = 1 + data[i + 2] * unit;
            i += 2;
        }
        if (length + count > room)
            break;
        memset(out + length, byte, count);
        length += count;
    }
    return length;
}

#endif
