/* The turn machine: each event leads where the table here says, an illegal one changes nothing, and only a turn that
 * may be over is said to be. An input: bytes in pairs, an event and its detail. */
#include "turn.h"
#include "fuzz.h"

#include <string.h>
#include <uv.h>

enum { NO = TURN_STATES }; /* the event is illegal there */

enum {
    IDLE = TURN_IDLE,
    TYPING = TURN_TYPING,
    SUBMITTED = TURN_SUBMITTED,
    RUNNING = TURN_RUNNING,
    WAITING = TURN_WAITING,
    ENDED = TURN_ENDED
};

/* From each state, in the order of turn.h: idle, typing, submitted, running, waiting, ended. */
static const int following[TURN_EVENTS][TURN_STATES] = {
    [TURN_BEGIN] = {TYPING, NO, NO, NO, NO, TYPING},
    [TURN_SUBMIT] = {NO, SUBMITTED, SUBMITTED, NO, NO, NO},
    [TURN_ACCEPT] = {NO, NO, RUNNING, NO, NO, NO},
    [TURN_ASSISTANT] = {NO, NO, NO, RUNNING, RUNNING, NO},
    [TURN_TOOL_RESULT] = {NO, NO, NO, RUNNING, RUNNING, NO},
    [TURN_META] = {NO, NO, NO, RUNNING, RUNNING, NO},
    [TURN_INTERRUPTED] = {NO, NO, NO, RUNNING, RUNNING, NO},
    [TURN_DURATION] = {NO, NO, NO, RUNNING, RUNNING, NO},
    [TURN_STOP] = {NO, NO, SUBMITTED, RUNNING, WAITING, NO},
    [TURN_FINISHED] = {NO, NO, NO, RUNNING, WAITING, NO},
    [TURN_AGENT] = {NO, NO, NO, RUNNING, WAITING, NO},
    [TURN_REPORT] = {NO, NO, NO, RUNNING, WAITING, NO},
    [TURN_BUSY] = {NO, TYPING, SUBMITTED, RUNNING, RUNNING, NO},
    [TURN_QUIET] = {NO, TYPING, SUBMITTED, RUNNING, RUNNING, NO},
    [TURN_DIALOG] = {NO, NO, NO, WAITING, WAITING, NO},
    [TURN_INTERRUPT] = {NO, TYPING, SUBMITTED, RUNNING, WAITING, NO},
    [TURN_END] = {NO, ENDED, ENDED, ENDED, ENDED, NO},
};

static void check_certainty(const struct turn *turn)
{
    enum turn_certainty certainty = turn_certainty(turn);
    bool is_accepted = turn->state == TURN_RUNNING;
    bool is_given_up = turn->interrupting && (turn->state == TURN_TYPING || turn->state == TURN_SUBMITTED);
    fuzz_require(turn_certainty_name(certainty) != NULL, "a certainty has a name");
    fuzz_require(certainty == TURN_GOES_ON || is_accepted || is_given_up, "only such a turn may be over");
    fuzz_require(certainty == TURN_GOES_ON || turn->state == TURN_TYPING || turn->quiet || turn->duration,
                 "a turn that is over is quiet, or says so");
    fuzz_require(certainty != TURN_CERTAIN || turn->agents == 0 || turn->interrupted, "agents are waited for");
}

static void apply(struct turn *turn, enum turn_event event, const struct turn_detail *detail)
{
    struct turn before = *turn;
    int expected = following[event][turn->state];
    int result = turn_apply(turn, event, detail);
    if (expected == NO) {
        fuzz_require(result == UV_EINVAL && !memcmp(&before, turn, sizeof before), "an illegal event changes nothing");
        return;
    }
    fuzz_require(result == 0 && (int)turn->state == expected, "a legal event leads where it must");
    fuzz_require(turn->agents >= 0 && turn->assistant_blocks >= 0, "counts are counts");
    fuzz_require(memchr(turn->stop_reason, 0, sizeof turn->stop_reason) != NULL, "a stop reason ends");
    fuzz_require(turn_state_name(turn->state) != NULL, "a state has a name");
    check_certainty(turn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const stop_reasons[] = {NULL, "end_turn", "tool_use", "a reason with more than 31 characters"};
    struct turn turn;
    turn_init(&turn);
    for (size_t i = 0; i + 1 < size; i += 2) {
        struct turn_detail detail = {.stop_reason = stop_reasons[data[i + 1] & 3], .api_error = data[i + 1] & 4};
        apply(&turn, (enum turn_event)(data[i] % TURN_EVENTS), data[i + 1] & 0x80 ? NULL : &detail);
    }
    return 0;
}
