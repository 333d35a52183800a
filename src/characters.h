/* UTF-8 in, code points that libvterm 0.1 places rightly out, and back. That library gives each code point of an emoji
 * sequence columns of its own, where programs count two for all of it, and holds six code points a cell. So what joins
 * the character before it goes through as a stand-in: a variation selector, which takes no column. */
#ifndef PARLEY_CHARACTERS_H
#define PARLEY_CHARACTERS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    CHARACTERS_OUT_MAX = 4,   /* code points that one byte can give */
    CHARACTERS_BYTES_MAX = 7, /* a joiner of 3 bytes and what it joins */
    CHARACTERS_JOINED_MAX = 240
};

/* Zero is its initial state. Owns nothing. */
struct characters {
    uint32_t codepoint; /* what is coming in */
    uint32_t minimum;   /* what it must reach, or it is overlong */
    int remaining;      /* its missing bytes */
    uint32_t previous;
    bool has_joiner; /* U+200D came, and waits for what it joins */
    int joined_count;
    uint32_t joined[CHARACTERS_JOINED_MAX]; /* what each stand-in stands for */
};

/* Takes a byte and returns how many code points it gave. What is not UTF-8 becomes U+FFFD. */
int characters_feed(struct characters *characters, unsigned char byte, uint32_t out[CHARACTERS_OUT_MAX]);

/* Whether nothing is unfinished. */
bool characters_are_whole(const struct characters *characters);

/* Takes printable ASCII that has gone another way: `last` is the last of it. Nothing was unfinished before. */
void characters_pass(struct characters *characters, unsigned char last);

/* Gives what is unfinished, for something else than text follows. */
int characters_end(struct characters *characters, uint32_t out[CHARACTERS_OUT_MAX]);

/* Writes the bytes of what is unfinished, at most 6, and returns their end. */
char *characters_put_unfinished(const struct characters *characters, char *out);

/* Writes a code point as UTF-8, at most 4 bytes, and returns its end. */
char *characters_put_utf8(char *out, uint32_t codepoint);

/* The same for one that characters_feed gave: the text that came in, at most CHARACTERS_BYTES_MAX. */
char *characters_put_text(const struct characters *characters, char *out, uint32_t codepoint);

#endif
