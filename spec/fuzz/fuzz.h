/* What the harnesses share. libFuzzer calls LLVMFuzzerTestOneInput with one input after the other; one that breaks a
 * promise ends the process, and run.sh shows it. */
#ifndef PARLEY_FUZZ_H
#define PARLEY_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

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

#endif
