-- Mistakes that people make with conversations, turns and tasks: each is one error that names what was wrong and says
-- what was expected.
local errors = require "parley.base.errors"
local helper = require "spec.helper"
local parley = require "parley"
local testing = require "parley.testing"

local task = parley.task

--- What each does wrong, with a backend and a conversation; the code of its error, and the words that must be in it.
local MISTAKES = {
  { "backend:conversation of a text", function(b) b:conversation "hi" end, "ValueError",
    "messages must be a list, not \"hi\"" },
  { "backend:conversation of one message", function(b) b:conversation { role = "user", content = "hi" } end,
    "ValueError", "not one message: put it into a list" },
  { "backend:conversation of options alone", function(b) b:conversation { model = "opus" } end, "ValueError",
    "messages must be a list, not a table with the field 'model'" },
  { "backend:conversation of a conversation", function(b, talk) b:conversation(talk) end, "ValueError",
    "talk:fork() makes another of it" },
  { "backend:conversation of texts", function(b) b:conversation { "hi", "hello" } end, "ValueError",
    "messages[1] must be a table with role and content, not a string" },
  { "backend:conversation with a misspelt role", function(b) b:conversation { { role = "usr", content = "hi" } } end,
    "ValueError", "messages[1] has the role \"usr\", which must be \"user\" or \"assistant\"" },
  { "backend:conversation with a misspelt option", function(b) b:conversation({}, { modle = "opus" }) end, "ValueError",
    "no option 'modle'; did you mean 'model'?" },
  { "backend:conversation with an option of another type", function(b) b:conversation({}, { model = 5 }) end,
    "ValueError", "option 'model' must be a value of type string, not 5" },
  { "backend:conversation with an option of the backend", function(b) b:conversation({}, { max_sessions = 2 }) end,
    "ValueError", "no option 'max_sessions'" },
  { "backend:conversation with a model for options", function(b) b:conversation({}, "opus") end, "ValueError",
    "the options of the conversation must be a table, not \"opus\"" },
  { "backend:conversation with an option among the fields", function(b) b:conversation({}, {}, { model = "x" }) end,
    "ValueError", "or as options = { model = … }" },
  { "backend:adopt with an id that is none", function(b) b:adopt({}, "my-session", "/tmp") end, "ValueError",
    "a session id must be a UUID, not my-session" },
  { "backend:adopt with a path that is none", function(b)
    b:adopt({}, "11111111-1111-4111-8111-111111111111", 5)
  end, "ValueError", "the transcript of a session must be a path, not 5" },
  { "talk:ask of nothing", function(_, talk) talk:ask() end, "ValueError",
    "talk:ask takes a text or a list of blocks, not nothing" },
  { "talk:ask of a number", function(_, talk) talk:ask(5) end, "ValueError", "a text or a list of blocks, not 5" },
  { "talk:ask of a message", function(_, talk) talk:ask { role = "user", content = "hi" } end, "ValueError",
    "not a message: give its content" },
  { "talk:ask of texts", function(_, talk) talk:ask { "one", "two" } end, "ValueError",
    "messages[1].content[1] must be a block, a table, not a string" },
  { "talk:ask of a block without a text", function(_, talk) talk:ask { type = "text" } end, "ValueError",
    "'text' must be a string, not absent" },
  { "talk:ask of an empty text", function(_, talk) talk:ask "" end, "ValueError", "nothing in it" },
  { "talk:ask of a command", function(_, talk) talk:ask "/compact" end, "ValueError", "command" },
  { "talk.ask with a dot", function(_, talk) talk.ask "hi" end, "ValueError", "called with a colon: talk:ask(…)" },
  { "talk:ask with an option among the fields", function(_, talk) talk:ask("hi", { model = "opus" }) end, "ValueError",
    "a request's 'model' is for your routing policy, and there is none: give it to parley.backend, or as options" },
  { "talk:ask with a misspelt option", function(_, talk) talk:ask("hi", { options = { efort = "low" } }) end,
    "ValueError", "no option 'efort'; did you mean 'effort'?" },
  { "talk:ask with a model for options", function(_, talk) talk:ask("hi", { options = "opus" }) end, "ValueError",
    "the options of the request must be a table, not \"opus\"" },
  { "talk:ask with servers that are none", function(_, talk)
    talk:ask("hi", { options = { mcp_servers = { a = { command = print } } } })
  end, "ValueError", "the options of the request: option 'mcp_servers' must be servers by name that JSON can hold ("
    .. "cannot encode a.command: function)" },
  { "talk:ask with a misspelt field", function(_, talk) talk:ask("hi", { option = { model = "opus" } }) end,
    "ValueError", "did you mean 'options'?" },
  { "talk:ask with a text for fields", function(_, talk) talk:ask("hi", "opus") end, "ValueError",
    "talk:ask takes the fields of a request in a table, not \"opus\"" },
  { "talk.options with a misspelt name", function(_, talk)
    talk.options.permision_mode = "plan"
    talk:ask "hi"
  end, "ValueError", "no option 'permision_mode'; did you mean 'permission_mode'?" },
  { "talk:ask with a type for a schema", function(_, talk) talk:ask("hi", { schema = "integer" }) end, "ValueError",
    "schema must be a JSON Schema, a table, not \"integer\"" },
  { "talk:ask with an unknown type", function(_, talk) talk:ask("hi", { schema = { type = "int" } }) end, "ValueError",
    "schema.type must be one of object, array, string, number, integer, boolean, null" },
  { "talk:ask with a keyword that is not known", function(_, talk) talk:ask("hi", { schema = { not_in = {} } }) end,
    "ValueError", "schema has the keyword 'not_in', which is not supported" },
  { "talk:ask with properties that are names", function(_, talk)
    talk:ask("hi", { schema = { type = "object", properties = { "name" } } })
  end, "ValueError", "schema.properties must be a table of schemas by name" },
  { "talk:ask with a schema that no answer fits", function(_, talk) talk:ask("hi", { schema = { const = 7 } }) end,
    "ValidationError", "the answer does not fit the schema" },
  { "talk:send with a schema", function(_, talk) talk:send("hi", { schema = {} }) end, "ValueError",
    "a schema is for talk:ask" },
  { "talk:send of nothing", function(_, talk) talk:send() end, "ValueError",
    "talk:send takes a text or a list of blocks, not nothing" },
  { "talk:ask while a turn runs", function(_, talk)
    local turn <close> = talk:send "hi"
    turn()
    talk:ask "there"
  end, "SessionError", "talk:ask must wait: a turn of this conversation is running" },
  { "talk:ask whose turn fails", function(_, talk) talk:ask "ERR400" end, "SessionError",
    "the turn ended with error_api" },
  { "talk:ask once the backend is closed", function(b, talk)
    b:close()
    talk:ask "hi"
  end, "ClosedError", "the backend is closed" },
  { "talk:keep of nothing", function(_, talk) talk:keep() end, "ValueError",
    "talk:keep takes a turn of talk:send, not nothing" },
  { "talk:keep of a number", function(_, talk) talk:keep(3) end, "ValueError", "a turn of talk:send, not 3" },
  { "talk:keep of an answer", function(_, talk) talk:keep(talk:ask "hi") end, "ValueError",
    "a turn of talk:send, not a table" },
  { "talk:keep of a turn of no conversation", function(b, talk)
    local turn = b:complete { { role = "user", content = "hi" } }
    turn:result()
    talk:keep(turn)
  end, "ValueError", "a turn of talk:send, not a table" },
  { "talk:keep of a command", function(_, talk)
    talk:ask "hi"
    local turn = talk:command "/compact"
    turn:result()
    talk:keep(turn)
  end, "ValueError", "a turn of talk:send, not a table" },
  { "talk:rewind of what was not said", function(_, talk) talk:rewind() end, "ValueError",
    "cannot take back 1 turns: the conversation has 0" },
  { "talk:rewind of no turn", function(_, talk) talk:rewind(0) end, "ValueError",
    "talk:rewind takes how many turns to take back, a positive integer, not 0" },
  { "talk:rewind to a text", function(_, talk) talk:rewind "hi" end, "ValueError", "a positive integer, not \"hi\"" },
  { "talk:save to nowhere", function(_, talk) talk:save() end, "ValueError",
    "the file of a conversation must be a path, not nothing" },
  { "parley.load of what is not there", function() parley.load "/no/such/talk.json" end, "ValueError",
    "cannot read '/no/such/talk.json'" },
  { "parley.load of a conversation", function(_, talk) parley.load(talk) end, "ValueError",
    "the file of a conversation must be a path, not a table" },
  { "talk:command that is none", function(_, talk) talk:command "compact" end, "ValueError",
    "a command is one line that begins with a slash" },
  { "turn:text of a turn that was left", function(b)
    local turn = b:complete { { role = "user", content = "hi" } }
    turn:close()
    turn:text()
  end, "ClosedError", "the turn was closed before its end" },
  { "complete with options that are none", function(b)
    b:complete({ { role = "user", content = "hi" } }, { options = { cwd = 5 } })
  end, "ValueError", "the options of the request: option 'cwd' must be a value of type string, not 5" },
  { "group:spawn of a call's result", function() task.group():spawn(nil) end, nil,
    "Group:spawn takes a function, not nothing" },
  { "channel:try_send of nothing", function() task.channel():try_send() end, nil,
    "Channel:try_send takes a value, not nothing" },
}

describe("a mistake of", function()
  local check_leaks, kit, backend
  before_each(function()
    check_leaks = helper.leaks()
    kit = testing.kit()
    backend = parley.backend(kit.options)
  end)
  after_each(function()
    parley.run(backend.close, backend)
    kit:close()
    check_leaks()
  end)

  for _, mistake in ipairs(MISTAKES) do
    local what, make, code, words = table.unpack(mistake, 1, 4)
    it(what .. " is named", helper.task(function()
      local ok, err = pcall(make, backend, backend:conversation())
      assert.is_false(ok, "nothing was raised")
      if code then assert.is_true(errors.is(err, code), tostring(err)) end
      assert.truthy(tostring(err):find(words, 1, true), tostring(err))
    end))
  end

  it("at least forty kinds is looked at", function() assert.is_true(#MISTAKES >= 40) end)
end)
