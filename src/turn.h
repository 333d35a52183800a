/* One message and all that follows until it is answered, as a state machine: no I/O, no clock.
 *
 * Events go in as they are observed, in whatever order they reach the observer: the program's status changes at once,
 * its transcript lags behind by a flush. What comes out is a state and how sure it is that the turn is over. */
#ifndef PARLEY_TURN_H
#define PARLEY_TURN_H

#include <stdbool.h>

enum turn_state {
    TURN_IDLE,      /* no message */
    TURN_TYPING,    /* a message is on its way into the composer */
    TURN_SUBMITTED, /* Enter was pressed; nothing proves yet that it was taken */
    TURN_RUNNING,   /* the transcript's user record has proved it */
    TURN_WAITING,   /* a dialog is up */
    TURN_ENDED,     /* a verdict was given */
    TURN_STATES
};

enum turn_event {
    TURN_BEGIN,       /* a message is to be delivered */
    TURN_SUBMIT,      /* Enter was pressed */
    TURN_ACCEPT,      /* the user record carries the message */
    TURN_ASSISTANT,   /* a block of an answer; detail: stop_reason, api_error */
    TURN_TOOL_RESULT, /* results of tool calls */
    TURN_META,        /* a user record that the program wrote itself: it goes on */
    TURN_INTERRUPTED, /* the transcript says that the user interrupted */
    TURN_DURATION,    /* the system record turn_duration */
    TURN_STOP,        /* the system record stop_hook_summary */
    TURN_FINISHED,    /* what a command writes last */
    TURN_AGENT,       /* a sub-agent was started in the background */
    TURN_REPORT,      /* one of these was heard of again */
    TURN_BUSY,        /* status or screen: at work */
    TURN_QUIET,       /* status or screen: the composer waits for a message */
    TURN_DIALOG,      /* status or screen: a dialog waits for an answer */
    TURN_INTERRUPT,   /* the driver pressed ESC */
    TURN_END,         /* the observer took the verdict */
    TURN_EVENTS
};

/* How sure it is that the turn is over and that all of its lines have been seen. */
enum turn_certainty {
    TURN_GOES_ON, /* nothing says so */
    TURN_LIKELY,  /* over by all signs, but lines may still be on their way to the file */
    TURN_CERTAIN, /* the record that the program writes last was seen */
};

struct turn_detail {
    const char *stop_reason; /* NULL for none; copied */
    bool api_error;
    bool broken_off; /* the error cut an answer off behind a call, which the program runs, and goes on */
};

struct turn {
    enum turn_state state;
    bool busy_seen, quiet, stop_hook, finished, duration, interrupting, interrupted, api_error, broken_off;
    bool last_is_answer;  /* the last record was a block of an answer */
    int assistant_blocks; /* since the message was accepted */
    int agents;           /* in the background and not heard of again: what they report belongs to the answer */
    char stop_reason[32]; /* of the last block that had one; "" for none */
};

/* A turn at TURN_IDLE. */
void turn_init(struct turn *turn);

/* Applies an event; `detail` may be NULL. Returns 0, or UV_EINVAL when the event is illegal in this state, which is
 * then left as it was. */
int turn_apply(struct turn *turn, enum turn_event event, const struct turn_detail *detail);

enum turn_certainty turn_certainty(const struct turn *turn);

/* Static strings: "running", "accept", "likely". */
const char *turn_state_name(enum turn_state state);
const char *turn_certainty_name(enum turn_certainty certainty);

/* The event of that name, or -1. */
int turn_event_of(const char *name);

#endif
