/* The parser in front of libvterm. Each quirk below was seen to crash, hang or mislead libvterm 0.1.4 or 0.3.3. */
#include "escape.h"

#include <stdio.h>
#include <string.h>

enum { PARAMETERS_MAX = 16, VALUE_MAX = 99999, CSI_MAX = 128 };

/* A control sequence taken apart. */
struct csi {
    char leader, intermediate, command; /* 0 when absent */
    int count;
    int values[PARAMETERS_MAX];      /* -1 when left out */
    char separators[PARAMETERS_MAX]; /* what follows the value: ';', ':' before a sub-parameter, 0 after the last */
};

static void flush_text(struct escape *escape)
{
    if (escape->text_length)
        escape->output(escape->user, escape->text, escape->text_length);
    escape->text_length = 0;
}

static void emit(struct escape *escape, const char *sequence, size_t length)
{
    flush_text(escape);
    escape->output(escape->user, sequence, length);
}

static void emit_string(struct escape *escape, const char *sequence)
{
    emit(escape, sequence, strlen(sequence));
}

/* Lines and blocks, of which programs draw rules and frames: one column wide each, and they join nothing. */
static bool is_line(uint32_t codepoint)
{
    return codepoint >= 0x2500 && codepoint < 0x25a0;
}

static void put_text(struct escape *escape, const uint32_t *codepoints, int count)
{
    for (int i = 0; i < count; i++) {
        bool is_plain = codepoints[i] >= ' ' && codepoints[i] < 0x7f, is_of_rule = is_line(codepoints[i]);
        bool follows_rule = escape->text_length && (unsigned char)escape->text[0] >= 0x80;
        if ((!is_plain && !is_of_rule) || is_of_rule != follows_rule || escape->text_length + 4 > ESCAPE_TEXT_MAX)
            flush_text(escape);
        if (is_plain) {
            escape->text[escape->text_length++] = (char)codepoints[i];
        } else if (is_of_rule) {
            char *end = escape->text + escape->text_length;
            escape->text_length += (size_t)(characters_put_utf8(end, codepoints[i]) - end);
        } else {
            char character[4];
            escape->output(escape->user, character,
                           (size_t)(characters_put_utf8(character, codepoints[i]) - character));
        }
    }
}

static void append(struct escape *escape, unsigned char byte)
{
    if (escape->sequence_length < ESCAPE_SEQUENCE_MAX - 1)
        escape->sequence[escape->sequence_length++] = (char)byte;
    else
        escape->discard = true; /* libvterm copies a title onto its stack: 16 MB of it are the end of the host */
}

static void start_sequence(struct escape *escape)
{
    escape->state = ESCAPE_ESCAPE;
    escape->discard = false;
    escape->sequence_length = 0;
    append(escape, '\033');
}

static void finish(struct escape *escape)
{
    escape->state = ESCAPE_GROUND;
    if (!escape->discard)
        emit(escape, escape->sequence, escape->sequence_length);
}

static void on_escape(struct escape *escape, unsigned char byte)
{
    bool is_introducer = strchr("[]PX^_", byte) != NULL;
    append(escape, byte);
    if (byte < '0') /* an intermediate */
        return;
    if (escape->sequence_length > 2 || !is_introducer) {
        escape->discard |= is_introducer; /* for libvterm it would still be one */
        if (byte == 'c')                  /* a reset leaves the alternate screen and the mouse as they are */
            emit_string(escape, "\033[?1049l"), emit_string(escape, "\033[?1000l");
        finish(escape);
        return;
    }
    escape->discard = strchr("X^_", byte) != NULL; /* libvterm prints what is in SOS, PM and APC */
    escape->state = byte == '[' ? ESCAPE_CSI : ESCAPE_STRING;
}

/* Reads what follows ESC [. False when it is malformed, or has more parameters than libvterm has room for: it does not
 * check. Values are limited, so that no sum in there overflows. */
static bool parse_csi(const char *text, struct csi *csi)
{
    if (*text >= '<' && *text <= '?')
        csi->leader = *text++;
    do {
        if (csi->count == PARAMETERS_MAX)
            return false;
        int *value = &csi->values[csi->count++];
        for (*value = -1; *text >= '0' && *text <= '9'; text++)
            if (*value <= VALUE_MAX / 10)
                *value = (*value < 0 ? 0 : *value * 10) + *text - '0';
    } while ((*text == ';' || *text == ':') && (csi->separators[csi->count - 1] = *text++));
    if (*text >= ' ' && *text <= '/')
        csi->intermediate = *text++;
    csi->command = *text++;
    return csi->command >= '@' && !*text;
}

static void emit_csi(struct escape *escape, const struct csi *csi)
{
    char out[sizeof "\033[?$h" + PARAMETERS_MAX * sizeof "99999"], *end = stpcpy(out, "\033[");
    if (csi->leader)
        *end++ = csi->leader;
    for (int i = 0; i < csi->count; i++) {
        if (csi->values[i] >= 0)
            end += sprintf(end, "%d", csi->values[i]);
        if (csi->separators[i])
            *end++ = csi->separators[i];
    }
    if (csi->intermediate)
        *end++ = csi->intermediate;
    *end++ = csi->command;
    emit(escape, out, (size_t)(end - out));
}

/* libvterm looks at the first mode of a list only. The older names of the alternate screen become the newest. */
static void emit_modes(struct escape *escape, const struct csi *csi)
{
    for (int i = 0; i < csi->count; i++) {
        struct csi one = {.leader = '?', .command = csi->command, .count = 1, .values = {csi->values[i]}};
        if (one.values[0] == 47 || one.values[0] == 1047)
            one.values[0] = 1049;
        emit_csi(escape, &one);
    }
}

