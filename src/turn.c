/* The turn state machine. */
#include "turn.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

static const char *const state_names[] = {
    [TURN_IDLE] = "idle",       [TURN_TYPING] = "typing",   [TURN_SUBMITTED] = "submitted",
    [TURN_RUNNING] = "running", [TURN_WAITING] = "waiting", [TURN_ENDED] = "ended",
};

static const char *const event_names[] = {
    [TURN_BEGIN] = "begin",
    [TURN_SUBMIT] = "submit",
    [TURN_ACCEPT] = "accept",
    [TURN_ASSISTANT] = "assistant",
    [TURN_TOOL_RESULT] = "tool_result",
    [TURN_META] = "meta",
    [TURN_INTERRUPTED] = "interrupted",
    [TURN_DURATION] = "duration",
    [TURN_STOP] = "stop",
    [TURN_FINISHED] = "finished",
    [TURN_AGENT] = "agent",
    [TURN_REPORT] = "report",
    [TURN_BUSY] = "busy",
    [TURN_QUIET] = "quiet",
    [TURN_DIALOG] = "dialog",
    [TURN_INTERRUPT] = "interrupt",
    [TURN_END] = "end",
};

static const char *const certainty_names[] = {
    [TURN_GOES_ON] = "goes_on", [TURN_LIKELY] = "likely", [TURN_CERTAIN] = "certain"};

#define IN(state) (1u << (state))
#define ACCEPTED (IN(TURN_RUNNING) | IN(TURN_WAITING))
#define SENT (IN(TURN_SUBMITTED) | ACCEPTED)
#define OPEN (IN(TURN_TYPING) | SENT)

/* In which states an event is legal, and the state that follows; STAY keeps it. */
#define STAY TURN_STATES
static const struct {
    unsigned from;
    enum turn_state to;
} transitions[] = {
    [TURN_BEGIN] = {IN(TURN_IDLE) | IN(TURN_ENDED), TURN_TYPING},
    [TURN_SUBMIT] = {IN(TURN_TYPING) | IN(TURN_SUBMITTED), TURN_SUBMITTED},
    [TURN_ACCEPT] = {IN(TURN_SUBMITTED), TURN_RUNNING},
    [TURN_ASSISTANT] = {ACCEPTED, TURN_RUNNING},
    [TURN_TOOL_RESULT] = {ACCEPTED, TURN_RUNNING},
    [TURN_META] = {ACCEPTED, TURN_RUNNING},
    [TURN_INTERRUPTED] = {ACCEPTED, TURN_RUNNING},
    [TURN_DURATION] = {ACCEPTED, TURN_RUNNING},
    [TURN_STOP] = {SENT, STAY},
    [TURN_FINISHED] = {ACCEPTED, STAY},
    [TURN_AGENT] = {ACCEPTED, STAY},
    [TURN_REPORT] = {ACCEPTED, STAY},
    [TURN_BUSY] = {OPEN, STAY},
    [TURN_QUIET] = {OPEN, STAY},
    [TURN_DIALOG] = {ACCEPTED, TURN_WAITING},
    [TURN_INTERRUPT] = {OPEN, STAY},
    [TURN_END] = {OPEN, TURN_ENDED},
};

void turn_init(struct turn *turn)
{
    *turn = (struct turn){.state = TURN_IDLE};
}

/* A record that shows the program at work takes back what said that it was not. */
static void record_seen(struct turn *turn)
{
    turn->duration = turn->stop_hook = turn->finished = turn->last_is_answer = false;
}

static void note(struct turn *turn, enum turn_event event, const struct turn_detail *detail)
{
    switch (event) {
    case TURN_BEGIN:
        *turn = (struct turn){.state = turn->state};
        break;
    case TURN_SUBMIT: /* what was seen before Enter says nothing about this message */
        turn->busy_seen = turn->quiet = turn->stop_hook = false;
        break;
    case TURN_ASSISTANT:
        record_seen(turn);
        turn->assistant_blocks++;
        turn->last_is_answer = true;
        turn->api_error = detail->api_error;
        turn->broken_off = detail->broken_off;
        if (detail->stop_reason)
            snprintf(turn->stop_reason, sizeof turn->stop_reason, "%s", detail->stop_reason);
        break;
    case TURN_TOOL_RESULT:
    case TURN_META: /* the program goes on */
        record_seen(turn);
        turn->api_error = turn->broken_off = false;
        break;
    case TURN_INTERRUPTED:
        record_seen(turn);
        turn->interrupted = true;
        break;
    case TURN_DURATION:
        turn->duration = true;
        break;
    case TURN_STOP:
        turn->stop_hook = true;
        break;
    case TURN_FINISHED:
        turn->finished = true;
        break;
    case TURN_AGENT:
        turn->agents++;
        break;
    case TURN_REPORT:
        turn->agents -= turn->agents > 0;
        break;
    case TURN_BUSY:
        turn->busy_seen = true;
        turn->quiet = turn->stop_hook = turn->finished = false;
        if (turn->state == TURN_WAITING)
            turn->state = TURN_RUNNING; /* the dialog was answered */
        break;
    case TURN_QUIET:
        turn->quiet = true;
        if (turn->state == TURN_WAITING)
            turn->state = TURN_RUNNING;
        break;
    case TURN_DIALOG:
        turn->busy_seen = true;
        turn->quiet = false;
        break;
    case TURN_INTERRUPT:
        turn->interrupting = true;
        break;
    default:
        break;
    }
}

int turn_apply(struct turn *turn, enum turn_event event, const struct turn_detail *detail)
{
    static const struct turn_detail nothing = {0};
    if (!(transitions[event].from & IN(turn->state)))
        return UV_EINVAL;
    if (transitions[event].to != STAY)
        turn->state = transitions[event].to;
    note(turn, event, detail ? detail : &nothing);
    return 0;
}

enum turn_certainty turn_certainty(const struct turn *turn)
{
    if (turn->state == TURN_TYPING) /* nothing was sent */
        return turn->interrupting ? TURN_CERTAIN : TURN_GOES_ON;
    if (turn->state == TURN_SUBMITTED) /* interrupted before its first record: nothing will ever accept the message */
        return turn->interrupting && turn->quiet ? TURN_LIKELY : TURN_GOES_ON;
    if (turn->state != TURN_RUNNING)
        return TURN_GOES_ON;
    if (!turn->duration && !turn->quiet)
        return TURN_GOES_ON;
    if (turn->interrupted)
        return TURN_CERTAIN;
    if (turn->agents > 0) /* a report starts a turn by the program itself: for whoever asked, it is this one */
        return TURN_LIKELY;
    bool is_last_seen = turn->duration || turn->stop_hook || turn->finished || (turn->api_error && !turn->broken_off);
    return is_last_seen ? TURN_CERTAIN : TURN_LIKELY;
}

const char *turn_state_name(enum turn_state state)
{
    return state_names[state];
}

const char *turn_certainty_name(enum turn_certainty certainty)
{
    return certainty_names[certainty];
}

int turn_event_of(const char *name)
{
    for (int event = 0; event < TURN_EVENTS; event++) {
        if (strcmp(event_names[event], name) == 0)
            return event;
    }
    return -1;
}
