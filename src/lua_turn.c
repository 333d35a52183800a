/* Lua's face of the turn state machine. */
#include "core.h"
#include "turn.h"

#include <lauxlib.h>
#include <string.h>

#define TURN_METATABLE "parley.turn"

static struct turn *check_turn(lua_State *L)
{
    return luaL_checkudata(L, 1, TURN_METATABLE);
}

/* turn.new() */
static int turn_new(lua_State *L)
{
    turn_init(lua_newuserdatauv(L, sizeof(struct turn), 0));
    luaL_setmetatable(L, TURN_METATABLE);
    return 1;
}

/* turn:apply(event, detail?) returns the state that follows. */
static int turn_lua_apply(lua_State *L)
{
    struct turn *turn = check_turn(L);
    const char *name = luaL_checkstring(L, 2);
    int event = turn_event_of(name);
    if (event < 0)
        return luaL_error(L, "a turn knows no event '%s'", name);
    struct turn_detail detail = {0};
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        lua_getfield(L, 3, "stop_reason");
        detail.stop_reason = luaL_optstring(L, -1, NULL); /* stays on the stack during the call */
        lua_getfield(L, 3, "api_error");
        detail.api_error = lua_toboolean(L, -1);
        lua_getfield(L, 3, "broken_off");
        detail.broken_off = lua_toboolean(L, -1);
    }
    if (turn_apply(turn, (enum turn_event)event, &detail))
        return luaL_error(L, "a turn that is %s takes no event '%s'", turn_state_name(turn->state), name);
    lua_pushstring(L, turn_state_name(turn->state));
    return 1;
}

/* turn:state() */
static int turn_lua_state(lua_State *L)
{
    lua_pushstring(L, turn_state_name(check_turn(L)->state));
    return 1;
}

static void set_boolean(lua_State *L, const char *name, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

/* turn:facts() returns what was seen, as plain data for the settling policy. */
static int turn_facts(lua_State *L)
{
    const struct turn *turn = check_turn(L);
    lua_createtable(L, 0, 16);
    lua_pushstring(L, turn_state_name(turn->state));
    lua_setfield(L, -2, "state");
    lua_pushstring(L, turn_certainty_name(turn_certainty(turn)));
    lua_setfield(L, -2, "certainty");
    if (turn->stop_reason[0]) {
        lua_pushstring(L, turn->stop_reason);
        lua_setfield(L, -2, "stop_reason");
    }
    set_boolean(L, "busy_seen", turn->busy_seen);
    set_boolean(L, "quiet", turn->quiet);
    set_boolean(L, "stop_hook", turn->stop_hook);
    set_boolean(L, "finished", turn->finished);
    set_boolean(L, "duration", turn->duration);
    set_boolean(L, "interrupting", turn->interrupting);
    set_boolean(L, "interrupted", turn->interrupted);
    set_boolean(L, "api_error", turn->api_error);
    set_boolean(L, "broken_off", turn->broken_off);
    set_boolean(L, "last_is_answer", turn->last_is_answer);
    set_integer(L, "assistant_blocks", turn->assistant_blocks);
    set_integer(L, "agents", turn->agents);
    return 1;
}

static int turn_tostring(lua_State *L)
{
    lua_pushfstring(L, "%s (%s)", TURN_METATABLE, turn_state_name(check_turn(L)->state));
    return 1;
}

static const luaL_Reg metamethods[] = {
    {"__tostring", turn_tostring},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"apply", turn_lua_apply},
    {"facts", turn_facts},
    {"state", turn_lua_state},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"new", turn_new},
    {NULL, NULL},
};

int luaopen_parley_turn(lua_State *L)
{
    core_class(L, TURN_METATABLE, metamethods, methods);
    luaL_newlib(L, functions);
    return 1;
}