static void emit_dim(struct escape *escape, const struct csi *csi)
{
    const char *font = NULL;
    for (int i = 0; i < csi->count; i++) {
        int value = csi->values[i];
        if (i && csi->separators[i - 1] == ':')
            continue;
        if (value == 2)
            font = "\033[11m";
        else if (value <= 0 || value == 22)
            font = "\033[10m";
        else if ((value == 38 || value == 48 || value == 58) && csi->separators[i] == ';')
            i += csi->values[i + 1] == 5 ? 2 : 4; /* the colour's own numbers */
    }
    if (font)
        emit_string(escape, font);
}

static void finish_csi(struct escape *escape)
{
    struct csi csi = {0};

    escape->state = ESCAPE_GROUND;
    escape->sequence[escape->sequence_length] = '\0'; /* append leaves room */
    if (escape->discard || !parse_csi(escape->sequence + 2, &csi))
        return;
    bool is_plain = !csi.leader && !csi.intermediate;
    if (is_plain && csi.command == 'b') /* repeat: hangs when nothing was printed, crashes after a wide character */
        return;
    /* Name and soft reset, which libvterm 0.1 lacks: 0.3 tells its own name, and takes modes back without a word. */
    if ((csi.leader == '>' && csi.command == 'q') || (csi.intermediate == '!' && csi.command == 'p'))
        return;
    if (csi.leader == '?' && !csi.intermediate && (csi.command == 'h' || csi.command == 'l')) {
        emit_modes(escape, &csi);
        return;
    }
    emit_csi(escape, &csi);
    if (is_plain && csi.command == 'm')
        emit_dim(escape, &csi);
}

static void on_csi(struct escape *escape, unsigned char byte)
{
    append(escape, byte);
    escape->discard |= escape->sequence_length > CSI_MAX;
    if (byte >= '@')
        finish_csi(escape);
}

/* A title, or the question for a setting. libvterm 0.3 does not see the end of a DCS without a command, and knows
 * selections, which are none of ours. */
static bool is_known_string(const struct escape *escape)
{
    static const char *const known[] = {"\033]0;", "\033]2;", "\033P$q"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (escape->sequence_length >= strlen(known[i]) && !memcmp(escape->sequence, known[i], strlen(known[i])))
            return true;
    return false;
}

static void on_string(struct escape *escape, unsigned char byte)
{
    if (byte == '\a') {
        escape->discard |= !is_known_string(escape);
        append(escape, byte);
        finish(escape);
    } else if (byte >= ' ') { /* libvterm obeys control characters in there */
        append(escape, byte);
    }
}

static void on_byte(struct escape *escape, unsigned char byte)
{
    uint32_t codepoints[CHARACTERS_OUT_MAX];

    if (escape->state == ESCAPE_STRING_ESCAPE && byte == '\\') {
        escape->state = ESCAPE_STRING;
        byte = '\a'; /* the shorter end */
    }
    if (byte == '\033') {
        int count = characters_end(&escape->characters, codepoints);
        put_text(escape, codepoints, count);
        if (escape->state == ESCAPE_STRING)
            escape->state = ESCAPE_STRING_ESCAPE;
        else
            start_sequence(escape);
        return;
    }
    if (escape->state == ESCAPE_STRING_ESCAPE)
        start_sequence(escape); /* the string was cut off */
    bool is_cancelled = byte == 0x18 || byte == 0x1a || (byte >= 0x7f && escape->state != ESCAPE_STRING);
    if (is_cancelled)
        escape->state = ESCAPE_GROUND;
    bool is_control = byte < ' ' && escape->state != ESCAPE_STRING; /* works in the middle of a sequence too */
    if (escape->state == ESCAPE_GROUND || is_control)
        put_text(escape, codepoints, characters_feed(&escape->characters, byte, codepoints));
    else if (escape->state == ESCAPE_ESCAPE)
        on_escape(escape, byte);
    else if (escape->state == ESCAPE_CSI)
        on_csi(escape, byte);
    else
        on_string(escape, byte);
}

/* Takes printable ASCII where nothing else has begun: most of what comes. Returns how much of it there was. */
static size_t take_plain(struct escape *escape, const char *bytes, size_t length)
{
    size_t count = 0;
    if (escape->state != ESCAPE_GROUND || !characters_are_whole(&escape->characters))
        return 0;
    while (count < length && bytes[count] >= ' ' && bytes[count] < 0x7f)
        count++;
    if (!count)
        return 0;
    if ((unsigned char)escape->text[0] >= 0x80)
        flush_text(escape);
    for (size_t i = 0; i < count; i++) {
        if (escape->text_length == ESCAPE_TEXT_MAX)
            flush_text(escape);
        escape->text[escape->text_length++] = bytes[i];
    }
    characters_pass(&escape->characters, (unsigned char)bytes[count - 1]);
    return count;
}

void escape_feed(struct escape *escape, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        i += take_plain(escape, bytes + i, length - i);
        if (i < length)
            on_byte(escape, (unsigned char)bytes[i]);
    }
    flush_text(escape);
}

size_t escape_unfinished(const struct escape *escape, char out[ESCAPE_UNFINISHED_MAX])
{
    size_t length = 0;
    if (escape->state == ESCAPE_GROUND)
        return (size_t)(characters_put_unfinished(&escape->characters, out) - out);
    length = escape->sequence_length;
    memcpy(out, escape->sequence, length);
    if (escape->state == ESCAPE_STRING_ESCAPE)
        out[length++] = '\033';
    return length;
}
