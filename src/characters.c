/* UTF-8 in, code points that libvterm 0.1 places rightly out, and back. */
#include "characters.h"

enum {
    JOINER = 0x200d,
    FIRST_SYMBOL = 0x2000, /* scripts below use the joiner within a word */
    FIRST_TONE = 0x1f3fb,
    LAST_TONE = 0x1f3ff,
    FIRST_STAND_IN = 0xe0100,
    LAST_STAND_IN = FIRST_STAND_IN + CHARACTERS_JOINED_MAX - 1,
    REPLACEMENT = 0xfffd
};

/* Marks an entry of `joined` that a joiner stands before. */
static const uint32_t WITH_JOINER = UINT32_C(1) << 31;

/* Returns 0 when there is no stand-in left: the emoji is then as wide as its parts. */
static uint32_t find_stand_in(struct characters *characters, uint32_t joined)
{
    int i = 0;
    while (i < characters->joined_count && characters->joined[i] != joined)
        i++;
    if (i == CHARACTERS_JOINED_MAX)
        return 0;
    if (i == characters->joined_count)
        characters->joined[characters->joined_count++] = joined;
    return FIRST_STAND_IN + (uint32_t)i;
}

static int give(struct characters *characters, uint32_t codepoint, uint32_t *out)
{
    int count = 0;
    uint32_t stand_in = 0, previous = characters->previous;
    bool has_joiner = characters->has_joiner;
    bool is_selector = codepoint >= FIRST_STAND_IN && codepoint <= LAST_STAND_IN;
    bool is_tone = codepoint >= FIRST_TONE && codepoint <= LAST_TONE && previous >= FIRST_SYMBOL;

    characters->has_joiner = false;
    if (codepoint >= 0x80 && codepoint < 0xa0) /* libvterm makes C1 controls -1 column wide, and leaves the screen */
        return 0;
    characters->previous = codepoint;
    if (has_joiner && codepoint >= FIRST_SYMBOL && codepoint != JOINER)
        stand_in = find_stand_in(characters, codepoint | WITH_JOINER);
    else if (is_tone || is_selector)
        stand_in = find_stand_in(characters, codepoint);
    if (has_joiner && !stand_in)
        out[count++] = JOINER;
    if (codepoint == JOINER)
        characters->has_joiner = true;
    else if (stand_in || !is_selector) /* a selector itself would be taken for a stand-in, and it shows nothing */
        out[count++] = stand_in ? stand_in : codepoint;
    return count;
}

static int end_codepoint(struct characters *characters, uint32_t *out)
{
    uint32_t codepoint = characters->codepoint;
    bool is_valid = !characters->remaining && codepoint >= characters->minimum && codepoint <= 0x10ffff &&
                    (codepoint < 0xd800 || codepoint > 0xdfff);
    characters->remaining = 0;
    return give(characters, is_valid ? codepoint : REPLACEMENT, out);
}

int characters_feed(struct characters *characters, unsigned char byte, uint32_t out[CHARACTERS_OUT_MAX])
{
    static const uint32_t minimum[] = {0, 0, 0x80, 0x800, 0x10000};
    int count = 0, length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;

    if (characters->remaining && (byte & 0xc0) == 0x80) {
        characters->codepoint = characters->codepoint << 6 | (byte & 0x3f);
        return --characters->remaining ? 0 : end_codepoint(characters, out);
    }
    if (characters->remaining)
        count = end_codepoint(characters, out);
    if (byte < 0x80)
        return count + give(characters, byte, out + count);
    if (byte < 0xc2 || byte > 0xf4)
        return count + give(characters, REPLACEMENT, out + count);
    characters->codepoint = byte & (0x7fU >> length);
    characters->remaining = length - 1;
    characters->minimum = minimum[length];
    return count;
}

bool characters_are_whole(const struct characters *characters)
{
    return !characters->remaining && !characters->has_joiner;
}

void characters_pass(struct characters *characters, unsigned char last)
{
    characters->previous = last;
}

int characters_end(struct characters *characters, uint32_t out[CHARACTERS_OUT_MAX])
{
    int count = characters->remaining ? end_codepoint(characters, out) : 0;
    if (characters->has_joiner)
        out[count++] = JOINER;
    characters->has_joiner = false;
    return count;
}

char *characters_put_utf8(char *out, uint32_t codepoint)
{
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    int following = codepoint < 0x80 ? 0 : codepoint < 0x800 ? 1 : codepoint < 0x10000 ? 2 : 3;
    *out++ = (char)(lead[following] | codepoint >> 6 * following);
    for (int shift = 6 * (following - 1); shift >= 0; shift -= 6)
        *out++ = (char)(0x80 | (codepoint >> shift & 0x3f));
    return out;
}

char *characters_put_unfinished(const struct characters *characters, char *out)
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    int length = characters->minimum == 0x80 ? 2 : characters->minimum == 0x800 ? 3 : 4;
    uint32_t whole = characters->codepoint << 6 * characters->remaining;
    if (characters->has_joiner)
        out = characters_put_utf8(out, JOINER);
    for (int i = length - 1; characters->remaining && i >= characters->remaining; i--)
        *out++ = (char)(i == length - 1 ? lead[length] | whole >> 6 * i : 0x80 | (whole >> 6 * i & 0x3f));
    return out;
}

char *characters_put_text(const struct characters *characters, char *out, uint32_t codepoint)
{
    if (codepoint < FIRST_STAND_IN || codepoint > LAST_STAND_IN)
        return characters_put_utf8(out, codepoint);
    codepoint = characters->joined[codepoint - FIRST_STAND_IN];
    if (codepoint & WITH_JOINER)
        out = characters_put_utf8(out, JOINER);
    return characters_put_utf8(out, codepoint & ~WITH_JOINER);
}
